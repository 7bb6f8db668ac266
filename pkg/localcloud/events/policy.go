package events

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/authz"
	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/partition"
)

// policyBytes is the largest policy of a bus
// (https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutPermission.html).
const policyBytes = 10 << 10

// policyDocument is a policy by its statements, which are kept as they are.
type policyDocument struct {
	Version   string            `json:"Version"`
	Statement []json.RawMessage `json:"Statement"`
}

func parsePolicy(text string) (policyDocument, error) {
	d := policyDocument{Version: "2012-10-17"}
	if text == "" {
		return d, nil
	}
	return d, json.Unmarshal([]byte(text), &d)
}

// without takes the statements with an id out.
func (d policyDocument) without(id string) policyDocument {
	d.Statement = slices.DeleteFunc(d.Statement, func(raw json.RawMessage) bool {
		var s struct{ Sid string }
		return json.Unmarshal(raw, &s) == nil && s.Sid == id
	})
	return d
}

// PutPermission gives a bus a policy, or adds one statement to the one it has.
func (s *Service) PutPermission(ctx context.Context, in *eventbridge.PutPermissionInput, optFns ...func(*eventbridge.Options)) (*eventbridge.PutPermissionOutput, error) {
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := s.bus(at, aws.ToString(in.EventBusName))
	if err != nil {
		return nil, err
	}
	policy := aws.ToString(in.Policy)
	if policy == "" {
		if policy, err = withStatement(b, busARN(at, b.Name), in); err != nil {
			return nil, err
		}
	}
	switch _, err := authz.ParseResource([]byte(policy)); {
	case err != nil:
		return nil, wire.Errorf("ValidationException", "Parameter Policy is not valid. Reason: %s", err)
	case len(policy) > policyBytes:
		return nil, &types.PolicyLengthExceededException{Message: aws.String("The policy of an event bus has at most 10,240 bytes.")}
	}
	b.Policy = policy
	return &eventbridge.PutPermissionOutput{}, nil
}

// withStatement is a bus's policy with the statement of a call.
func withStatement(b *bus, arn string, in *eventbridge.PutPermissionInput) (string, error) {
	for _, given := range []struct {
		name  string
		value *string
	}{{"StatementId", in.StatementId}, {"Action", in.Action}, {"Principal", in.Principal}} {
		if aws.ToString(given.value) == "" {
			return "", wire.Errorf("ValidationException", "Parameter %s must be specified, unless Policy is.", given.name)
		}
	}
	var principal any = "*"
	if account := *in.Principal; account != "*" {
		principal = map[string]string{"AWS": partition.ARN("iam", "", account, "root")}
	}
	statement := map[string]any{"Sid": *in.StatementId, "Effect": "Allow", "Principal": principal, "Action": *in.Action, "Resource": arn}
	if c := in.Condition; c != nil {
		statement["Condition"] = map[string]any{aws.ToString(c.Type): map[string]string{aws.ToString(c.Key): aws.ToString(c.Value)}}
	}
	raw, err := json.Marshal(statement)
	if err != nil {
		return "", err
	}
	d, err := parsePolicy(b.Policy)
	if err != nil {
		return "", err
	}
	d = d.without(*in.StatementId)
	d.Statement = append(d.Statement, raw)
	text, err := json.Marshal(d)
	return string(text), err
}

// RemovePermission takes a statement, or all, out of a bus's policy.
func (s *Service) RemovePermission(ctx context.Context, in *eventbridge.RemovePermissionInput, optFns ...func(*eventbridge.Options)) (*eventbridge.RemovePermissionOutput, error) {
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := s.bus(at, aws.ToString(in.EventBusName))
	if err != nil {
		return nil, err
	}
	if in.RemoveAllPermissions {
		b.Policy = ""
		return &eventbridge.RemovePermissionOutput{}, nil
	}
	d, err := parsePolicy(b.Policy)
	if err != nil {
		return nil, err
	}
	before := len(d.Statement)
	if d = d.without(aws.ToString(in.StatementId)); len(d.Statement) == before {
		return nil, notFound("Statement with the provided id does not exist.")
	}
	b.Policy = ""
	if len(d.Statement) > 0 {
		text, err := json.Marshal(d)
		if err != nil {
			return nil, err
		}
		b.Policy = string(text)
	}
	return &eventbridge.RemovePermissionOutput{}, nil
}

// resourcePolicy is the policy of the bus of an ARN. Rules have none.
func (s *Service) resourcePolicy(arn string) (authz.ResourcePolicy, error) {
	if !isBus(arn) || strings.Contains(arn, "*") {
		return authz.ResourcePolicy{}, nil
	}
	on := addressOf(arn)
	s.mu.Lock()
	text := ""
	if b, ok := s.at(on.Key)[on.Bus]; ok {
		text = b.Policy
	}
	s.mu.Unlock()
	return authz.PolicyFrom(text)
}
