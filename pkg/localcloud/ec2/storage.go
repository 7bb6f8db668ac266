package ec2

import (
	"os"
	"path/filepath"

	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

const (
	instancesDir = "instances"
	imagesDir    = "images"
)

func (s *Service) instanceDir(id string) string { return filepath.Join(s.cfg.Dir, instancesDir, id) }

func (s *Service) imageDir(snapshotID string) string {
	return filepath.Join(s.cfg.Dir, imagesDir, snapshotID)
}

// releaseImageDir removes an image directory if nothing refers to it: no
// snapshot, and no instance whose disk is an overlay of it. The caller holds
// s.mu; the removal is quick enough for that.
func (s *Service) releaseImageDir(dir string) {
	if dir == "" || !s.owns(dir) {
		return
	}
	for _, sn := range s.st.Snapshots {
		if sn.ImageDir == dir {
			return
		}
	}
	for _, i := range s.st.Instances {
		if i.ImageDir == dir && i.live() {
			return
		}
	}
	s.remove(dir)
}

// releaseInstanceDir removes the directory of a terminated instance, unless an
// image is still being made from its disk.
func (s *Service) releaseInstanceDir(i *instance) {
	if i.State.Name == types.InstanceStateNameTerminated && i.captures == 0 {
		s.remove(s.instanceDir(*i.InstanceId))
		s.releaseImageDir(i.ImageDir)
	}
}

func (s *Service) owns(dir string) bool {
	return filepath.Dir(dir) == filepath.Join(s.cfg.Dir, imagesDir)
}

func (s *Service) remove(dir string) {
	if err := os.RemoveAll(dir); err != nil {
		s.cfg.Logger.Error("a directory could not be removed; remove it by hand", "dir", dir, "error", err)
	}
}

// Sweep removes instance and image directories to which no resource refers, such
// as those that a killed process left behind.
func (s *Service) Sweep() error {
	s.mu.Lock()
	defer s.unlock()
	used := map[string]bool{}
	for id, i := range s.st.Instances {
		if i.live() || i.captures > 0 {
			used[s.instanceDir(id)] = true
			used[i.ImageDir] = true
		}
	}
	for _, sn := range s.st.Snapshots {
		used[sn.ImageDir] = true
	}
	for _, kind := range []string{instancesDir, imagesDir} {
		entries, err := os.ReadDir(filepath.Join(s.cfg.Dir, kind))
		if err != nil {
			return err
		}
		for _, e := range entries {
			if dir := filepath.Join(s.cfg.Dir, kind, e.Name()); !used[dir] {
				s.remove(dir)
			}
		}
	}
	return nil
}
