package rehearsal

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/simulated"
)

// SimulatedGuest answers the factory's own scripts in place of a guest. It
// fetches and uploads what a guest would, so that addresses and digests are
// proved, and looks at nothing: whatever it yields is labelled simulated.
type SimulatedGuest struct {
	Clock     clock.Clock
	AWS       func() http.Handler // what guests reach as localcloud.internal
	Boot      time.Duration       // from power-on until the guest answers
	Provision time.Duration       // that cloud-init and the components take in a builder
	Check     time.Duration       // that the checks take in a verifier

	// FailComponent makes this component's install script fail.
	FailComponent string
	// FailControls are the controls that do not hold.
	FailControls []string
	// Disk stands for the disk of every image that is baked; nil: one that has
	// everything that the rules of the components demand.
	Disk []byte
	// Faults decides what goes wrong with a machine itself; nil: nothing.
	Faults func(vm.Launch) simulated.Faults
}

// Respond implements simulated.Responder.
func (g *SimulatedGuest) Respond(ctx context.Context, in vm.Launch, cmd vm.Command) vm.Result {
	script := strings.Join(cmd.Argv, " ") + "\n" + string(cmd.Stdin)
	var out string
	var err error
	switch {
	case strings.Contains(script, "cloud-init status --wait"):
		out, err = g.boot(ctx, in)
	case strings.Contains(script, "seal/arm.sh"):
		out = `{"armed":true}`
	case strings.Contains(script, "RESULTS_PUT_URL="):
		out, err = g.check(ctx, script)
	default:
		err = fmt.Errorf("the simulated guest knows no answer to: %.200s", script)
	}
	if err != nil {
		return vm.Result{ExitCode: 1, Stderr: []byte(err.Error() + "\n")}
	}
	return vm.Result{Stdout: []byte(out + "\n")}
}

func (g *SimulatedGuest) boot(ctx context.Context, in vm.Launch) (string, error) {
	status := `{"status":"done","errors":[]}`
	system := func() string {
		return fmt.Sprintf(`{"systemState":"running","failedUnits":"","finished":%d}`, g.Clock.Now().Unix())
	}
	if !hasUserData(in.Metadata) {
		return status + "\n" + system(), nil
	}
	if err := g.Clock.Sleep(ctx, g.Provision); err != nil {
		return "", err
	}
	provision := map[string]any{"status": "ok", "components": []any{}}
	if g.FailComponent != "" {
		status = `{"status":"error","errors":["simulated"]}`
		provision["status"] = "failed"
		provision["failed"] = map[string]any{
			"component": g.FailComponent, "exit": 1, "line": 1, "command": "false",
			"logTail": []byte("simulated failure of " + g.FailComponent + "\n"),
		}
	}
	b, err := json.Marshal(provision)
	return status + "\n" + string(b) + "\n" + system(), err
}

// hasUserData asks the instance's metadata, as cloud-init does.
func hasUserData(metadata http.Handler) bool {
	if metadata == nil {
		return false
	}
	const base = "http://169.254.169.254/latest/"
	put := httptest.NewRequest(http.MethodPut, base+"api/token", nil)
	put.Header.Set("X-aws-ec2-metadata-token-ttl-seconds", "60")
	token := httptest.NewRecorder()
	metadata.ServeHTTP(token, put)
	get := httptest.NewRequest(http.MethodGet, base+"user-data", nil)
	get.Header.Set("X-aws-ec2-metadata-token", token.Body.String())
	data := httptest.NewRecorder()
	metadata.ServeHTTP(data, get)
	return data.Code == http.StatusOK && data.Body.Len() > 0
}

var exported = regexp.MustCompile(`(?m)^export ([A-Z0-9_]+)='([^']*)'$`)

func (g *SimulatedGuest) check(ctx context.Context, script string) (string, error) {
	env := map[string]string{}
	for _, m := range exported.FindAllStringSubmatch(script, -1) {
		env[m[1]] = m[2]
	}
	if _, err := g.fetch(ctx, env["GOSS_URL"], env["GOSS_SHA256"]); err != nil {
		return "", err
	}
	checks, err := g.fetch(ctx, env["CHECKS_URL"], env["CHECKS_SHA256"])
	if err != nil {
		return "", err
	}
	if err := g.Clock.Sleep(ctx, g.Check); err != nil {
		return "", err
	}
	failing := map[string]bool{}
	for _, c := range g.FailControls {
		failing[c] = true
	}
	results, err := compliance.Simulate(checks, func(c string) bool { return failing[c] })
	if err != nil {
		return "", err
	}
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	if _, err := zip.Write(results); err != nil {
		return "", err
	}
	if err := zip.Close(); err != nil {
		return "", err
	}
	if _, err := g.do(ctx, http.MethodPut, env["RESULTS_PUT_URL"], packed.Bytes()); err != nil {
		return "", err
	}
	return fmt.Sprintf(`{"sha256":%q,"bytes":%d,"gossExit":%d}`, sha(packed.Bytes()), packed.Len(), min(1, len(failing))), nil
}

func (g *SimulatedGuest) fetch(ctx context.Context, url, want string) ([]byte, error) {
	body, err := g.do(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	if got := sha(body); got != want {
		return nil, fmt.Errorf("%.80s has SHA-256 %s, expected %s", url, got, want)
	}
	return body, nil
}

func (g *SimulatedGuest) do(ctx context.Context, method, url string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	// A request as a server sees it has these, and no scheme in its URL.
	req.RequestURI, req.RemoteAddr = req.URL.RequestURI(), "172.31.0.2:1024"
	req.Header.Set("Content-Length", strconv.Itoa(len(body)))
	if method == http.MethodPut { // as run-checks.sh does: addresses take one upload
		req.Header.Set("If-None-Match", "*")
	}
	answer := httptest.NewRecorder()
	g.AWS().ServeHTTP(answer, req)
	got, err := io.ReadAll(answer.Result().Body)
	if err != nil {
		return nil, err
	}
	if answer.Code >= 300 {
		return nil, fmt.Errorf("%s %.80s: HTTP %d: %.300s", method, url, answer.Code, got)
	}
	return got, nil
}

func sha(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
