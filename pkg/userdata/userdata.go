// Package userdata makes the user data of a builder: a cloud-init MIME archive
// of settings and a small script that fetches everything else by digest. It is
// pure: the same input gives the same bytes.
package userdata

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"regexp"
	"strings"
)

const (
	// MaxSize of user data in bytes, before base64.
	// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/user-data.html
	MaxSize = 16 * 1024

	// Placeholder stands where the launch stage puts a presigned URL of the
	// bundle, which cannot be known when the plan is made.
	Placeholder = "@@BUNDLE_URL@@"

	// reserved is the room kept for that URL. A Lambda's session token makes
	// presigned URLs of 1.5 to 2.5 KB.
	reserved = 4 * 1024
)

// boundary of the MIME archive: fixed, so that the bytes are; its text cannot
// occur in a part, which Render makes sure of.
const boundary = "==ami-factory-part=="

// Spec is what a builder is told.
type Spec struct {
	Recipe       string
	BundleSHA256 string // hex
	BundleSize   int    // bytes
	CloudConfig  string // the recipe's own, after the factory's: its keys win; may be empty
	Release      Release
}

// Release is what an image is made of, as its own record shall say. It cannot
// be in the bundle, of which the fingerprint is a digest.
type Release struct {
	Fingerprint    string
	SourceImage    string
	FactoryVersion string
	ImageName      string
	Baked          string // the start of the execution, RFC 3339 in UTC: not a clock's, so that the same plan gives the same bytes
}

// SizeError says that user data does not fit.
type SizeError struct {
	Size int // bytes it would take, compressed if that helps
}

func (e *SizeError) Error() string {
	return fmt.Sprintf("the builder's user data would be %d bytes, but EC2 takes at most %d; move what it says into a component's files", e.Size, MaxSize)
}

var hexDigest = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Render makes the user data with Placeholder in it. It returns a *SizeError
// when there would be no room for the URL.
func Render(spec Spec) (string, error) {
	if !hexDigest.MatchString(spec.BundleSHA256) {
		return "", fmt.Errorf("the bundle's digest %q is not a SHA-256 in hexadecimal", spec.BundleSHA256)
	}
	for _, text := range []string{
		spec.Recipe, spec.Release.Fingerprint, spec.Release.SourceImage, spec.Release.FactoryVersion, spec.Release.ImageName, spec.Release.Baked,
	} {
		if strings.ContainsAny(text, "'\n\r") {
			return "", fmt.Errorf("%q cannot be written into a script", text)
		}
	}
	parts := []part{{"text/cloud-config", "cloud-config.yaml", cloudConfig()}}
	if spec.CloudConfig != "" {
		parts = append(parts, part{"text/cloud-config", "recipe.yaml", strings.TrimRight(spec.CloudConfig, "\n") + "\n"})
	}
	parts = append(parts, part{"text/x-shellscript", "bootstrap.sh", bootstrap(spec)})
	text, err := archive(parts)
	if err != nil {
		return "", err
	}
	if n := strings.Count(text, Placeholder); n != 1 {
		return "", fmt.Errorf("the user data would hold %s %d times, not once", Placeholder, n)
	}
	// A URL hardly compresses, so it counts in full.
	_, size, err := pack(strings.ReplaceAll(text, Placeholder, ""))
	if err != nil {
		return "", err
	}
	if size += reserved; size > MaxSize {
		return "", &SizeError{Size: size}
	}
	return text, nil
}

// Fill puts the bundle's URL into user data made by Render, and compresses the
// whole when it would not fit otherwise; cloud-init unpacks it. The result is
// what RunInstances takes, before base64.
func Fill(text, url string) ([]byte, error) {
	if strings.Count(text, Placeholder) != 1 {
		return nil, fmt.Errorf("the user data must hold %s exactly once, not %d times", Placeholder, strings.Count(text, Placeholder))
	}
	if url == "" || strings.ContainsFunc(url, func(r rune) bool { return r <= ' ' || r > '~' || r == '\'' || r == '\\' }) {
		return nil, fmt.Errorf("the bundle's URL is empty or holds characters that no URL has")
	}
	data, size, err := pack(strings.Replace(text, Placeholder, url, 1))
	if err != nil {
		return nil, err
	}
	if size > MaxSize {
		return nil, &SizeError{Size: size}
	}
	return data, nil
}

// pack compresses text if, and only if, it would not fit as it is: user data
// that can be read in the console is worth more than smaller user data.
func pack(text string) ([]byte, int, error) {
	if len(text) <= MaxSize-reserved {
		return []byte(text), len(text), nil
	}
	var b bytes.Buffer
	zip, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, 0, fmt.Errorf("compress user data: %w", err)
	}
	if _, err := zip.Write([]byte(text)); err != nil {
		return nil, 0, fmt.Errorf("compress user data: %w", err)
	}
	if err := zip.Close(); err != nil {
		return nil, 0, fmt.Errorf("compress user data: %w", err)
	}
	if b.Len() >= len(text) {
		return []byte(text), len(text), nil
	}
	return b.Bytes(), b.Len(), nil
}

type part struct{ contentType, name, body string }

// archive is a MIME multipart text as cloud-init reads it. Every part is ASCII,
// so none needs an encoding.
func archive(parts []part) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=%q\nMIME-Version: 1.0\n\n", boundary)
	for _, p := range parts {
		if strings.Contains(p.body, boundary) {
			return "", fmt.Errorf("part %s of the user data holds the boundary of the archive", p.name)
		}
		if i := strings.IndexFunc(p.body, func(r rune) bool { return r > '~' || r < ' ' && r != '\n' && r != '\t' }); i >= 0 {
			return "", fmt.Errorf("part %s of the user data is not plain ASCII at byte %d", p.name, i)
		}
		fmt.Fprintf(&b, "--%s\nContent-Type: %s; charset=\"us-ascii\"\nMIME-Version: 1.0\nContent-Transfer-Encoding: 7bit\nContent-Disposition: attachment; filename=%q\n\n%s", boundary, p.contentType, p.name, p.body)
	}
	fmt.Fprintf(&b, "--%s--\n", boundary)
	return b.String(), nil
}
