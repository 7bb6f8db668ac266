// Package provision renders a provisioner's spec into the user data that
// RunInstances takes: a MIME archive for cloud-init, or Bottlerocket's TOML. It
// is pure: the same spec gives the same bytes.
package provision

import (
	"fmt"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/userdata/multipart"
	"github.com/ami-factory/ami-factory/pkg/userdata/spec"
)

// Where a first boot keeps its state in the instance.
const (
	State  = "/var/lib/ami-factory-userdata"
	Result = State + "/result.json"
	reboot = "/run/ami-factory-userdata.reboot"
)

// Step is one thing that a first boot does and reports in result.json.
type Step struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
	// Must says that the first boot has failed when it does; a mount may fail.
	Must bool `json:"must"`
}

// UserData is what an instance is launched with.
type UserData struct {
	Format string // of spec's formats
	Data   []byte // before base64
	Steps  []Step // none for Bottlerocket, which has no script

	// CloudConfig and Script are the parts of Data; empty for Bottlerocket.
	CloudConfig, Script string
	// NodeConfig is the part for nodeadm; empty without a cluster of EKS.
	NodeConfig string
}

// SizeError says that user data does not fit.
type SizeError struct {
	Size int // bytes it would take, compressed if that helps
}

func (e *SizeError) Error() string {
	return fmt.Sprintf("the user data would be %d bytes, but EC2 takes at most %d: put long files and scripts into the image or into S3, and fetch them by a command",
		e.Size, multipart.MaxSize)
}

// Render makes the user data of a spec without problems, in a format that it
// fits. It returns a *SizeError when there is too much of it.
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
	return UserData{}, fmt.Errorf("format %q is not known (allowed: %s, %s)", format, spec.CloudInit, spec.BottlerocketFmt)
}

func renderCloudInit(s *spec.Spec) (UserData, error) {
	// The guest is told the digests of these keys, and asks no more.
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
