package stage

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/approval"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/evidence"
	"github.com/ami-factory/ami-factory/pkg/evidence/bundle"
	"github.com/ami-factory/ami-factory/pkg/evidence/diff"
	"github.com/ami-factory/ami-factory/pkg/evidence/inventory"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/recipe"
	"github.com/ami-factory/ami-factory/pkg/release"
	"github.com/ami-factory/ami-factory/pkg/store"
)

// asking is a release that two people must approve, whose manifest is signed. rita
// started it, and anna wrote a waiver in it.
type asking struct {
	*releasing
	topic    *fakeTopic
	manifest store.Object
	token    string
}

func newAsking(t *testing.T) *asking {
	t.Helper()
	a := &asking{releasing: newReleasing(t), topic: &fakeTopic{faults: faults{}}, token: "token-1"}
	a.p.Recipe.Approval = recipe.Approval{Mode: recipe.ApprovalTwo, Expires: recipe.Duration(48 * time.Hour)}
	a.p.Recipe.Checks.Waivers = []recipe.Waiver{{Control: "SYS-02", Reason: "routers \x1b[31mneed it", Author: "anna", Approver: "carol", Created: "2026-02-01", Expires: "2026-04-01"}}
	a.replan()
	require.NoError(t, a.desk().Requested(t.Context(), "run", "rita", "arn:rita", a.in.Now))
	return a
}

// replan stores the plan again, and what is of it.
func (a *asking) replan() {
	a.t.Helper()
	id := a.in.Execution.ID
	a.in.Job = job(a.t, a, contract.StateSign, a.p)
	a.in.Execution.ID = id
	a.results(passed(a.in.Job, a.p, a.images[home]))
	out, err := a.sign()
	require.NoError(a.t, err)
	a.manifest = out.Manifest
}

func (a *asking) ask() (RequestApprovalOutput, error) {
	a.t.Helper()
	return RequestApproval{Settings: Settings{TopicARN: "arn:topic"}, Desk: a.desk(), Topics: a.topic}.Run(a.t.Context(), RequestApprovalInput{
		Job: a.in.Job, Manifest: a.manifest, Token: a.token,
	})
}

func TestPeopleAreAskedWithWhatTheyDecideAbout(t *testing.T) {
	a := newAsking(t)
	out, err := a.ask()
	require.NoError(t, err)
	expires := a.in.Now.Add(48 * time.Hour)
	assert.Equal(t, RequestApprovalOutput{Digest: a.manifest.SHA256, Needed: 2, Expires: expires}, out)

	r, err := a.desk().Request(t.Context(), a.manifest.SHA256)
	require.NoError(t, err)
	assert.Equal(t, approval.Request{
		Schema: approval.RequestSchema, Execution: "run", RunARN: a.in.Execution.ID, BundleDigest: a.manifest.SHA256, Recipe: "debian", Requester: "rita",
		WaiverAuthors: []string{"anna"}, Needed: 2, Requested: a.in.Now, Expires: expires, Token: "token-1",
		Subject: &approval.Subject{
			Verdict: "passed", Gate: "medium", Passed: 1, Open: []approval.Count{{Severity: "low", Count: 1}},
			Waivers: []string{"SYS-02 until 2026-04-01, by anna, approved by carol: routers need it"},
			Changes: []string{"Nothing is compared with this release: no image of the recipe was published before."},
			Images:  []approval.Image{{Region: remote, ImageID: a.images[remote]}, {Region: home, ImageID: a.images[home]}},
		},
	}, r)
	mark, err := a.store().Read(t.Context(), contract.ApprovingKey("run"))
	require.NoError(t, err)
	assert.Equal(t, a.manifest.SHA256+"\n", string(mark))

	require.Len(t, a.topic.messages, 1)
	message := aws.ToString(a.topic.messages[0].Message)
	for _, says := range []string{
		"waits for 2 approval(s) until 2026-03-03T12:01:00Z", "rita", "passed: 1 controls passed, 0 failed below the gate (medium), 0 waived", "1 low, in 0 packages",
		"SYS-02 until 2026-04-01, by anna, approved by carol", home + " " + a.images[home], "ami-factory approve run --digest " + a.manifest.SHA256,
	} {
		assert.Contains(t, message, says)
	}
	assert.NotContains(t, message, "token-1", "whoever has the token can end the wait")
	assert.NotContains(t, message, "\x1b")

	a.token, a.in.Now = "token-2", a.in.Now.Add(time.Hour)
	again, err := a.ask()
	require.NoError(t, err)
	assert.Equal(t, out, again, "another attempt asks for the same until the same time")
	r, err = a.desk().Request(t.Context(), a.manifest.SHA256)
	require.NoError(t, err)
	assert.Equal(t, "token-2", r.Token, "the token of the task that waits now")
}

func TestATriggersExecutionIsOfNoPerson(t *testing.T) {
	a := newAsking(t)
	a.remove(contract.RequesterKey("run"))
	a.putKey(contract.StartedKey("run"), "{}")
	_, err := a.ask()
	require.NoError(t, err)
	r, err := a.desk().Request(t.Context(), a.manifest.SHA256)
	require.NoError(t, err)
	assert.Equal(t, "trigger:start-builds", r.Requester)
}

// remove removes an object.
func (a *asking) remove(key string) {
	a.t.Helper()
	_, err := a.s3().DeleteObject(a.t.Context(), &s3.DeleteObjectInput{Bucket: aws.String(bucket), Key: &key})
	require.NoError(a.t, err)
}

// putKey stores an object at a key, as somebody with a right to the bucket can.
func (a *asking) putKey(key, body string) {
	a.t.Helper()
	_, err := a.store().Put(a.t.Context(), key, "application/json", []byte(body))
	require.NoError(a.t, err)
}

func TestNobodyIsAskedAbout(t *testing.T) {
	for sentence, tc := range map[string]struct {
		change func(*asking)
		code   failure.Code
		tells  string
	}{
		"an execution whose starter is not known": {func(a *asking) {
			a.remove(contract.RequesterKey("run"))
		}, failure.RequesterUnknown, "it is not known who started run"},
		"a manifest of another execution":   {func(a *asking) { a.manifest.Key = contract.ExecutionKey("other", contract.ManifestObject) }, failure.InvalidInput, "is not this execution's"},
		"a wait without a token":            {func(a *asking) { a.token = "" }, failure.InvalidInput, "no token"},
		"a manifest that was changed":       {func(a *asking) { a.put(contract.ManifestObject, []byte("{}")) }, failure.InvalidInput, "SHA-256"},
		"results that were changed":         {func(a *asking) { a.put(contract.ComplianceObject, []byte(`{"verdict":"passed"}`)) }, failure.EvidenceMismatch, "compliance.json is not what the manifest names"},
		"vulnerabilities that were changed": {func(a *asking) { a.put(contract.VulnerabilitiesObject, []byte(`{"findings":[]}`)) }, failure.EvidenceMismatch, "vulnerabilities.json is not what the manifest names"},
		"evidence that waits for another execution": {func(a *asking) {
			_, err := a.desk().Open(a.t.Context(), approval.Request{Execution: "other", RunARN: "arn:other", BundleDigest: a.manifest.SHA256, Recipe: "debian"})
			require.NoError(a.t, err)
		}, failure.RecordMismatch, "waits for the execution arn:other"},
		"a topic that throttles": {func(a *asking) { a.topic.faults["Publish"] = []error{awsErr("ThrottledException")} }, failure.Throttled, "send the request"},
	} {
		t.Run(sentence, func(t *testing.T) {
			a := newAsking(t)
			tc.change(a)
			_, err := a.ask()
			requireCode(t, tc.code, err)
			assert.ErrorContains(t, err, tc.tells)
		})
	}
}

func TestAMessageAboutAnApprovalIsBounded(t *testing.T) {
	a := newAsking(t)
	one := a.p.Recipe.Checks.Waivers[0]
	one.Reason = strings.Repeat("why ", 250)
	for range 500 {
		a.p.Recipe.Checks.Waivers = append(a.p.Recipe.Checks.Waivers, one)
	}
	for _, key := range []string{contract.ManifestObject, contract.ProvenanceAttestation, contract.ResultsAttestation, contract.InventoryAttestation, contract.VulnerabilitiesAttestation} {
		a.remove(contract.ExecutionKey("run", key))
	}
	a.replan()
	_, err := a.ask()
	require.NoError(t, err)
	message := aws.ToString(a.topic.messages[0].Message)
	assert.Less(t, len(message), 64<<10)
	assert.Contains(t, message, "and 461 more, which the report lists")
	_, err = a.desk().Request(t.Context(), a.manifest.SHA256)
	require.NoError(t, err)
}

// answer keeps an answer of a person, as the function of approvals does.
func (a *asking) answer(person string, change ...func(*approval.Answer)) {
	a.t.Helper()
	one := approval.Answer{
		Person: person, Decision: approval.Approve, Reason: "read the report", BundleDigest: a.manifest.SHA256, At: a.in.Now.Add(time.Minute), UserARN: "arn:" + person, RequestID: "r-" + person,
	}
	for _, f := range change {
		f(&one)
	}
	_, err := a.desk().Keep(a.t.Context(), one)
	require.NoError(a.t, err)
}

// Whoever may call SendTaskSuccess can end the wait for people with an output of their
// choice. It decides nothing: whatever the state machine says then, nothing is signed,
// shared or published.
func TestNothingIsReleasedThatPeopleHaveNotApproved(t *testing.T) {
	asked := func(a *asking) {
		_, err := a.ask()
		require.NoError(a.t, err)
	}
	for sentence, tc := range map[string]struct {
		forge func(*asking)
		tells string
	}{
		"nobody was asked":             {func(*asking) {}, "nobody was asked to approve"},
		"nobody has answered":          {asked, "needs 2 approvals and has 0 that count; it is waiting"},
		"one of two has answered":      {func(a *asking) { asked(a); a.answer("bert") }, "has 1 that count; it is waiting"},
		"one person answered as two":   {func(a *asking) { asked(a); a.answer("bert"); a.answer("BERT") }, "this person answered before"},
		"one of them started it":       {func(a *asking) { asked(a); a.answer("bert"); a.answer("rita") }, "rita started the execution"},
		"one of them wrote the waiver": {func(a *asking) { asked(a); a.answer("bert"); a.answer("anna") }, "anna is the author of a waiver"},
		"one of them rejected it": {func(a *asking) {
			asked(a)
			a.answer("bert")
			a.answer("cleo", func(x *approval.Answer) { x.Decision = approval.Reject })
		}, "it is refused"},
		"an answer came too late": {func(a *asking) {
			asked(a)
			a.answer("bert")
			a.answer("cleo", func(x *approval.Answer) { x.At = a.in.Now.Add(49 * time.Hour) })
		}, "after the request had expired"},
		"the answers are about other evidence": {func(a *asking) {
			asked(a)
			other := func(x *approval.Answer) { x.BundleDigest = strings.Repeat("0", 64) }
			a.answer("bert", other)
			a.answer("cleo", other)
		}, "has 0 that count"},
		"the request asks for fewer people than the recipe": {func(a *asking) {
			a.p.Recipe.Approval.Mode = recipe.ApprovalOne
			_, err := a.desk().Open(a.t.Context(), approval.Request{
				Execution: "run", RunARN: a.in.Execution.ID, BundleDigest: a.manifest.SHA256, Recipe: "debian", Requester: "rita", Needed: 1, Requested: a.in.Now, Expires: a.in.Now.Add(time.Hour),
			})
			require.NoError(a.t, err)
			a.answer("bert")
		}, "asks for 1 approvals; this release needs 2"},
	} {
		t.Run(sentence, func(t *testing.T) {
			a := newAsking(t)
			tc.forge(a)
			a.in.Now, a.in.Manifest = a.in.Now.Add(2*time.Minute), &a.manifest
			_, err := a.sign()
			requireCode(t, failure.ApprovalMissing, err)
			assert.ErrorContains(t, err, tc.tells)
			forged := store.Object{Bucket: bucket, Key: contract.ExecutionKey("run", contract.EvidenceObject), SHA256: strings.Repeat("0", 64)}
			for _, region := range []string{home, remote} {
				err = a.share(region, forged)
				requireCode(t, failure.ApprovalMissing, err)
				assert.ErrorContains(t, err, tc.tells)
				has, err := release.ReadAudience(t.Context(), a.ec2(region), a.images[region])
				require.NoError(t, err)
				assert.Empty(t, has.Accounts, "nothing was shared")
			}
			err = a.publish(forged)
			requireCode(t, failure.ApprovalMissing, err)
			assert.ErrorContains(t, err, tc.tells)
			now, err := release.ReadPointer(t.Context(), a.ssm(home), "/p/latest")
			require.NoError(t, err)
			assert.Empty(t, now, "no pointer moved")
		})
	}
}

func TestWhatTwoPeopleApprovedIsSharedAndPublished(t *testing.T) {
	a := newAsking(t)
	_, err := a.ask()
	require.NoError(t, err)
	a.answer("bert")
	a.answer("cleo")
	a.in.Now, a.in.Manifest = a.in.Now.Add(2*time.Minute), &a.manifest
	out, err := a.sign()
	require.NoError(t, err)
	require.NoError(t, a.share(home, out.Evidence))
	require.NoError(t, a.share(remote, out.Evidence))
	if err = a.publish(out.Evidence); err != nil {
		requireCode(t, failure.PublishNotReady, err)
	}
}

// newDiffering is the second release of a recipe that wants an approval only if more than
// packages was upgraded. Somebody has approved the first. change is what differs.
func newDiffering(t *testing.T, change func(*releasing)) *asking {
	t.Helper()
	a := &asking{releasing: newReleasing(t), topic: &fakeTopic{faults: faults{}}, token: "token-1"}
	a.p.Recipe.Approval = recipe.Approval{Mode: recipe.ApprovalWhenDiffIsMore, Expires: recipe.Duration(48 * time.Hour)}
	a.replan()
	require.NoError(t, a.desk().Requested(t.Context(), "run", "rita", "arn:rita", a.in.Now))
	asked, err := a.ask()
	require.NoError(t, err)
	require.Equal(t, 1, asked.Needed, "nothing is known of the first release's difference")
	a.answer("bert")
	a.in.Now, a.in.Manifest = a.in.Now.Add(2*time.Minute), &a.manifest
	a.publishNow()
	a.in.Manifest = nil
	a.next("second", change)
	require.NoError(t, a.desk().Requested(t.Context(), "second", "rita", "arn:rita", a.in.Now))
	return a
}

func upgraded(r *releasing) { r.inventory.Packages[0].Version = "5.2.15-3" }

func TestAnUpgradeOfPackagesNeedsNobody(t *testing.T) {
	a := newDiffering(t, upgraded)
	out, err := a.sign()
	require.NoError(t, err)
	assert.Zero(t, out.Approvals)
	require.NotEmpty(t, out.Evidence.Key)
	for _, region := range []string{home, remote} {
		require.NoError(t, a.share(region, out.Evidence))
	}
	if err = a.publish(out.Evidence); err != nil {
		requireCode(t, failure.PublishNotReady, err)
	}
}

func TestADifferenceThatIsMoreNeedsSomebody(t *testing.T) {
	for sentence, change := range map[string]func(*releasing){
		"another package": func(r *releasing) {
			r.inventory.Packages = append(r.inventory.Packages, inventory.Package{Type: inventory.Deb, Name: "nmap", Version: "7.93", Arch: "amd64"})
		},
		"an older package": func(r *releasing) { r.inventory.Packages[0].Version = "5.2.14-1" },
		"an upgrade, and another account that may launch the image": func(r *releasing) {
			upgraded(r)
			r.p.Recipe.Distribution.Accounts = append(r.p.Recipe.Distribution.Accounts, "310987654321")
		},
		"a release before whose evidence is not verified": func(r *releasing) {
			upgraded(r)
			r.put(contract.EvidenceObject, []byte("forged"))
		},
		"an inventory that is not complete": func(r *releasing) {
			upgraded(r)
			r.inventory.Incomplete = []string{"users: the guest did not answer"}
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			a := newDiffering(t, change)
			out, err := a.sign()
			require.NoError(t, err)
			assert.Equal(t, 1, out.Approvals)
			assert.Empty(t, out.Evidence.Key, "nothing is released before somebody has answered")
			a.manifest = out.Manifest
			requireCode(t, failure.ApprovalMissing, a.share(home, store.Object{}))
			requireCode(t, failure.ApprovalMissing, a.publish(store.Object{}))
			asked, err := a.ask()
			require.NoError(t, err)
			assert.Equal(t, 1, asked.Needed)
			r, err := a.desk().Request(t.Context(), a.manifest.SHA256)
			require.NoError(t, err)
			require.NotEmpty(t, r.Subject.Changes)
			assert.NotContains(t, r.Subject.Changes, "Only packages were upgraded.")
			message := aws.ToString(a.topic.messages[len(a.topic.messages)-1].Message)
			assert.Contains(t, message, r.Subject.Changes[0])
		})
	}
}

// Whoever may write to the bucket could try to release without anybody's approval what
// needs one.
func TestAForgedDiffSavesNoApproval(t *testing.T) {
	harmless := newDiffering(t, upgraded)
	_, err := harmless.sign()
	require.NoError(t, err)
	upgrade, err := harmless.store().Read(t.Context(), contract.ExecutionKey("second", contract.DiffObject))
	require.NoError(t, err)

	a := newDiffering(t, func(r *releasing) {
		r.inventory.Packages = append(r.inventory.Packages, inventory.Package{Type: inventory.Deb, Name: "nmap", Version: "7.93", Arch: "amd64"})
	})
	out, err := a.sign()
	require.NoError(t, err)
	require.Equal(t, 1, out.Approvals)
	a.manifest = out.Manifest
	forged, err := diff.Decode(bytes.ReplaceAll(upgrade, []byte(harmless.images[home]), []byte(a.images[home])))
	require.NoError(t, err)
	require.True(t, forged.OnlyPackageUpgrades())
	raw, err := forged.Encode()
	require.NoError(t, err)
	a.putKey(contract.ExecutionKey("second", contract.DiffObject), string(raw))

	refused := func(t *testing.T, tells string) {
		t.Helper()
		bundled := store.Object{Bucket: bucket, Key: contract.ExecutionKey("second", contract.EvidenceObject)}
		for step, err := range map[string]error{"share": a.share(home, bundled), "publish": a.publish(bundled)} {
			requireCode(t, failure.EvidenceMismatch, err)
			assert.ErrorContains(t, err, tells, step)
		}
	}
	t.Run("its digest is not the manifest's", func(t *testing.T) {
		refused(t, "diff.json is not what the manifest names")
		_, err := a.ask()
		requireCode(t, failure.EvidenceMismatch, err)
		a.in.Manifest = &a.manifest
		_, err = a.sign()
		requireCode(t, failure.EvidenceMismatch, err)
		a.in.Manifest = nil
	})
	t.Run("with a manifest that names it, which nobody has signed", func(t *testing.T) {
		was, err := a.store().Get(t.Context(), a.manifest)
		require.NoError(t, err)
		m, err := bundle.ParseManifest(was)
		require.NoError(t, err)
		m.Approvals = 0
		for i := range m.Files {
			if m.Files[i].Name == contract.DiffObject {
				m.Files[i].SHA256, m.Files[i].Size = store.Digest(raw), len(raw)
			}
		}
		a.putKey(contract.ExecutionKey("second", contract.ManifestObject), string(m.Encode()))
		refused(t, "the evidence cannot be used")
		_, err = a.sign()
		requireCode(t, failure.EvidenceMismatch, err)
	})
}

func TestTheReportListsTheDecisionsThatCount(t *testing.T) {
	a := newAsking(t)
	_, err := a.ask()
	require.NoError(t, err)
	for _, person := range []string{"rita", "anna", "bert"} { // who started it, a waiver's author, and somebody else
		a.answer(person)
	}
	a.answer("cleo", func(x *approval.Answer) { x.BundleDigest = strings.Repeat("0", 64) })
	in := NotifyInput{CleanupInput: CleanupInput{Job: a.in.Job}}
	in.Now = in.Now.Add(time.Hour)
	var r evidence.Report
	require.NoError(t, Notify{Store: a.desk().Store, Keys: a.desk().Keys}.signed(t.Context(), in, &a.p, &r))
	require.NotNil(t, r.Approvals)
	require.Len(t, r.Approvals.Decisions, 1)
	assert.Equal(t, "bert", r.Approvals.Decisions[0].Person)
}
