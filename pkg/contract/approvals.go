package contract

import (
	"path"
	"strings"
)

const answersFolder = "/answers/"

// ApprovalRequestKey is where the request to approve a bundle is kept. It holds the task
// token: only the roles of Sign, RequestApproval, Share, Publish and Approve may read it.
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
	// What may write requests, approvals/*/request.json, may also write that name below
	// answers/: in a policy an asterisk matches slashes.
	if !ok || name == "request" || !strings.HasPrefix(key, ApprovalsPrefix) || !strings.HasSuffix(path.Dir(key)+"/", answersFolder) {
		return ""
	}
	return name
}

// ApprovingKey is the mark of an execution that has asked people to approve its release.
func ApprovingKey(execution string) string { return ApprovingPrefix + execution }

// RequesterKey is where it is kept who started an execution by hand.
func RequesterKey(execution string) string { return RequestersPrefix + execution + ".json" }
