package texts_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/texts"
)

func TestAListIsOneTextOrSeveral(t *testing.T) {
	for raw, want := range map[string]texts.List{`"a"`: {"a"}, `["a","b"]`: {"a", "b"}, `[]`: {}} {
		var got texts.List
		assert.NoError(t, json.Unmarshal([]byte(raw), &got), raw)
		assert.Equal(t, want, got, raw)
	}
	for _, raw := range []string{`1`, `{}`, `["a",1]`, `true`} {
		var got texts.List
		assert.ErrorContains(t, json.Unmarshal([]byte(raw), &got), "a text or a list of texts is expected", raw)
	}
}
