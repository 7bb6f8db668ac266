package stage

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	kmstypes "github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/ami"
	"github.com/ami-factory/ami-factory/pkg/approval"
	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/evidence/bundle"
	"github.com/ami-factory/ami-factory/pkg/evidence/inventory"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/plan"
	"github.com/ami-factory/ami-factory/pkg/release"
	"github.com/ami-factory/ami-factory/pkg/store"
)

// releasing is an execution whose images are ready in both regions, private, and whose
// checks have passed. odd changes what EC2 answers in a region.
type releasing struct {
	*cloud
	p      plan.BuildPlan
	key    string // ARN
	images map[string]string
	in     SignInput
	odd    map[string]odd

	inventory inventory.Inventory // that the checks have kept
}

func newReleasing(t *testing.T) *releasing {
	t.Helper()
	c := newCloud(t)
	r := &releasing{cloud: c, p: testPlan(), images: map[string]string{}, odd: map[string]odd{}}
	r.inventory.System.ID, r.inventory.Packages = "debian", []inventory.Package{{Type: inventory.Deb, Name: "bash", Version: "5.2.15-2", Arch: "amd64"}}
	r.p.ReleaseID, r.p.FactoryVersion = "re1ea5e", "1.2.3"
	out, err := createImage(c, "run", c.stoppedBuilderUnder(c.dataKey(home)))
	require.NoError(t, err)
	c.pass(5 * time.Minute)
	r.images[home] = out.ImageID
	r.images[remote] = c.copyTo(remote, out.ImageID, "copy")
	r.key = c.signingKey()
	r.in = SignInput{Job: job(t, c, contract.StateSign, r.p)}
	r.in.Execution.ID = fmt.Sprintf("arn:aws:states:%s:%s:execution:ami-factory:run", home, factory)
	for _, region := range []string{home, remote} {
		r.odd[region] = odd{Client: c.ec2(region)}
		r.in.Copies = append(r.in.Copies, r.finish(region))
	}
	r.results(passed(r.in.Job, r.p, r.images[home]))
	return r
}

// finish has CheckDistribution finish the copy in a region.
func (r *releasing) finish(region string) CheckDistributionOutput {
	r.t.Helper()
	in := DistributeInput{Job: r.in.Job, ImageID: r.images[home], Region: region, CopyID: r.images[region]}
	for range 5 {
		out, err := CheckDistribution{Store: r.store(), EC2: func(region string) FinishCopyEC2 { return r.ec2(region) }}.Run(r.t.Context(), in)
		if err == nil {
			return out
		}
		requireCode(r.t, failure.CopyNotReady, err)
		r.pass(time.Minute)
	}
	r.t.Fatalf("the copy in %s is not ready", region)
	return CheckDistributionOutput{}
}

// dataKey makes a key that encrypts images which are to be shared.
func (c *cloud) dataKey(region string) string {
	c.t.Helper()
	key, err := kms.NewFromConfig(c.config(region)).CreateKey(c.t.Context(), &kms.CreateKeyInput{})
	require.NoError(c.t, err)
	return aws.ToString(key.KeyMetadata.Arn)
}

// stoppedBuilderUnder launches an instance with a volume under a key, and stops it.
func (c *cloud) stoppedBuilderUnder(key string) string {
	c.t.Helper()
	out, err := c.ec2(home).RunInstances(c.t.Context(), &ec2.RunInstancesInput{
		ImageId: &c.base, InstanceType: types.InstanceTypeT3Medium, MinCount: aws.Int32(1), MaxCount: aws.Int32(1),
		BlockDeviceMappings: []types.BlockDeviceMapping{{DeviceName: aws.String("/dev/xvda"), Ebs: &types.EbsBlockDevice{Encrypted: aws.Bool(true), KmsKeyId: &key}}},
	})
	require.NoError(c.t, err)
	id := aws.ToString(out.Instances[0].InstanceId)
	c.pass(time.Minute)
	_, err = c.ec2(home).StopInstances(c.t.Context(), &ec2.StopInstancesInput{InstanceIds: []string{id}})
	require.NoError(c.t, err)
	c.pass(5 * time.Minute)
	return id
}

// copyTo makes an encrypted copy of an image of the home region.
func (c *cloud) copyTo(region, id, name string) string {
	c.t.Helper()
	out, err := c.ec2(region).CopyImage(c.t.Context(), &ec2.CopyImageInput{
		Name: &name, SourceImageId: &id, SourceRegion: aws.String(home), Encrypted: aws.Bool(true), KmsKeyId: aws.String(c.dataKey(region)), CopyImageTags: aws.Bool(true),
	})
	require.NoError(c.t, err)
	c.pass(time.Hour)
	return aws.ToString(out.ImageId)
}

// signingKey makes a key that signs evidence.
func (c *cloud) signingKey() string {
	c.t.Helper()
	key, err := c.kms().CreateKey(c.t.Context(), &kms.CreateKeyInput{KeySpec: kmstypes.KeySpecEccNistP256, KeyUsage: kmstypes.KeyUsageTypeSignVerify})
	require.NoError(c.t, err)
	return aws.ToString(key.KeyMetadata.Arn)
}

func (c *cloud) kms() *kms.Client { return kms.NewFromConfig(c.config(home)) }

func (r *releasing) sign() (SignOutput, error) {
	r.t.Helper()
	return Sign{
		Store: r.store(), KeyID: r.key, KMS: r.kms(), Desk: r.desk(), EC2: func(region string) SignEC2 { return r.odd[region] },
	}.Run(r.t.Context(), r.in)
}

// desk has what people are asked, and what they decided.
func (r *releasing) desk() approval.Desk {
	return approval.Desk{Store: r.store(), Keys: store.Directory{Bucket: bucket, API: r.s3()}}
}

func (r *releasing) evidence() SignedEvidence {
	return SignedEvidence{Store: r.store(), KeyID: r.key, KMS: r.kms(), EC2: func(region string) EvidenceEC2 { return r.odd[region] }}
}

// share shares the image of a region, and publish publishes both.
func (r *releasing) share(region string, o store.Object) error {
	_, err := Share{Store: r.store(), Evidence: r.evidence(), Approvals: Approvals{r.desk()}, EC2: func(region string) ShareEC2 { return r.odd[region] }}.Run(r.t.Context(), ShareInput{
		Job: r.in.Job, Region: region, ImageID: r.images[region], SnapshotIDs: ami.Snapshots(r.image(region, r.images[region])), Evidence: o,
	})
	return err
}

func (r *releasing) publish(o store.Object) error {
	in := PublishInput{Job: r.in.Job, Results: r.in.Results, Evidence: o}
	for _, c := range r.in.Copies {
		in.Copies = append(in.Copies, ShareOutput{Region: c.Region, ImageID: r.images[c.Region], SnapshotIDs: c.SnapshotIDs})
	}
	_, err := Publish{
		Store: r.store(), Evidence: r.evidence(), Approvals: Approvals{r.desk()},
		EC2: func(region string) PublishEC2 { return r.odd[region] },
		SSM: func(_, region string) release.ParameterAPI { return r.ssm(region) },
	}.Run(r.t.Context(), in)
	return err
}

// grant lets an account launch the image of a region.
func (r *releasing) grant(region, account string) {
	r.t.Helper()
	_, err := r.ec2(region).ModifyImageAttribute(r.t.Context(), &ec2.ModifyImageAttributeInput{
		ImageId: aws.String(r.images[region]), Attribute: aws.String("launchPermission"), OperationType: types.OperationTypeAdd, UserIds: []string{account},
	})
	require.NoError(r.t, err)
}

func TestWhatIsReleasedIsSigned(t *testing.T) {
	r := newReleasing(t)
	out, err := r.sign()
	require.NoError(t, err)
	packed, err := r.store().Get(t.Context(), out.Evidence)
	require.NoError(t, err)
	files, err := bundle.Unpack(packed)
	require.NoError(t, err)
	key, err := publicKey(t.Context(), r.kms(), r.key)
	require.NoError(t, err)
	got, err := bundle.Verify(files, key)
	require.NoError(t, err)

	m := got.Manifest
	assert.Equal(t, out.Manifest.SHA256, got.ManifestSHA256)
	assert.Equal(t, factory, m.Owner)
	assert.Equal(t, r.in.Now, m.Made)
	assert.Equal(t, r.key, m.Key.ID)
	assert.Equal(t, bundle.Audience{Accounts: []string{"210987654321"}, Organizations: []string{}}, m.Audience)
	require.Len(t, m.Images, 2)
	for _, i := range m.Images {
		assert.Equal(t, r.images[i.Region], i.ImageID)
		assert.Equal(t, ami.Snapshots(r.image(i.Region, i.ImageID)), i.Snapshots())
		assert.True(t, i.Volumes[0].Encrypted)
		assert.Contains(t, i.Volumes[0].KMSKeyID, "arn:aws:kms:"+i.Region)
	}
	for _, name := range files.Names() {
		if name == contract.KeyFile || name == contract.PlanFile {
			continue // which are kept elsewhere
		}
		raw, err := r.store().Read(t.Context(), contract.ExecutionKey("run", name))
		require.NoError(t, err)
		assert.Equal(t, string(files[name]), string(raw), name)
	}

	t.Run("a second attempt signs nothing again", func(t *testing.T) {
		r.in.Now = r.in.Now.Add(time.Minute)
		r.fail("kms", "Sign", "KMSInternalException")
		again, err := r.sign()
		require.NoError(t, err)
		assert.Equal(t, out, again)
	})
}

func TestASecondAttemptGoesOnWhereTheFirstStopped(t *testing.T) {
	r := newReleasing(t)
	r.failFrom(2, "kms", "Sign", "KMSInternalException")
	_, err := r.sign()
	require.Error(t, err)
	before, err := r.store().Read(t.Context(), contract.ExecutionKey("run", contract.ProvenanceAttestation))
	require.NoError(t, err)
	r.Faults.Clear()
	r.in.Now = r.in.Now.Add(time.Minute)
	out, err := r.sign()
	require.NoError(t, err)
	after, err := r.store().Read(t.Context(), contract.ExecutionKey("run", contract.ProvenanceAttestation))
	require.NoError(t, err)
	assert.Equal(t, before, after)
	require.NoError(t, r.share(home, out.Evidence))
}

// slow is a KMS that answers only after another attempt has done all its work.
type slow struct {
	SigningAPI
	meanwhile func()
}

func (k *slow) Sign(ctx context.Context, in *kms.SignInput, opts ...func(*kms.Options)) (*kms.SignOutput, error) {
	if do := k.meanwhile; do != nil {
		k.meanwhile = nil
		do()
	}
	return k.SigningAPI.Sign(ctx, in, opts...)
}

func TestAnAttemptThatIsOvertakenReturnsWhatTheQuickerOneSigned(t *testing.T) {
	r := newReleasing(t)
	var quicker SignOutput
	out, err := Sign{
		Store: r.store(), KeyID: r.key, EC2: func(region string) SignEC2 { return r.odd[region] },
		KMS: &slow{SigningAPI: r.kms(), meanwhile: func() {
			var err error
			quicker, err = r.sign()
			require.NoError(t, err)
		}},
	}.Run(t.Context(), r.in)
	require.NoError(t, err)
	assert.Equal(t, quicker, out)
	require.NoError(t, r.share(home, out.Evidence))
}

func TestNothingIsSignedThatIsNotFitToBeReleased(t *testing.T) {
	for sentence, tc := range map[string]struct {
		change func(*releasing)
		want   failure.Code
		tells  string
	}{
		"an image of another owner": {func(r *releasing) {
			r.odd[remote] = odd{Client: r.ec2(remote), image: func(i *types.Image) { i.OwnerId = aws.String("666666666666") }}
		}, failure.EvidenceMismatch, "belongs to account 666666666666"},
		"a snapshot of another owner": {func(r *releasing) {
			r.odd[remote] = odd{Client: r.ec2(remote), snapshot: func(s *types.Snapshot) { s.OwnerId = aws.String("666666666666") }}
		}, failure.EvidenceMismatch, "belongs to account 666666666666"},
		"a snapshot in the clear": {func(r *releasing) {
			r.odd[home] = odd{Client: r.ec2(home), snapshot: func(s *types.Snapshot) { s.Encrypted = nil }}
		}, failure.EvidenceMismatch, "is not encrypted"},
		"a snapshot that is not complete": {func(r *releasing) {
			r.odd[home] = odd{Client: r.ec2(home), snapshot: func(s *types.Snapshot) { s.State = types.SnapshotStatePending }}
		}, failure.EvidenceMismatch, "is pending, not completed"},
		"a disabled image": {func(r *releasing) {
			_, err := r.ec2(home).DisableImage(r.t.Context(), &ec2.DisableImageInput{ImageId: aws.String(r.images[home])})
			require.NoError(r.t, err)
		}, failure.EvidenceMismatch, "it is disabled"},
		"an image that is gone":             {func(r *releasing) { r.in.Copies[1].ImageID = "ami-0gone0000000000" }, failure.EvidenceFailed, "ami-0gone0000000000"},
		"a copy too few":                    {func(r *releasing) { r.in.Copies = r.in.Copies[:1] }, failure.InvalidInput, remote},
		"results of another image":          {func(r *releasing) { r.results(passed(r.in.Job, r.p, "ami-other")) }, failure.RecordMismatch, "ami-other"},
		"an inventory that was altered":     {func(r *releasing) { r.put(contract.InventoryObject, []byte("{}")) }, failure.EvidenceMismatch, "the inventory that was judged"},
		"vulnerabilities that were altered": {func(r *releasing) { r.put(contract.VulnerabilitiesObject, []byte("{}")) }, failure.EvidenceMismatch, "the vulnerabilities that were judged"},
		"results that were altered":         {func(r *releasing) { r.in.Results.SHA256 = "0" }, failure.InvalidInput, "altered"},
		"a key that is disabled": {func(r *releasing) {
			_, err := r.kms().DisableKey(r.t.Context(), &kms.DisableKeyInput{KeyId: &r.key})
			require.NoError(r.t, err)
		}, failure.EvidenceFailed, "disabled"},
		"a key that encrypts": {func(r *releasing) {
			key, err := r.kms().CreateKey(r.t.Context(), &kms.CreateKeyInput{})
			require.NoError(r.t, err)
			r.key = aws.ToString(key.KeyMetadata.Arn)
		}, failure.EvidenceFailed, ""},
		"no key":                    {func(r *releasing) { r.key = "" }, failure.EvidenceFailed, contract.EnvSigningKey},
		"KMS that throttles":        {func(r *releasing) { r.fail("kms", "Sign", "ThrottlingException") }, failure.Throttled, ""},
		"a manifest that is there":  {func(r *releasing) { r.put(contract.ManifestObject, []byte("{}")) }, failure.EvidenceMismatch, "is not overwritten"},
		"a statement that is there": {func(r *releasing) { r.put(contract.ResultsAttestation, []byte("{}")) }, failure.EvidenceMismatch, "is not overwritten"},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := newReleasing(t)
			tc.change(r)
			_, err := r.sign()
			requireCode(t, tc.want, err)
			assert.ErrorContains(t, err, tc.tells)
			_, err = r.store().Read(t.Context(), contract.ExecutionKey("run", contract.EvidenceObject))
			require.ErrorIs(t, err, store.ErrNone)
		})
	}
}

// results stores what the checks are to have said, and the inventory that goes with it.
func (r *releasing) results(results compliance.Report) {
	r.t.Helper()
	document, err := r.inventory.CycloneDX(inventory.Plain)
	require.NoError(r.t, err)
	o, err := r.store().Put(r.t.Context(), inventoryKey(r.in.Execution), "application/json", document)
	require.NoError(r.t, err)
	results.InventorySHA256 = o.SHA256
	o, err = r.store().Put(r.t.Context(), vulnerabilitiesKey(r.in.Execution), "application/json", []byte(`{"findings":[{"id":"CVE-2026-1","package":"openssl","severity":"low","outcome":"reported"}]}`))
	require.NoError(r.t, err)
	results.Vulnerabilities = &compliance.Vulnerabilities{SHA256: o.SHA256, Verdict: compliance.VerdictPassed}
	r.in.Results, err = r.store().PutJSON(r.t.Context(), complianceKey(r.in.Execution), results)
	require.NoError(r.t, err)
}

func (r *releasing) put(name string, body []byte) store.Object {
	r.t.Helper()
	o, err := r.store().Put(r.t.Context(), contract.ExecutionKey("run", name), "application/json", body)
	require.NoError(r.t, err)
	return o
}

func TestWhatWasSignedIsSharedAndPublished(t *testing.T) {
	r := newReleasing(t)
	out, err := r.sign()
	require.NoError(t, err)
	for _, region := range []string{home, remote} {
		require.NoError(t, r.share(region, out.Evidence))
		require.NoError(t, r.share(region, out.Evidence), "a second attempt finds it shared")
	}
	err = r.publish(out.Evidence)
	for range 3 {
		if err == nil {
			break
		}
		requireCode(t, failure.PublishNotReady, err)
		r.pass(10 * time.Second)
		err = r.publish(out.Evidence)
	}
	require.NoError(t, err)
}

// Each attack is tried before the image is shared and before it is published.
func TestNothingIsSharedOrPublishedThatIsNotWhatWasSigned(t *testing.T) {
	answer := func(change odd) func(*releasing, *store.Object) {
		return func(r *releasing, _ *store.Object) {
			change.Client = r.ec2(remote)
			r.odd[remote] = change
		}
	}
	for sentence, tc := range map[string]struct {
		attack func(*releasing, *store.Object)
		tells  string
	}{
		"a swapped snapshot": {func(r *releasing, _ *store.Object) {
			other := ami.Snapshots(r.image(remote, r.copyTo(remote, r.images[home], "other")))[0]
			r.odd[remote] = odd{Client: r.ec2(remote), image: func(i *types.Image) { i.BlockDeviceMappings[0].Ebs.SnapshotId = &other }}
		}, "its snapshots: "},
		"another image that bears copied tags": {func(r *releasing, _ *store.Object) {
			tags := r.image(remote, r.images[remote]).Tags
			r.images[remote] = r.copyTo(remote, r.images[home], "evil")
			r.tag(remote, r.images[remote], tags...)
		}, "the manifest names ami-"},
		"an account that the recipe does not name": {func(r *releasing, _ *store.Object) { r.grant(remote, "666666666666") }, "it is shared with 666666666666"},
		"everyone": {func(r *releasing, _ *store.Object) {
			_, err := r.ec2(remote).ModifyImageAttribute(r.t.Context(), &ec2.ModifyImageAttributeInput{
				ImageId: aws.String(r.images[remote]), Attribute: aws.String("launchPermission"), OperationType: types.OperationTypeAdd, UserGroups: []string{"all"},
			})
			if err != nil { // EC2 does not make encrypted images public
				r.grant(remote, "777777777777")
			}
		}, "it is shared with"},
		"a foreign owner of the image":    {answer(odd{image: func(i *types.Image) { i.OwnerId = aws.String("666666666666") }}), "belongs to account 666666666666"},
		"a foreign owner of the snapshot": {answer(odd{snapshot: func(s *types.Snapshot) { s.OwnerId = aws.String("666666666666") }}), "belongs to account 666666666666"},
		"a snapshot under another key":    {answer(odd{snapshot: func(s *types.Snapshot) { s.KmsKeyId = aws.String("arn:aws:kms:x:666666666666:key/1") }}), "key/1"},
		"a snapshot in the clear":         {answer(odd{snapshot: func(s *types.Snapshot) { s.Encrypted = aws.Bool(false) }}), "is not encrypted"},
		"another name":                    {answer(odd{image: func(i *types.Image) { i.Name = aws.String("other") }}), `its name: "other"`},
		"another date":                    {answer(odd{image: func(i *types.Image) { i.CreationDate = aws.String("2020-01-01T00:00:00.000Z") }}), "its creation date"},
		"evidence with a changed byte": {func(r *releasing, o *store.Object) {
			packed, err := r.store().Get(r.t.Context(), *o)
			require.NoError(r.t, err)
			packed[len(packed)/2] ^= 1
			r.put(contract.EvidenceObject, packed)
		}, "it was altered"},
		"evidence that was signed by another key": {func(r *releasing, o *store.Object) {
			genuine := r.key
			r.key = r.signingKey()
			r.in.Execution.Name = "forged"
			r.results(passed(r.in.Job, r.p, r.images[home]))
			forged, err := r.sign()
			require.NoError(r.t, err)
			packed, err := r.store().Get(r.t.Context(), forged.Evidence)
			require.NoError(r.t, err)
			r.key, r.in.Execution.Name = genuine, "run"
			r.results(passed(r.in.Job, r.p, r.images[home]))
			*o = r.put(contract.EvidenceObject, packed)
		}, "key.pem: it is the key"},
		"genuine evidence of another execution": {func(r *releasing, o *store.Object) {
			r.in.Execution.Name, r.in.Execution.ID = "earlier", r.in.Execution.ID+"-earlier"
			r.results(passed(r.in.Job, r.p, r.images[home]))
			earlier, err := r.sign()
			require.NoError(r.t, err)
			packed, err := r.store().Get(r.t.Context(), earlier.Evidence)
			require.NoError(r.t, err)
			r.in.Execution.Name, r.in.Execution.ID = "run", r.in.Execution.ID[:len(r.in.Execution.ID)-len("-earlier")]
			r.results(passed(r.in.Job, r.p, r.images[home]))
			*o = r.put(contract.EvidenceObject, packed)
		}, "of another release: its execution is"},
		"evidence at another place": {func(_ *releasing, o *store.Object) { o.Key = "executions/earlier/evidence.tar.gz" }, "this execution's is at"},
		"no evidence":               {func(_ *releasing, o *store.Object) { *o = store.Object{} }, "this execution's is at"},
	} {
		for _, step := range []string{"share", "publish"} {
			t.Run(sentence+", before the image is "+map[string]string{"share": "shared", "publish": "published"}[step], func(t *testing.T) {
				r := newReleasing(t)
				out, err := r.sign()
				require.NoError(t, err)
				if step == "publish" {
					for _, region := range []string{home, remote} {
						require.NoError(t, r.share(region, out.Evidence))
					}
				}
				tc.attack(r, &out.Evidence)
				if step == "share" {
					err = r.share(remote, out.Evidence)
				} else {
					err = r.publish(out.Evidence)
				}
				requireCode(t, failure.EvidenceMismatch, err)
				assert.ErrorContains(t, err, tc.tells)
				if step == "share" {
					has, err := release.ReadAudience(t.Context(), r.ec2(remote), r.images[remote])
					require.NoError(t, err)
					assert.NotContains(t, has.Accounts, "210987654321", "nothing was shared")
				}
				now, err := release.ReadPointer(t.Context(), r.ssm(remote), "/p/latest")
				require.NoError(t, err)
				assert.Empty(t, now, "no pointer moved")
			})
		}
	}
}

// A release without a bake signs the image of an earlier execution again, with the
// manifest of its own.
func TestAnImageThatIsReleasedAgainIsSignedByItsNewExecution(t *testing.T) {
	r := newReleasing(t)
	out, err := r.sign()
	require.NoError(t, err)
	for _, region := range []string{home, remote} {
		require.NoError(t, r.share(region, out.Evidence))
	}
	first := r.in

	r.p.Reuse = &plan.Reuse{Images: map[string]plan.ReusedImage{}}
	for region, id := range r.images {
		r.p.Reuse.Images[region] = plan.ReusedImage{ImageID: id, Execution: "run", Started: start, Plan: first.Plan.SHA256, Accounts: []string{"210987654321"}}
	}
	r.p.Recipe.Distribution.Accounts = []string{"310987654321"}
	r.in.Plan, err = r.store().PutJSON(t.Context(), "plans/again.json", r.p)
	require.NoError(t, err)
	r.in.Execution.Name, r.in.Execution.ID = "again", fmt.Sprintf("arn:aws:states:%s:%s:execution:ami-factory:again", home, factory)
	r.results(passed(r.in.Job, r.p, r.images[home]))
	again, err := r.sign()
	require.NoError(t, err)

	requireCode(t, failure.EvidenceMismatch, r.share(remote, out.Evidence))
	r.grant(remote, "666666666666")
	err = r.share(remote, again.Evidence)
	requireCode(t, failure.EvidenceMismatch, err)
	assert.ErrorContains(t, err, "it is shared with 666666666666, whom")
	require.NoError(t, r.share(home, again.Evidence), "whom the release before named is no stranger")
}
