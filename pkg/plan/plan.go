// Package plan turns a recipe and a resolved source image into everything a
// build needs, without a network: the same input gives the same bytes.
package plan

import (
	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/recipe"
)

// BuildPlan is one build, complete. It is stored in S3 by the resolve stage and
// read by every later one.
type BuildPlan struct {
	Recipe         recipe.Recipe        `json:"recipe"`
	Source         SourceImage          `json:"source"`
	Fingerprint    string               `json:"fingerprint"` // sha256 hex of source id, recipe, components and factory version
	FactoryVersion string               `json:"factoryVersion"`
	ImageName      string               `json:"imageName"` // <recipe>-<fingerprint, 12 digits>-<time of the execution, UTC>, see Name
	UserData       string               `json:"userData"`  // cloud-init MIME; holds Placeholders the launch stage fills in
	Bundle         Bundle               `json:"bundle"`
	Checks         []byte               `json:"checks"` // the compiled goss file of all controls
	Controls       []compliance.Control `json:"controls"`
}

// SourceImage is the base AMI as it was resolved.
type SourceImage struct {
	ImageID      string `json:"imageId"`
	Name         string `json:"name"`
	OwnerID      string `json:"ownerId"`
	Architecture string `json:"architecture"`
	RootDevice   string `json:"rootDevice"` // device name, such as /dev/xvda
	CreationDate string `json:"creationDate"`
}

// Bundle is the archive of component files that the builder fetches by digest.
type Bundle struct {
	SHA256 string `json:"sha256"`
	Size   int    `json:"size"` // bytes of the gzipped tar
}
