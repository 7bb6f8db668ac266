package bundle

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// PayloadType is that of every envelope in a bundle.
const PayloadType = "application/vnd.in-toto+json"

// Envelope is a DSSE envelope: a payload, its type, and signatures over both
// (https://github.com/secure-systems-lab/dsse/blob/master/envelope.md). Parse and Sign
// make one.
type Envelope struct {
	PayloadType string
	Payload     []byte
	Signatures  []Signature
}

// Signature is one signature of an envelope.
type Signature struct {
	KeyID string // not authenticated: a hint which key to try
	Sig   []byte // DER, as KMS, OpenSSL and cosign write it
}

// The JSON form of an envelope. Its fields are in this order in every bundle.
type envelopeJSON struct {
	PayloadType string          `json:"payloadType"`
	Payload     string          `json:"payload"`
	Signatures  []signatureJSON `json:"signatures"`
}

type signatureJSON struct {
	KeyID string `json:"keyid"`
	Sig   string `json:"sig"`
}

// PAE is DSSE's pre-authentication encoding, which is what is signed
// (https://github.com/secure-systems-lab/dsse/blob/master/protocol.md). Lengths are in
// bytes.
func PAE(payloadType string, payload []byte) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "DSSEv1 %d %s %d ", len(payloadType), payloadType, len(payload))
	b.Write(payload)
	return b.Bytes()
}

// Encode returns the envelope as JSON on one line: the same envelope gives the same
// bytes.
func (e Envelope) Encode() []byte {
	raw, err := json.Marshal(e.json())
	if err != nil {
		panic(err) // it has strings only
	}
	return append(raw, '\n')
}

func (e Envelope) json() envelopeJSON {
	out := envelopeJSON{PayloadType: e.PayloadType, Payload: base64.StdEncoding.EncodeToString(e.Payload), Signatures: []signatureJSON{}}
	for _, s := range e.Signatures {
		out.Signatures = append(out.Signatures, signatureJSON{KeyID: s.KeyID, Sig: base64.StdEncoding.EncodeToString(s.Sig)})
	}
	return out
}

// Parse reads an envelope. Base64 may be of the standard or the URL-safe alphabet, with
// padding or without, as the specification asks.
func Parse(raw []byte) (Envelope, error) {
	var in envelopeJSON
	if err := decodeStrict(raw, &in); err != nil {
		return Envelope{}, fmt.Errorf("it is no DSSE envelope: %w", err)
	}
	out := Envelope{PayloadType: in.PayloadType}
	var err error
	if out.Payload, err = decodeBase64(in.Payload); err != nil {
		return Envelope{}, fmt.Errorf("its payload is no base64: %w", err)
	}
	for _, s := range in.Signatures {
		sig, err := decodeBase64(s.Sig)
		if err != nil {
			return Envelope{}, fmt.Errorf("its signature is no base64: %w", err)
		}
		out.Signatures = append(out.Signatures, Signature{KeyID: s.KeyID, Sig: sig})
	}
	return out, nil
}

// decodeBase64 takes both alphabets.
func decodeBase64(text string) ([]byte, error) {
	text = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(text, "="))
	return base64.RawStdEncoding.Strict().DecodeString(text)
}

// decodeStrict reads one JSON document without unknown fields.
func decodeStrict(raw []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is text after the JSON document")
	}
	return nil
}

// Verify reports whether the envelope has exactly one signature, and whether that is
// the key's.
func (e Envelope) Verify(key *ecdsa.PublicKey) error {
	if len(e.Signatures) != 1 {
		return fmt.Errorf("it has %d signatures, not 1", len(e.Signatures))
	}
	digest := sha256.Sum256(PAE(e.PayloadType, e.Payload))
	if !ecdsa.VerifyASN1(key, digest[:], e.Signatures[0].Sig) {
		return fmt.Errorf("its signature is not by the key %s, or the payload was changed after it was signed", KeyID(key))
	}
	return nil
}

// Signer signs a SHA-256 digest with an ECDSA P-256 key and returns DER.
type Signer interface {
	Sign(ctx context.Context, digest []byte) ([]byte, error)
}

// Sign signs a statement. What comes back is verified with the public key: a signature
// of another key would only be noticed by whoever verifies the bundle.
func Sign(ctx context.Context, signer Signer, key *ecdsa.PublicKey, s Statement) (Envelope, error) {
	payload, err := json.Marshal(s)
	if err != nil {
		return Envelope{}, fmt.Errorf("encode the statement %s: %w", s.PredicateType, err)
	}
	e := Envelope{PayloadType: PayloadType, Payload: payload}
	digest := sha256.Sum256(PAE(e.PayloadType, e.Payload))
	sig, err := signer.Sign(ctx, digest[:])
	if err != nil {
		return Envelope{}, err
	}
	e.Signatures = []Signature{{KeyID: KeyID(key), Sig: sig}}
	if err := e.Verify(key); err != nil {
		return Envelope{}, fmt.Errorf("the signature of %s: %w", s.PredicateType, err)
	}
	return e, nil
}
