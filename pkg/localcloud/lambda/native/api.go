package native

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// door is the address at which a process reaches its Runtime API. The API has no
// authentication, and any user of this machine can reach a loopback port, so the
// address contains a secret for this one process that only its user can read.
type door struct {
	host   string // and port
	secret string
}

func newDoor(host string) door {
	var secret [32]byte
	_, _ = rand.Read(secret[:]) // never fails, see crypto/rand
	return door{host: host, secret: hex.EncodeToString(secret[:])}
}

// address is the value of AWS_LAMBDA_RUNTIME_API. Runtimes prepend http:// and
// append the path of the API, such as /2018-06-01/runtime/invocation/next
// (https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html).
func (d door) address() string { return d.host + "/" + d.secret }

// guard passes requests with the secret path to next, without the secret. All
// others are answered as if nothing were here, including those of a browser that
// uses another name for this address (DNS rebinding).
func (d door) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		secret, path, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		known := subtle.ConstantTimeCompare([]byte(secret), []byte(d.secret)) == 1
		if !known || r.Host != d.host || wire.FromElsewhere(r) != nil {
			http.NotFound(w, r)
			return
		}
		inner := r.Clone(r.Context())
		inner.URL.Path, inner.URL.RawPath = "/"+path, ""
		next.ServeHTTP(w, inner)
	})
}

// api returns the Lambda Runtime API, version 2018-06-01, of one process.
func (p *process) api() http.Handler {
	mux := http.NewServeMux()
	const root = "/2018-06-01/runtime"
	mux.HandleFunc("GET "+root+"/invocation/next", p.serveNext)
	mux.HandleFunc("POST "+root+"/invocation/{id}/response", p.serveResponse)
	mux.HandleFunc("POST "+root+"/invocation/{id}/error", p.serveError)
	mux.HandleFunc("POST "+root+"/init/error", p.serveInitError)
	return mux
}

// serveNext blocks until there is work.
func (p *process) serveNext(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	select {
	case <-p.ready:
	default:
		p.initTook = time.Since(p.started)
		close(p.ready)
	}
	p.mu.Unlock()

	var inv *invocation
	select {
	case inv = <-p.work:
	case <-r.Context().Done():
		return
	}
	p.mu.Lock()
	p.current = inv
	p.mu.Unlock()
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Lambda-Runtime-Aws-Request-Id", inv.id)
	h.Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(inv.deadline.UnixMilli(), 10))
	h.Set("Lambda-Runtime-Invoked-Function-Arn", inv.arn)
	_, _ = w.Write(inv.payload)
}

// working returns the invocation that a request names. If it is not running,
// working answers the request with an error.
func (p *process) working(w http.ResponseWriter, r *http.Request) *invocation {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current == nil || p.current.id != r.PathValue("id") {
		refuse(w, http.StatusBadRequest, "InvalidRequestID", "this invocation is not running")
		return nil
	}
	return p.current
}

func (p *process) serveResponse(w http.ResponseWriter, r *http.Request) {
	inv := p.working(w, r)
	if inv == nil {
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxResponse))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		inv.answer(failure("Function.ResponseSizeTooLarge",
			fmt.Sprintf("Response payload size exceeded maximum allowed payload size (%d bytes).", MaxResponse)))
		refuse(w, http.StatusRequestEntityTooLarge, "RequestEntityTooLarge", "the response is too large")
	case err != nil:
		refuse(w, http.StatusBadRequest, "InvalidRequest", err.Error())
	default:
		inv.answer(Outcome{Payload: body})
		w.WriteHeader(http.StatusAccepted)
	}
}

func (p *process) serveError(w http.ResponseWriter, r *http.Request) {
	inv := p.working(w, r)
	if inv == nil {
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxResponse))
	if err != nil {
		refuse(w, http.StatusBadRequest, "InvalidRequest", err.Error())
		return
	}
	inv.answer(Outcome{Payload: body, FunctionError: "Unhandled"})
	w.WriteHeader(http.StatusAccepted)
}

func (p *process) serveInitError(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxResponse))
	if err != nil {
		refuse(w, http.StatusBadRequest, "InvalidRequest", err.Error())
		return
	}
	p.mu.Lock()
	p.initErr, p.ending = body, true
	p.mu.Unlock()
	w.WriteHeader(http.StatusAccepted)
}

func refuse(w http.ResponseWriter, status int, errorType, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"errorMessage":%q,"errorType":%q}`, message, errorType)
}
