package localcloud

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
)

// inProcess hands the requests of an SDK client to the services themselves. On a
// virtual clock a request takes the time of the goroutine that makes it.
type inProcess struct{ c *Cloud }

// Do implements aws.HTTPClient.
func (p inProcess) Do(r *http.Request) (out *http.Response, err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case error:
			if !errors.Is(p, http.ErrAbortHandler) {
				panic(p)
			}
			out, err = nil, io.ErrUnexpectedEOF // what a client of a server sees
		default:
			panic(p)
		}
	}()
	in := r.Clone(r.Context())
	// A request as a server sees it has these, and no scheme in its URL.
	in.RequestURI, in.RemoteAddr = r.URL.RequestURI(), "127.0.0.1:1"
	if in.Host == "" {
		in.Host = r.URL.Host
	}
	if in.Body == nil {
		in.Body = http.NoBody
	}
	if in.ContentLength > 0 || in.ContentLength == 0 && (in.Method == http.MethodPut || in.Method == http.MethodPost) {
		in.Header.Set("Content-Length", strconv.FormatInt(in.ContentLength, 10))
	}
	answer := httptest.NewRecorder()
	p.c.handler.ServeHTTP(answer, in)
	out = answer.Result()
	out.Request = r
	return out, nil
}
