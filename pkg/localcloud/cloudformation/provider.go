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

// target is a resource that a provider works on.
type target struct {
	stack      identity
	stackTags  map[string]string
	LogicalID  string
	PhysicalID string // what Ref gives
	// Attributes are what GetAtt gives.
	Attributes map[string]any
}

// physicalName is the name of a resource that the template does not name: that
// of the stack and the resource, and something random.
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

// arn of something in the stack's account and region.
func (t *target) arn(service, rest string) string {
	return partition.ARN(service, t.stack.Region, t.stack.Account, rest)
}

// tag is a tag as most types have it.
type tag struct{ Key, Value string }

// tags are the stack's tags and the resource's own, which win.
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

// kind is how resources of a type are made.
type kind struct {
	model reflect.Type
	// replace are the properties of which a change makes a new resource.
	replace []string
	create  func(ctx context.Context, t *target, properties map[string]any) error
	update  func(ctx context.Context, t *target, before, after map[string]any) error
	remove  func(ctx context.Context, t *target, properties map[string]any) error
	// record says that the embedded AWS has no behaviour of this type; names are
	// its properties then.
	record bool
	names  []string
}

// changer are a type's functions, with the properties as a structure. A create
// that fails after it has made something has set PhysicalID.
type changer[P any] struct {
	create  func(ctx context.Context, t *target, p P) error
	update  func(ctx context.Context, t *target, before, after P) error // nil: any change replaces
	remove  func(ctx context.Context, t *target, p P) error             // nil: nothing is to be done
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

// mustReplace says whether a change of properties makes a new resource.
func (k kind) mustReplace(changed []string) bool {
	return len(changed) > 0 && k.update == nil ||
		slices.ContainsFunc(changed, func(name string) bool { return slices.Contains(k.replace, name) })
}

// ErrNotServed is in the chain of errors about types that the embedded AWS
// cannot make.
var ErrNotServed = errors.New("not served by the embedded AWS")

// check complains about the types and properties of a template that would be
// ignored, and names each resource.
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

// unknown are the properties that a type does not have.
func (k kind) unknown(properties map[string]any) []string {
	if k.record {
		return slices.DeleteFunc(sortedKeys(properties), func(name string) bool { return slices.Contains(k.names, name) })
	}
	return checkShape(properties, k.model, "")
}

// isMissing says whether the resource to remove does not exist.
func isMissing(err error) bool {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return false
	}
	code := api.ErrorCode()
	return strings.Contains(code, "NotFound") || strings.HasPrefix(code, "NoSuch") || strings.Contains(code, "NonExistentQueue") || strings.Contains(code, "QueueDoesNotExist") ||
		code == "StateMachineDoesNotExist"
}

// ignoreMissing is err, unless the resource to remove does not exist.
func ignoreMissing(err error) error {
	if isMissing(err) {
		return nil
	}
	return err
}

// randomName is n letters and digits in capitals, as CloudFormation appends.
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
