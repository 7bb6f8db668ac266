package authz

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/texts"
)

// version is the version of the policy language. The older one, which also applies to a
// document without a Version, has no variables: ${aws:username} is plain text in it
// (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_version.html).
const (
	version = "2012-10-17"
	older   = "2008-10-17"
)

// Effect is the effect of a statement.
type Effect string

// The effects.
const (
	Allow Effect = "Allow"
	Deny  Effect = "Deny"
)

// Document is a policy of an identity or of a resource.
type Document struct{ Statements []Statement }

// Statement is a statement of a policy. Either Actions or NotActions is set. Either
// Resources or NotResources is set, except in the trust policy of a role, which is about
// the role itself. Either Principals or NotPrincipals is set in the policy of a resource,
// and neither in the policy of an identity.
type Statement struct {
	Sid                     string
	Effect                  Effect
	Principals              *Principals
	NotPrincipals           *Principals
	Actions, NotActions     []string
	Resources, NotResources []string
	Conditions              []Condition
}

// Condition is one key under one operator.
type Condition struct {
	operator operator
	Key      string // in lower case, except for the name of a tag
	Values   []string
}

// values is a list of strings in which true, false and numbers need no quotes.
type values []string

// UnmarshalJSON implements json.Unmarshaler.
func (v *values) UnmarshalJSON(raw []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var decoded any
	if err := decoder.Decode(&decoded); err != nil {
		return err
	}
	list, ok := decoded.([]any)
	if !ok {
		list = append(list, decoded)
	}
	for _, element := range list {
		switch element.(type) {
		case string, bool, json.Number:
			*v = append(*v, fmt.Sprint(element))
		default:
			return errors.New("a condition's values must be strings, numbers, true or false")
		}
	}
	return nil
}

// kind is the kind of a policy, which decides the elements of its statements.
type kind int

const (
	ofIdentity kind = iota // Resource, and no Principal
	ofResource             // Principal and Resource
	ofTrust                // Principal, and no Resource
)

// Parse reads the policy of an identity or a permissions boundary. It refuses elements
// that Evaluate does not implement.
func Parse(raw []byte) (Document, error) { return parse(raw, ofIdentity) }

// ParseResource reads the policy of a resource, such as a bucket.
func ParseResource(raw []byte) (Document, error) { return parse(raw, ofResource) }

// ParseTrust reads the trust policy of a role: who may assume it.
func ParseTrust(raw []byte) (Document, error) { return parse(raw, ofTrust) }

func parse(raw []byte, of kind) (Document, error) {
	var in struct {
		Version   string
		ID        string `json:"Id"`
		Statement json.RawMessage
	}
	if err := strict(raw, &in); err != nil {
		return Document{}, fmt.Errorf("policy document: %w", err)
	}
	if in.Version == "" {
		in.Version = older
	}
	if in.Version != version && in.Version != older {
		return Document{}, fmt.Errorf("policy document: Version is %q (allowed: %s, %s, or none, which means %s)", in.Version, version, older, older)
	}
	list := []json.RawMessage{in.Statement}
	if trimmed := bytes.TrimSpace(in.Statement); len(trimmed) == 0 || trimmed[0] == '[' {
		list = nil
		if err := json.Unmarshal(in.Statement, &list); err != nil || len(list) == 0 {
			return Document{}, errors.New("policy document: it has no statement")
		}
	}
	var out Document
	for i, element := range list {
		s, err := parseStatement(element, of, in.Version == older)
		if err != nil {
			return Document{}, fmt.Errorf("statement %d: %w", i+1, err)
		}
		out.Statements = append(out.Statements, s)
	}
	return out, nil
}

// strict decodes JSON and refuses unknown elements.
func strict(raw []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is text after the JSON document")
	}
	return nil
}

func parseStatement(raw []byte, of kind, withoutVariables bool) (Statement, error) {
	var in struct {
		Sid                     string
		Effect                  Effect
		Principal, NotPrincipal *Principals
		Action, NotAction       texts.List
		Resource, NotResource   texts.List
		Condition               map[string]map[string]values
	}
	if err := strict(raw, &in); err != nil {
		return Statement{}, err
	}
	if withoutVariables {
		asText(in.Resource)
		asText(in.NotResource)
		for _, byKey := range in.Condition {
			for _, list := range byKey {
				asText(list)
			}
		}
	}
	s := Statement{
		Sid: in.Sid, Effect: in.Effect, Principals: in.Principal, NotPrincipals: in.NotPrincipal,
		Actions: in.Action, NotActions: in.NotAction, Resources: in.Resource, NotResources: in.NotResource,
	}
	for _, check := range []func() error{func() error { return s.checkElements(of) }, s.checkActions, s.checkResources} {
		if err := check(); err != nil {
			return Statement{}, err
		}
	}
	for _, operatorName := range slices.Sorted(maps.Keys(in.Condition)) {
		for _, key := range slices.Sorted(maps.Keys(in.Condition[operatorName])) {
			c, err := parseCondition(operatorName, key, in.Condition[operatorName][key])
			if err != nil {
				return Statement{}, err
			}
			s.Conditions = append(s.Conditions, c)
		}
	}
	return s, nil
}

// checkElements checks which elements a statement has. Messages that begin with a
// capital letter are IAM's own.
func (s Statement) checkElements(of kind) error {
	principals, resources := s.Principals != nil || s.NotPrincipals != nil, len(s.Resources) > 0 || len(s.NotResources) > 0
	switch {
	case s.Effect != Allow && s.Effect != Deny:
		return fmt.Errorf("the effect is %q (allowed: %s, %s)", s.Effect, Allow, Deny)
	case (len(s.Actions) == 0) == (len(s.NotActions) == 0):
		return errors.New("one of Action and NotAction is required")
	case of == ofIdentity && principals:
		//lint:ignore ST1005 the sentence is IAM's
		return errors.New("Policy document should not specify a principal")
	case of != ofIdentity && (s.Principals == nil) == (s.NotPrincipals == nil):
		return errors.New("one of Principal and NotPrincipal is required")
	case s.NotPrincipals != nil && s.Effect == Allow:
		return errors.New("NotPrincipal with Allow would allow everybody else: it is supported only with Deny")
	case of == ofTrust && resources:
		//lint:ignore ST1005 the sentence is IAM's
		return errors.New("Has prohibited field Resource")
	case of == ofTrust:
		return nil
	case (len(s.Resources) == 0) == (len(s.NotResources) == 0):
		return errors.New("one of Resource and NotResource is required")
	}
	return nil
}

func (s Statement) checkActions() error {
	for _, action := range slices.Concat(s.Actions, s.NotActions) {
		if service, name, ok := strings.Cut(action, ":"); action != "*" && (!ok || service == "" || name == "" || strings.Contains(service, "*")) {
			return fmt.Errorf("%q is not an action: it must be <service>:<name> or *", action)
		}
	}
	return nil
}

func (s Statement) checkResources() error {
	for _, resource := range slices.Concat(s.Resources, s.NotResources) {
		if resource != "*" && strings.Count(resource, ":") < 5 {
			return fmt.Errorf("%q is not a resource: it must be an ARN or *", resource)
		}
		if err := checkVariables(resource); err != nil {
			return err
		}
	}
	return nil
}
