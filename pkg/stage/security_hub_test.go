package stage

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/securityhub"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/evidence"
	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	hubdoor "github.com/ami-factory/ami-factory/pkg/localcloud/securityhub"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// fakeHub is the embedded Security Hub. It refuses findings whose ids end so.
type fakeHub struct {
	*hubdoor.Service
	faults
	refuses string
	batches []int
}

func newHub(t *testing.T) *fakeHub {
	t.Helper()
	f := &fakeHub{Service: hubdoor.New(clock.NewVirtual(start), wire.Caller{Account: factory, Region: home}), faults: faults{}}
	_, err := f.EnableSecurityHub(t.Context(), &securityhub.EnableSecurityHubInput{})
	require.NoError(t, err)
	return f
}

func (f *fakeHub) BatchImportFindings(ctx context.Context, in *securityhub.BatchImportFindingsInput, opts ...func(*securityhub.Options)) (*securityhub.BatchImportFindingsOutput, error) {
	if err := f.next("BatchImportFindings"); err != nil {
		return nil, err
	}
	f.batches = append(f.batches, len(in.Findings))
	taken := *in
	taken.Findings = nil
	for _, x := range in.Findings {
		if f.refuses != "" && strings.HasSuffix(*x.Id, f.refuses) {
			x.ProductArn = nil
		}
		taken.Findings = append(taken.Findings, x)
	}
	return f.Service.BatchImportFindings(ctx, &taken, opts...)
}

// states are the record states of what Security Hub has, by id.
func (f *fakeHub) states(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	pages := securityhub.NewGetFindingsPaginator(f.Service, &securityhub.GetFindingsInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		require.NoError(t, err)
		for _, x := range page.Findings {
			out[*x.Id] = string(x.RecordState) + " since " + *x.CreatedAt
		}
	}
	return out
}

// checked is the report of an execution whose image failed these controls.
func checkedAt(status string, at time.Time, failed ...string) evidence.Report {
	r := evidence.Report{Recipe: "debian", Status: status, Compliance: &compliance.Report{ImageID: "ami-1"}}
	r.Execution = evidence.Execution{Name: "run-" + at.Format("15"), ID: "arn:aws:states:" + home + ":" + factory + ":execution:ami-factory:run", Started: at, Ended: at}
	for _, id := range failed {
		r.Compliance.Results = append(r.Compliance.Results, compliance.Result{ControlID: id, Title: "t", Severity: "low", Status: compliance.StatusFail})
	}
	return r
}

func send(t *testing.T, s *fakeS3, hub *fakeHub, r evidence.Report) error {
	t.Helper()
	in := NotifyInput{}
	in.Now = r.Execution.Ended
	return Notify{Store: s.store(), Hub: hub}.findings(t.Context(), in, r)
}

func TestFindingsThatAPublishedImageHasNotAreArchived(t *testing.T) {
	s, hub := newS3(t), newHub(t)
	first, second := start.Add(time.Hour), start.Add(2*time.Hour)
	at := func(when time.Time) string { return " since " + when.UTC().Format("2006-01-02T15:04:05.000Z") }
	require.NoError(t, send(t, s, hub, checkedAt(contract.Published, start, "A-01", "A-02")))
	assert.Equal(t, map[string]string{"debian/A-01": "ACTIVE" + at(start), "debian/A-02": "ACTIVE" + at(start)}, hub.states(t))

	require.NoError(t, send(t, s, hub, checkedAt(contract.Rejected, first, "A-03")))
	assert.Equal(t, map[string]string{"debian/A-01": "ACTIVE" + at(start), "debian/A-02": "ACTIVE" + at(start), "debian/A-03": "ACTIVE" + at(first)}, hub.states(t),
		"a rejected image replaces nothing")

	require.NoError(t, send(t, s, hub, checkedAt(contract.Published, second, "A-02")))
	want := map[string]string{"debian/A-01": "ARCHIVED" + at(start), "debian/A-02": "ACTIVE" + at(start), "debian/A-03": "ARCHIVED" + at(first)}
	assert.Equal(t, want, hub.states(t))

	require.NoError(t, send(t, s, hub, checkedAt(contract.Published, first, "A-01")))
	assert.Equal(t, want, hub.states(t), "an execution that another one has overtaken says nothing")

	require.NoError(t, send(t, s, hub, checkedAt(contract.Published, second.Add(time.Hour))))
	assert.Equal(t, "ARCHIVED"+at(start), hub.states(t)["debian/A-02"])
	assert.NotContains(t, string(s.get(contract.SecurityHubKey("debian"))), "A-0", "what is archived is forgotten")
}

func TestRefusedFindingsAreNamedAndSentAgain(t *testing.T) {
	s, hub := newS3(t), newHub(t)
	hub.refuses = "A-02"
	err := send(t, s, hub, checkedAt(contract.Published, start, "A-01", "A-02"))
	require.EqualError(t, err, "Security Hub refused 1 of 2 findings: debian/A-02: InvalidInput Missing required field ProductArn")
	hub.refuses = ""
	require.NoError(t, send(t, s, hub, checkedAt(contract.Published, start.Add(time.Hour), "A-02")))
	states := hub.states(t)
	assert.Contains(t, states["debian/A-01"], "ARCHIVED")
	assert.Contains(t, states["debian/A-02"], "ACTIVE")

	hub.refuses = "A-02" // now as one to archive
	require.Error(t, send(t, s, hub, checkedAt(contract.Published, start.Add(2*time.Hour))))
	hub.refuses = ""
	require.NoError(t, send(t, s, hub, checkedAt(contract.Published, start.Add(3*time.Hour))))
	assert.Contains(t, hub.states(t)["debian/A-02"], "ARCHIVED")
}

func TestManyFindingsAreSentInBatches(t *testing.T) {
	s, hub := newS3(t), newHub(t)
	var ids []string
	for i := range 250 {
		ids = append(ids, fmt.Sprintf("A-%03d", i))
	}
	require.NoError(t, send(t, s, hub, checkedAt(contract.Published, start, ids...)))
	assert.Equal(t, []int{100, 100, 50}, hub.batches)
	hub.refuses = "5"
	assert.ErrorContains(t, send(t, s, hub, checkedAt(contract.Published, start, ids...)), "refused 25 of 250 findings: debian/A-005: InvalidInput Missing required field ProductArn; debian/A-015")
}

func TestOnlyCheckedImagesHaveFindings(t *testing.T) {
	for sentence, r := range map[string]evidence.Report{
		"nothing was built":           {Recipe: "debian", Status: contract.UpToDate},
		"the image was removed":       checkedAt(contract.FailedClean, start, "A-01"),
		"and could not be":            checkedAt(contract.FailedDirty, start, "A-01"),
		"a rejection without results": {Recipe: "debian", Status: contract.Rejected},
	} {
		t.Run(sentence, func(t *testing.T) {
			s, hub := newS3(t), newHub(t)
			require.NoError(t, send(t, s, hub, r))
			assert.Empty(t, hub.batches)
			assert.Nil(t, s.get(contract.SecurityHubKey("debian")))
		})
	}
}

func TestASecurityHubThatIsNotEnabledIsAnErrorWithItsReason(t *testing.T) {
	s, hub := newS3(t), &fakeHub{Service: hubdoor.New(clock.NewVirtual(start), wire.Caller{Account: factory, Region: home}), faults: faults{}}
	err := send(t, s, hub, checkedAt(contract.Published, start, "A-01"))
	require.ErrorContains(t, err, "send 1 findings to Security Hub")
	assert.ErrorContains(t, err, "Account "+factory+" is not subscribed to AWS Security Hub")
	assert.Nil(t, s.get(contract.SecurityHubKey("debian")), "nothing was sent")
}
