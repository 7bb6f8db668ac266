package stage

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/ami-factory/ami-factory/pkg/ami"
	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/evidence"
	"github.com/ami-factory/ami-factory/pkg/evidence/bundle"
	"github.com/ami-factory/ami-factory/pkg/evidence/diff"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/plan"
	"github.com/ami-factory/ami-factory/pkg/store"
)

// maxPrevious bounds the packed evidence of the release before. It takes 0.2 MB with
// 900 packages.
const maxPrevious = 16 << 20

// diff compares the release with the one before, and keeps the result, once. When people
// have approved the release, what they were asked about is read, whatever was published
// meanwhile: the digest of the manifest that they approved covers it.
func (s Sign) diff(ctx context.Context, in SignInput, p plan.BuildPlan, m bundle.Manifest, records bundle.Files, trusted *ecdsa.PublicKey) ([]byte, error) {
	after, err := diff.Read(m, records)
	if err != nil {
		return nil, failure.Wrap(failure.EvidenceMismatch, err, "the release cannot be compared with the one before")
	}
	key := executionKey(in.Execution, contract.DiffObject)
	if in.Manifest != nil {
		raw, err := s.Store.ReadAtMost(ctx, key, diff.MaxSize)
		if err != nil {
			return nil, err
		}
		return raw, s.checkDiff(in, m, after, raw)
	}
	before, reason, err := s.previous(ctx, in, p, trusted)
	if err != nil {
		return nil, err
	}
	made, err := diff.Of(before, after, reason).Encode()
	if err != nil {
		return nil, failure.Wrap(failure.EvidenceFailed, err, "compare the release with the one before")
	}
	created, err := s.Store.Create(ctx, key, "application/json", made)
	if err != nil || created {
		return made, err
	}
	// An earlier attempt wrote the same, unless another release came between them.
	raw, err := s.Store.ReadAtMost(ctx, key, diff.MaxSize)
	if err != nil || bytes.Equal(raw, made) {
		return raw, err
	}
	if err := s.checkDiff(in, m, after, raw); err != nil {
		return nil, err
	}
	return nil, failure.New(failure.EvidenceMismatch, "%s was written before, and the comparison now says something else; it is not overwritten",
		objectAt(s.Store, in.Execution, contract.DiffObject))
}

// checkDiff returns an error unless a diff is of this release.
func (s Sign) checkDiff(in SignInput, m bundle.Manifest, after diff.Record, raw []byte) error {
	d, err := diff.Decode(raw)
	if err == nil && (d.Recipe != m.Recipe || d.After.ImageID != after.ImageID || d.After.ReleaseID != after.ReleaseID || d.After.Execution != after.Execution) {
		err = fmt.Errorf("it is of the release %s of %s by %s", d.After.ReleaseID, d.After.ImageID, d.After.Execution)
	}
	if err != nil {
		return failure.Wrap(failure.EvidenceMismatch, err, "%s was written before; it is not overwritten", objectAt(s.Store, in.Execution, contract.DiffObject))
	}
	return nil
}

// previous is the evidence of the recipe's release before. Nothing of it is used that
// the key of the deployment has not signed; reason says why there is none.
func (s Sign) previous(ctx context.Context, in SignInput, p plan.BuildPlan, trusted *ecdsa.PublicKey) (before *diff.Record, reason string, err error) {
	home := homeOf(p)
	images, err := ami.ListOwn(ctx, s.EC2(home), ami.ByRecipe(p.Recipe.Name))
	if err != nil {
		return nil, "", awserr.Wrap(err, failure.EvidenceFailed, "list the images of recipe %s in %s", p.Recipe.Name, home)
	}
	img := ami.NewestPublished(images)
	if img == nil {
		return nil, diff.NoPrevious, nil
	}
	id := aws.ToString(img.ImageId)
	want := released{recipe: p.Recipe.Name, region: home, image: id, release: ami.TagValue(img.Tags, contract.TagRelease)}
	// The execution that made the image has released it, unless another one has released
	// it again: then the summary of the recipe names that. Both are only hints: the
	// signed manifest says what it is of.
	var reasons []string
	for _, hint := range []func() (string, error){
		func() (string, error) { return ami.TagValue(img.Tags, contract.TagExecution), nil },
		func() (string, error) { return s.publishedBy(ctx, p.Recipe.Name) },
	} {
		name, err := hint()
		if err != nil {
			return nil, "", err
		}
		if name == "" || strings.Contains(name, "/") || name == in.Execution.Name {
			continue
		}
		record, why, err := s.released(ctx, name, want, trusted)
		if err != nil || record != nil {
			return record, "", err
		}
		if why = oneSentence(why); !slices.Contains(reasons, why) {
			reasons = append(reasons, why)
		}
	}
	reason = cmp.Or(strings.Join(reasons, "; "), "nothing names the execution that released it")
	return nil, fmt.Sprintf("the evidence of %s, which was published before, is not verified: %s", id, reason), nil
}

// released identifies a release by what EC2 says of its image.
type released struct{ recipe, region, image, release string }

// released reads the evidence that an execution signed of a release; why says what is
// wrong with it.
func (s Sign) released(ctx context.Context, execution string, want released, trusted *ecdsa.PublicKey) (record *diff.Record, why string, err error) {
	where := "s3://" + s.Store.Bucket + "/" + contract.ExecutionKey(execution, contract.EvidenceObject)
	packed, err := s.Store.ReadAtMost(ctx, contract.ExecutionKey(execution, contract.EvidenceObject), maxPrevious)
	switch {
	case errors.Is(err, store.ErrNone):
		return nil, where + " is missing", nil
	case failure.CodeOf(err) == failure.InvalidInput: // too large
		return nil, awserr.Brief(err), nil
	case err != nil:
		return nil, "", err
	}
	files, err := bundle.Unpack(packed)
	if err != nil {
		return nil, where + ": " + err.Error(), nil
	}
	verified, err := bundle.Verify(files, trusted)
	if err != nil {
		return nil, where + ": " + err.Error(), nil
	}
	m := verified.Manifest
	image, _ := m.Image(want.region)
	for _, x := range []struct{ what, got, want string }{
		{"recipe", m.Recipe, want.recipe}, {"execution", m.Execution.Name, execution}, {"image", image.ImageID, want.image}, {"release", m.ReleaseID, want.release},
	} {
		if x.got != x.want {
			return nil, fmt.Sprintf("%s is genuine, but its %s is %q, not %q", where, x.what, x.got, x.want), nil
		}
	}
	read, err := diff.Read(m, files)
	if err != nil {
		return nil, where + ": " + err.Error(), nil
	}
	return &read, "", nil
}

// publishedBy is the execution that published last, as the recipe's summary says; empty
// if there is no summary that can be read.
func (s Sign) publishedBy(ctx context.Context, recipe string) (string, error) {
	raw, err := s.Store.ReadAtMost(ctx, contract.SummaryKey(recipe), maxSummary)
	if errors.Is(err, store.ErrNone) || failure.CodeOf(err) == failure.InvalidInput {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	var summary evidence.Summary
	if err := json.Unmarshal(raw, &summary); err != nil || summary.Recipe != recipe || summary.Published == nil {
		return "", nil
	}
	return summary.Published.Execution, nil
}

// oneSentence joins the lines of an error.
func oneSentence(s string) string { return strings.ReplaceAll(s, "\n", "; ") }
