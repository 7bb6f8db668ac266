package stage

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/ami-factory/ami-factory/pkg/ami"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/plan"
	"github.com/ami-factory/ami-factory/pkg/release"
	"github.com/ami-factory/ami-factory/pkg/store"
)

// leftoverLife is how long after its start an execution's resources are past
// any use, for the janitor: no execution runs that long.
const leftoverLife = 48 * time.Hour

// The roles of an instance.
const (
	builderRole  = "builder"
	verifierRole = "verifier"
)

// loadPlan reads the plan that Resolve stored. What it points to is shared with later
// calls, so do not change it.
func loadPlan(ctx context.Context, s store.Store, in Job) (plan.BuildPlan, error) {
	if err := checkJob(in); err != nil {
		return plan.BuildPlan{}, err
	}
	p, err := store.Load(ctx, s, in.Plan, func(raw []byte) (*plan.BuildPlan, error) {
		var p plan.BuildPlan
		if err := json.Unmarshal(raw, &p); err != nil {
			return nil, failure.Wrap(failure.Internal, err, "decode the plan s3://%s/%s", in.Plan.Bucket, in.Plan.Key)
		}
		return &p, nil
	})
	if err != nil {
		return plan.BuildPlan{}, err
	}
	return *p, nil
}

func checkJob(in Job) error {
	var missing []string
	for _, f := range []struct {
		name  string
		empty bool
	}{
		{"execution.id", in.Execution.ID == ""},
		{"execution.name", in.Execution.Name == ""},
		{"execution.startTime", in.Execution.StartTime.IsZero()},
		{"stage", in.State == ""},
		{"now", in.Now.IsZero()},
		{"plan.key", in.Plan.Key == ""},
	} {
		if f.empty {
			missing = append(missing, f.name)
		}
	}
	return missingInput(missing)
}

// requireInput reports the names of values that are empty. Pairs are name, value.
func requireInput(pairs ...string) error {
	var missing []string
	for pair := range slices.Chunk(pairs, 2) {
		if pair[1] == "" {
			missing = append(missing, pair[0])
		}
	}
	return missingInput(missing)
}

func missingInput(names []string) error {
	if len(names) == 0 {
		return nil
	}
	return failure.New(failure.InvalidInput, "the stage's input lacks %s", strings.Join(names, ", "))
}

// labels for what a job makes.
func labels(in Job, p plan.BuildPlan, name string) ami.Labels {
	return ami.Labels{
		Name:        name,
		Recipe:      p.Recipe.Name,
		Execution:   in.Execution.Name,
		Stage:       in.State,
		Fingerprint: p.Fingerprint,
		Expires:     in.Execution.StartTime.Add(leftoverLife),
	}
}

func isNoImage(err error) bool    { return errors.Is(err, ami.ErrNotFound) }
func isNoInstance(err error) bool { return errors.Is(err, ami.ErrNoInstance) }

// regionsOf lists the plan's regions, as the recipe has them.
func regionsOf(p plan.BuildPlan) []string { return release.Regions(p.Recipe) }

// executionKey is the place in the bucket of something one execution writes.
func executionKey(e Execution, name string) string { return contract.ExecutionKey(e.Name, name) }
