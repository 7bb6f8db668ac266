package guests

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/component"
)

func TestOnlyWhatThereIsIsPointedToTheStandIns(t *testing.T) {
	s, err := NewStandIns("")
	require.NoError(t, err)
	parameters := func(names ...string) string {
		text := "parameters:\n"
		for _, n := range names {
			text += "  " + n + ": {type: string, default: x, description: d}\n"
		}
		return text
	}
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	const head = "description: d\nfamilies: [debian-12]\norder: 1\n"
	fsys := fstest.MapFS{
		"components/chef/component.yaml":             file("name: chef\n" + head + parameters("repository", "version", "distribution")),
		"components/cloudwatch-agent/component.yaml": file("name: cloudwatch-agent\n" + head + parameters("keyUrl", "configParameter")),
		"components/docker/component.yaml":           file("name: docker\n" + head + parameters("repository", "version")),
	}
	got, err := s.Parameters(fsys, component.Deployment{"chef": {"version": "mine"}, "docker": {"version": "2"}})
	require.NoError(t, err)
	assert.Equal(t, component.Deployment{
		"chef":             {"repository!": "http://vendors.localcloud.internal/apt/cinc", "version": "mine", "distribution!": "cinc"},
		"cloudwatch-agent": {"keyUrl!": "http://vendors.localcloud.internal/keys/amazon.asc", "configParameter!": "/ami-factory/agents/cloudwatch"},
		"docker":           {"version": "2"},
	}, got)
}

func TestGuestsReachTheStandIns(t *testing.T) {
	s, err := NewStandIns("")
	require.NoError(t, err)
	w := httptest.NewRecorder()
	s.hosts()[vendorsHost].ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/apt/newrelic/dists/bookworm/InRelease", nil))
	assert.Equal(t, 200, w.Code)
	assert.Empty(t, (*StandIns)(nil).hosts(), "there are none")
}
