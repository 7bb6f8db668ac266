package approval_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/approval"
)

const account = "111122223333"

var (
	digest = strings.Repeat("ab", 32)
	begin  = time.Date(2026, 11, 30, 9, 0, 0, 0, time.UTC)
)

func request(needed int) approval.Request {
	return approval.Request{
		Schema: approval.RequestSchema, Execution: "run-1", RunARN: "arn:aws:states:eu-west-1:" + account + ":execution:ami-factory:run-1", BundleDigest: digest,
		Recipe: "debian-12-docker", Requester: "rita", WaiverAuthors: []string{"walt@example.com"}, Needed: needed, Requested: begin, Expires: begin.Add(24 * time.Hour),
	}
}

func answer(person string, d approval.Decision, change ...func(*approval.Answer)) approval.Answer {
	a := approval.Answer{
		Schema: approval.AnswerSchema, Person: person, Decision: d, Reason: "read the report", BundleDigest: digest, At: begin.Add(time.Hour),
		UserARN: "arn:aws:sts::" + account + ":assumed-role/approver/" + person, RequestID: "r-" + person,
	}
	for _, f := range change {
		f(&a)
	}
	return a
}

func TestAVerdictCountsPeopleWhoMayDecide(t *testing.T) {
	yes, no := approval.Approve, approval.Reject
	for sentence, tc := range map[string]struct {
		needed  int
		answers []approval.Answer
		now     time.Time
		want    approval.Status
		doubt   string
	}{
		"nobody has answered":                      {1, nil, begin, approval.Waiting, ""},
		"one of one":                               {1, []approval.Answer{answer("ann", yes)}, begin, approval.Approved, ""},
		"one of two":                               {2, []approval.Answer{answer("ann", yes)}, begin, approval.Waiting, ""},
		"two of two":                               {2, []approval.Answer{answer("ann", yes), answer("bob", yes)}, begin, approval.Approved, ""},
		"the same person twice":                    {2, []approval.Answer{answer("ann", yes), answer("ann", yes)}, begin, approval.Waiting, "answered before"},
		"the same person in capitals":              {2, []approval.Answer{answer("ann", yes), answer("ANN", yes)}, begin, approval.Waiting, "answered before"},
		"the requester":                            {1, []approval.Answer{answer("rita", yes)}, begin, approval.Waiting, "started the execution"},
		"the requester in capitals":                {1, []approval.Answer{answer("Rita", yes)}, begin, approval.Waiting, "started the execution"},
		"the author of a waiver":                   {1, []approval.Answer{answer("walt@example.com", yes)}, begin, approval.Waiting, "author of a waiver"},
		"one rejection ends it":                    {1, []approval.Answer{answer("ann", yes), answer("bob", no)}, begin, approval.Refused, ""},
		"a rejection by the requester counts not":  {1, []approval.Answer{answer("rita", no)}, begin, approval.Waiting, "started the execution"},
		"nobody in time":                           {1, nil, begin.Add(25 * time.Hour), approval.Expired, ""},
		"what was approved in time stays approved": {1, []approval.Answer{answer("ann", yes)}, begin.Add(48 * time.Hour), approval.Approved, ""},
		"an answer that came late":                 {1, []approval.Answer{answer("ann", yes, func(a *approval.Answer) { a.At = begin.Add(25 * time.Hour) })}, begin.Add(26 * time.Hour), approval.Expired, "expired"},
		"an answer older than the request":         {1, []approval.Answer{answer("ann", yes, func(a *approval.Answer) { a.At = begin.Add(-time.Second) })}, begin, approval.Waiting, "older than the request"},
		"an answer about another digest":           {1, []approval.Answer{answer("ann", yes, func(a *approval.Answer) { a.BundleDigest = strings.Repeat("0", 64) })}, begin, approval.Waiting, "is about"},
		"an answer that names no session":          {1, []approval.Answer{answer("ann", yes, func(a *approval.Answer) { a.UserARN = "" })}, begin, approval.Waiting, "lacks the person"},
		"an answer without a request":              {1, []approval.Answer{answer("ann", yes, func(a *approval.Answer) { a.RequestID = "" })}, begin, approval.Waiting, "lacks the person"},
		"an answer whose reason moves the cursor":  {1, []approval.Answer{answer("ann", yes, func(a *approval.Answer) { a.Reason = "fine\x1b[2Jfor me" })}, begin, approval.Waiting, "control characters"},
		"an answer without a reason":               {1, []approval.Answer{answer("ann", yes, func(a *approval.Answer) { a.Reason = " " })}, begin, approval.Waiting, "the reason has 0"},
		"an answer of another schema":              {1, []approval.Answer{answer("ann", yes, func(a *approval.Answer) { a.Schema = "x" })}, begin, approval.Waiting, "schema"},
		"a decision that is neither":               {1, []approval.Answer{answer("ann", "maybe")}, begin, approval.Waiting, "its decision"},
	} {
		t.Run(sentence, func(t *testing.T) {
			v := approval.Judge(request(tc.needed), tc.answers, tc.now)
			assert.Equal(t, tc.want, v.Status)
			if tc.doubt == "" {
				assert.Empty(t, v.Doubts)
				return
			}
			assert.Contains(t, strings.Join(v.Doubts, "\n"), tc.doubt)
		})
	}
}

func TestACallerIsAPersonIfItsSessionsNameIsNotItsOwnChoice(t *testing.T) {
	people := approval.People{Account: account, Roles: []string{"arn:aws:iam::444455556666:role/people/approver"}}
	for sentence, tc := range map[string]struct{ arn, want, wrong string }{
		"of IAM Identity Center":                 {"arn:aws:sts::" + account + ":assumed-role/AWSReservedSSO_Security_0123456789abcdef/Ann@Example.com", "ann@example.com", ""},
		"of a role that the deployment names":    {"arn:aws:sts::444455556666:assumed-role/approver/ann", "ann", ""},
		"of that role's name in another account": {"arn:aws:sts::" + account + ":assumed-role/approver/ann", "", "chooses the name of the session"},
		"of Identity Center in another account":  {"arn:aws:sts::444455556666:assumed-role/AWSReservedSSO_Security_0123456789abcdef/ann", "", "chooses the name"},
		"of a role that looks like it":           {"arn:aws:sts::" + account + ":assumed-role/AWSReservedSSO_Security/ann", "", "chooses the name"},
		"of any role":                            {"arn:aws:sts::" + account + ":assumed-role/admin/ann", "", "chooses the name"},
		"a user":                                 {"arn:aws:iam::" + account + ":user/ann", "", "not a session of a role"},
		"the root":                               {"arn:aws:iam::" + account + ":root", "", "not a session of a role"},
		"nobody":                                 {"", "", "not a session of a role"},
	} {
		t.Run(sentence, func(t *testing.T) {
			got, err := people.Person(tc.arn)
			assert.Equal(t, tc.want, got)
			if tc.wrong != "" {
				assert.ErrorContains(t, err, tc.wrong)
			} else {
				require.NoError(t, err)
			}
		})
	}
	_, err := approval.ParseRoles([]string{"arn:aws:iam::444455556666:role/a", "approver"})
	assert.ErrorContains(t, err, `"approver" is not the ARN of a role`)
}
