package network

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
)

// NewStreamLink returns the link for QEMU's `-netdev stream`: each frame follows
// its length in 32 bits, big endian.
func NewStreamLink(conn net.Conn) Link {
	return &streamLink{conn: conn, in: bufio.NewReaderSize(conn, maxFrame)}
}

type streamLink struct {
	conn net.Conn
	in   *bufio.Reader
	out  []byte
}

func (l *streamLink) ReadFrame(buf []byte) (int, error) {
	var length [4]byte
	if _, err := io.ReadFull(l.in, length[:]); err != nil {
		return 0, err
	}
	size := binary.BigEndian.Uint32(length[:])
	if size > uint32(len(buf)) {
		return 0, fmt.Errorf("frame of %d bytes is too long", size)
	}
	return io.ReadFull(l.in, buf[:size])
}

func (l *streamLink) WriteFrame(frame []byte) error {
	l.out = binary.BigEndian.AppendUint32(l.out[:0], uint32(len(frame)))
	l.out = append(l.out, frame...)
	_, err := l.conn.Write(l.out)
	return err
}

func (l *streamLink) Close() error { return l.conn.Close() }

// NewPacketLink returns the link for a device on which each read and write is
// one frame, such as a TAP device.
func NewPacketLink(device io.ReadWriteCloser) Link { return packetLink{device} }

type packetLink struct{ io.ReadWriteCloser }

func (l packetLink) ReadFrame(buf []byte) (int, error) { return l.Read(buf) }

func (l packetLink) WriteFrame(frame []byte) error {
	_, err := l.Write(frame)
	return err
}
