package release

import (
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/ami"
)

// Expectation is what an image must be before any pointer may name it.
type Expectation struct {
	Labels      ami.Labels
	SnapshotIDs []string // as an earlier stage saw them; nil when none did
	Audience    Audience
}

// Deviations compares an image with what is expected, and returns one sentence
// for each difference; none means that it may be published.
func (e Expectation) Deviations(img types.Image, has Audience) []string {
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if img.State != types.ImageStateAvailable {
		say("it is %s, not available", img.State)
	}
	if img.ImdsSupport != types.ImdsSupportValuesV20 {
		say("it does not require IMDSv2")
	}
	if devices := ami.Unencrypted(img); len(devices) > 0 {
		say("%s is not encrypted", strings.Join(devices, ", "))
	}
	for _, t := range ami.MissingTags(e.Labels.Tags(), img.Tags) {
		say("its tag %s is %q, not %q", aws.ToString(t.Key), ami.TagValue(img.Tags, *t.Key), aws.ToString(t.Value))
	}
	if now := ami.Snapshots(img); e.SnapshotIDs != nil && !slices.Equal(now, ami.SortedIDs(e.SnapshotIDs)) {
		say("its snapshots are %v, verified were %v", now, e.SnapshotIDs)
	}
	if extra := has.Minus(e.Audience).Names(); len(extra) > 0 {
		say("it is shared with %s, which the recipe does not name", strings.Join(extra, ", "))
	}
	if missing := e.Audience.Minus(has).Names(); len(missing) > 0 {
		say("it is not shared with %s", strings.Join(missing, ", "))
	}
	return out
}
