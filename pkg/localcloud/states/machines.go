package states

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sfn/types"
	"github.com/google/uuid"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/states/asl"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// defaultPage is how many items a page has where the caller does not say.
const defaultPage = 100

// machine is one state machine.
type machine struct {
	ARN        string
	Name       string
	Role       string
	Definition string
	Created    time.Time
	Updated    time.Time
	Revision   string // empty until the first update
	Deleting   bool
	Logging    *types.LoggingConfiguration
	Tracing    *types.TracingConfiguration
	Tags       map[string]string

	parsed *asl.Machine
}

// CreateStateMachine implements sfn.Client's. Creating the same once more
// returns what is there.
func (s *Service) CreateStateMachine(ctx context.Context, in *sfn.CreateStateMachineInput, optFns ...func(*sfn.Options)) (*sfn.CreateStateMachineOutput, error) {
	c := s.caller(ctx, optFns)
	name := aws.ToString(in.Name)
	if err := checkName(name); err != nil {
		return nil, err
	}
	if in.Type == types.StateMachineTypeExpress {
		return nil, &types.StateMachineTypeNotSupported{Message: aws.String("EXPRESS state machines are not available in the embedded AWS: use STANDARD")}
	}
	if in.Publish {
		return nil, wire.Errorf("ValidationException", "versions of state machines are not available in the embedded AWS: leave Publish out")
	}
	if err := checkRole(in.RoleArn); err != nil {
		return nil, err
	}
	parsed, err := parse(in.Definition)
	if err != nil {
		return nil, err
	}

	arn := machineARN(c, name)
	if err := s.checkAssumable(arn, in.RoleArn); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.machines[arn]; m != nil {
		switch {
		case m.Deleting:
			return nil, &types.StateMachineDeleting{Message: aws.String("State Machine is being deleted: '" + arn + "'")}
		case m.Definition != aws.ToString(in.Definition) || m.Role != aws.ToString(in.RoleArn):
			return nil, &types.StateMachineAlreadyExists{Message: aws.String("State Machine Already Exists: '" + arn + "', with another definition or role")}
		}
		return &sfn.CreateStateMachineOutput{StateMachineArn: aws.String(arn), CreationDate: aws.Time(m.Created)}, nil
	}
	now := s.config.Clock.Now()
	s.machines[arn] = &machine{
		ARN: arn, Name: name, Role: aws.ToString(in.RoleArn), Definition: aws.ToString(in.Definition),
		Created: now, Updated: now, Logging: in.LoggingConfiguration, Tracing: in.TracingConfiguration,
		Tags: tagMap(in.Tags), parsed: parsed,
	}
	return &sfn.CreateStateMachineOutput{StateMachineArn: aws.String(arn), CreationDate: aws.Time(now)}, nil
}

func checkRole(role *string) error {
	if strings.HasPrefix(aws.ToString(role), "arn:") && strings.Contains(*role, ":iam:") {
		return nil
	}
	return &types.InvalidArn{Message: aws.String(fmt.Sprintf("Invalid Role Arn: '%s'", aws.ToString(role)))}
}

// checkAssumable refuses a role that Step Functions cannot assume, in its words.
func (s *Service) checkAssumable(machineARN string, role *string) error {
	if parts := strings.Split(machineARN, ":"); s.config.Assumable != nil && len(parts) > 4 {
		if err := s.config.Assumable(parts[4], machineARN, *role); err != nil {
			return wire.Errorf("AccessDeniedException", "Neither the global service principal states.amazonaws.com, nor the regional one is authorized to assume the provided role.")
		}
	}
	return nil
}

func parse(definition *string) (*asl.Machine, error) {
	parsed, problems := asl.Parse([]byte(aws.ToString(definition)))
	if len(problems) > 0 {
		return nil, &types.InvalidDefinition{Message: aws.String(problems.Error())}
	}
	return parsed, nil
}

// find returns a state machine of the caller's. s.mu is held.
func (s *Service) find(arn *string, c wire.Caller) (*machine, error) {
	if err := checkARN(arn, "stateMachine"); err != nil {
		return nil, err
	}
	m := s.machines[*arn]
	if m == nil || !ownedBy(*arn, c) {
		return nil, &types.StateMachineDoesNotExist{Message: aws.String("State Machine Does Not Exist: '" + *arn + "'")}
	}
	return m, nil
}

// UpdateStateMachine implements sfn.Client's. Executions that run keep the
// definition they were started with.
func (s *Service) UpdateStateMachine(ctx context.Context, in *sfn.UpdateStateMachineInput, optFns ...func(*sfn.Options)) (*sfn.UpdateStateMachineOutput, error) {
	if in.Publish {
		return nil, wire.Errorf("ValidationException", "versions of state machines are not available in the embedded AWS: leave Publish out")
	}
	var parsed *asl.Machine
	if in.Definition != nil {
		var err error
		if parsed, err = parse(in.Definition); err != nil {
			return nil, err
		}
	}
	if in.RoleArn != nil {
		if err := checkRole(in.RoleArn); err != nil {
			return nil, err
		}
		if err := s.checkAssumable(aws.ToString(in.StateMachineArn), in.RoleArn); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	m, err := s.find(in.StateMachineArn, s.caller(ctx, optFns))
	if err != nil {
		return nil, err
	}
	if m.Deleting {
		return nil, &types.StateMachineDeleting{Message: aws.String("State Machine is being deleted: '" + m.ARN + "'")}
	}
	if parsed == nil && in.RoleArn == nil && in.LoggingConfiguration == nil && in.TracingConfiguration == nil {
		return nil, &types.MissingRequiredParameter{Message: aws.String("Either the definition, the role ARN, the LoggingConfiguration, or the TracingConfiguration must be specified")}
	}
	if parsed != nil {
		m.parsed, m.Definition = parsed, *in.Definition
	}
	if in.RoleArn != nil {
		m.Role = *in.RoleArn
	}
	if in.LoggingConfiguration != nil {
		m.Logging = in.LoggingConfiguration
	}
	if in.TracingConfiguration != nil {
		m.Tracing = in.TracingConfiguration
	}
	m.Updated = s.config.Clock.Now()
	m.Revision = uuid.NewString()
	return &sfn.UpdateStateMachineOutput{UpdateDate: aws.Time(m.Updated), RevisionId: aws.String(m.Revision)}, nil
}

// DescribeStateMachine implements sfn.Client's.
func (s *Service) DescribeStateMachine(ctx context.Context, in *sfn.DescribeStateMachineInput, optFns ...func(*sfn.Options)) (*sfn.DescribeStateMachineOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, err := s.find(in.StateMachineArn, s.caller(ctx, optFns))
	if err != nil {
		return nil, err
	}
	out := &sfn.DescribeStateMachineOutput{
		StateMachineArn: aws.String(m.ARN), Name: aws.String(m.Name), RoleArn: aws.String(m.Role),
		Type: types.StateMachineTypeStandard, Status: types.StateMachineStatusActive,
		CreationDate: aws.Time(m.Created), Definition: aws.String(m.Definition),
		LoggingConfiguration: m.logging(), TracingConfiguration: m.tracing(),
	}
	if m.Deleting {
		out.Status = types.StateMachineStatusDeleting
	}
	// A description is that of a version, of which there is none here.
	out.EncryptionConfiguration = &types.EncryptionConfiguration{Type: types.EncryptionTypeAwsOwnedKey}
	out.VariableReferences = m.parsed.VariableReferences()
	if m.Revision != "" {
		out.RevisionId = aws.String(m.Revision)
	}
	return out, nil
}

func (m *machine) logging() *types.LoggingConfiguration {
	if m.Logging != nil {
		return m.Logging
	}
	return &types.LoggingConfiguration{Level: types.LogLevelOff}
}

func (m *machine) tracing() *types.TracingConfiguration {
	if m.Tracing != nil {
		return m.Tracing
	}
	return &types.TracingConfiguration{}
}

// ListStateMachines implements sfn.Client's; the order is that of the names.
func (s *Service) ListStateMachines(ctx context.Context, in *sfn.ListStateMachinesInput, optFns ...func(*sfn.Options)) (*sfn.ListStateMachinesOutput, error) {
	c := s.caller(ctx, optFns)
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []types.StateMachineListItem
	for _, arn := range slices.Sorted(maps.Keys(s.machines)) {
		if m := s.machines[arn]; ownedBy(arn, c) {
			all = append(all, types.StateMachineListItem{
				StateMachineArn: aws.String(arn), Name: aws.String(m.Name),
				Type: types.StateMachineTypeStandard, CreationDate: aws.Time(m.Created),
			})
		}
	}
	items, next, err := page(all, in.NextToken, in.MaxResults)
	if err != nil {
		return nil, err
	}
	return &sfn.ListStateMachinesOutput{StateMachines: items, NextToken: next}, nil
}

// page cuts a page out of all, with the error that Step Functions has for a bad
// token.
func page[T any](all []T, token *string, limit int32) (items []T, next *string, err error) {
	if limit <= 0 {
		limit = defaultPage
	}
	items, more, err := scope.Page(all, aws.ToString(token), int(min(limit, 1000)))
	if err != nil {
		return nil, nil, &types.InvalidToken{Message: aws.String(fmt.Sprintf("Invalid Token: '%s'", aws.ToString(token)))}
	}
	if items == nil {
		items = []T{}
	}
	if more != "" {
		next = aws.String(more)
	}
	return items, next, nil
}

// DeleteStateMachine implements sfn.Client's. The machine goes when its last
// execution has ended; that one may be deleted already is no error.
func (s *Service) DeleteStateMachine(ctx context.Context, in *sfn.DeleteStateMachineInput, optFns ...func(*sfn.Options)) (*sfn.DeleteStateMachineOutput, error) {
	if err := checkARN(in.StateMachineArn, "stateMachine"); err != nil {
		return nil, err
	}
	c := s.caller(ctx, optFns)
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.machines[*in.StateMachineArn]; m != nil && ownedBy(m.ARN, c) {
		m.Deleting = true
		s.sweep(m)
	}
	return &sfn.DeleteStateMachineOutput{}, nil
}

// sweep removes a machine that is being deleted and its executions, once none
// of them runs. s.mu is held.
func (s *Service) sweep(m *machine) {
	if m == nil || !m.Deleting {
		return
	}
	for _, e := range s.executions {
		if e.MachineARN == m.ARN && e.running() {
			return
		}
	}
	maps.DeleteFunc(s.executions, func(_ string, e *execution) bool { return e.MachineARN == m.ARN })
	delete(s.machines, m.ARN)
}

// ValidateStateMachineDefinition implements sfn.Client's.
func (s *Service) ValidateStateMachineDefinition(_ context.Context, in *sfn.ValidateStateMachineDefinitionInput, _ ...func(*sfn.Options)) (*sfn.ValidateStateMachineDefinitionOutput, error) {
	_, problems := asl.Parse([]byte(aws.ToString(in.Definition)))
	out := &sfn.ValidateStateMachineDefinitionOutput{
		Result:      types.ValidateStateMachineDefinitionResultCodeOk,
		Diagnostics: []types.ValidateStateMachineDefinitionDiagnostic{},
		Truncated:   aws.Bool(false),
	}
	limit := int(in.MaxResults)
	if limit <= 0 {
		limit = defaultPage
	}
	for i, p := range problems {
		out.Result = types.ValidateStateMachineDefinitionResultCodeFail
		if i == limit {
			out.Truncated = aws.Bool(true)
			break
		}
		d := types.ValidateStateMachineDefinitionDiagnostic{
			Code: aws.String(p.Code), Message: aws.String(p.Message), Severity: types.ValidateStateMachineDefinitionSeverityError,
		}
		if p.Path != "" {
			d.Location = aws.String(p.Path)
		}
		out.Diagnostics = append(out.Diagnostics, d)
	}
	return out, nil
}
