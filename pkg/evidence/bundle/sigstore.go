package bundle

import "encoding/json"

// SigstoreType is the media type of a Sigstore bundle
// (https://github.com/sigstore/protobuf-specs/blob/main/protos/sigstore_bundle.proto).
const SigstoreType = "application/vnd.dev.sigstore.bundle.v0.3+json"

// sigstoreJSON is a dev.sigstore.bundle.v1.Bundle in the JSON form of protobuf, with a
// public key's hint in place of a certificate and without an entry of a log.
type sigstoreJSON struct {
	MediaType            string               `json:"mediaType"`
	VerificationMaterial verificationMaterial `json:"verificationMaterial"`
	DSSEEnvelope         envelopeJSON         `json:"dsseEnvelope"`
}

type verificationMaterial struct {
	PublicKey publicKeyIdentifier `json:"publicKey"`
}

type publicKeyIdentifier struct {
	Hint string `json:"hint"`
}

// Sigstore returns the envelope as a Sigstore bundle, which `cosign
// verify-blob-attestation --key` reads. The same envelope gives the same bytes.
func (e Envelope) Sigstore() []byte {
	out := sigstoreJSON{MediaType: SigstoreType, DSSEEnvelope: e.json()}
	if len(e.Signatures) > 0 {
		out.VerificationMaterial.PublicKey.Hint = e.Signatures[0].KeyID
	}
	raw, err := json.Marshal(out)
	if err != nil {
		panic(err) // it has strings only
	}
	return append(raw, '\n')
}
