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

// CheckInput refuses input that the first stage of every factory refuses, so
// that a typing error starts no execution. It cannot check that the recipe
// exists: only the deployed factory knows its recipes.
func CheckInput(in contract.ExecutionInput) error {
	if !recipeName.MatchString(in.Recipe) {
		return failure.New(failure.InvalidInput, "%q is not the name of a recipe: lower-case letters, digits and single hyphens, such as debian-12-docker", in.Recipe)
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

// CheckName refuses an invalid name of an execution
// (https://docs.aws.amazon.com/step-functions/latest/apireference/API_StartExecution.html).
func CheckName(name string) error {
	if !nameAllowed.MatchString(name) {
		return fmt.Errorf("%q is not the name of an execution: 1 to 80 letters, digits, - and _", name)
	}
	return nil
}

// NameByHand returns a unique name with recipe and time, because a person who
// starts a build twice wants two executions.
func NameByHand(recipe string, now time.Time) string {
	name := notInNames.ReplaceAllString(recipe, "-")
	return name[:min(len(name), 50)] + "-" + now.UTC().Format("20060102T150405Z") + "-" + uuid.NewString()[:8]
}
