package localcloud

import (
	"bytes"
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/aws/smithy-go"

	"github.com/ami-factory/ami-factory/pkg/localcloud/ec2"
	"github.com/ami-factory/ami-factory/pkg/localcloud/iam"
	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/sigv4"
	"github.com/ami-factory/ami-factory/pkg/localcloud/sts"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// maxGuestCall is the largest body of a guest's call, in bytes.
const maxGuestCall = 64 << 10

// ec2Principal is who assumes a role for an instance. Nobody can call under
// that name, so a session with this source came from the instance metadata.
const ec2Principal = "ec2.amazonaws.com"

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
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxGuestCall))
	if err != nil {
		failGuestCall(w, wire.Errorf("SerializationException", "the request body cannot be read: %v", err))
		return
	}
	session, who, err := c.authenticate(r, op, body)
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
	c.handler.ServeHTTP(w, guestRequest(context.WithValue(r.Context(), grantedKey{}, true), session, who, op, raw))
}

// guestRequest is made anew: nothing of what the guest sent but its decoded
// input reaches the services.
func guestRequest(ctx context.Context, session sts.Session, who ec2.Occupant, op guestCall, body []byte) *http.Request {
	r, _ := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+wire.Host+"/", bytes.NewReader(body)) // a sound URL
	r.RequestURI = "/"
	target := "secretsmanager."
	if op.service == "ssm" {
		target = "AmazonSSM."
	}
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+session.AccessKeyID+"/20260101/"+who.Region+"/"+op.service+"/aws4_request")
	r.Header.Set("X-Amz-Target", target+op.operation)
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	return r
}

// authenticate verifies the signature, that the credentials are those which the
// metadata service gives to the calling instance, and that they are still good.
func (c *Cloud) authenticate(r *http.Request, op guestCall, body []byte) (sts.Session, ec2.Occupant, error) {
	fail := func(code, format string, values ...any) (sts.Session, ec2.Occupant, error) {
		return sts.Session{}, ec2.Occupant{}, wire.Errorf(code, format, values...)
	}
	signature, err := sigv4.Parse(r)
	if err != nil {
		return sts.Session{}, ec2.Occupant{}, err
	}
	if signature.Service != op.service {
		return fail("InvalidSignatureException", "Credential should be scoped to correct service: '%s'.", op.service)
	}
	session, ok := c.STS.Session(signature.AccessKeyID)
	token := r.Header.Values("X-Amz-Security-Token")
	if !ok || session.SourceARN != ec2Principal || len(token) != 1 || subtle.ConstantTimeCompare([]byte(token[0]), []byte(session.SessionToken)) != 1 {
		return fail("UnrecognizedClientException", "The security token included in the request is invalid.")
	}
	if !c.cfg.Clock.Now().Before(session.Expires) {
		return fail("ExpiredTokenException", "The security token included in the request is expired")
	}
	for name := range r.Header {
		if name = strings.ToLower(name); strings.HasPrefix(name, "x-amz-") && !signature.Covers(name) {
			return fail("InvalidSignatureException", "'%s' must be a 'SignedHeader' in the AWS Authorization.", name)
		}
	}
	// The guest knows this machine's time and no other.
	if err := signature.Verify(r, body, session.SecretAccessKey, time.Now()); err != nil {
		return sts.Session{}, ec2.Occupant{}, err
	}
	who, ok := c.EC2.InstanceAt(addressOf(r))
	if !ok || who.InstanceID != session.SessionName || who.Account != session.Account || session.RoleARN != c.IAM.RoleARN(who.Account, who.Role) {
		return fail("AccessDeniedException", "User: %s is not authorized to perform: %s:%s: the credentials are of another instance than the one that calls from %s",
			session.ARN(), op.service, op.operation, addressOf(r))
	}
	if signature.Region != who.Region {
		return fail("AccessDeniedException", "User: %s is not authorized to perform: %s:%s in region %s: a guest reads in its own, %s",
			session.ARN(), op.service, op.operation, signature.Region, who.Region)
	}
	return session, who, nil
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
	verdict := iam.NotAllowed // nothing of another account or region is served to guests
	request := iam.Request{Action: op.service + ":" + op.operation, Resource: asked.arn}
	if asked.own {
		region := strings.Split(asked.arn, ":")[3]
		p := iam.Principal{Account: session.Account, ARN: session.ARN(), RoleARN: session.RoleARN}
		verdict = c.decide(wire.Caller{Account: session.Account, Region: region}, p, request, c.policyOn(p, asked.arn))
	}
	if verdict == iam.Allowed {
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
	const prefix = "arn:aws:ssm:"
	own := prefix + who.Region + ":" + who.Account + ":parameter/"
	if rest, ok := strings.CutPrefix(*ref, own); ok {
		*ref = "/" + rest
	}
	name, _, _ := strings.Cut(*ref, ":")
	if strings.HasPrefix(*ref, "arn:") {
		return resource{arn: *ref}
	}
	return resource{arn: own + strings.TrimPrefix(name, "/"), own: true}
}
