package bundle

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// ManifestSchema is the schema's name of a Manifest.
const ManifestSchema = "ami-factory/evidence-manifest/1"

// Manifest says what is released: the images as EC2 described them, what they were made
// from, and the digests of the records about them. Its own digest names the bundle.
type Manifest struct {
	Schema         string    `json:"schema"`
	Made           time.Time `json:"made"` // when it was written; signatures carry no time
	Recipe         string    `json:"recipe"`
	ReleaseID      string    `json:"releaseId"`
	Fingerprint    string    `json:"fingerprint"` // of the content
	PlanSHA256     string    `json:"planSha256"`
	FactoryVersion string    `json:"factoryVersion"`
	Guests         Guests    `json:"guests"`
	Execution      Execution `json:"execution"`
	Source         Source    `json:"source"`
	Owner          string    `json:"owner"`  // account that owns every image and snapshot
	Images         []Image   `json:"images"` // by region
	Audience       Audience  `json:"audience"`
	Approvals      int       `json:"approvals"` // different people who must approve the release; 0: none
	Key            Key       `json:"key"`
	Files          []File    `json:"files"` // by name
}

// Guests says what the instances were that built and checked the image.
type Guests struct {
	Kind        string `json:"kind"` // ec2 | vm | container | simulated
	Description string `json:"description,omitempty"`
}

// Execution is the run of the state machine that releases the images.
type Execution struct {
	ID      string    `json:"id"` // ARN
	Name    string    `json:"name"`
	Started time.Time `json:"started"`
}

// Source is the base image.
type Source struct {
	ImageID      string `json:"imageId"`
	Name         string `json:"name"`
	OwnerID      string `json:"ownerId"`
	Architecture string `json:"architecture"`
	CreationDate string `json:"creationDate"`
}

// Image is the image in one region, as EC2 described it.
type Image struct {
	Region       string   `json:"region"`
	ImageID      string   `json:"imageId"`
	Name         string   `json:"name"`
	Architecture string   `json:"architecture"`
	CreationDate string   `json:"creationDate"`
	RootDevice   string   `json:"rootDevice"`
	BakedBy      string   `json:"bakedBy"` // name of the execution that made it
	Volumes      []Volume `json:"volumes"` // by device
}

// Volume is one volume of an image.
type Volume struct {
	Device     string `json:"device"`
	SnapshotID string `json:"snapshotId"`
	SizeGiB    int32  `json:"sizeGiB"`
	Encrypted  bool   `json:"encrypted"`
	KMSKeyID   string `json:"kmsKeyId,omitempty"` // ARN
}

// Audience is who may launch the images, beside their owner. Lists are sorted.
type Audience struct {
	Accounts      []string `json:"accounts"`
	Organizations []string `json:"organizations"` // ARNs, of organizational units too
}

// Key is the key that signs the bundle.
type Key struct {
	ID     string `json:"id"`     // ARN in KMS
	SHA256 string `json:"sha256"` // of the public key's DER, see KeyID
}

// File is a record in the bundle.
type File struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256"`
	Size   int    `json:"size"` // bytes
}

// FilesOf describes records, by name.
func FilesOf(records Files) []File {
	out := []File{}
	for _, name := range records.Names() {
		out = append(out, File{Name: name, SHA256: digest(records[name]), Size: len(records[name])})
	}
	return out
}

// Encode returns the manifest as indented JSON: the same manifest gives the same bytes.
func (m Manifest) Encode() []byte {
	raw, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		panic(err) // only a time outside of the years 0 to 9999 has no JSON form
	}
	return append(raw, '\n')
}

// ParseManifest reads a manifest. It refuses another form than Encode writes, so that
// two readers cannot understand the same bytes differently.
func ParseManifest(raw []byte) (Manifest, error) {
	var m Manifest
	if err := decodeStrict(raw, &m); err != nil {
		return m, fmt.Errorf("it is no manifest: %w", err)
	}
	if m.Schema != ManifestSchema {
		return m, fmt.Errorf("its schema is %q, not %q", m.Schema, ManifestSchema)
	}
	if !bytes.Equal(m.Encode(), raw) {
		return m, fmt.Errorf("it is not in the form that the factory writes")
	}
	if !slices.IsSortedFunc(m.Files, func(a, b File) int { return strings.Compare(a.Name, b.Name) }) {
		return m, fmt.Errorf("its files are not sorted by name")
	}
	return m, nil
}

// Image returns the image of a region.
func (m Manifest) Image(region string) (Image, bool) {
	i := slices.IndexFunc(m.Images, func(i Image) bool { return i.Region == region })
	if i < 0 {
		return Image{}, false
	}
	return m.Images[i], true
}

// Snapshots are the ids of an image's snapshots, sorted.
func (i Image) Snapshots() []string {
	var out []string
	for _, v := range i.Volumes {
		out = append(out, v.SnapshotID)
	}
	slices.Sort(out)
	return out
}
