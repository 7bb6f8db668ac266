package iam

import (
	"encoding/json"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/authz"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

const (
	openDocument  = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`
	lambdaTrust   = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com"},"Action":"sts:AssumeRole"}}`
	ssmManaged    = "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore"
	lambdaManaged = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"
)

// furnished is a service with the role r, the policy p and the instance profile
// i, which r is in; p is attached to it and has two versions.
func furnished(t *testing.T) *Service {
	t.Helper()
	s, ctx := newService(), t.Context()
	_, err := s.CreateRole(ctx, &iam.CreateRoleInput{RoleName: aws.String("r"), AssumeRolePolicyDocument: aws.String(lambdaTrust)})
	require.NoError(t, err)
	p, err := s.CreatePolicy(ctx, &iam.CreatePolicyInput{PolicyName: aws.String("p"), PolicyDocument: aws.String(openDocument)})
	require.NoError(t, err)
	_, err = s.CreatePolicyVersion(ctx, &iam.CreatePolicyVersionInput{PolicyArn: p.Policy.Arn, PolicyDocument: aws.String(openDocument)})
	require.NoError(t, err)
	_, err = s.AttachRolePolicy(ctx, &iam.AttachRolePolicyInput{RoleName: aws.String("r"), PolicyArn: p.Policy.Arn})
	require.NoError(t, err)
	_, err = s.CreateInstanceProfile(ctx, &iam.CreateInstanceProfileInput{InstanceProfileName: aws.String("i")})
	require.NoError(t, err)
	_, err = s.AddRoleToInstanceProfile(ctx, &iam.AddRoleToInstanceProfileInput{InstanceProfileName: aws.String("i"), RoleName: aws.String("r")})
	require.NoError(t, err)
	return s
}

func TestWhatIAMRefuses(t *testing.T) {
	const p = "arn:aws:iam::111122223333:policy/p"
	create := func(name, trust string) func(*Service) error {
		return func(s *Service) error {
			_, err := s.CreateRole(t.Context(), &iam.CreateRoleInput{RoleName: &name, AssumeRolePolicyDocument: &trust})
			return err
		}
	}
	for sentence, tc := range map[string]struct {
		call          func(*Service) error
		code, message string
	}{
		"a role of a name that is taken": {create("r", lambdaTrust), "EntityAlreadyExists", "Role with name r already exists."},
		"a name with a blank":            {create("a b", lambdaTrust), "ValidationError", "roleName"},
		"a trust policy with a resource": {create("x", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole","Resource":"*"}}`), "MalformedPolicyDocument", "prohibited field Resource"},
		"one about other actions":        {create("x", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":"*","Action":"s3:GetObject"}}`), "MalformedPolicyDocument", "may only specify STS AssumeRole actions"},
		"one without a principal":        {create("x", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"sts:AssumeRole"}}`), "MalformedPolicyDocument", "Principal"},
		"one with no such principal":     {create("x", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"me"},"Action":"sts:AssumeRole"}}`), "MalformedPolicyDocument", `Invalid principal in policy: "AWS":"me"`},
		"one that lets all others in":    {create("x", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","NotPrincipal":{"AWS":"111122223333"},"Action":"sts:AssumeRole"}}`), "MalformedPolicyDocument", "NotPrincipal"},
		"a policy with a principal": {func(s *Service) error {
			_, err := s.PutRolePolicy(t.Context(), &iam.PutRolePolicyInput{RoleName: aws.String("r"), PolicyName: aws.String("x"), PolicyDocument: aws.String(
				`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"*"}}`)})
			return err
		}, "MalformedPolicyDocument", "should not specify a principal"},
		"a policy of a role that is not there": {func(s *Service) error {
			_, err := s.PutRolePolicy(t.Context(), &iam.PutRolePolicyInput{RoleName: aws.String("x"), PolicyName: aws.String("x"), PolicyDocument: aws.String(openDocument)})
			return err
		}, "NoSuchEntity", "The role with name x cannot be found."},
		"an inline policy that is not there": {func(s *Service) error {
			_, err := s.GetRolePolicy(t.Context(), &iam.GetRolePolicyInput{RoleName: aws.String("r"), PolicyName: aws.String("x")})
			return err
		}, "NoSuchEntity", "The role policy with name x cannot be found."},
		"a managed policy that is not there": {func(s *Service) error {
			_, err := s.AttachRolePolicy(t.Context(), &iam.AttachRolePolicyInput{RoleName: aws.String("r"), PolicyArn: aws.String("arn:aws:iam::aws:policy/None")})
			return err
		}, "NoSuchEntity", "arn:aws:iam::aws:policy/None"},
		"a boundary that is no policy": {func(s *Service) error {
			_, err := s.PutRolePermissionsBoundary(t.Context(), &iam.PutRolePermissionsBoundaryInput{RoleName: aws.String("r"), PermissionsBoundary: aws.String(p + "x")})
			return err
		}, "NoSuchEntity", p + "x"},
		"to delete a role in an instance profile": {func(s *Service) error {
			_, err := s.DeleteRole(t.Context(), &iam.DeleteRoleInput{RoleName: aws.String("r")})
			return err
		}, "DeleteConflict", "instance profile"},
		"to delete a role with a policy": {func(s *Service) error {
			_, err := s.RemoveRoleFromInstanceProfile(t.Context(), &iam.RemoveRoleFromInstanceProfileInput{InstanceProfileName: aws.String("i"), RoleName: aws.String("r")})
			require.NoError(t, err)
			_, err = s.DeleteRole(t.Context(), &iam.DeleteRoleInput{RoleName: aws.String("r")})
			return err
		}, "DeleteConflict", "must detach all policies first"},
		"to delete a policy in use": {func(s *Service) error {
			_, err := s.DeletePolicy(t.Context(), &iam.DeletePolicyInput{PolicyArn: aws.String(p)})
			return err
		}, "DeleteConflict", "attached"},
		"to delete a policy with versions": {func(s *Service) error {
			_, err := s.DetachRolePolicy(t.Context(), &iam.DetachRolePolicyInput{RoleName: aws.String("r"), PolicyArn: aws.String(p)})
			require.NoError(t, err)
			_, err = s.DeletePolicy(t.Context(), &iam.DeletePolicyInput{PolicyArn: aws.String(p)})
			return err
		}, "DeleteConflict", "more than one version"},
		"to delete the version in force": {func(s *Service) error {
			_, err := s.DeletePolicyVersion(t.Context(), &iam.DeletePolicyVersionInput{PolicyArn: aws.String(p), VersionId: aws.String("v1")})
			return err
		}, "DeleteConflict", "default version"},
		"to change a policy of AWS's": {func(s *Service) error {
			_, err := s.CreatePolicyVersion(t.Context(), &iam.CreatePolicyVersionInput{PolicyArn: aws.String(ssmManaged), PolicyDocument: aws.String(openDocument)})
			return err
		}, "AccessDenied", ssmManaged},
		"a sixth version": {func(s *Service) (err error) {
			for range 4 {
				_, err = s.CreatePolicyVersion(t.Context(), &iam.CreatePolicyVersionInput{PolicyArn: aws.String(p), PolicyDocument: aws.String(openDocument)})
			}
			return err
		}, "LimitExceeded", "5 versions"},
		"a second role in an instance profile": {func(s *Service) error {
			_, err := s.AddRoleToInstanceProfile(t.Context(), &iam.AddRoleToInstanceProfileInput{InstanceProfileName: aws.String("i"), RoleName: aws.String("r")})
			return err
		}, "LimitExceeded", "InstanceSessionsPerInstanceProfile"},
		"to delete an instance profile with a role": {func(s *Service) error {
			_, err := s.DeleteInstanceProfile(t.Context(), &iam.DeleteInstanceProfileInput{InstanceProfileName: aws.String("i")})
			return err
		}, "DeleteConflict", "remove roles"},
	} {
		t.Run(sentence, func(t *testing.T) {
			var api smithy.APIError
			require.ErrorAs(t, tc.call(furnished(t)), &api)
			assert.Equal(t, tc.code, api.ErrorCode())
			assert.Contains(t, api.ErrorMessage(), tc.message)
		})
	}
}

func TestAnAccountIsTheSameInEveryRegionAndApartFromOthers(t *testing.T) {
	s := furnished(t)
	get := func(account, region string) error {
		_, err := s.GetRole(wire.WithCaller(t.Context(), wire.Caller{Account: account, Region: region}), &iam.GetRoleInput{RoleName: aws.String("r")})
		return err
	}
	require.NoError(t, get("111122223333", "us-east-1"))
	require.ErrorContains(t, get("444455556666", "eu-west-1"), "NoSuchEntity")
}

func TestPoliciesInForceAreInlineAttachedAndTheBoundary(t *testing.T) {
	s := furnished(t)
	ctx := t.Context()
	const r = "arn:aws:iam::111122223333:role/r"
	read := authz.Request{Action: "ssm:GetParameter", Resource: "arn:aws:ssm:eu-west-1:111122223333:parameter/x"}
	logs := authz.Request{Action: "logs:PutLogEvents", Resource: "*"}
	assert.Equal(t, authz.Allowed, s.Evaluate(r, logs), "by p, which is attached")
	_, err := s.PutRolePermissionsBoundary(ctx, &iam.PutRolePermissionsBoundaryInput{RoleName: aws.String("r"), PermissionsBoundary: aws.String(ssmManaged)})
	require.NoError(t, err)
	assert.Equal(t, authz.OutsideTheBoundary, s.Evaluate(r, logs))
	assert.Equal(t, authz.Allowed, s.Evaluate(r, read))

	raw, err := s.Snapshot()
	require.NoError(t, err)
	s = newService()
	require.NoError(t, s.Restore(raw))
	assert.Equal(t, authz.OutsideTheBoundary, s.Evaluate(r, logs), "after a restart too")
	assert.Equal(t, authz.Allowed, s.Evaluate(r, read))
	got, err := s.Profile("111122223333", "arn:aws:iam::111122223333:instance-profile/i")
	require.NoError(t, err)
	assert.Equal(t, "r", got.Role)
	_, err = s.PutRolePolicy(ctx, &iam.PutRolePolicyInput{RoleName: aws.String("r"), PolicyName: aws.String("x"), PolicyDocument: aws.String(
		`{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"ssm:*","Resource":"*"}}`)})
	require.NoError(t, err)
	assert.Equal(t, authz.Denied, s.Evaluate(r, read), "an explicit deny wins")

	_, err = s.DeleteRolePermissionsBoundary(ctx, &iam.DeleteRolePermissionsBoundaryInput{RoleName: aws.String("r")})
	require.NoError(t, err)
	_, err = s.DetachRolePolicy(ctx, &iam.DetachRolePolicyInput{RoleName: aws.String("r"), PolicyArn: aws.String("arn:aws:iam::111122223333:policy/p")})
	require.NoError(t, err)
	assert.Equal(t, authz.NotAllowed, s.Evaluate(r, logs))
	_, err = s.AttachRolePolicy(ctx, &iam.AttachRolePolicyInput{RoleName: aws.String("r"), PolicyArn: aws.String(lambdaManaged)})
	require.NoError(t, err)
	assert.Equal(t, authz.Allowed, s.Evaluate(r, logs), "by a policy of AWS's")
}

func TestAStateOfBeforeIAMHadAnAPIIsTaken(t *testing.T) {
	s := newService()
	require.NoError(t, s.Restore([]byte(`[{"ARN":"arn:aws:iam::111122223333:role/x","Policies":{}}]`)))
	assert.Empty(t, s.Roles())
	require.ErrorContains(t, s.Restore([]byte(`{"111122223333":{}}`)), "missing")
}

func TestPermissionsThatAllowedNothingAreTold(t *testing.T) {
	const r = "arn:aws:iam::111122223333:role/x"
	s := newService()
	require.NoError(t, s.PutRole(Role{ARN: r, Policies: map[string]json.RawMessage{"calls": []byte(`{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":["ec2:StopInstances","ec2:StartInstances"],"Resource":["arn:aws:ec2:*:111122223333:instance/*","arn:aws:ec2:*:111122223333:volume/*"]},
		{"Effect":"Deny","Action":"s3:*","Resource":"*"},
		{"Effect":"Allow","NotAction":"ec2:*","Resource":"*"}]}`)}}))
	require.Equal(t, authz.Allowed, s.Evaluate(r, authz.Request{Action: "ec2:StopInstances", Resource: instance}))
	require.Equal(t, authz.Allowed, s.Evaluate(r, authz.Request{Action: "ec2:StopInstances", Resource: instance}))
	require.Equal(t, authz.Denied, s.Evaluate(r, authz.Request{Action: "s3:GetObject", Resource: object}))
	on := func(action, kind string, n int) Use {
		return Use{Permission{"calls", authz.Grant{Statement: 1, Action: action, Resource: "arn:aws:ec2:*:111122223333:" + kind + "/*"}}, n}
	}
	assert.Equal(t, []Use{
		on("ec2:StopInstances", "instance", 2), on("ec2:StopInstances", "volume", 0),
		on("ec2:StartInstances", "instance", 0), on("ec2:StartInstances", "volume", 0),
		{Permission{"calls", authz.Grant{Statement: 3, Action: "!ec2:*", Resource: "*"}}, 0},
	}, s.Uses(r), "what a denied request would have used is not used")
	assert.Nil(t, s.Uses(r+"y"))
}
