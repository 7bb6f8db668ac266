package wire

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/sigv4"
)

// Key describes an access key.
type Key struct {
	Secret  string
	Token   string // of a session; empty for a key that must be used without one
	Account string // twelve digits
	ARN     string // of the principal
	Expired bool
}

// Authenticator verifies the signature of a request and thereby who sent it.
type Authenticator struct {
	// Keys finds an access key. If it is nil, every request is refused.
	Keys func(accessKeyID string) (Key, bool)
	// Now returns the time with which the times of signatures are compared. The default
	// is the clock of this machine, which signers use.
	Now func() time.Time
}

const (
	maxSigned = 72 << 20 // the largest body, in bytes, of a REST service other than S3: that of Lambda
	inMemory  = 1 << 20  // bytes of a body that are kept in memory; the rest is in a file
	noDigest  = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	isS3      = "s3"
)

// authenticated is a request whose signature was verified.
type authenticated struct {
	request *http.Request // its body has been compared with the signed digest
	caller  Caller
	clean   func() // must be called after the request is served
}

// Authenticate verifies the signature of a request and that its body is the one that
// was signed, before anything else is read from it. Its errors have the codes that the
// service named in the signature uses on AWS. limit is the largest body, in bytes; S3 has
// no limit. The caller must call done after the returned request is served.
func (a Authenticator) Authenticate(r *http.Request, service Service, limit int64) (verified *http.Request, caller Caller, done func(), err error) {
	signature, err := sigv4.Parse(r)
	if err != nil {
		return nil, Caller{}, nil, refusal(service, err)
	}
	out, err := a.authenticate(r, signature, service, limit)
	if err != nil {
		return nil, Caller{}, nil, refusal(service, err)
	}
	return out.request, out.caller, out.clean, nil
}

func (a Authenticator) authenticate(r *http.Request, signature sigv4.Signature, service Service, limit int64) (authenticated, error) {
	if signature.Presigned && (service.Presigned == nil || !service.Presigned(r)) {
		return authenticated{}, &sigv4.Error{Problem: sigv4.Missing, Message: "Request is missing Authentication Token: a signature in the address is accepted for objects of S3 only, others belong into the Authorization header"}
	}
	if signature.Service != service.ID {
		return authenticated{}, wrongService(service.ID)
	}
	key, known := Key{}, false
	if a.Keys != nil {
		key, known = a.Keys(signature.AccessKeyID)
	}
	switch {
	case !known:
		return authenticated{}, unknownKey(service)
	case subtle.ConstantTimeCompare([]byte(key.Token), []byte(signature.Token)) != 1:
		return authenticated{}, invalidToken(service)
	case key.Expired:
		return authenticated{}, expiredToken(service)
	}
	now := time.Now
	if a.Now != nil {
		now = a.Now
	}
	v := verification{signature: signature, secret: key.Secret, now: now(), s3: service.ID == isS3, limit: limit}
	request, clean, err := v.run(r)
	if err != nil {
		return authenticated{}, err
	}
	caller := Caller{Account: key.Account, Region: signature.Region, AccessKeyID: signature.AccessKeyID, ARN: key.ARN}
	return authenticated{request: request, caller: caller, clean: clean}, nil
}

// verification is the verification of one request.
type verification struct {
	signature sigv4.Signature
	secret    string
	now       time.Time
	s3        bool
	limit     int64
}

func (v verification) run(r *http.Request) (*http.Request, func(), error) {
	payload, err := v.signature.Payload(r)
	if err != nil {
		return nil, nil, err
	}
	switch {
	case payload == "" && v.s3:
		return nil, nil, &sigv4.Error{Problem: sigv4.NoPayload, Message: "Missing required header for this request: x-amz-content-sha256"}
	case payload == "":
		return v.computed(r)
	case sigv4.IsStreaming(payload):
		return v.streaming(r, payload)
	case payload == sigv4.UnsignedPayload && v.s3:
		return r, func() {}, v.signature.Verify(r, payload, v.secret, v.now)
	}
	return v.declared(r, payload)
}

// computed verifies a request that does not declare the digest of its body.
func (v verification) computed(r *http.Request) (*http.Request, func(), error) {
	body, digest, err := spool(r, v.limit)
	if err != nil {
		return nil, nil, err
	}
	if err := v.signature.Verify(r, digest, v.secret, v.now); err != nil {
		body.clean()
		return nil, nil, err
	}
	return body.in(r), body.clean, nil
}

// declared verifies a request that declares the digest of its body. It verifies the
// signature first, so that it reads only bodies of known callers.
func (v verification) declared(r *http.Request, payload string) (*http.Request, func(), error) {
	if err := v.signature.Verify(r, payload, v.secret, v.now); err != nil {
		return nil, nil, err
	}
	limit := v.limit
	if v.s3 {
		limit = 0
	}
	body, digest, err := spool(r, limit)
	if err != nil {
		return nil, nil, err
	}
	if digest != payload {
		body.clean()
		return nil, nil, &sigv4.Error{Problem: sigv4.BadPayload, Message: "The provided 'x-amz-content-sha256' header does not match what was computed."}
	}
	return body.in(r), body.clean, nil
}

// streaming verifies a request whose body S3 verifies chunk by chunk.
func (v verification) streaming(r *http.Request, payload string) (*http.Request, func(), error) {
	if !v.s3 || r.Method != http.MethodPut {
		return nil, nil, &sigv4.Error{Problem: sigv4.BadPayload, Message: fmt.Sprintf("The value of x-amz-content-sha256 is invalid: %s is for uploads to S3 only.", payload)}
	}
	if err := v.signature.Verify(r, payload, v.secret, v.now); err != nil {
		return nil, nil, err
	}
	chunks, err := v.signature.Chunks(payload, v.secret)
	if err != nil {
		return nil, nil, err
	}
	return r.WithContext(sigv4.WithChunks(r.Context(), chunks)), func() {}, nil
}

func wrongService(right string) error {
	return &sigv4.Error{Problem: sigv4.Mismatch, Message: fmt.Sprintf("Credential should be scoped to correct service: '%s'.", right)}
}

// spooled is a body that was read to its end.
type spooled struct {
	reader io.Reader
	file   *os.File // nil if the whole body is in memory
}

func (s spooled) in(r *http.Request) *http.Request {
	out := r.WithContext(r.Context())
	out.Body = io.NopCloser(s.reader)
	return out
}

func (s spooled) clean() {
	if s.file != nil {
		_ = s.file.Close()
		_ = os.Remove(s.file.Name())
	}
}

// spool reads the body and returns its SHA-256 in hexadecimal. A limit of 0 means no
// limit.
func spool(r *http.Request, limit int64) (out spooled, digest string, err error) {
	if r.Body == nil || r.Body == http.NoBody {
		return spooled{reader: http.NoBody}, noDigest, nil
	}
	var body io.Reader = r.Body
	if limit > 0 {
		body = http.MaxBytesReader(nil, r.Body, limit)
	}
	sum := sha256.New()
	body = io.TeeReader(body, sum)
	var head bytes.Buffer
	if _, err = io.CopyN(&head, body, inMemory); err == nil {
		out, err = spoolFile(&head, body)
	} else {
		out.reader = &head
	}
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		out.clean()
		return spooled{}, "", Errorf("RequestEntityTooLarge", "the request body is larger than %d bytes", tooLarge.Limit)
	case err != nil && !errors.Is(err, io.EOF):
		out.clean()
		return spooled{}, "", Errorf("IncompleteBody", "the request body cannot be read: %v", err)
	}
	return out, hex.EncodeToString(sum.Sum(nil)), nil
}

func spoolFile(head *bytes.Buffer, rest io.Reader) (spooled, error) {
	file, err := os.CreateTemp("", "localcloud-body-*")
	if err != nil {
		return spooled{}, err
	}
	out := spooled{reader: file, file: file}
	if _, err = io.Copy(file, io.MultiReader(head, rest)); err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	return out, err
}

// unknownKey, invalidToken and expiredToken return the error of a service in its words.
func unknownKey(s Service) error {
	if s.ID == isS3 {
		return Errorf("InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records.")
	}
	return invalidToken(s)
}

func invalidToken(s Service) error {
	const message = "The security token included in the request is invalid."
	switch {
	case s.ID == isS3:
		return Errorf("InvalidToken", "The provided token is malformed or otherwise invalid.")
	case s.Protocol == EC2Query:
		return Errorf("AuthFailure", "AWS was not able to validate the provided access credentials")
	case s.Protocol == AWSQuery:
		return Errorf("InvalidClientTokenId", "%s", message)
	}
	return Errorf("UnrecognizedClientException", "%s", message)
}

func expiredToken(s Service) error {
	switch {
	case s.ID == isS3:
		return Errorf("ExpiredToken", "The provided token has expired.")
	case s.Protocol == EC2Query:
		return Errorf("RequestExpired", "Request has expired.")
	case s.Protocol == AWSQuery:
		return Errorf("ExpiredToken", "The security token included in the request is expired")
	}
	return Errorf("ExpiredTokenException", "The security token included in the request is expired")
}

// refusal returns a service's error for a refused signature. Sources: IAM User Guide,
// "Troubleshoot Signature Version 4 signing for AWS API requests"; EC2 API
// Reference, "Error codes"; S3 API Reference, "Error responses".
func refusal(s Service, err error) error {
	var refused *sigv4.Error
	if !errors.As(err, &refused) {
		return err
	}
	code, message := "", refused.Message
	switch {
	case s.ID == isS3:
		code, message = refusalOfS3(refused)
	case s.Protocol == EC2Query:
		code, message = refusalOfEC2(refused)
	case s.Protocol == AWSQuery:
		code = byProblem(refused.Problem, "MissingAuthenticationToken", "IncompleteSignature", "SignatureDoesNotMatch")
	default:
		code = byProblem(refused.Problem, "MissingAuthenticationTokenException", "IncompleteSignatureException", "InvalidSignatureException")
	}
	return Errorf(code, "%s", message)
}

func byProblem(p sigv4.Problem, missing, incomplete, wrong string) string {
	switch p {
	case sigv4.Missing:
		return missing
	case sigv4.Incomplete, sigv4.IncompleteAddress, sigv4.Unsupported:
		return incomplete
	}
	return wrong
}

func refusalOfS3(e *sigv4.Error) (code, message string) {
	switch e.Problem {
	case sigv4.Missing, sigv4.Expired, sigv4.NotYetValid:
		return "AccessDenied", e.Message
	case sigv4.Unsupported: // as S3 answers for all buckets made since June 24, 2020
		return "InvalidRequest", e.Message + " For addresses by `aws s3 presign` of version 1 of the AWS CLI, run `aws configure set default.s3.signature_version s3v4` first."
	case sigv4.Unsigned:
		return "AccessDenied", "There were headers present in the request which were not signed: " + e.Message
	case sigv4.Incomplete:
		return "AuthorizationHeaderMalformed", e.Message
	case sigv4.IncompleteAddress:
		return "AuthorizationQueryParametersError", e.Message
	case sigv4.Skewed:
		return "RequestTimeTooSkewed", "The difference between the request time and the current time is too large. " + e.Message
	case sigv4.NoPayload:
		return "InvalidRequest", e.Message
	case sigv4.BadPayload:
		return "XAmzContentSHA256Mismatch", e.Message
	}
	return "SignatureDoesNotMatch", e.Message
}

func refusalOfEC2(e *sigv4.Error) (code, message string) {
	switch e.Problem {
	case sigv4.Missing:
		return "MissingAuthenticationToken", e.Message
	case sigv4.Incomplete, sigv4.IncompleteAddress, sigv4.Unsupported:
		return "IncompleteSignature", e.Message
	case sigv4.Skewed, sigv4.Expired, sigv4.NotYetValid:
		return "RequestExpired", "Request has expired. " + e.Message
	}
	return "AuthFailure", "AWS was not able to validate the provided access credentials: " + e.Message
}
