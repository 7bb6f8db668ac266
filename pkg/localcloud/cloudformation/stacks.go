package cloudformation

import (
	"context"
	"errors"
	"io"
	"net/url"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
)

// read returns the template in a request, or at its URL.
func (s *Service) read(ctx context.Context, body, address *string) (*template, error) {
	switch {
	case (body == nil) == (address == nil):
		return nil, invalid("Either Template URL or Template Body must be specified.")
	case body != nil && len(*body) > mostBodyBytes:
		return nil, invalid("1 validation error detected: Value at 'templateBody' failed to satisfy constraint: Member must have length less than or equal to %d", mostBodyBytes)
	case body != nil:
		return parseTemplate(*body)
	}
	bucket, key, err := objectOf(*address)
	if err != nil {
		return nil, err
	}
	if s.cfg.Services.S3 == nil {
		return nil, invalid("TemplateURL: the embedded AWS has no S3 here")
	}
	out, err := s.cfg.Services.S3(s.cfg.Default.Account, "").GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String(key)})
	if err != nil {
		return nil, invalid("S3 error: %s for the template %s", reason(err), *address)
	}
	defer func() { _ = out.Body.Close() }()
	raw, err := io.ReadAll(io.LimitReader(out.Body, mostURLBytes+1))
	if err != nil {
		return nil, invalid("S3 error: %v", err)
	}
	if len(raw) > mostURLBytes {
		return nil, invalid("Template may not exceed %d bytes in size.", mostURLBytes)
	}
	return parseTemplate(string(raw))
}

// objectOf returns the bucket and key of an S3 URL, with the bucket in the path
// or in the host, such as https://bucket.s3.region.amazonaws.com/key.
func objectOf(address string) (bucket, key string, err error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" && u.Scheme != "s3" || u.Host == "" {
		return "", "", invalid("TemplateURL must be a supported URL.")
	}
	path := strings.TrimPrefix(u.Path, "/")
	name, rest, inHost := strings.Cut(u.Hostname(), ".s3")
	switch {
	case u.Scheme == "s3":
		bucket, key = u.Host, path
	case inHost && name != "" && (rest == "" || strings.ContainsAny(rest[:1], ".-")):
		bucket, key = name, path
	default:
		bucket, key, _ = strings.Cut(path, "/")
	}
	if bucket == "" || key == "" {
		return "", "", invalid("TemplateURL must reference a valid S3 object to which you have access.")
	}
	return bucket, key, nil
}

// plan checks a template for a stack and makes an operation from it.
func (s *Service) plan(ctx context.Context, st *stack, t *template, given []types.Parameter, tags []types.Tag, capabilities []types.Capability, role, token *string) (*operation, error) {
	o := &operation{s: s, st: st, ctx: s.context(ctx, st.identity), token: aws.ToString(token), template: t}
	var err error
	if o.needs, err = t.dependencies(); err != nil {
		return nil, err
	}
	if _, err := order(o.needs, sortedKeys(t.Resources)); err != nil {
		return nil, err
	}
	if problems := s.check(t); len(problems) > 0 {
		return nil, invalid("Template error: %s", strings.Join(problems, "; "))
	}
	if err := t.checkCapabilities(capabilities); err != nil {
		return nil, err
	}
	s.mu.Lock()
	before := slices.Clone(st.Parameters)
	s.mu.Unlock()
	var shown []types.Parameter
	if o.values, shown, err = s.parametersOf(o.ctx, t, given, before); err != nil {
		return nil, err
	}
	e := s.evaluator(o.ctx, t, st.identity, o.values, nil)
	if err := e.checkRules(); err != nil {
		return nil, err
	}
	for _, name := range sortedKeys(t.Conditions) {
		if _, err := e.named(name); err != nil {
			return nil, err
		}
	}
	o.revision = revision{Body: t.Body, Parameters: shown, Tags: tags, Capabilities: capabilities, RoleARN: aws.ToString(role), Hidden: t.hidden()}
	return o, nil
}

// checkCapabilities refuses templates with IAM resources unless the caller has
// acknowledged them.
func (t *template) checkCapabilities(given []types.Capability) error {
	iam, named := false, false
	for _, r := range t.Resources {
		if !strings.HasPrefix(r.Type, "AWS::IAM::") {
			continue
		}
		iam = true
		for _, property := range []string{"RoleName", "ManagedPolicyName", "InstanceProfileName"} {
			_, has := r.Properties[property]
			named = named || has
		}
	}
	switch {
	case named && !slices.Contains(given, types.CapabilityCapabilityNamedIam):
		return insufficient("CAPABILITY_NAMED_IAM")
	case iam && !slices.Contains(given, types.CapabilityCapabilityNamedIam) && !slices.Contains(given, types.CapabilityCapabilityIam):
		return insufficient("CAPABILITY_IAM")
	}
	return nil
}

func insufficient(capability string) error {
	return &types.InsufficientCapabilitiesException{Message: aws.String("Requires capabilities : [" + capability + "]")}
}

// add makes an empty stack. The caller holds s.mu.
func (s *Service) add(k scope.Key, name string, notifications []string) (*stack, error) {
	if !stackName.MatchString(name) {
		return nil, invalid("1 validation error detected: Value '%s' at 'stackName' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z][-a-zA-Z0-9]*", name)
	}
	if old, err := s.find(k, name); err == nil && old.Status != types.StackStatusReviewInProgress {
		return nil, &types.AlreadyExistsException{Message: aws.String("Stack [" + name + "] already exists")}
	} else if err == nil {
		return old, nil
	}
	st := &stack{
		identity: identity{Account: k.Account, Region: k.Region, Name: name, ARN: stackARN(k, name), Notifications: notifications},
		Created:  s.cfg.Clock.Now(), Resources: map[string]*deployed{}, ChangeSets: map[string]*changeSet{},
	}
	s.stacks[k] = append(s.stacks[k], st)
	return st, nil
}

// CreateStack makes a stack.
func (s *Service) CreateStack(ctx context.Context, in *cloudformation.CreateStackInput, optFns ...func(*cloudformation.Options)) (*cloudformation.CreateStackOutput, error) {
	k := scope.KeyOf(s.caller(ctx, optFns))
	t, err := s.read(ctx, in.TemplateBody, in.TemplateURL)
	if err != nil {
		return nil, err
	}
	// Find problems before the stack exists.
	draft := &stack{identity: identity{Account: k.Account, Region: k.Region, Name: aws.ToString(in.StackName)}}
	if _, err := s.plan(ctx, draft, t, in.Parameters, in.Tags, in.Capabilities, in.RoleARN, in.ClientRequestToken); err != nil {
		return nil, err
	}
	s.mu.Lock()
	st, err := s.add(k, aws.ToString(in.StackName), in.NotificationARNs)
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	o, err := s.plan(ctx, st, t, in.Parameters, in.Tags, in.Capabilities, in.RoleARN, in.ClientRequestToken)
	if err != nil {
		return nil, err
	}
	onFailure := in.OnFailure
	switch {
	case aws.ToBool(in.DisableRollback):
		onFailure = types.OnFailureDoNothing
	case onFailure == "":
		onFailure = types.OnFailureRollback
	}
	s.mu.Lock()
	st.Protected, st.DisableRollback = aws.ToBool(in.EnableTerminationProtection), aws.ToBool(in.DisableRollback)
	s.mu.Unlock()
	s.begin(o, types.StackStatusCreateInProgress, func(o *operation) { s.runCreate(o, onFailure) })
	return &cloudformation.CreateStackOutput{StackId: aws.String(st.ARN)}, nil
}

// begin sets the status and starts an operation in the background.
func (s *Service) begin(o *operation, status types.StackStatus, run func(*operation)) {
	o.locked(func() {
		if o.template != nil {
			o.settleParameters()
		}
		s.setStatus(o.st, o.token, status, "User Initiated")
	})
	s.work.Go(o.ctx, func(ctx context.Context) {
		o.ctx = ctx
		run(o)
	})
}

// settleParameters sets the stack's parameters at the start of an operation, so
// that describes show them. The caller holds s.mu.
func (o *operation) settleParameters() {
	o.st.Tags, o.st.Capabilities = o.revision.Tags, o.revision.Capabilities
	if o.st.Body == "" {
		o.st.Parameters, o.st.Hidden, o.st.Description = o.revision.Parameters, o.revision.Hidden, o.template.Description
		o.st.Body = o.revision.Body
	} else {
		o.st.Updated = o.s.cfg.Clock.Now()
	}
}

var errNoUpdates = invalid("No updates are to be performed.")

// updatable returns an error if a stack cannot be updated. The caller holds
// s.mu.
func (st *stack) updatable() error {
	switch st.Status {
	case types.StackStatusCreateComplete, types.StackStatusUpdateComplete, types.StackStatusUpdateRollbackComplete, types.StackStatusUpdateFailed,
		types.StackStatusCreateFailed:
		return nil
	}
	return invalid("Stack:%s is in %s state and can not be updated.", st.ARN, st.Status)
}

// UpdateStack changes a stack.
func (s *Service) UpdateStack(ctx context.Context, in *cloudformation.UpdateStackInput, optFns ...func(*cloudformation.Options)) (*cloudformation.UpdateStackOutput, error) {
	k := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	st, err := s.find(k, aws.ToString(in.StackName))
	var body string
	if err == nil {
		body, err = st.Body, st.updatable()
	}
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	var t *template
	if aws.ToBool(in.UsePreviousTemplate) {
		t, err = parseTemplate(body)
	} else {
		t, err = s.read(ctx, in.TemplateBody, in.TemplateURL)
	}
	if err != nil {
		return nil, err
	}
	tags := in.Tags
	if tags == nil {
		s.mu.Lock()
		tags = st.Tags
		s.mu.Unlock()
	}
	o, err := s.plan(ctx, st, t, in.Parameters, tags, in.Capabilities, in.RoleARN, in.ClientRequestToken)
	if err != nil {
		return nil, err
	}
	changes, err := o.changes()
	if err != nil {
		return nil, err
	}
	if len(changes) == 0 && !o.changesElse() {
		return nil, errNoUpdates
	}
	s.begin(o, types.StackStatusUpdateInProgress, func(o *operation) { s.runUpdate(o, aws.ToBool(in.DisableRollback)) })
	return &cloudformation.UpdateStackOutput{StackId: aws.String(st.ARN)}, nil
}

// DeleteStack deletes a stack. It succeeds if the stack does not exist, as on
// AWS.
func (s *Service) DeleteStack(ctx context.Context, in *cloudformation.DeleteStackInput, optFns ...func(*cloudformation.Options)) (*cloudformation.DeleteStackOutput, error) {
	k := scope.KeyOf(s.caller(ctx, optFns))
	o, err := s.deletion(ctx, k, in)
	if o == nil || err != nil {
		return &cloudformation.DeleteStackOutput{}, err
	}
	s.begin(o, types.StackStatusDeleteInProgress, func(o *operation) { s.runDelete(o, in.RetainResources) })
	return &cloudformation.DeleteStackOutput{}, nil
}

// deletion returns the operation that deletes a stack, or nil if there is
// nothing to do.
func (s *Service) deletion(ctx context.Context, k scope.Key, in *cloudformation.DeleteStackInput) (*operation, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st, err := s.find(k, aws.ToString(in.StackName))
	switch {
	case err != nil, st.Status == types.StackStatusDeleteComplete:
		return nil, nil
	case st.Protected:
		return nil, invalid("Stack [%s] cannot be deleted while TerminationProtection is enabled", st.Name)
	case st.busy():
		return nil, invalid("Stack [%s] cannot be deleted while in status %s", st.Name, st.Status)
	}
	for _, out := range st.Outputs {
		for _, other := range s.stacks[k] {
			if out.ExportName != nil && other != st && slices.Contains(other.Imports, *out.ExportName) {
				return nil, invalid("Export %s cannot be deleted as it is in use by %s", *out.ExportName, other.Name)
			}
		}
	}
	o := &operation{s: s, st: st, ctx: s.context(ctx, st.identity), token: aws.ToString(in.ClientRequestToken)}
	o.revision.Tags = st.Tags
	return o, nil
}

// exportValue returns the value of an export.
func (s *Service) exportValue(k scope.Key, name string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range s.stacks[k] {
		for _, out := range st.Outputs {
			if aws.ToString(out.ExportName) == name {
				return aws.ToString(out.OutputValue), nil
			}
		}
	}
	return "", invalid("No export named %s found.", name)
}

// checkExport refuses the name of another stack's export.
func (s *Service) checkExport(own *stack, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range s.stacks[scope.Key{Account: own.Account, Region: own.Region}] {
		for _, out := range st.Outputs {
			if st != own && aws.ToString(out.ExportName) == name {
				return invalid("Export with name %s is already exported by stack %s. Rename the export and try again.", name, st.Name)
			}
		}
	}
	return nil
}

// UpdateTerminationProtection sets whether a stack can be deleted.
func (s *Service) UpdateTerminationProtection(ctx context.Context, in *cloudformation.UpdateTerminationProtectionInput, optFns ...func(*cloudformation.Options)) (*cloudformation.UpdateTerminationProtectionOutput, error) {
	k := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	st, err := s.find(k, aws.ToString(in.StackName))
	if err != nil {
		return nil, err
	}
	st.Protected = aws.ToBool(in.EnableTerminationProtection)
	return &cloudformation.UpdateTerminationProtectionOutput{StackId: aws.String(st.ARN)}, nil
}

// ValidateTemplate returns the parameters and required capabilities of a
// template.
func (s *Service) ValidateTemplate(ctx context.Context, in *cloudformation.ValidateTemplateInput, _ ...func(*cloudformation.Options)) (*cloudformation.ValidateTemplateOutput, error) {
	t, err := s.read(ctx, in.TemplateBody, in.TemplateURL)
	if err != nil {
		return nil, err
	}
	if _, err := t.dependencies(); err != nil {
		return nil, err
	}
	out := &cloudformation.ValidateTemplateOutput{Description: aws.String(t.Description), Parameters: []types.TemplateParameter{}}
	for _, name := range sortedKeys(t.Parameters) {
		p := t.Parameters[name]
		shown := types.TemplateParameter{ParameterKey: aws.String(name), Description: scope.Optional(p.Description), NoEcho: aws.Bool(p.NoEcho != nil && same(p.NoEcho, true))}
		if text, err := textOf(p.Default, ""); err == nil {
			shown.DefaultValue = aws.String(text)
		}
		out.Parameters = append(out.Parameters, shown)
	}
	out.Capabilities, out.CapabilitiesReason = t.capabilities()
	return out, nil
}

// capabilities returns the capabilities that a template requires.
func (t *template) capabilities() ([]types.Capability, *string) {
	var lacking *types.InsufficientCapabilitiesException
	if !errors.As(t.checkCapabilities(nil), &lacking) {
		return nil, nil
	}
	capability := types.CapabilityCapabilityIam
	if strings.Contains(*lacking.Message, "NAMED") {
		capability = types.CapabilityCapabilityNamedIam
	}
	var kinds []string
	for _, r := range t.Resources {
		if strings.HasPrefix(r.Type, "AWS::IAM::") {
			kinds = append(kinds, r.Type)
		}
	}
	slices.Sort(kinds)
	return []types.Capability{capability}, aws.String("The following resource(s) require capabilities: [" + strings.Join(slices.Compact(kinds), ", ") + "]")
}
