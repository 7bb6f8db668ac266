package localcloud

import (
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdkcfn "github.com/aws/aws-sdk-go-v2/service/cloudformation"

	"github.com/ami-factory/ami-factory/pkg/localcloud/iam"
)

// cloudFormationPrincipal is CloudFormation, as roles trust it.
const cloudFormationPrincipal = "cloudformation.amazonaws.com"

// addDeploymentRules adds those of CloudFormation
// (https://docs.aws.amazon.com/service-authorization/latest/reference/list_awscloudformation.html).
// What it makes for a stack, it makes as the account's root user: whether the
// stack's role may, is not asked.
func addDeploymentRules(out map[string]rule) {
	add := func(operation string, r rule) { out["cloudformation:"+operation] = r }
	add("CreateStack", of(func(a asker, in *sdkcfn.CreateStackInput) []iam.Request {
		return append(a.stack("CreateStack", in.StackName), passingToCloudFormation(in.RoleARN)...)
	}))
	add("UpdateStack", of(func(a asker, in *sdkcfn.UpdateStackInput) []iam.Request {
		return append(a.stack("UpdateStack", in.StackName), passingToCloudFormation(in.RoleARN)...)
	}))
	add("DeleteStack", of(func(a asker, in *sdkcfn.DeleteStackInput) []iam.Request {
		return append(a.stack("DeleteStack", in.StackName), passingToCloudFormation(in.RoleARN)...)
	}))
	add("CreateChangeSet", of(func(a asker, in *sdkcfn.CreateChangeSetInput) []iam.Request {
		return append(a.stack("CreateChangeSet", in.StackName), passingToCloudFormation(in.RoleARN)...)
	}))
	add("DescribeChangeSet", onStack("DescribeChangeSet", func(in *sdkcfn.DescribeChangeSetInput) *string { return in.StackName }))
	add("ExecuteChangeSet", onStack("ExecuteChangeSet", func(in *sdkcfn.ExecuteChangeSetInput) *string { return in.StackName }))
	add("DeleteChangeSet", onStack("DeleteChangeSet", func(in *sdkcfn.DeleteChangeSetInput) *string { return in.StackName }))
	add("ListChangeSets", onStack("ListChangeSets", func(in *sdkcfn.ListChangeSetsInput) *string { return in.StackName }))
	add("DescribeStacks", onStack("DescribeStacks", func(in *sdkcfn.DescribeStacksInput) *string { return in.StackName }))
	add("DescribeEvents", onStack("DescribeEvents", func(in *sdkcfn.DescribeEventsInput) *string { return in.StackName }))
	add("DescribeStackEvents", onStack("DescribeStackEvents", func(in *sdkcfn.DescribeStackEventsInput) *string { return in.StackName }))
	add("DescribeStackResource", onStack("DescribeStackResource", func(in *sdkcfn.DescribeStackResourceInput) *string { return in.StackName }))
	add("DescribeStackResources", onStack("DescribeStackResources", func(in *sdkcfn.DescribeStackResourcesInput) *string { return in.StackName }))
	add("GetTemplate", onStack("GetTemplate", func(in *sdkcfn.GetTemplateInput) *string { return in.StackName }))
	add("GetTemplateSummary", onStack("GetTemplateSummary", func(in *sdkcfn.GetTemplateSummaryInput) *string { return in.StackName }))
	add("ListStackResources", onStack("ListStackResources", func(in *sdkcfn.ListStackResourcesInput) *string { return in.StackName }))
	add("UpdateTerminationProtection", onStack("UpdateTerminationProtection", func(in *sdkcfn.UpdateTerminationProtectionInput) *string { return in.StackName }))
	for _, operation := range []string{"ListExports", "ListStacks", "ValidateTemplate"} {
		add(operation, onAll("cloudformation:"+operation))
	}
}

func onStack[I any](action string, name func(*I) *string) rule {
	return of(func(a asker, in *I) []iam.Request { return a.stack(action, name(in)) })
}

// stack asks for an action on a stack; without one, on all. The id of a stack
// that is yet to be made is not known.
func (a asker) stack(action string, name *string) []iam.Request {
	ref := aws.ToString(name)
	switch {
	case ref == "":
		ref = "*"
	case !strings.HasPrefix(ref, "arn:"):
		arn := a.arn("cloudformation", a.who.Account, "stack/"+ref+"/*")
		if found, err := a.c.CloudFormation.DescribeStacks(a.ctx, &sdkcfn.DescribeStacksInput{StackName: name}); err == nil && len(found.Stacks) == 1 {
			arn = aws.ToString(found.Stacks[0].StackId)
		}
		ref = arn
	}
	return []iam.Request{{Action: "cloudformation:" + action, Resource: ref}}
}

func passingToCloudFormation(role *string) []iam.Request {
	if aws.ToString(role) == "" {
		return nil
	}
	return []iam.Request{{
		Action: "iam:PassRole", Resource: *role, Context: iam.Context(map[string][]string{"iam:PassedToService": {cloudFormationPrincipal}}),
	}}
}

// bucketReadRequest is what a request for where a bucket is, or how it encrypts,
// asks for.
func bucketReadRequest(r *http.Request, bucket, key string) (iam.Request, bool) {
	if r.Method != http.MethodGet || key != "" {
		return iam.Request{}, false
	}
	for parameter, action := range map[string]string{"location": "s3:GetBucketLocation", "encryption": "s3:GetEncryptionConfiguration"} {
		if r.URL.Query().Has(parameter) && unknownParameter(r, []string{"x-id", parameter}) == "" {
			return iam.Request{Action: action, Resource: "arn:aws:s3:::" + bucket}, true
		}
	}
	return iam.Request{}, false
}
