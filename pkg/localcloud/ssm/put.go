package ssm

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

const changeEvent = "Parameter Store Change"

// PutParameter writes a new version. For the data type aws:ec2:image the answer only
// means that the value will be validated: the version becomes current once the image is
// found, and otherwise an event reports the failure
// (https://docs.aws.amazon.com/systems-manager/latest/userguide/parameter-store-ec2-aliases.html).
func (s *Service) PutParameter(ctx context.Context, in *ssm.PutParameterInput, optFns ...func(*ssm.Options)) (*ssm.PutParameterOutput, error) {
	c := s.caller(ctx, optFns)
	at := scope.KeyOf(c)
	name, v, err := s.newVersion(in)
	if err != nil {
		return nil, err
	}
	v.By = c.ARN

	s.mu.Lock()
	v, err = s.inherit(at, name, v, in)
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if v.Type == types.ParameterTypeSecureString {
		if v.Value, err = s.encrypt(ctx, at, name, v.KeyID, v.Value); err != nil {
			return nil, err
		}
	}

	s.mu.Lock()
	if v, err = s.inherit(at, name, v, in); err != nil { // it may have changed meanwhile
		s.mu.Unlock()
		return nil, err
	}
	if s.params[at] == nil {
		s.params[at] = map[string]*parameter{}
	}
	p, ok := s.params[at][name]
	if !ok {
		p = &parameter{Name: name, Tags: map[string]string{}}
		s.params[at][name] = p
	}
	p.Last++
	v.Number = p.Last
	operation := "Update"
	if len(p.Versions) == 0 {
		operation = "Create"
	}
	for _, t := range in.Tags {
		p.Tags[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	validate := v.DataType == imageDataType
	if !validate {
		s.commit(p, v)
	}
	s.mu.Unlock()

	if validate {
		s.work.Go(ctx, func(ctx context.Context) { s.validateImage(ctx, at, p, v, operation) })
	} else {
		s.emitChange(ctx, at, operation, name, v)
	}
	return &ssm.PutParameterOutput{Version: v.Number, Tier: v.Tier}, nil
}

// newVersion checks everything that does not depend on earlier versions.
func (s *Service) newVersion(in *ssm.PutParameterInput) (string, version, error) {
	name, _ := ref(aws.ToString(in.Name))
	if err := checkName(name); err != nil {
		return "", version{}, err
	}
	v := version{
		Value: aws.ToString(in.Value), Type: in.Type, DataType: aws.ToString(in.DataType), Tier: in.Tier,
		Description: aws.ToString(in.Description), KeyID: aws.ToString(in.KeyId), AllowedPattern: aws.ToString(in.AllowedPattern),
	}
	switch v.Type {
	case "", types.ParameterTypeString, types.ParameterTypeStringList, types.ParameterTypeSecureString:
	default:
		return "", v, &types.UnsupportedParameterType{Message: aws.String(fmt.Sprintf("Type %q is not one of String, StringList, SecureString.", v.Type))}
	}
	switch v.DataType {
	case "":
		v.DataType = textDataType
	case textDataType:
	case imageDataType:
		if s.cfg.ImageExists == nil {
			return "", v, wire.Errorf("ValidationException", "The data type %s needs an EC2 to look images up in, and none is configured.", imageDataType)
		}
	default:
		return "", v, wire.Errorf("ValidationException", "The data type %q is not supported: text and aws:ec2:image are.", v.DataType)
	}
	limit := standardValue
	switch v.Tier {
	case "", types.ParameterTierStandard:
		v.Tier = types.ParameterTierStandard
	case types.ParameterTierIntelligentTiering:
		v.Tier = types.ParameterTierStandard
		if len(v.Value) > standardValue {
			v.Tier, limit = types.ParameterTierAdvanced, advancedValue
		}
	case types.ParameterTierAdvanced:
		limit = advancedValue
	default:
		return "", v, wire.Errorf("ValidationException", "Tier %q is not one of Standard, Advanced, Intelligent-Tiering.", v.Tier)
	}
	if v.Value == "" || len(v.Value) > limit {
		return "", v, wire.Errorf("ValidationException", "The value has %d bytes; %s-tier parameters take 1 to %d.", len(v.Value), strings.ToLower(string(v.Tier)), limit)
	}
	if v.AllowedPattern != "" {
		pattern, err := regexp.Compile(v.AllowedPattern)
		if err != nil {
			return "", v, &types.InvalidAllowedPatternException{Message: aws.String(err.Error())}
		}
		if !pattern.MatchString(v.Value) {
			return "", v, &types.ParameterPatternMismatchException{Message: aws.String(fmt.Sprintf("Parameter value, cannot be validated against allowedPattern: %s", v.AllowedPattern))}
		}
	}
	return name, v, nil
}

func checkName(name string) error {
	if strings.HasPrefix(strings.ToLower(name), "/aws/") || strings.EqualFold(name, "/aws") {
		return wire.Errorf("AccessDeniedException", "No access to reserved parameter name: %s.", name)
	}
	bare := strings.ToLower(strings.TrimPrefix(name, "/"))
	switch {
	case name == "" || !parameterName.MatchString(name) || len(name) > longestName || strings.HasSuffix(name, "/") || strings.Contains(name, "//"):
		return wire.Errorf("ValidationException", "Parameter name %q: only a mix of letters, numbers and the following 4 symbols .-_/ is allowed, up to %d characters.", name, longestName)
	case strings.HasPrefix(bare, "aws") || strings.HasPrefix(bare, "ssm"):
		return wire.Errorf("ValidationException", "Parameter name %q: can't be prefixed with \"aws\" or \"ssm\" (case-insensitive).", name)
	case strings.Contains(name, "/") && !strings.HasPrefix(name, "/"):
		return wire.Errorf("ValidationException", "Parameter name %q: must be a fully qualified name, beginning with a slash.", name)
	case strings.Count(name, "/") > deepestName:
		return &types.HierarchyLevelLimitExceededException{Message: aws.String(fmt.Sprintf("%q has more than %d levels.", name, deepestName))}
	}
	return nil
}

// inherit checks a new version against the current one and copies from it what the call
// did not set. s.mu is held.
func (s *Service) inherit(at scope.Key, name string, v version, in *ssm.PutParameterInput) (version, error) {
	old, exists := s.params[at][name].current()
	switch {
	case exists && !aws.ToBool(in.Overwrite):
		return v, &types.ParameterAlreadyExists{Message: aws.String("The parameter already exists. To overwrite this value, set the overwrite option in the request to true.")}
	case exists && len(in.Tags) > 0:
		return v, wire.Errorf("ValidationException", "Invalid request: tags and overwrite can't be used together. To create a parameter with tags, please remove overwrite flag. To update tags for an existing parameter, please use AddTagsToResource or RemoveTagsFromResource.")
	case !exists && v.Type == "":
		return v, wire.Errorf("ValidationException", "A parameter type is required when you create a parameter.")
	case exists && v.Type == "":
		v.Type = old.Type
	case exists && v.Type != old.Type && (v.Type == types.ParameterTypeSecureString || old.Type == types.ParameterTypeSecureString):
		return v, &types.HierarchyTypeMismatchException{Message: aws.String(fmt.Sprintf("The parameter is of type %s and cannot become %s: delete it first.", old.Type, v.Type))}
	}
	if v.Type == types.ParameterTypeSecureString && v.KeyID == "" {
		v.KeyID = defaultKeyName
	}
	if exists && v.Description == "" {
		v.Description = old.Description
	}
	return v, nil
}

// commit makes v the current version. s.mu is held.
func (s *Service) commit(p *parameter, v version) {
	v.Modified = s.cfg.Clock.Now()
	at, _ := slices.BinarySearchFunc(p.Versions, v.Number, func(have version, n int64) int { return int(have.Number - n) })
	p.Versions = slices.Insert(p.Versions, at, v)
	for len(p.Versions) > mostVersions && len(p.Versions[0].Labels) == 0 {
		p.Versions = p.Versions[1:]
	}
}

func (s *Service) validateImage(ctx context.Context, at scope.Key, p *parameter, v version, operation string) {
	if err := s.cfg.Clock.Sleep(ctx, s.cfg.ValidationDelay); err != nil {
		return // the service is being closed
	}
	if !s.cfg.ImageExists(ctx, at.Account, at.Region, v.Value) {
		s.mu.Lock()
		if len(p.Versions) == 0 && p.Last == v.Number && s.params[at][p.Name] == p {
			delete(s.params[at], p.Name)
		}
		s.mu.Unlock()
		s.emit(ctx, at, changeEvent, []string{parameterARN(at, p.Name)}, map[string]any{
			"exception": "Unable to Describe Resource", "dataType": imageDataType, "name": p.Name, "type": string(v.Type), "operation": operation,
		})
		return
	}
	s.mu.Lock()
	gone := s.params[at][p.Name] != p
	if !gone {
		s.commit(p, v)
	}
	s.mu.Unlock()
	if !gone {
		s.emitChange(ctx, at, operation, p.Name, v)
	}
}

func (s *Service) emitChange(ctx context.Context, at scope.Key, operation, name string, v version) {
	s.emit(ctx, at, changeEvent, []string{parameterARN(at, name)}, map[string]any{
		"operation": operation, "name": name, "type": string(v.Type), "description": v.Description,
	})
}

// DeleteParameter deletes a parameter with all its versions.
func (s *Service) DeleteParameter(ctx context.Context, in *ssm.DeleteParameterInput, optFns ...func(*ssm.Options)) (*ssm.DeleteParameterOutput, error) {
	at := scope.KeyOf(s.caller(ctx, optFns))
	if err := s.remove(ctx, at, aws.ToString(in.Name)); err != nil {
		return nil, err
	}
	return &ssm.DeleteParameterOutput{}, nil
}

// DeleteParameters deletes up to ten parameters, and returns the names that it does not
// find.
func (s *Service) DeleteParameters(ctx context.Context, in *ssm.DeleteParametersInput, optFns ...func(*ssm.Options)) (*ssm.DeleteParametersOutput, error) {
	if len(in.Names) == 0 || len(in.Names) > 10 {
		return nil, wire.Errorf("ValidationException", "%d Names given; 1 to 10 are allowed", len(in.Names))
	}
	at := scope.KeyOf(s.caller(ctx, optFns))
	out := &ssm.DeleteParametersOutput{}
	for _, name := range in.Names {
		if err := s.remove(ctx, at, name); err != nil {
			out.InvalidParameters = append(out.InvalidParameters, name)
		} else {
			out.DeletedParameters = append(out.DeletedParameters, name)
		}
	}
	return out, nil
}

func (s *Service) remove(ctx context.Context, at scope.Key, name string) error {
	if strings.HasPrefix(name, publicPrefix) {
		return wire.Errorf("AccessDeniedException", "No access to reserved parameter name: %s.", name)
	}
	s.mu.Lock()
	p, ok := s.lookup(at, name)
	if ok {
		delete(s.params[at], name)
	}
	v, _ := p.current()
	s.mu.Unlock()
	if !ok {
		return &types.ParameterNotFound{Message: aws.String(fmt.Sprintf("Parameter %s not found.", name))}
	}
	s.emitChange(ctx, at, "Delete", name, v)
	return nil
}

// LabelParameterVersion gives a version labels. A label moves from another version of the
// same parameter.
func (s *Service) LabelParameterVersion(ctx context.Context, in *ssm.LabelParameterVersionInput, optFns ...func(*ssm.Options)) (*ssm.LabelParameterVersionOutput, error) {
	at := scope.KeyOf(s.caller(ctx, optFns))
	name, _ := ref(aws.ToString(in.Name))
	if strings.HasPrefix(name, publicPrefix) {
		return nil, wire.Errorf("AccessDeniedException", "No access to reserved parameter name: %s.", name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.lookup(at, name)
	if !ok {
		return nil, &types.ParameterNotFound{Message: aws.String(fmt.Sprintf("Parameter %s not found.", name))}
	}
	number := p.Versions[len(p.Versions)-1].Number
	if in.ParameterVersion != nil {
		number = *in.ParameterVersion
	}
	target := slices.IndexFunc(p.Versions, func(v version) bool { return v.Number == number })
	if target < 0 {
		return nil, &types.ParameterVersionNotFound{Message: aws.String(fmt.Sprintf("Systems Manager could not find version %d of %s. Verify the version and try again.", number, name))}
	}
	out := &ssm.LabelParameterVersionOutput{ParameterVersion: number, InvalidLabels: []string{}}
	for _, label := range in.Labels {
		lower := strings.ToLower(label)
		if !labelName.MatchString(label) || strings.HasPrefix(lower, "aws") || strings.HasPrefix(lower, "ssm") {
			out.InvalidLabels = append(out.InvalidLabels, label)
		}
	}
	if len(out.InvalidLabels) > 0 {
		return out, nil
	}
	fresh := slices.DeleteFunc(slices.Clone(in.Labels), func(l string) bool { return slices.Contains(p.Versions[target].Labels, l) })
	if len(p.Versions[target].Labels)+len(fresh) > mostLabels {
		return nil, &types.ParameterVersionLabelLimitExceeded{Message: aws.String("An version can have maximum " + strconv.Itoa(mostLabels) + " labels. Move one or more labels to another version and try again.")}
	}
	for i := range p.Versions {
		p.Versions[i].Labels = slices.DeleteFunc(slices.Clone(p.Versions[i].Labels), func(l string) bool { return slices.Contains(fresh, l) })
	}
	p.Versions[target].Labels = append(p.Versions[target].Labels, fresh...)
	slices.Sort(p.Versions[target].Labels)
	return out, nil
}

// tagged returns the parameter of an operation on tags. s.mu is held.
func (s *Service) tagged(at scope.Key, kind types.ResourceTypeForTagging, id string) (*parameter, error) {
	if kind != types.ResourceTypeForTaggingParameter {
		return nil, &types.InvalidResourceType{Message: aws.String(fmt.Sprintf("The embedded SSM has tags on Parameter resources only, not on %s.", kind))}
	}
	p, ok := s.lookup(at, id)
	if !ok || strings.HasPrefix(id, publicPrefix) {
		return nil, &types.InvalidResourceId{Message: aws.String(fmt.Sprintf("There is no parameter %q.", id))}
	}
	if p.Tags == nil {
		p.Tags = map[string]string{}
	}
	return p, nil
}

// AddTagsToResource tags a parameter.
func (s *Service) AddTagsToResource(ctx context.Context, in *ssm.AddTagsToResourceInput, optFns ...func(*ssm.Options)) (*ssm.AddTagsToResourceOutput, error) {
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.tagged(at, in.ResourceType, aws.ToString(in.ResourceId))
	if err != nil {
		return nil, err
	}
	for _, t := range in.Tags {
		p.Tags[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	return &ssm.AddTagsToResourceOutput{}, nil
}

// RemoveTagsFromResource removes tags from a parameter.
func (s *Service) RemoveTagsFromResource(ctx context.Context, in *ssm.RemoveTagsFromResourceInput, optFns ...func(*ssm.Options)) (*ssm.RemoveTagsFromResourceOutput, error) {
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.tagged(at, in.ResourceType, aws.ToString(in.ResourceId))
	if err != nil {
		return nil, err
	}
	for _, name := range in.TagKeys {
		delete(p.Tags, name)
	}
	return &ssm.RemoveTagsFromResourceOutput{}, nil
}

// ListTagsForResource lists a parameter's tags by key.
func (s *Service) ListTagsForResource(ctx context.Context, in *ssm.ListTagsForResourceInput, optFns ...func(*ssm.Options)) (*ssm.ListTagsForResourceOutput, error) {
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.tagged(at, in.ResourceType, aws.ToString(in.ResourceId))
	if err != nil {
		return nil, err
	}
	out := &ssm.ListTagsForResourceOutput{TagList: []types.Tag{}}
	for _, name := range slices.Sorted(maps.Keys(p.Tags)) {
		out.TagList = append(out.TagList, types.Tag{Key: aws.String(name), Value: aws.String(p.Tags[name])})
	}
	return out, nil
}
