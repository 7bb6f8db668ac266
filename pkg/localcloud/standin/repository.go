// Package standin serves stand-ins for vendors' agents, for machines that cannot
// reach the vendors: signed apt repositories with packages that have the names,
// files and behaviour of the vendors', but small shell scripts as programs.
// Everything is labelled as a stand-in: the packages in their description and
// version suffix, the keys in their names.
package standin

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// Fault is a fault of a vendor's repository, for tests of its detection.
type Fault string

// Faults.
const (
	BadSignature    Fault = "bad signature"    // is of another text
	OtherKey        Fault = "other key"        // signs, and is what the key's address gives
	ExpiredKey      Fault = "expired key"      // the vendor's own key, expired
	TamperedPackage Fault = "tampered package" // differs from its digest
)

// Options are the options of a Repository.
type Options struct {
	// KeyDir keeps the keys, so that their fingerprints do not change. If it is
	// empty, new keys are made.
	KeyDir string
	// Faults has the faults by vendor.
	Faults map[string]Fault
}

// Vendor describes one of the repositories.
type Vendor struct {
	Name           string   // in addresses
	Package        string   // that it has
	Versions       []string // of it, the oldest first
	Version        string   // the one to pin: there are an older and a newer one
	KeyFingerprint string   // 40 hexadecimal digits in capitals
	RepositoryPath string   // of the SSM agent: the bucket's
	KeyPath        string
}

// Repository holds all vendors' repositories.
type Repository struct {
	Vendors  []Vendor
	SSMAgent Vendor // the bucket with Amazon's agent, which is no apt repository

	content map[string]*content // by name of the vendor
}

// content is the content of one vendor's repository.
type content struct {
	vendor Vendor
	signer key
	signed time.Time
	public []byte            // key
	index  []byte            // Packages
	pool   map[string][]byte // by file name
	fault  Fault

	untouched map[string][]byte // original content of tampered packages
}

// New makes the repositories.
func New(opts Options) (*Repository, error) {
	r := &Repository{content: map[string]*content{}}
	now := time.Now().Truncate(time.Second)
	for _, product := range append(products(), ssmAgent()) {
		c, err := newContent(product, opts, now)
		if err != nil {
			return nil, fmt.Errorf("stand-in for %s: %w", product.vendor, err)
		}
		r.content[product.vendor] = c
		if product.vendor == SSMAgent {
			r.SSMAgent = c.vendor
		} else {
			r.Vendors = append(r.Vendors, c.vendor)
		}
	}
	return r, nil
}

func newContent(p product, opts Options, now time.Time) (*content, error) {
	c := &content{signed: now.Add(-slack / 2), pool: map[string][]byte{}, untouched: map[string][]byte{}, fault: opts.Faults[p.vendor]}
	own, err := ownKey(p.vendor, opts.KeyDir, c.fault, now)
	if err != nil {
		return nil, err
	}
	c.signer = own
	if c.fault == OtherKey {
		if c.signer, err = newKey(p.vendor, now.Add(-slack), 0); err != nil {
			return nil, err
		}
	}
	if c.fault == ExpiredKey {
		c.signed = now.Add(-47 * time.Hour)
	}
	if c.public, err = c.signer.public(); err != nil {
		return nil, err
	}
	c.vendor = Vendor{
		Name: p.vendor, Package: p.name, Version: p.versions[1] + Suffix, KeyFingerprint: own.fingerprint(),
		RepositoryPath: "/apt/" + p.vendor, KeyPath: "/keys/" + p.vendor + ".asc",
	}
	if p.vendor == SSMAgent {
		c.vendor.RepositoryPath = "/bucket/" + p.vendor
	}
	for _, version := range p.versions {
		c.vendor.Versions = append(c.vendor.Versions, version+Suffix)
		if err := c.add(p, version+Suffix); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// ownKey returns the key whose fingerprint the vendor publishes.
func ownKey(vendor, dir string, fault Fault, now time.Time) (key, error) {
	switch {
	case fault == ExpiredKey:
		return newKey(vendor, now.Add(-48*time.Hour), 24*time.Hour)
	case dir == "":
		return newKey(vendor, now.Add(-slack), 0)
	}
	return keptKey(vendor, filepath.Join(dir, vendor+".key"), now)
}

// add adds a version of the package to the pool and the index.
func (c *content) add(p product, version string) error {
	fields := p.fields(version)
	data, err := deb(fields, p.scripts, p.filesOf(version))
	if err != nil {
		return err
	}
	name := p.name + "_" + version + "_all.deb"
	c.index = fmt.Appendf(c.index, "%sFilename: pool/%s\nSize: %d\nSHA256: %s\n\n", fields, name, len(data), digest(data))
	c.untouched[name] = data
	if c.fault == TamperedPackage {
		data = bytes.Clone(data)
		data[len(data)/2] ^= 1
	}
	c.pool[name] = data
	return nil
}

var suiteName = regexp.MustCompile(`^[a-z][a-z0-9.-]*$`)

// ServeHTTP implements http.Handler: /apt/<vendor>/…, /keys/<vendor>.asc, and
// /bucket/ssm-agent/….
func (r *Repository) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	data, err := r.get(req.URL.Path)
	switch {
	case req.Method != http.MethodGet && req.Method != http.MethodHead:
		http.Error(w, "this is a repository to read from", http.StatusMethodNotAllowed)
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	case data == nil:
		http.NotFound(w, req)
	default:
		w.Header().Set("Content-Type", "application/octet-stream")
		http.ServeContent(w, req, "", built(), bytes.NewReader(data))
	}
}

// get returns the file at a path, or nil.
func (r *Repository) get(path string) ([]byte, error) {
	parts := strings.Split(strings.TrimPrefix(path, "/"), "/")
	if len(parts) == 2 && parts[0] == "keys" {
		if c := r.content[strings.TrimSuffix(parts[1], ".asc")]; c != nil && strings.HasSuffix(parts[1], ".asc") {
			return c.public, nil
		}
		return nil, nil
	}
	if len(parts) > 2 && parts[0] == "bucket" && parts[1] == SSMAgent {
		return r.content[SSMAgent].fromBucket(parts[2:])
	}
	if len(parts) < 4 || parts[0] != "apt" || r.content[parts[1]] == nil {
		return nil, nil
	}
	c, rest := r.content[parts[1]], parts[2:]
	switch {
	case rest[0] == "pool" && len(rest) == 2:
		return c.pool[rest[1]], nil
	case rest[0] == "dists" && len(rest) > 2 && suiteName.MatchString(rest[1]):
		return c.dist(rest[1], strings.Join(rest[2:], "/"))
	}
	return nil, nil
}

// dist returns a file of a suite. Every suite has the same packages.
func (c *content) dist(suite, name string) ([]byte, error) {
	indexes, err := c.indexes()
	if err != nil {
		return nil, err
	}
	release := c.release(suite, indexes)
	signed := release
	if c.fault == BadSignature {
		signed = bytes.Replace(release, []byte("stand-in"), []byte("Stand-In"), 1)
	}
	switch name {
	case "Release":
		return release, nil
	case "Release.gpg":
		return c.signer.detachedSign(signed, c.signed)
	case "InRelease":
		text, err := c.signer.clearSign(signed, c.signed)
		return bytes.Replace(text, signed, release, 1), err
	}
	for _, i := range indexes {
		if i.name == name {
			return i.data, nil
		}
	}
	return nil, nil
}

// index is a list of packages.
type index struct {
	name string
	data []byte
}

func (c *content) indexes() ([]index, error) {
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	if _, err := w.Write(c.index); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	var out []index
	for _, arch := range []string{"amd64", "arm64"} {
		out = append(out, index{"main/binary-" + arch + "/Packages", c.index}, index{"main/binary-" + arch + "/Packages.gz", zipped.Bytes()})
	}
	return out, nil
}

func (c *content) release(suite string, indexes []index) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "Origin: stand-in for %s\nLabel: stand-in for %[1]s\nSuite: %s\nCodename: %[2]s\nDate: %s\nArchitectures: amd64 arm64\nComponents: main\nDescription: Not the vendor's own\nSHA256:\n",
		c.vendor.Name, suite, built().Format(time.RFC1123))
	for _, i := range indexes {
		fmt.Fprintf(&b, " %s %d %s\n", digest(i.data), len(i.data), i.name)
	}
	return b.Bytes()
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
