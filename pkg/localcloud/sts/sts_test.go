package sts_test

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/sts"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

func newService(t *testing.T) (*sts.Service, *clock.Virtual) {
	t.Helper()
	c := clock.NewVirtual(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	t.Cleanup(c.Hold())
	return sts.New(c, wire.Caller{Account: "111122223333", Region: "eu-west-1"}, "root-secret", nil), c
}

func TestAMintedKeyActsInTheRolesAccountUntilItExpires(t *testing.T) {
	s, c := newService(t)
	out, err := s.AssumeRole(t.Context(), &sdk.AssumeRoleInput{
		RoleArn: aws.String("arn:aws:iam::444455556666:role/path/distribute"), RoleSessionName: aws.String("bake"), ExternalId: aws.String("factory"),
	})
	require.NoError(t, err)
	const arn = "arn:aws:sts::444455556666:assumed-role/distribute/bake"
	assert.Equal(t, arn, *out.AssumedRoleUser.Arn)
	key := *out.Credentials.AccessKeyId
	known, ok := s.Key(key)
	assert.True(t, ok)
	assert.Equal(t, wire.Key{Secret: *out.Credentials.SecretAccessKey, Token: *out.Credentials.SessionToken, Account: "444455556666", ARN: arn}, known)
	session, ok := s.Session(key)
	require.True(t, ok)
	assert.Equal(t, "factory", session.ExternalID)
	assert.Equal(t, "arn:aws:iam::111122223333:root", session.SourceARN)

	ctx := wire.WithCaller(t.Context(), wire.Caller{Account: known.Account, Region: "eu-west-1", AccessKeyID: key, ARN: arn})
	me, err := s.GetCallerIdentity(ctx, &sdk.GetCallerIdentityInput{})
	require.NoError(t, err)
	assert.Equal(t, arn, *me.Arn)
	assert.Regexp(t, `^AROA[A-Z2-7]{17}:bake$`, *me.UserId)

	raw, err := s.Snapshot()
	require.NoError(t, err)
	again, _ := newService(t)
	require.NoError(t, again.Restore(raw))
	kept, _ := again.Key(key)
	assert.Equal(t, known, kept, "sessions survive a restart")

	require.NoError(t, c.Sleep(t.Context(), time.Hour))
	known, ok = s.Key(key)
	assert.True(t, ok)
	assert.True(t, known.Expired)
}

func TestAnAccessKeyNamesAnAccount(t *testing.T) {
	s, _ := newService(t)
	for sentence, tc := range map[string]struct {
		key, account string
		ok           bool
	}{
		"no other key is known":             {"test", "", false},
		"a key of thirteen digits is not":   {"4444555566667", "", false},
		"twelve digits are that account":    {"444455556666", "444455556666", true},
		"an unknown minted key is nobody's": {"ASIA0000000000000000", "", false},
	} {
		t.Run(sentence, func(t *testing.T) {
			key, ok := s.Key(tc.key)
			assert.Equal(t, tc.ok, ok)
			assert.Equal(t, tc.account, key.Account)
			assert.Equal(t, map[bool]string{true: "root-secret"}[tc.ok], key.Secret)
			info, err := s.GetAccessKeyInfo(t.Context(), &sdk.GetAccessKeyInfoInput{AccessKeyId: aws.String(tc.key)})
			if !tc.ok {
				assert.ErrorContains(t, err, "unknown or has expired")
				return
			}
			require.NoError(t, err)
			assert.Equal(t, tc.account, *info.Account)
		})
	}
}

func TestAssumeRoleRefuses(t *testing.T) {
	s, _ := newService(t)
	for sentence, tc := range map[string]struct {
		in   sdk.AssumeRoleInput
		want string
	}{
		"what is not a role":  {sdk.AssumeRoleInput{RoleArn: aws.String("arn:aws:iam::444455556666:user/x"), RoleSessionName: aws.String("bake")}, "not the ARN of a role"},
		"a bad session name":  {sdk.AssumeRoleInput{RoleArn: aws.String("arn:aws:iam::444455556666:role/x"), RoleSessionName: aws.String("a b")}, "roleSessionName"},
		"too short a session": {sdk.AssumeRoleInput{RoleArn: aws.String("arn:aws:iam::444455556666:role/x"), RoleSessionName: aws.String("bake"), DurationSeconds: aws.Int32(60)}, "900 to 43200"},
	} {
		t.Run(sentence, func(t *testing.T) {
			_, err := s.AssumeRole(t.Context(), &tc.in)
			assert.ErrorContains(t, err, tc.want)
		})
	}
}
