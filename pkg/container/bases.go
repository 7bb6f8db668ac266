package container

import (
	"fmt"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ami-factory/ami-factory/pkg/problem"
	"github.com/ami-factory/ami-factory/pkg/strictyaml"
)

// Bases are the images on which others may be built.
type Bases struct {
	// Bases are the approved images.
	Bases []Base `yaml:"bases" json:"bases" jsonschema:"required,minItems=1"`
}

// Base is an approved image.
type Base struct {
	// Name of the image, for people.
	Name string `yaml:"name,omitempty" json:"name,omitempty" jsonschema:"minLength=1,maxLength=500"`
	// Digest of its manifest or index.
	Digest string `yaml:"digest" json:"digest" jsonschema:"required,pattern=^sha256:[0-9a-f]{64}$" hint:"sha256: and 64 hexadecimal digits"`
	// Layers are its unpacked layers (rootfs.diff_ids of its configuration), with which an image built on it begins.
	Layers []string `yaml:"layers,omitempty" json:"layers,omitempty" jsonschema:"minItems=1,maxItems=200,pattern=^sha256:[0-9a-f]{64}$" hint:"sha256: and 64 hexadecimal digits"`
	// Expires is the last day, in UTC, on which the approval holds.
	Expires string `yaml:"expires,omitempty" json:"expires,omitempty" jsonschema:"pattern=^[0-9]{4}-[0-9]{2}-[0-9]{2}$" hint:"a date, YYYY-MM-DD"`
}

// ParseBases reads a file of approved bases.
func ParseBases(file string, data []byte) (Bases, problem.List) {
	var b Bases
	doc, problems := strictyaml.Decode(file, data, &b)
	for i, base := range b.Bases {
		at := strictyaml.Index("bases", i) + ".expires"
		if doc.Valid(at) {
			if _, err := time.Parse(time.DateOnly, base.Expires); err != nil {
				problems = append(problems, doc.Problem(at, "a date, YYYY-MM-DD", "%q is not a date of the calendar", base.Expires))
			}
		}
	}
	return b, problems.Sort()
}

// judge says why an image with this base and these layers is refused, or what was not
// checked. An image of several platforms has one entry for the layers of each.
func (b Bases) judge(digest string, layers []v1.Hash, now time.Time) (why, warning string) {
	why = fmt.Sprintf("the base %s is not approved", digest)
	for _, base := range b.Bases {
		if base.Digest != digest {
			continue
		}
		if end, err := time.Parse(time.DateOnly, base.Expires); base.Expires != "" && (err != nil || !now.Before(end.AddDate(0, 0, 1))) {
			why = fmt.Sprintf("the approval of the base %s expired on %s", digest, base.Expires)
			continue
		}
		if len(base.Layers) == 0 {
			return "", fmt.Sprintf("the list of approved bases has no layers of %s: it was not checked that the image begins with them", digest)
		}
		if len(layers) >= len(base.Layers) && slices.EqualFunc(base.Layers, layers[:len(base.Layers)], func(a string, b v1.Hash) bool { return a == b.String() }) {
			return "", ""
		}
		why = fmt.Sprintf("the label says that the base is %s, but the image does not begin with its layers", digest)
	}
	return why, ""
}
