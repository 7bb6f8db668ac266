package contract

import (
	"path"
	"strings"
)

// The prefixes of what is kept of approvals. Only the functions of approvals may write
// there.
const (
	ApprovalsPrefix  = "approvals/"  // requests and answers, by the digest of what is approved
	RequestersPrefix = "requesters/" // who started executions by hand
)

const answersFolder = "/answers/"

// ApprovalRequestKey is where the request to approve a bundle is kept: with its task
// token, so that nobody but the functions of approvals may read it.
func ApprovalRequestKey(digest string) string { return ApprovalsPrefix + digest + "/request.json" }

// ApprovalAnswerKey is where the answer of a person is kept.
func ApprovalAnswerKey(digest, person string) string {
	return ApprovalAnswersOf(digest) + person + ".json"
}

// ApprovalAnswersOf begins the keys of all answers about a bundle.
func ApprovalAnswersOf(digest string) string { return ApprovalsPrefix + digest + answersFolder }

// ApprovalPersonIn is the person in the key of an answer; empty for other keys.
func ApprovalPersonIn(key string) string {
	name, ok := strings.CutSuffix(path.Base(key), ".json")
	if !ok || !strings.HasPrefix(key, ApprovalsPrefix) || !strings.HasSuffix(path.Dir(key)+"/", answersFolder) {
		return ""
	}
	return name
}

// RequesterKey is where it is kept who started an execution by hand.
func RequesterKey(execution string) string { return RequestersPrefix + execution + ".json" }
