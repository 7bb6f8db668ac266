package cloudformation

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/aws/smithy-go"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/partition"
)

// target is a resource that a provider creates, updates or removes.
type target struct {
	stack      identity
	stackTags  map[string]string
	LogicalID  string
	PhysicalID string // the value of Ref
	// Attributes holds the values of GetAtt.
	Attributes map[string]any
}

// physicalName returns a name for a resource without one in the template: names
// of stack and resource, and a random part.
func (t *target) physicalName(most int) string {
	const random = 12
	stack, id := t.stack.Name, t.LogicalID
	if over := len(stack) + len(id) + random + 2 - most; over > 0 {
		cut := min(over, max(0, len(id)-8))
		id = id[:len(id)-cut]
		if over -= cut; over > 0 {
			stack = stack[:max(1, len(stack)-over)]
		}
	}
	return stack + "-" + id + "-" + randomName(random)
}

func (t *target) set(attribute string, value any) {
	if t.Attributes == nil {
		t.Attributes = map[string]any{}
	}
	t.Attributes[attribute] = value
}

// arn returns an ARN in the stack's account and region.
func (t *target) arn(service, rest string) string {
	return partition.ARN(service, t.stack.Region, t.stack.Account, rest)
}

// tag is a tag in the form that most types use.
type tag struct{ Key, Value string }

// tags returns the stack's tags and the resource's own, which take precedence.
func (t *target) tags(own []tag) map[string]string {
	out := maps.Clone(t.stackTags)
	if out == nil {
		out = map[string]string{}
	}
	for _, o := range own {
		out[o.Key] = o.Value
	}
	return out
}

// kind describes how resources of a type are made.
type kind struct {
	model reflect.Type
	// replace lists the properties whose change replaces the resource.
	replace []string
	create  func(ctx context.Context, t *target, properties map[string]any) error
	update  func(ctx context.Context, t *target, before, after map[string]any) error
	remove  func(ctx context.Context, t *target, properties map[string]any) error
	// record is true for a type without behaviour; names are then its properties.
	record bool
	names  []string
}

// changer holds a type's functions, with the properties as a struct. If create
// fails after it has made something, it has set PhysicalID.
type changer[P any] struct {
	create  func(ctx context.Context, t *target, p P) error
	update  func(ctx context.Context, t *target, before, after P) error // nil if any change replaces the resource
	remove  func(ctx context.Context, t *target, p P) error             // nil if removal needs no call
	replace []string
}

// of makes a kind.
func of[P any](c changer[P]) kind {
	k := kind{model: reflect.TypeFor[P](), replace: c.replace}
	k.create = func(ctx context.Context, t *target, properties map[string]any) error {
		p, err := read[P](properties)
		if err != nil {
			return err
		}
		return c.create(ctx, t, p)
	}
	if c.update != nil {
		k.update = func(ctx context.Context, t *target, before, after map[string]any) error {
			old, err := read[P](before)
			if err != nil {
				return err
			}
			p, err := read[P](after)
			if err != nil {
				return err
			}
			return c.update(ctx, t, old, p)
		}
	}
	k.remove = func(ctx context.Context, t *target, properties map[string]any) error {
		if c.remove == nil {
			return nil
		}
		p, err := read[P](properties)
		if err != nil {
			return err
		}
		return c.remove(ctx, t, p)
	}
	return k
}

func read[P any](properties map[string]any) (P, error) {
	var p P
	if properties == nil {
		properties = map[string]any{}
	}
	err := decode(properties, reflect.ValueOf(&p).Elem(), "")
	return p, err
}

// mustReplace reports whether a change of properties replaces the resource.
func (k kind) mustReplace(changed []string) bool {
	return len(changed) > 0 && k.update == nil ||
		slices.ContainsFunc(changed, func(name string) bool { return slices.Contains(k.replace, name) })
}

// ErrNotServed is in the chain of errors about types that the embedded AWS
// cannot make.
var ErrNotServed = errors.New("not served by the embedded AWS")

// check lists the types and properties of a template that are not served, with
// the names of their resources.
func (s *Service) check(t *template) []string {
	var out []string
	for _, id := range sortedKeys(t.Resources) {
		r := t.Resources[id]
		k, ok := s.kinds[r.Type]
		if !ok {
			out = append(out, fmt.Sprintf("%s: the type %s is %v", id, r.Type, ErrNotServed))
			continue
		}
		for _, path := range k.unknown(r.Properties) {
			out = append(out, fmt.Sprintf("%s (%s): the property %s is %v", id, r.Type, path, ErrNotServed))
		}
	}
	return out
}

// unknown returns the properties that a type does not have.
func (k kind) unknown(properties map[string]any) []string {
	if k.record {
		return slices.DeleteFunc(sortedKeys(properties), func(name string) bool { return slices.Contains(k.names, name) })
	}
	return checkShape(properties, k.model, "")
}

// isMissing reports whether the resource to remove does not exist.
func isMissing(err error) bool {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return false
	}
	code := api.ErrorCode()
	return strings.Contains(code, "NotFound") || strings.HasPrefix(code, "NoSuch") || strings.Contains(code, "NonExistentQueue") || strings.Contains(code, "QueueDoesNotExist") ||
		code == "StateMachineDoesNotExist" || code == "InvalidDocument"
}

// ignoreMissing returns err, or nil if the resource to remove does not exist.
func ignoreMissing(err error) error {
	if isMissing(err) {
		return nil
	}
	return err
}

// randomName returns n capital letters and digits, as CloudFormation appends
// them.
func randomName(n int) string {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	raw := []byte(scope.Hex(2 * n))
	out := make([]byte, n)
	for i := range out {
		out[i] = letters[(hexDigit(raw[2*i])<<4|hexDigit(raw[2*i+1]))&31]
	}
	return string(out)
}

func hexDigit(c byte) int {
	if c <= '9' {
		return int(c - '0')
	}
	return int(c-'a') + 10
}
