package lambda

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awslambda "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
)

const defaultPage = 50

// CreateFunction implements the method of awslambda.Client, for archives with a
// bootstrap.
func (s *Service) CreateFunction(ctx context.Context, in *awslambda.CreateFunctionInput, optFns ...func(*awslambda.Options)) (*awslambda.CreateFunctionOutput, error) {
	k, name, err := s.resolve(aws.ToString(in.FunctionName), s.caller(ctx, optFns))
	if err != nil {
		return nil, err
	}
	c := configuration{
		Name: name, ARN: functionARN(k, name), Description: aws.ToString(in.Description),
		MemoryMiB: defaultMemoryMiB, Timeout: defaultTimeout, Role: aws.ToString(in.Role),
		HandlerName: aws.ToString(in.Handler), Architecture: types.ArchitectureX8664, Tags: maps.Clone(in.Tags),
	}
	if len(in.Architectures) > 0 {
		c.Architecture = in.Architectures[0]
	}
	if in.PackageType == types.PackageTypeImage || in.Code == nil {
		return nil, invalid("only functions with a ZIP archive are available in the embedded AWS")
	}
	if !strings.HasPrefix(c.Role, "arn:") {
		return nil, invalid("the role %q is not an ARN", c.Role)
	}
	if err := c.apply(settings{
		environment: in.Environment, memory: in.MemorySize, timeout: in.Timeout, runtime: orDefault(in.Runtime, types.RuntimeProvidedal2023),
	}); err != nil {
		return nil, err
	}
	if err := s.checkRole(c); err != nil {
		return nil, err
	}
	if s.exists(k, name) {
		return nil, conflict("Function already exist: " + name)
	}
	code, err := s.archive(ctx, in.Code.ZipFile, in.Code.S3Bucket, in.Code.S3Key)
	if err != nil {
		return nil, err
	}
	if err := s.unpack(k, &c, code); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.functions[k][name] != nil {
		return nil, conflict("Function already exist: " + name)
	}
	return as[awslambda.CreateFunctionOutput](s.replace(k, nil, c).describe())
}

// checkRole refuses a role that Lambda cannot assume, as Lambda does.
func (s *Service) checkRole(c configuration) error {
	if s.config.Assumable == nil {
		return nil
	}
	if err := s.config.Assumable(strings.Split(c.ARN, ":")[4], c.ARN, c.Role); err != nil {
		return invalid("The role defined for the function cannot be assumed by Lambda.")
	}
	return nil
}

// as copies a configuration to an output type of the SDK that has the same
// members.
func as[O any](d types.FunctionConfiguration) (*O, error) {
	raw, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("write the configuration of %s: %w", aws.ToString(d.FunctionArn), err)
	}
	out := new(O)
	return out, json.Unmarshal(raw, out)
}

func conflict(message string) error {
	return &types.ResourceConflictException{Message: aws.String(message), Type: aws.String("User")}
}

func (s *Service) exists(k scope.Key, name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.functions[k][name] != nil
}

// settings holds the parameters that CreateFunction and
// UpdateFunctionConfiguration share.
type settings struct {
	environment     *types.Environment
	memory, timeout *int32
	runtime         types.Runtime
}

func (c *configuration) apply(in settings) error {
	switch in.runtime {
	case "":
	case types.RuntimeProvidedal2023, types.RuntimeProvidedal2:
		c.Runtime = in.runtime
	default:
		return invalid("the runtime %s is not available in the embedded AWS: use provided.al2023 with a bootstrap", in.runtime)
	}
	if in.memory != nil {
		if *in.memory < minMemoryMiB || *in.memory > maxMemoryMiB {
			return outside(*in.memory, "memorySize", minMemoryMiB, maxMemoryMiB)
		}
		c.MemoryMiB = int(*in.memory)
	}
	if in.timeout != nil {
		d := time.Duration(*in.timeout) * time.Second
		if d < time.Second || d > maxTimeout {
			return outside(*in.timeout, "timeout", 1, int32(maxTimeout/time.Second))
		}
		c.Timeout = d
	}
	if in.environment != nil {
		for name := range in.environment.Variables {
			if slices.Contains(reserved, name) {
				return invalid("Lambda was unable to configure your environment variables because the environment variables you have provided contains reserved keys that are currently not supported for modification. Reserved keys used in this request: %s", name)
			}
		}
		if err := checkEnvironment(in.environment.Variables); err != nil {
			return err
		}
		c.Env = maps.Clone(in.environment.Variables)
	}
	return nil
}

// GetFunction implements the method of awslambda.Client.
func (s *Service) GetFunction(ctx context.Context, in *awslambda.GetFunctionInput, optFns ...func(*awslambda.Options)) (*awslambda.GetFunctionOutput, error) {
	f, err := s.find(qualified(in.FunctionName, in.Qualifier), s.caller(ctx, optFns))
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	d := f.describe()
	out := &awslambda.GetFunctionOutput{
		Configuration: &d, Tags: maps.Clone(f.config.Tags), Code: &types.FunctionCodeLocation{RepositoryType: aws.String("local")},
	}
	if r := f.reserved(); r != nil {
		out.Concurrency = &types.Concurrency{ReservedConcurrentExecutions: r}
	}
	return out, nil
}

func qualified(name, qualifier *string) string {
	if aws.ToString(qualifier) == "" {
		return aws.ToString(name)
	}
	return aws.ToString(name) + ":" + *qualifier
}

// GetFunctionConfiguration implements the method of awslambda.Client.
func (s *Service) GetFunctionConfiguration(ctx context.Context, in *awslambda.GetFunctionConfigurationInput, optFns ...func(*awslambda.Options)) (*awslambda.GetFunctionConfigurationOutput, error) {
	f, err := s.find(qualified(in.FunctionName, in.Qualifier), s.caller(ctx, optFns))
	if err != nil {
		return nil, err
	}
	return as[awslambda.GetFunctionConfigurationOutput](f.describe())
}

// ListFunctions implements the method of awslambda.Client. The order is that of
// the names.
func (s *Service) ListFunctions(ctx context.Context, in *awslambda.ListFunctionsInput, optFns ...func(*awslambda.Options)) (*awslambda.ListFunctionsOutput, error) {
	k := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	all := []types.FunctionConfiguration{}
	for _, name := range s.names(k) {
		all = append(all, s.functions[k][name].describe())
	}
	items, next, err := scope.Page(all, aws.ToString(in.Marker), int(orDefault(aws.ToInt32(in.MaxItems), defaultPage)))
	if err != nil {
		return nil, invalid("the marker is not valid")
	}
	out := &awslambda.ListFunctionsOutput{Functions: items}
	if next != "" {
		out.NextMarker = aws.String(next)
	}
	return out, nil
}

// change replaces a function by one with a changed configuration.
func (s *Service) change(f *function, revision *string, edit func(*configuration) error) (types.FunctionConfiguration, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	current := s.functions[f.key][f.config.Name]
	if current == nil {
		return types.FunctionConfiguration{}, notFound("Function not found: " + f.config.ARN)
	}
	if revision != nil && *revision != current.config.Revision {
		return types.FunctionConfiguration{}, &types.PreconditionFailedException{
			Message: aws.String("The Revision Id provided does not match the latest Revision Id."), Type: aws.String("User"),
		}
	}
	c := current.config
	c.Reserved = current.reserved()
	if err := edit(&c); err != nil {
		return types.FunctionConfiguration{}, err
	}
	return s.replace(f.key, current, c).describe(), nil
}

// UpdateFunctionConfiguration implements the method of awslambda.Client.
func (s *Service) UpdateFunctionConfiguration(ctx context.Context, in *awslambda.UpdateFunctionConfigurationInput, optFns ...func(*awslambda.Options)) (*awslambda.UpdateFunctionConfigurationOutput, error) {
	f, err := s.find(aws.ToString(in.FunctionName), s.caller(ctx, optFns))
	if err != nil {
		return nil, err
	}
	d, err := s.change(f, in.RevisionId, func(c *configuration) error {
		if in.Description != nil {
			c.Description = *in.Description
		}
		if in.Role != nil {
			c.Role = *in.Role
			if err := s.checkRole(*c); err != nil {
				return err
			}
		}
		if in.Handler != nil {
			c.HandlerName = *in.Handler
		}
		return c.apply(settings{environment: in.Environment, memory: in.MemorySize, timeout: in.Timeout, runtime: in.Runtime})
	})
	if err != nil {
		return nil, err
	}
	return as[awslambda.UpdateFunctionConfigurationOutput](d)
}

// UpdateFunctionCode implements the method of awslambda.Client.
func (s *Service) UpdateFunctionCode(ctx context.Context, in *awslambda.UpdateFunctionCodeInput, optFns ...func(*awslambda.Options)) (*awslambda.UpdateFunctionCodeOutput, error) {
	f, err := s.find(aws.ToString(in.FunctionName), s.caller(ctx, optFns))
	if err != nil {
		return nil, err
	}
	code, err := s.archive(ctx, in.ZipFile, in.S3Bucket, in.S3Key)
	if err != nil {
		return nil, err
	}
	d := f.describe()
	if !in.DryRun {
		d, err = s.change(f, in.RevisionId, func(c *configuration) error {
			if len(in.Architectures) > 0 {
				c.Architecture = in.Architectures[0]
			}
			return s.unpack(f.key, c, code)
		})
		if err != nil {
			return nil, err
		}
	}
	return as[awslambda.UpdateFunctionCodeOutput](d)
}

// DeleteFunction implements the method of awslambda.Client. It ends the
// function's processes.
func (s *Service) DeleteFunction(ctx context.Context, in *awslambda.DeleteFunctionInput, optFns ...func(*awslambda.Options)) (*awslambda.DeleteFunctionOutput, error) {
	f, err := s.find(qualified(in.FunctionName, in.Qualifier), s.caller(ctx, optFns))
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	delete(s.functions[f.key], f.config.Name)
	s.mu.Unlock()
	f.close()
	if f.config.Owned {
		if err := os.RemoveAll(s.home(f.key, f.config.Name)); err != nil {
			return nil, fmt.Errorf("remove the code of %s: %w", f.config.ARN, err)
		}
	}
	return &awslambda.DeleteFunctionOutput{StatusCode: 204}, nil
}
