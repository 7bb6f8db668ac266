package stage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/guest"
	"github.com/ami-factory/ami-factory/pkg/plan"
	"github.com/ami-factory/ami-factory/pkg/store"
)

// checksScript is the script that runs the checks, in the user data, and
// inventoryScript the one that it runs beside them.
const (
	checksScript    = "verify/run-checks.sh"
	inventoryScript = "verify/inventory.sh"
)

// urlSlack is how much longer than the checks an address for them is valid.
const urlSlack = 15 * time.Minute

// RunCompliance sends the checks to the verifier.
type RunCompliance struct {
	Settings Settings
	Store    store.Store
	SSM      guest.API
	Files    fs.FS
}

// Run sends the command, or finds it sent by an earlier attempt.
func (s RunCompliance) Run(ctx context.Context, in ComplianceInput) (RunComplianceOutput, error) {
	p, err := loadPlan(ctx, s.Store, in.Job)
	if err != nil {
		return RunComplianceOutput{}, err
	}
	if err := requireInput("instanceId", in.InstanceID, "imageId", in.ImageID); err != nil {
		return RunComplianceOutput{}, err
	}
	step := guest.Step{
		InstanceID: in.InstanceID, Execution: in.Execution.Name, Name: "checks", Timeout: time.Duration(p.Recipe.Checks.Timeout),
	}
	id, err := guest.Find(ctx, s.SSM, step)
	if err != nil {
		return RunComplianceOutput{}, awserr.Wrap(err, failure.ComplianceFailed, "look for the checks' command in %s", in.InstanceID)
	}
	if id != "" {
		return RunComplianceOutput{CommandID: id}, nil
	}
	if step.Script, err = s.script(ctx, in, p); err != nil {
		return RunComplianceOutput{}, err
	}
	if id, err = guest.Send(ctx, s.SSM, step); err != nil {
		return RunComplianceOutput{}, awserr.Wrap(err, failure.ComplianceFailed, "send the checks to %s", in.InstanceID)
	}
	return RunComplianceOutput{CommandID: id}, nil
}

// script is run-checks.sh after the addresses and digests that it needs. The
// verifier has no credentials of the factory: what it may read and write is in
// the addresses.
func (s RunCompliance) script(ctx context.Context, in ComplianceInput, p plan.BuildPlan) (string, error) {
	engine, err := s.Settings.engine(p.Recipe.Architecture)
	if err != nil {
		return "", err
	}
	body, err := fs.ReadFile(s.Files, checksScript)
	if err != nil {
		return "", failure.Wrap(failure.Internal, err, "read the script that runs the checks")
	}
	inventory, err := fs.ReadFile(s.Files, inventoryScript)
	if err != nil {
		return "", failure.Wrap(failure.Internal, err, "read the script that takes the inventory")
	}
	checks, err := s.Store.Put(ctx, contract.ChecksKey(store.Digest(p.Checks)), "application/yaml", p.Checks)
	if err != nil {
		return "", err
	}
	ttl := time.Duration(p.Recipe.Checks.Timeout) + urlSlack
	assets := s.Store
	if engine.Bucket != "" { // a deployment's assets have a bucket of their own
		assets.Bucket = engine.Bucket
	}
	gossURL, gossErr := assets.GetURL(ctx, engine.Key, ttl)
	checksURL, checksErr := s.Store.GetURL(ctx, checks.Key, ttl)
	resultsURL, resultsErr := s.Store.PutOnceURL(ctx, rawResultsKey(in.Execution), store.AnySize, ttl)
	inventoryURL, inventoryErr := s.Store.PutOnceURL(ctx, rawInventoryKey(in.Execution), store.AnySize, ttl)
	if err := errors.Join(gossErr, checksErr, resultsErr, inventoryErr); err != nil {
		return "", err
	}
	var b strings.Builder
	for _, v := range [][2]string{
		{"GOSS_URL", gossURL}, {"GOSS_SHA256", engine.SHA256},
		{"CHECKS_URL", checksURL}, {"CHECKS_SHA256", checks.SHA256},
		{"RESULTS_PUT_URL", resultsURL},
		{"INVENTORY_PUT_URL", inventoryURL}, {"INVENTORY_SCRIPT", strings.TrimRight(string(inventory), "\n")},
		{"INVENTORY_SECONDS", strconv.Itoa(int((time.Duration(p.Recipe.Checks.Timeout) - inventorySlack).Seconds()))},
	} {
		fmt.Fprintf(&b, "export %s=%s\n", v[0], shellQuote(v[1]))
	}
	if err := s.engines(ctx, &b, in, p, ttl); err != nil {
		return "", err
	}
	b.Write(body)
	return b.String(), nil
}

// inventorySlack is the time after the inventory in which the script can still report why
// there is none. A recipe's checks have one minute at least.
const inventorySlack = 20 * time.Second

// rawResultsKey is where the verifier puts the engine's own words.
func rawResultsKey(e Execution) string { return executionKey(e, contract.RawResultsObject) }

// rawInventoryKey is where the verifier puts its inventory.
func rawInventoryKey(e Execution) string { return executionKey(e, contract.RawInventoryObject) }

func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
