package kms_test

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/kms"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

const (
	account = "111122223333"
	region  = "eu-west-1"
)

func newService(t *testing.T) (*kms.Service, *clock.Virtual) {
	t.Helper()
	c := clock.NewVirtual(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	t.Cleanup(c.Hold())
	return kms.New(c, wire.Caller{Account: account, Region: region}), c
}

func newKey(t *testing.T, s *kms.Service) *types.KeyMetadata {
	t.Helper()
	out, err := s.CreateKey(t.Context(), &sdk.CreateKeyInput{Description: aws.String("images")})
	require.NoError(t, err)
	_, err = s.CreateAlias(t.Context(), &sdk.CreateAliasInput{AliasName: aws.String("alias/images"), TargetKeyId: out.KeyMetadata.KeyId})
	require.NoError(t, err)
	return out.KeyMetadata
}

func TestAKeyIsFoundUnderAllItsNames(t *testing.T) {
	s, _ := newService(t)
	key := newKey(t, s)
	for sentence, tc := range map[string]struct {
		account, region, ref, want string
		managed                    bool
	}{
		"by id":                          {account, region, *key.KeyId, *key.Arn, false},
		"by ARN":                         {account, region, *key.Arn, *key.Arn, false},
		"by alias":                       {account, region, "alias/images", *key.Arn, false},
		"by the alias's ARN":             {account, region, "arn:aws:kms:eu-west-1:111122223333:alias/images", *key.Arn, false},
		"by ARN from another account":    {"444455556666", region, *key.Arn, *key.Arn, false},
		"not by id from another account": {"444455556666", region, *key.KeyId, "", false},
		"not from another region":        {account, "us-east-1", *key.Arn, "", false},
		"not under another alias":        {account, region, "alias/other", "", false},
	} {
		t.Run(sentence, func(t *testing.T) {
			got, err := s.Resolve(tc.account, tc.region, tc.ref)
			if tc.want == "" {
				assert.ErrorContains(t, err, "NotFoundException")
				return
			}
			require.NoError(t, err)
			got.Aliases = nil
			assert.Equal(t, kms.Resolved{
				ARN: tc.want, Managed: tc.managed, Enabled: true, Spec: types.KeySpecSymmetricDefault, Usage: types.KeyUsageTypeEncryptDecrypt,
			}, got)
		})
	}
	for _, r := range []string{"eu-west-1", "us-east-1"} {
		got, err := s.Resolve("444455556666", r, "alias/aws/ebs")
		require.NoError(t, err, "AWS's own key is in every account and region")
		assert.True(t, got.Managed)
	}
}

func TestWhatIsEncryptedComesBackOnlyWithTheSameContext(t *testing.T) {
	s, _ := newService(t)
	key := newKey(t, s)
	purpose := map[string]string{"purpose": "test"}
	sealed, err := s.Encrypt(t.Context(), &sdk.EncryptInput{KeyId: aws.String("alias/images"), Plaintext: []byte("secret"), EncryptionContext: purpose})
	require.NoError(t, err)
	assert.NotContains(t, string(sealed.CiphertextBlob), "secret")
	opened, err := s.Decrypt(t.Context(), &sdk.DecryptInput{CiphertextBlob: sealed.CiphertextBlob, EncryptionContext: purpose})
	require.NoError(t, err)
	assert.Equal(t, "secret", string(opened.Plaintext))
	assert.Equal(t, *key.Arn, *opened.KeyId)

	spoiled := append([]byte(nil), sealed.CiphertextBlob...)
	spoiled[len(spoiled)-1] ^= 1
	for sentence, in := range map[string]*sdk.DecryptInput{
		"no context":         {CiphertextBlob: sealed.CiphertextBlob},
		"a spoiled text":     {CiphertextBlob: spoiled, EncryptionContext: purpose},
		"something else":     {CiphertextBlob: []byte("x")},
		"a shortened header": {CiphertextBlob: sealed.CiphertextBlob[:20]},
	} {
		t.Run(sentence+" is refused", func(t *testing.T) {
			_, err := s.Decrypt(t.Context(), in)
			assert.ErrorContains(t, err, "InvalidCiphertextException")
		})
	}
	_, err = s.Decrypt(t.Context(), &sdk.DecryptInput{CiphertextBlob: sealed.CiphertextBlob, EncryptionContext: purpose, KeyId: aws.String("alias/aws/ebs")})
	assert.ErrorContains(t, err, "IncorrectKeyException")

	data, err := s.GenerateDataKey(t.Context(), &sdk.GenerateDataKeyInput{KeyId: key.KeyId, KeySpec: types.DataKeySpecAes256})
	require.NoError(t, err)
	assert.Len(t, data.Plaintext, 32)
	raw, err := s.Snapshot()
	require.NoError(t, err)
	again, _ := newService(t)
	require.NoError(t, again.Restore(raw))
	opened, err = again.Decrypt(t.Context(), &sdk.DecryptInput{CiphertextBlob: data.CiphertextBlob})
	require.NoError(t, err)
	assert.Equal(t, data.Plaintext, opened.Plaintext, "keys survive a restart")
}

func TestAKeyThatWaitsForItsDeletionCannotBeUsedAndThenIsGone(t *testing.T) {
	s, c := newService(t)
	key := newKey(t, s)
	_, err := s.ScheduleKeyDeletion(t.Context(), &sdk.ScheduleKeyDeletionInput{KeyId: key.KeyId, PendingWindowInDays: aws.Int32(7)})
	require.NoError(t, err)
	got, err := s.Resolve(account, region, *key.KeyId)
	require.NoError(t, err)
	assert.False(t, got.Enabled)
	_, err = s.Encrypt(t.Context(), &sdk.EncryptInput{KeyId: key.KeyId, Plaintext: []byte("x")})
	assert.ErrorContains(t, err, "KMSInvalidStateException")
	require.NoError(t, c.Sleep(t.Context(), 7*24*time.Hour))
	_, err = s.DescribeKey(t.Context(), &sdk.DescribeKeyInput{KeyId: key.KeyId})
	assert.ErrorContains(t, err, "NotFoundException")
}

func TestGrantsAndPolicies(t *testing.T) {
	s, _ := newService(t)
	key := newKey(t, s)
	in := &sdk.CreateGrantInput{KeyId: key.KeyId, GranteePrincipal: aws.String("arn:aws:iam::444455556666:root"), Operations: []types.GrantOperation{types.GrantOperationDecrypt}, Name: aws.String("share")}
	first, err := s.CreateGrant(t.Context(), in)
	require.NoError(t, err)
	same, err := s.CreateGrant(t.Context(), in)
	require.NoError(t, err)
	assert.Equal(t, first.GrantId, same.GrantId, "the same grant again is no second one")
	list, err := s.ListGrants(t.Context(), &sdk.ListGrantsInput{KeyId: key.KeyId})
	require.NoError(t, err)
	require.Len(t, list.Grants, 1)
	assert.Equal(t, "arn:aws:iam::444455556666:root", *list.Grants[0].GranteePrincipal)
	_, err = s.RetireGrant(t.Context(), &sdk.RetireGrantInput{GrantToken: first.GrantToken})
	require.NoError(t, err)
	list, err = s.ListGrants(t.Context(), &sdk.ListGrantsInput{KeyId: key.KeyId})
	require.NoError(t, err)
	assert.Empty(t, list.Grants)

	policy, err := s.GetKeyPolicy(t.Context(), &sdk.GetKeyPolicyInput{KeyId: key.KeyId})
	require.NoError(t, err)
	assert.Contains(t, *policy.Policy, "arn:aws:iam::111122223333:root")
	_, err = s.PutKeyPolicy(t.Context(), &sdk.PutKeyPolicyInput{KeyId: key.KeyId, Policy: aws.String("{}")})
	assert.ErrorContains(t, err, "MalformedPolicyDocumentException")
	_, err = s.PutKeyPolicy(t.Context(), &sdk.PutKeyPolicyInput{KeyId: aws.String("alias/aws/ebs"), Policy: policy.Policy})
	assert.ErrorContains(t, err, "AWS managed key")
	_, err = s.CreateAlias(t.Context(), &sdk.CreateAliasInput{AliasName: aws.String("alias/images"), TargetKeyId: key.KeyId})
	assert.ErrorContains(t, err, "AlreadyExistsException")
	_, err = s.CreateAlias(t.Context(), &sdk.CreateAliasInput{AliasName: aws.String("alias/aws/mine"), TargetKeyId: key.KeyId})
	assert.ErrorContains(t, err, "belong to AWS")
}
