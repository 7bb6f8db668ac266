package qemu

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"
)

const qmpLimit = 5 * time.Second // for one command; QEMU itself answers at once

// qmp sends one command to QEMU's monitor, on a connection of its own.
func qmp(ctx context.Context, socket, command string) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, qmpLimit)
	defer cancel()
	result, err := qmpCall(ctx, socket, command)
	if err != nil {
		return nil, fmt.Errorf("qemu monitor: %s: %w", command, err)
	}
	return result, nil
}

func qmpCall(ctx context.Context, socket, command string) (json.RawMessage, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()

	in := bufio.NewReader(conn)
	if _, err := in.ReadBytes('\n'); err != nil { // the greeting
		return nil, err
	}
	for _, step := range []string{"qmp_capabilities", command} {
		raw, err := json.Marshal(map[string]string{"execute": step})
		if err != nil {
			return nil, err
		}
		if _, err := conn.Write(append(raw, '\n')); err != nil {
			return nil, err
		}
		result, err := qmpReply(in)
		if err != nil || step == command {
			return result, err
		}
	}
	return nil, nil
}

// qmpReply skips events and returns the reply.
func qmpReply(in *bufio.Reader) (json.RawMessage, error) {
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return nil, err
		}
		var reply struct {
			Return json.RawMessage `json:"return"`
			Error  *struct {
				Desc string `json:"desc"`
			} `json:"error"`
		}
		switch err := json.Unmarshal(line, &reply); {
		case err != nil:
			return nil, err
		case reply.Error != nil:
			return nil, errors.New(reply.Error.Desc)
		case reply.Return != nil:
			return reply.Return, nil
		}
	}
}
