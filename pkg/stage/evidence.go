package stage

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/ami-factory/ami-factory/pkg/ami"
	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/evidence/bundle"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/partition"
	"github.com/ami-factory/ami-factory/pkg/plan"
	"github.com/ami-factory/ami-factory/pkg/release"
	"github.com/ami-factory/ami-factory/pkg/store"
)

// EvidenceOf is what is about to be released.
type EvidenceOf struct {
	Job
	Plan     plan.BuildPlan
	Evidence store.Object      // the bundle
	Images   map[string]string // ids by region
	Before   release.Audience  // whom an earlier release shared the image with, and EC2 may still show
}

// Evidence compares what is about to be released with the signed evidence of it. The
// error is EvidenceMismatch when the evidence is not genuine, is of something else, or
// EC2 describes another image than the manifest.
type Evidence interface {
	Check(ctx context.Context, of EvidenceOf) error
}

// PublicKeyAPI reads the public half of a key.
type PublicKeyAPI interface {
	GetPublicKey(context.Context, *kms.GetPublicKeyInput, ...func(*kms.Options)) (*kms.GetPublicKeyOutput, error)
}

// EvidenceEC2 is what SignedEvidence needs of EC2, in every region.
type EvidenceEC2 interface {
	SignEC2
	release.PermissionReader
}

// SignedEvidence is the Evidence of bundles that Sign has signed. The key is that of the
// deployment, whatever key a bundle holds.
type SignedEvidence struct {
	Store store.Store
	KeyID string // ARN
	KMS   PublicKeyAPI
	EC2   func(region string) EvidenceEC2
}

// Check implements Evidence.
func (s SignedEvidence) Check(ctx context.Context, of EvidenceOf) error {
	m, err := s.manifest(ctx, of)
	if err != nil {
		return err
	}
	var wrong []string
	for _, region := range slices.Sorted(maps.Keys(of.Images)) {
		found, err := s.compare(ctx, of, m, region)
		if err != nil {
			return err
		}
		for _, deviation := range found {
			wrong = append(wrong, imageIn(region, of.Images[region])+": "+deviation)
		}
	}
	if len(wrong) > 0 {
		return failure.New(failure.EvidenceMismatch, "EC2 describes something else than the signed manifest %s: %s", objectAt(s.Store, of.Execution, contract.ManifestObject), strings.Join(wrong, "; "))
	}
	return nil
}

// manifest verifies the bundle, and that it is of this release.
func (s SignedEvidence) manifest(ctx context.Context, of EvidenceOf) (bundle.Manifest, error) {
	where := objectAt(s.Store, of.Execution, contract.EvidenceObject)
	if of.Evidence.Key != executionKey(of.Execution, contract.EvidenceObject) {
		return bundle.Manifest{}, failure.New(failure.EvidenceMismatch, "the evidence is given as s3://%s/%s, this execution's is at %s", of.Evidence.Bucket, of.Evidence.Key, where)
	}
	packed, err := s.Store.Get(ctx, of.Evidence)
	if failure.CodeOf(err) == failure.InvalidInput { // it is missing, or was altered
		err = failure.Wrap(failure.EvidenceMismatch, err, "the evidence cannot be used")
	}
	if err != nil {
		return bundle.Manifest{}, err
	}
	key, err := publicKey(ctx, s.KMS, s.KeyID)
	if err != nil {
		return bundle.Manifest{}, err
	}
	files, err := bundle.Unpack(packed)
	if err != nil {
		return bundle.Manifest{}, failure.Wrap(failure.EvidenceMismatch, err, "the evidence %s", where)
	}
	verified, err := bundle.Verify(files, key)
	if err != nil {
		return bundle.Manifest{}, failure.Wrap(failure.EvidenceMismatch, err, "the evidence %s", where)
	}
	m := verified.Manifest
	needed, err := neededFor(of.Plan, files[contract.DiffObject])
	if err != nil {
		return m, err
	}
	if wrong := notOf(of, m, needed); len(wrong) > 0 {
		return m, failure.New(failure.EvidenceMismatch, "the evidence %s is genuine, but of another release: %s", where, strings.Join(wrong, "; "))
	}
	return m, nil
}

// notOf returns the reasons why a manifest is not that of a release, which as many people
// must approve.
func notOf(of EvidenceOf, m bundle.Manifest, approvals int) []string {
	var out []string
	same := func(what, got, want string) {
		if got != want {
			out = append(out, fmt.Sprintf("its %s is %q, not %q", what, got, want))
		}
	}
	binding := bindingOf(of.Job, of.Plan)
	same("execution", m.Execution.ID, binding.Execution)
	same("plan", m.PlanSHA256, binding.PlanSHA256)
	same("recipe", m.Recipe, of.Plan.Recipe.Name)
	same("fingerprint", m.Fingerprint, binding.Fingerprint)
	same("release", m.ReleaseID, of.Plan.ReleaseID)
	same("number of approvals", fmt.Sprint(m.Approvals), fmt.Sprint(approvals))
	same("owner", m.Owner, partition.AccountOf(of.Execution.ID))
	if !m.Execution.Started.Equal(binding.Started) {
		out = append(out, fmt.Sprintf("its execution started at %s, not %s", m.Execution.Started, binding.Started))
	}
	var regions []string
	for _, i := range m.Images {
		regions = append(regions, i.Region)
	}
	same("regions", fmt.Sprint(regions), fmt.Sprint(slices.Sorted(slices.Values(regionsOf(of.Plan)))))
	same("audience", fmt.Sprint(m.Audience), fmt.Sprint(audienceOf(of.Plan)))
	return out
}

// compare returns what differs between the manifest and what EC2 says of the image in
// a region.
func (s SignedEvidence) compare(ctx context.Context, of EvidenceOf, m bundle.Manifest, region string) ([]string, error) {
	want, ok := m.Image(region)
	if !ok {
		return []string{"it is of no region of the manifest"}, nil
	}
	id, api := of.Images[region], s.EC2(region)
	if id != want.ImageID {
		return []string{"the manifest names " + want.ImageID}, nil
	}
	seen, err := observe(ctx, api, region, id)
	if errors.Is(err, ami.ErrNotFound) || awserr.Is(err, "InvalidSnapshot.NotFound") {
		return []string{"it or a snapshot of it is gone"}, nil
	}
	if err != nil {
		return nil, awserr.Wrap(err, failure.EvidenceFailed, "describe %s", imageIn(region, id))
	}
	out := seen.unfit(m.Owner)
	seen.image.BakedBy = want.BakedBy // a tag, which is not evidence
	out = append(out, differences(seen.image, want)...)
	has, err := release.ReadAudience(ctx, api, id)
	if err != nil {
		return nil, awserr.Wrap(err, failure.EvidenceFailed, "read who may launch %s", imageIn(region, id))
	}
	if extra := has.Minus(release.AudienceOf(of.Plan.Recipe.Distribution)).Minus(of.Before).Names(); len(extra) > 0 {
		out = append(out, "it is shared with "+strings.Join(extra, ", ")+", whom the manifest does not name")
	}
	return out, nil
}

// differences returns one sentence for each difference of two descriptions of an image.
func differences(got, want bundle.Image) []string {
	var out []string
	same := func(what, got, want string) {
		if got != want {
			out = append(out, fmt.Sprintf("its %s: %q, in the manifest %q", what, got, want))
		}
	}
	same("name", got.Name, want.Name)
	same("architecture", got.Architecture, want.Architecture)
	same("creation date", got.CreationDate, want.CreationDate)
	same("root device", got.RootDevice, want.RootDevice)
	same("snapshots", fmt.Sprint(got.Snapshots()), fmt.Sprint(want.Snapshots()))
	if len(out) == 0 && !slices.Equal(got.Volumes, want.Volumes) {
		out = append(out, fmt.Sprintf("its volumes are %+v, in the manifest %+v", got.Volumes, want.Volumes))
	}
	return out
}

// observed is an image as EC2 describes it.
type observed struct {
	image  bundle.Image
	state  types.ImageState
	owners map[string]string // of the image and its snapshots, by id
	states map[string]string // of the snapshots, by id
}

// SignEC2 describes images and their snapshots.
type SignEC2 interface {
	ec2.DescribeImagesAPIClient
	ec2.DescribeSnapshotsAPIClient
}

// observe describes the image in a region with its snapshots.
func observe(ctx context.Context, api SignEC2, region, id string) (observed, error) {
	img, err := ami.Describe(ctx, api, id)
	if err != nil {
		return observed{}, err
	}
	o := observed{
		image: bundle.Image{
			Region: region, ImageID: id, Name: aws.ToString(img.Name), Architecture: string(img.Architecture), CreationDate: aws.ToString(img.CreationDate),
			RootDevice: aws.ToString(img.RootDeviceName), BakedBy: ami.TagValue(img.Tags, contract.TagExecution), Volumes: []bundle.Volume{},
		},
		state: img.State, owners: map[string]string{id: aws.ToString(img.OwnerId)}, states: map[string]string{},
	}
	snapshots, err := ami.DescribeSnapshots(ctx, api, ami.Snapshots(img))
	if err != nil {
		return observed{}, err
	}
	byID := map[string]types.Snapshot{}
	for _, snapshot := range snapshots {
		sid := aws.ToString(snapshot.SnapshotId)
		byID[sid], o.owners[sid], o.states[sid] = snapshot, aws.ToString(snapshot.OwnerId), string(snapshot.State)
	}
	for _, d := range img.BlockDeviceMappings {
		if d.Ebs == nil {
			continue
		}
		sid := aws.ToString(d.Ebs.SnapshotId)
		if _, ok := byID[sid]; !ok {
			return observed{}, fmt.Errorf("%w: snapshot %s of %s", ami.ErrNotFound, sid, id)
		}
		o.image.Volumes = append(o.image.Volumes, bundle.Volume{
			Device: aws.ToString(d.DeviceName), SnapshotID: sid, SizeGiB: aws.ToInt32(byID[sid].VolumeSize),
			Encrypted: aws.ToBool(byID[sid].Encrypted), KMSKeyID: aws.ToString(byID[sid].KmsKeyId),
		})
	}
	slices.SortFunc(o.image.Volumes, func(a, b bundle.Volume) int { return cmp.Compare(a.Device, b.Device) })
	return o, nil
}

// unfit returns the reasons why an image of an owner may not be released.
func (o observed) unfit(owner string) []string {
	var out []string
	if o.state != types.ImageStateAvailable {
		out = append(out, fmt.Sprintf("it is %s, not available", o.state))
	}
	for _, id := range slices.Sorted(maps.Keys(o.owners)) {
		if o.owners[id] != owner {
			out = append(out, fmt.Sprintf("%s belongs to account %s, not %s", id, o.owners[id], owner))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(o.states)) {
		if o.states[id] != string(types.SnapshotStateCompleted) {
			out = append(out, fmt.Sprintf("%s is %s, not completed", id, o.states[id]))
		}
	}
	for _, v := range o.image.Volumes {
		if !v.Encrypted {
			out = append(out, fmt.Sprintf("%s is not encrypted", v.SnapshotID))
		}
	}
	if len(o.image.Volumes) == 0 {
		out = append(out, "it has no snapshot")
	}
	return out
}

// audienceOf is whom a plan shares images with.
func audienceOf(p plan.BuildPlan) bundle.Audience {
	a := release.AudienceOf(p.Recipe.Distribution)
	return bundle.Audience{
		Accounts:      append([]string{}, a.Accounts...),
		Organizations: append([]string{}, slices.Sorted(slices.Values(slices.Concat(a.Organizations, a.OrganizationalUnits)))...),
	}
}

// publicKey reads the public half of the key that signs evidence.
func publicKey(ctx context.Context, api PublicKeyAPI, id string) (*ecdsa.PublicKey, error) {
	if id == "" {
		return nil, failure.New(failure.EvidenceFailed, "the function's environment lacks %s; deploy the function again", contract.EnvSigningKey)
	}
	out, err := api.GetPublicKey(ctx, &kms.GetPublicKeyInput{KeyId: &id})
	if err != nil {
		return nil, awserr.Wrap(err, failure.EvidenceFailed, "read the public half of the key %s, which signs evidence", id)
	}
	key, err := bundle.KeyOfDER(out.PublicKey)
	if err != nil {
		return nil, failure.Wrap(failure.EvidenceFailed, err, "the key %s cannot sign evidence", id)
	}
	return key, nil
}

// objectAt is the address of an object of an execution.
func objectAt(s store.Store, e Execution, object string) string {
	return "s3://" + s.Bucket + "/" + executionKey(e, object)
}
