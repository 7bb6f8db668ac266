// Package userdata makes the user data of a builder: a cloud-init MIME archive
// of settings and a small script that fetches everything else by digest. It is
// pure: the same input gives the same bytes.
package userdata

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/userdata/multipart"
)

const (
	// MaxSize of user data in bytes, before base64.
	MaxSize = multipart.MaxSize

	// The placeholders stand where the launch stage puts presigned URLs, which cannot
	// be known when the plan is made. Each occurs once, in this order. The session token
	// is the longest part of a presigned URL, and the same in all: it is there once.
	sessionPlaceholder = "@@SESSION@@"
	bundlePlaceholder  = "@@BUNDLE_URL@@"
	verdictPlaceholder = "@@VERDICT_URL@@"
	stepsPlaceholder   = "@@STEPS_URL@@"

	// reserved is the room kept for the URLs: half a KB for each, and the session token
	// of a Lambda function, which takes 1 to 2 KB.
	reserved = 4 * 1024

	// sessionParameter begins the session token in a presigned URL
	// (https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html).
	sessionParameter = "&X-Amz-Security-Token="
)

// placeholders returns them in the order of their occurrence.
func placeholders() []string {
	return []string{sessionPlaceholder, bundlePlaceholder, verdictPlaceholder, stepsPlaceholder}
}

// Addresses are the presigned URLs that a builder is given: all that it may read and
// write of the factory.
type Addresses struct {
	Bundle  string // to download
	Verdict string // to upload how provisioning ended, once
	Steps   string // to upload the steps so far, again and again
}

// values returns what takes the places of the placeholders. The order of a query's
// parameters is not signed, so that the session token may come last.
func (a Addresses) values() []string {
	addresses := []string{a.Bundle, a.Verdict, a.Steps}
	session, short := "", make([]string, len(addresses))
	for i, address := range addresses {
		before, after, ok := strings.Cut(address, sessionParameter)
		token, more, _ := strings.Cut(after, "&")
		if !ok || i > 0 && session != sessionParameter+token {
			return append([]string{""}, addresses...)
		}
		session, short[i] = sessionParameter+token, before
		if more != "" {
			short[i] += "&" + more
		}
	}
	return append([]string{session}, short...)
}

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

// Render makes the user data with placeholders for the addresses in it. It returns
// a *SizeError when there would be no room for them.
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
	parts := []multipart.Part{{ContentType: "text/cloud-config", Name: "cloud-config.yaml", Body: withoutComments(cloudConfig())}}
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
	pieces, err := split(text)
	if err != nil {
		return "", err
	}
	packed, err := multipart.Pack(strings.Join(pieces, ""), MaxSize-reserved)
	if err != nil {
		return "", err
	}
	if size := len(packed) + reserved; size > MaxSize {
		return "", &SizeError{Size: size}
	}
	return text, nil
}

// split returns what is before, between and after the placeholders.
func split(text string) ([]string, error) {
	var pieces []string
	rest := text
	for _, placeholder := range placeholders() {
		if n := strings.Count(text, placeholder); n != 1 {
			return nil, fmt.Errorf("the user data must hold %s exactly once, not %d times", placeholder, n)
		}
		before, after, ok := strings.Cut(rest, placeholder)
		if !ok {
			return nil, fmt.Errorf("the user data holds %s too early", placeholder)
		}
		pieces, rest = append(pieces, before), after
	}
	return append(pieces, rest), nil
}

// AddressesIn returns the addresses that Fill has put into a text to make data;
// false when data was not made of that text.
func AddressesIn(text string, data []byte) (Addresses, bool) {
	pieces, err := split(text)
	if err != nil {
		return Addresses{}, false
	}
	if z, err := gzip.NewReader(bytes.NewReader(data)); err == nil {
		if data, err = io.ReadAll(io.LimitReader(z, int64(len(text)+2*MaxSize))); err != nil {
			return Addresses{}, false
		}
	}
	rest, ok := strings.CutPrefix(string(data), pieces[0])
	if !ok {
		return Addresses{}, false
	}
	var found []string
	for i, piece := range pieces[1:] {
		value, after, ok := strings.Cut(rest, piece)
		if i == len(pieces)-2 { // what follows the last value ends the text
			value, ok = strings.CutSuffix(rest, piece)
		}
		if !ok || !isAddress(value) {
			return Addresses{}, false
		}
		found, rest = append(found, value), after
	}
	session := found[0]
	return Addresses{Bundle: found[1] + session, Verdict: found[2] + session, Steps: found[3] + session}, true
}

// isAddress says whether a text has only characters of URLs; scripts have it in quotes.
func isAddress(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' || r == '\'' || r == '\\' || r == '"' })
}

// Fill puts the addresses into user data made by Render, and compresses the whole
// when it would not fit otherwise; cloud-init unpacks it. The result is what
// RunInstances takes, before base64.
func Fill(text string, to Addresses) ([]byte, error) {
	pieces, err := split(text)
	if err != nil {
		return nil, err
	}
	filled := pieces[0]
	if to.Bundle == "" || to.Verdict == "" || to.Steps == "" {
		return nil, errors.New("the user data needs three addresses, and one is empty")
	}
	for i, value := range to.values() {
		if !isAddress(value) {
			return nil, fmt.Errorf("what takes the place of %s holds characters that no URL has", placeholders()[i])
		}
		filled += value + pieces[i+1]
	}
	// Every value is in its place, so that nothing need be kept free.
	data, err := multipart.Pack(filled, MaxSize)
	if err != nil {
		return nil, err
	}
	if len(data) > MaxSize {
		return nil, &SizeError{Size: len(data)}
	}
	return data, nil
}
