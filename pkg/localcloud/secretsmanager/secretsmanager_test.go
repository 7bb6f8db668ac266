package secretsmanager_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/secretsmanager"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire/wiretest"
)

const (
	account = "111122223333"
	region  = "eu-west-1"
)

func newService(t *testing.T) (*secretsmanager.Service, *clock.Virtual) {
	t.Helper()
	c := clock.NewVirtual(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	t.Cleanup(c.Hold())
	return secretsmanager.New(c, wire.Caller{Account: account, Region: region}), c
}

func create(t *testing.T, s *secretsmanager.Service, name, value string) *sdk.CreateSecretOutput {
	t.Helper()
	out, err := s.CreateSecret(t.Context(), &sdk.CreateSecretInput{Name: aws.String(name), SecretString: aws.String(value)})
	require.NoError(t, err)
	return out
}

func put(t *testing.T, s *secretsmanager.Service, name, value string, stages ...string) string {
	t.Helper()
	out, err := s.PutSecretValue(t.Context(), &sdk.PutSecretValueInput{SecretId: aws.String(name), SecretString: aws.String(value), VersionStages: stages})
	require.NoError(t, err)
	return *out.VersionId
}

func get(ctx context.Context, s *secretsmanager.Service, id, stage string) (string, error) {
	in := &sdk.GetSecretValueInput{SecretId: aws.String(id)}
	if stage != "" {
		in.VersionStage = aws.String(stage)
	}
	out, err := s.GetSecretValue(ctx, in)
	if err != nil {
		return "", err
	}
	return *out.SecretString, nil
}

func code(t *testing.T, err error) string {
	t.Helper()
	var api smithy.APIError
	require.ErrorAs(t, err, &api)
	return api.ErrorCode()
}

func TestEveryMemberOfEveryOperationSurvivesHTTP(t *testing.T) {
	s, _ := newService(t)
	wiretest.RoundTrip(t, s.Wire(), func(c aws.Config) *sdk.Client { return sdk.NewFromConfig(c) })
}

func TestASecretIsFoundUnderItsNames(t *testing.T) {
	s, _ := newService(t)
	arn := *create(t, s, "team/db", "value").ARN
	assert.Regexp(t, `^arn:aws:secretsmanager:eu-west-1:111122223333:secret:team/db-[0-9a-f]{6}$`, arn)
	for sentence, tc := range map[string]struct{ account, region, ref, want string }{
		"by name":                           {account, region, "team/db", ""},
		"by ARN":                            {account, region, arn, ""},
		"by ARN without its suffix":         {account, region, arn[:len(arn)-7], ""},
		"not with another suffix":           {account, region, arn[:len(arn)-6] + "zzzzzz", "ResourceNotFoundException"},
		"not by another name":               {account, region, "team/d", "ResourceNotFoundException"},
		"not by name from another account":  {"444455556666", region, "team/db", "ResourceNotFoundException"},
		"not by ARN from another account":   {"444455556666", region, arn, "AccessDeniedException"},
		"not by name from another region":   {account, "us-east-1", "team/db", "ResourceNotFoundException"},
		"not by ARN from another region":    {account, "us-east-1", arn, "ResourceNotFoundException"},
		"not without saying which":          {account, region, "", "InvalidParameterException"},
		"not by an ARN of another service":  {account, region, "arn:aws:ssm:eu-west-1:111122223333:parameter/team/db", "ResourceNotFoundException"},
		"not by the name with ARN's suffix": {account, region, "team/db" + arn[len(arn)-7:], "ResourceNotFoundException"},
	} {
		t.Run(sentence, func(t *testing.T) {
			value, err := get(wire.WithCaller(t.Context(), wire.Caller{Account: tc.account, Region: tc.region}), s, tc.ref, "")
			if tc.want == "" {
				require.NoError(t, err)
				assert.Equal(t, "value", value)
				return
			}
			assert.Equal(t, tc.want, code(t, err))
		})
	}
}

func TestLabelsMoveFromVersionToVersion(t *testing.T) {
	s, _ := newService(t)
	create(t, s, "a", "one")
	_, err := get(t.Context(), s, "a", "AWSPREVIOUS")
	require.ErrorContains(t, err, "staging label: AWSPREVIOUS")
	two := put(t, s, "a", "two")
	put(t, s, "a", "three")
	pending := put(t, s, "a", "four", "AWSPENDING")
	for stage, want := range map[string]string{"": "three", "AWSCURRENT": "three", "AWSPREVIOUS": "two", "AWSPENDING": "four"} {
		value, err := get(t.Context(), s, "a", stage)
		require.NoError(t, err)
		assert.Equal(t, want, value, stage)
	}
	described, err := s.DescribeSecret(t.Context(), &sdk.DescribeSecretInput{SecretId: aws.String("a")})
	require.NoError(t, err)
	assert.Len(t, described.VersionIdsToStages, 3, "the first version bears no label any more")
	assert.Equal(t, []string{"AWSPREVIOUS"}, described.VersionIdsToStages[two])

	_, err = s.GetSecretValue(t.Context(), &sdk.GetSecretValueInput{SecretId: aws.String("a"), VersionId: aws.String(two), VersionStage: aws.String("AWSCURRENT")})
	assert.Equal(t, "InvalidRequestException", code(t, err))
	out, err := s.GetSecretValue(t.Context(), &sdk.GetSecretValueInput{SecretId: aws.String("a"), VersionId: aws.String(pending)})
	require.NoError(t, err)
	assert.Equal(t, "four", *out.SecretString)
}

func TestATokenMakesAVersionOnce(t *testing.T) {
	s, _ := newService(t)
	token := aws.String(strings.Repeat("t", 32))
	for range 2 {
		out, err := s.CreateSecret(t.Context(), &sdk.CreateSecretInput{Name: aws.String("a"), SecretString: aws.String("v"), ClientRequestToken: token})
		require.NoError(t, err)
		assert.Equal(t, *token, *out.VersionId)
	}
	_, err := s.CreateSecret(t.Context(), &sdk.CreateSecretInput{Name: aws.String("a"), SecretString: aws.String("w"), ClientRequestToken: token})
	assert.Equal(t, "ResourceExistsException", code(t, err))
	_, err = s.PutSecretValue(t.Context(), &sdk.PutSecretValueInput{SecretId: aws.String("a"), SecretString: aws.String("v"), ClientRequestToken: token})
	require.NoError(t, err)
	_, err = s.PutSecretValue(t.Context(), &sdk.PutSecretValueInput{SecretId: aws.String("a"), SecretString: aws.String("w"), ClientRequestToken: token})
	assert.Equal(t, "ResourceExistsException", code(t, err))
}

func TestADeletedSecretWaitsForItsEnd(t *testing.T) {
	s, c := newService(t)
	create(t, s, "a", "v")
	_, err := s.DeleteSecret(t.Context(), &sdk.DeleteSecretInput{SecretId: aws.String("a"), RecoveryWindowInDays: aws.Int64(6)})
	assert.Equal(t, "InvalidParameterException", code(t, err))
	out, err := s.DeleteSecret(t.Context(), &sdk.DeleteSecretInput{SecretId: aws.String("a"), RecoveryWindowInDays: aws.Int64(7)})
	require.NoError(t, err)
	assert.Equal(t, c.Now().Add(7*24*time.Hour), *out.DeletionDate)
	_, err = get(t.Context(), s, "a", "")
	assert.Equal(t, "InvalidRequestException", code(t, err))
	_, err = s.CreateSecret(t.Context(), &sdk.CreateSecretInput{Name: aws.String("a")})
	assert.ErrorContains(t, err, "scheduled for deletion")
	described, err := s.DescribeSecret(t.Context(), &sdk.DescribeSecretInput{SecretId: aws.String("a")})
	require.NoError(t, err)
	assert.NotNil(t, described.DeletedDate)
	list, err := s.ListSecrets(t.Context(), &sdk.ListSecretsInput{})
	require.NoError(t, err)
	assert.Empty(t, list.SecretList)
	list, err = s.ListSecrets(t.Context(), &sdk.ListSecretsInput{IncludePlannedDeletion: aws.Bool(true)})
	require.NoError(t, err)
	assert.Len(t, list.SecretList, 1)
	require.NoError(t, c.Sleep(t.Context(), 7*24*time.Hour))
	_, err = get(t.Context(), s, "a", "")
	assert.Equal(t, "ResourceNotFoundException", code(t, err))
	create(t, s, "a", "again")
}

func TestWhatIsNoSecretIsRefused(t *testing.T) {
	s, _ := newService(t)
	for sentence, in := range map[string]*sdk.CreateSecretInput{
		"no name":          {SecretString: aws.String("v")},
		"a name of spaces": {Name: aws.String("a b")},
		"two values":       {Name: aws.String("a"), SecretString: aws.String("v"), SecretBinary: []byte("v")},
		"an empty value":   {Name: aws.String("a"), SecretString: aws.String("")},
		"a large value":    {Name: aws.String("a"), SecretString: aws.String(strings.Repeat("v", 65537))},
		"a short token":    {Name: aws.String("a"), SecretString: aws.String("v"), ClientRequestToken: aws.String("t")},
	} {
		t.Run(sentence, func(t *testing.T) {
			_, err := s.CreateSecret(t.Context(), in)
			assert.Equal(t, "InvalidParameterException", code(t, err))
		})
	}
	_, err := s.CreateSecret(t.Context(), &sdk.CreateSecretInput{Name: aws.String("empty")})
	require.NoError(t, err, "a secret may wait for its value")
	_, err = get(t.Context(), s, "empty", "")
	assert.Equal(t, "ResourceNotFoundException", code(t, err))
	_, err = s.PutSecretValue(t.Context(), &sdk.PutSecretValueInput{SecretId: aws.String("empty")})
	assert.Equal(t, "InvalidRequestException", code(t, err))
}

func TestSecretsAreListedByNameAndFilter(t *testing.T) {
	s, _ := newService(t)
	for _, name := range []string{"b/2", "a", "b/1"} {
		create(t, s, name, "v")
	}
	var names []string
	pages := sdk.NewListSecretsPaginator(s, &sdk.ListSecretsInput{MaxResults: aws.Int32(2)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		require.NoError(t, err)
		for _, e := range page.SecretList {
			names = append(names, *e.Name)
		}
	}
	assert.Equal(t, []string{"a", "b/1", "b/2"}, names)
	list, err := s.ListSecrets(t.Context(), &sdk.ListSecretsInput{Filters: []types.Filter{{Key: types.FilterNameStringTypeName, Values: []string{"b/"}}}})
	require.NoError(t, err)
	assert.Len(t, list.SecretList, 2)
	_, err = s.ListSecrets(t.Context(), &sdk.ListSecretsInput{Filters: []types.Filter{{Key: types.FilterNameStringTypeAll, Values: []string{"b"}}}})
	assert.Equal(t, "InvalidParameterException", code(t, err))
}

func TestTheStateComesBack(t *testing.T) {
	s, _ := newService(t)
	arn := *create(t, s, "a", "one").ARN
	put(t, s, "a", "two")
	raw, err := s.Snapshot()
	require.NoError(t, err)
	restored, _ := newService(t)
	require.NoError(t, restored.Restore(raw))
	for stage, want := range map[string]string{"": "two", "AWSPREVIOUS": "one"} {
		value, err := get(t.Context(), restored, arn, stage)
		require.NoError(t, err)
		assert.Equal(t, want, value)
	}
}
