package trigger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/store"
	"github.com/ami-factory/ami-factory/pkg/trigger/decide"
)

// maxCertificate is the largest certificate of a signature, in bytes.
const maxCertificate = 64 << 10

// ReleaseAnnounced makes the watcher run immediately when the owner of a base image
// announces a release. The announcement is only a hint: its content is not used.
type ReleaseAnnounced struct {
	Settings Settings
	Store    store.Store
	Watch    WatchSources
	// Endpoint is the address of the embedded AWS; empty for Amazon's.
	Endpoint string
	// Certificate fetches a certificate of SNS from an address that has been checked.
	Certificate func(ctx context.Context, address string) ([]byte, error)
}

// Announcements is the event with which SNS invokes a Lambda function.
type Announcements struct {
	Records []struct {
		SNS decide.Announcement `json:"Sns"`
	}
}

// UnmarshalJSON ignores fields that AWS may add.
func (a *Announcements) UnmarshalJSON(raw []byte) error {
	type plain Announcements
	return json.Unmarshal(raw, (*plain)(a))
}

// AnnouncedOutput is the result of ReleaseAnnounced.
type AnnouncedOutput struct {
	Repeated []string     `json:"repeated"` // messages that were handled before
	Watched  *WatchOutput `json:"watched,omitempty"`
}

// Run verifies each message and runs the watcher once for all of them. A message that is
// not genuine is an error, so that it goes to the dead-letter queue.
func (s ReleaseAnnounced) Run(ctx context.Context, in Announcements) (AnnouncedOutput, error) {
	out := AnnouncedOutput{Repeated: []string{}}
	var fresh []string
	for _, r := range in.Records {
		repeated, err := s.verify(ctx, r.SNS)
		if err != nil {
			return out, err
		}
		if repeated {
			out.Repeated = append(out.Repeated, r.SNS.MessageID)
		} else {
			fresh = append(fresh, r.SNS.MessageID)
		}
	}
	if len(in.Records) == 0 {
		return out, failure.New(failure.InvalidInput, "there is no record of SNS in the event")
	}
	if len(fresh) == 0 {
		return out, nil
	}
	watched, err := s.Watch.Run(ctx, WatchInput{})
	if err != nil {
		return out, err
	}
	out.Watched = &watched
	// Messages are recorded last, because they must be handled again if the watcher
	// fails.
	for _, id := range fresh {
		if err := s.remember(ctx, id); err != nil {
			return out, err
		}
	}
	return out, nil
}

// verify checks a message and reports whether it was handled before.
func (s ReleaseAnnounced) verify(ctx context.Context, a decide.Announcement) (bool, error) {
	if err := a.Check(s.Settings.AnnouncementTopics, s.Endpoint); err != nil {
		return false, failure.Wrap(failure.AnnouncementRefused, err, "announcement %s is refused", a.MessageID)
	}
	certificate, err := s.Certificate(ctx, a.SigningCertURL)
	if err != nil {
		return false, failure.Wrap(failure.ServiceUnavailable, err, "fetch the certificate of announcement %s", a.MessageID)
	}
	if err := a.Verify(certificate); err != nil {
		return false, failure.Wrap(failure.AnnouncementRefused, err, "announcement %s is refused", a.MessageID)
	}
	_, err = s.Store.Read(ctx, contract.AnnouncementKey(a.MessageID))
	if errors.Is(err, store.ErrNone) {
		return false, nil
	}
	return err == nil, err
}

func (s ReleaseAnnounced) remember(ctx context.Context, id string) error {
	_, err := s.Store.Create(ctx, contract.AnnouncementKey(id), "text/plain", nil)
	return err
}

// FetchCertificate downloads a certificate from an address that has been checked: over
// HTTPS, which proves its owner, or from this machine.
func FetchCertificate(client *http.Client) func(context.Context, string) ([]byte, error) {
	return func(ctx context.Context, address string) ([]byte, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
		if err != nil {
			return nil, err
		}
		response, err := client.Do(request)
		if err != nil {
			return nil, err
		}
		defer func() { _ = response.Body.Close() }()
		if response.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("%s: HTTP %d", address, response.StatusCode)
		}
		return io.ReadAll(io.LimitReader(response.Body, maxCertificate))
	}
}
