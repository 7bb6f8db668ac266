package spec

import (
	"bytes"
	"crypto/sha1" // #nosec G505 -- what version 4 fingerprints are made of (RFC 4880, 12.2)
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/strictyaml"
)

// PublicKeys are the OpenPGP public keys in the text of a file.
type PublicKeys struct {
	// Fingerprints of the primary keys, in the order of the text.
	Fingerprints []string
	// Armoured contains the same keys in one block, in the usual form, so that other tools
	// find exactly these keys in it.
	Armoured string
}

// ReadKeys reads the ASCII-armoured public keys of version 4 in a text: one
// block or several, one key or several in each. It refuses anything that it does not
// understand, because other tools could find more keys than it reports.
func ReadKeys(text string) (PublicKeys, error) {
	var out PublicKeys
	data, err := dearmour(text)
	if err != nil {
		return out, err
	}
	for rest := data; len(rest) > 0; {
		first := len(rest) == len(data)
		var tag int
		var body []byte
		if tag, body, rest, err = packet(rest); err != nil {
			return out, err
		}
		switch {
		case first && tag != 6:
			return out, errors.New("it does not begin with a public key")
		case !slices.Contains(ofKeys, tag):
			return out, fmt.Errorf("it has a packet of type %d, which is no part of a public key", tag)
		case tag != 6:
			continue
		case len(body) < 6 || body[0] != 4:
			return out, errors.New("it is not a key of version 4")
		case len(body) > 0xffff:
			return out, errors.New("it is too long")
		}
		sum := sha1.New() // #nosec G401 -- see above
		sum.Write([]byte{0x99})
		sum.Write(binary.BigEndian.AppendUint16(nil, uint16(len(body)))) // #nosec G115 -- checked above
		sum.Write(body)
		out.Fingerprints = append(out.Fingerprints, fmt.Sprintf("%X", sum.Sum(nil)))
	}
	out.Armoured = armour(data)
	return out, nil
}

// ofKeys lists the packets of public keys: keys, subkeys, their signatures, user ids and
// attributes, trust and markers (RFC 4880, 4.3). Other packets may contain more keys, such
// as compressed data (8), which gpg reads.
var ofKeys = []int{2, 6, 10, 12, 13, 14, 17}

const begin, end = "-----BEGIN PGP PUBLIC KEY BLOCK-----", "-----END PGP PUBLIC KEY BLOCK-----"

// dearmour decodes the blocks of a text one after the other.
func dearmour(text string) ([]byte, error) {
	var out []byte
	blocks := 0
	for rest := strings.TrimSpace(strings.ReplaceAll(text, "\r\n", "\n")); rest != ""; blocks++ {
		inner, ok := strings.CutPrefix(rest, begin+"\n")
		if !ok {
			if blocks > 0 {
				return nil, fmt.Errorf("after block %d there is text that is not another block, which would begin with the line %s", blocks, begin)
			}
			return nil, errors.New("it does not begin with the line " + begin)
		}
		inner, after, ok := strings.Cut(inner, "\n"+end)
		if !ok {
			return nil, errors.New("it does not end with the line " + end)
		}
		if strings.Contains(inner, "-----") {
			return nil, errors.New("a block begins inside another one")
		}
		data, err := decode(inner)
		if err != nil {
			return nil, err
		}
		out = append(out, data...)
		if after != "" && after[0] != '\n' {
			return nil, errors.New("there is more text in the line " + end)
		}
		rest = strings.TrimSpace(after)
	}
	if blocks == 0 {
		return nil, errors.New("it does not begin with the line " + begin)
	}
	return out, nil
}

// decode decodes the lines between the first and the last line of a block.
func decode(inner string) ([]byte, error) {
	// Headers are optional and end with an empty line.
	if _, body, found := strings.Cut("\n"+inner, "\n\n"); found {
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

// armour writes one block (RFC 4880, 6.2).
func armour(data []byte) string {
	var b strings.Builder
	b.WriteString(begin + "\n\n")
	for encoded := base64.StdEncoding.EncodeToString(data); encoded != ""; {
		line := encoded[:min(64, len(encoded))]
		b.WriteString(line + "\n")
		encoded = encoded[len(line):]
	}
	sum := crc24(data)
	b.WriteString("=" + base64.StdEncoding.EncodeToString([]byte{byte(sum >> 16), byte(sum >> 8), byte(sum)}) + "\n" + end + "\n")
	return b.String()
}

// crc24 is the checksum of RFC 4880, 6.1.
func crc24(data []byte) uint32 {
	crc := uint32(0xb704ce)
	for _, octet := range data {
		crc ^= uint32(octet) << 16
		for range 8 {
			crc <<= 1
			if crc&0x1000000 != 0 {
				crc ^= 0x1864cfb
			}
		}
	}
	return crc & 0xffffff
}

// packet returns the first packet and the rest (RFC 4880, 4.2).
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

// AllFingerprints returns the fingerprints of the keys that may sign a repository.
func (r Repository) AllFingerprints() []string {
	if r.Fingerprint != "" {
		return append([]string{r.Fingerprint}, r.Fingerprints...)
	}
	return r.Fingerprints
}

// Keys reads the repository's keys. It is an error if they are not exactly those of the
// listed fingerprints.
func (r Repository) Keys() (PublicKeys, error) {
	keys, err := ReadKeys(r.Key)
	if err != nil {
		return keys, err
	}
	listed, found := slices.Sorted(slices.Values(r.AllFingerprints())), slices.Sorted(slices.Values(keys.Fingerprints))
	if !slices.Equal(slices.Compact(listed), slices.Compact(found)) {
		return keys, fmt.Errorf("it contains %s, but the listed fingerprints are %s", strings.Join(found, " and "), strings.Join(listed, " and "))
	}
	return keys, nil
}

// repositoryKeys compares the keys of a repository with the listed fingerprints. A vendor
// that changes its key publishes both for a while.
func (c *checker) repositoryKeys(at string, r Repository) {
	one, several := c.spec.Has(at+".fingerprint"), c.spec.Has(at+".fingerprints")
	if one == several {
		c.fail(at, "fingerprint for one key, fingerprints for several", "repository %s needs either fingerprint or fingerprints", r.Name)
		return
	}
	field := at + ".fingerprint"
	if several {
		field = at + ".fingerprints"
		c.once("fingerprint", index(field, ""), r.Fingerprints)
	}
	if !c.valid(at+".key") || !c.valid(field) {
		return
	}
	keys, err := ReadKeys(r.Key)
	if err != nil {
		c.fail(at+".key", "an ASCII-armoured OpenPGP public key", "the key of repository %s cannot be read: %v", r.Name, err)
		return
	}
	listed := r.AllFingerprints()
	for i, fingerprint := range listed {
		if !slices.Contains(keys.Fingerprints, fingerprint) {
			where := field
			if several {
				where = strictyaml.Index(field, i)
			}
			c.fail(where, strings.Join(keys.Fingerprints, ", "), "the key of repository %s has another fingerprint", r.Name)
		}
	}
	for _, fingerprint := range keys.Fingerprints {
		if len(keys.Fingerprints) > 1 && !slices.Contains(listed, fingerprint) {
			c.fail(at+".key", "fingerprints: ["+strings.Join(keys.Fingerprints, ", ")+"], if you trust them all", "the key of repository %s holds more than one key, and %s is not listed", r.Name, fingerprint)
		}
	}
}
