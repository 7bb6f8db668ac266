// Package securityhub is the Security Hub of the embedded AWS: findings that are
// imported in the AWS Security Finding Format, and read again. It has no standards,
// insights or members.
package securityhub

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/securityhub"
	"github.com/aws/aws-sdk-go-v2/service/securityhub/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/persist"
	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/partition"
)

// The limits of BatchImportFindings
// (https://docs.aws.amazon.com/securityhub/1.0/APIReference/API_BatchImportFindings.html).
const (
	maxBatch = 100
	maxBytes = 240_000 // of one finding
	maxPage  = 100
)

// hub is what an account and region has.
type hub struct {
	Since    time.Time                           // it was enabled
	Findings map[string]types.AwsSecurityFinding // by product and id
}

// Service implements Security Hub. It is safe for concurrent use.
type Service struct {
	clock    clock.Clock
	fallback wire.Caller

	mu   sync.Mutex
	hubs map[scope.Key]*hub
}

// New returns a Service that is enabled nowhere.
func New(clk clock.Clock, fallback wire.Caller) *Service {
	return &Service{clock: clk, fallback: fallback, hubs: map[scope.Key]*hub{}}
}

func (s *Service) caller(ctx context.Context, optFns []func(*securityhub.Options)) wire.Caller {
	return scope.CallerIn(ctx, s.fallback, optFns, func(o *securityhub.Options) *string { return &o.Region })
}

// hubOf requires mu to be held.
func (s *Service) hubOf(c wire.Caller) (*hub, error) {
	h, ok := s.hubs[scope.KeyOf(c)]
	if !ok {
		return nil, &types.InvalidAccessException{Message: aws.String(fmt.Sprintf("Account %s is not subscribed to AWS Security Hub", c.Account))}
	}
	return h, nil
}

// EnableSecurityHub switches Security Hub on.
func (s *Service) EnableSecurityHub(ctx context.Context, _ *securityhub.EnableSecurityHubInput, optFns ...func(*securityhub.Options)) (*securityhub.EnableSecurityHubOutput, error) {
	c := s.caller(ctx, optFns)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.hubs[scope.KeyOf(c)]; ok {
		return nil, &types.ResourceConflictException{Message: aws.String("Account is already subscribed to Security Hub")}
	}
	s.hubs[scope.KeyOf(c)] = &hub{Since: s.clock.Now(), Findings: map[string]types.AwsSecurityFinding{}}
	return &securityhub.EnableSecurityHubOutput{}, nil
}

// BatchImportFindings adds or replaces findings. One that is not valid is refused, and
// the others are taken.
func (s *Service) BatchImportFindings(ctx context.Context, in *securityhub.BatchImportFindingsInput, optFns ...func(*securityhub.Options)) (*securityhub.BatchImportFindingsOutput, error) {
	if len(in.Findings) == 0 || len(in.Findings) > maxBatch {
		return nil, &types.InvalidInputException{Message: aws.String(fmt.Sprintf("Findings has %d members; 1 to %d are allowed.", len(in.Findings), maxBatch))}
	}
	c := s.caller(ctx, optFns)
	s.mu.Lock()
	defer s.mu.Unlock()
	h, err := s.hubOf(c)
	if err != nil {
		return nil, err
	}
	out := &securityhub.BatchImportFindingsOutput{FailedFindings: []types.ImportFindingsError{}, FailedCount: aws.Int32(0), SuccessCount: aws.Int32(0)}
	for _, f := range in.Findings {
		if why := refuse(c, f); why != "" {
			*out.FailedCount++
			out.FailedFindings = append(out.FailedFindings, types.ImportFindingsError{Id: f.Id, ErrorCode: aws.String("InvalidInput"), ErrorMessage: &why})
			continue
		}
		*out.SuccessCount++
		h.Findings[aws.ToString(f.ProductArn)+" "+aws.ToString(f.Id)] = f
	}
	return out, nil
}

// refuse says what is wrong with a finding; empty: nothing.
func refuse(c wire.Caller, f types.AwsSecurityFinding) string {
	required := map[string]*string{
		"AwsAccountId": f.AwsAccountId, "CreatedAt": f.CreatedAt, "Description": f.Description, "GeneratorId": f.GeneratorId, "Id": f.Id,
		"ProductArn": f.ProductArn, "SchemaVersion": f.SchemaVersion, "Title": f.Title, "UpdatedAt": f.UpdatedAt,
	}
	for _, name := range slices.Sorted(maps.Keys(required)) {
		if aws.ToString(required[name]) == "" {
			return "Missing required field " + name
		}
	}
	product := partition.ARN("securityhub", c.Region, c.Account, "product/"+c.Account+"/default")
	raw, err := json.Marshal(f)
	switch {
	case err != nil:
		return err.Error()
	case *f.SchemaVersion != "2018-10-08":
		return "SchemaVersion must be 2018-10-08"
	case *f.AwsAccountId != c.Account:
		return "AwsAccountId is not that of the caller"
	case *f.ProductArn != product:
		return "ProductArn is not enabled for the account: " + *f.ProductArn
	case len(f.Resources) == 0:
		return "Missing required field Resources"
	case f.Severity == nil && (f.FindingProviderFields == nil || f.FindingProviderFields.Severity == nil):
		return "Missing required field Severity"
	case len(f.Types) == 0 && (f.FindingProviderFields == nil || len(f.FindingProviderFields.Types) == 0):
		return "Missing required field Types"
	case len([]rune(*f.Title)) > 256, len([]rune(*f.Description)) > 1024, len([]rune(*f.Id)) > 512:
		return "Title, Description or Id is too long"
	case len(raw) > maxBytes:
		return fmt.Sprintf("Finding has %d bytes", len(raw))
	}
	for _, name := range []string{"CreatedAt", "UpdatedAt"} {
		if _, err := time.Parse(time.RFC3339, *required[name]); err != nil {
			return name + " is not a date-time"
		}
	}
	return ""
}

// GetFindings lists findings by id. Filters are Id and RecordState, by equality.
func (s *Service) GetFindings(ctx context.Context, in *securityhub.GetFindingsInput, optFns ...func(*securityhub.Options)) (*securityhub.GetFindingsOutput, error) {
	limit := maxPage
	if in.MaxResults != nil {
		if limit = int(*in.MaxResults); limit < 1 || limit > maxPage {
			return nil, &types.InvalidInputException{Message: aws.String(fmt.Sprintf("MaxResults is %d; 1 to %d are allowed.", limit, maxPage))}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	h, err := s.hubOf(s.caller(ctx, optFns))
	if err != nil {
		return nil, err
	}
	var found []types.AwsSecurityFinding
	for _, key := range slices.Sorted(maps.Keys(h.Findings)) {
		f := h.Findings[key]
		if in.Filters != nil && (!equals(in.Filters.Id, aws.ToString(f.Id)) || !equals(in.Filters.RecordState, string(f.RecordState))) {
			continue
		}
		found = append(found, f)
	}
	page, next, err := scope.Page(found, aws.ToString(in.NextToken), limit)
	if err != nil {
		return nil, &types.InvalidInputException{Message: aws.String("The NextToken value is invalid.")}
	}
	if page == nil {
		page = []types.AwsSecurityFinding{}
	}
	return &securityhub.GetFindingsOutput{Findings: page, NextToken: scope.Optional(next)}, nil
}

// equals reports whether a value passes a filter. No filter passes all.
func equals(filter []types.StringFilter, value string) bool {
	return len(filter) == 0 || slices.ContainsFunc(filter, func(f types.StringFilter) bool {
		return f.Comparison == types.StringFilterComparisonEquals && aws.ToString(f.Value) == value
	})
}

// Wire describes the service to the HTTP front end.
func (s *Service) Wire() wire.Service {
	return wire.Service{ID: "securityhub", Name: "Security Hub", Protocol: wire.REST, Version: "2018-10-26", Handler: s.handler()}
}

// Snapshot implements wire.Stateful.
func (s *Service) Snapshot() (json.RawMessage, error) { return persist.Snapshot(&s.mu, &s.hubs) }

// Restore implements wire.Stateful.
func (s *Service) Restore(raw json.RawMessage) error {
	hubs := map[scope.Key]*hub{}
	if err := json.Unmarshal(raw, &hubs); err != nil {
		return fmt.Errorf("restoring Security Hub: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hubs = hubs
	return nil
}

// maxBody is the largest request, in bytes: 100 findings of 240 KB.
const maxBody = 32 << 20

// routes returns the operations that are served, of the service's REST API.
func routes() wire.Routes {
	return wire.Routes{"POST /findings/import": "BatchImportFindings", "POST /findings": "GetFindings", "POST /accounts": "EnableSecurityHub"}
}

func (s *Service) handler() http.Handler {
	return routes().Handler("Security Hub", map[string]http.HandlerFunc{
		"BatchImportFindings": serve(s.BatchImportFindings), "GetFindings": serve(s.GetFindings), "EnableSecurityHub": serve(s.EnableSecurityHub),
	}, fail)
}

// serve makes a handler from a method with an SDK client's signature. The body is JSON
// with the member names of the input.
func serve[I, O any](call func(context.Context, *I, ...func(*securityhub.Options)) (*O, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		in := new(I)
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(in); err != nil {
			fail(w, &types.InvalidInputException{Message: aws.String("the request body is not the operation's input: " + err.Error())})
			return
		}
		out, err := call(r.Context(), in)
		if err == nil {
			err = wire.AnswerJSON(w, out)
		}
		if err != nil {
			fail(w, err)
		}
	}
}

// status returns the HTTP status of an error, from the API reference.
func status(code string) int {
	return map[string]int{
		"InvalidAccessException": http.StatusUnauthorized, "LimitExceededException": http.StatusTooManyRequests, "ResourceConflictException": http.StatusConflict,
		"ResourceNotFoundException": http.StatusNotFound, "AccessDeniedException": http.StatusForbidden,
	}[code]
}

func fail(w http.ResponseWriter, err error) { wire.FailJSON(w, err, status, nil) }
