package rehearsal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/evidence/vulnerability"
	"github.com/ami-factory/ami-factory/pkg/recipe"
	"github.com/ami-factory/ami-factory/pkg/store"
)

// feed is a file of a feed of vulnerabilities.
type feed struct {
	file     string
	modified time.Time
	vulnerability.Description
}

// readFeeds reads and checks files of feeds. The same feed twice counts once.
func readFeeds(files []string) ([]feed, error) {
	var out []feed
	seen := map[string]bool{}
	for _, file := range files {
		d, modified, err := DescribeFeed(file)
		if err != nil {
			return nil, err
		}
		if !seen[d.SHA256] {
			out = append(out, feed{file, modified, d})
		}
		seen[d.SHA256] = true
	}
	return out, nil
}

// DescribeFeed reads a file of a feed, and when it was modified last.
func DescribeFeed(file string) (vulnerability.Description, time.Time, error) {
	raw, modified, err := readFeed(file)
	if err != nil {
		return vulnerability.Description{}, modified, fmt.Errorf("feed of vulnerabilities: %w", err)
	}
	d, err := vulnerability.Describe(raw)
	if err != nil {
		return d, modified, fmt.Errorf("feed of vulnerabilities %s: %w", file, err)
	}
	return d, modified, nil
}

func readFeed(file string) ([]byte, time.Time, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, time.Time{}, err
	}
	if !info.Mode().IsRegular() || info.Size() > vulnerability.MaxFeed {
		return nil, time.Time{}, fmt.Errorf("%s is no file of %d bytes at most", file, vulnerability.MaxFeed)
	}
	raw, err := os.ReadFile(file)
	return raw, info.ModTime(), err
}

// provideFeeds puts the feeds where recipes pin them.
func (f *Factory) provideFeeds(ctx context.Context) error {
	for _, one := range f.feeds {
		raw, _, err := readFeed(one.file)
		if err != nil {
			return fmt.Errorf("feed of vulnerabilities: %w", err)
		}
		if store.Digest(raw) != one.SHA256 {
			return fmt.Errorf("feed of vulnerabilities %s: it changed while it was read", one.file)
		}
		if _, err := (store.Store{Bucket: f.Bucket, API: f.Cloud.S3}).Put(ctx, contract.FeedKey(one.SHA256), "application/octet-stream", raw); err != nil {
			return err
		}
	}
	return nil
}

// scanSBOM is what the embedded Amazon Inspector knows: what the feeds say. Their age
// does not matter, as Inspector's data have none that is known.
func (f *Factory) scanSBOM(ctx context.Context, bom []byte) ([]byte, error) {
	var offline vulnerability.Offline
	now := f.opts.Clock.Now()
	for _, one := range f.feeds {
		offline.Sources = append(offline.Sources, vulnerability.Source{
			Name: one.file, Kind: one.Kind, SHA256: one.SHA256, Published: now,
			Open: func(context.Context) (io.ReadCloser, error) { return os.Open(one.file) },
		})
	}
	return offline.Answer(ctx, bom, now)
}

// ErrNoFeed is in the chain of Bake's error when a feed that the recipe pins is missing.
var ErrNoFeed = errors.New("the rehearsal lacks a feed of vulnerabilities")

// checkFeeds refuses a recipe whose gate would fail at its end because a feed is missing.
func (f *Factory) checkFeeds(ctx context.Context, name string) error {
	r, _, err := recipe.Load(f.opts.userData(), name, recipe.Options{Now: f.opts.Clock.Now()})
	if err != nil {
		return nil // what is wrong with a recipe, its execution reports
	}
	for _, pinned := range r.Gate.Vulnerabilities.Feeds {
		key := contract.FeedKey(pinned.SHA256)
		_, err := f.Cloud.S3.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &f.Bucket, Key: &key})
		if err == nil {
			continue
		}
		if !awserr.IsNotFound(err) {
			return err
		}
		var given []string
		for _, one := range f.feeds {
			given = append(given, fmt.Sprintf("%s is a %s of SHA-256 %s", one.file, one.Kind, one.SHA256))
		}
		have := ""
		if len(given) > 0 {
			have = "; " + strings.Join(given, ", ")
		}
		return fmt.Errorf("%w: recipe %s pins a %s of SHA-256 %s%s; give its file with --feed FILE, or pin one that you have (`ami-factory feeds pin FILE` prints what to write)", ErrNoFeed, r.Name, pinned.Kind, pinned.SHA256, have)
	}
	return nil
}
