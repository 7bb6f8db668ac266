package release_test

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/assert"

	"github.com/ami-factory/ami-factory/pkg/release"
)

func TestWhenAnImageIsDeprecatedChangesWithTheRecipe(t *testing.T) {
	now := start.Add(20 * time.Second)
	for sentence, c := range map[string]struct {
		set     string // as EC2 reports it
		at      time.Time
		want    time.Time
		changes bool
	}{
		"it has no time":                               {"", start.Add(90 * day), start.Add(90 * day), true},
		"it has that time":                             {"2026-05-30T12:00:00.000Z", start.Add(90*day + 30*time.Second), start.Add(90*day + 30*time.Second), false},
		"it has a later time":                          {"2026-05-30T12:00:00.000Z", start.Add(30 * day), start.Add(30 * day), true},
		"it has an earlier time":                       {"2026-03-02T12:00:00.000Z", start.Add(30 * day), start.Add(30 * day), true},
		"the new time has passed":                      {"2026-05-30T12:00:00.000Z", start.Add(-day), now.Add(time.Minute), true},
		"the new time has passed and none was set":     {"", start.Add(-day), now.Add(time.Minute), true},
		"both have passed":                             {"2026-02-01T12:00:00.000Z", start.Add(-day), now.Add(time.Minute), false},
		"a passed time was replaced by an attempt":     {"2026-03-01T12:01:00.000Z", start.Add(-day), now.Add(time.Minute), false},
		"it is deprecated and should be so much later": {"2026-02-01T12:00:00.000Z", start.Add(30 * day), start.Add(30 * day), true},
	} {
		t.Run(sentence, func(t *testing.T) {
			var img types.Image
			if c.set != "" {
				img.DeprecationTime = aws.String(c.set)
			}
			at, changes := release.ChangeDeprecation(img, c.at, now)
			assert.Equal(t, c.changes, changes)
			assert.Equal(t, c.want, at)
		})
	}
}
