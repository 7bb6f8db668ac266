package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/ami-factory/ami-factory/pkg/component"
	"github.com/ami-factory/ami-factory/pkg/recipe"
)

// fingerprintInput is what a fingerprint is the digest of. Nothing that differs
// between two executions over the same input may be in it.
type fingerprintInput struct {
	Schema         string         `json:"schema"`
	SourceImage    string         `json:"sourceImage"`
	Recipe         recipe.Recipe  `json:"recipe"`
	Files          []fileIdentity `json:"files"`
	FactoryVersion string         `json:"factoryVersion"`
}

type fileIdentity struct {
	Path   string `json:"path"`
	SHA256 string `json:"sha256"`
}

// fingerprint takes the files and not the archive of them, whose bytes may
// change with the compressor of a new Go release.
func fingerprint(in Input, a assembly) (string, error) {
	f := fingerprintInput{
		Schema:         "ami-factory/fingerprint/1",
		SourceImage:    in.Source.ImageID,
		Recipe:         in.Recipe.WithoutPositions(),
		FactoryVersion: in.FactoryVersion,
	}
	for _, files := range [][]component.File{a.files, a.definitions} {
		for _, file := range files {
			f.Files = append(f.Files, fileIdentity{file.Path, digest(file.Data)})
		}
	}
	data, err := json.Marshal(f)
	if err != nil {
		return "", fmt.Errorf("fingerprint: %w", err)
	}
	return digest(data), nil
}

// maxImageName is AWS's limit for the name of an AMI, which may consist of
// letters, digits and ( ) [ ] space . / - ' @ _.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateImage.html
const maxImageName = 128

// ImageName is unique per execution and tells what the image is:
// <recipe>-<fingerprint, 12 digits>-<start of the execution, UTC>-<digest of
// its name, 6 digits>, such as
// debian-12-docker-0123456789ab-20261123T174155Z-0a1b2c.
func ImageName(recipeName, fingerprint, execution string, start time.Time) string {
	sum := sha256.Sum256([]byte(execution))
	suffix := fmt.Sprintf("-%s-%s-%s", first(fingerprint, 12), start.UTC().Format("20060102T150405Z"), hex.EncodeToString(sum[:])[:6])
	return first(recipeName, maxImageName-len(suffix)) + suffix
}

// maxExecutionName is the limit of Step Functions for the name of an execution.
// https://docs.aws.amazon.com/step-functions/latest/apireference/API_StartExecution.html
const maxExecutionName = 80

var notInExecutionName = regexp.MustCompile(`[^A-Za-z0-9_-]+`)

// ExecutionName derives the name of an execution from what it builds, so that a
// repeated event starts nothing new: names are unique for 90 days. trigger
// tells executions apart that must both run, such as a forced rebuild's time;
// it may be empty. The fingerprint may be that of a source hint, before the
// plan exists.
func ExecutionName(recipeName, fingerprint, trigger string) string {
	clean := func(s string) string { return strings.Trim(notInExecutionName.ReplaceAllString(s, "-"), "-") }
	suffix := "-" + first(clean(fingerprint), 16)
	if trigger != "" {
		t := clean(trigger)
		if t != trigger || len(t) > 20 {
			// What is cut or replaced must still tell two triggers apart.
			t = first(t, 11) + "-" + digest([]byte(trigger))[:8]
		}
		suffix += "-" + t
	}
	return first(clean(recipeName), maxExecutionName-len(suffix)) + suffix
}

func first(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n]
}
