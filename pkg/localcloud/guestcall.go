package localcloud

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/smithy-go"

	"github.com/ami-factory/ami-factory/pkg/localcloud/authz"
	"github.com/ami-factory/ami-factory/pkg/localcloud/ec2"
	"github.com/ami-factory/ami-factory/pkg/localcloud/sts"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/partition"
)

// maxGuestCall is the largest body of a guest's call, in bytes.
const maxGuestCall = 64 << 10

// guestCall is an operation that guests may call.
type guestCall struct {
	service, operation string
	// read takes the request apart into what is asked for and a body that asks
	// for just that, so that what is decided on is what is done.
	read func(c *Cloud, who ec2.Occupant, body []byte) (asked []resource, clean any, err error)
}

// resource is a secret or parameter that a guest asks for.
type resource struct {
	arn string // to speak of it with
	own bool   // of the guest's account and region
}

// guestOperations by X-Amz-Target.
func guestOperations() map[string]guestCall {
	return map[string]guestCall{
		"secretsmanager.GetSecretValue": {"secretsmanager", "GetSecretValue", readSecret},
		"AmazonSSM.GetParameter":        {"ssm", "GetParameter", readParameter},
		"AmazonSSM.GetParameters":       {"ssm", "GetParameters", readParameters},
	}
}

func guestOperationNames() []string {
	var names []string
	for _, op := range guestOperations() {
		names = append(names, op.service+":"+op.operation)
	}
	slices.Sort(names)
	return names
}

// guestOperation is the operation that a request is for, if it has the form of
// one that guests may call: what is there twice could be read in two ways.
func guestOperation(r *http.Request) (guestCall, bool) {
	targets := r.Header.Values("X-Amz-Target")
	if r.Method != http.MethodPost || r.URL.Path != "/" || r.URL.RawQuery != "" || len(targets) != 1 {
		return guestCall{}, false
	}
	op, ok := guestOperations()[targets[0]]
	return op, ok && r.Header.Get("Authorization") != ""
}

// serveGuestCall answers a call if its signature and the policies of its role
// allow it.
func (c *Cloud) serveGuestCall(w http.ResponseWriter, r *http.Request, op guestCall) {
	session, who, body, err := c.authenticate(r, op)
	if err != nil {
		failGuestCall(w, err)
		return
	}
	asked, clean, err := op.read(c, who, body)
	if err == nil {
		err = c.authorize(session, op, asked)
	}
	if err != nil {
		failGuestCall(w, err)
		return
	}
	raw, err := json.Marshal(clean)
	if err != nil {
		failGuestCall(w, err)
		return
	}
	request, err := guestRequest(authz.WithGrant(r.Context()), session, who, op, raw)
	if err != nil {
		failGuestCall(w, err)
		return
	}
	c.handler.ServeHTTP(w, request)
}

// guestRequest is a request of our own, signed with the guest's keys: nothing of
// what the guest sent but its decoded input reaches the services.
func guestRequest(ctx context.Context, session sts.Session, who ec2.Occupant, op guestCall, body []byte) (*http.Request, error) {
	r, _ := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+wire.Host+"/", bytes.NewReader(body)) // a sound URL
	r.RequestURI = "/"
	target := "secretsmanager."
	if op.service == "ssm" {
		target = "AmazonSSM."
	}
	r.Header.Set("X-Amz-Target", target+op.operation)
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	sum := sha256.Sum256(body)
	k := aws.Credentials{AccessKeyID: session.AccessKeyID, SecretAccessKey: session.SecretAccessKey, SessionToken: session.SessionToken}
	return r, v4.NewSigner().SignHTTP(ctx, k, r, hex.EncodeToString(sum[:]), op.service, who.Region, time.Now())
}

// authenticate verifies the signature, that the credentials are those which the
// metadata service gives to the calling instance, and that they are still good.
func (c *Cloud) authenticate(r *http.Request, op guestCall) (sts.Session, ec2.Occupant, []byte, error) {
	fail := func(code, format string, values ...any) (sts.Session, ec2.Occupant, []byte, error) {
		return sts.Session{}, ec2.Occupant{}, nil, wire.Errorf(code, format, values...)
	}
	verified, caller, done, err := wire.Authenticator{Keys: c.instanceKey}.Authenticate(r, wire.Service{ID: op.service, Protocol: wire.AWSJSON}, maxGuestCall)
	if err != nil {
		return sts.Session{}, ec2.Occupant{}, nil, err
	}
	defer done()
	body, err := io.ReadAll(verified.Body)
	if err != nil {
		return fail("SerializationException", "the request body cannot be read: %v", err)
	}
	session, _ := c.STS.Session(caller.AccessKeyID)
	who, ok := c.EC2.InstanceAt(addressOf(r))
	if !ok || who.InstanceID != session.SessionName || who.Account != session.Account || session.RoleARN != c.IAM.RoleARN(who.Account, who.Role) {
		return fail("AccessDeniedException", "User: %s is not authorized to perform: %s:%s: the credentials are of another instance than the one that calls from %s",
			session.ARN(), op.service, op.operation, addressOf(r))
	}
	if caller.Region != who.Region {
		return fail("AccessDeniedException", "User: %s is not authorized to perform: %s:%s in region %s: a guest reads in its own, %s",
			session.ARN(), op.service, op.operation, caller.Region, who.Region)
	}
	return session, who, body, nil
}

// instanceKey knows the keys that the metadata service gives to instances, and no
// others.
func (c *Cloud) instanceKey(accessKeyID string) (wire.Key, bool) {
	if session, ok := c.STS.Session(accessKeyID); !ok || !authz.IsEC2(session.SourceARN) {
		return wire.Key{}, false
	}
	return c.STS.Key(accessKeyID)
}

// addressOf is the caller's address in the guests' network, which lets no frame
// pass with a foreign one.
func addressOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// authorize refuses the whole call when one thing that is asked for is not
// allowed, whether it exists or not.
func (c *Cloud) authorize(session sts.Session, op guestCall, asked []resource) error {
	for _, a := range asked {
		if err := c.permitGuest(session, op, a); err != nil {
			return err
		}
	}
	return nil
}

// permitGuest holds a guest to the policies of its role.
func (c *Cloud) permitGuest(session sts.Session, op guestCall, asked resource) error {
	verdict := authz.NotAllowed // nothing of another account or region is served to guests
	request := authz.Request{Action: op.service + ":" + op.operation, Resource: asked.arn}
	if asked.own {
		region := strings.Split(asked.arn, ":")[3]
		p := authz.Principal{Account: session.Account, ARN: session.ARN(), RoleARN: session.RoleARN}
		verdict = c.authz.Decide(wire.Caller{Account: session.Account, Region: region}, p, request)
	}
	if verdict == authz.Allowed {
		return nil
	}
	return wire.Errorf("AccessDeniedException", "User: %s is not authorized to perform: %s on resource: %s %s",
		session.ARN(), request.Action, request.Resource, verdict.Because(request.Action))
}

// failGuestCall answers an error as awsJson does.
func failGuestCall(w http.ResponseWriter, err error) {
	code, message, status := "InternalFailure", err.Error(), http.StatusInternalServerError
	var api smithy.APIError
	if errors.As(err, &api) {
		code, message, status = api.ErrorCode(), api.ErrorMessage(), http.StatusBadRequest
	}
	raw, _ := json.Marshal(map[string]string{"__type": code, "message": message}) // strings marshal
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.Header().Set("X-Amzn-Errortype", code)
	w.WriteHeader(status)
	_, _ = w.Write(raw) // the guest may have gone
}

// decodeGuestCall reads a body that is one JSON object.
func decodeGuestCall(body []byte, into any) error {
	if err := json.Unmarshal(body, into); err != nil {
		return wire.Errorf("SerializationException", "the request body is not what the operation takes: %v", err)
	}
	return nil
}

func readSecret(c *Cloud, who ec2.Occupant, body []byte) ([]resource, any, error) {
	var in struct {
		SecretID     string `json:"SecretId"`
		VersionID    string `json:"VersionId,omitempty"`
		VersionStage string `json:",omitempty"`
	}
	if err := decodeGuestCall(body, &in); err != nil {
		return nil, nil, err
	}
	_, arn, own := c.Secrets.Name(who.Account, who.Region, in.SecretID)
	return []resource{{arn: arn, own: own}}, in, nil
}

func readParameter(_ *Cloud, who ec2.Occupant, body []byte) ([]resource, any, error) {
	var in struct {
		Name           string
		WithDecryption bool
	}
	if err := decodeGuestCall(body, &in); err != nil {
		return nil, nil, err
	}
	asked := parameterOf(who, &in.Name)
	return []resource{asked}, in, nil
}

func readParameters(_ *Cloud, who ec2.Occupant, body []byte) ([]resource, any, error) {
	var in struct {
		Names          []string
		WithDecryption bool
	}
	if err := decodeGuestCall(body, &in); err != nil {
		return nil, nil, err
	}
	var asked []resource
	for i := range in.Names {
		asked = append(asked, parameterOf(who, &in.Names[i]))
	}
	return asked, in, nil
}

// parameterOf is the parameter that a reference means. An ARN of the guest's
// own account and region becomes the name that it stands for.
func parameterOf(who ec2.Occupant, ref *string) resource {
	own := partition.ARN("ssm", who.Region, who.Account, "parameter/")
	if rest, ok := strings.CutPrefix(*ref, own); ok {
		*ref = "/" + rest
	}
	name, _, _ := strings.Cut(*ref, ":")
	if strings.HasPrefix(*ref, "arn:") {
		return resource{arn: *ref}
	}
	return resource{arn: own + strings.TrimPrefix(name, "/"), own: true}
}
