package stage

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/evidence"
	"github.com/ami-factory/ami-factory/pkg/evidence/bundle"
	"github.com/ami-factory/ami-factory/pkg/evidence/diff"
	"github.com/ami-factory/ami-factory/pkg/evidence/inventory"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/plan"
	"github.com/ami-factory/ami-factory/pkg/recipe"
)

// releasedOnce is a recipe whose image the execution "run" has published.
func releasedOnce(t *testing.T) *releasing {
	t.Helper()
	r := newReleasing(t)
	r.publishNow()
	return r
}

// publishNow signs, shares and publishes, and writes the summary of the recipe.
func (r *releasing) publishNow() {
	r.t.Helper()
	out, err := r.sign()
	require.NoError(r.t, err)
	for _, region := range []string{home, remote} {
		require.NoError(r.t, r.share(region, out.Evidence))
	}
	for range 5 {
		if err = r.publish(out.Evidence); failure.CodeOf(err) != failure.PublishNotReady {
			break
		}
		r.pass(time.Minute)
	}
	require.NoError(r.t, err)
	_, err = r.store().PutJSON(r.t.Context(), contract.SummaryKey(r.p.Recipe.Name), evidence.Summary{
		Schema: evidence.SummarySchema, Recipe: r.p.Recipe.Name, Published: &evidence.PublishedSummary{Execution: r.in.Execution.Name},
	})
	require.NoError(r.t, err)
}

// next begins an execution that releases the image again, after changes.
func (r *releasing) next(name string, changes ...func(*releasing)) {
	r.t.Helper()
	before := r.in
	r.p.Reuse = &plan.Reuse{Images: map[string]plan.ReusedImage{}}
	for region, id := range r.images {
		r.p.Reuse.Images[region] = plan.ReusedImage{
			ImageID: id, Execution: "run", Started: start, Plan: before.Plan.SHA256,
			Accounts: r.p.Recipe.Distribution.Accounts, Organizations: r.p.Recipe.Distribution.Organizations,
		}
	}
	r.p.ReleaseID = "release-" + name
	for _, change := range changes {
		change(r)
	}
	var err error
	r.in.Plan, err = r.store().PutJSON(r.t.Context(), "plans/"+name+".json", r.p)
	require.NoError(r.t, err)
	r.in.Execution.Name, r.in.Execution.ID = name, fmt.Sprintf("arn:aws:states:%s:%s:execution:ami-factory:%s", home, factory, name)
	r.results(passed(r.in.Job, r.p, r.images[home]))
}

// signedDiff signs, and returns the diff that the manifest has the digest of.
func (r *releasing) signedDiff() diff.Diff {
	r.t.Helper()
	out, err := r.sign()
	require.NoError(r.t, err)
	packed, err := r.store().Get(r.t.Context(), out.Evidence)
	require.NoError(r.t, err)
	files, err := bundle.Unpack(packed)
	require.NoError(r.t, err)
	key, err := publicKey(r.t.Context(), r.kms(), r.key)
	require.NoError(r.t, err)
	_, err = bundle.Verify(files, key)
	require.NoError(r.t, err)
	raw, err := r.store().Read(r.t.Context(), contract.ExecutionKey(r.in.Execution.Name, contract.DiffObject))
	require.NoError(r.t, err)
	require.Equal(r.t, string(raw), string(files[contract.DiffObject]), "the bundle has what is stored")
	d, err := diff.Decode(raw)
	require.NoError(r.t, err)
	return d
}

func TestTheFirstReleaseIsComparedWithNothing(t *testing.T) {
	d := newReleasing(t).signedDiff()
	assert.Nil(t, d.Before)
	assert.Equal(t, diff.NoPrevious, d.NotCompared)
	assert.False(t, d.OnlyPackageUpgrades())
}

func TestAReleaseIsComparedWithTheOneThatWasPublishedLast(t *testing.T) {
	r := releasedOnce(t)
	r.next("second", func(r *releasing) {
		r.p.Recipe.Distribution.Accounts = append(r.p.Recipe.Distribution.Accounts, "310987654321")
		r.inventory.Packages = append(r.inventory.Packages, inventory.Package{Type: inventory.Deb, Name: "nmap", Version: "7.93", Arch: "amd64"})
	})
	d := r.signedDiff()
	require.NotNil(t, d.Before, d.NotCompared)
	assert.Equal(t, "run", d.Before.Execution)
	assert.Equal(t, []diff.Change{{What: diff.Added, Name: "nmap", After: "7.93"}}, d.Section(diff.Packages).Changes)
	assert.Equal(t, []diff.Change{{What: diff.Added, Name: "account 310987654321"}}, d.Section(diff.Sharing).Changes)

	r.publishNow()
	r.next("third", func(r *releasing) {
		r.p.Recipe.Checks.Waivers = []recipe.Waiver{{Control: "SYS-01", Reason: "the reason", Author: "a", Approver: "b", Created: "2020-01-01", Expires: "2099-01-01"}}
	})
	d = r.signedDiff()
	require.NotNil(t, d.Before, d.NotCompared)
	assert.Equal(t, "second", d.Before.Execution, "not the execution that made the image")
	require.Len(t, d.Sections, 1)
	assert.Equal(t, diff.Waivers, d.Sections[0].Kind)

	t.Run("a second attempt signs the same diff", func(t *testing.T) {
		assert.Equal(t, d, r.signedDiff())
	})
	t.Run("another image was published meanwhile: the comparison is neither overwritten nor used", func(t *testing.T) {
		out, err := r.sign()
		require.NoError(t, err)
		_, err = r.store().PutJSON(t.Context(), contract.SummaryKey(r.p.Recipe.Name), evidence.Summary{})
		require.NoError(t, err)
		_, err = r.sign()
		requireCode(t, failure.EvidenceMismatch, err)
		assert.ErrorContains(t, err, "the comparison now says something else")
		r.in.Manifest = &out.Manifest
		_, err = r.sign()
		requireCode(t, failure.EvidenceMismatch, err)
		assert.ErrorContains(t, err, "nobody must approve")
	})
}

func TestEvidenceThatIsNotVerifiedIsSaidAndNotComparedWith(t *testing.T) {
	packedOf := func(r *releasing, name string) []byte {
		raw, err := r.store().Read(r.t.Context(), contract.ExecutionKey(name, contract.EvidenceObject))
		require.NoError(r.t, err)
		return raw
	}
	put := func(r *releasing, raw []byte) { r.put(contract.EvidenceObject, raw) }
	repack := func(r *releasing, change func(bundle.Files)) {
		files, err := bundle.Unpack(packedOf(r, "run"))
		require.NoError(r.t, err)
		change(files)
		packed, err := files.Pack()
		require.NoError(r.t, err)
		put(r, packed)
	}
	tag := func(r *releasing, key, value string) {
		_, err := r.ec2(home).CreateTags(r.t.Context(), &ec2.CreateTagsInput{Resources: []string{r.images[home]}, Tags: []types.Tag{{Key: &key, Value: &value}}})
		require.NoError(r.t, err)
	}
	for name, tc := range map[string]struct {
		tamper func(*releasing)
		says   string
	}{
		"a byte of the bundle was changed": {func(r *releasing) {
			raw := bytes.Clone(packedOf(r, "run"))
			raw[len(raw)/2] ^= 1
			put(r, raw)
		}, "evidence.tar.gz"},
		"the inventory was replaced": {func(r *releasing) {
			repack(r, func(f bundle.Files) { f[contract.InventoryObject] = append(f[contract.InventoryObject], ' ') })
		}, "inventory.cdx.json: its SHA-256 is"},
		"a file is missing": {func(r *releasing) { repack(r, func(f bundle.Files) { delete(f, contract.VulnerabilitiesObject) }) }, "vulnerabilities.json: it is missing"},
		"the bundle is missing": {func(r *releasing) {
			_, err := r.s3().DeleteObject(r.t.Context(), &s3.DeleteObjectInput{Bucket: aws.String(r.store().Bucket), Key: aws.String(contract.ExecutionKey("run", contract.EvidenceObject))})
			require.NoError(r.t, err)
		}, "evidence.tar.gz is missing"},
		"the bundle is too large":               {func(r *releasing) { put(r, make([]byte, maxPrevious+1)) }, "evidence.tar.gz"},
		"the deployment has another key now":    {func(r *releasing) { r.key = r.signingKey() }, "key.pem"},
		"the image's tag names another release": {func(r *releasing) { tag(r, contract.TagRelease, "else") }, `is genuine, but its release is "re1ea5e", not "else"`},
		"the image's tag names an execution of no bundle": {func(r *releasing) {
			tag(r, contract.TagExecution, "nobody")
			_, err := r.store().PutJSON(r.t.Context(), contract.SummaryKey(r.p.Recipe.Name), evidence.Summary{})
			require.NoError(r.t, err)
		}, "executions/nobody/evidence.tar.gz is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			r := releasedOnce(t)
			tc.tamper(r)
			r.next("second")
			d := r.signedDiff()
			assert.Nil(t, d.Before)
			assert.Contains(t, d.NotCompared, "the evidence of "+r.images[home]+", which was published before, is not verified: ")
			assert.Contains(t, d.NotCompared, tc.says)
			assert.Empty(t, d.Sections)
			assert.False(t, d.OnlyPackageUpgrades())
			assert.False(t, d.Empty(), "what is not known is not the same as no difference")
		})
	}
}

func TestADiffOfAnotherReleaseIsNotSigned(t *testing.T) {
	for name, change := range map[string]func([]byte) []byte{
		"another image": func(raw []byte) []byte {
			return bytes.Replace(raw, []byte(`"imageId": "ami-`), []byte(`"imageId": "ami-0`), 1)
		},
		"a comparison that was not made": func(raw []byte) []byte {
			return bytes.Replace(raw, []byte("no image"), []byte("an image"), 1)
		},
		"no diff at all":  func([]byte) []byte { return []byte("{}") },
		"changed a space": func(raw []byte) []byte { return append(raw, ' ') },
	} {
		t.Run(name, func(t *testing.T) {
			r := newReleasing(t)
			raw, err := diff.Of(nil, diff.Record{Side: diff.Side{ImageID: r.images[home], Execution: "run", ReleaseID: r.p.ReleaseID}, Manifest: bundle.Manifest{Recipe: r.p.Recipe.Name}}, "").Encode()
			require.NoError(t, err)
			r.put(contract.DiffObject, change(raw))
			_, err = r.sign()
			requireCode(t, failure.EvidenceMismatch, err)
			assert.ErrorContains(t, err, "diff.json")
		})
	}
}

func TestReportAndMessagesSayWhatDiffers(t *testing.T) {
	for name, tc := range map[string]struct {
		diff func() []byte
		want []string // of the messages
		log  string   // of the report, where the diff is left out
	}{
		"what differs": {func() []byte { return encoded(t, differing()) }, []string{
			"Compared with ami-before, released by the execution before.", "Packages: 1 downgraded (openssl downgraded: 3.0.15-1 -> 3.0.14-1).",
		}, ""},
		"no image before": {func() []byte { return encoded(t, diff.Of(nil, recordOf("run", "ami-new"), "")) }, []string{
			"Nothing is compared with this release: no image of the recipe was published before.",
		}, ""},
		"a diff of another execution": {func() []byte { return encoded(t, diff.Of(nil, recordOf("else", "ami-new"), "")) }, nil, "The differences are left out: "},
		"nonsense":                    {func() []byte { return []byte("{") }, nil, "The differences are left out: "},
		"none":                        {func() []byte { return nil }, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			_, err := w.publish(t)
			require.NoError(t, err)
			if raw := tc.diff(); raw != nil {
				_, err = w.s3.store().Put(t.Context(), "executions/run/diff.json", "application/json", raw)
				require.NoError(t, err)
			}
			in := NotifyInput{
				CleanupInput: CleanupInput{Job: w.in.Job, Outcome: "Published"}, Images: map[string]string{home: "ami-new", remote: "ami-copy"}, Results: w.in.Results, Left: []string{},
			}
			announced, ended, bus := &fakeTopic{}, &fakeTopic{}, &fakeBus{}
			in.Announce = true
			_, err = notify(t, w.s3, announced, bus, settings(), in)
			require.NoError(t, err)
			in.Announce = false
			out, err := notify(t, w.s3, ended, bus, settings(), in)
			require.NoError(t, err)
			for _, topic := range []*fakeTopic{announced, ended} {
				require.Len(t, topic.messages, 1)
				text := aws.ToString(topic.messages[0].Message)
				for _, line := range tc.want {
					assert.Contains(t, text, line+"\n")
				}
				assert.Equal(t, tc.want != nil, strings.Contains(text, "Differences:"))
			}
			require.GreaterOrEqual(t, len(bus.entries), 2)
			for _, e := range bus.entries {
				assert.Equal(t, tc.want != nil, strings.Contains(aws.ToString(e.Detail), `"diff":[`))
			}
			report := readReport(t, w.s3, out.Report)
			assert.Equal(t, tc.want != nil, report.Diff != nil)
			if tc.log != "" {
				require.NotEmpty(t, report.Logs)
				assert.Contains(t, report.Logs[0].Title, tc.log)
			}
		})
	}
}

// recordOf is what a diff needs of a release.
func recordOf(execution, image string) diff.Record {
	return diff.Record{
		Side:     diff.Side{ImageID: image, Execution: execution, ReleaseID: testPlan().ReleaseID},
		Manifest: bundle.Manifest{Recipe: testPlan().Recipe.Name}, Plan: testPlan(),
	}
}

func differing() diff.Diff {
	before, after := recordOf("before", "ami-before"), recordOf("run", "ami-new")
	before.Inventory.Packages = []inventory.Package{{Type: inventory.Deb, Name: "openssl", Version: "3.0.15-1"}}
	after.Inventory.Packages = []inventory.Package{{Type: inventory.Deb, Name: "openssl", Version: "3.0.14-1"}}
	return diff.Of(&before, after, "")
}

func encoded(t *testing.T, d diff.Diff) []byte {
	t.Helper()
	raw, err := d.Encode()
	require.NoError(t, err)
	return raw
}
