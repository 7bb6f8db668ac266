package guests

import (
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
)

func simGuest(aws http.HandlerFunc) *Simulated {
	return &Simulated{
		Clock: clock.NewVirtual(time.Unix(0, 0)), AWS: func() http.Handler { return aws }, Provision: time.Minute,
	}
}

func bash(script string) vm.Command {
	return vm.Command{Argv: []string{"bash", "-s"}, Stdin: []byte(script)}
}

func TestASimulatedAnswersTheFactorysScriptsOnly(t *testing.T) {
	g := simGuest(nil)
	assert.JSONEq(t, `{"armed":true}`, string(g.Respond(t.Context(), vm.Launch{}, bash("bash /x/seal/arm.sh")).Stdout))
	r := g.Respond(t.Context(), vm.Launch{}, bash("rm -rf /"))
	assert.Equal(t, 1, r.ExitCode)
	assert.Contains(t, string(r.Stderr), "knows no answer to")
}

func TestASimulatedBuilderProvisionsAndAVerifierDoesNot(t *testing.T) {
	withData := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "data") })
	g := simGuest(nil)
	start := g.Clock.Now()
	r := g.Respond(t.Context(), vm.Launch{}, bash("cloud-init status --wait"))
	assert.NotContains(t, string(r.Stdout), "components")
	assert.Equal(t, start, g.Clock.Now(), "a verifier has nothing to provision")
	r = g.Respond(t.Context(), vm.Launch{Metadata: withData}, bash("cloud-init status --wait"))
	assert.Contains(t, string(r.Stdout), `"components":[]`)
	assert.Equal(t, time.Minute, g.Clock.Now().Sub(start))
	g.FailComponent = "docker"
	r = g.Respond(t.Context(), vm.Launch{Metadata: withData}, bash("cloud-init status --wait"))
	assert.Contains(t, string(r.Stdout), `"component":"docker"`)
	assert.Contains(t, string(r.Stdout), `"status":"failed"`)
}

func TestASimulatedVerifierProvesAddressesAndDigests(t *testing.T) {
	script := "export GOSS_URL='http://localcloud.internal/b/goss'\nexport GOSS_SHA256='00'\nexport RESULTS_PUT_URL='http://localcloud.internal/b/r'\n"
	r := simGuest(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "goss") }).
		Respond(t.Context(), vm.Launch{}, bash(script))
	assert.Equal(t, 1, r.ExitCode)
	assert.Contains(t, string(r.Stderr), "expected 00")
	r = simGuest(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "expired", http.StatusForbidden) }).
		Respond(t.Context(), vm.Launch{}, bash(script))
	assert.Equal(t, 1, r.ExitCode)
	assert.Contains(t, string(r.Stderr), "HTTP 403: expired")
}
