package guest

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestProgressIsReadFromTheConsole(t *testing.T) {
	for sentence, tc := range map[string]struct {
		console string
		want    Progress
	}{
		"nothing yet": {"", Progress{}},
		"the kernel's lines": {
			"[    0.0] Linux version 6.1\r\n[    1.2] systemd[1]: Reached target\r\n\r\n",
			Progress{Last: "[    1.2] systemd[1]: Reached target"},
		},
		"a component at work": {
			"ami-factory: component hardening: started\nSetting up auditd\n",
			Progress{Running: "hardening", Last: "Setting up auditd"},
		},
		"the packages of all components": {
			"ami-factory: packages: started\nami-factory: packages: ok after 15s\nami-factory: boot-files: started\n",
			Progress{Done: []Installed{{"packages", true, 15 * time.Second}}, Running: "boot-files", Last: "ami-factory: boot-files: started"},
		},
		"a message of another part": {"ami-factory: fetching the component bundle\n", Progress{Last: "ami-factory: fetching the component bundle"}},
		"one done and one at work, behind cloud-init's prefix": {
			"[ 50.1] cloud-init[412]: ami-factory: component hardening: started\n[246.2] cloud-init[412]: ami-factory: component hardening: ok after 196s\n" +
				"[246.3] cloud-init[412]: ami-factory: component docker: started\n",
			Progress{
				Done: []Installed{{"hardening", true, 196 * time.Second}}, Running: "docker",
				Last: "[246.3] cloud-init[412]: ami-factory: component docker: started",
			},
		},
		"a line that the console has twice": {
			"ami-factory: component a: started\nami-factory: component a: ok after 2s\nami-factory: component a: ok after 2s\n",
			Progress{Done: []Installed{{"a", true, 2 * time.Second}}, Last: "ami-factory: component a: ok after 2s"},
		},
		"a component that failed": {
			"ami-factory: component a: started\nami-factory: component a: failed with exit code 7 after 12s\n",
			Progress{Done: []Installed{{"a", false, 12 * time.Second}}, Last: "ami-factory: component a: failed with exit code 7 after 12s"},
		},
		"escape characters and a long line": {
			"\x1b[31mred\x1b[0m\x07" + strings.Repeat("x", 500) + "\n",
			Progress{Last: ReadProgress([]byte("red<U+0007>" + strings.Repeat("x", 500))).Last},
		},
		"no line end yet": {"ami-factory: component a: started", Progress{Running: "a", Last: "ami-factory: component a: started"}},
	} {
		t.Run(sentence, func(t *testing.T) {
			got := ReadProgress([]byte(tc.console))
			assert.Equal(t, tc.want, got)
			assert.LessOrEqual(t, len(got.Last), maxLine)
			assert.NotContains(t, got.Last, "\x1b")
		})
	}
}
