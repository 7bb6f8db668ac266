package execution

import (
	"fmt"
	"regexp"
	"time"

	"github.com/google/uuid"

	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/failure"
)

var (
	recipeName = regexp.MustCompile(`^[a-z][a-z0-9]*([-.][a-z0-9]+)*$`)
	imageID    = regexp.MustCompile(`^ami-[0-9a-f]{8,17}$`)
)

// CheckInput refuses what the first stage would refuse of any factory, so that no
// execution is spent on a slip. Which recipes there are, only the deployed
// factory knows.
func CheckInput(in contract.ExecutionInput) error {
	if !recipeName.MatchString(in.Recipe) {
		return failure.New(failure.InvalidInput, "%q is no name of a recipe: lower-case letters, digits and single hyphens, such as debian-12-docker", in.Recipe)
	}
	if in.Source != "" && !imageID.MatchString(in.Source) {
		return failure.New(failure.InvalidInput, "source %q is not an AMI id such as ami-0123456789abcdef0", in.Source)
	}
	return nil
}

var (
	nameAllowed = regexp.MustCompile(`^[A-Za-z0-9_-]{1,80}$`)
	notInNames  = regexp.MustCompile(`[^A-Za-z0-9_-]+`)
)

// CheckName refuses what is no name of an execution
// (https://docs.aws.amazon.com/step-functions/latest/apireference/API_StartExecution.html).
func CheckName(name string) error {
	if !nameAllowed.MatchString(name) {
		return fmt.Errorf("%q is no name for an execution: 1 to 80 letters, digits, - and _", name)
	}
	return nil
}

// NameByHand is unique, and contains recipe and time: whoever asks by hand means
// it, also a second time.
func NameByHand(recipe string, now time.Time) string {
	name := notInNames.ReplaceAllString(recipe, "-")
	return name[:min(len(name), 50)] + "-" + now.UTC().Format("20060102T150405Z") + "-" + uuid.NewString()[:8]
}
