// Package servicequotas is the Service Quotas of the embedded AWS: the quotas
// that a factory can reach, with AWS's defaults and the values of accounts. They
// are only shown and not enforced.
package servicequotas

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/servicequotas"
	"github.com/aws/aws-sdk-go-v2/service/servicequotas/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/persist"
	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/partition"
)

// quota is a quota of a service, per account and region.
type quota struct {
	service, serviceName string
	code, name           string
	value                float64 // AWS's default
	applied              float64 // value of accounts in use; 0 for the default
	adjustable           bool
}

// quotas returns the served quotas, by service and code. Defaults are those of
// the pages "Endpoints and quotas" in the AWS General Reference. New accounts
// may start 5 vCPUs; accounts in use have more, here 32.
func quotas() []quota {
	const ec2Name, ebsName, lambdaName = "Amazon Elastic Compute Cloud (Amazon EC2)", "Amazon Elastic Block Store (Amazon EBS)", "AWS Lambda"
	return []quota{
		{"ebs", ebsName, "L-309BACF6", "Snapshots per Region", 100000, 0, true},
		{"ec2", ec2Name, "L-1216C47A", "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances", 5, 32, true},
		{"ec2", ec2Name, "L-B665C33B", "AMIs", 50000, 0, true},
		{"lambda", lambdaName, "L-B99A9384", "Concurrent executions", 1000, 0, true},
	}
}

// Service implements Service Quotas.
type Service struct {
	fallback wire.Caller

	mu      sync.Mutex
	applied map[scope.Key]map[string]float64 // by service/code
}

// New returns a Service whose default caller is fallback.
func New(fallback wire.Caller) *Service {
	return &Service{fallback: fallback, applied: map[scope.Key]map[string]float64{}}
}

// Set sets an account's value of a quota in a region, which on AWS needs an
// approved request.
func (s *Service) Set(account, region, service, code string, value float64) error {
	if _, err := find(service, code); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	at := scope.Key{Account: account, Region: region}
	if s.applied[at] == nil {
		s.applied[at] = map[string]float64{}
	}
	s.applied[at][service+"/"+code] = value
	return nil
}

func (s *Service) caller(ctx context.Context, optFns []func(*servicequotas.Options)) wire.Caller {
	return scope.CallerIn(ctx, s.fallback, optFns, func(o *servicequotas.Options) *string { return &o.Region })
}

func find(service, code string) (quota, error) {
	for _, q := range quotas() {
		if q.service == service && q.code == code {
			return q, nil
		}
	}
	return quota{}, &types.NoSuchResourceException{Message: aws.String(fmt.Sprintf("The embedded Service Quotas does not know the quota %s of %s.", code, service))}
}

func (q quota) show(c wire.Caller, value float64) types.ServiceQuota {
	return types.ServiceQuota{
		ServiceCode: aws.String(q.service), ServiceName: aws.String(q.serviceName), QuotaCode: aws.String(q.code), QuotaName: aws.String(q.name),
		QuotaArn: aws.String(partition.ARN("servicequotas", c.Region, c.Account, q.service+"/"+q.code)),
		Value:    aws.Float64(value), Unit: aws.String("None"), Adjustable: q.adjustable, QuotaAppliedAtLevel: types.AppliedLevelEnumAccount,
	}
}

// valueOf returns an account's value. The caller holds s.mu.
func (s *Service) valueOf(c wire.Caller, q quota) float64 {
	if value, ok := s.applied[scope.KeyOf(c)][q.service+"/"+q.code]; ok {
		return value
	}
	if q.applied > 0 {
		return q.applied
	}
	return q.value
}

// GetServiceQuota returns a quota with the account's value.
func (s *Service) GetServiceQuota(ctx context.Context, in *servicequotas.GetServiceQuotaInput, optFns ...func(*servicequotas.Options)) (*servicequotas.GetServiceQuotaOutput, error) {
	c := s.caller(ctx, optFns)
	q, err := find(aws.ToString(in.ServiceCode), aws.ToString(in.QuotaCode))
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	shown := q.show(c, s.valueOf(c, q))
	return &servicequotas.GetServiceQuotaOutput{Quota: &shown}, nil
}

// GetAWSDefaultServiceQuota returns a quota with AWS's default.
func (s *Service) GetAWSDefaultServiceQuota(ctx context.Context, in *servicequotas.GetAWSDefaultServiceQuotaInput, optFns ...func(*servicequotas.Options)) (*servicequotas.GetAWSDefaultServiceQuotaOutput, error) {
	c := s.caller(ctx, optFns)
	q, err := find(aws.ToString(in.ServiceCode), aws.ToString(in.QuotaCode))
	if err != nil {
		return nil, err
	}
	shown := q.show(c, q.value)
	return &servicequotas.GetAWSDefaultServiceQuotaOutput{Quota: &shown}, nil
}

// ListServiceQuotas lists a service's served quotas by code.
func (s *Service) ListServiceQuotas(ctx context.Context, in *servicequotas.ListServiceQuotasInput, optFns ...func(*servicequotas.Options)) (*servicequotas.ListServiceQuotasOutput, error) {
	c := s.caller(ctx, optFns)
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []types.ServiceQuota
	for _, q := range quotas() {
		if q.service == aws.ToString(in.ServiceCode) {
			all = append(all, q.show(c, s.valueOf(c, q)))
		}
	}
	if len(all) == 0 {
		return nil, &types.NoSuchResourceException{Message: aws.String(fmt.Sprintf("The embedded Service Quotas does not know the service %s.", aws.ToString(in.ServiceCode)))}
	}
	limit := 100
	if in.MaxResults != nil {
		limit = int(*in.MaxResults)
	}
	page, next, err := scope.Page(all, aws.ToString(in.NextToken), limit)
	if err != nil {
		return nil, err
	}
	return &servicequotas.ListServiceQuotasOutput{Quotas: page, NextToken: scope.Optional(next)}, nil
}

// Wire describes the service to the HTTP front end.
func (s *Service) Wire() wire.Service {
	return wire.Service{
		ID: "servicequotas", Name: "Service Quotas", Protocol: wire.AWSJSON, Version: "2019-06-24", TargetPrefix: "ServiceQuotasV20190624",
		Operations: map[string]wire.Operation{
			"GetAWSDefaultServiceQuota": wire.Op(s.GetAWSDefaultServiceQuota),
			"GetServiceQuota":           wire.Op(s.GetServiceQuota),
			"ListServiceQuotas":         wire.Op(s.ListServiceQuotas),
		},
	}
}

// Snapshot implements wire.Stateful.
func (s *Service) Snapshot() (json.RawMessage, error) { return persist.Snapshot(&s.mu, &s.applied) }

// Restore implements wire.Stateful.
func (s *Service) Restore(raw json.RawMessage) error {
	return persist.Restore(&s.mu, "Service Quotas", raw, &s.applied, nil)
}

var _ wire.Stateful = (*Service)(nil)
