package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// maxImageName is AWS's limit for the length of an AMI's name, which may contain
// letters, digits and ( ) [ ] space . / - ' @ _.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateImage.html
const maxImageName = 128

// ImageName returns a name that is unique for each execution and describes the
// image: <recipe>-<fingerprint, 12 digits>-<start of the execution, UTC>-<digest
// of its name, 6 digits>, such as
// debian-12-docker-0123456789ab-20261123T174155Z-0a1b2c.
func ImageName(recipeName, fingerprint, execution string, start time.Time) string {
	sum := sha256.Sum256([]byte(execution))
	suffix := fmt.Sprintf("-%s-%s-%s", first(fingerprint, 12), start.UTC().Format("20060102T150405Z"), hex.EncodeToString(sum[:])[:6])
	return first(recipeName, maxImageName-len(suffix)) + suffix
}

// maxExecutionName is Step Functions' limit for the length of an execution's
// name.
// https://docs.aws.amazon.com/step-functions/latest/apireference/API_StartExecution.html
const maxExecutionName = 80

var notInExecutionName = regexp.MustCompile(`[^A-Za-z0-9_-]+`)

// ExecutionName derives the name of an execution from its task, so that a
// repeated event starts nothing new: names are unique for 90 days. releaseID is
// that of the plan, or another text if there is no plan. trigger distinguishes
// executions that must both run, for example by the time of a forced rebuild; it
// may be empty.
func ExecutionName(recipeName, releaseID, trigger string) string {
	clean := func(s string) string { return strings.Trim(notInExecutionName.ReplaceAllString(s, "-"), "-") }
	suffix := "-" + first(clean(releaseID), 16)
	if trigger != "" {
		t := clean(trigger)
		if t != trigger || len(t) > 20 {
			// Two triggers must stay distinct after cutting and replacing.
			t = first(t, 11) + "-" + digest([]byte(trigger))[:8]
		}
		suffix += "-" + t
	}
	return first(clean(recipeName), maxExecutionName-len(suffix)) + suffix
}

func first(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n]
}
