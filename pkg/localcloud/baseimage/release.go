package baseimage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/apt"
)

// stampLife is the time for which an answer of the archive is used. Debian's
// security archive changes several times a day, and a shorter time would cause
// more builds than necessary.
const stampLife = 24 * time.Hour

// releaseLimit limits the size of a Release file, in bytes; Debian's has 150 KB.
const releaseLimit = 4 << 20

// stamps is the content of archive.json in the cache: the last answer for each
// set of sources.
type stamps map[string]archiveAnswer

type archiveAnswer struct {
	Asked time.Time
	Stamp string
}

// archiveStamp identifies the state of the archive by the index digests in its
// Release files. It is only part of the cache's key and need not be trusted: apt
// verifies what it installs. If the mirror does not answer, the last answer is
// used, so that a cached base works without network.
func (b *builder) archiveStamp(ctx context.Context) (string, error) {
	file := filepath.Join(b.opts.CacheDir, "archive.json")
	known := stamps{}
	if err := readJSON(file, &known); err != nil && !errors.Is(err, fs.ErrNotExist) {
		known = stamps{} // damaged: ask and write again
	}
	key := digestOf(b.sourceLines())[:16]
	last, asked := known[key]
	if age := b.now().Sub(last.Asked); asked && age >= 0 && age < stampLife {
		return last.Stamp, nil
	}

	var parts []string
	for _, s := range b.sources {
		indexes, err := b.releaseIndexes(ctx, s)
		if err != nil {
			if ctxErr := context.Cause(ctx); ctxErr != nil {
				return "", ctxErr
			}
			if asked {
				b.opts.Progress("the Debian mirror does not answer; using its answer of " + last.Asked.Format(time.DateOnly))
				return last.Stamp, nil
			}
			// This function cannot ask the mirror, but apt may be able to use it.
			b.opts.Progress(fmt.Sprintf("cannot ask the Debian mirror for its state: %v", err))
			return "", nil
		}
		parts = append(parts, s.URI, s.Suite, indexes)
	}
	known[key] = archiveAnswer{Asked: b.now().UTC(), Stamp: digestOf(parts...)}
	return known[key].Stamp, writeJSON(file, known)
}

// packagesIndex matches the line of a Release file with the digest of main's
// package list. The date in the file also changes without any package.
var packagesIndex = regexp.MustCompile(`(?m)^ ([0-9a-f]{64}) +\d+ (?:updates/)?main/binary-(?:amd64|all)/Packages\r?$`)

// releaseIndexes returns the digests of a suite's package lists.
func (b *builder) releaseIndexes(ctx context.Context, s apt.Source) (string, error) {
	address := strings.TrimSuffix(s.URI, "/") + "/dists/" + s.Suite + "/InRelease"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return "", fmt.Errorf("ask for %s: %w", address, err)
	}
	resp, err := b.client.Do(req)
	if err != nil {
		return "", err // the error has method and address
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("ask for %s: the mirror answered %s", address, resp.Status)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, releaseLimit))
	if err != nil {
		return "", fmt.Errorf("read %s: %w", address, err)
	}
	var digests []string
	for _, m := range packagesIndex.FindAllStringSubmatch(string(text), -1) {
		digests = append(digests, m[1])
	}
	if len(digests) == 0 {
		return "", fmt.Errorf("%s lists no packages of main for this architecture", address)
	}
	return strings.Join(digests, " "), nil
}
