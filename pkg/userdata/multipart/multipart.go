// Package multipart writes user data as cloud-init takes it: parts in a MIME
// archive, compressed where that is needed to fit.
package multipart

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"strings"
)

// MaxSize of user data in bytes, before base64.
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/user-data.html
const MaxSize = 16 * 1024

// boundary of the MIME archive: fixed, so that the bytes are; its text cannot
// occur in a part, which Archive makes sure of.
const boundary = "==ami-factory-part=="

// Part is one document of an archive.
type Part struct{ ContentType, Name, Body string }

// Archive is a MIME multipart text as cloud-init reads it. Every part is ASCII,
// so none needs an encoding.
func Archive(parts []Part) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=%q\nMIME-Version: 1.0\n\n", boundary)
	for _, p := range parts {
		if strings.Contains(p.Body, boundary) {
			return "", fmt.Errorf("part %s of the user data holds the boundary of the archive", p.Name)
		}
		if i := strings.IndexFunc(p.Body, func(r rune) bool { return r > '~' || r < ' ' && r != '\n' && r != '\t' }); i >= 0 {
			return "", fmt.Errorf("part %s of the user data is not plain ASCII at byte %d", p.Name, i)
		}
		fmt.Fprintf(&b, "--%s\nContent-Type: %s; charset=\"us-ascii\"\nMIME-Version: 1.0\nContent-Transfer-Encoding: 7bit\nContent-Disposition: attachment; filename=%q\n\n%s", boundary, p.ContentType, p.Name, p.Body)
	}
	fmt.Fprintf(&b, "--%s--\n", boundary)
	return b.String(), nil
}

// Pack compresses text if, and only if, it is longer than plain and gets
// shorter by it: user data that can be read in the console is worth more than
// smaller user data.
func Pack(text string, plain int) ([]byte, error) {
	if len(text) <= plain {
		return []byte(text), nil
	}
	var b bytes.Buffer
	zip, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, fmt.Errorf("compress user data: %w", err)
	}
	if _, err := zip.Write([]byte(text)); err != nil {
		return nil, fmt.Errorf("compress user data: %w", err)
	}
	if err := zip.Close(); err != nil {
		return nil, fmt.Errorf("compress user data: %w", err)
	}
	if b.Len() >= len(text) {
		return []byte(text), nil
	}
	return b.Bytes(), nil
}
