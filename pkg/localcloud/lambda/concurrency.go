package lambda

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	awslambda "github.com/aws/aws-sdk-go-v2/service/lambda"
)

// reserved returns the reserved concurrency, or nil.
func (f *function) reserved() *int32 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.config.Reserved
}

func (f *function) reserve(n *int32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.config.Reserved = n
}

// PutFunctionConcurrency implements the method of awslambda.Client.
func (s *Service) PutFunctionConcurrency(ctx context.Context, in *awslambda.PutFunctionConcurrencyInput, optFns ...func(*awslambda.Options)) (*awslambda.PutFunctionConcurrencyOutput, error) {
	f, err := s.find(aws.ToString(in.FunctionName), s.caller(ctx, optFns))
	if err != nil {
		return nil, err
	}
	if in.ReservedConcurrentExecutions == nil || *in.ReservedConcurrentExecutions < 0 {
		return nil, invalid("ReservedConcurrentExecutions is a number of at least 0")
	}
	f.reserve(in.ReservedConcurrentExecutions)
	return &awslambda.PutFunctionConcurrencyOutput{ReservedConcurrentExecutions: in.ReservedConcurrentExecutions}, nil
}

// GetFunctionConcurrency implements the method of awslambda.Client.
func (s *Service) GetFunctionConcurrency(ctx context.Context, in *awslambda.GetFunctionConcurrencyInput, optFns ...func(*awslambda.Options)) (*awslambda.GetFunctionConcurrencyOutput, error) {
	f, err := s.find(aws.ToString(in.FunctionName), s.caller(ctx, optFns))
	if err != nil {
		return nil, err
	}
	return &awslambda.GetFunctionConcurrencyOutput{ReservedConcurrentExecutions: f.reserved()}, nil
}

// DeleteFunctionConcurrency implements the method of awslambda.Client.
func (s *Service) DeleteFunctionConcurrency(ctx context.Context, in *awslambda.DeleteFunctionConcurrencyInput, optFns ...func(*awslambda.Options)) (*awslambda.DeleteFunctionConcurrencyOutput, error) {
	f, err := s.find(aws.ToString(in.FunctionName), s.caller(ctx, optFns))
	if err != nil {
		return nil, err
	}
	f.reserve(nil)
	return &awslambda.DeleteFunctionConcurrencyOutput{}, nil
}
