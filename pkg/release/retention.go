package release

import (
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/ami"
)

// Superseded is a published image beyond those that a recipe keeps.
type Superseded struct {
	Image types.Image
	// Since is when so many newer images were published that this one is beyond
	// them. It is never earlier than the image's own publication, and zero if a
	// time of publication cannot be read.
	Since time.Time
}

// Surplus returns those published images that are beyond the newest keep and
// that none of protected names. images are newest first, as ami.List has them.
func Surplus(images []types.Image, keep int, protected []string) []Superseded {
	var out []Superseded
	var newer []time.Time // when the images before this one were published
	for _, img := range images {
		if !ami.IsPublished(img) || img.State != types.ImageStateAvailable {
			continue
		}
		at, _ := time.Parse(time.RFC3339, ami.TagValue(img.Tags, ami.TagPublished)) // zero if it is no time
		if len(newer) >= keep && !slices.Contains(protected, aws.ToString(img.ImageId)) {
			out = append(out, Superseded{Image: img, Since: supersededAt(at, newer, keep)})
		}
		newer = append(newer, at)
	}
	return out
}

func supersededAt(published time.Time, newer []time.Time, keep int) time.Time {
	times := slices.SortedFunc(slices.Values(newer), time.Time.Compare)
	if published.IsZero() || times[0].IsZero() {
		return time.Time{}
	}
	if at := times[keep-1]; at.After(published) {
		return at
	}
	return published
}
