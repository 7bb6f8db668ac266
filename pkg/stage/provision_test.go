package stage

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAFailureOfProvisioningSaysWhereItIs(t *testing.T) {
	for sentence, tc := range map[string]struct{ failed, want string }{
		"a line of install.sh":           {`"component":"docker","script":"install.sh","exit":2,"line":12,"command":"false"`, "component docker failed with exit code 2 at line 12 of its install.sh: false"},
		"a line of prepare.sh":           {`"component":"docker","script":"prepare.sh","exit":1,"line":3,"command":"false"`, "component docker failed with exit code 1 at line 3 of its prepare.sh: false"},
		"a bundle of an earlier factory": {`"component":"docker","exit":1,"line":3,"command":"false"`, "component docker failed with exit code 1 at line 3 of its install.sh: false"},
		"a package that it wants": {`"component":"docker","script":"packages.sh","exit":1,"line":0,"command":"package x (components/docker/component.yaml:7:11) cannot be installed: E: no"`,
			"component docker failed with exit code 1: package x (components/docker/component.yaml:7:11) cannot be installed: E: no"},
		"a step of no component": {`"component":"boot-files","script":"boot-files.sh","exit":1,"line":0,"command":"update-grub"`, "step boot-files failed with exit code 1: update-grub"},
	} {
		t.Run(sentence, func(t *testing.T) {
			report, err := parseBoot(`{"status":"error"}` + "\n" + `{"status":"failed","components":[],"failed":{` + tc.failed + `,"logTail":""}}`)
			require.NoError(t, err)
			assert.Equal(t, tc.want, report.builderProblem())
		})
	}
}
