package cloudformation

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/google/uuid"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/partition"
)

// knownAfterApply takes the place of a value in a change set that is only known
// after its execution.
const knownAfterApply = "{{changeSet:KNOWN_AFTER_APPLY}}"

const noChanges = "The submitted information didn't contain changes. Submit different information to create a change set."

// mostExecuted is the number of executed change sets of a stack that are kept
// for describes.
const mostExecuted = 100

// changeSet is a proposed change of a stack.
type changeSet struct {
	ARN, Name, Description string
	Type                   types.ChangeSetType
	Status                 types.ChangeSetStatus
	Reason                 string
	Execution              types.ExecutionStatus
	Created                time.Time
	Revision               revision
	OnFailure              types.OnStackFailure
	Problems               []string // of the template
	Changes                []types.Change
	Config                 *types.DeploymentConfig
	Nested                 bool // IncludeNestedStacks
}

func (c *changeSet) cutOff() {
	if c.Execution == types.ExecutionStatusExecuteInProgress {
		c.Execution = types.ExecutionStatusExecuteFailed
	}
}

// changeSet finds a change set by name or ARN. The caller holds s.mu.
func (s *Service) changeSet(k scope.Key, stackRef, ref *string) (*changeSet, *stack, error) {
	notFound := &types.ChangeSetNotFoundException{Message: aws.String(fmt.Sprintf("ChangeSet [%s] does not exist", aws.ToString(ref)))}
	for _, st := range slices.Backward(s.stacks[k]) {
		if stackRef != nil && st.ARN != *stackRef && st.Name != *stackRef {
			continue
		}
		for _, c := range st.ChangeSets {
			if c.ARN == aws.ToString(ref) || stackRef != nil && c.Name == aws.ToString(ref) {
				return c, st, nil
			}
		}
		for _, c := range slices.Backward(st.Executed) {
			if c.ARN == aws.ToString(ref) || stackRef != nil && c.Name == aws.ToString(ref) {
				return c, st, nil
			}
		}
	}
	if stackRef == nil && !strings.HasPrefix(aws.ToString(ref), "arn:") {
		return nil, nil, invalid("StackName must be specified if ChangeSetName is not specified as an ARN.")
	}
	return nil, nil, notFound
}

// CreateChangeSet determines how a template would change a stack. The change set
// reports problems of the template.
func (s *Service) CreateChangeSet(ctx context.Context, in *cloudformation.CreateChangeSetInput, optFns ...func(*cloudformation.Options)) (*cloudformation.CreateChangeSetOutput, error) {
	k := scope.KeyOf(s.caller(ctx, optFns))
	if in.ChangeSetType == types.ChangeSetTypeImport || aws.ToBool(in.ImportExistingResources) || len(in.ResourcesToImport) > 0 {
		return nil, invalid("the embedded AWS does not import resources")
	}
	if in.DeploymentMode != "" {
		return nil, invalid("the embedded AWS does not serve the deployment mode %s", in.DeploymentMode)
	}
	st, err := s.forChangeSet(k, in)
	if err != nil {
		return nil, err
	}
	var t *template
	if aws.ToBool(in.UsePreviousTemplate) {
		t, err = parseTemplate(st.Body)
	} else {
		t, err = s.read(ctx, in.TemplateBody, in.TemplateURL)
	}
	if err != nil {
		return nil, s.withdraw(k, st, err)
	}
	c := &changeSet{
		ARN:  partition.ARN("cloudformation", k.Region, k.Account, "changeSet/"+aws.ToString(in.ChangeSetName)+"/"+uuid.NewString()),
		Name: aws.ToString(in.ChangeSetName), Description: aws.ToString(in.Description), Type: in.ChangeSetType, Created: s.cfg.Clock.Now(),
		OnFailure: in.OnStackFailure, Config: in.DeploymentConfig, Nested: aws.ToBool(in.IncludeNestedStacks),
	}
	s.propose(ctx, st, c, t, in)
	s.mu.Lock()
	defer s.mu.Unlock()
	if st.ChangeSets == nil {
		st.ChangeSets = map[string]*changeSet{}
	}
	if _, taken := st.ChangeSets[c.Name]; taken {
		return nil, &types.AlreadyExistsException{Message: aws.String(fmt.Sprintf("ChangeSet %s already exists for stack %s", c.Name, st.ARN))}
	}
	st.ChangeSets[c.Name] = c
	return &cloudformation.CreateChangeSetOutput{Id: aws.String(c.ARN), StackId: aws.String(st.ARN)}, nil
}

// forChangeSet returns the stack of a change set: for CREATE, a new one in the
// state REVIEW_IN_PROGRESS.
func (s *Service) forChangeSet(k scope.Key, in *cloudformation.CreateChangeSetInput) (*stack, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if in.ChangeSetType == types.ChangeSetTypeCreate {
		st, err := s.add(k, aws.ToString(in.StackName), in.NotificationARNs)
		if err != nil {
			return nil, invalid("Stack [%s] already exists and cannot be created again with the changeSet [%s].", aws.ToString(in.StackName), aws.ToString(in.ChangeSetName))
		}
		if st.Status == "" {
			s.setStatus(st, aws.ToString(in.ClientToken), types.StackStatusReviewInProgress, "User Initiated")
		}
		return st, nil
	}
	st, err := s.find(k, aws.ToString(in.StackName))
	if err != nil {
		return nil, invalid("Stack [%s] does not exist", aws.ToString(in.StackName))
	}
	return st, st.updatable()
}

// withdraw removes a stack that was made for a change set that could not be
// created.
func (s *Service) withdraw(k scope.Key, st *stack, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st.Status == types.StackStatusReviewInProgress && len(st.ChangeSets) == 0 {
		s.stacks[k] = slices.DeleteFunc(s.stacks[k], func(o *stack) bool { return o == st })
	}
	return err
}

// propose fills a change set with its changes.
func (s *Service) propose(ctx context.Context, st *stack, c *changeSet, t *template, in *cloudformation.CreateChangeSetInput) {
	failed := func(reason string) {
		c.Status, c.Reason, c.Execution = types.ChangeSetStatusFailed, reason, types.ExecutionStatusUnavailable
	}
	c.Revision = revision{Body: t.Body, Tags: in.Tags, Capabilities: in.Capabilities, RoleARN: aws.ToString(in.RoleARN)}
	c.Problems = s.check(t)
	o, err := s.plan(ctx, st, t, in.Parameters, in.Tags, in.Capabilities, in.RoleARN, in.ClientToken)
	if err != nil {
		failed(reason(err))
		return
	}
	c.Revision = o.revision
	if c.Changes, err = o.changes(); err != nil {
		failed(reason(err))
		return
	}
	if len(c.Changes) == 0 && !o.changesElse() {
		failed(noChanges)
		return
	}
	c.Status, c.Execution = types.ChangeSetStatusCreateComplete, types.ExecutionStatusAvailable
}

// changesElse reports whether an operation changes anything other than
// resources.
func (o *operation) changesElse() bool {
	o.s.mu.Lock()
	body, tags, parameters := o.st.Body, o.st.Tags, o.st.Parameters
	o.s.mu.Unlock()
	if !sameTags(tags, o.revision.Tags) || !reflect.DeepEqual(textsOf(parameters), textsOf(o.revision.Parameters)) {
		return true
	}
	before, err := parseTemplate(body)
	if err != nil {
		return true
	}
	a, b := *before, *o.template
	a.Body, b.Body = "", ""
	return !reflect.DeepEqual(a, b)
}

func textsOf(parameters []types.Parameter) map[string]string {
	out := map[string]string{}
	for _, p := range parameters {
		out[aws.ToString(p.ParameterKey)] = aws.ToString(p.ParameterValue) + "\n" + aws.ToString(p.ResolvedValue)
	}
	return out
}

func sameTags(a, b []types.Tag) bool {
	of := func(tags []types.Tag) map[string]string {
		out := map[string]string{}
		for _, t := range tags {
			out[aws.ToString(t.Key)] = aws.ToString(t.Value)
		}
		return out
	}
	return reflect.DeepEqual(of(a), of(b))
}

// changes returns the changes that an operation would make to resources, sorted
// by logical id.
func (o *operation) changes() ([]types.Change, error) {
	resources := map[string]deployed{}
	o.locked(func() {
		for id, r := range o.st.Resources {
			resources[id] = *r
		}
	})
	fresh := map[string]bool{} // resources that are new or will be replaced
	e := o.s.evaluator(o.ctx, o.template, o.st.identity, o.values, func(id, attribute string) (any, error) {
		r, ok := resources[id]
		switch {
		case fresh[id]:
			return knownAfterApply, nil
		case !ok:
			return nil, invalid("Template error: the template refers to the resource %s, which is not in the stack because its condition is false", id)
		}
		return r.get(attribute)
	})
	ids, err := o.wanted(e)
	if err != nil {
		return nil, err
	}
	byID := map[string]types.Change{}
	for _, id := range ids {
		source := o.template.Resources[id]
		old, exists := resources[id]
		if !exists {
			fresh[id] = true
		}
		properties, err := o.propertiesOf(e, source)
		if err != nil {
			return nil, fmt.Errorf("%s (%s): %w", id, source.Type, err)
		}
		if !exists {
			byID[id] = resourceChange(types.ChangeActionAdd, id, source.Type, "")
			continue
		}
		if change, replaces, ok := o.modification(id, old, source.Type, properties); ok {
			byID[id] = change
			fresh[id] = replaces
		}
	}
	for id, old := range resources {
		if !slices.Contains(ids, id) {
			change := resourceChange(types.ChangeActionRemove, id, old.Type, old.PhysicalID)
			change.ResourceChange.PolicyAction = types.PolicyActionDelete
			if old.DeletionPolicy == "Retain" || old.DeletionPolicy == "RetainExceptOnCreate" {
				change.ResourceChange.PolicyAction = types.PolicyActionRetain
			}
			byID[id] = change
		}
	}
	out := make([]types.Change, 0, len(byID))
	for _, id := range sortedKeys(byID) {
		out = append(out, byID[id])
	}
	return out, nil
}

func resourceChange(action types.ChangeAction, id, kind, physical string) types.Change {
	return types.Change{Type: types.ChangeTypeResource, ResourceChange: &types.ResourceChange{
		Action: action, LogicalResourceId: aws.String(id), ResourceType: aws.String(kind), PhysicalResourceId: scope.Optional(physical),
		Scope: []types.ResourceAttribute{}, Details: []types.ResourceChangeDetail{},
	}}
}

// modification returns the change of an existing resource; ok is false if it
// does not change.
func (o *operation) modification(id string, old deployed, kind string, properties map[string]any) (change types.Change, replaces, ok bool) {
	changed := changedNames(old.Properties, properties)
	if len(changed) == 0 && old.Type == kind {
		return types.Change{}, false, false
	}
	k := o.s.kinds[kind]
	replaces = old.Type != kind || k.mustReplace(changed)
	change = resourceChange(types.ChangeActionModify, id, kind, old.PhysicalID)
	r := change.ResourceChange
	r.Scope, r.Replacement = []types.ResourceAttribute{types.ResourceAttributeProperties}, types.ReplacementFalse
	if replaces {
		r.Replacement, r.PolicyAction = types.ReplacementTrue, types.PolicyActionReplaceAndDelete
		if old.UpdateReplacePolicy == "Retain" {
			r.PolicyAction = types.PolicyActionReplaceAndRetain
		}
	}
	for _, name := range changed {
		recreation := types.RequiresRecreationNever
		if k.mustReplace([]string{name}) {
			recreation = types.RequiresRecreationAlways
		}
		r.Details = append(r.Details, types.ResourceChangeDetail{
			ChangeSource: types.ChangeSourceDirectModification, Evaluation: types.EvaluationTypeStatic,
			Target: &types.ResourceTargetDefinition{
				Attribute: types.ResourceAttributeProperties, Name: aws.String(name), Path: aws.String("/Properties/" + name), RequiresRecreation: recreation,
				BeforeValue: shownValue(old.Properties[name]), AfterValue: shownValue(properties[name]), AttributeChangeType: types.AttributeChangeTypeModify,
			},
		})
	}
	return change, replaces, true
}

// shownValue returns a property for a change set: a text unchanged, any other
// value as JSON.
func shownValue(v any) *string {
	if v == nil {
		return nil
	}
	if text, err := textOf(v, ""); err == nil {
		return aws.String(text)
	}
	raw, _ := json.Marshal(v) // decoded from JSON, so it can be encoded
	return aws.String(string(raw))
}

// events returns the problems of a change set's template.
func (c *changeSet) events() []types.OperationEvent {
	var out []types.OperationEvent
	for _, problem := range c.Problems {
		id, _, _ := strings.Cut(strings.TrimSuffix(strings.Fields(problem)[0], ":"), " ")
		out = append(out, types.OperationEvent{
			EventId: aws.String(uuid.NewString()), EventType: types.EventTypeValidationError, LogicalResourceId: aws.String(id),
			Timestamp: aws.Time(c.Created), ValidationName: aws.String("EMBEDDED_AWS"), ValidationFailureMode: types.HookFailureModeFail,
			ValidationStatus: types.ValidationStatusFailed, ValidationStatusReason: aws.String(problem), ValidationPath: aws.String("/Resources/" + id),
		})
	}
	return out
}

// DescribeChangeSet returns a change set with all its changes, and the values of
// properties on request.
func (s *Service) DescribeChangeSet(ctx context.Context, in *cloudformation.DescribeChangeSetInput, optFns ...func(*cloudformation.Options)) (*cloudformation.DescribeChangeSetOutput, error) {
	k := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	c, st, err := s.changeSet(k, in.StackName, in.ChangeSetName)
	if err != nil {
		return nil, err
	}
	page, next, err := scope.Page(c.Changes, aws.ToString(in.NextToken), pageSize)
	if err != nil {
		return nil, err
	}
	changes := make([]types.Change, 0, len(page))
	for _, change := range page {
		changes = append(changes, shown(change, aws.ToBool(in.IncludePropertyValues)))
	}
	return &cloudformation.DescribeChangeSetOutput{
		ChangeSetId: aws.String(c.ARN), ChangeSetName: aws.String(c.Name), StackId: aws.String(st.ARN), StackName: aws.String(st.Name),
		Description: scope.Optional(c.Description), Status: c.Status, StatusReason: scope.Optional(c.Reason), ExecutionStatus: c.Execution,
		CreationTime: aws.Time(c.Created), Parameters: masked(c.Revision.Parameters, c.Revision.Hidden), Tags: c.Revision.Tags, Capabilities: c.Revision.Capabilities,
		Changes: changes, NextToken: scope.Optional(next), OnStackFailure: c.OnFailure, NotificationARNs: st.Notifications,
		RollbackConfiguration: &types.RollbackConfiguration{}, IncludeNestedStacks: aws.Bool(c.Nested), DeploymentConfig: c.Config,
	}, nil
}

// shown returns a change with or without the values of properties.
func shown(change types.Change, values bool) types.Change {
	if values || len(change.ResourceChange.Details) == 0 {
		return change
	}
	r := *change.ResourceChange
	r.Details = slices.Clone(r.Details)
	for i, d := range r.Details {
		target := *d.Target
		target.BeforeValue, target.AfterValue, target.Path, target.AttributeChangeType = nil, nil, nil, ""
		r.Details[i].Target = &target
	}
	change.ResourceChange = &r
	return change
}

// ListChangeSets lists the change sets of a stack that were not executed yet, by
// name.
func (s *Service) ListChangeSets(ctx context.Context, in *cloudformation.ListChangeSetsInput, optFns ...func(*cloudformation.Options)) (*cloudformation.ListChangeSetsOutput, error) {
	k := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	st, err := s.find(k, aws.ToString(in.StackName))
	if err != nil {
		return nil, err
	}
	out := &cloudformation.ListChangeSetsOutput{Summaries: []types.ChangeSetSummary{}}
	for _, name := range sortedKeys(st.ChangeSets) {
		c := st.ChangeSets[name]
		out.Summaries = append(out.Summaries, types.ChangeSetSummary{
			ChangeSetId: aws.String(c.ARN), ChangeSetName: aws.String(c.Name), StackId: aws.String(st.ARN), StackName: aws.String(st.Name),
			Status: c.Status, StatusReason: scope.Optional(c.Reason), ExecutionStatus: c.Execution, CreationTime: aws.Time(c.Created),
			Description: scope.Optional(c.Description),
		})
	}
	return out, nil
}

// DeleteChangeSet deletes a change set. It succeeds if the change set does not
// exist, as on AWS.
func (s *Service) DeleteChangeSet(ctx context.Context, in *cloudformation.DeleteChangeSetInput, optFns ...func(*cloudformation.Options)) (*cloudformation.DeleteChangeSetOutput, error) {
	k := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	c, st, err := s.changeSet(k, in.StackName, in.ChangeSetName)
	if err != nil {
		return &cloudformation.DeleteChangeSetOutput{}, nil
	}
	if c.Execution == types.ExecutionStatusExecuteInProgress {
		return nil, &types.InvalidChangeSetStatusException{Message: aws.String(fmt.Sprintf("An operation on ChangeSet [%s] is in progress.", c.ARN))}
	}
	if st.ChangeSets[c.Name] == c {
		delete(st.ChangeSets, c.Name)
	}
	// Delete executed ones of this name too: clients delete a change set before
	// they make another with its name, and wait until it is not found.
	st.Executed = slices.DeleteFunc(st.Executed, func(e *changeSet) bool { return e.Name == c.Name })
	return &cloudformation.DeleteChangeSetOutput{}, nil
}

// ExecuteChangeSet applies a change set. The stack's other change sets are
// deleted, because they refer to an earlier state.
func (s *Service) ExecuteChangeSet(ctx context.Context, in *cloudformation.ExecuteChangeSetInput, optFns ...func(*cloudformation.Options)) (*cloudformation.ExecuteChangeSetOutput, error) {
	k := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	c, st, err := s.changeSet(k, in.StackName, in.ChangeSetName)
	if err == nil && c.Execution != types.ExecutionStatusAvailable {
		err = &types.InvalidChangeSetStatusException{Message: aws.String(fmt.Sprintf("ChangeSet [%s] cannot be executed in its current execution status of [%s]", c.ARN, c.Execution))}
	}
	if err == nil && st.busy() {
		err = invalid("Stack:%s is in %s state and can not be updated.", st.ARN, st.Status)
	}
	if err != nil {
		s.mu.Unlock()
		return nil, err
	}
	c.Execution = types.ExecutionStatusExecuteInProgress
	s.mu.Unlock()
	o, err := s.replan(ctx, st, c, in)
	if err != nil {
		s.mu.Lock()
		c.Execution = types.ExecutionStatusExecuteFailed
		s.mu.Unlock()
		return nil, err
	}
	s.execute(o, c, in)
	return &cloudformation.ExecuteChangeSetOutput{}, nil
}

// replan makes the operation of a change set again.
func (s *Service) replan(ctx context.Context, st *stack, c *changeSet, in *cloudformation.ExecuteChangeSetInput) (*operation, error) {
	t, err := parseTemplate(c.Revision.Body)
	if err != nil {
		return nil, err
	}
	r := c.Revision
	given := slices.Clone(r.Parameters)
	for i := range given {
		given[i].ResolvedValue = nil
	}
	var role *string
	if r.RoleARN != "" {
		role = &r.RoleARN
	}
	return s.plan(ctx, st, t, given, r.Tags, r.Capabilities, role, in.ClientRequestToken)
}

func (s *Service) execute(o *operation, c *changeSet, in *cloudformation.ExecuteChangeSetInput) {
	st := o.st
	s.mu.Lock()
	creates := st.Status == types.StackStatusReviewInProgress
	st.ChangeSets = map[string]*changeSet{c.Name: c}
	st.DisableRollback = aws.ToBool(in.DisableRollback)
	s.mu.Unlock()
	finish := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		c.Execution = types.ExecutionStatusExecuteComplete
		if st.Status != types.StackStatusCreateComplete && st.Status != types.StackStatusUpdateComplete {
			c.Execution = types.ExecutionStatusExecuteFailed
		}
		delete(st.ChangeSets, c.Name)
		st.Executed = append(st.Executed, c)
		st.Executed = st.Executed[max(0, len(st.Executed)-mostExecuted):]
	}
	if !creates {
		s.begin(o, types.StackStatusUpdateInProgress, func(o *operation) {
			defer finish()
			s.runUpdate(o, aws.ToBool(in.DisableRollback) || c.OnFailure == types.OnStackFailureDoNothing)
		})
		return
	}
	onFailure := types.OnFailureRollback
	switch {
	case aws.ToBool(in.DisableRollback), c.OnFailure == types.OnStackFailureDoNothing:
		onFailure = types.OnFailureDoNothing
	case c.OnFailure == types.OnStackFailureDelete:
		onFailure = types.OnFailureDelete
	}
	s.begin(o, types.StackStatusCreateInProgress, func(o *operation) {
		defer finish()
		s.runCreate(o, onFailure)
	})
}
