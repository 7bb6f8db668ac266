package lambda

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
)

// saved is the saved form of a function.
type saved struct {
	Key           scope.Key
	Configuration configuration
}

// Snapshot implements wire.Stateful. It leaves out functions of Deploy, which
// must be deployed again.
func (s *Service) Snapshot() (json.RawMessage, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := []saved{}
	for k := range s.functions {
		for _, name := range s.names(k) {
			f := s.functions[k][name]
			if !f.config.Owned {
				continue
			}
			c := f.config
			c.Reserved = f.reserved()
			c.Dir = filepath.Base(c.Dir) // the service's folder may move
			all = append(all, saved{Key: k, Configuration: c})
		}
	}
	slices.SortFunc(all, func(a, b saved) int { return strings.Compare(a.Configuration.ARN, b.Configuration.ARN) })
	return json.Marshal(all)
}

// Restore implements wire.Stateful. A function whose code is missing is an
// error.
func (s *Service) Restore(raw json.RawMessage) error {
	var all []saved
	if err := json.Unmarshal(raw, &all); err != nil {
		return fmt.Errorf("restore Lambda: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range all {
		c := one.Configuration
		dir, err := filepath.Abs(filepath.Join(s.home(one.Key, c.Name), c.Dir))
		if err != nil {
			return fmt.Errorf("restore the function %s: %w", c.ARN, err)
		}
		if _, err := os.Stat(dir); err != nil {
			return fmt.Errorf("restore the function %s: its code is missing: %w", c.ARN, err)
		}
		c.Dir = dir
		modified, revision := c.Modified, c.Revision
		f := s.replace(one.Key, s.functions[one.Key][c.Name], c)
		f.config.Modified, f.config.Revision = modified, revision
	}
	return nil
}
