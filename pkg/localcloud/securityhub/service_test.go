package securityhub_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/securityhub"
	"github.com/aws/aws-sdk-go-v2/service/securityhub/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/securityhub"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

const product = "arn:aws:securityhub:eu-west-1:111122223333:product/111122223333/default"

func newService(t *testing.T) *securityhub.Service {
	t.Helper()
	s := securityhub.New(clock.NewVirtual(time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC)), wire.Caller{Account: "111122223333", Region: "eu-west-1"})
	_, err := s.EnableSecurityHub(t.Context(), &sdk.EnableSecurityHubInput{})
	require.NoError(t, err)
	return s
}

func finding(id string, change func(*types.AwsSecurityFinding)) types.AwsSecurityFinding {
	f := types.AwsSecurityFinding{
		AwsAccountId: aws.String("111122223333"), CreatedAt: aws.String("2026-11-30T00:00:00.000Z"), UpdatedAt: aws.String("2026-11-30T00:00:00.000Z"),
		Description: aws.String("d"), GeneratorId: aws.String("g"), Id: &id, ProductArn: aws.String(product), SchemaVersion: aws.String("2018-10-08"), Title: aws.String("t"),
		Resources: []types.Resource{{Id: aws.String("arn"), Type: aws.String("Other")}}, RecordState: types.RecordStateActive,
		FindingProviderFields: &types.FindingProviderFields{Severity: &types.FindingProviderSeverity{Label: types.SeverityLabelHigh}, Types: []string{"a"}},
	}
	if change != nil {
		change(&f)
	}
	return f
}

func TestAFindingIsReplacedByOneOfItsID(t *testing.T) {
	s := newService(t)
	for _, title := range []string{"first", "second"} {
		out, err := s.BatchImportFindings(t.Context(), &sdk.BatchImportFindingsInput{Findings: []types.AwsSecurityFinding{
			finding("a", func(f *types.AwsSecurityFinding) { f.Title = &title }), finding("b", nil),
		}})
		require.NoError(t, err)
		assert.EqualValues(t, 2, *out.SuccessCount)
		assert.EqualValues(t, 0, *out.FailedCount)
	}
	raw, err := s.Snapshot()
	require.NoError(t, err)
	require.NoError(t, s.Restore(raw))
	out, err := s.GetFindings(t.Context(), &sdk.GetFindingsInput{Filters: &types.AwsSecurityFindingFilters{
		Id: []types.StringFilter{{Comparison: types.StringFilterComparisonEquals, Value: aws.String("a")}},
	}})
	require.NoError(t, err)
	require.Len(t, out.Findings, 1)
	assert.Equal(t, "second", *out.Findings[0].Title)
}

func TestAFindingThatIsNotValidIsRefusedAndTheOthersAreTaken(t *testing.T) {
	for why, change := range map[string]func(*types.AwsSecurityFinding){
		"Missing required field Title":                   func(f *types.AwsSecurityFinding) { f.Title = nil },
		"Missing required field Resources":               func(f *types.AwsSecurityFinding) { f.Resources = nil },
		"Missing required field Severity":                func(f *types.AwsSecurityFinding) { f.FindingProviderFields.Severity = nil },
		"Missing required field Types":                   func(f *types.AwsSecurityFinding) { f.FindingProviderFields.Types = nil },
		"SchemaVersion must be 2018-10-08":               func(f *types.AwsSecurityFinding) { f.SchemaVersion = aws.String("1") },
		"AwsAccountId is not that of the caller":         func(f *types.AwsSecurityFinding) { f.AwsAccountId = aws.String("1") },
		"ProductArn is not enabled for the account: arn": func(f *types.AwsSecurityFinding) { f.ProductArn = aws.String("arn") },
		"UpdatedAt is not a date-time":                   func(f *types.AwsSecurityFinding) { f.UpdatedAt = aws.String("today") },
		"Title, Description or Id is too long":           func(f *types.AwsSecurityFinding) { f.Title = aws.String(strings.Repeat("x", 257)) },
	} {
		t.Run(why, func(t *testing.T) {
			out, err := newService(t).BatchImportFindings(t.Context(), &sdk.BatchImportFindingsInput{Findings: []types.AwsSecurityFinding{finding("bad", change), finding("good", nil)}})
			require.NoError(t, err)
			assert.EqualValues(t, 1, *out.SuccessCount)
			require.Len(t, out.FailedFindings, 1)
			assert.Equal(t, "bad", *out.FailedFindings[0].Id)
			assert.Equal(t, why, *out.FailedFindings[0].ErrorMessage)
		})
	}
}

func TestABatchHasAtMost100Findings(t *testing.T) {
	var batch []types.AwsSecurityFinding
	for i := range 101 {
		batch = append(batch, finding(fmt.Sprint(i), nil))
	}
	_, err := newService(t).BatchImportFindings(t.Context(), &sdk.BatchImportFindingsInput{Findings: batch})
	assert.ErrorContains(t, err, "Findings has 101 members; 1 to 100 are allowed.")
}

func TestSecurityHubMustBeEnabled(t *testing.T) {
	s := securityhub.New(clock.NewVirtual(time.Now()), wire.Caller{Account: "111122223333", Region: "eu-west-1"})
	_, err := s.BatchImportFindings(t.Context(), &sdk.BatchImportFindingsInput{Findings: []types.AwsSecurityFinding{finding("a", nil)}})
	var refused *types.InvalidAccessException
	require.ErrorAs(t, err, &refused)
	_, err = s.GetFindings(t.Context(), &sdk.GetFindingsInput{})
	require.ErrorAs(t, err, &refused)
}
