package persist_test

import (
	"errors"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/persist"
)

func TestAStateIsReadAsItWasWritten(t *testing.T) {
	var mu sync.Mutex
	state := map[string]int{"a": 1}
	raw, err := persist.Snapshot(&mu, &state)
	require.NoError(t, err)
	var got map[string]int
	require.NoError(t, persist.Restore(&mu, "Things", raw, &got, func(m map[string]int) error {
		m["b"] = 2
		return nil
	}))
	assert.Equal(t, map[string]int{"a": 1, "b": 2}, got)
}

func TestAStateThatCannotBeReadChangesNothing(t *testing.T) {
	var mu sync.Mutex
	state := map[string]int{"a": 1}
	require.ErrorContains(t, persist.Restore(&mu, "Things", []byte(`[]`), &state, nil), "restoring Things: ")
	require.EqualError(t, persist.Restore(&mu, "Things", []byte(`{}`), &state, func(map[string]int) error { return errors.New("no") }), "restoring Things: no")
	assert.Equal(t, map[string]int{"a": 1}, state)
}
