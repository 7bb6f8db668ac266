package lambda

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/google/uuid"
)

// URLCaller is who called a function URL with the AuthType AWS_IAM, as the function
// sees it.
type URLCaller struct {
	AccessKey      string  `json:"accessKey"`
	AccountID      string  `json:"accountId"`
	CallerID       string  `json:"callerId"`
	Cognito        *string `json:"cognitoIdentity"` // always null: there is no Cognito here
	PrincipalOrgID *string `json:"principalOrgId"`
	UserARN        string  `json:"userArn"`
	UserID         string  `json:"userId"`
}

// urlEvent is the payload of format 2.0
// (https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html#urls-payloads).
type urlEvent struct {
	Version         string            `json:"version"`
	RouteKey        string            `json:"routeKey"`
	RawPath         string            `json:"rawPath"`
	RawQuery        string            `json:"rawQueryString"`
	Cookies         []string          `json:"cookies,omitempty"`
	Headers         map[string]string `json:"headers"`
	Query           map[string]string `json:"queryStringParameters,omitempty"`
	Context         urlContext        `json:"requestContext"`
	Body            string            `json:"body,omitempty"`
	IsBase64Encoded bool              `json:"isBase64Encoded"`
}

type urlContext struct {
	AccountID    string         `json:"accountId"`
	APIID        string         `json:"apiId"`
	Authorizer   *urlAuthorizer `json:"authorizer,omitempty"`
	DomainName   string         `json:"domainName"`
	DomainPrefix string         `json:"domainPrefix"`
	HTTP         urlHTTP        `json:"http"`
	RequestID    string         `json:"requestId"`
	RouteKey     string         `json:"routeKey"`
	Stage        string         `json:"stage"`
	Time         string         `json:"time"`
	TimeEpoch    int64          `json:"timeEpoch"` // milliseconds
}

type urlAuthorizer struct {
	IAM URLCaller `json:"iam"`
}

type urlHTTP struct {
	Method    string `json:"method"`
	Path      string `json:"path"`
	Protocol  string `json:"protocol"`
	SourceIP  string `json:"sourceIp"`
	UserAgent string `json:"userAgent"`
}

// urlResponse is what a function answers
// (https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html#urls-response-payload).
type urlResponse struct {
	StatusCode      *int              `json:"statusCode"`
	Headers         map[string]string `json:"headers"`
	Body            string            `json:"body"`
	IsBase64Encoded bool              `json:"isBase64Encoded"`
	Cookies         []string          `json:"cookies"`
}

// ServeURL invokes the function of a target with a request whose permission was
// checked. caller is nil for the AuthType NONE.
func (s *Service) ServeURL(w http.ResponseWriter, r *http.Request, t Target, caller *URLCaller) {
	id := uuid.NewString()
	w.Header().Set("X-Amzn-Requestid", id)
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxRequest))
	if err != nil {
		RefuseURL(w, http.StatusRequestEntityTooLarge, "RequestEntityTooLargeException", fmt.Sprintf("Request must be smaller than %d bytes for the InvokeFunction operation", maxRequest))
		return
	}
	payload, err := json.Marshal(eventOf(r, t, caller, id, body, s.config.Clock.Now()))
	if err == nil {
		payload, err = checkPayload(payload, types.InvocationTypeRequestResponse)
	}
	if err != nil {
		RefuseURL(w, http.StatusRequestEntityTooLarge, "RequestEntityTooLargeException", err.Error())
		return
	}
	out, err := s.call(r.Context(), t.function, id, payload)
	var throttled *types.TooManyRequestsException
	switch {
	case errors.As(err, &throttled):
		RefuseURL(w, http.StatusTooManyRequests, "TooManyRequestsException", throttled.ErrorMessage())
		return
	case err != nil || out.FunctionError != "":
		failedURL(w)
		return
	}
	answerURL(w, out.Payload)
}

// failedURL is the answer of a function that failed, or whose answer has the wrong
// form. The reason is in the function's log only.
func failedURL(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/plain")
	w.WriteHeader(http.StatusBadGateway)
	_, _ = io.WriteString(w, "Internal Server Error")
}

// RefuseURL answers a request that does not reach its function.
func RefuseURL(w http.ResponseWriter, status int, code, message string) {
	raw, _ := json.Marshal(map[string]string{"Message": message}) // a map of strings can always be marshalled
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Amzn-ErrorType", code)
	w.WriteHeader(status)
	_, _ = w.Write(raw)
}

func eventOf(r *http.Request, t Target, caller *URLCaller, id string, body []byte, now time.Time) urlEvent {
	source, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		source = r.RemoteAddr
	}
	e := urlEvent{
		Version: "2.0", RouteKey: "$default", RawPath: unescaped(t.path), RawQuery: r.URL.RawQuery, Headers: map[string]string{"host": t.host},
		Context: urlContext{
			AccountID: t.Account, APIID: t.id, DomainName: t.host, DomainPrefix: t.id, RequestID: id, RouteKey: "$default", Stage: "$default",
			HTTP: urlHTTP{Method: r.Method, Path: unescaped(t.path), Protocol: r.Proto, SourceIP: source, UserAgent: r.UserAgent()},
			Time: now.UTC().Format("02/Jan/2006:15:04:05 -0700"), TimeEpoch: now.UnixMilli(),
		},
	}
	if caller != nil {
		e.Context.Authorizer = &urlAuthorizer{IAM: *caller}
	}
	for name, values := range r.Header {
		switch name = strings.ToLower(name); name {
		case "cookie":
			for cookie := range strings.SplitSeq(strings.Join(values, "; "), ";") {
				e.Cookies = append(e.Cookies, strings.TrimSpace(cookie))
			}
		case "authorization", "x-amz-security-token": // a function must not learn its caller's credentials
		default:
			e.Headers[name] = strings.Join(values, ",")
		}
	}
	if query, err := url.ParseQuery(r.URL.RawQuery); err == nil && len(query) > 0 {
		e.Query = map[string]string{}
		for name, values := range query {
			e.Query[name] = strings.Join(values, ",")
		}
	}
	if isText(r.Header.Get("Content-Type")) && utf8.Valid(body) {
		e.Body = string(body)
	} else if len(body) > 0 {
		e.Body, e.IsBase64Encoded = base64.StdEncoding.EncodeToString(body), true
	}
	return e
}

// isText says whether a body of a content type reaches the function as text.
func isText(contentType string) bool {
	kind, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return false
	}
	return strings.HasPrefix(kind, "text/") || strings.HasSuffix(kind, "+json") || strings.HasSuffix(kind, "+xml") ||
		slices.Contains([]string{"application/json", "application/javascript", "application/xml"}, kind)
}

// answerURL turns what a function returned into an HTTP response. Without a
// statusCode the whole value is the body.
func answerURL(w http.ResponseWriter, payload []byte) {
	var answer urlResponse
	var members map[string]json.RawMessage
	formatted := false
	if json.Unmarshal(payload, &members) == nil {
		_, formatted = members["statusCode"]
	}
	if !formatted {
		var text string
		if json.Unmarshal(payload, &text) != nil {
			text = string(payload)
		}
		status := http.StatusOK
		answer = urlResponse{StatusCode: &status, Body: text}
	} else if json.Unmarshal(payload, &answer) != nil || answer.StatusCode == nil || *answer.StatusCode < 100 || *answer.StatusCode > 599 {
		failedURL(w)
		return
	}
	body := []byte(answer.Body)
	if answer.IsBase64Encoded {
		var err error
		if body, err = base64.StdEncoding.DecodeString(answer.Body); err != nil {
			failedURL(w)
			return
		}
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	for _, name := range slices.Sorted(maps.Keys(answer.Headers)) {
		h.Set(name, answer.Headers[name])
	}
	for _, cookie := range answer.Cookies {
		h.Add("Set-Cookie", cookie)
	}
	w.WriteHeader(*answer.StatusCode)
	_, _ = w.Write(body)
}
