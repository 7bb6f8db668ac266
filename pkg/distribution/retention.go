package distribution

import (
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/ami"
)

// Surplus returns those published images that are beyond the newest keep and
// that none of protected names. images are newest first, as ami.List has them.
func Surplus(images []types.Image, keep int, protected []string) []types.Image {
	var out []types.Image
	kept := 0
	for _, img := range images {
		if !ami.IsPublished(img) || img.State != types.ImageStateAvailable {
			continue
		}
		if kept < keep {
			kept++
			continue
		}
		if !slices.Contains(protected, aws.ToString(img.ImageId)) {
			out = append(out, img)
		}
	}
	return out
}
