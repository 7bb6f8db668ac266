package bundle

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
)

const pemType = "PUBLIC KEY"

// ParseKey reads a public key of ECDSA P-256 as PEM, which `openssl pkey -pubout` and
// `ami-factory evidence key` write.
func ParseKey(text []byte) (*ecdsa.PublicKey, error) {
	block, rest := pem.Decode(text)
	if block == nil {
		return nil, errors.New("it holds no PEM block (allowed: one of type PUBLIC KEY, as `ami-factory evidence key` prints it)")
	}
	if block.Type != pemType {
		return nil, fmt.Errorf("its PEM block is of type %s (allowed: %s)", block.Type, pemType)
	}
	if extra, _ := pem.Decode(rest); extra != nil {
		return nil, errors.New("it holds more than one PEM block (allowed: one)")
	}
	return KeyOfDER(block.Bytes)
}

// KeyOfDER reads a public key of ECDSA P-256 as DER, in the form that KMS's GetPublicKey
// returns (https://docs.aws.amazon.com/kms/latest/APIReference/API_GetPublicKey.html).
func KeyOfDER(der []byte) (*ecdsa.PublicKey, error) {
	parsed, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, fmt.Errorf("it is no public key: %w", err)
	}
	key, ok := parsed.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("it is no key of ECDSA P-256 (ECC_NIST_P256 in KMS), which signs all evidence")
	}
	return key, nil
}

// PEM is the public key as a text that OpenSSL and cosign read.
func PEM(key *ecdsa.PublicKey) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der(key)})
}

// KeyID names a public key by the SHA-256 of its DER, in hexadecimal. `openssl pkey
// -pubin -in key.pem -outform DER | sha256sum` prints the same.
func KeyID(key *ecdsa.PublicKey) string { return digest(der(key)) }

func der(key *ecdsa.PublicKey) []byte {
	raw, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		panic(err) // a key of P-256 has a DER form
	}
	return raw
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
