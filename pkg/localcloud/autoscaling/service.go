// Package autoscaling is the part of EC2 Auto Scaling that refers to images:
// launch configurations. There are no groups, so they launch nothing.
package autoscaling

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	"github.com/google/uuid"

	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/persist"
	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/partition"
)

// Limits of launch configurations:
// https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_DescribeLaunchConfigurations.html
// https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_CreateLaunchConfiguration.html
const (
	defaultPage = 50
	maxPage     = 100
	maxName     = 255
)

// Config describes a Service. All fields are required.
type Config struct {
	Clock   clock.Clock
	Default wire.Caller
	// ImageExists reports whether an account may use an image in a region.
	ImageExists func(ctx context.Context, account, region, imageID string) bool
}

// Service implements EC2 Auto Scaling.
type Service struct {
	cfg Config

	mu      sync.Mutex
	configs map[scope.Key]map[string]launchConfiguration // by name
}

// launchConfiguration cannot be changed once it is made.
type launchConfiguration struct {
	ARN     string
	Created time.Time
	Request autoscaling.CreateLaunchConfigurationInput
}

// New returns a Service without launch configurations.
func New(cfg Config) *Service {
	return &Service{cfg: cfg, configs: map[scope.Key]map[string]launchConfiguration{}}
}

func (s *Service) caller(ctx context.Context, optFns []func(*autoscaling.Options)) wire.Caller {
	return scope.CallerIn(ctx, s.cfg.Default, optFns, func(o *autoscaling.Options) *string { return &o.Region })
}

func invalid(format string, args ...any) error {
	return wire.Errorf("ValidationError", format, args...)
}

// CreateLaunchConfiguration makes a launch configuration from an image and an
// instance type. InstanceId is not supported.
func (s *Service) CreateLaunchConfiguration(ctx context.Context, in *autoscaling.CreateLaunchConfigurationInput, optFns ...func(*autoscaling.Options)) (*autoscaling.CreateLaunchConfigurationOutput, error) {
	c := s.caller(ctx, optFns)
	name, image := aws.ToString(in.LaunchConfigurationName), aws.ToString(in.ImageId)
	switch {
	case name == "" || len(name) > maxName || strings.Contains(name, ":"):
		return nil, invalid("The launch configuration's name %q must have 1 to %d characters, and no colon", name, maxName)
	case in.InstanceId != nil:
		return nil, invalid("The embedded Auto Scaling makes no launch configuration of an instance: name ImageId and InstanceType")
	case image == "" || aws.ToString(in.InstanceType) == "":
		return nil, invalid("Valid requests must contain either the InstanceID parameter or both the ImageId and InstanceType parameters.")
	case !s.cfg.ImageExists(ctx, c.Account, c.Region, image):
		return nil, invalid("The image id '[%s]' does not exist", image)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	at := scope.KeyOf(c)
	if _, exists := s.configs[at][name]; exists {
		return nil, &types.AlreadyExistsFault{Message: aws.String("Launch Configuration by this name already exists - A launch configuration already exists with the name " + name)}
	}
	if s.configs[at] == nil {
		s.configs[at] = map[string]launchConfiguration{}
	}
	s.configs[at][name] = launchConfiguration{
		ARN:     partition.ARN("autoscaling", c.Region, c.Account, "launchConfiguration:"+uuid.NewString()+":launchConfigurationName/"+name),
		Created: s.cfg.Clock.Now(), Request: *in,
	}
	return &autoscaling.CreateLaunchConfigurationOutput{}, nil
}

// DeleteLaunchConfiguration deletes a launch configuration.
func (s *Service) DeleteLaunchConfiguration(ctx context.Context, in *autoscaling.DeleteLaunchConfigurationInput, optFns ...func(*autoscaling.Options)) (*autoscaling.DeleteLaunchConfigurationOutput, error) {
	at := scope.KeyOf(s.caller(ctx, optFns))
	name := aws.ToString(in.LaunchConfigurationName)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, exists := s.configs[at][name]; !exists {
		return nil, invalid("Launch configuration name not found - Launch configuration %s not found", name)
	}
	delete(s.configs[at], name)
	return &autoscaling.DeleteLaunchConfigurationOutput{}, nil
}

// DescribeLaunchConfigurations lists launch configurations by name. Names that do
// not exist are left out.
func (s *Service) DescribeLaunchConfigurations(ctx context.Context, in *autoscaling.DescribeLaunchConfigurationsInput, optFns ...func(*autoscaling.Options)) (*autoscaling.DescribeLaunchConfigurationsOutput, error) {
	limit := defaultPage
	if in.MaxRecords != nil {
		if limit = int(*in.MaxRecords); limit < 1 || limit > maxPage {
			return nil, invalid("MaxRecords is %d: 1 to %d are allowed", limit, maxPage)
		}
	}
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []types.LaunchConfiguration
	for _, name := range slices.Sorted(maps.Keys(s.configs[at])) {
		if len(in.LaunchConfigurationNames) == 0 || slices.Contains(in.LaunchConfigurationNames, name) {
			found = append(found, s.configs[at][name].show())
		}
	}
	page, next, err := scope.Page(found, aws.ToString(in.NextToken), limit)
	if err != nil {
		return nil, err
	}
	return &autoscaling.DescribeLaunchConfigurationsOutput{LaunchConfigurations: page, NextToken: scope.Optional(next)}, nil
}

func (l launchConfiguration) show() types.LaunchConfiguration {
	in := l.Request
	out := types.LaunchConfiguration{
		LaunchConfigurationARN: aws.String(l.ARN), CreatedTime: aws.Time(l.Created),
		LaunchConfigurationName: in.LaunchConfigurationName, ImageId: in.ImageId, InstanceType: in.InstanceType,
		AssociatePublicIpAddress: in.AssociatePublicIpAddress, BlockDeviceMappings: slices.Clone(in.BlockDeviceMappings),
		EbsOptimized: aws.Bool(aws.ToBool(in.EbsOptimized)), IamInstanceProfile: in.IamInstanceProfile, InstanceMonitoring: in.InstanceMonitoring,
		KernelId: aws.String(aws.ToString(in.KernelId)), KeyName: aws.String(aws.ToString(in.KeyName)), RamdiskId: aws.String(aws.ToString(in.RamdiskId)),
		MetadataOptions: in.MetadataOptions, PlacementTenancy: in.PlacementTenancy, SecurityGroups: slices.Clone(in.SecurityGroups),
		SpotPrice: in.SpotPrice, UserData: aws.String(aws.ToString(in.UserData)),
	}
	if out.InstanceMonitoring == nil { // detailed monitoring is the default
		out.InstanceMonitoring = &types.InstanceMonitoring{Enabled: aws.Bool(true)}
	}
	return out
}

// Wire describes the service to the HTTP front end.
func (s *Service) Wire() wire.Service {
	return wire.Service{
		ID: "autoscaling", Name: "Auto Scaling", Protocol: wire.AWSQuery, Version: "2011-01-01",
		Operations: map[string]wire.Operation{
			"CreateLaunchConfiguration":    wire.Op(s.CreateLaunchConfiguration),
			"DeleteLaunchConfiguration":    wire.Op(s.DeleteLaunchConfiguration),
			"DescribeLaunchConfigurations": wire.Op(s.DescribeLaunchConfigurations),
		},
	}
}

// Snapshot implements wire.Stateful.
func (s *Service) Snapshot() (json.RawMessage, error) { return persist.Snapshot(&s.mu, &s.configs) }

// Restore implements wire.Stateful.
func (s *Service) Restore(raw json.RawMessage) error {
	return persist.Restore(&s.mu, "Auto Scaling", raw, &s.configs, nil)
}

var _ wire.Stateful = (*Service)(nil)
