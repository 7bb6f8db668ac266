package ami_test

import (
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/assert"

	"github.com/ami-factory/ami-factory/pkg/ami"
	"github.com/ami-factory/ami-factory/pkg/contract"
)

// The roles' policies allow these keys and no others.
func TestTheKeysOfTagsAreThoseThatRolesMaySet(t *testing.T) {
	keys := func(tags []types.Tag) []string {
		var out []string
		for _, tag := range tags {
			out = append(out, aws.ToString(tag.Key))
		}
		return out
	}
	labels := ami.Labels{Name: "n", Recipe: "r", Execution: "e", Stage: "s", Fingerprint: "f", Expires: time.Unix(0, 0)}
	assert.ElementsMatch(t, contract.LabelTags(), keys(labels.Tags()))
	assert.ElementsMatch(t, contract.PublishedTags(), keys(slices.Concat(
		ami.PublishedTags(time.Unix(0, 0), time.Unix(0, 0)), ami.ReleaseTags("r", "p"), ami.SourceTags("ami-1", "2026"))))
}
