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

// maxLog is how much of one invocation's log is kept, in bytes.
const maxLog = 16 * 1024

// logPipe takes what a process writes, hands it on line by line, and keeps the
// tail of what came since mark. Reading and taking over are one step under mu:
// whoever calls drain after the process has answered has all that the process
// wrote before.
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

// follow reads until every writer is gone or the pipe is closed.
func (l *logPipe) follow() {
	raw, err := l.read.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Read(func(fd uintptr) (done bool) { return l.takeAll(fd) })
}

// drain takes what is in the pipe, without waiting for more.
func (l *logPipe) drain() {
	raw, err := l.read.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { l.takeAll(fd) })
}

// takeAll reads until the pipe is empty, or at its end, which it reports.
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

// take keeps p and passes on the lines that it completes. l.mu is held.
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

// mark forgets what came so far.
func (l *logPipe) mark() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tail = nil
}

// since is what came since mark.
func (l *logPipe) since() string {
	l.drain()
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.tail)
}

// close ends the pipe after its last bytes.
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
		_ = c.Close() // nothing is lost: read to the end, or never used
	}
}

// lastLines is the end of a log, for a message.
func lastLines(log string, n int) string {
	lines := strings.Split(strings.TrimRight(log, "\n"), "\n")
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return strings.Join(lines, "\n")
}
