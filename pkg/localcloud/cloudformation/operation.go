package cloudformation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/aws/smithy-go"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// revision is the target state of a stack.
type revision struct {
	Body         string
	Parameters   []types.Parameter
	Tags         []types.Tag
	Capabilities []types.Capability
	RoleARN      string
	Hidden       []string // names of parameters with NoEcho
}

// operation is a running change of a stack. Only its own goroutine uses it.
type operation struct {
	s     *Service
	st    *stack
	ctx   context.Context
	token string

	template *template
	values   map[string]any // of parameters
	revision revision
	needs    map[string][]string
	journal  []step
	garbage  []*deployed // removed at the end
}

// step is a completed change that a rollback must undo.
type step struct {
	id       string
	old, new *deployed // old is nil for a creation; new is the attempted state
	replaced bool
}

// context returns the context for the service's calls on behalf of a stack.
func (s *Service) context(ctx context.Context, id identity) context.Context {
	return wire.WithCaller(ctx, wire.Caller{Account: id.Account, Region: id.Region, ARN: wire.RootARN(id.Account, id.Region)})
}

// evaluator returns the evaluator of a template for a stack. reference returns
// the values of resources.
func (s *Service) evaluator(ctx context.Context, t *template, id identity, values map[string]any, reference func(id, attribute string) (any, error)) *evaluator {
	return &evaluator{
		template: t, stack: id, parameters: values, reference: reference,
		export: func(name string) (string, error) {
			return s.exportValue(scope.Key{Account: id.Account, Region: id.Region}, name)
		},
		zones: func() ([]string, error) { return zonesOf(ctx, s.cfg.Services.EC2) },
	}
}

// reference returns a deployed resource's Ref or attribute. The caller does not
// hold s.mu.
func (o *operation) reference(id, attribute string) (any, error) {
	o.s.mu.Lock()
	defer o.s.mu.Unlock()
	r, ok := o.st.Resources[id]
	if !ok {
		return nil, invalid("Template error: the template refers to the resource %s, which is not in the stack because its condition is false", id)
	}
	return r.get(attribute)
}

func (r *deployed) get(attribute string) (any, error) {
	if attribute == "" {
		return r.PhysicalID, nil
	}
	value, ok := r.Attributes[attribute]
	if !ok {
		return nil, invalid("Template error: resource %s does not support attribute type %s in Fn::GetAtt (the embedded AWS has: %s)", r.LogicalID, attribute, strings.Join(sortedKeys(r.Attributes), ", "))
	}
	return value, nil
}

func (o *operation) locked(f func()) {
	o.s.mu.Lock()
	defer o.s.mu.Unlock()
	f()
}

func (o *operation) status(status types.StackStatus, reason string) {
	o.locked(func() { o.s.setStatus(o.st, o.token, status, reason) })
}

// report records an event of a resource and sets the resource's status.
func (o *operation) report(r *deployed, status types.ResourceStatus, reason string) {
	o.locked(func() {
		r.Status, r.Reason, r.Changed = status, reason, o.s.cfg.Clock.Now()
		properties, _ := json.Marshal(r.Properties) // decoded from JSON, so it can be encoded
		o.s.event(o.st, o.token, types.StackEvent{
			LogicalResourceId: aws.String(r.LogicalID), PhysicalResourceId: aws.String(r.PhysicalID), ResourceType: aws.String(r.Type),
			ResourceStatus: status, ResourceStatusReason: scope.Optional(reason), ResourceProperties: aws.String(string(properties)),
		})
	})
}

// reason returns the text about an error in an event.
func reason(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return fmt.Sprintf("%s (%s)", api.ErrorMessage(), api.ErrorCode())
	}
	return err.Error()
}

// wanted returns the ids of the resources whose conditions are true, in the
// order of creation.
func (o *operation) wanted(e *evaluator) ([]string, error) {
	var ids []string
	for _, id := range sortedKeys(o.template.Resources) {
		if name := o.template.Resources[id].Condition; name != "" {
			holds, err := e.named(name)
			if err != nil {
				return nil, err
			}
			if !holds {
				continue
			}
		}
		ids = append(ids, id)
	}
	return order(o.needs, ids)
}

// apply brings the stack to the state of the template. If a resource fails,
// failed is its id and err its error.
func (o *operation) apply() (failed string, err error) {
	e := o.s.evaluator(o.ctx, o.template, o.st.identity, o.values, o.reference)
	ids, err := o.wanted(e)
	if err != nil {
		return "", err
	}
	for _, id := range ids {
		if err := o.ctx.Err(); err != nil {
			return id, err
		}
		if err := o.bring(e, id); err != nil {
			return id, err
		}
	}
	o.locked(func() {
		for _, id := range sortedKeys(o.st.Resources) {
			if !slices.Contains(ids, id) {
				o.garbage = append(o.garbage, o.st.Resources[id])
			}
		}
	})
	return "", o.setOutputs(e, ids)
}

// bring creates or updates one resource.
func (o *operation) bring(e *evaluator, id string) error {
	source := o.template.Resources[id]
	var old *deployed
	o.locked(func() { old = o.st.Resources[id] })
	made := &deployed{
		LogicalID: id, Type: source.Type, DeletionPolicy: source.DeletionPolicy, UpdateReplacePolicy: source.UpdateReplacePolicy, Needs: o.needs[id],
	}
	properties, err := o.propertiesOf(e, source)
	if err != nil {
		o.report(made, failedStatus(old), reason(err))
		return err
	}
	made.Properties = properties
	if old == nil {
		return o.create(made, nil)
	}
	k := o.s.kinds[source.Type]
	changed := changedNames(old.Properties, properties)
	switch {
	case old.Type != source.Type || k.mustReplace(changed):
		return o.create(made, old)
	case len(changed) > 0:
		return o.update(k, made, old)
	}
	kept := *old
	kept.DeletionPolicy, kept.UpdateReplacePolicy, kept.Needs = made.DeletionPolicy, made.UpdateReplacePolicy, made.Needs
	o.journal = append(o.journal, step{id: id, old: old, new: nil})
	o.locked(func() { o.st.Resources[id] = &kept })
	return nil
}

func failedStatus(old *deployed) types.ResourceStatus {
	if old == nil {
		return types.ResourceStatusCreateFailed
	}
	return types.ResourceStatusUpdateFailed
}

func (o *operation) propertiesOf(e *evaluator, r resource) (map[string]any, error) {
	value, err := e.value(map[string]any(r.Properties))
	if err != nil {
		return nil, err
	}
	properties, _ := value.(map[string]any)
	return properties, nil
}

// changedNames returns the names of properties that differ.
func changedNames(before, after map[string]any) []string {
	var out []string
	for _, name := range sortedKeys(union(before, after)) {
		a, _ := json.Marshal(before[name]) // decoded from JSON, so it can be encoded
		b, _ := json.Marshal(after[name])
		if string(a) != string(b) {
			out = append(out, name)
		}
	}
	return out
}

func union(a, b map[string]any) map[string]any {
	out := maps.Clone(a)
	if out == nil {
		out = map[string]any{}
	}
	maps.Copy(out, b)
	return out
}

// target returns the input of a resource's provider.
func (o *operation) target(r *deployed) *target {
	t := &target{stack: o.st.identity, stackTags: map[string]string{}, LogicalID: r.LogicalID, PhysicalID: r.PhysicalID, Attributes: maps.Clone(r.Attributes)}
	for _, tag := range o.revision.Tags {
		t.stackTags[aws.ToString(tag.Key)] = aws.ToString(tag.Value)
	}
	return t
}

// create makes a resource, as a replacement of old if old is not nil.
func (o *operation) create(made, old *deployed) error {
	begin, done, failed := types.ResourceStatusCreateInProgress, types.ResourceStatusCreateComplete, types.ResourceStatusCreateFailed
	because := ""
	if old != nil {
		begin, done, failed = types.ResourceStatusUpdateInProgress, types.ResourceStatusUpdateComplete, types.ResourceStatusUpdateFailed
		because = "Requested update requires the creation of a new physical resource; hence creating one."
	}
	o.report(made, begin, because)
	t := o.target(made)
	err := o.s.kinds[made.Type].create(o.ctx, t, made.Properties)
	made.PhysicalID, made.Attributes = t.PhysicalID, t.Attributes
	if err == nil && old != nil && old.PhysicalID == made.PhysicalID {
		made.PhysicalID = ""
		err = invalid("CloudFormation cannot update a stack when a custom-named resource requires replacing. Rename %s and update the stack again.", old.PhysicalID)
	}
	if made.PhysicalID != "" { // it exists, even if the creation failed
		o.report(made, begin, "Resource creation Initiated")
		o.journal = append(o.journal, step{id: made.LogicalID, old: old, new: made, replaced: old != nil})
	}
	if err != nil {
		o.report(made, failed, reason(err))
		if old == nil {
			o.locked(func() { o.st.Resources[made.LogicalID] = made })
		}
		return err
	}
	o.locked(func() { o.st.Resources[made.LogicalID] = made })
	o.report(made, done, "")
	if old != nil {
		o.garbage = append(o.garbage, old)
	}
	return nil
}

func (o *operation) update(k kind, made, old *deployed) error {
	made.PhysicalID, made.Attributes = old.PhysicalID, old.Attributes
	o.report(made, types.ResourceStatusUpdateInProgress, "")
	o.journal = append(o.journal, step{id: made.LogicalID, old: old, new: made})
	t := o.target(made)
	err := k.update(o.ctx, t, old.Properties, made.Properties)
	if err != nil {
		o.report(made, types.ResourceStatusUpdateFailed, reason(err))
		return err
	}
	made.PhysicalID, made.Attributes = t.PhysicalID, t.Attributes
	o.locked(func() { o.st.Resources[made.LogicalID] = made })
	o.report(made, types.ResourceStatusUpdateComplete, "")
	return nil
}

// setOutputs computes the outputs and exports.
func (o *operation) setOutputs(e *evaluator, ids []string) error {
	var outputs []types.Output
	for _, name := range sortedKeys(o.template.Outputs) {
		out, shown, err := e.output(name, o.template.Outputs[name])
		if err != nil {
			return err
		}
		if !shown {
			continue
		}
		if out.ExportName != nil {
			if err := o.s.checkExport(o.st, *out.ExportName); err != nil {
				return err
			}
		}
		outputs = append(outputs, out)
	}
	var imports []string
	for _, id := range ids {
		imports = append(imports, e.imports(o.template.Resources[id].Properties)...)
	}
	o.locked(func() { o.st.Outputs, o.st.Imports = outputs, imports })
	return nil
}

// output computes one output; shown is false if its condition is false.
func (e *evaluator) output(name string, source output) (out types.Output, shown bool, err error) {
	if source.Condition != "" {
		if holds, err := e.named(source.Condition); err != nil || !holds {
			return out, false, err
		}
	}
	value, err := e.text(source.Value, "output "+name)
	if err != nil {
		return out, false, err
	}
	out = types.Output{OutputKey: aws.String(name), OutputValue: aws.String(value)}
	if text, err := textOf(source.Description, ""); err == nil {
		out.Description = aws.String(text)
	}
	if source.Export.Name != nil {
		export, err := e.text(source.Export.Name, "export of output "+name)
		if err != nil {
			return out, false, err
		}
		out.ExportName = aws.String(export)
	}
	return out, true, nil
}

// imports returns the names of exports that a value imports.
func (e *evaluator) imports(v any) []string {
	if name, argument, isCall := call(v); isCall && name == "Fn::ImportValue" {
		if text, err := e.text(argument, name); err == nil {
			return []string{text}
		}
	}
	var out []string
	switch v := v.(type) {
	case map[string]any:
		for _, key := range sortedKeys(v) {
			out = append(out, e.imports(v[key])...)
		}
	case []any:
		for _, element := range v {
			out = append(out, e.imports(element)...)
		}
	}
	return out
}

// discard removes a resource, unless its policy retains it. It reports whether
// the resource no longer belongs to the stack.
func (o *operation) discard(r *deployed, policy string) bool {
	if policy == "Retain" {
		o.report(r, types.ResourceStatusDeleteSkipped, "")
		return true
	}
	o.report(r, types.ResourceStatusDeleteInProgress, "")
	if r.PhysicalID != "" {
		t := o.target(r)
		if err := o.s.kinds[r.Type].remove(o.ctx, t, r.Properties); err != nil {
			o.report(r, types.ResourceStatusDeleteFailed, reason(err))
			return false
		}
	}
	o.report(r, types.ResourceStatusDeleteComplete, "")
	return true
}

// cleanUp removes resources that an update replaced or dropped, in reverse order
// of dependency. It gives up those that cannot be removed, as on AWS.
func (o *operation) cleanUp() {
	needs, byID := map[string][]string{}, map[string][]*deployed{}
	for _, r := range o.garbage {
		needs[r.LogicalID] = r.Needs
		byID[r.LogicalID] = append(byID[r.LogicalID], r)
	}
	ids, err := order(needs, sortedKeys(byID))
	if err != nil { // resources of two versions of a template may need each other
		ids = sortedKeys(byID)
	}
	for _, id := range slices.Backward(ids) {
		for _, r := range byID[id] {
			var current *deployed
			o.locked(func() { current = o.st.Resources[id] })
			policy := r.DeletionPolicy
			if current != r && current != nil {
				policy = r.UpdateReplacePolicy
			}
			o.discard(r, policy)
			o.locked(func() {
				if o.st.Resources[id] == r {
					delete(o.st.Resources, id)
				}
			})
		}
	}
	o.garbage = nil
}

// runCreate runs the creation of a stack.
func (s *Service) runCreate(o *operation, onFailure types.OnFailure) {
	failed, err := o.apply()
	if err == nil {
		o.locked(o.settle)
		o.status(types.StackStatusCreateComplete, "")
		return
	}
	because := failure(failed, err, "create")
	if onFailure == types.OnFailureDoNothing {
		o.status(types.StackStatusCreateFailed, because)
		return
	}
	o.status(types.StackStatusRollbackInProgress, because+" Rollback requested by user.")
	if left := o.removeAll(true); len(left) > 0 {
		o.status(types.StackStatusRollbackFailed, fmt.Sprintf("The following resource(s) failed to delete: [%s].", strings.Join(left, ", ")))
		return
	}
	if onFailure == types.OnFailureDelete {
		o.locked(func() { o.st.Deleted = s.cfg.Clock.Now() })
		o.status(types.StackStatusDeleteComplete, "")
		return
	}
	o.status(types.StackStatusRollbackComplete, "")
}

func failure(id string, err error, verb string) string {
	if id == "" {
		return reason(err) + "."
	}
	return fmt.Sprintf("The following resource(s) failed to %s: [%s].", verb, id)
}

// settle makes the revision the current state of the stack. The caller holds
// s.mu.
func (o *operation) settle() {
	st, r := o.st, o.revision
	st.Body, st.Description = r.Body, o.template.Description
	st.Parameters, st.Hidden, st.Tags, st.Capabilities = r.Parameters, r.Hidden, r.Tags, r.Capabilities
	if r.RoleARN != "" {
		st.RoleARN = r.RoleARN
	}
}

// removeAll removes the stack's resources, dependent ones first, and returns the
// ids that are left. creation is true in the rollback of a creation, which also
// removes resources with RetainExceptOnCreate.
func (o *operation) removeAll(creation bool) (left []string) {
	resources := map[string]*deployed{}
	o.locked(func() { maps.Copy(resources, o.st.Resources) })
	needs := map[string][]string{}
	for id, r := range resources {
		needs[id] = r.Needs
	}
	ids, err := order(needs, sortedKeys(resources))
	if err != nil {
		ids = sortedKeys(resources)
	}
	for _, id := range slices.Backward(ids) {
		inUse := slices.ContainsFunc(left, func(other string) bool { return slices.Contains(needs[other], id) })
		if inUse { // as on AWS, resources that a remaining one needs stay too
			left = append(left, id)
			continue
		}
		policy := resources[id].DeletionPolicy
		if policy == "RetainExceptOnCreate" {
			policy = "Retain"
			if creation {
				policy = "Delete"
			}
		}
		if !o.discard(resources[id], policy) {
			left = append(left, id)
			continue
		}
		o.locked(func() { delete(o.st.Resources, id) })
	}
	slices.Sort(left)
	return left
}

// runUpdate runs the update of a stack.
func (s *Service) runUpdate(o *operation, disableRollback bool) {
	var outputs []types.Output
	var imports []string
	o.locked(func() { outputs, imports = o.st.Outputs, o.st.Imports })
	failed, err := o.apply()
	if err == nil {
		o.locked(o.settle)
		o.status(types.StackStatusUpdateCompleteCleanupInProgress, "")
		o.cleanUp()
		o.status(types.StackStatusUpdateComplete, "")
		return
	}
	because := failure(failed, err, "update")
	if disableRollback {
		o.status(types.StackStatusUpdateFailed, because)
		return
	}
	o.status(types.StackStatusUpdateRollbackInProgress, because)
	o.garbage = nil
	o.locked(func() { o.st.Outputs, o.st.Imports = outputs, imports })
	if err := o.undo(); err != nil {
		o.status(types.StackStatusUpdateRollbackFailed, err.Error())
		return
	}
	o.status(types.StackStatusUpdateRollbackCompleteCleanupInProgress, "")
	for _, r := range o.garbage { // created by the failed update
		o.discard(r, "Delete")
	}
	o.status(types.StackStatusUpdateRollbackComplete, "")
}

// undo reverts the steps of the journal, the last one first.
func (o *operation) undo() error {
	for _, done := range slices.Backward(o.journal) {
		switch {
		case done.new == nil || done.replaced:
			o.locked(func() { o.st.Resources[done.id] = done.old })
		case done.old == nil:
			o.locked(func() { delete(o.st.Resources, done.id) })
		default:
			back := *done.old
			o.report(&back, types.ResourceStatusUpdateInProgress, "")
			t := o.target(done.new)
			if err := o.s.kinds[back.Type].update(o.ctx, t, done.new.Properties, back.Properties); err != nil {
				o.report(&back, types.ResourceStatusUpdateFailed, reason(err))
				//lint:ignore ST1005 CloudFormation's own text
				return fmt.Errorf("The following resource(s) failed to update: [%s].", done.id)
			}
			back.PhysicalID, back.Attributes = t.PhysicalID, t.Attributes
			o.locked(func() { o.st.Resources[done.id] = &back })
			o.report(&back, types.ResourceStatusUpdateComplete, "")
		}
		if done.new != nil && (done.old == nil || done.replaced) {
			o.garbage = append(o.garbage, done.new)
		}
	}
	// A creation that made nothing is not in the journal, but in the stack.
	o.locked(func() {
		for _, id := range sortedKeys(o.st.Resources) {
			if o.st.Resources[id].Status == types.ResourceStatusCreateFailed {
				delete(o.st.Resources, id)
			}
		}
	})
	return nil
}

// runDelete runs the deletion of a stack.
func (s *Service) runDelete(o *operation, retain []string) {
	o.locked(func() {
		for _, id := range retain {
			if r := o.st.Resources[id]; r != nil {
				r.DeletionPolicy = "Retain"
			}
		}
	})
	if left := o.removeAll(false); len(left) > 0 {
		o.status(types.StackStatusDeleteFailed, fmt.Sprintf("The following resource(s) failed to delete: [%s]. ", strings.Join(left, ", ")))
		return
	}
	o.locked(func() {
		o.st.Deleted, o.st.Outputs, o.st.Imports = s.cfg.Clock.Now(), nil, nil
		o.st.ChangeSets = nil
	})
	o.status(types.StackStatusDeleteComplete, "")
}
