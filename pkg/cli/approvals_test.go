package cli

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/approval"
)

// doorOf serves one request that waits, and notes what is sent.
func doorOf(t *testing.T, sent *[]string) string {
	t.Helper()
	s := approval.Standing{Status: approval.Waiting, Request: approval.Request{
		Execution: "run-1", Recipe: "debian-12-docker", Requester: "rita", BundleDigest: strings.Repeat("ab", 32), Needed: 2,
		Expires: time.Date(2026, 12, 1, 3, 0, 0, 0, time.UTC),
		Subject: &approval.Subject{
			Verdict: "passed", Gate: "medium", Passed: 61, Failed: 1, Waived: 2, Packages: 312, Open: []approval.Count{{Severity: "high", Count: 3}}, WaivedVulnerabilities: 1,
			Waivers: []string{"SSH-03 until 2027-01-31"}, Images: []approval.Image{{Region: "eu-west-1", ImageID: "ami-1"}}, Changes: []string{"Users: 1 added \x1b[31m(mallory)"},
		},
	}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		*sent = append(*sent, r.Method+" "+r.URL.Path+" "+string(body))
		assert.Contains(t, r.Header.Get("Authorization"), "/eu-west-1/lambda/aws4_request")
		switch {
		case r.URL.Path == approval.ListPath:
			assert.NoError(t, json.NewEncoder(w).Encode([]approval.Standing{s}))
		case strings.Contains(string(body), "reject"):
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `{"error":"rita started the execution run-1 and may not decide about it"}`)
		default:
			s.Status, s.Approvals = approval.Approved, []approval.Answer{{Person: "anna"}, {Person: "bert"}}
			assert.NoError(t, json.NewEncoder(w).Encode(s))
		}
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func TestPeopleAnswerFromTheCommandLine(t *testing.T) {
	withoutAWS(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	t.Setenv("AWS_REGION", "eu-west-1")
	var sent []string
	url := doorOf(t, &sent)
	digest, other := strings.Repeat("ab", 32), strings.Repeat("cd", 32)
	for sentence, tc := range map[string]struct {
		args []string
		code int
		says string
		sent int
	}{
		"what waits is listed":                  {[]string{"approvals", "--url", url}, exitOK, "run-1", 1},
		"an approval shows what it is about":    {[]string{"approve", "run-1", "--digest", digest, "--reason", "read it all", "--url", url}, exitOK, "of debian-12-docker by run-1", 2},
		"an approval shows the verdict":         {[]string{"approve", "run-1", "--digest", digest, "--reason", "read it all", "--url", url, "--yes"}, exitOK, "passed: 61 controls passed, 1 failed below the gate (medium), 2 waived", 2},
		"a rejection shows the waivers":         {[]string{"reject", "run-1", "--digest", digest, "--reason", "read it all", "--url", url}, exitFailed, "SSH-03 until 2027-01-31", 2},
		"what waits is shown":                   {[]string{"approvals", "show", "run-1", "--url", url}, exitOK, "vulnerable    3 high; 1 waived, in 312 packages\n", 1},
		"no escape sequence reaches a terminal": {[]string{"approvals", "show", "run-1", "--url", url}, exitOK, "changes       Users: 1 added ", 1},
		"images are shown":                      {[]string{"approvals", "show", "run-1", "--url", url}, exitOK, "images        eu-west-1 ami-1\n", 1},
		"programs see what waits":               {[]string{"approvals", "show", "run-1", "--url", url, "--output", "json"}, exitOK, `"waivedVulnerabilities": 1`, 1},
		"what does not wait is not shown":       {[]string{"approvals", "show", "run-2", "--url", url}, exitFailed, "does not wait", 1},
		"a refusal is an error":                 {[]string{"reject", "run-1", "--digest", digest, "--reason", "read it all", "--url", url}, exitFailed, "rita started the execution", 2},
		"another digest is not answered":        {[]string{"approve", "run-1", "--digest", other, "--reason", "read it all", "--url", url}, exitFailed, "waits with the evidence " + digest, 1},
		"what does not wait is not answered":    {[]string{"approve", "run-2", "--digest", digest, "--reason", "read it all", "--url", url}, exitFailed, "does not wait", 1},
		"a digest is needed":                    {[]string{"approve", "run-1", "--reason", "read it all", "--url", url}, exitUsage, "--digest", 0},
		"a reason is needed":                    {[]string{"approve", "run-1", "--digest", digest, "--url", url}, exitUsage, "--reason", 0},
		"the address is needed":                 {[]string{"approvals"}, exitUsage, "AMI_FACTORY_APPROVAL_URL", 0},
		"the address must use TLS":              {[]string{"approvals", "--url", "http://example.org/"}, exitUsage, "not a function URL", 0},
		"a role is of no use without a session": {[]string{"approvals", "--url", url, "--role", "arn:aws:iam::111122223333:role/a"}, exitUsage, "--as", 0},
	} {
		t.Run(sentence, func(t *testing.T) {
			sent = nil
			r := callAsIs(t.Context(), t, nil, tc.args...)
			assert.Equal(t, tc.code, r.code, r.err)
			assert.Contains(t, r.out+r.err, tc.says)
			assert.NotContains(t, r.out+r.err, "\x1b")
			require.Len(t, sent, tc.sent)
		})
	}
}
