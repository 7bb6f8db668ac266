// Package persist writes the state of a service as JSON and reads it back: the
// common part of wire.Stateful.
package persist

import (
	"encoding/json"
	"fmt"
	"sync"
)

// Snapshot encodes the value to which state points, while it holds mu.
func Snapshot[T any](mu sync.Locker, state *T) (json.RawMessage, error) {
	mu.Lock()
	defer mu.Unlock()
	return json.Marshal(state)
}

// Restore decodes a snapshot into what state points to, under mu. complete
// prepares the decoded state before that, such as what is not written; nil:
// nothing is to be prepared. service is for errors. On an error state is unchanged.
func Restore[T any](mu sync.Locker, service string, raw json.RawMessage, state *T, complete func(T) error) error {
	var decoded T
	if err := json.Unmarshal(raw, &decoded); err != nil {
		return fmt.Errorf("restoring %s: %w", service, err)
	}
	if complete != nil {
		if err := complete(decoded); err != nil {
			return fmt.Errorf("restoring %s: %w", service, err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	*state = decoded
	return nil
}
