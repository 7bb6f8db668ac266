// Package ami works with machine images in one region: tags, queries that read
// all pages, and removal of images with their snapshots.
package ami

import (
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/contract"
)

// Labels are the values of the factory's tags for one resource.
type Labels struct {
	Name        string // of the resource in the console
	Recipe      string
	Execution   string
	Stage       string
	Fingerprint string
	Expires     time.Time
}

// Tags returns the labels as EC2 tags, sorted by key.
func (l Labels) Tags() []types.Tag {
	tags := []types.Tag{
		tag(contract.TagExecution, l.Execution),
		tag(contract.TagExpires, l.Expires.UTC().Format(time.RFC3339)),
		tag(contract.TagFingerprint, l.Fingerprint),
		tag(contract.TagRecipe, l.Recipe),
		tag(contract.TagStage, l.Stage),
	}
	if l.Name != "" {
		tags = append([]types.Tag{tag("Name", l.Name)}, tags...)
	}
	return tags
}

// Specifications tags each of the resource types in the request that makes it.
func (l Labels) Specifications(kinds ...types.ResourceType) []types.TagSpecification {
	out := make([]types.TagSpecification, len(kinds))
	for i, k := range kinds {
		out[i] = types.TagSpecification{ResourceType: k, Tags: l.Tags()}
	}
	return out
}

// PublishedTags returns the tags of an image that pointers name, and of its
// snapshots.
func PublishedTags(at, expires time.Time) []types.Tag {
	return []types.Tag{
		tag(contract.TagExpires, expires.UTC().Format(time.RFC3339)),
		tag(contract.TagPublished, at.UTC().Format(time.RFC3339)),
	}
}

// ReleaseTags returns the tags with the last release of an image: its id, and
// the SHA-256 of its plan.
func ReleaseTags(id, planSHA256 string) []types.Tag {
	return []types.Tag{tag(contract.TagRelease, id), tag(contract.TagPlan, planSHA256)}
}

// SourceTags returns the tags with the source of a published image, so that no
// later image is built from an older source.
func SourceTags(image, made string) []types.Tag {
	return []types.Tag{tag(contract.TagSource, image), tag(contract.TagSourceMade, made)}
}

// TagValue returns the value of the tag key, or "".
func TagValue(tags []types.Tag, key string) string {
	for _, t := range tags {
		if aws.ToString(t.Key) == key {
			return aws.ToString(t.Value)
		}
	}
	return ""
}

// MissingTags returns the tags of want that are missing in have or have another
// value there. It does not compare Stage and Expires, which later stages may
// change.
func MissingTags(want, have []types.Tag) []types.Tag {
	var out []types.Tag
	for _, w := range want {
		key := aws.ToString(w.Key)
		if key == contract.TagStage || key == contract.TagExpires || !strings.HasPrefix(key, contract.TagPrefix) {
			continue
		}
		if TagValue(have, key) != aws.ToString(w.Value) {
			out = append(out, w)
		}
	}
	return out
}

// ByExecution filters for resources that one execution made.
func ByExecution(name string) types.Filter { return filter("tag:"+contract.TagExecution, name) }

// ByRecipe filters for resources that were made for one recipe.
func ByRecipe(name string) types.Filter { return filter("tag:"+contract.TagRecipe, name) }

func filter(name string, values ...string) types.Filter {
	return types.Filter{Name: aws.String(name), Values: values}
}

func tag(key, value string) types.Tag {
	return types.Tag{Key: aws.String(key), Value: aws.String(value)}
}

// SortedIDs returns the distinct ids, sorted.
func SortedIDs(ids []string) []string {
	out := slices.Clone(ids)
	slices.Sort(out)
	return slices.Compact(out)
}

// ByFingerprint filters for images with the content of a fingerprint.
func ByFingerprint(sum string) types.Filter { return filter("tag:"+contract.TagFingerprint, sum) }
