package agent

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"time"

	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
)

// delimiter precedes the reply of guest-sync-delimited. Sent to the agent, it
// discards a partly read request. It never occurs in JSON text.
const delimiter = 0xFF

// session is the agent's only channel. It sends one request at a time, and
// reconnects whenever it is unclear to which request a reply belongs.
type session struct {
	dial func(context.Context) (net.Conn, error)
	busy chan struct{} // holds one token while conn is in use

	conn net.Conn
	in   *bufio.Reader
	sync int64
}

// call sends one request. Errors are vm.ErrNotReachable or *Error.
func (s *session) call(ctx context.Context, command string, arguments, result any) error {
	select {
	case s.busy <- struct{}{}:
		defer func() { <-s.busy }()
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", vm.ErrNotReachable, ctx.Err())
	}
	reply, err := s.exchange(ctx, command, arguments)
	if err != nil {
		s.drop()
		return fmt.Errorf("%w: %s: %w", vm.ErrNotReachable, command, err)
	}
	if reply.Error != nil {
		return reply.Error
	}
	if result == nil {
		return nil
	}
	if err := json.Unmarshal(reply.Return, result); err != nil {
		return fmt.Errorf("guest agent: reply to %s: %w", command, err)
	}
	return nil
}

func (s *session) exchange(ctx context.Context, command string, arguments any) (response, error) {
	if s.conn == nil {
		if err := s.connect(ctx); err != nil {
			return response{}, err
		}
	}
	defer s.guard(ctx)()
	return s.roundTrip(nil, command, arguments)
}

func (s *session) connect(ctx context.Context) error {
	conn, err := s.dial(ctx)
	if err != nil {
		return err
	}
	s.conn, s.in = conn, bufio.NewReader(conn)
	defer s.guard(ctx)()

	// A new number each time distinguishes this reply from late replies to earlier
	// attempts.
	s.sync = max(s.sync+1, time.Now().UnixMilli())
	for reply, err := s.roundTrip([]byte{delimiter}, "guest-sync-delimited", map[string]int64{"id": s.sync}); ; {
		if err != nil {
			return err
		}
		var id int64
		if json.Unmarshal(reply.Return, &id) == nil && id == s.sync {
			return nil
		}
		reply, err = s.read()
	}
}

// guard makes reads and writes fail when ctx ends, until the returned function
// is called.
func (s *session) guard(ctx context.Context) (release func()) {
	conn := s.conn
	_ = conn.SetDeadline(time.Time{})
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	return func() { stop() }
}

func (s *session) roundTrip(prefix []byte, command string, arguments any) (response, error) {
	raw, err := json.Marshal(request{Execute: command, Arguments: arguments})
	if err != nil {
		return response{}, err
	}
	if _, err := s.conn.Write(append(append(prefix, raw...), '\n')); err != nil {
		return response{}, err
	}
	return s.read()
}

func (s *session) read() (response, error) {
	line, err := s.in.ReadBytes('\n')
	if err != nil {
		return response{}, err
	}
	// Everything before a delimiter belongs to an earlier connection.
	for i := len(line) - 1; i >= 0; i-- {
		if line[i] == delimiter {
			line = line[i+1:]
			break
		}
	}
	var reply response
	if err := json.Unmarshal(line, &reply); err != nil {
		return response{}, fmt.Errorf("bad reply: %w", err)
	}
	return reply, nil
}

func (s *session) drop() {
	if s.conn != nil {
		_ = s.conn.Close() // its state is unknown anyway
		s.conn, s.in = nil, nil
	}
}

func (s *session) close() {
	s.busy <- struct{}{}
	defer func() { <-s.busy }()
	s.drop()
}
