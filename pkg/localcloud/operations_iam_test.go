package localcloud_test

import (
	"net/url"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestEveryOperationOfIAMOverTheWire(t *testing.T) {
	c := listening(t)
	cfg, calls := recorded(c)
	client := iam.NewFromConfig(cfg)
	ctx := t.Context()
	const (
		trust    = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}]}`
		stop     = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"ec2:StopInstances","Resource":"*"}]}`
		managed  = "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore"
		ofLambda = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"
	)
	name := aws.String("builder")
	made := must[*iam.CreateRoleOutput](t)(client.CreateRole(ctx, &iam.CreateRoleInput{
		RoleName: name, Path: aws.String("/factory/"), AssumeRolePolicyDocument: aws.String(trust), Tags: []iamtypes.Tag{{Key: aws.String("a"), Value: aws.String("b")}},
	})).Role
	assert.Equal(t, "arn:aws:iam::"+account+":role/factory/builder", *made.Arn)
	assert.WithinDuration(t, time.Now(), *made.CreateDate, time.Minute)
	_, err := client.CreateRole(ctx, &iam.CreateRoleInput{RoleName: name, AssumeRolePolicyDocument: aws.String(trust)})
	var exists *iamtypes.EntityAlreadyExistsException
	require.ErrorAs(t, err, &exists, "the SDK knows the error by its type")
	must[*iam.UpdateAssumeRolePolicyOutput](t)(client.UpdateAssumeRolePolicy(ctx, &iam.UpdateAssumeRolePolicyInput{RoleName: name, PolicyDocument: aws.String(trust)}))
	must[*iam.UpdateRoleOutput](t)(client.UpdateRole(ctx, &iam.UpdateRoleInput{RoleName: name, Description: aws.String("builds"), MaxSessionDuration: aws.Int32(7200)}))
	must[*iam.TagRoleOutput](t)(client.TagRole(ctx, &iam.TagRoleInput{RoleName: name, Tags: []iamtypes.Tag{{Key: aws.String("c"), Value: aws.String("d")}}}))
	must[*iam.UntagRoleOutput](t)(client.UntagRole(ctx, &iam.UntagRoleInput{RoleName: name, TagKeys: []string{"a"}}))
	assert.Equal(t, "d", *must[*iam.ListRoleTagsOutput](t)(client.ListRoleTags(ctx, &iam.ListRoleTagsInput{RoleName: name})).Tags[0].Value)

	policy := must[*iam.CreatePolicyOutput](t)(client.CreatePolicy(ctx, &iam.CreatePolicyInput{PolicyName: aws.String("stop"), PolicyDocument: aws.String(stop)})).Policy.Arn
	second := must[*iam.CreatePolicyVersionOutput](t)(client.CreatePolicyVersion(ctx, &iam.CreatePolicyVersionInput{PolicyArn: policy, PolicyDocument: aws.String(stop), SetAsDefault: true})).PolicyVersion
	assert.Equal(t, "v2", *second.VersionId)
	must[*iam.SetDefaultPolicyVersionOutput](t)(client.SetDefaultPolicyVersion(ctx, &iam.SetDefaultPolicyVersionInput{PolicyArn: policy, VersionId: aws.String("v1")}))
	assert.Len(t, must[*iam.ListPolicyVersionsOutput](t)(client.ListPolicyVersions(ctx, &iam.ListPolicyVersionsInput{PolicyArn: policy})).Versions, 2)
	must[*iam.DeletePolicyVersionOutput](t)(client.DeletePolicyVersion(ctx, &iam.DeletePolicyVersionInput{PolicyArn: policy, VersionId: aws.String("v2")}))
	must[*iam.PutRolePermissionsBoundaryOutput](t)(client.PutRolePermissionsBoundary(ctx, &iam.PutRolePermissionsBoundaryInput{RoleName: name, PermissionsBoundary: policy}))
	must[*iam.AttachRolePolicyOutput](t)(client.AttachRolePolicy(ctx, &iam.AttachRolePolicyInput{RoleName: name, PolicyArn: aws.String(managed)}))
	must[*iam.AttachRolePolicyOutput](t)(client.AttachRolePolicy(ctx, &iam.AttachRolePolicyInput{RoleName: name, PolicyArn: aws.String(ofLambda)}))
	attached := must[*iam.ListAttachedRolePoliciesOutput](t)(client.ListAttachedRolePolicies(ctx, &iam.ListAttachedRolePoliciesInput{RoleName: name})).AttachedPolicies
	assert.Equal(t, "AWSLambdaBasicExecutionRole", *attached[1].PolicyName)
	must[*iam.PutRolePolicyOutput](t)(client.PutRolePolicy(ctx, &iam.PutRolePolicyInput{RoleName: name, PolicyName: aws.String("own"), PolicyDocument: aws.String(stop)}))
	assert.Equal(t, []string{"own"}, must[*iam.ListRolePoliciesOutput](t)(client.ListRolePolicies(ctx, &iam.ListRolePoliciesInput{RoleName: name})).PolicyNames)
	inline := must[*iam.GetRolePolicyOutput](t)(client.GetRolePolicy(ctx, &iam.GetRolePolicyInput{RoleName: name, PolicyName: aws.String("own")}))
	decoded, err := url.PathUnescape(*inline.PolicyDocument)
	require.NoError(t, err)
	assert.Equal(t, stop, decoded)

	role := must[*iam.GetRoleOutput](t)(client.GetRole(ctx, &iam.GetRoleInput{RoleName: name})).Role
	assert.Equal(t, "builds", *role.Description)
	assert.EqualValues(t, 7200, *role.MaxSessionDuration)
	assert.Equal(t, *policy, *role.PermissionsBoundary.PermissionsBoundaryArn)
	assert.Len(t, must[*iam.ListRolesOutput](t)(client.ListRoles(ctx, &iam.ListRolesInput{PathPrefix: aws.String("/factory/")})).Roles, 1)
	assert.EqualValues(t, 1, *must[*iam.GetPolicyOutput](t)(client.GetPolicy(ctx, &iam.GetPolicyInput{PolicyArn: aws.String(managed)})).Policy.AttachmentCount)
	version := must[*iam.GetPolicyVersionOutput](t)(client.GetPolicyVersion(ctx, &iam.GetPolicyVersionInput{PolicyArn: aws.String(managed), VersionId: aws.String("v2")})).PolicyVersion
	assert.Contains(t, *version.Document, "ssmmessages%3ACreateControlChannel")
	assert.Len(t, must[*iam.ListPoliciesOutput](t)(client.ListPolicies(ctx, &iam.ListPoliciesInput{Scope: iamtypes.PolicyScopeTypeLocal})).Policies, 1)
	decided := must[*iam.SimulatePrincipalPolicyOutput](t)(client.SimulatePrincipalPolicy(ctx, &iam.SimulatePrincipalPolicyInput{
		PolicySourceArn: role.Arn, ActionNames: []string{"ec2:StopInstances", "ssm:GetDocument"},
	})).EvaluationResults
	assert.Equal(t, iamtypes.PolicyEvaluationDecisionTypeAllowed, decided[0].EvalDecision)
	assert.Equal(t, iamtypes.PolicyEvaluationDecisionTypeImplicitDeny, decided[1].EvalDecision, "the boundary does not allow it")

	profile := aws.String("builders")
	must[*iam.CreateInstanceProfileOutput](t)(client.CreateInstanceProfile(ctx, &iam.CreateInstanceProfileInput{InstanceProfileName: profile}))
	must[*iam.AddRoleToInstanceProfileOutput](t)(client.AddRoleToInstanceProfile(ctx, &iam.AddRoleToInstanceProfileInput{InstanceProfileName: profile, RoleName: name}))
	assert.Equal(t, *role.Arn, *must[*iam.GetInstanceProfileOutput](t)(client.GetInstanceProfile(ctx, &iam.GetInstanceProfileInput{InstanceProfileName: profile})).InstanceProfile.Roles[0].Arn)
	assert.Len(t, must[*iam.ListInstanceProfilesOutput](t)(client.ListInstanceProfiles(ctx, &iam.ListInstanceProfilesInput{})).InstanceProfiles, 1)
	assert.Empty(t, must[*iam.ListInstanceProfilesOutput](t)(client.ListInstanceProfiles(ctx, &iam.ListInstanceProfilesInput{PathPrefix: aws.String("/elsewhere/")})).InstanceProfiles)
	assert.Len(t, must[*iam.ListInstanceProfilesForRoleOutput](t)(client.ListInstanceProfilesForRole(ctx, &iam.ListInstanceProfilesForRoleInput{RoleName: name})).InstanceProfiles, 1)
	_, err = client.DeleteRole(ctx, &iam.DeleteRoleInput{RoleName: name})
	var conflict *iamtypes.DeleteConflictException
	require.ErrorAs(t, err, &conflict)
	must[*iam.RemoveRoleFromInstanceProfileOutput](t)(client.RemoveRoleFromInstanceProfile(ctx, &iam.RemoveRoleFromInstanceProfileInput{InstanceProfileName: profile, RoleName: name}))
	must[*iam.DeleteInstanceProfileOutput](t)(client.DeleteInstanceProfile(ctx, &iam.DeleteInstanceProfileInput{InstanceProfileName: profile}))
	must[*iam.DetachRolePolicyOutput](t)(client.DetachRolePolicy(ctx, &iam.DetachRolePolicyInput{RoleName: name, PolicyArn: aws.String(managed)}))
	must[*iam.DetachRolePolicyOutput](t)(client.DetachRolePolicy(ctx, &iam.DetachRolePolicyInput{RoleName: name, PolicyArn: aws.String(ofLambda)}))
	must[*iam.DeleteRolePolicyOutput](t)(client.DeleteRolePolicy(ctx, &iam.DeleteRolePolicyInput{RoleName: name, PolicyName: aws.String("own")}))
	must[*iam.DeleteRolePermissionsBoundaryOutput](t)(client.DeleteRolePermissionsBoundary(ctx, &iam.DeleteRolePermissionsBoundaryInput{RoleName: name}))
	must[*iam.DeleteRoleOutput](t)(client.DeleteRole(ctx, &iam.DeleteRoleInput{RoleName: name}))
	must[*iam.DeletePolicyOutput](t)(client.DeletePolicy(ctx, &iam.DeletePolicyInput{PolicyArn: policy}))
	_, err = client.GetRole(ctx, &iam.GetRoleInput{RoleName: name})
	var none *iamtypes.NoSuchEntityException
	require.ErrorAs(t, err, &none)
	assert.Empty(t, calls.missing(c.IAM.Wire()))
}
