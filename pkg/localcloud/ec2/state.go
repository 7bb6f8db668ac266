package ec2

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// MarshalText implements encoding.TextMarshaler, for JSON map keys.
func (k imageKey) MarshalText() ([]byte, error) { return []byte(k.Region + "/" + k.ID), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (k *imageKey) UnmarshalText(text []byte) error {
	region, id, ok := strings.Cut(string(text), "/")
	if !ok {
		return fmt.Errorf("%q is not region/image id", text)
	}
	k.Region, k.ID = region, id
	return nil
}

// Snapshot implements wire.Stateful.
func (s *Service) Snapshot() (json.RawMessage, error) {
	s.mu.Lock()
	defer s.unlock()
	raw, err := json.Marshal(s.st)
	if err != nil {
		return nil, fmt.Errorf("ec2: encode state: %w", err)
	}
	return raw, nil
}

// Restore implements wire.Stateful. Machines end with their process: live
// instances become terminated, unless they were stopped and their disk still
// exists, and pending images become failed. Directories to which nothing refers
// are removed.
func (s *Service) Restore(raw json.RawMessage) error {
	st := newState()
	if err := json.Unmarshal(raw, &st); err != nil {
		return fmt.Errorf("ec2: decode state: %w", err)
	}
	s.mu.Lock()
	s.st = st
	for _, id := range slices.Sorted(maps.Keys(st.Instances)) {
		s.restoreInstance(st.Instances[id])
	}
	for _, key := range sortedImageKeys(st.Images) {
		s.restoreImage(key, st.Images[key])
	}
	s.unlock()
	return s.Sweep()
}

func (s *Service) restoreInstance(i *instance) {
	i.setPublic("")
	switch i.State.Name {
	case types.InstanceStateNameTerminated:
		return
	case types.InstanceStateNameStopped:
		if _, err := os.Stat(s.instanceDir(*i.InstanceId)); err == nil {
			return
		}
	}
	i.StateReason = serverFault(errClosed.Error())
	s.terminated(i)
}

// restoreImage sets the state of a restored image. Base images without data are
// forgotten, because they are registered again.
func (s *Service) restoreImage(key imageKey, im *image) {
	sn := s.st.Snapshots[im.rootSnapshot()]
	if im.State == types.ImageStatePending {
		if sn != nil {
			s.finishImage(im, sn, errCutOff)
			sn.ImageDir = ""
		}
		return
	}
	if sn == nil || im.State != types.ImageStateAvailable {
		return
	}
	if _, err := os.Stat(sn.ImageDir); err == nil {
		return
	}
	if sn.External {
		delete(s.st.Images, key)
		delete(s.st.Snapshots, *sn.SnapshotId)
		return
	}
	im.State, im.StateReason = types.ImageStateFailed, serverFault("the image's data does not exist any more: "+sn.ImageDir)
}

func sortedImageKeys(images map[imageKey]*image) []imageKey {
	return slices.SortedFunc(maps.Keys(images), func(a, b imageKey) int {
		return strings.Compare(a.Region+"/"+a.ID, b.Region+"/"+b.ID)
	})
}
