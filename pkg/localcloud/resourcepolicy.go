package localcloud

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/ami-factory/ami-factory/pkg/localcloud/iam"
)

// policyOn is the policy of a resource, and whose it is. Resources of services
// that have none belong to the account in their ARN, and no other account may
// use them.
func (c *Cloud) policyOn(p iam.Principal, resource string) *iam.ResourcePolicy {
	parts := strings.SplitN(resource, ":", 6)
	if len(parts) < 6 {
		return &iam.ResourcePolicy{Owner: p.Account}
	}
	out := &iam.ResourcePolicy{Owner: parts[4]}
	text := ""
	switch parts[2] {
	case "lambda":
		text, _, _ = c.Lambda.Policy(resource)
	case "sns":
		text, _ = c.SNS.Policy(resource)
	case "sqs":
		text, _ = c.SQS.Policy(resource)
	case "s3":
		bucket, _, _ := strings.Cut(parts[5], "/")
		text, out.Owner, _ = c.S3.Policy(bucket)
	case "kms":
		// https://docs.aws.amazon.com/kms/latest/developerguide/key-policies.html
		out.MustDelegate = true
		text, out.Document.Statements = c.keyPolicy(resource)
	}
	if out.Owner == "" { // such as an image, which has no account in its ARN
		out.Owner = p.Account
	}
	if text == "" {
		return out
	}
	parsed, err := iam.ParseResource([]byte(text))
	if err != nil {
		// Policies are read when they are put. One that was kept by an earlier program
		// and cannot be read lets nobody in.
		c.cfg.Logger.Error("the policy of a resource cannot be read", "resource", resource, "error", err)
		return &iam.ResourcePolicy{Owner: out.Owner, MustDelegate: true}
	}
	out.Document.Statements = append(out.Document.Statements, parsed.Statements...)
	return out
}

// keyPolicy is the policy of a key, and its grants as statements. A grant with
// constraints counts for calls with the encryption context that it names, which
// no call has that is decided on here.
func (c *Cloud) keyPolicy(arn string) (policy string, granted []iam.Statement) {
	policy, grants, ok := c.KMS.Policy(arn)
	if !ok {
		return "", nil
	}
	for _, g := range grants {
		if g.Constraints != nil {
			continue
		}
		var actions []string
		for _, o := range g.Operations {
			actions = append(actions, "kms:"+string(o))
		}
		granted = append(granted, iam.Statement{
			Effect: iam.Allow, Principals: grantee(aws.ToString(g.GranteePrincipal)), Actions: actions, Resources: []string{arn},
		})
	}
	return policy, granted
}

func grantee(name string) *iam.Principals {
	if isService(name) {
		return &iam.Principals{Services: []string{name}}
	}
	return &iam.Principals{AWS: []string{name}}
}

// checkBucketPolicy says what is wrong with a bucket's policy.
func checkBucketPolicy(bucket, policy string) error {
	parsed, err := iam.ParseResource([]byte(policy))
	if err != nil {
		return err
	}
	own := "arn:aws:s3:::" + bucket
	for _, s := range parsed.Statements {
		for _, resource := range append(append([]string(nil), s.Resources...), s.NotResources...) {
			if resource != own && !strings.HasPrefix(resource, own+"/") {
				raw, _ := json.Marshal(resource)                          // strings marshal
				return fmt.Errorf("Policy has invalid resource: %s", raw) //nolint:staticcheck
			}
		}
	}
	return nil
}
