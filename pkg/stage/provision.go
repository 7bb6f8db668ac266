package stage

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/component"
	"github.com/ami-factory/ami-factory/pkg/plaintext"
)

// bootScript prints, as JSON values one after the other: cloud-init's verdict
// (it waits for one), what the component runner wrote in a builder, and the
// factory's own observations. It always succeeds; what it prints is judged.
//
// It waits until the boot has started all that it starts, because checks also prove
// that something is absent, such as a port that listens. A service of type oneshot
// with the lowest priority (Nice=19) is the exception, such as the one that makes the
// first database of AIDE: it stays behind by its own account for minutes, and nothing
// of it remains that a check could miss. A check that needs its result waits for it.
// Targets that wait for such a service are not waited for either.
// (https://www.freedesktop.org/software/systemd/man/latest/systemctl.html#list-jobs%20PATTERN%E2%80%A6)
const bootScript = `cloud-init status --wait --format json 2>/dev/null
if [ -r /var/lib/ami-factory/provision.json ]; then cat /var/lib/ami-factory/provision.json; fi
starting() {
	systemctl list-jobs --plain --no-legend --no-pager 2>/dev/null | while read -r id unit kind state; do
		case $id in '' | *[!0-9]*) continue ;; esac
		case $state.$unit in
		waiting.*.target) continue ;;
		running.*.service)
			how=$(systemctl show --property=Type --property=Nice "$unit" 2>/dev/null | sort | tr '\n' ' ')
			if [ "$how" = 'Nice=19 Type=oneshot ' ]; then continue; fi
			;;
		esac
		echo "$unit"
	done | grep -q .
}
while starting; do sleep 0.5; done
state=$(systemctl is-system-running 2>/dev/null)
units=$(systemctl list-units --state=failed --plain --no-legend --no-pager 2>/dev/null | awk '{print $1}' | sed 's/\\/\\\\/g' | tr '\n' ' ') # JSON: names of mounts have backslashes
printf '{"systemState":"%s","failedUnits":"%s","finished":%s}\n' "$state" "$units" "$(date +%s)"
exit 0
`

// bootReport is what bootScript printed.
type bootReport struct {
	CloudInit cloudInit
	Provision *provision // nil when no component runner wrote one
	System    systemState
}

type cloudInit struct {
	Status string   `json:"status"` // done | error | disabled | …
	Detail string   `json:"detail"`
	Errors []string `json:"errors"`
}

// provision is /var/lib/ami-factory/provision.json.
type provision struct {
	Status     string `json:"status"` // ok | failed
	Components []struct {
		Name   string `json:"name"`
		Status string `json:"status"`
		Exit   int    `json:"exit"`
	} `json:"components"`
	Failed *struct {
		Component string `json:"component"`
		Script    string `json:"script"` // of the component's, or of the step that it failed in
		Exit      int    `json:"exit"`
		Line      int    `json:"line"`
		Command   string `json:"command"`
		LogTail   string `json:"logTail"` // base64
	} `json:"failed"`
}

type systemState struct {
	SystemState string `json:"systemState"` // running | degraded | …
	FailedUnits string `json:"failedUnits"` // separated by spaces
	Finished    int64  `json:"finished"`    // seconds since 1970, by the guest's clock
}

// parseBoot reads bootScript's output.
func parseBoot(stdout string) (bootReport, error) {
	var r bootReport
	seen := false
	dec := json.NewDecoder(strings.NewReader(stdout))
	for {
		var raw json.RawMessage
		err := dec.Decode(&raw)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return r, fmt.Errorf("the guest's answer is not JSON: %w", err)
		}
		var keys map[string]json.RawMessage
		if err := json.Unmarshal(raw, &keys); err != nil {
			return r, fmt.Errorf("the guest's answer is not a JSON object: %w", err)
		}
		var into any
		switch {
		case keys["components"] != nil || keys["failed"] != nil:
			r.Provision = new(provision)
			into = r.Provision
		case keys["systemState"] != nil:
			into = &r.System
		default:
			into, seen = &r.CloudInit, true
		}
		clean, err := plaintext.JSON(raw) // which may escape what is not
		if err != nil {
			return r, fmt.Errorf("the guest's answer is not JSON: %w", err)
		}
		if err := json.Unmarshal(clean, into); err != nil {
			return r, fmt.Errorf("the guest's answer: %w", err)
		}
	}
	if !seen || r.CloudInit.Status == "" {
		return r, errors.New("the guest's answer lacks cloud-init's status")
	}
	return r, nil
}

// parseVerdict reads what userdata/runner/report.sh uploads: the values that
// bootScript prints, in one object.
func parseVerdict(raw []byte) (bootReport, error) {
	var r bootReport
	clean, err := plaintext.JSON(raw)
	if err != nil {
		return r, fmt.Errorf("it is not JSON: %w", err)
	}
	var v struct {
		Schema    int          `json:"schema"`
		CloudInit *cloudInit   `json:"cloudInit"` // none of a failure that came before its end
		Provision *provision   `json:"provision"`
		System    *systemState `json:"system"`
	}
	if err := json.Unmarshal(clean, &v); err != nil {
		return r, fmt.Errorf("it is not a report: %w", err)
	}
	if v.Schema != 1 {
		return r, fmt.Errorf("its schema is %d, not 1", v.Schema)
	}
	if v.CloudInit != nil {
		r.CloudInit = *v.CloudInit
	}
	if v.System != nil {
		r.System = *v.System
	}
	r.Provision = v.Provision
	if failed := r.Provision != nil && r.Provision.Failed != nil; !failed && r.CloudInit.Status == "" {
		return r, errors.New("it lacks cloud-init's status")
	}
	return r, nil
}

// builderProblem says what is wrong with how a builder was provisioned; empty
// when nothing is.
func (r bootReport) builderProblem() string {
	switch p := r.Provision; {
	case p != nil && p.Failed != nil:
		f := p.Failed
		kind := "component"
		if slices.Contains(component.Steps(), f.Component) {
			kind = "step" // no component is to blame, such as when apt's lock is held
		}
		text := fmt.Sprintf("%s %s failed with exit code %d", kind, f.Component, f.Exit)
		if f.Line > 0 { // else it was no line of its own, as with its packages
			text += fmt.Sprintf(" at line %d of its %s", f.Line, cmp.Or(f.Script, "install.sh"))
		}
		text += ": " + f.Command
		if log, err := base64.StdEncoding.DecodeString(f.LogTail); err == nil && len(bytes.TrimSpace(log)) > 0 {
			text += "\nend of its log:\n" + tail(log)
		}
		return text
	case p != nil && p.Status != "ok":
		return fmt.Sprintf("the component runner reports status %q", p.Status)
	case p == nil && r.CloudInit.Status == "done":
		return "cloud-init finished, but the component runner never wrote its result; " +
			"the bundle was probably not fetched, see the console"
	}
	return r.cloudInitProblem()
}

func (r bootReport) cloudInitProblem() string {
	if r.CloudInit.Status == "done" && len(r.CloudInit.Errors) == 0 {
		return ""
	}
	text := "cloud-init ended with status " + r.CloudInit.Status
	if d := r.CloudInit.Detail; d != "" {
		text += " (" + d + ")"
	}
	if len(r.CloudInit.Errors) > 0 {
		text += ": " + strings.Join(r.CloudInit.Errors, "; ")
	}
	return text
}

func (s systemState) units() []string {
	units := strings.Fields(s.FailedUnits)
	slices.Sort(units)
	return units
}
