package stage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/metric"
	"github.com/ami-factory/ami-factory/pkg/plan"
	"github.com/ami-factory/ami-factory/pkg/planner"
	"github.com/ami-factory/ami-factory/pkg/release"
	"github.com/ami-factory/ami-factory/pkg/store"
)

// Resolve reads the recipe, resolves and verifies what it builds on, plans the
// build and looks whether it is published already.
type Resolve struct {
	Settings Settings
	Store    store.Store
	Planner  planner.Planner
	Targets  func(account, region string) release.ParameterReader // of accounts other than the factory's
	Metrics  io.Writer                                            // see pkg/metric; nil: none are written
}

// Run returns what would be built, or that it is published already. That ends
// the execution without Notify: it is counted here.
func (s Resolve) Run(ctx context.Context, in ResolveInput) (ResolveOutput, error) {
	if err := requireInput("recipe", in.Recipe, "execution.id", in.Execution.ID, "execution.name", in.Execution.Name, "stage", in.State); err != nil {
		return ResolveOutput{}, err
	}
	if in.Now.IsZero() || in.Execution.StartTime.IsZero() {
		return ResolveOutput{}, missingInput([]string{"now or execution.startTime"})
	}
	if in.DelaySeconds < 0 || in.DelaySeconds > contract.MaxDelaySeconds {
		return ResolveOutput{}, failure.New(failure.InvalidInput, "delaySeconds is %d (allowed: 0 to %d)", in.DelaySeconds, contract.MaxDelaySeconds)
	}
	catalog, err := s.Planner.Open(in.Now)
	if err != nil {
		return ResolveOutput{}, err
	}
	p, bundle, err := s.Planner.Plan(ctx, catalog, planner.Request{
		Recipe: in.Recipe, Source: in.Source, ExecutionName: in.Execution.Name, ExecutionStart: in.Execution.StartTime,
	})
	if err != nil {
		return ResolveOutput{}, err
	}
	if err := s.Settings.checkScanner(p.Recipe.Gate.Vulnerabilities); err != nil {
		return ResolveOutput{}, err
	}
	if err := claimName(ctx, s.Store, in.Execution); err != nil {
		return ResolveOutput{}, err
	}
	out := ResolveOutput{
		Recipe: p.Recipe.Name, Fingerprint: p.Fingerprint, ReleaseID: p.ReleaseID, SourceImage: p.Source.ImageID, Regions: regionsOf(*p),
		Copies: p.Recipe.Distribution.Copies, ApprovalSeconds: int(time.Duration(p.Recipe.Approval.Expires).Seconds()),
		Action: contract.ActionBake, Why: "a bake was asked for", Guests: s.Settings.guests(),
	}
	if !in.Force {
		if out.Published, err = s.Planner.Published(ctx, *p); err != nil {
			return ResolveOutput{}, err
		}
		out.UpToDate = out.Published != nil
	}
	if !in.Force && !out.UpToDate {
		w, err := s.decide(ctx, *p)
		if err != nil {
			return ResolveOutput{}, err
		}
		out.Why, out.Changed = w.why, w.changed
		if p.Reuse = w.reuse; w.reuse != nil {
			again, _ := p.Reused(homeOf(*p))
			out.Action, out.ImageID = contract.ActionRelease, again.ImageID
		}
	}
	if out.UpToDate {
		out.Action, out.Why = "", ""
	}
	p.Why, p.Changed = out.Why, out.Changed
	if out.Plan, err = s.keep(ctx, p, bundle); err != nil {
		return ResolveOutput{}, err
	}
	if out.UpToDate {
		return out, metric.Emit(s.Metrics, in.Now, metric.Of(metric.Executions, 1, contract.UpToDate))
	}
	if p.Reuse != nil { // its checks were run
		return out, s.reach(ctx, *p)
	}
	if _, err := s.Settings.engine(p.Recipe.Architecture); err != nil { // known now, and needed after the whole bake
		return out, err
	}
	return out, s.reach(ctx, *p)
}

// reach makes sure that the pointers can be read and name the recipe's own images,
// before anything is made that could not be published.
func (s Resolve) reach(ctx context.Context, p plan.BuildPlan) error {
	errs := map[string]error{}
	for _, region := range regionsOf(p) {
		for _, ptr := range release.PointersIn(p.Recipe, region) {
			if ptr.Account != "" && errs[ptr.Account] != nil {
				continue
			}
			api := s.Planner.SSM(region)
			if ptr.Account != "" {
				api = s.Targets(ptr.Account, region)
			}
			id, err := release.ReadPointer(ctx, api, ptr.Parameter)
			if err != nil && ptr.Account != "" {
				errs[ptr.Account] = err
				continue
			}
			if err != nil {
				return awserr.Wrap(err, failure.Internal, "read pointer %s", ptr)
			}
			if _, err := release.PreviousImage(ctx, s.Planner.EC2(region), id, p.Recipe.Name); err != nil {
				return failure.Wrap(failure.CodeOf(err), err, "nothing was started: pointer %s", ptr)
			}
		}
	}
	if len(errs) == 0 {
		return nil
	}
	accounts := slices.Sorted(maps.Keys(errs))
	code, all := failure.AccessDenied, []error{}
	for _, account := range accounts {
		if c := awserr.Classify(errs[account], code); c == failure.Throttled || c == failure.ServiceUnavailable {
			code = c // another attempt reports the rest
		}
		all = append(all, fmt.Errorf("account %s: %s", account, awserr.Brief(errs[account])))
	}
	return failure.Wrap(code, errors.Join(all...),
		"nothing was started: pointers cannot be kept in account %s; see that the stack of target accounts is deployed there, and that this factory's context names it", strings.Join(accounts, ", "))
}

// keep stores the plan and its bundle under their digests.
func (s Resolve) keep(ctx context.Context, p *plan.BuildPlan, bundle []byte) (store.Object, error) {
	if _, err := s.Store.Put(ctx, contract.BundleKey(p.Bundle.SHA256), "application/gzip", bundle); err != nil {
		return store.Object{}, err
	}
	raw, err := json.Marshal(p)
	if err != nil {
		return store.Object{}, failure.Wrap(failure.Internal, err, "encode the plan")
	}
	return s.Store.Put(ctx, contract.PlanKey(store.Digest(raw)), "application/json", raw)
}
