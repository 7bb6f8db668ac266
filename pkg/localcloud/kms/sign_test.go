package kms_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/kms"
)

func newSigner(t *testing.T, s *kms.Service, spec types.KeySpec) *types.KeyMetadata {
	t.Helper()
	out, err := s.CreateKey(t.Context(), &sdk.CreateKeyInput{KeySpec: spec, KeyUsage: types.KeyUsageTypeSignVerify})
	require.NoError(t, err)
	return out.KeyMetadata
}

// openssl verifies with the public key that GetPublicKey returned, as an auditor
// without any AWS client would.
func openssl(t *testing.T, public, signature, message []byte, options ...string) error {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string][]byte{
		"pub.pem": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}), "signature": signature, "message": message,
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), content, 0o600))
	}
	args := append([]string{"dgst", "-verify", "pub.pem", "-signature", "signature"}, options...)
	cmd := exec.CommandContext(t.Context(), "openssl", append(args, "message")...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	t.Logf("openssl: %s", bytes.TrimSpace(out))
	return err
}

func TestOpenSSLVerifiesWhatKMSSigns(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is not installed, and it is what verifies here")
	}
	s, _ := newService(t)
	pss := []string{"-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest"}
	for algorithm, tc := range map[types.SigningAlgorithmSpec]struct {
		spec    types.KeySpec
		options []string
	}{
		types.SigningAlgorithmSpecEcdsaSha256:          {types.KeySpecEccNistP256, []string{"-sha256"}},
		types.SigningAlgorithmSpecEcdsaSha384:          {types.KeySpecEccNistP384, []string{"-sha384"}},
		types.SigningAlgorithmSpecEcdsaSha512:          {types.KeySpecEccNistP521, []string{"-sha512"}},
		types.SigningAlgorithmSpecRsassaPkcs1V15Sha256: {types.KeySpecRsa2048, []string{"-sha256"}},
		types.SigningAlgorithmSpecRsassaPkcs1V15Sha384: {types.KeySpecRsa2048, []string{"-sha384"}},
		types.SigningAlgorithmSpecRsassaPkcs1V15Sha512: {types.KeySpecRsa2048, []string{"-sha512"}},
		types.SigningAlgorithmSpecRsassaPssSha256:      {types.KeySpecRsa2048, append(pss, "-sha256")},
		types.SigningAlgorithmSpecRsassaPssSha384:      {types.KeySpecRsa2048, append(pss, "-sha384")},
		types.SigningAlgorithmSpecRsassaPssSha512:      {types.KeySpecRsa2048, append(pss, "-sha512")},
	} {
		t.Run(string(algorithm), func(t *testing.T) {
			key := newSigner(t, s, tc.spec)
			assert.Contains(t, key.SigningAlgorithms, algorithm)
			assert.Empty(t, key.EncryptionAlgorithms)
			message := []byte("manifest of an image")
			signed, err := s.Sign(t.Context(), &sdk.SignInput{KeyId: key.KeyId, Message: message, SigningAlgorithm: algorithm})
			require.NoError(t, err)
			assert.Equal(t, *key.Arn, *signed.KeyId)
			public, err := s.GetPublicKey(t.Context(), &sdk.GetPublicKeyInput{KeyId: key.KeyId})
			require.NoError(t, err)
			require.NoError(t, openssl(t, public.PublicKey, signed.Signature, message, tc.options...))
			require.Error(t, openssl(t, public.PublicKey, signed.Signature, append(message, 'x'), tc.options...), "another message")

			in := &sdk.VerifyInput{KeyId: key.KeyId, Message: message, Signature: signed.Signature, SigningAlgorithm: algorithm}
			verified, err := s.Verify(t.Context(), in)
			require.NoError(t, err)
			assert.True(t, verified.SignatureValid)
			in.Signature = append([]byte(nil), signed.Signature...)
			in.Signature[len(in.Signature)-1] ^= 1
			_, err = s.Verify(t.Context(), in)
			assert.ErrorContains(t, err, "KMSInvalidSignatureException")
		})
	}
}

func TestTheDigestOfAMessageIsSignedLikeTheMessage(t *testing.T) {
	s, _ := newService(t)
	key := newSigner(t, s, types.KeySpecEccNistP256)
	message := []byte(strings.Repeat("m", 5000))
	digest := sha256.Sum256(message)
	signed, err := s.Sign(t.Context(), &sdk.SignInput{KeyId: key.KeyId, Message: digest[:], MessageType: types.MessageTypeDigest, SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256})
	require.NoError(t, err)
	_, err = s.Verify(t.Context(), &sdk.VerifyInput{KeyId: key.KeyId, Message: digest[:], MessageType: types.MessageTypeDigest, Signature: signed.Signature, SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256})
	require.NoError(t, err)
	_, err = s.Verify(t.Context(), &sdk.VerifyInput{KeyId: key.KeyId, Message: digest[:], Signature: signed.Signature, SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256})
	assert.ErrorContains(t, err, "KMSInvalidSignatureException", "as a message of its own it is another one")
}

func TestAKeyIsUsedOnlyForWhatItIs(t *testing.T) {
	s, _ := newService(t)
	encrypts, signs, off := newKey(t, s), newSigner(t, s, types.KeySpecEccNistP256), newSigner(t, s, types.KeySpecEccNistP256)
	_, err := s.DisableKey(t.Context(), &sdk.DisableKeyInput{KeyId: off.KeyId})
	require.NoError(t, err)
	gone := newSigner(t, s, types.KeySpecEccNistP256)
	_, err = s.ScheduleKeyDeletion(t.Context(), &sdk.ScheduleKeyDeletionInput{KeyId: gone.KeyId})
	require.NoError(t, err)
	const p256 = types.SigningAlgorithmSpecEcdsaSha256
	sign := func(id *string, message string, kind types.MessageType, a types.SigningAlgorithmSpec) func() error {
		return func() error {
			_, err := s.Sign(t.Context(), &sdk.SignInput{KeyId: id, Message: []byte(message), MessageType: kind, SigningAlgorithm: a})
			return err
		}
	}
	create := func(spec types.KeySpec, usage types.KeyUsageType) func() error {
		return func() error {
			_, err := s.CreateKey(t.Context(), &sdk.CreateKeyInput{KeySpec: spec, KeyUsage: usage})
			return err
		}
	}
	for sentence, tc := range map[string]struct {
		call func() error
		want string
	}{
		"a symmetric key does not sign":                {sign(encrypts.KeyId, "m", "", p256), "InvalidKeyUsageException"},
		"a disabled key does not sign":                 {sign(off.KeyId, "m", "", p256), "DisabledException"},
		"a key that is pending deletion does not sign": {sign(gone.KeyId, "m", "", p256), "KMSInvalidStateException"},
		"a missing key does not sign":                  {sign(aws.String("alias/none"), "m", "", p256), "NotFoundException"},
		"an algorithm of another curve":                {sign(signs.KeyId, "m", "", types.SigningAlgorithmSpecEcdsaSha384), "InvalidKeyUsageException"},
		"an algorithm that does not exist":             {sign(signs.KeyId, "m", "", "MD5"), "ValidationException"},
		"no message":                                   {sign(signs.KeyId, "", "", p256), "ValidationException"},
		"a message of more than 4,096 bytes":           {sign(signs.KeyId, strings.Repeat("m", 4097), types.MessageTypeRaw, p256), "4096"},
		"a message of 4,096 bytes is signed":           {sign(signs.KeyId, strings.Repeat("m", 4096), types.MessageTypeRaw, p256), ""},
		"a digest of another length":                   {sign(signs.KeyId, strings.Repeat("m", 48), types.MessageTypeDigest, p256), "Digest is invalid length"},
		"another message type":                         {sign(signs.KeyId, "m", types.MessageTypeExternalMu, p256), "ValidationException"},
		"an asymmetric key without a usage":            {create(types.KeySpecEccNistP256, ""), "You must specify a KeyUsage"},
		"a symmetric key that signs":                   {create(types.KeySpecSymmetricDefault, types.KeyUsageTypeSignVerify), "ValidationException"},
		"a usage that is not available":                {create(types.KeySpecRsa2048, types.KeyUsageTypeEncryptDecrypt), "UnsupportedOperationException"},
		"a spec that is not available":                 {create(types.KeySpecSm2, types.KeyUsageTypeSignVerify), "ECC_NIST_P256"},
		"a signing key does not encrypt": {func() error {
			_, err := s.Encrypt(t.Context(), &sdk.EncryptInput{KeyId: signs.KeyId, Plaintext: []byte("p")})
			return err
		}, "InvalidKeyUsageException"},
		"a signing key does not make data keys": {func() error {
			_, err := s.GenerateDataKey(t.Context(), &sdk.GenerateDataKeyInput{KeyId: signs.KeyId, KeySpec: types.DataKeySpecAes256})
			return err
		}, "InvalidKeyUsageException"},
		"a symmetric key has no public key": {func() error {
			_, err := s.GetPublicKey(t.Context(), &sdk.GetPublicKeyInput{KeyId: encrypts.KeyId})
			return err
		}, "UnsupportedOperationException"},
		"a dry run signs nothing": {func() error {
			_, err := s.Sign(t.Context(), &sdk.SignInput{KeyId: signs.KeyId, Message: []byte("m"), SigningAlgorithm: p256, DryRun: aws.Bool(true)})
			return err
		}, "DryRunOperationException"},
	} {
		t.Run(sentence, func(t *testing.T) {
			err := tc.call()
			if tc.want == "" {
				require.NoError(t, err)
				return
			}
			assert.ErrorContains(t, err, tc.want)
		})
	}
}

func TestAKeySignsTheSameAfterARestart(t *testing.T) {
	s, _ := newService(t)
	key := newSigner(t, s, types.KeySpecEccNistP256)
	signed, err := s.Sign(t.Context(), &sdk.SignInput{KeyId: key.KeyId, Message: []byte("m"), SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256})
	require.NoError(t, err)
	raw, err := s.Snapshot()
	require.NoError(t, err)
	again, _ := newService(t)
	require.NoError(t, again.Restore(raw))
	_, err = again.Verify(t.Context(), &sdk.VerifyInput{KeyId: key.KeyId, Message: []byte("m"), Signature: signed.Signature, SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256})
	require.NoError(t, err)
	before, err := s.GetPublicKey(t.Context(), &sdk.GetPublicKeyInput{KeyId: key.KeyId})
	require.NoError(t, err)
	after, err := again.GetPublicKey(t.Context(), &sdk.GetPublicKeyInput{KeyId: key.KeyId})
	require.NoError(t, err)
	assert.Equal(t, before.PublicKey, after.PublicKey)
}
