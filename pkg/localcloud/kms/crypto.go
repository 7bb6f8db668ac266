package kms

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"sort"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// A ciphertext is: the length of the key's ARN (two bytes), the ARN, the nonce,
// and the output of AES-256-GCM. The encryption context is authenticated, not
// stored, so Decrypt needs the same one.

// maxPlaintext is the maximum size of Encrypt's plaintext, in bytes
// (https://docs.aws.amazon.com/kms/latest/APIReference/API_Encrypt.html).
const maxPlaintext = 4096

func (k *key) aead() (cipher.AEAD, error) {
	block, err := aes.NewCipher(k.Material)
	if err != nil {
		return nil, fmt.Errorf("key material of %s: %w", k.ARN, err)
	}
	return cipher.NewGCM(block)
}

func (k *key) seal(plain []byte, encryptionContext map[string]string) ([]byte, error) {
	aead, err := k.aead()
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, aead.NonceSize())
	_, _ = rand.Read(nonce)                                       // never fails, see crypto/rand
	out := binary.BigEndian.AppendUint16(nil, uint16(len(k.ARN))) // an ARN has fewer than 2,048 characters
	out = append(out, k.ARN...)
	out = append(out, nonce...)
	return aead.Seal(out, nonce, plain, contextBytes(encryptionContext)), nil
}

func (k *key) open(sealed []byte, encryptionContext map[string]string) ([]byte, error) {
	aead, err := k.aead()
	if err != nil {
		return nil, err
	}
	if len(sealed) < aead.NonceSize() {
		return nil, &types.InvalidCiphertextException{}
	}
	plain, err := aead.Open(nil, sealed[:aead.NonceSize()], sealed[aead.NonceSize():], contextBytes(encryptionContext))
	if err != nil {
		return nil, &types.InvalidCiphertextException{}
	}
	return plain, nil
}

// contextBytes is an unambiguous form of an encryption context.
func contextBytes(encryptionContext map[string]string) []byte {
	names := make([]string, 0, len(encryptionContext))
	for name := range encryptionContext {
		names = append(names, name)
	}
	sort.Strings(names)
	var b bytes.Buffer
	for _, name := range names {
		fmt.Fprintf(&b, "%d:%s%d:%s", len(name), name, len(encryptionContext[name]), encryptionContext[name])
	}
	return b.Bytes()
}

// splitCiphertext splits a ciphertext into the key's ARN and the rest.
func splitCiphertext(blob []byte) (arn string, sealed []byte, err error) {
	if len(blob) < 2 || len(blob) < 2+int(binary.BigEndian.Uint16(blob)) {
		return "", nil, &types.InvalidCiphertextException{}
	}
	n := int(binary.BigEndian.Uint16(blob))
	return string(blob[2 : 2+n]), blob[2+n:], nil
}

// Encrypt encrypts up to 4,096 bytes.
func (s *Service) Encrypt(ctx context.Context, in *kms.EncryptInput, optFns ...func(*kms.Options)) (*kms.EncryptOutput, error) {
	if len(in.Plaintext) == 0 || len(in.Plaintext) > maxPlaintext {
		return nil, wire.Errorf("ValidationException", "Plaintext has %d bytes; 1 to %d are allowed", len(in.Plaintext), maxPlaintext)
	}
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	k, err := s.usableFor(at, aws.ToString(in.KeyId), "Encrypt", types.KeyUsageTypeEncryptDecrypt)
	if err != nil {
		return nil, err
	}
	blob, err := k.seal(in.Plaintext, in.EncryptionContext)
	if err != nil {
		return nil, err
	}
	return &kms.EncryptOutput{CiphertextBlob: blob, KeyId: aws.String(k.ARN), EncryptionAlgorithm: types.EncryptionAlgorithmSpecSymmetricDefault}, nil
}

// Decrypt decrypts a ciphertext of Encrypt or GenerateDataKey, with the key that
// the ciphertext names.
func (s *Service) Decrypt(ctx context.Context, in *kms.DecryptInput, optFns ...func(*kms.Options)) (*kms.DecryptOutput, error) {
	arn, sealed, err := splitCiphertext(in.CiphertextBlob)
	if err != nil {
		return nil, err
	}
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	k, err := s.usable(at, arn)
	if err != nil {
		return nil, err
	}
	if in.KeyId != nil {
		named, _, err := s.find(at, *in.KeyId)
		if err != nil {
			return nil, err
		}
		if named.ARN != k.ARN {
			return nil, &types.IncorrectKeyException{Message: aws.String("The key ID in the request does not identify a CMK that can perform this operation.")}
		}
	}
	plain, err := k.open(sealed, in.EncryptionContext)
	if err != nil {
		return nil, err
	}
	return &kms.DecryptOutput{Plaintext: plain, KeyId: aws.String(k.ARN), EncryptionAlgorithm: types.EncryptionAlgorithmSpecSymmetricDefault}, nil
}

// GenerateDataKey makes a key for use outside KMS, and returns it in plain and
// encrypted form.
func (s *Service) GenerateDataKey(ctx context.Context, in *kms.GenerateDataKeyInput, optFns ...func(*kms.Options)) (*kms.GenerateDataKeyOutput, error) {
	var size int
	switch {
	case in.KeySpec != "" && in.NumberOfBytes != nil, in.KeySpec == "" && in.NumberOfBytes == nil:
		return nil, wire.Errorf("ValidationException", "Please specify either number of bytes or key spec.")
	case in.KeySpec == types.DataKeySpecAes256:
		size = 32
	case in.KeySpec == types.DataKeySpecAes128:
		size = 16
	case in.NumberOfBytes != nil && *in.NumberOfBytes >= 1 && *in.NumberOfBytes <= 1024:
		size = int(*in.NumberOfBytes)
	default:
		return nil, wire.Errorf("ValidationException", "KeySpec must be AES_256 or AES_128, NumberOfBytes 1 to 1024.")
	}
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	k, err := s.usableFor(at, aws.ToString(in.KeyId), "GenerateDataKey", types.KeyUsageTypeEncryptDecrypt)
	if err != nil {
		return nil, err
	}
	plain := make([]byte, size)
	_, _ = rand.Read(plain) // never fails, see crypto/rand
	blob, err := k.seal(plain, in.EncryptionContext)
	if err != nil {
		return nil, err
	}
	return &kms.GenerateDataKeyOutput{Plaintext: plain, CiphertextBlob: blob, KeyId: aws.String(k.ARN)}, nil
}

// KeyOf returns the ARN of the key that encrypted a ciphertext, or "" for other
// data.
func KeyOf(blob []byte) string {
	arn, _, err := splitCiphertext(blob)
	if err != nil {
		return ""
	}
	return arn
}
