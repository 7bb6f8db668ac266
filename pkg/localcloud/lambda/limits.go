package lambda

import (
	"encoding/json"
	"fmt"
	"regexp"

	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// Lambda's quotas (https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html).
const (
	minMemoryMiB = 128
	maxMemoryMiB = 10240
	// maxEnvironment limits a function's variables as JSON, in bytes.
	maxEnvironment = 4 * 1024
	// maxUpload limits an archive in a request, in bytes.
	maxUpload = 50 * 1024 * 1024
	// maxUnpacked limits the unpacked content of an archive, in bytes.
	maxUnpacked = 250 * 1024 * 1024
)

// outside returns the error for a number out of range, in Lambda's own words.
func outside(value int32, member string, least, most int32) error {
	bound, than := least, "greater"
	if value > most {
		bound, than = most, "less"
	}
	return wire.Errorf("ValidationException", "1 validation error detected: Value '%d' at '%s' failed to satisfy constraint: Member must have value %s than or equal to %d",
		value, member, than, bound)
}

var variableName = regexp.MustCompile(`^[a-zA-Z]([a-zA-Z0-9_])+$`)

// checkEnvironment applies the limits of a function's variables.
func checkEnvironment(variables map[string]string) error {
	for name := range variables {
		if !variableName.MatchString(name) {
			return wire.Errorf("ValidationException", "1 validation error detected: Value at 'environment.variables' failed to satisfy constraint: "+
				"Map keys must satisfy constraint: [Member must satisfy regular expression pattern: [a-zA-Z]([a-zA-Z0-9_])+], not %q", name)
		}
	}
	if len(variables) == 0 {
		return nil
	}
	raw, err := json.Marshal(variables)
	if err != nil {
		return fmt.Errorf("the variables of a function: %w", err)
	}
	if len(raw) > maxEnvironment {
		return invalid("Lambda was unable to configure your environment variables because the environment variables you have provided exceeded the 4KB limit. String measured: %s", raw)
	}
	return nil
}

// requestTooLarge returns the error for an archive that is too large for a
// request and must come from S3.
func requestTooLarge() error {
	return wire.Errorf("RequestEntityTooLargeException", "Request must be smaller than %d bytes for the operation", maxBody)
}
