package native

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
)

// maxLog is the size of one invocation's log that is kept, in bytes.
const maxLog = 16 * 1024

// logPipe reads the output of a process, passes it on line by line, and keeps
// the end of the output since mark. It reads and stores under mu, so a caller of
// drain gets everything that the process wrote before its answer.
type logPipe struct {
	sink  func(line string)
	read  *os.File
	write *os.File // the process's stdout and stderr

	mu      sync.Mutex
	buffer  [4096]byte
	partial []byte
	tail    []byte
}

func newLogPipe(sink func(line string)) (*logPipe, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("open the log: %w", err)
	}
	return &logPipe{sink: sink, read: r, write: w}, nil
}

// follow reads until every writer has closed the pipe or the pipe is closed.
func (l *logPipe) follow() {
	raw, err := l.read.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Read(func(fd uintptr) (done bool) { return l.takeAll(fd) })
}

// drain reads what is in the pipe, without waiting for more.
func (l *logPipe) drain() {
	raw, err := l.read.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { l.takeAll(fd) })
}

// takeAll reads until the pipe is empty. It reports whether the pipe has ended.
func (l *logPipe) takeAll(fd uintptr) (ended bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		n, err := syscall.Read(int(fd), l.buffer[:]) // not blocking: os.Pipe
		switch {
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EAGAIN):
			return false
		case err != nil || n <= 0:
			return true
		default:
			l.take(l.buffer[:n])
		}
	}
}

// take stores p and passes on completed lines. The caller holds l.mu.
func (l *logPipe) take(p []byte) {
	l.tail = append(l.tail, p...)
	if over := len(l.tail) - maxLog; over > 0 {
		l.tail = append(l.tail[:0], l.tail[over:]...)
	}
	l.partial = append(l.partial, p...)
	for {
		i := bytes.IndexByte(l.partial, '\n')
		if i < 0 {
			break
		}
		l.sink(string(l.partial[:i]))
		l.partial = l.partial[i+1:]
	}
	if len(l.partial) > maxLog { // a line without an end
		l.sink(string(l.partial))
		l.partial = nil
	}
}

// mark discards the output so far.
func (l *logPipe) mark() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tail = nil
}

// since returns the output since mark.
func (l *logPipe) since() string {
	l.drain()
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.tail)
}

// close closes the pipe after its last bytes.
func (l *logPipe) close() {
	l.drain()
	l.mu.Lock()
	if len(l.partial) > 0 {
		l.sink(string(l.partial))
		l.partial = nil
	}
	l.mu.Unlock()
	closeAll(l.read)
}

func closeAll(all ...io.Closer) {
	for _, c := range all {
		_ = c.Close() // nothing is lost: it was read to the end or never used
	}
}

// lastLines returns the last n lines of a log, for a message.
func lastLines(log string, n int) string {
	lines := strings.Split(strings.TrimRight(log, "\n"), "\n")
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return strings.Join(lines, "\n")
}
