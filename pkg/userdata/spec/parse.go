package spec

import (
	"fmt"
	"io/fs"

	"github.com/ami-factory/ami-factory/pkg/problem"
	"github.com/ami-factory/ami-factory/pkg/strictyaml"
)

// Defaults of optional fields.
const (
	DefaultTimeout        = 30  // seconds, of a mount
	DefaultCommandTimeout = 600 // seconds
	DefaultServiceTimeout = 300 // seconds, of each unit
	DefaultStopGrace      = 30  // seconds
	DefaultHealthWait     = 60  // seconds
	DefaultMode           = "0644"
	DefaultOwner          = "root:root"
)

// Parse reads a spec strictly, applies the defaults and checks it against the rules of the
// golden image. It reads the settings of the hardening from the components in userdata, a
// folder with the layout of the project's. The spec is never nil. If the problems contain
// errors, it must not be rendered. The error is about userdata.
//
// If an image is given, the spec is checked against the components of this image and their
// parameters, instead of against those of all possible images.
func Parse(file string, data []byte, userdata fs.FS, of *Image) (*Spec, problem.List, error) {
	s := &Spec{}
	doc, problems := strictyaml.Decode(file, data, s)
	s.doc = doc
	s.applyDefaults()
	image, err := readImage(userdata, s.Family, of)
	if err != nil {
		return nil, nil, fmt.Errorf("read what the hardening sets: %w", err)
	}
	c := checker{spec: s, image: image}
	if c.accounts, err = accountsOf(s.Family, userdata, of); err != nil {
		return nil, nil, fmt.Errorf("read which accounts components make: %w", err)
	}
	c.check()
	return s, append(problems, c.problems...).Sort(), nil
}

// Problem returns an error about the value at a path such as users[0].name.
func (s *Spec) Problem(at, allowed, format string, args ...any) problem.Problem {
	return s.doc.Problem(at, allowed, format, args...)
}

// Has reports whether the file has a value at a path. Defaults are not in the file.
func (s *Spec) Has(at string) bool { return s.doc.Has(at) }

// File returns the name of the file from which the spec was parsed.
func (s *Spec) File() string { return s.doc.File() }

func (s *Spec) applyDefaults() {
	for i := range s.Mounts.EFS {
		e, at := &s.Mounts.EFS[i], strictyaml.Index("mounts.efs", i)
		fill(s, at+".path", &e.Path, "/")
		fill(s, at+".transport", &e.Transport, "efs-utils")
		fill(s, at+".timeoutSeconds", &e.TimeoutSeconds, DefaultTimeout)
		if e.IAM == nil {
			e.IAM = new(e.Transport == "efs-utils")
		}
	}
	for i := range s.Mounts.Volumes {
		v, at := &s.Mounts.Volumes[i], strictyaml.Index("mounts.volumes", i)
		fill(s, at+".fileSystem", &v.FileSystem, "ext4")
		fill(s, at+".timeoutSeconds", &v.TimeoutSeconds, DefaultTimeout)
	}
	for i := range s.Files {
		f, at := &s.Files[i], strictyaml.Index("files", i)
		fill(s, at+".mode", &f.Mode, DefaultMode)
		fill(s, at+".owner", &f.Owner, DefaultOwner)
	}
	fill(s, "services.timeoutSeconds", &s.Services.TimeoutSeconds, DefaultServiceTimeout)
	for i := range s.Commands {
		fill(s, strictyaml.Index("commands", i)+".timeoutSeconds", &s.Commands[i].TimeoutSeconds, DefaultCommandTimeout)
	}
	for i := range s.Containers {
		c, at := &s.Containers[i], strictyaml.Index("containers", i)
		fill(s, at+".stopGraceSeconds", &c.StopGraceSeconds, DefaultStopGrace)
		if c.Health.Port != 0 {
			fill(s, at+".health.path", &c.Health.Path, "/")
			fill(s, at+".health.waitSeconds", &c.Health.WaitSeconds, DefaultHealthWait)
		}
	}
	for i := range s.Users {
		u := &s.Users[i]
		shell := "/bin/bash"
		if u.System {
			shell = "/usr/sbin/nologin"
		}
		fill(s, strictyaml.Index("users", i)+".shell", &u.Shell, shell)
	}
}

// fill does not change values of the file, even wrong ones, so that each is reported once.
func fill[T any](s *Spec, at string, target *T, value T) {
	if !s.doc.Has(at) {
		*target = value
	}
}
