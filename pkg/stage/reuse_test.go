package stage

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/evidence/inventory"
	"github.com/ami-factory/ami-factory/pkg/evidence/vulnerability"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/plan"
	"github.com/ami-factory/ami-factory/pkg/recipe"
	"github.com/ami-factory/ami-factory/pkg/store"
)

// keptRecords are what an execution named maker kept of the image ami-new.
type keptRecords struct {
	claim  claim
	plan   plan.BuildPlan
	report compliance.Report
	output []byte
	leave  string // an object that is not kept

	verdict  string // digest of the verdict on vulnerabilities, if not the right one
	unjudged bool   // there is no such verdict
}

func newKeptRecords() *keptRecords {
	started := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	k := &keptRecords{
		claim:  claim{Execution: "arn:maker", Started: started},
		plan:   plan.BuildPlan{Recipe: recipe.Recipe{Name: "debian"}, Fingerprint: "f00d", ReleaseID: "first"},
		output: []byte(`{"results":[]}`),
		report: compliance.Report{
			ImageID: "ami-new", Guests: compliance.Guests{Kind: "ec2"},
			Of: compliance.Binding{Execution: "arn:maker", Started: started, Fingerprint: "f00d"},
		},
	}
	for _, id := range []string{"SYS-01", "SYS-02"} {
		k.report.Results = append(k.report.Results, compliance.Result{
			ControlID: id, InstanceID: "i-1", Engine: compliance.Engine{Name: "goss", Version: "v1"}, Evidence: compliance.Evidence{SHA256: store.Digest(k.output)},
		})
	}
	return k
}

// keep stores the records.
func (k *keptRecords) keep(t *testing.T) store.Store {
	t.Helper()
	s := newS3(t).store()
	put := func(key string, body []byte) {
		if k.leave != "" && key == k.leave {
			return
		}
		_, err := s.Put(t.Context(), key, "application/json", body)
		require.NoError(t, err)
	}
	encode := func(v any) []byte {
		raw, err := json.Marshal(v)
		require.NoError(t, err)
		return raw
	}
	raw := encode(k.plan)
	if k.report.Of.PlanSHA256 == "" {
		k.report.Of.PlanSHA256 = store.Digest(raw)
	}
	put(contract.PlanKey(store.Digest(raw)), raw)
	put("executions/maker/execution.json", encode(k.claim))
	listed, err := inventory.Parse(bytes.NewReader(inventory.Simulated()))
	require.NoError(t, err)
	document, err := listed.CycloneDX(inventory.Plain)
	require.NoError(t, err)
	if k.report.InventorySHA256 == "" {
		k.report.InventorySHA256 = store.Digest(document)
	}
	verdict := encode(vulnerability.Report{Pending: inventory.Pending{Unknown: "no network"}})
	if !k.unjudged {
		k.report.Vulnerabilities = &compliance.Vulnerabilities{SHA256: cmp.Or(k.verdict, store.Digest(verdict))}
	}
	put("executions/maker/vulnerabilities.json", verdict)
	put("executions/maker/inventory.cdx.json", document)
	put("executions/maker/compliance.json", encode(k.report))
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, err = z.Write(k.output)
	require.NoError(t, err)
	require.NoError(t, z.Close())
	put("executions/maker/results.json.gz", packed.Bytes())
	return s
}

func TestResultsThatWereKeptAreOfTheImageOrOfNoUse(t *testing.T) {
	now := plan.BuildPlan{Recipe: recipe.Recipe{Name: "debian"}, Fingerprint: "f00d", ReleaseID: "second"}
	for sentence, c := range map[string]struct {
		change func(*keptRecords)
		image  string
		maker  string
		says   string // empty: they are of use
	}{
		"as they were kept":                  {},
		"no claim of the name":               {change: func(k *keptRecords) { k.leave = "executions/maker/execution.json" }, says: "the claim s3://factory/executions/maker/execution.json is missing"},
		"no results":                         {change: func(k *keptRecords) { k.leave = "executions/maker/compliance.json" }, says: "compliance.json is missing"},
		"no output":                          {change: func(k *keptRecords) { k.leave = "executions/maker/results.json.gz" }, says: "results.json.gz is missing"},
		"an image that names no execution":   {maker: "", image: "ami-new", says: "is no name of an execution"},
		"an image that names a path":         {maker: "../x", image: "ami-new", says: "is no name of an execution"},
		"another image":                      {maker: "maker", image: "ami-forged", says: `it is of image "ami-new", not ami-forged`},
		"another execution's results":        {change: func(k *keptRecords) { k.report.Of.Execution = "arn:other" }, says: "its execution is"},
		"an earlier execution of the name":   {change: func(k *keptRecords) { k.report.Of.Started = k.report.Of.Started.AddDate(0, -4, 0) }, says: "its execution started at"},
		"results of another content":         {change: func(k *keptRecords) { k.report.Of.Fingerprint = "beef" }, says: "its fingerprint is"},
		"results of a plan that is not kept": {change: func(k *keptRecords) { k.report.Of.PlanSHA256 = "0b" }, says: "plans/0b.json is missing"},
		"a plan of another content":          {change: func(k *keptRecords) { k.plan.Fingerprint = "beef" }, says: "its plan is of another content"},
		"a plan of another recipe":           {change: func(k *keptRecords) { k.plan.Recipe.Name = "other" }, says: "its plan is of another content"},
		"no result at all":                   {change: func(k *keptRecords) { k.report.Results = nil }, says: "it has no results"},
		"results of two outputs":             {change: func(k *keptRecords) { k.report.Results[0].Evidence.SHA256 = "0b" }, says: "several outputs of the check engine goss"},
		"no inventory":                       {change: func(k *keptRecords) { k.leave = "executions/maker/inventory.cdx.json" }, says: "inventory.cdx.json is missing"},
		"another inventory":                  {change: func(k *keptRecords) { k.report.InventorySHA256 = "0b" }, says: "the record of results names 0b"},
		"no verdict on vulnerabilities":      {change: func(k *keptRecords) { k.leave = "executions/maker/vulnerabilities.json" }, says: "vulnerabilities.json is missing"},
		"another verdict on vulnerabilities": {change: func(k *keptRecords) { k.verdict = "0b" }, says: "the record of results names 0b"},
		"none was made":                      {change: func(k *keptRecords) { k.unjudged = true }, says: "the record of results names none"},
		"another output":                     {change: func(k *keptRecords) { k.output = []byte("better") }, says: "its SHA-256 is"},
	} {
		t.Run(sentence, func(t *testing.T) {
			k := newKeptRecords()
			image, maker := "ami-new", "maker"
			if c.change != nil {
				c.change(k)
			}
			if c.image != "" {
				image, maker = c.image, c.maker
			}
			got, err := keptResults(t.Context(), k.keep(t), now, image, maker)
			if c.says != "" {
				assert.Equal(t, failure.RecordMismatch, failure.CodeOf(err))
				assert.ErrorContains(t, err, c.says)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, k.output, got.raw)
			assert.Equal(t, "i-1", got.instanceID)
			assert.Equal(t, "ec2", got.guests.Kind)
			assert.Len(t, got.inventory.Packages, 4)
			assert.Equal(t, "no network", got.inventory.Pending.Unknown, "what was pending when the image was checked is judged again")
		})
	}
}
