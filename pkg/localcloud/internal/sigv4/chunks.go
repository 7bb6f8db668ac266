package sigv4

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"net/http"
	"slices"
	"strings"
)

// Chunks verifies the chunks of one aws-chunked body, each of which signs what
// came before it. The zero value is for a body without signed chunks.
type Chunks struct {
	signed    bool
	signature Signature
	secret    string
	previous  string
	trailer   bool
}

// IsStreaming reports whether a payload is sent in chunks.
func IsStreaming(payload string) bool { return strings.HasPrefix(payload, "STREAMING-") }

// Chunks returns the verifier of a body whose payload IsStreaming.
func (s Signature) Chunks(payload, secret string) (*Chunks, error) {
	switch payload {
	case unsignedPayloadTrailer:
		return &Chunks{}, nil
	case streamingPayload, streamingPayloadTrailer:
		return &Chunks{signed: true, signature: s, secret: secret, previous: s.value, trailer: payload == streamingPayloadTrailer}, nil
	}
	return nil, fail(BadPayload, "The value of x-amz-content-sha256 is invalid: %s is not served; %s, %s and %s are.",
		payload, streamingPayload, streamingPayloadTrailer, unsignedPayloadTrailer)
}

// NewDigest returns the hash of a chunk's data for Verify.
func NewDigest() hash.Hash { return sha256.New() }

// Verify checks the signature of the next chunk, whose data has the digest. The
// last chunk is the empty one.
func (c *Chunks) Verify(signature string, digest []byte) error {
	if !c.signed {
		return nil
	}
	return c.next(algorithm+"-PAYLOAD", signature, hexDigest(nil)+"\n"+hex.EncodeToString(digest))
}

// VerifyTrailer checks the signature of the headers after the last chunk, which
// is among them.
func (c *Chunks) VerifyTrailer(trailer http.Header) error {
	if !c.trailer {
		return nil
	}
	const own = "X-Amz-Trailer-Signature"
	var names []string
	for name := range trailer {
		if name != own {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int { return strings.Compare(strings.ToLower(a), strings.ToLower(b)) })
	var text strings.Builder
	for _, name := range names {
		text.WriteString(strings.ToLower(name) + ":" + strings.Join(trailer.Values(name), ",") + "\n")
	}
	return c.next(algorithm+"-TRAILER", trailer.Get(own), hexDigest([]byte(text.String())))
}

func (c *Chunks) next(kind, signature, rest string) error {
	want := c.signature.sign(c.secret, strings.Join([]string{kind, c.signature.date, c.signature.scope, c.previous, rest}, "\n"))
	if !hmac.Equal([]byte(want), []byte(signature)) {
		return fail(Mismatch, "The signature of a chunk that we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method.")
	}
	c.previous = want
	return nil
}

type chunksKey struct{}

// WithChunks returns a context whose request has a body that c verifies.
func WithChunks(ctx context.Context, c *Chunks) context.Context {
	return context.WithValue(ctx, chunksKey{}, c)
}

// ChunksFrom returns what verifies the chunks of the request of ctx.
func ChunksFrom(ctx context.Context) *Chunks {
	if c, ok := ctx.Value(chunksKey{}).(*Chunks); ok {
		return c
	}
	return &Chunks{}
}
