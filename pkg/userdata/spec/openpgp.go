package spec

import (
	"bytes"
	"crypto/sha1" // #nosec G505 -- what version 4 fingerprints are made of (RFC 4880, 12.2)
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// Fingerprint reads the fingerprint of the primary key in an ASCII-armoured
// OpenPGP public key of version 4.
func Fingerprint(armoured string) (string, error) {
	data, err := dearmour(armoured)
	if err != nil {
		return "", err
	}
	tag, body, rest, err := packet(data)
	switch {
	case err != nil:
		return "", err
	case tag != 6:
		return "", errors.New("it does not begin with a public key")
	case len(body) < 6 || body[0] != 4:
		return "", errors.New("it is not a key of version 4")
	case len(body) > 0xffff:
		return "", errors.New("it is too long")
	}
	for len(rest) > 0 {
		if tag, _, rest, err = packet(rest); err != nil {
			return "", err
		}
		if tag == 6 {
			return "", errors.New("it holds more than one key, and only one has a fingerprint here")
		}
	}
	sum := sha1.New() // #nosec G401 -- see above
	sum.Write([]byte{0x99})
	sum.Write(binary.BigEndian.AppendUint16(nil, uint16(len(body)))) // #nosec G115 -- checked above
	sum.Write(body)
	return fmt.Sprintf("%X", sum.Sum(nil)), nil
}

func dearmour(text string) ([]byte, error) {
	const begin, end = "-----BEGIN PGP PUBLIC KEY BLOCK-----", "-----END PGP PUBLIC KEY BLOCK-----"
	text = strings.TrimSpace(strings.ReplaceAll(text, "\r\n", "\n"))
	inner, ok := strings.CutPrefix(text, begin)
	if !ok {
		return nil, errors.New("it does not begin with " + begin)
	}
	if inner, ok = strings.CutSuffix(inner, end); !ok {
		return nil, errors.New("it does not end with " + end)
	}
	// Headers, which need not be there, end at an empty line.
	if _, body, found := strings.Cut(inner, "\n\n"); found {
		inner = body
	}
	var encoded strings.Builder
	for line := range strings.Lines(inner) {
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, "=") { // the checksum
			encoded.WriteString(line)
		}
	}
	data, err := base64.StdEncoding.DecodeString(encoded.String())
	if err != nil {
		return nil, errors.New("its base64 is damaged")
	}
	return data, nil
}

// packet splits the first packet off (RFC 4880, 4.2).
func packet(data []byte) (tag int, body, rest []byte, err error) {
	damaged := errors.New("its packets are damaged")
	if len(data) < 2 || data[0]&0x80 == 0 {
		return 0, nil, nil, damaged
	}
	var length, header int
	first := data[0]
	if first&0x40 != 0 { // new format
		tag = int(first & 0x3f)
		switch l := int(data[1]); {
		case l < 192:
			length, header = l, 2
		case l < 224 && len(data) > 2:
			length, header = (l-192)<<8+int(data[2])+192, 3
		case l == 255 && len(data) > 5:
			length, header = int(binary.BigEndian.Uint32(data[2:6])), 6
		default:
			return 0, nil, nil, damaged
		}
	} else {
		tag = int(first&0x3c) >> 2
		bytesOf := 1 << (first & 3)
		if first&3 == 3 || len(data) < 1+bytesOf {
			return 0, nil, nil, damaged
		}
		for _, b := range data[1 : 1+bytesOf] {
			length = length<<8 | int(b)
		}
		header = 1 + bytesOf
	}
	if length < 0 || len(data)-header < length {
		return 0, nil, nil, damaged
	}
	return tag, bytes.Clone(data[header : header+length]), data[header+length:], nil
}
