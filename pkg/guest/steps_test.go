package guest

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestStepsAreReadFromTheUpload(t *testing.T) {
	for sentence, tc := range map[string]struct {
		upload string
		want   Progress
	}{
		"nothing has begun": {`{"schema":1,"steps":[]}`, Progress{}},
		"one runs":          {`{"schema":1,"steps":[{"name":"hardening","status":"running"}]}`, Progress{Running: "hardening"}},
		"one is done and one runs": {
			`{"schema":1,"steps":[{"name":"hardening","status":"ok","seconds":15,"exit":0},{"name":"docker","status":"running"}]}`,
			Progress{Done: []Installed{{"hardening", true, 15 * time.Second}}, Running: "docker"},
		},
		"one failed": {
			`{"schema":1,"steps":[{"name":"docker","status":"failed","seconds":3,"exit":100}]}`,
			Progress{Done: []Installed{{"docker", false, 3 * time.Second}}},
		},
		"a name with an escape": {`{"schema":1,"steps":[{"name":"\u001b[31mred","status":"running"}]}`, Progress{Running: "red"}},
	} {
		t.Run(sentence, func(t *testing.T) {
			got, err := ReadSteps([]byte(tc.upload))
			require.NoError(t, err)
			assert.Equal(t, tc.want, got)
		})
	}
	t.Run("a long name is cut", func(t *testing.T) {
		got, err := ReadSteps([]byte(`{"schema":1,"steps":[{"name":"` + strings.Repeat("x", 500) + `","status":"running"}]}`))
		require.NoError(t, err)
		assert.LessOrEqual(t, len(got.Running), maxName)
	})
	for sentence, upload := range map[string]string{
		"no JSON": "steps", "another schema": `{"schema":2,"steps":[]}`, "other types": `{"schema":1,"steps":"all"}`,
	} {
		t.Run(sentence, func(t *testing.T) {
			_, err := ReadSteps([]byte(upload))
			assert.Error(t, err)
		})
	}
}
