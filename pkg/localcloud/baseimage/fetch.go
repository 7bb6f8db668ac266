package baseimage

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
)

// Limits of a download.
const (
	fetchAttempts = 5
	fetchPause    = 2 * time.Second
	stallLimit    = time.Minute // without a single byte
)

// errBadDigest is in the chain of Fetch's error if the file has another digest.
var errBadDigest = errors.New("the SHA-256 is not the one given")

// errRefused is an answer that another attempt will not change.
var errRefused = errors.New("the server refused")

// Fetch downloads src into file, which appears only after its SHA-256 is
// verified. It resumes a broken download, also in a later call (from file +
// ".partial"). progress receives the percentage. URLs are http, https (through
// the environment's proxy) or file.
func Fetch(ctx context.Context, src Official, file string, progress func(string)) error {
	if progress == nil {
		progress = func(string) {}
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, ResponseHeaderTimeout: stallLimit}
	transport.RegisterProtocol("file", http.NewFileTransportFS(os.DirFS("/")))
	defer transport.CloseIdleConnections()
	f := fetcher{
		src:      src,
		partial:  file + ".partial",
		client:   &http.Client{Transport: transport},
		progress: progress,
		pause:    fetchPause,
	}
	if err := f.src.validate(); err != nil {
		return err
	}
	if err := f.fetch(ctx); err != nil {
		return fmt.Errorf("download %s: %w", f.src.shown(), err)
	}
	if err := os.Rename(f.partial, file); err != nil {
		return fmt.Errorf("name the downloaded image: %w", err)
	}
	return nil
}

// validate checks the user's URL and digest.
func (o Official) validate() error {
	u, err := url.Parse(o.URL)
	if err != nil || !(u.Scheme == "file" || (u.Scheme == "https" || u.Scheme == "http") && u.Host != "") {
		return fmt.Errorf("the official image's URL %q is not valid (allowed: https://…, http://…, file:///…)", o.shown())
	}
	if sum, err := hex.DecodeString(o.SHA256); err != nil || len(sum) != 32 {
		return fmt.Errorf("the official image's SHA-256 %q is not valid: give the 64 hexadecimal digits that its publisher lists beside it", o.SHA256)
	}
	return nil
}

// shown returns the URL without a password.
func (o Official) shown() string {
	if u, err := url.Parse(o.URL); err == nil {
		return u.Redacted()
	}
	return o.URL
}

type fetcher struct {
	src      Official
	partial  string
	client   *http.Client
	progress func(string)
	pause    time.Duration // between attempts
}

// fetch completes the partial file and verifies it.
func (f *fetcher) fetch(ctx context.Context) error {
	var err error
	for attempt := range fetchAttempts {
		if attempt > 0 {
			f.progress(fmt.Sprintf("the download broke (%v); resuming", err))
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-time.After(f.pause):
			}
		}
		var resumed bool
		if resumed, err = f.attempt(ctx); err == nil {
			err = f.verify()
		}
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, errBadDigest) && !resumed, errors.Is(err, errRefused):
			return err
		}
		// A resumed file with a wrong digest may have begun with another version.
		// verify has removed it, so the next attempt starts from the beginning.
	}
	return fmt.Errorf("gave up after %d attempts: %w", fetchAttempts, err)
}

// attempt makes one request for the missing part. resumed reports whether a part
// of the file existed before.
func (f *fetcher) attempt(ctx context.Context) (resumed bool, err error) {
	out, err := os.OpenFile(f.partial, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return false, errors.Join(errRefused, err)
	}
	defer func() {
		if closeErr := out.Close(); err == nil && closeErr != nil {
			err = closeErr
		}
	}()
	have, err := out.Seek(0, io.SeekEnd)
	if err != nil {
		return false, err
	}

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.src.URL, nil)
	if err != nil {
		return false, errors.Join(errRefused, err)
	}
	if have > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", have))
	}
	resp, err := f.client.Do(req)
	if err != nil {
		return have > 0, err
	}
	defer func() { _ = resp.Body.Close() }()

	total := resp.ContentLength
	switch {
	case resp.StatusCode == http.StatusRequestedRangeNotSatisfiable && have > 0:
		return true, nil // complete or wrong: the digest will tell
	case resp.StatusCode == http.StatusPartialContent && startsAt(resp, have):
		total += have
	case resp.StatusCode == http.StatusOK:
		have = 0
		if err := out.Truncate(0); err != nil {
			return false, err
		}
		if _, err := out.Seek(0, io.SeekStart); err != nil {
			return false, err
		}
	case resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests:
		return have > 0, fmt.Errorf("the server answered %s", resp.Status)
	default:
		return have > 0, fmt.Errorf("%w: it answered %s; check the URL", errRefused, resp.Status)
	}

	// This timer ends a connection that stalls.
	stall := time.AfterFunc(stallLimit, func() { cancel(fmt.Errorf("no data for %v", stallLimit)) })
	defer stall.Stop()
	body := &meter{Reader: resp.Body, have: have, total: total, report: f.progress, alive: func() { stall.Reset(stallLimit) }}
	_, err = io.Copy(out, body)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	return have > 0, err
}

// startsAt reports whether a partial answer continues at offset.
func startsAt(resp *http.Response, offset int64) bool {
	return strings.HasPrefix(resp.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", offset))
}

// verify checks the digest, and removes a file with a wrong one.
func (f *fetcher) verify() error {
	f.progress("verifying the download")
	sum, err := vm.FileDigest(f.partial)
	if err != nil {
		return err
	}
	if strings.EqualFold(sum, f.src.SHA256) {
		return nil
	}
	if err := os.Remove(f.partial); err != nil {
		return errors.Join(errBadDigest, err)
	}
	return fmt.Errorf("%w: the file has %s; either it was changed or the digest is another version's", errBadDigest, sum)
}

// meter reports how much was read, in steps of 5 percent.
type meter struct {
	io.Reader
	have, total int64 // total is at most 0 when unknown
	step        int64
	report      func(string)
	alive       func()
}

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.Reader.Read(p)
	m.alive()
	m.have += int64(n)
	if m.total > 0 {
		if step := m.have * 20 / m.total; step > m.step {
			m.step = step
			m.report(fmt.Sprintf("downloading the official image: %d %% of %d MiB", step*5, m.total>>20))
		}
	}
	return n, err
}
