// Package provision renders a provisioner's spec into user data for RunInstances: a MIME
// archive for cloud-init, or Bottlerocket's TOML. It is pure: the same spec gives the same
// bytes.
package provision

import (
	"fmt"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/userdata/multipart"
	"github.com/ami-factory/ami-factory/pkg/userdata/spec"
)

// The files in which a first boot keeps its state in the instance.
const (
	State  = "/var/lib/ami-factory-userdata"
	Result = State + "/result.json"
	reboot = "/run/ami-factory-userdata.reboot"
)

// Step is one action of a first boot, which result.json reports.
type Step struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
	// Must means that the first boot fails if this step fails. A mount may fail.
	Must bool `json:"must"`
}

// UserData is the user data of an instance.
type UserData struct {
	Format string // one of the formats of package spec
	Data   []byte // before base64
	Steps  []Step // empty for Bottlerocket, which has no script

	// CloudConfig and Script are the parts of Data. They are empty for Bottlerocket.
	CloudConfig, Script string
	// NodeConfig is the part for nodeadm. It is empty without an EKS cluster.
	NodeConfig string
}

// SizeError reports that user data is too large.
type SizeError struct {
	Size int // bytes, compressed if that is smaller
}

func (e *SizeError) Error() string {
	return fmt.Sprintf("the user data would be %d bytes, but EC2 takes at most %d: put long files and scripts into the image or into S3, and fetch them by a command",
		e.Size, multipart.MaxSize)
}

// Render returns the user data of a spec that has no problems, in a format that supports
// it. It returns a *SizeError if the user data is too large.
func Render(s *spec.Spec, format string) (UserData, error) {
	if err := s.Unfit(format).Err(); err != nil {
		return UserData{}, err
	}
	switch format {
	case spec.CloudInit:
		return renderCloudInit(s)
	case spec.BottlerocketFmt:
		return renderBottlerocket(s)
	}
	return UserData{}, fmt.Errorf("unknown format %q (allowed: %s, %s)", format, spec.CloudInit, spec.BottlerocketFmt)
}

func renderCloudInit(s *spec.Spec) (UserData, error) {
	// The guest compares only the digests of these keys.
	for _, r := range s.Repositories {
		if _, err := r.Keys(); err != nil {
			return UserData{}, fmt.Errorf("the key of repository %s does not have the fingerprint %s: %w", r.Name, strings.Join(r.AllFingerprints(), ", "), err)
		}
	}
	p := newPlan(s)
	config := p.config
	out := UserData{Format: spec.CloudInit, Steps: p.described()}
	var err error
	if out.CloudConfig, err = config.text(); err != nil {
		return out, err
	}
	out.Script = p.script()
	parts := []multipart.Part{
		{ContentType: "text/cloud-config", Name: "userdata.yaml", Body: out.CloudConfig},
		{ContentType: "text/x-shellscript", Name: "userdata.sh", Body: out.Script},
	}
	if s.EKS != nil {
		if out.NodeConfig, err = renderNodeConfig(s.EKS); err != nil {
			return out, err
		}
		parts = append(parts, multipart.Part{ContentType: nodeConfigType, Name: "nodeconfig.yaml", Body: out.NodeConfig})
	}
	text, err := multipart.Archive(parts)
	if err != nil {
		return out, err
	}
	if s.EKS != nil {
		if out.Data = []byte(text); len(text) > multipart.MaxSize {
			return out, &ReadableSizeError{len(text), multipart.MaxSize}
		}
		return out, nil
	}
	out.Data, err = multipart.Pack(text, multipart.MaxSize)
	if err != nil {
		return out, err
	}
	return out, fits(out.Data)
}

func fits(data []byte) error {
	if len(data) > multipart.MaxSize {
		return &SizeError{Size: len(data)}
	}
	return nil
}
