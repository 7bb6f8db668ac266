package kms

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha256" // crypto.SHA256 of a signature
	_ "crypto/sha512" // crypto.SHA384 and crypto.SHA512
	"crypto/x509"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// maxMessage is the maximum size of a message that is signed RAW, and maxSignature
// that of a signature, in bytes
// (https://docs.aws.amazon.com/kms/latest/APIReference/API_Verify.html).
const (
	maxMessage   = 4096
	maxSignature = 6144
)

// signingSpec is a kind of asymmetric keys that sign.
type signingSpec struct {
	name     types.KeySpec
	generate func() (crypto.Signer, error)
	// algorithms are those of the spec, in the order of KMS's documentation
	// (https://docs.aws.amazon.com/kms/latest/developerguide/symm-asymm-choose-key-spec.html).
	algorithms []types.SigningAlgorithmSpec
}

func signingSpecs() []signingSpec {
	curve := func(name types.KeySpec, c elliptic.Curve, a types.SigningAlgorithmSpec) signingSpec {
		return signingSpec{name, func() (crypto.Signer, error) { return ecdsa.GenerateKey(c, rand.Reader) }, []types.SigningAlgorithmSpec{a}}
	}
	bits := func(name types.KeySpec, n int) signingSpec {
		return signingSpec{name, func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, n) }, []types.SigningAlgorithmSpec{
			types.SigningAlgorithmSpecRsassaPkcs1V15Sha256, types.SigningAlgorithmSpecRsassaPkcs1V15Sha384, types.SigningAlgorithmSpecRsassaPkcs1V15Sha512,
			types.SigningAlgorithmSpecRsassaPssSha256, types.SigningAlgorithmSpecRsassaPssSha384, types.SigningAlgorithmSpecRsassaPssSha512,
		}}
	}
	return []signingSpec{
		curve(types.KeySpecEccNistP256, elliptic.P256(), types.SigningAlgorithmSpecEcdsaSha256),
		curve(types.KeySpecEccNistP384, elliptic.P384(), types.SigningAlgorithmSpecEcdsaSha384),
		curve(types.KeySpecEccNistP521, elliptic.P521(), types.SigningAlgorithmSpecEcdsaSha512),
		bits(types.KeySpecRsa2048, 2048),
		bits(types.KeySpecRsa3072, 3072),
		bits(types.KeySpecRsa4096, 4096),
	}
}

// signingSpecOf returns the spec with a name; ok is false for all others.
func signingSpecOf(name types.KeySpec) (signingSpec, bool) {
	all := signingSpecs()
	i := slices.IndexFunc(all, func(s signingSpec) bool { return s.name == name })
	if i < 0 {
		return signingSpec{}, false
	}
	return all[i], true
}

// material makes the private key of a spec, as PKCS #8.
func (s signingSpec) material() ([]byte, error) {
	private, err := s.generate()
	if err != nil {
		return nil, fmt.Errorf("make a key of %s: %w", s.name, err)
	}
	return x509.MarshalPKCS8PrivateKey(private)
}

// signer returns the private key of a key that signs.
func (k *key) signer() (crypto.Signer, error) {
	private, err := x509.ParsePKCS8PrivateKey(k.Material)
	if err != nil {
		return nil, fmt.Errorf("key material of %s: %w", k.ARN, err)
	}
	signer, ok := private.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("key material of %s is %T, which does not sign", k.ARN, private)
	}
	return signer, nil
}

// hashOf returns the hash of a signing algorithm, and whether its RSA padding is
// PSS.
func hashOf(a types.SigningAlgorithmSpec) (hash crypto.Hash, pss bool) {
	switch a {
	case types.SigningAlgorithmSpecRsassaPssSha256:
		return crypto.SHA256, true
	case types.SigningAlgorithmSpecRsassaPssSha384:
		return crypto.SHA384, true
	case types.SigningAlgorithmSpecRsassaPssSha512:
		return crypto.SHA512, true
	case types.SigningAlgorithmSpecEcdsaSha256, types.SigningAlgorithmSpecRsassaPkcs1V15Sha256:
		return crypto.SHA256, false
	case types.SigningAlgorithmSpecEcdsaSha384, types.SigningAlgorithmSpecRsassaPkcs1V15Sha384:
		return crypto.SHA384, false
	}
	return crypto.SHA512, false
}

// signing finds the key of a call that signs or verifies, and returns the digest
// of its message. The caller holds s.mu.
func (s *Service) signing(at scope.Key, operation, ref string, a types.SigningAlgorithmSpec, kind types.MessageType, message []byte) (*key, []byte, error) {
	if !slices.Contains(a.Values(), a) {
		return nil, nil, wire.Errorf("ValidationException", "1 validation error detected: Value '%s' at 'signingAlgorithm' failed to satisfy constraint: Member must satisfy enum value set: %v", a, a.Values())
	}
	if len(message) == 0 || len(message) > maxMessage {
		return nil, nil, wire.Errorf("ValidationException", "1 validation error detected: Value at 'message' failed to satisfy constraint: Member must have a length of 1 to %d; it has %d bytes (sign the digest of a longer message, with MessageType DIGEST)", maxMessage, len(message))
	}
	k, err := s.usableFor(at, ref, operation, types.KeyUsageTypeSignVerify)
	if err != nil {
		return nil, nil, err
	}
	if spec, _ := signingSpecOf(k.spec()); !slices.Contains(spec.algorithms, a) {
		return nil, nil, &types.InvalidKeyUsageException{Message: aws.String(fmt.Sprintf("Algorithm %s is incompatible with key spec %s.", a, k.spec()))}
	}
	hash, _ := hashOf(a)
	switch kind {
	case types.MessageTypeRaw, "":
		h := hash.New()
		h.Write(message)
		return k, h.Sum(nil), nil
	case types.MessageTypeDigest:
		if len(message) != hash.Size() {
			return nil, nil, wire.Errorf("ValidationException", "Digest is invalid length for algorithm %s.", a)
		}
		return k, message, nil
	}
	return nil, nil, wire.Errorf("ValidationException", "MessageType %q is not RAW or DIGEST, which the algorithm %s takes.", kind, a)
}

// Sign signs a message, or the digest of one. ECDSA signatures are DER.
func (s *Service) Sign(ctx context.Context, in *kms.SignInput, optFns ...func(*kms.Options)) (*kms.SignOutput, error) {
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	k, digest, err := s.signing(at, "Sign", aws.ToString(in.KeyId), in.SigningAlgorithm, in.MessageType, in.Message)
	if err != nil {
		return nil, err
	}
	if aws.ToBool(in.DryRun) {
		return nil, wouldSucceed()
	}
	signer, err := k.signer()
	if err != nil {
		return nil, err
	}
	hash, pss := hashOf(in.SigningAlgorithm)
	var opts crypto.SignerOpts = hash
	if pss {
		opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash}
	}
	signature, err := signer.Sign(rand.Reader, digest, opts)
	if err != nil {
		return nil, fmt.Errorf("sign with %s: %w", k.ARN, err)
	}
	return &kms.SignOutput{KeyId: aws.String(k.ARN), Signature: signature, SigningAlgorithm: in.SigningAlgorithm}, nil
}

// Verify verifies a signature of Sign. A signature that does not match is an
// error, as on KMS.
func (s *Service) Verify(ctx context.Context, in *kms.VerifyInput, optFns ...func(*kms.Options)) (*kms.VerifyOutput, error) {
	if len(in.Signature) == 0 || len(in.Signature) > maxSignature {
		return nil, wire.Errorf("ValidationException", "1 validation error detected: Value at 'signature' failed to satisfy constraint: Member must have a length of 1 to %d; it has %d bytes", maxSignature, len(in.Signature))
	}
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	k, digest, err := s.signing(at, "Verify", aws.ToString(in.KeyId), in.SigningAlgorithm, in.MessageType, in.Message)
	if err != nil {
		return nil, err
	}
	if aws.ToBool(in.DryRun) {
		return nil, wouldSucceed()
	}
	signer, err := k.signer()
	if err != nil {
		return nil, err
	}
	if !verifies(signer.Public(), in.SigningAlgorithm, digest, in.Signature) {
		return nil, &types.KMSInvalidSignatureException{}
	}
	return &kms.VerifyOutput{KeyId: aws.String(k.ARN), SignatureValid: true, SigningAlgorithm: in.SigningAlgorithm}, nil
}

func verifies(public crypto.PublicKey, a types.SigningAlgorithmSpec, digest, signature []byte) bool {
	hash, pss := hashOf(a)
	switch public := public.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(public, digest, signature)
	case *rsa.PublicKey:
		if pss {
			return rsa.VerifyPSS(public, hash, digest, signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
		}
		return rsa.VerifyPKCS1v15(public, hash, digest, signature) == nil
	}
	return false
}

// GetPublicKey returns the public key of a key that signs, as a DER
// SubjectPublicKeyInfo.
func (s *Service) GetPublicKey(ctx context.Context, in *kms.GetPublicKeyInput, optFns ...func(*kms.Options)) (*kms.GetPublicKeyOutput, error) {
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	k, err := s.usable(at, aws.ToString(in.KeyId))
	if err != nil {
		return nil, err
	}
	spec, ok := signingSpecOf(k.spec())
	if !ok {
		return nil, &types.UnsupportedOperationException{Message: aws.String(fmt.Sprintf("%s is a %s key, which has no public key.", k.ARN, k.spec()))}
	}
	signer, err := k.signer()
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil {
		return nil, fmt.Errorf("public key of %s: %w", k.ARN, err)
	}
	return &kms.GetPublicKeyOutput{
		KeyId: aws.String(k.ARN), KeySpec: k.spec(), CustomerMasterKeySpec: types.CustomerMasterKeySpec(k.spec()), KeyUsage: k.usage(),
		PublicKey: der, SigningAlgorithms: spec.algorithms,
	}, nil
}

// checkSpec validates the spec and usage of a new key, and returns them with their
// defaults
// (https://docs.aws.amazon.com/kms/latest/APIReference/API_CreateKey.html).
func checkSpec(in *kms.CreateKeyInput) (types.KeySpec, types.KeyUsageType, error) {
	spec := in.KeySpec
	_, signs := signingSpecOf(spec)
	switch {
	case spec == "" || spec == types.KeySpecSymmetricDefault:
		if in.KeyUsage != "" && in.KeyUsage != types.KeyUsageTypeEncryptDecrypt {
			return "", "", wire.Errorf("ValidationException", "KeyUsage %s is not compatible with KeySpec %s", in.KeyUsage, types.KeySpecSymmetricDefault)
		}
		return types.KeySpecSymmetricDefault, types.KeyUsageTypeEncryptDecrypt, nil
	case !signs:
		names := []types.KeySpec{types.KeySpecSymmetricDefault}
		for _, s := range signingSpecs() {
			names = append(names, s.name)
		}
		return "", "", &types.UnsupportedOperationException{Message: aws.String(fmt.Sprintf("The embedded KMS does not make keys of %s (available: %v).", spec, names))}
	case in.KeyUsage == "":
		return "", "", wire.Errorf("ValidationException", "You must specify a KeyUsage value for an asymmetric CMK.")
	case in.KeyUsage != types.KeyUsageTypeSignVerify:
		return "", "", &types.UnsupportedOperationException{Message: aws.String(fmt.Sprintf("The embedded KMS makes keys of %s for SIGN_VERIFY only, not for %s.", spec, in.KeyUsage))}
	}
	return spec, in.KeyUsage, nil
}

// wouldSucceed is the answer to a permitted and valid dry run.
func wouldSucceed() error {
	return &types.DryRunOperationException{Message: aws.String("The request would have succeeded, but the DryRun option is set.")}
}
