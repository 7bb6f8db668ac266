package bundle

import (
	"encoding/json"
	"fmt"
	"time"
)

// Approvals is the predicate of ApprovalsType: who approved the release of a manifest.
type Approvals struct {
	Manifest  string     `json:"manifest"`  // SHA-256 of the manifest that was approved
	Requester string     `json:"requester"` // who started the execution; must not approve it
	Needed    int        `json:"needed"`    // different people
	Approvals []Approval `json:"approvals"` // by time
}

// Approval is what one person said.
type Approval struct {
	Person    string    `json:"person"`
	UserARN   string    `json:"userArn"` // of the session that signed the request
	At        time.Time `json:"at"`
	Reason    string    `json:"reason"`
	RequestID string    `json:"requestId,omitempty"` // of the request, for audits
}

// doubts returns the reasons why the approvals do not release a manifest.
func (a Approvals) doubts(m Manifest, manifestSHA256 string) []string {
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if a.Manifest != manifestSHA256 {
		say("it approves the manifest %s, the bundle's is %s", a.Manifest, manifestSHA256)
	}
	people := map[string]bool{}
	for _, one := range a.Approvals {
		switch {
		case one.Person == "":
			say("an approval names no person")
		case one.Person == a.Requester:
			say("%s approved an execution that they started", one.Person)
		case people[one.Person]:
			say("%s approved twice", one.Person)
		}
		people[one.Person] = true
	}
	if len(people) < m.Approvals {
		say("%d different people approved, the manifest needs %d", len(people), m.Approvals)
	}
	return out
}

func parseApprovals(predicate json.RawMessage) (Approvals, error) {
	var a Approvals
	if err := json.Unmarshal(predicate, &a); err != nil {
		return a, fmt.Errorf("its predicate is not of the documented form: %w", err)
	}
	return a, nil
}
