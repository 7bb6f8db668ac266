package contract

import (
	"strings"
	"time"
)

// WaitsPrefix begins the keys of all that lets events wake executions.
const WaitsPrefix = "waits/"

// What an execution can wait for is a resource, whose name begins with its kind.
const (
	InstanceResource  = "instance/"  // and the instance's id: its state, or a command in it, has changed
	ImageResource     = "image/"     // and the region, a slash and the image's id: it is available, or has failed
	ExecutionResource = "execution/" // and the execution's name: a guest of it has uploaded its verdict
)

// The sources and detail types of the events that end a wait. Only AWS can send
// events of a source that begins with aws.
const (
	EC2Source          = "aws.ec2"
	InstanceStateEvent = "EC2 Instance State-change Notification"
	ImageStateEvent    = "EC2 AMI State Change"

	SSMSource    = "aws.ssm"
	CommandEvent = "EC2 Command Invocation Status-change Notification"

	S3Source           = "aws.s3"
	ObjectCreatedEvent = "Object Created"
)

// markTime is how a mark's key has the time of its event.
const markTime = "20060102T150405Z"

// WaitToken is where the token of one wait is kept: who waits for which resource, in
// which state, and an id that no other wait has.
type WaitToken struct {
	Execution string // name
	State     string // the step
	ID        string
	Resource  string
}

// Key is that of the token itself, which is found by the resource.
func (w WaitToken) Key() string {
	return WaitTokensOf(w.Resource) + w.Execution + "/" + w.State + "/" + w.ID
}

// IndexKey is that of an empty object, by which the token is found by its execution.
func (w WaitToken) IndexKey() string {
	return WaitsOf(w.Execution) + w.State + "/" + w.ID + "/" + w.Resource
}

// WaitTokensOf begins the keys of the tokens of those that wait for a resource.
func WaitTokensOf(resource string) string { return WaitTokensPrefix + resource + "/" }

// WaitsOf begins the keys of the index of an execution.
func WaitsOf(execution string) string { return WaitIndexPrefix + execution + "/" }

// WaitTokenAt is the token that a key of a token names.
func WaitTokenAt(key, resource string) (WaitToken, bool) {
	rest, ok := strings.CutPrefix(key, WaitTokensOf(resource))
	parts := strings.Split(rest, "/")
	if !ok || len(parts) != 3 {
		return WaitToken{}, false
	}
	return WaitToken{Execution: parts[0], State: parts[1], ID: parts[2], Resource: resource}, true
}

// WaitTokenIn is the token that a key of the index names.
func WaitTokenIn(key string) (WaitToken, bool) {
	rest, ok := strings.CutPrefix(key, WaitIndexPrefix)
	parts := strings.SplitN(rest, "/", 4)
	if !ok || len(parts) != 4 {
		return WaitToken{}, false
	}
	return WaitToken{Execution: parts[0], State: parts[1], ID: parts[2], Resource: parts[3]}, true
}

// WaitMarksOf begins the keys of the marks of a resource: one for each event.
func WaitMarksOf(resource string) string { return WaitMarksPrefix + resource + "/" }

// WaitMarkKey is that of the mark of an event.
func WaitMarkKey(resource string, at time.Time, event string) string {
	return WaitMarksOf(resource) + at.UTC().Format(markTime) + "-" + event
}

// WaitMarkAt is the time and the id of the event that a mark's key names.
func WaitMarkAt(key, resource string) (at time.Time, event string, ok bool) {
	rest, ok := strings.CutPrefix(key, WaitMarksOf(resource))
	if !ok {
		return time.Time{}, "", false
	}
	stamp, event, ok := strings.Cut(rest, "-")
	at, err := time.Parse(markTime, stamp)
	return at, event, ok && err == nil
}
