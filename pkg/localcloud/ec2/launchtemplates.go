package ec2

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// Launch templates are stored and described, and refer to images. RunInstances
// does not accept them.

// launchTemplate is a launch template with its versions, oldest first.
type launchTemplate struct {
	types.LaunchTemplate
	Account  string
	Region   string
	Versions []templateVersion
}

type templateVersion struct {
	types.LaunchTemplateVersion
	Request types.RequestLaunchTemplateData // the original request
}

var templateName = regexp.MustCompile(`^[a-zA-Z0-9().\-/_]{3,128}$`)

// latestVersion and defaultVersion name versions in requests.
const (
	latestVersion  = "$Latest"
	defaultVersion = "$Default"
)

// CreateLaunchTemplate makes a launch template with its first version, which is
// the default.
func (s *Service) CreateLaunchTemplate(ctx context.Context, in *ec2.CreateLaunchTemplateInput, optFns ...func(*ec2.Options)) (*ec2.CreateLaunchTemplateOutput, error) {
	c := s.caller(ctx, optFns)
	name := aws.ToString(in.LaunchTemplateName)
	if !templateName.MatchString(name) {
		return nil, wire.Errorf("InvalidLaunchTemplateName.MalformedException", "A launch template name must be between 3 and 128 characters, and may contain letters, numbers, and the following characters: - ( ) . / _.")
	}
	if in.LaunchTemplateData == nil {
		return nil, required("LaunchTemplateData", nil)
	}
	if in.Operator != nil {
		return nil, wire.Errorf("UnsupportedOperation", "The embedded EC2 has no managed launch templates")
	}
	tags, err := specifiedTags(in.TagSpecifications, types.ResourceTypeLaunchTemplate, types.ResourceTypeLaunchTemplate)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.unlock()
	params := *in
	params.ClientToken = nil
	key, digest, done, err := s.replay(c, "CreateLaunchTemplate", in.ClientToken, params)
	if err != nil {
		return nil, err
	}
	if t, ok := s.st.Templates[done]; ok {
		return &ec2.CreateLaunchTemplateOutput{LaunchTemplate: t.view()}, nil
	}
	if slices.ContainsFunc(s.templates(c), func(t *launchTemplate) bool { return *t.LaunchTemplateName == name }) {
		return nil, wire.Errorf("InvalidLaunchTemplateName.AlreadyExistsException", "Launch template name already in use.")
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	id := "lt-" + scope.Hex(17)
	t := &launchTemplate{Account: c.Account, Region: c.Region, LaunchTemplate: types.LaunchTemplate{
		LaunchTemplateId: &id, LaunchTemplateName: &name, CreateTime: aws.Time(s.cfg.Clock.Now()), CreatedBy: aws.String(c.ARN),
		DefaultVersionNumber: aws.Int64(1), Tags: tags,
	}}
	if _, err := s.addVersion(c, t, *in.LaunchTemplateData, in.VersionDescription); err != nil {
		return nil, err
	}
	s.st.Templates[id] = t
	s.remember(key, digest, id)
	return &ec2.CreateLaunchTemplateOutput{LaunchTemplate: t.view()}, nil
}

// CreateLaunchTemplateVersion adds a version, which becomes the latest but not
// the default.
func (s *Service) CreateLaunchTemplateVersion(ctx context.Context, in *ec2.CreateLaunchTemplateVersionInput, optFns ...func(*ec2.Options)) (*ec2.CreateLaunchTemplateVersionOutput, error) {
	c := s.caller(ctx, optFns)
	if in.LaunchTemplateData == nil {
		return nil, required("LaunchTemplateData", nil)
	}
	if in.SourceVersion != nil || aws.ToBool(in.ResolveAlias) {
		return nil, wire.Errorf("UnsupportedOperation", "The embedded EC2 does not support SourceVersion or ResolveAlias for a version of a launch template")
	}
	s.mu.Lock()
	defer s.unlock()
	t, err := s.template(c, in.LaunchTemplateId, in.LaunchTemplateName)
	if err != nil {
		return nil, err
	}
	params := *in
	params.ClientToken = nil
	key, digest, done, err := s.replay(c, "CreateLaunchTemplateVersion", in.ClientToken, params)
	if err != nil {
		return nil, err
	}
	if n := t.number(done); n > 0 {
		v := t.version(n)
		return &ec2.CreateLaunchTemplateVersionOutput{LaunchTemplateVersion: &v}, nil
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	v, err := s.addVersion(c, t, *in.LaunchTemplateData, in.VersionDescription)
	if err != nil {
		return nil, err
	}
	s.remember(key, digest, strconv.FormatInt(*v.VersionNumber, 10))
	return &ec2.CreateLaunchTemplateVersionOutput{LaunchTemplateVersion: v}, nil
}

func (s *Service) addVersion(c wire.Caller, t *launchTemplate, data types.RequestLaunchTemplateData, description *string) (*types.LaunchTemplateVersion, error) {
	// The response type has the members of the request type.
	var described types.ResponseLaunchTemplateData
	raw, err := json.Marshal(data)
	if err == nil {
		err = json.Unmarshal(raw, &described)
	}
	if err != nil {
		return nil, fmt.Errorf("ec2: describe a version of launch template %s: %w", *t.LaunchTemplateId, err)
	}
	n := int64(len(t.Versions) + 1)
	t.Versions = append(t.Versions, templateVersion{Request: data, LaunchTemplateVersion: types.LaunchTemplateVersion{
		LaunchTemplateId: t.LaunchTemplateId, LaunchTemplateName: t.LaunchTemplateName, VersionNumber: &n, VersionDescription: description,
		CreateTime: aws.Time(s.cfg.Clock.Now()), CreatedBy: aws.String(c.ARN), LaunchTemplateData: &described,
	}})
	t.LatestVersionNumber = &n
	v := t.version(n)
	return &v, nil
}

// DeleteLaunchTemplate deletes a launch template and all its versions.
func (s *Service) DeleteLaunchTemplate(ctx context.Context, in *ec2.DeleteLaunchTemplateInput, optFns ...func(*ec2.Options)) (*ec2.DeleteLaunchTemplateOutput, error) {
	c := s.caller(ctx, optFns)
	s.mu.Lock()
	defer s.unlock()
	t, err := s.template(c, in.LaunchTemplateId, in.LaunchTemplateName)
	if err != nil {
		return nil, err
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	delete(s.st.Templates, *t.LaunchTemplateId)
	return &ec2.DeleteLaunchTemplateOutput{LaunchTemplate: t.view()}, nil
}

// DescribeLaunchTemplateVersions lists versions of one launch template, newest
// first: all, or those given by number, $Latest or $Default.
func (s *Service) DescribeLaunchTemplateVersions(ctx context.Context, in *ec2.DescribeLaunchTemplateVersionsInput, optFns ...func(*ec2.Options)) (*ec2.DescribeLaunchTemplateVersionsOutput, error) {
	c := s.caller(ctx, optFns)
	if len(in.Filters) > 0 || in.MinVersion != nil || in.MaxVersion != nil || aws.ToBool(in.ResolveAlias) || in.LaunchTemplateId == nil && in.LaunchTemplateName == nil {
		return nil, wire.Errorf("UnsupportedOperation", "The embedded EC2 describes versions of one launch template, by LaunchTemplateId or LaunchTemplateName and Versions")
	}
	s.mu.Lock()
	defer s.unlock()
	t, err := s.template(c, in.LaunchTemplateId, in.LaunchTemplateName)
	if err != nil {
		return nil, err
	}
	list := []types.LaunchTemplateVersion{}
	for n := int64(len(t.Versions)); n > 0; n-- {
		if v := t.version(n); len(in.Versions) == 0 || slices.ContainsFunc(in.Versions, func(name string) bool { return t.number(name) == n }) {
			list = append(list, v)
		}
	}
	for _, name := range in.Versions {
		if n := t.number(name); n < 1 || n > int64(len(t.Versions)) {
			return nil, wire.Errorf("InvalidLaunchTemplateId.VersionNotFound", "Could not find launch template version %s of %s", name, *t.LaunchTemplateId)
		}
	}
	list, next, err := page(list, in.NextToken, in.MaxResults, 1)
	if err != nil {
		return nil, err
	}
	return &ec2.DescribeLaunchTemplateVersionsOutput{LaunchTemplateVersions: list, NextToken: next}, nil
}

func (t *launchTemplate) view() *types.LaunchTemplate {
	out := t.LaunchTemplate
	return &out
}

func (t *launchTemplate) version(n int64) types.LaunchTemplateVersion {
	v := t.Versions[n-1].LaunchTemplateVersion
	v.DefaultVersion = aws.Bool(n == *t.DefaultVersionNumber)
	return v
}

// number returns the number of a version by its name, or 0 if it does not exist.
func (t *launchTemplate) number(name string) int64 {
	switch name {
	case latestVersion:
		return *t.LatestVersionNumber
	case defaultVersion:
		return *t.DefaultVersionNumber
	}
	n, err := strconv.ParseInt(name, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// templates returns the caller's templates, by id. The caller of templates holds
// s.mu.
func (s *Service) templates(c wire.Caller) []*launchTemplate {
	var list []*launchTemplate
	for _, t := range s.st.Templates {
		if t.Account == c.Account && t.Region == c.Region {
			list = append(list, t)
		}
	}
	slices.SortFunc(list, func(a, b *launchTemplate) int { return strings.Compare(*a.LaunchTemplateId, *b.LaunchTemplateId) })
	return list
}

// template returns a template by id or by name. The caller of template holds
// s.mu.
func (s *Service) template(c wire.Caller, id, name *string) (*launchTemplate, error) {
	if (id == nil) == (name == nil) {
		return nil, wire.Errorf("MissingParameter", "Specify either LaunchTemplateId or LaunchTemplateName")
	}
	for _, t := range s.templates(c) {
		if id != nil && *t.LaunchTemplateId == *id || name != nil && *t.LaunchTemplateName == *name {
			return t, nil
		}
	}
	if id != nil {
		return nil, wire.Errorf("InvalidLaunchTemplateId.NotFound", "The specified launch template, with template ID %s, does not exist.", *id)
	}
	return nil, wire.Errorf("InvalidLaunchTemplateName.NotFoundException", "The specified launch template, with template name %s, does not exist.", *name)
}
