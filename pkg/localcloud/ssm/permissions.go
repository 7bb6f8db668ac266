package ssm

import (
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"github.com/ami-factory/ami-factory/pkg/localcloud/authz"
)

// Permissions returns the permissions that calls of Systems Manager need.
func (s *Service) Permissions() authz.Permissions {
	rules := map[string]authz.Rule{
		"DeleteParameter":     onParameter("DeleteParameter", func(in *ssm.DeleteParameterInput) *string { return in.Name }),
		"GetParameter":        onParameter("GetParameter", func(in *ssm.GetParameterInput) *string { return in.Name }),
		"GetParameterHistory": onParameter("GetParameterHistory", func(in *ssm.GetParameterHistoryInput) *string { return in.Name }),
		"GetParameters": authz.Of(func(c authz.Call, in *ssm.GetParametersInput) []authz.Request {
			var out []authz.Request
			for _, name := range in.Names {
				out = append(out, authz.Request{Action: "ssm:GetParameters", Resource: parameterFor(c, name)})
			}
			return out
		}),
		"PutParameter": authz.Of(putParameterRequests),
		"SendCommand":  authz.Of(s.sendCommandRequests),
	}
	rules["CreateDocument"] = authz.Of(func(c authz.Call, in *ssm.CreateDocumentInput) []authz.Request {
		pairs := map[string][]string{}
		for _, t := range in.Tags {
			authz.AddTag(pairs, "aws:RequestTag/", t.Key, t.Value)
		}
		resource := documentFor(c, aws.ToString(in.Name))
		out := []authz.Request{{Action: "ssm:CreateDocument", Resource: resource, Context: authz.Context(pairs)}}
		if len(in.Tags) > 0 {
			out = append(out, authz.Request{Action: "ssm:AddTagsToResource", Resource: resource, Context: authz.Context(pairs)})
		}
		return out
	})
	rules["DeleteDocument"] = onDocument("DeleteDocument", func(in *ssm.DeleteDocumentInput) *string { return in.Name })
	rules["DescribeDocument"] = onDocument("DescribeDocument", func(in *ssm.DescribeDocumentInput) *string { return in.Name })
	rules["GetDocument"] = onDocument("GetDocument", func(in *ssm.GetDocumentInput) *string { return in.Name })
	rules["UpdateDocument"] = onDocument("UpdateDocument", func(in *ssm.UpdateDocumentInput) *string { return in.Name })
	rules["UpdateDocumentDefaultVersion"] = onDocument("UpdateDocumentDefaultVersion", func(in *ssm.UpdateDocumentDefaultVersionInput) *string { return in.Name })
	for _, operation := range []string{"DescribeInstanceInformation", "DescribeParameters", "GetCommandInvocation", "ListCommands"} {
		rules[operation] = authz.OnAll("ssm:" + operation)
	}
	return authz.Permissions{Service: "ssm", Rules: rules}
}

// onParameter returns the rule for an operation on one parameter.
func onParameter[I any](operation string, name func(*I) *string) authz.Rule {
	return authz.On("ssm:"+operation, func(c authz.Call, in *I) string { return parameterFor(c, aws.ToString(name(in))) })
}

// parameterFor returns the ARN of the parameter that a reference names. The ARN of a
// public parameter has no account.
func parameterFor(c authz.Call, ref string) string {
	if strings.HasPrefix(ref, "arn:") {
		return ref
	}
	name, _, _ := strings.Cut(strings.TrimPrefix(ref, "/"), ":") // without a version or label
	if strings.HasPrefix(name, "aws/service/") {
		return c.ARN("ssm", "", "parameter/"+name)
	}
	return c.ARN("ssm", c.Caller.Account, "parameter/"+name)
}

// putParameterRequests also asks for permission to tag, and to describe images if the
// value is the id of an image
// (https://docs.aws.amazon.com/systems-manager/latest/userguide/parameter-store-ec2-aliases.html).
func putParameterRequests(c authz.Call, in *ssm.PutParameterInput) []authz.Request {
	pairs := map[string][]string{}
	for _, t := range in.Tags {
		authz.AddTag(pairs, "aws:RequestTag/", t.Key, t.Value)
	}
	resource := parameterFor(c, aws.ToString(in.Name))
	out := []authz.Request{{Action: "ssm:PutParameter", Resource: resource, Context: authz.Context(pairs)}}
	if len(in.Tags) > 0 {
		out = append(out, authz.Request{Action: "ssm:AddTagsToResource", Resource: resource, Context: authz.Context(pairs)})
	}
	if aws.ToString(in.DataType) == imageDataType {
		out = append(out, authz.Request{Action: "ec2:DescribeImages", Resource: "*"})
	}
	return out
}

// onDocument returns the rule for an operation on one document.
func onDocument[I any](operation string, name func(*I) *string) authz.Rule {
	return authz.On("ssm:"+operation, func(c authz.Call, in *I) string { return documentFor(c, aws.ToString(name(in))) })
}

// documentFor returns the ARN of a document. The ARN of AWS's own documents has no account.
func documentFor(c authz.Call, ref string) string {
	if strings.HasPrefix(ref, "arn:") {
		return ref
	}
	owner := c.Caller.Account
	if strings.HasPrefix(ref, "AWS-") || strings.HasPrefix(ref, "Amazon") {
		owner = ""
	}
	return c.ARN("ssm", owner, "document/"+ref)
}

// sendCommandRequests asks for permission for the document and for each instance. The
// instances of Targets are not known yet, so the requests for them have no tags.
func (s *Service) sendCommandRequests(c authz.Call, in *ssm.SendCommandInput) []authz.Request {
	const action = "ssm:SendCommand"
	document := documentFor(c, aws.ToString(in.DocumentName))
	out := []authz.Request{{Action: action, Resource: document}}
	for _, id := range in.InstanceIds {
		pairs := map[string][]string{}
		for key, value := range s.cfg.InstanceTags(c.Context, id) {
			pairs["ssm:resourceTag/"+key], pairs["aws:ResourceTag/"+key] = []string{value}, []string{value}
		}
		out = append(out, authz.Request{Action: action, Resource: c.ARN("ec2", c.Caller.Account, "instance/"+id), Context: authz.Context(pairs)})
	}
	if len(in.Targets) > 0 {
		out = append(out, authz.Request{Action: action, Resource: c.ARN("ec2", c.Caller.Account, "instance/*")})
	}
	return out
}
