package s3

import (
	"bufio"
	"bytes"
	"crypto/sha1" // #nosec G505 -- one of the algorithms that S3 offers
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/johannesboyne/gofakes3"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/sigv4"
)

// crc64NVME is the polynomial of CRC-64/NVME, reversed as hash/crc64 expects it.
const crc64NVME = 0x9a6c9329ac4bc9b5

// checksumPrefix is the prefix of headers with a checksum.
const checksumPrefix = "X-Amz-Checksum-"

// algorithmOf returns the hash of a checksum header
// (https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html).
func algorithmOf(header string) (func() hash.Hash, bool) {
	name, ok := strings.CutPrefix(http.CanonicalHeaderKey(header), checksumPrefix)
	if !ok {
		return nil, false
	}
	switch strings.ToLower(name) {
	case "crc32":
		return func() hash.Hash { return crc32.NewIEEE() }, true
	case "crc32c":
		return func() hash.Hash { return crc32.New(crc32.MakeTable(crc32.Castagnoli)) }, true
	case "crc64nvme":
		return func() hash.Hash { return crc64.New(crc64.MakeTable(crc64NVME)) }, true
	case "sha1":
		return sha1.New, true
	case "sha256":
		return sha256.New, true
	}
	return nil, false
}

// checksums returns the checksum headers of h that have a value.
func checksums(h http.Header) map[string]string {
	found := map[string]string{}
	for name, values := range h {
		if _, ok := algorithmOf(name); ok && len(values) > 0 && values[0] != "" {
			found[http.CanonicalHeaderKey(name)] = values[0]
		}
	}
	return found
}

// verified reads r and fails with BadDigest at its end if the checksums differ from the
// expected ones.
func verified(r io.Reader, expected map[string]string) io.Reader {
	if len(expected) == 0 {
		return r
	}
	v := &verifier{expected: expected, sums: map[string]hash.Hash{}}
	var sinks []io.Writer
	for name := range expected {
		newHash, _ := algorithmOf(name)
		v.sums[name] = newHash()
		sinks = append(sinks, v.sums[name])
	}
	v.r = io.TeeReader(r, io.MultiWriter(sinks...))
	return v
}

type verifier struct {
	r        io.Reader
	expected map[string]string
	sums     map[string]hash.Hash
}

func (v *verifier) Read(p []byte) (int, error) {
	n, err := v.r.Read(p)
	if !errors.Is(err, io.EOF) {
		return n, err
	}
	for name, sum := range v.sums {
		if base64.StdEncoding.EncodeToString(sum.Sum(nil)) != v.expected[name] {
			return n, gofakes3.ErrorMessagef(gofakes3.ErrBadDigest, "The %s you specified did not match the calculated checksum.", strings.ToUpper(strings.TrimPrefix(name, checksumPrefix)))
		}
	}
	return n, io.EOF
}

// isChunked reports whether a body is in aws-chunked encoding, signed or not
// (https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html).
func isChunked(h http.Header) bool {
	return strings.HasPrefix(h.Get("X-Amz-Content-Sha256"), "STREAMING-") || strings.Contains(h.Get("Content-Encoding"), "aws-chunked")
}

// errChunks reports a body that is not in the aws-chunked encoding of its headers.
var errChunks = errors.New("malformed aws-chunked body")

// unchunk copies the content of an aws-chunked body to w and returns the
// trailing headers. chunks verifies the signatures.
func unchunk(body io.Reader, w io.Writer, chunks *sigv4.Chunks) (http.Header, error) {
	r := bufio.NewReader(body)
	for {
		line, err := readLine(r)
		if err != nil {
			return nil, err
		}
		digits, extension, _ := strings.Cut(line, ";")
		signature := strings.TrimPrefix(extension, "chunk-signature=")
		size, err := strconv.ParseInt(digits, 16, 64)
		if err != nil || size < 0 {
			return nil, fmt.Errorf("%w: %q is not the size of a chunk", errChunks, line)
		}
		digest := sigv4.NewDigest()
		if _, err := io.CopyN(io.MultiWriter(w, digest), r, size); err != nil {
			return nil, fmt.Errorf("%w: %w", errChunks, err)
		}
		if err := chunks.Verify(signature, digest.Sum(nil)); err != nil {
			return nil, err
		}
		if size == 0 {
			trailers, err := readTrailers(r)
			if err == nil {
				err = chunks.VerifyTrailer(trailers)
			}
			return trailers, err
		}
		if end, err := readLine(r); err != nil || end != "" {
			return nil, fmt.Errorf("%w: a chunk is longer than it says", errChunks)
		}
	}
}

func readTrailers(r *bufio.Reader) (http.Header, error) {
	trailers := http.Header{}
	for {
		line, err := readLine(r)
		if errors.Is(err, io.EOF) || err == nil && line == "" {
			return trailers, nil
		}
		if err != nil {
			return nil, err
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return nil, fmt.Errorf("%w: %q is not a trailing header", errChunks, line)
		}
		trailers.Add(strings.TrimSpace(name), strings.TrimSpace(value))
	}
}

func readLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadSlice('\n')
	if err != nil && (len(line) == 0 || !errors.Is(err, io.EOF)) {
		if errors.Is(err, io.EOF) {
			return "", io.EOF
		}
		return "", fmt.Errorf("%w: %w", errChunks, err)
	}
	return string(bytes.TrimRight(line, "\r\n")), nil
}
