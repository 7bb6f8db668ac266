package stage

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/ami"
	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/plan"
	"github.com/ami-factory/ami-factory/pkg/recipe"
	"github.com/ami-factory/ami-factory/pkg/release"
	"github.com/ami-factory/ami-factory/pkg/store"
)

// work is what Resolve decides that the execution does.
type work struct {
	reuse   *plan.Reuse // nil: a bake
	why     string
	changed []string // what differs from the release before
}

// Next is what an execution would do now.
type Next struct {
	Action  string   // contract.ActionBake or ActionRelease; empty when the published image is up to date
	Why     string   // reason of the action
	Changed []string // what differs from the release before, see plan.Differences
}

// Next says what an execution of a plan would do that forces nothing. It only reads.
func (s Resolve) Next(ctx context.Context, p plan.BuildPlan) (Next, error) {
	published, err := s.Planner.Published(ctx, p)
	if err != nil || published != nil {
		return Next{}, err
	}
	w, err := s.decide(ctx, p)
	if err != nil {
		return Next{}, err
	}
	next := Next{Action: contract.ActionBake, Why: w.why, Changed: w.changed}
	if w.reuse != nil {
		next.Action = contract.ActionRelease
	}
	return next, nil
}

// decide compares the plan with the image that is published. Where its content is
// the plan's, that image is released again, unless something that the release
// needs is missing or doubtful: then a bake makes an image with results of its own.
func (s Resolve) decide(ctx context.Context, p plan.BuildPlan) (work, error) {
	img, err := s.Planner.Newest(ctx, p.Recipe.Name)
	if err != nil {
		return work{}, err
	}
	if img == nil {
		return work{why: "no image of the recipe is published"}, nil
	}
	id := aws.ToString(img.ImageId)
	before, err := s.releasedBy(ctx, *img)
	if err != nil && failure.CodeOf(err) != failure.RecordMismatch {
		return work{}, err
	}
	var changed []string
	if before != nil {
		changed = plan.Differences(*before, p)
	}
	if ami.TagValue(img.Tags, contract.TagFingerprint) != p.Fingerprint {
		return work{why: "the content differs from that of the published image " + id, changed: changed}, nil
	}
	if err == nil {
		var reuse *plan.Reuse
		if reuse, err = s.reuse(ctx, p, *img, *before); err == nil {
			return work{reuse: reuse, why: "the content is that of the published image " + id + ", and its release differs", changed: changed}, nil
		}
	}
	if failure.CodeOf(err) != failure.RecordMismatch {
		return work{}, err
	}
	return work{why: "the content is that of the published image " + id + ", which cannot be released again: " + awserr.Brief(err), changed: changed}, nil
}

// reuse is what a release of an existing image needs. The error is RecordMismatch
// when the image cannot be released without a bake.
func (s Resolve) reuse(ctx context.Context, p plan.BuildPlan, img types.Image, before plan.BuildPlan) (*plan.Reuse, error) {
	home, id := homeOf(p), aws.ToString(img.ImageId)
	maker := ami.TagValue(img.Tags, contract.TagExecution)
	kept, err := keptResults(ctx, s.Store, p, id, maker)
	if err != nil {
		return nil, err
	}
	first := reused(img, maker, kept.of.Started, before)
	out := &plan.Reuse{Images: map[string]plan.ReusedImage{home: first}}
	for _, target := range p.Recipe.Distribution.Regions {
		if target.Name == home {
			continue
		}
		again, err := s.copyIn(ctx, p, id, target)
		if err != nil {
			return nil, err
		}
		if again != nil {
			out.Images[target.Name] = *again
		}
	}
	return out, nil
}

func reused(img types.Image, maker string, started time.Time, before plan.BuildPlan) plan.ReusedImage {
	d := before.Recipe.Distribution
	return plan.ReusedImage{
		ImageID: aws.ToString(img.ImageId), Execution: maker, Started: started, Plan: ami.TagValue(img.Tags, contract.TagPlan),
		Accounts: d.Accounts, Organizations: d.Organizations,
	}
}

// copyIn finds the published copy of an image in another region that an execution
// made under the key that the recipe names; nil when there is none that is known
// to be a copy of this image: then a new one is made.
func (s Resolve) copyIn(ctx context.Context, p plan.BuildPlan, image string, target recipe.Region) (*plan.ReusedImage, error) {
	found, err := ami.ListOwn(ctx, s.Planner.EC2(target.Name), ami.ByRecipe(p.Recipe.Name), ami.ByFingerprint(p.Fingerprint))
	if err != nil {
		return nil, awserr.Wrap(err, failure.Internal, "list the images of recipe %s in %s", p.Recipe.Name, target.Name)
	}
	for _, img := range found {
		if img.State != types.ImageStateAvailable || !ami.IsPublished(img) {
			continue
		}
		again, err := s.isCopy(ctx, p, img, image, target)
		if failure.CodeOf(err) == failure.RecordMismatch {
			continue
		}
		if err != nil {
			return nil, err
		}
		return again, nil
	}
	return nil, nil
}

// isCopy proves by the journal of the execution that made a copy which image it is
// a copy of. Otherwise the error is RecordMismatch.
func (s Resolve) isCopy(ctx context.Context, p plan.BuildPlan, img types.Image, image string, target recipe.Region) (*plan.ReusedImage, error) {
	id, maker := aws.ToString(img.ImageId), ami.TagValue(img.Tags, contract.TagExecution)
	who, err := claimed(ctx, s.Store, maker)
	if err != nil {
		return nil, err
	}
	records := journalOf(s.Store, Execution{Name: maker})
	raw, err := records.Read(ctx)
	if err != nil {
		return nil, err
	}
	var j release.Journal
	if err := decodeRecord("the journal of pointers", s.Store, records.key, raw, &j); err != nil {
		return nil, err
	}
	made, err := keptPlan(ctx, s.Store, j.Of.PlanSHA256)
	if err != nil {
		return nil, err
	}
	wrong := j.Of.Deviations(compliance.Binding{Execution: who.Execution, Started: who.Started, PlanSHA256: j.Of.PlanSHA256, Fingerprint: p.Fingerprint})
	if j.State != release.Committed || j.Recipe != p.Recipe.Name {
		wrong = append(wrong, fmt.Sprintf("it is %s, of recipe %q", j.State, j.Recipe))
	}
	if j.Images[target.Name] != id || j.Images[homeOf(p)] != image {
		wrong = append(wrong, fmt.Sprintf("it does not say that %s is a copy of %s", id, image))
	}
	if key := keyIn(made.Recipe, target.Name); key != target.KMSKey {
		wrong = append(wrong, fmt.Sprintf("the copy was made under the key %q, not %q", key, target.KMSKey))
	}
	if err := mismatch("the journal of pointers", s.Store, records.key, wrong); err != nil {
		return nil, err
	}
	before, err := s.releasedBy(ctx, img)
	if err != nil {
		return nil, err
	}
	again := reused(img, maker, who.Started, *before)
	return &again, nil
}

func keyIn(r recipe.Recipe, region string) string {
	i := slices.IndexFunc(r.Distribution.Regions, func(x recipe.Region) bool { return x.Name == region })
	if i < 0 {
		return ""
	}
	return r.Distribution.Regions[i].KMSKey
}

// releasedBy is the plan of the release that an image had last. The error is
// RecordMismatch when it cannot be read.
func (s Resolve) releasedBy(ctx context.Context, img types.Image) (*plan.BuildPlan, error) {
	p, err := keptPlan(ctx, s.Store, ami.TagValue(img.Tags, contract.TagPlan))
	if err != nil {
		return nil, failure.Wrap(failure.CodeOf(err), err, "the release that image %s had last is not known", aws.ToString(img.ImageId))
	}
	if got := ami.TagValue(img.Tags, contract.TagRelease); got != p.ReleaseID {
		return nil, failure.New(failure.RecordMismatch, "image %s bears the release %q and the plan of the release %q", aws.ToString(img.ImageId), got, p.ReleaseID)
	}
	// Tags are anybody's to set: the plan of another image names another audience.
	recipe, fingerprint := ami.TagValue(img.Tags, contract.TagRecipe), ami.TagValue(img.Tags, contract.TagFingerprint)
	if p.Recipe.Name != recipe || p.Fingerprint != fingerprint {
		return nil, failure.New(failure.RecordMismatch, "image %s is of recipe %s and content %s, and bears a plan of recipe %s and content %s",
			aws.ToString(img.ImageId), recipe, fingerprint, p.Recipe.Name, p.Fingerprint)
	}
	return &p, nil
}

// maxKept bounds what is read of an earlier execution. Plans are the largest.
const maxKept = 64 << 20

// keptPlan reads the plan of a digest, of this or another execution. The error is
// RecordMismatch when there is none, or another one.
func keptPlan(ctx context.Context, s store.Store, sum string) (plan.BuildPlan, error) {
	var p plan.BuildPlan
	key := contract.PlanKey(sum)
	raw, err := keptObject(ctx, s, "the plan", key, maxKept)
	if err != nil {
		return p, err
	}
	if got := store.Digest(raw); got != sum {
		return p, mismatch("the plan", s, key, []string{"its SHA-256 is " + got})
	}
	return p, decodeRecord("the plan", s, key, raw, &p)
}

// keptObject reads a record of an earlier execution. The error is RecordMismatch
// when it is missing or larger than the limit.
func keptObject(ctx context.Context, s store.Store, what, key string, limit int64) ([]byte, error) {
	raw, err := s.ReadAtMost(ctx, key, limit)
	switch {
	case errors.Is(err, store.ErrNone):
		return nil, failure.New(failure.RecordMismatch, "%s s3://%s/%s is missing", what, s.Bucket, key)
	case failure.CodeOf(err) == failure.InvalidInput: // it is too large
		return nil, failure.Wrap(failure.RecordMismatch, err, "%s is not used", what)
	}
	return raw, err
}

// claimed says which execution has a name.
func claimed(ctx context.Context, s store.Store, name string) (claim, error) {
	var c claim
	key := executionKey(Execution{Name: name}, contract.ClaimObject)
	if name == "" || strings.Contains(name, "/") {
		return c, failure.New(failure.RecordMismatch, "%q is no name of an execution", name)
	}
	raw, err := keptObject(ctx, s, "the claim", key, maxKept)
	if err != nil {
		return c, err
	}
	return c, decodeRecord("the claim", s, key, raw, &c)
}

// kept are the results of the checks of an image, as the execution that made it
// kept them.
type kept struct {
	of         compliance.Binding
	instanceID string
	engine     compliance.Engine
	guests     compliance.Guests
	uri        string
	raw        []byte                       // the engine's own words
	outputs    map[string]compliance.Output // of engines other than goss
	inventory  listing
}

// keptResults reads the results that the execution of a name kept of an image with
// the content of a plan. The error is RecordMismatch when they are missing, or are
// of another execution, another content or another image.
func keptResults(ctx context.Context, s store.Store, p plan.BuildPlan, image, maker string) (kept, error) {
	who, err := claimed(ctx, s, maker)
	if err != nil {
		return kept{}, err
	}
	const what = "the record of results"
	e := Execution{Name: maker}
	raw, err := keptObject(ctx, s, what, complianceKey(e), maxKept)
	if err != nil {
		return kept{}, err
	}
	var r compliance.Report
	if err := decodeRecord(what, s, complianceKey(e), raw, &r); err != nil {
		return kept{}, err
	}
	wrong := r.Of.Deviations(compliance.Binding{Execution: who.Execution, Started: who.Started, PlanSHA256: r.Of.PlanSHA256, Fingerprint: p.Fingerprint})
	if r.ImageID != image {
		wrong = append(wrong, fmt.Sprintf("it is of image %q, not %s", r.ImageID, image))
	}
	if len(r.Results) == 0 {
		wrong = append(wrong, "it has no results")
	}
	sums, first := map[string]string{}, -1 // by engine, and the first result of goss
	for i, result := range r.Results {
		name := result.Engine.Name
		if earlier, ok := sums[name]; ok && earlier != result.Evidence.SHA256 {
			wrong = append(wrong, "its results are of several outputs of the check engine "+name)
			break
		}
		sums[name] = result.Evidence.SHA256
		if first < 0 && name == compliance.EngineGoss {
			first = i
		}
	}
	if first < 0 && len(r.Results) > 0 {
		wrong = append(wrong, "it has no result of goss")
	}
	if err := mismatch(what, s, complianceKey(e), wrong); err != nil {
		return kept{}, err
	}
	made, err := keptPlan(ctx, s, r.Of.PlanSHA256)
	if err != nil {
		return kept{}, err
	}
	if made.Fingerprint != p.Fingerprint || made.Recipe.Name != p.Recipe.Name {
		return kept{}, mismatch(what, s, complianceKey(e), []string{"its plan is of another content"})
	}
	if !bytes.Equal(made.Checks, p.Checks) { // another version of the factory may compile them otherwise
		return kept{}, mismatch(what, s, complianceKey(e), []string{"they are of other checks than this version compiles"})
	}
	output, err := keptOutput(ctx, s, rawResultsKey(e), sums[compliance.EngineGoss])
	if err != nil {
		return kept{}, err
	}
	listed, err := keptInventory(ctx, s, maker, r)
	if err != nil {
		return kept{}, err
	}
	outputs, err := keptOutputs(ctx, s, e, p.Engines.Names(), sums)
	if err != nil {
		return kept{}, err
	}
	return kept{
		of: r.Of, instanceID: r.Results[first].InstanceID, engine: r.Results[first].Engine, guests: r.Guests,
		uri: "s3://" + s.Bucket + "/" + rawResultsKey(e), raw: output, outputs: outputs, inventory: listed,
	}, nil
}

// keptOutputs are what engines other than goss printed, of these digests.
func keptOutputs(ctx context.Context, s store.Store, e Execution, names []string, sums map[string]string) (map[string]compliance.Output, error) {
	out := map[string]compliance.Output{}
	for _, name := range names {
		what, key := "the output of "+name, engineKey(e, name)
		packed, err := keptObject(ctx, s, what, key, compliance.MaxPacked)
		if err != nil {
			return nil, err
		}
		if got := store.Digest(packed); got != sums[name] {
			return nil, mismatch(what, s, key, []string{fmt.Sprintf("its SHA-256 is %s, the results are of %q", got, sums[name])})
		}
		out[name] = compliance.Output{Packed: packed, URI: "s3://" + s.Bucket + "/" + key}
	}
	return out, nil
}

// keptOutput is what the check engine printed, of a digest.
func keptOutput(ctx context.Context, s store.Store, key, sum string) ([]byte, error) {
	const what = "the output of the check engine"
	packed, err := keptObject(ctx, s, what, key, compliance.MaxOutput)
	if err != nil {
		return nil, err
	}
	raw, err := unpackResults(packed)
	if err != nil {
		return nil, failure.Wrap(failure.RecordMismatch, err, "%s s3://%s/%s cannot be read", what, s.Bucket, key)
	}
	if got := store.Digest(raw); got != sum {
		return nil, mismatch(what, s, key, []string{fmt.Sprintf("its SHA-256 is %s, the results are of %s", got, sum)})
	}
	return raw, nil
}

// unpackResults unpacks the output of the check engine.
func unpackResults(packed []byte) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, failure.Wrap(failure.ComplianceFailed, err, "unpack the results")
	}
	raw, err := io.ReadAll(io.LimitReader(z, compliance.MaxOutput+1))
	if err != nil {
		return nil, failure.Wrap(failure.ComplianceFailed, err, "unpack the results")
	}
	if len(raw) > compliance.MaxOutput {
		return nil, failure.New(failure.ComplianceFailed, "the results unpack to more than %d bytes, which no checks take; nothing of them is trusted", compliance.MaxOutput)
	}
	return raw, nil
}

// labelsIn are the labels of the image in a region: of the execution that made it,
// if that is another one.
func labelsIn(in Job, p plan.BuildPlan, region string) ami.Labels {
	out := labels(in, p, p.ImageName)
	if again, ok := p.Reused(region); ok {
		out.Execution = again.Execution
	}
	return out
}

// sharedBefore is whom the image in a region was shared with by its last release.
func sharedBefore(p plan.BuildPlan, region string) release.Audience {
	again, _ := p.Reused(region)
	return release.AudienceOf(recipe.Distribution{Accounts: again.Accounts, Organizations: again.Organizations})
}
