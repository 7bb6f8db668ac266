package stage

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/securityhub"
	hubtypes "github.com/aws/aws-sdk-go-v2/service/securityhub/types"

	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/evidence"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/store"
)

// maxRefused is how many refused findings an error names.
const maxRefused = 5

// FindingsAPI imports findings.
type FindingsAPI interface {
	BatchImportFindings(context.Context, *securityhub.BatchImportFindingsInput, ...func(*securityhub.Options)) (*securityhub.BatchImportFindingsOutput, error)
}

// sentFindings are the findings of a recipe that Security Hub has as active ones, as it
// was sent them. Security Hub archives nothing by itself, and a finding is archived by
// sending all of it again.
type sentFindings struct {
	Execution string                   `json:"execution"`
	Ended     time.Time                `json:"ended"`
	Findings  map[string]evidence.ASFF `json:"findings"` // by id
}

// findings sends what failed, what is waived and vulnerabilities to Security Hub, if the
// deployment wants that. A published image replaces the one before, so findings that it
// has not are archived. A rejected image adds its own and archives nothing: the published
// image still has the others. Executions that ended otherwise have no image, and those
// that another one has overtaken say nothing new.
func (s Notify) findings(ctx context.Context, in NotifyInput, r evidence.Report) error {
	if s.Hub == nil || r.Compliance == nil || r.Status != contract.Published && r.Status != contract.Rejected {
		return nil
	}
	key := contract.SecurityHubKey(r.Recipe)
	var sent sentFindings
	if _, err := s.Store.ReadJSON(ctx, key, &sent); err != nil {
		return err
	}
	if in.Now.Before(sent.Ended) {
		return nil
	}
	created := map[string]string{}
	for id, f := range sent.Findings {
		created[id] = f.CreatedAt
	}
	active, err := r.ASFF(created)
	if err != nil {
		return failure.Wrap(failure.Internal, err, "make the findings of Security Hub")
	}
	outgoing := slices.Clone(active)
	if r.Status == contract.Published {
		for _, id := range slices.Sorted(maps.Keys(sent.Findings)) {
			if !slices.ContainsFunc(active, func(f evidence.ASFF) bool { return f.ID == id }) {
				outgoing = append(outgoing, sent.Findings[id].Archived(in.Now))
			}
		}
	}
	refused, err := s.importFindings(ctx, outgoing)
	if err != nil {
		return err
	}
	// What was refused is not there: it is sent, or archived, again the next time.
	_, err = store.Update(ctx, s.Store, key, func(now *sentFindings) (bool, error) {
		if in.Now.Before(now.Ended) {
			return false, nil
		}
		now.take(r, in.Now, outgoing, refused)
		return true, nil
	})
	if err != nil {
		return err
	}
	return refusal(outgoing, refused)
}

// take notes what was sent and not refused.
func (f *sentFindings) take(r evidence.Report, now time.Time, outgoing []evidence.ASFF, refused map[string]string) {
	f.Execution, f.Ended = r.Execution.Name, now
	if f.Findings == nil {
		f.Findings = map[string]evidence.ASFF{}
	}
	for _, x := range outgoing {
		_, isRefused := refused[x.ID]
		switch {
		case isRefused:
		case x.Active():
			f.Findings[x.ID] = x
		default:
			delete(f.Findings, x.ID)
		}
	}
}

// importFindings sends findings in batches, and returns why which were refused, by id.
func (s Notify) importFindings(ctx context.Context, findings []evidence.ASFF) (map[string]string, error) {
	batches, err := evidence.BatchASFF(findings)
	if err != nil {
		return nil, failure.Wrap(failure.Internal, err, "make the findings of Security Hub")
	}
	refused := map[string]string{}
	for _, batch := range batches {
		raw, err := json.Marshal(batch)
		if err != nil {
			return nil, failure.Wrap(failure.Internal, err, "encode the findings of Security Hub")
		}
		// The names of an ASFF are those of the SDK's types.
		var in securityhub.BatchImportFindingsInput
		if err := json.Unmarshal(raw, &in.Findings); err != nil {
			return nil, failure.Wrap(failure.Internal, err, "decode the findings of Security Hub")
		}
		out, err := s.Hub.BatchImportFindings(ctx, &in)
		if err != nil {
			return nil, awserr.Wrap(err, failure.Internal, "send %d findings to Security Hub", len(batch))
		}
		for _, f := range out.FailedFindings {
			refused[aws.ToString(f.Id)] = reasonOf(f)
		}
	}
	return refused, nil
}

func reasonOf(f hubtypes.ImportFindingsError) string {
	return strings.TrimSpace(aws.ToString(f.ErrorCode) + " " + aws.ToString(f.ErrorMessage))
}

// refusal names findings that Security Hub did not take; nil if it took all.
func refusal(sent []evidence.ASFF, refused map[string]string) error {
	if len(refused) == 0 {
		return nil
	}
	var names []string
	for _, id := range slices.Sorted(maps.Keys(refused)) {
		if len(names) == maxRefused {
			names = append(names, fmt.Sprintf("and %d more", len(refused)-maxRefused))
			break
		}
		names = append(names, id+": "+refused[id])
	}
	return failure.New(failure.Internal, "Security Hub refused %d of %d findings: %s", len(refused), len(sent), strings.Join(names, "; "))
}
