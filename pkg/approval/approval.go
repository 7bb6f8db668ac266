// Package approval decides whether people have approved a release: who may, who did,
// how many must, and who must not because they asked for the release or for one of its
// waivers. Requests and answers are records in the factory's bucket; the verdict is
// always made from them, never from what a caller says.
package approval

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/ami-factory/ami-factory/pkg/plaintext"
)

// Schemas of the records.
const (
	RequestSchema = "ami-factory/approval-request/1"
	AnswerSchema  = "ami-factory/approval-answer/1"
)

// Request asks people to approve a bundle of evidence.
type Request struct {
	Schema        string    `json:"schema"`
	Execution     string    `json:"execution"` // name
	RunARN        string    `json:"runArn"`    // ARN of the execution
	BundleDigest  string    `json:"bundleDigest"`
	Recipe        string    `json:"recipe"`
	Requester     string    `json:"requester"` // a person, or trigger: and the name of one
	WaiverAuthors []string  `json:"waiverAuthors"`
	Needed        int       `json:"needed"`            // different people
	Subject       *Subject  `json:"subject,omitempty"` // nil in requests of earlier versions
	Requested     time.Time `json:"requested"`
	Expires       time.Time `json:"expires"`
	Token         string    `json:"token,omitempty"` // of the task that waits; nobody else may learn it
}

// Decision of a person.
type Decision string

// The decisions.
const (
	Approve Decision = "approve"
	Reject  Decision = "reject"
)

// Answer is what one person decided.
type Answer struct {
	Schema       string    `json:"schema"`
	Person       string    `json:"person"`
	Decision     Decision  `json:"decision"`
	Reason       string    `json:"reason"`
	BundleDigest string    `json:"bundleDigest"`
	At           time.Time `json:"at"`
	UserARN      string    `json:"userArn"`   // of the session that signed the request
	RequestID    string    `json:"requestId"` // of the request, for audits
}

// Limits of a reason, in characters.
const (
	minReason = 5
	maxReason = 1000
)

var digestForm = regexp.MustCompile(`^[0-9a-f]{64}$`)

// CheckDigest refuses what is no SHA-256.
func CheckDigest(digest string) error {
	if !digestForm.MatchString(digest) {
		return fmt.Errorf("the digest is %q (allowed: a SHA-256, 64 digits 0-9 and a-f)", digest)
	}
	return nil
}

// CheckReason refuses a reason that says nothing, or too much.
func CheckReason(reason string) error {
	if n := len([]rune(strings.TrimSpace(reason))); n < minReason || n > maxReason {
		return fmt.Errorf("the reason has %d characters (allowed: %d to %d)", n, minReason, maxReason)
	}
	if plaintext.Clean(reason) != reason {
		return errors.New("the reason has control characters or others that are invisible: auditors read it on terminals (allowed: text, line feeds, tabs)")
	}
	return nil
}

// Same says whether two names are of one person: capitals and spaces around do not
// make another.
func Same(a, b string) bool { return normal(a) == normal(b) }

func normal(name string) string { return strings.ToLower(strings.TrimSpace(name)) }

// MayAnswer returns why a person must not decide about a request; nil if they may.
// Whoever asked for the release, or for a waiver in it, may not even reject: their
// decision would be about their own work.
func (r Request) MayAnswer(person string) error {
	if Same(person, r.Requester) {
		return fmt.Errorf("%s started the execution %s and may not decide about it: somebody else must", person, r.Execution)
	}
	for _, author := range r.WaiverAuthors {
		if Same(person, author) {
			return fmt.Errorf("%s is the author of a waiver in this release and may not decide about it: somebody else must", person)
		}
	}
	return nil
}

// doubt returns why an answer does not count; empty if it does.
func (r Request) doubt(a Answer) string {
	switch {
	case a.Schema != AnswerSchema:
		return fmt.Sprintf("its schema is %q", a.Schema)
	case a.BundleDigest != r.BundleDigest:
		return fmt.Sprintf("it is about %s, not about %s", a.BundleDigest, r.BundleDigest)
	case a.Person == "" || a.UserARN == "" || a.RequestID == "":
		return "it lacks the person, their session or the request"
	case a.Decision != Approve && a.Decision != Reject:
		return fmt.Sprintf("its decision is %q", a.Decision)
	case a.At.Before(r.Requested):
		return "it is older than the request"
	case a.At.After(r.Expires):
		return "it came after the request had expired"
	}
	if err := CheckReason(a.Reason); err != nil {
		return err.Error()
	}
	if err := r.MayAnswer(a.Person); err != nil {
		return err.Error()
	}
	return ""
}

// Status of a request.
type Status string

// The statuses.
const (
	Waiting  Status = "waiting"
	Approved Status = "approved"
	Refused  Status = "refused" // by a person
	Expired  Status = "expired"
)

// Verdict is the status of a request, made from its answers.
type Verdict struct {
	Status    Status
	Approvals []Answer // that count, one of each person, by time
	Refusal   *Answer  // the first
	Doubts    []string // why other answers do not count, sorted
}

// Judge makes the verdict. One rejection ends a request. An answer that does not count
// changes nothing, so that nobody can approve or block a release with a record that
// they made themselves.
func Judge(r Request, answers []Answer, now time.Time) Verdict {
	answers = slices.Clone(answers)
	slices.SortStableFunc(answers, func(a, b Answer) int {
		if c := a.At.Compare(b.At); c != 0 {
			return c
		}
		return strings.Compare(a.Person, b.Person)
	})
	var v Verdict
	people := map[string]bool{}
	for _, a := range answers {
		doubt := r.doubt(a)
		if doubt == "" && people[normal(a.Person)] {
			doubt = "this person answered before"
		}
		if doubt != "" {
			v.Doubts = append(v.Doubts, fmt.Sprintf("the answer of %q does not count: %s", a.Person, doubt))
			continue
		}
		people[normal(a.Person)] = true
		if a.Decision == Reject {
			if v.Refusal == nil {
				v.Refusal = &a
			}
			continue
		}
		v.Approvals = append(v.Approvals, a)
	}
	slices.Sort(v.Doubts)
	switch {
	case v.Refusal != nil:
		v.Status = Refused
	case len(v.Approvals) >= r.Needed:
		v.Status = Approved
	case now.After(r.Expires):
		v.Status = Expired
	default:
		v.Status = Waiting
	}
	return v
}
