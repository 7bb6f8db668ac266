package network

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"time"
)

// cache keeps files by URL below a directory. An entry is one file: a line of
// JSON with the length and digest of the rest, then the content. It is written
// to a temporary file and renamed, and checked whenever it is opened, so after a
// crash or on a damaged disk it is only fetched again. Several processes may
// share the directory.
type cache struct {
	dir string
}

// description is the first line of an entry.
type description struct {
	URL          string
	Fetched      time.Time
	ETag         string `json:",omitempty"`
	LastModified string `json:",omitempty"`
	ContentType  string `json:",omitempty"`
	Size         int64
	SHA256       string
}

func openCache(dir string) (*cache, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("package cache: %w", err)
	}
	// Remove what killed processes left; younger files may belong to running ones.
	// Glob only fails on a bad pattern, and this one is constant.
	leftovers, _ := filepath.Glob(filepath.Join(dir, "*", ".new-*"))
	for _, name := range leftovers {
		if info, err := os.Stat(name); err == nil && time.Since(info.ModTime()) > leftoverAge {
			_ = os.Remove(name) // another process may have removed it
		}
	}
	return &cache{dir: dir}, nil
}

// leftoverAge is the age from which an unfinished copy is certainly abandoned.
const leftoverAge = 24 * time.Hour

func (c *cache) path(url string) string {
	sum := sha256.Sum256([]byte(url))
	name := hex.EncodeToString(sum[:])
	return filepath.Join(c.dir, name[:2], name)
}

// entry is an open, verified copy.
type entry struct {
	description
	file   *os.File
	offset int64
}

// open returns the copy of url, or nil if there is none. A damaged copy is an
// error.
func (c *cache) open(url string) (*entry, error) {
	file, err := os.Open(c.path(url))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	e := &entry{file: file}
	if err := e.verify(url); err != nil {
		_ = file.Close() // it was only read
		return nil, err
	}
	return e, nil
}

func (e *entry) verify(url string) error {
	reader := bufio.NewReader(e.file)
	line, err := reader.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("no description: %w", err)
	}
	if err := json.Unmarshal(line, &e.description); err != nil {
		return fmt.Errorf("bad description: %w", err)
	}
	e.offset = int64(len(line))
	digest := sha256.New()
	size, err := io.Copy(digest, reader)
	switch {
	case err != nil:
		return err
	case e.URL != url:
		return fmt.Errorf("is a copy of %s", e.URL)
	case size != e.Size || hex.EncodeToString(digest.Sum(nil)) != e.SHA256:
		return errors.New("damaged: length or digest differ")
	}
	return nil
}

// Close releases the entry.
func (e *entry) Close() { _ = e.file.Close() }

// serve answers with the copy, and supports ranges and conditions.
func (e *entry) serve(w http.ResponseWriter, r *http.Request) {
	if e.ETag != "" {
		w.Header().Set("Etag", e.ETag)
	}
	contentType := e.ContentType
	if contentType == "" {
		contentType = "application/octet-stream"
	}
	w.Header().Set("Content-Type", contentType)
	modified, err := http.ParseTime(e.LastModified)
	if err != nil {
		modified = time.Time{} // unknown: ServeContent then leaves it out
	}
	http.ServeContent(w, r, "", modified, io.NewSectionReader(e.file, e.offset, e.Size))
}

// condition adds headers to a request so that the mirror answers 304 if the copy
// is current.
func (e *entry) condition(r *http.Request) {
	if e.ETag != "" {
		r.Header.Set("If-None-Match", e.ETag)
	}
	if e.LastModified != "" {
		r.Header.Set("If-Modified-Since", e.LastModified)
	}
}

// entryWriter writes a new copy.
type entryWriter struct {
	description
	path   string
	file   *os.File // its body begins at descriptionRoom
	digest hash.Hash
	err    error // the first error of Write
}

func (c *cache) create(url string, response *http.Response) (*entryWriter, error) {
	path := c.path(url)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	file, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return nil, err
	}
	w := &entryWriter{
		description: description{
			URL: url, Fetched: time.Now().UTC(),
			ETag: response.Header.Get("Etag"), LastModified: response.Header.Get("Last-Modified"),
			ContentType: response.Header.Get("Content-Type"),
		},
		path: path, file: file, digest: sha256.New(),
	}
	// Space for the description, which is only known at the end.
	if _, err := file.Seek(descriptionRoom, io.SeekStart); err != nil {
		w.abandon()
		return nil, err
	}
	return w, nil
}

// descriptionRoom is the length of an entry's first line, padded with spaces.
const descriptionRoom = 4096

// Write implements io.Writer. It never fails, so that the guest gets its answer
// even if the disk is full; commit returns the error.
func (w *entryWriter) Write(p []byte) (int, error) {
	if w.err == nil {
		w.digest.Write(p)
		w.Size += int64(len(p))
		_, w.err = w.file.Write(p)
	}
	return len(p), nil
}

var byHash = regexp.MustCompile(`/by-hash/SHA256/([0-9a-f]{64})$`)

// commit moves the complete copy to its place.
func (w *entryWriter) commit() error {
	defer w.abandon()
	if w.err != nil {
		return w.err
	}
	w.SHA256 = hex.EncodeToString(w.digest.Sum(nil))
	if named := byHash.FindStringSubmatch(w.URL); named != nil && named[1] != w.SHA256 {
		return fmt.Errorf("content has digest %s, not that of its name", w.SHA256)
	}
	line, err := json.Marshal(w.description)
	if err != nil {
		return err
	}
	if len(line) >= descriptionRoom {
		return fmt.Errorf("description of %d bytes is too long", len(line))
	}
	padded := make([]byte, descriptionRoom)
	for i := copy(padded, line); i < len(padded); i++ {
		padded[i] = ' '
	}
	padded[descriptionRoom-1] = '\n'
	if _, err := w.file.WriteAt(padded, 0); err != nil {
		return err
	}
	if err := w.file.Close(); err != nil {
		return err
	}
	return os.Rename(w.file.Name(), w.path)
}

// abandon removes an uncommitted copy. After commit it does nothing.
func (w *entryWriter) abandon() {
	_ = w.file.Close()
	_ = os.Remove(w.file.Name()) // the file has another name after commit
}
