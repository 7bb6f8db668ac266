package localcloud

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	sdks3 "github.com/aws/aws-sdk-go-v2/service/s3"
	sdksfn "github.com/aws/aws-sdk-go-v2/service/sfn"
	sdksns "github.com/aws/aws-sdk-go-v2/service/sns"
	sdkssm "github.com/aws/aws-sdk-go-v2/service/ssm"
	sdksts "github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/ami-factory/ami-factory/pkg/localcloud/iam"
	"github.com/ami-factory/ami-factory/pkg/localcloud/s3"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// A rule says what an operation asks of IAM: which actions, on which resources,
// under which condition keys. The facts are those of the Service Authorization
// Reference (https://docs.aws.amazon.com/service-authorization/latest/reference/).
type rule func(a asker, input any) ([]iam.Request, error)

// asker is a call that is to be decided on.
type asker struct {
	c   *Cloud
	ctx context.Context
	who wire.Caller
}

// rules by service and operation. What is not here is refused to roles.
func rules() map[string]rule {
	out := map[string]rule{
		"events:PutEvents":    of(asker.putEvents),
		"lambda:DELETE":       lambdaRequest,
		"lambda:GET":          lambdaRequest,
		"lambda:Invoke":       invokeFunction,
		"lambda:POST":         lambdaRequest,
		"lambda:PUT":          lambdaRequest,
		"s3:DELETE":           s3Request,
		"s3:GET":              s3Request,
		"s3:HEAD":             s3Request,
		"s3:POST":             s3Request,
		"s3:PUT":              s3Request,
		"sns:Publish":         of(asker.publish),
		"ssm:DeleteParameter": of(asker.deleteParameter),
		"ssm:GetParameter":    of(asker.getParameter),
		"ssm:GetParameters":   of(asker.getParameters),
		"ssm:GetParameterHistory": of(func(a asker, in *sdkssm.GetParameterHistoryInput) []iam.Request {
			return []iam.Request{{Action: "ssm:GetParameterHistory", Resource: a.parameter(in.Name)}}
		}),
		"ssm:PutParameter": of(asker.putParameter),
		"ssm:SendCommand":  of(asker.sendCommand),
		"states:DescribeExecution": of(func(_ asker, in *sdksfn.DescribeExecutionInput) []iam.Request {
			return []iam.Request{{Action: "states:DescribeExecution", Resource: aws.ToString(in.ExecutionArn)}}
		}),
		"states:ListExecutions": of(func(_ asker, in *sdksfn.ListExecutionsInput) []iam.Request {
			return []iam.Request{{Action: "states:ListExecutions", Resource: aws.ToString(in.StateMachineArn)}}
		}),
		"states:StartExecution": of(func(_ asker, in *sdksfn.StartExecutionInput) []iam.Request {
			return []iam.Request{{Action: "states:StartExecution", Resource: aws.ToString(in.StateMachineArn)}}
		}),
		// The role's trust policy has a say in this, which AssumeRole asks itself: the
		// services of this process assume roles too.
		"sts:AssumeRole": of(func(asker, *sdksts.AssumeRoleInput) []iam.Request { return nil }),
		// Whoever has a role may ask who he is: it takes no permission.
		"sts:GetCallerIdentity": of(func(asker, *sdksts.GetCallerIdentityInput) []iam.Request { return nil }),
	}
	// Calls that are allowed on everything or not at all.
	for _, operation := range []string{"DescribeInstanceInformation", "GetCommandInvocation", "ListCommands"} {
		out["ssm:"+operation] = onAll("ssm:" + operation)
	}
	addReadRules(out)
	addEC2Rules(out)
	addPassingRules(out)
	addKeyRules(out)
	addIAMRules(out)
	addMessageRules(out)
	addDeploymentRules(out)
	return out
}

// of makes a rule of a function for the operation's input.
func of[I any](ask func(asker, *I) []iam.Request) rule {
	return func(a asker, input any) ([]iam.Request, error) {
		in, ok := input.(*I)
		if !ok {
			return nil, fmt.Errorf("its input is %T", input)
		}
		return ask(a, in), nil
	}
}

func onAll(action string) rule {
	return func(asker, any) ([]iam.Request, error) { return []iam.Request{{Action: action, Resource: "*"}}, nil }
}

// invokeFunction is for callers within this process: state machines.
func invokeFunction(_ asker, input any) ([]iam.Request, error) {
	arn, ok := input.(string)
	if !ok {
		return nil, errors.New("a function's ARN is expected")
	}
	return []iam.Request{{Action: "lambda:InvokeFunction", Resource: arn}}, nil
}

func (a asker) arn(service, account, rest string) string {
	return "arn:aws:" + service + ":" + a.who.Region + ":" + account + ":" + rest
}

func (a asker) publish(in *sdksns.PublishInput) []iam.Request {
	return []iam.Request{{Action: "sns:Publish", Resource: aws.ToString(in.TopicArn)}}
}

func (a asker) putEvents(in *eventbridge.PutEventsInput) []iam.Request {
	var out []iam.Request
	for _, e := range in.Entries {
		bus := aws.ToString(e.EventBusName)
		switch {
		case bus == "":
			bus = a.arn("events", a.who.Account, "event-bus/default")
		case !strings.HasPrefix(bus, "arn:"):
			bus = a.arn("events", a.who.Account, "event-bus/"+bus)
		}
		out = append(out, iam.Request{Action: "events:PutEvents", Resource: bus, Context: iam.Context(map[string][]string{"events:source": {aws.ToString(e.Source)}})})
	}
	return out
}

// parameter is the ARN of what a reference means. Public parameters have no
// account.
func (a asker) parameter(ref *string) string {
	name := aws.ToString(ref)
	if strings.HasPrefix(name, "arn:") {
		return name
	}
	name, _, _ = strings.Cut(strings.TrimPrefix(name, "/"), ":") // a version or label
	if strings.HasPrefix(name, "aws/service/") {
		return a.arn("ssm", "", "parameter/"+name)
	}
	return a.arn("ssm", a.who.Account, "parameter/"+name)
}

func (a asker) getParameter(in *sdkssm.GetParameterInput) []iam.Request {
	return []iam.Request{{Action: "ssm:GetParameter", Resource: a.parameter(in.Name)}}
}

func (a asker) getParameters(in *sdkssm.GetParametersInput) []iam.Request {
	var out []iam.Request
	for i := range in.Names {
		out = append(out, iam.Request{Action: "ssm:GetParameters", Resource: a.parameter(&in.Names[i])})
	}
	return out
}

func (a asker) deleteParameter(in *sdkssm.DeleteParameterInput) []iam.Request {
	return []iam.Request{{Action: "ssm:DeleteParameter", Resource: a.parameter(in.Name)}}
}

// putParameter asks for the tags too, and for images where the value is one's id
// (https://docs.aws.amazon.com/systems-manager/latest/userguide/parameter-store-ec2-aliases.html).
func (a asker) putParameter(in *sdkssm.PutParameterInput) []iam.Request {
	pairs := map[string][]string{}
	for _, t := range in.Tags {
		addTag(pairs, "aws:RequestTag/", t.Key, t.Value)
	}
	resource := a.parameter(in.Name)
	out := []iam.Request{{Action: "ssm:PutParameter", Resource: resource, Context: iam.Context(pairs)}}
	if len(in.Tags) > 0 {
		out = append(out, iam.Request{Action: "ssm:AddTagsToResource", Resource: resource, Context: iam.Context(pairs)})
	}
	if aws.ToString(in.DataType) == "aws:ec2:image" {
		out = append(out, iam.Request{Action: "ec2:DescribeImages", Resource: "*"})
	}
	return out
}

// sendCommand asks for the document and for each instance. Targets, of which
// nothing is known yet, have no tags.
func (a asker) sendCommand(in *sdkssm.SendCommandInput) []iam.Request {
	const action = "ssm:SendCommand"
	document := aws.ToString(in.DocumentName)
	if !strings.HasPrefix(document, "arn:") {
		owner := a.who.Account
		if strings.HasPrefix(document, "AWS-") || strings.HasPrefix(document, "Amazon") {
			owner = ""
		}
		document = a.arn("ssm", owner, "document/"+document)
	}
	out := []iam.Request{{Action: action, Resource: document}}
	for _, id := range in.InstanceIds {
		pairs := map[string][]string{}
		for key, value := range a.tagsOf(id) {
			pairs["ssm:resourceTag/"+key], pairs["aws:ResourceTag/"+key] = []string{value}, []string{value}
		}
		out = append(out, iam.Request{Action: action, Resource: a.ec2ARN(id), Context: iam.Context(pairs)})
	}
	if len(in.Targets) > 0 {
		out = append(out, iam.Request{Action: action, Resource: a.arn("ec2", a.who.Account, "instance/*")})
	}
	return out
}

func addTag(pairs map[string][]string, prefix string, key, value *string) {
	pairs[prefix+aws.ToString(key)] = []string{aws.ToString(value)}
	pairs["aws:TagKeys"] = append(pairs["aws:TagKeys"], aws.ToString(key))
}

// s3Request decides on reading, writing and listing objects, signed in the
// header or in the address; the signature is S3's to verify.
func s3Request(a asker, input any) ([]iam.Request, error) {
	r, ok := input.(*http.Request)
	if !ok {
		return nil, fmt.Errorf("its input is %T", input)
	}
	bucket, key := s3.Address(r)
	list := iam.Request{Action: "s3:ListBucket", Resource: "arn:aws:s3:::" + bucket}
	if bucket == "" {
		return nil, errors.New("no bucket is named")
	}
	if request, ok := bucketReadRequest(r, bucket, key); ok {
		return []iam.Request{request}, nil
	}
	if request, ok := multipartRequest(r, bucket, key); ok {
		return []iam.Request{request}, nil
	}
	if r.Method == http.MethodPost {
		return nil, errors.New("roles may upload in parts by POST, and nothing else")
	}
	if request, ok := bucketPolicyRequest(r, bucket, key); ok {
		return []iam.Request{request}, nil
	}
	if r.Method == http.MethodDelete {
		return nil, errors.New("roles delete nothing")
	}
	known := []string{"x-id", "partNumber"}
	for query, action := range map[string]string{"versioning": "s3:GetBucketVersioning", "publicAccessBlock": "s3:GetBucketPublicAccessBlock"} {
		if key == "" && r.Method == http.MethodGet && r.URL.Query().Has(query) && unknownParameter(r, []string{"x-id", query}) == "" {
			return []iam.Request{{Action: action, Resource: "arn:aws:s3:::" + bucket}}, nil
		}
	}
	if key == "" {
		if r.Method == http.MethodPut {
			return nil, errors.New("roles make no buckets")
		}
		known = []string{"x-id", "list-type", "prefix", "delimiter", "max-keys", "continuation-token", "start-after", "encoding-type", "fetch-owner"}
	}
	if name := unknownParameter(r, known); name != "" {
		return nil, fmt.Errorf("the embedded AWS does not know what permissions ?%s takes", name)
	}
	if key == "" {
		return []iam.Request{list}, nil
	}
	object := iam.Request{Action: "s3:GetObject", Resource: "arn:aws:s3:::" + bucket + "/" + key}
	if r.Method == http.MethodPut {
		for _, header := range []string{"X-Amz-Copy-Source", "X-Amz-Tagging", "X-Amz-Acl"} {
			if r.Header.Get(header) != "" {
				return nil, fmt.Errorf("the embedded AWS does not know what permissions the header %s takes", header)
			}
		}
		object.Action = "s3:PutObject"
		return []iam.Request{object}, nil
	}
	// That there is no such key is told to those only who may list them.
	if _, err := a.c.S3.HeadObject(a.ctx, &sdks3.HeadObjectInput{Bucket: &bucket, Key: &key}); err != nil {
		return []iam.Request{object, list}, nil
	}
	return []iam.Request{object}, nil
}

// bucketPolicyRequest is what a request for a bucket's policy asks for.
func bucketPolicyRequest(r *http.Request, bucket, key string) (iam.Request, bool) {
	verb, ok := map[string]string{http.MethodGet: "Get", http.MethodPut: "Put", http.MethodDelete: "Delete"}[r.Method]
	if !ok || key != "" || !r.URL.Query().Has("policy") || unknownParameter(r, []string{"x-id", "policy"}) != "" {
		return iam.Request{}, false
	}
	return iam.Request{Action: "s3:" + verb + "BucketPolicy", Resource: "arn:aws:s3:::" + bucket}, true
}

// unknownParameter is one of the query's that is neither known nor of the
// signature.
func unknownParameter(r *http.Request, known []string) string {
	for name := range r.URL.Query() {
		ok := strings.HasPrefix(name, "X-Amz-") || strings.HasPrefix(name, "response-")
		for _, k := range known {
			ok = ok || name == k
		}
		if !ok {
			return name
		}
	}
	return ""
}
