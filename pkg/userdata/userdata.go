// Package userdata makes the user data of a builder: a cloud-init MIME archive
// of settings and a small script that fetches everything else by digest. It is
// pure: the same input gives the same bytes.
package userdata

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/userdata/multipart"
)

const (
	// MaxSize of user data in bytes, before base64.
	MaxSize = multipart.MaxSize

	// Placeholder stands where the launch stage puts a presigned URL of the
	// bundle, which cannot be known when the plan is made.
	Placeholder = "@@BUNDLE_URL@@"

	// reserved is the room kept for that URL. A Lambda's session token makes
	// presigned URLs of 1.5 to 2.5 KB.
	reserved = 4 * 1024
)

// Spec is what a builder is told.
type Spec struct {
	Recipe       string
	BundleSHA256 string // hex
	BundleSize   int    // bytes
	CloudConfig  string // the recipe's own, after the factory's: its keys win; may be empty
	First        []Script
	Release      Release
}

// Script is a component's bootstrap.sh: it is part of the user data itself, and
// runs before the bundle is fetched.
type Script struct {
	Component   string
	Text        string            // for bash, its first line being #!/bin/bash
	Environment map[string]string // variables and their values
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
	parts := []multipart.Part{{ContentType: "text/cloud-config", Name: "cloud-config.yaml", Body: cloudConfig()}}
	if spec.CloudConfig != "" {
		parts = append(parts, multipart.Part{ContentType: "text/cloud-config", Name: "recipe.yaml", Body: strings.TrimRight(spec.CloudConfig, "\n") + "\n"})
	}
	for i, script := range spec.First {
		body, err := firstPart(script)
		if err != nil {
			return "", err
		}
		// cloud-init runs scripts in the order of their names, and digits come first.
		parts = append(parts, multipart.Part{ContentType: "text/x-shellscript", Name: fmt.Sprintf("%02d-%s.sh", i, script.Component), Body: body})
	}
	parts = append(parts, multipart.Part{ContentType: "text/x-shellscript", Name: "bootstrap.sh", Body: bootstrap(spec)})
	text, err := multipart.Archive(parts)
	if err != nil {
		return "", err
	}
	if n := strings.Count(text, Placeholder); n != 1 {
		return "", fmt.Errorf("the user data would hold %s %d times, not once", Placeholder, n)
	}
	// A URL hardly compresses, so it counts in full.
	packed, err := multipart.Pack(strings.ReplaceAll(text, Placeholder, ""), MaxSize-reserved)
	if err != nil {
		return "", err
	}
	if size := len(packed) + reserved; size > MaxSize {
		return "", &SizeError{Size: size}
	}
	return text, nil
}

// URLIn is the URL that Fill has put into a text to make data; false when data was
// not made of that text.
func URLIn(text string, data []byte) (string, bool) {
	before, after, ok := strings.Cut(text, Placeholder)
	if !ok {
		return "", false
	}
	if z, err := gzip.NewReader(bytes.NewReader(data)); err == nil {
		if data, err = io.ReadAll(io.LimitReader(z, int64(len(text)+MaxSize))); err != nil {
			return "", false
		}
	}
	got, ok := strings.CutPrefix(string(data), before)
	if !ok {
		return "", false
	}
	got, ok = strings.CutSuffix(got, after)
	return got, ok
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
	data, err := multipart.Pack(strings.Replace(text, Placeholder, url, 1), MaxSize-reserved)
	if err != nil {
		return nil, err
	}
	if len(data) > MaxSize {
		return nil, &SizeError{Size: len(data)}
	}
	return data, nil
}
