package guests

import (
	"archive/tar"
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
	"unicode/utf8"

	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/evidence/inventory"
	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/simulated"
)

// Simulated answers the factory's own scripts in place of a guest. It
// fetches and uploads what a guest would, so that addresses and digests are
// proved, and looks at nothing: whatever it yields is labelled simulated.
type Simulated struct {
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
func (g *Simulated) Respond(ctx context.Context, in vm.Launch, cmd vm.Command) vm.Result {
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

func (g *Simulated) boot(ctx context.Context, in vm.Launch) (string, error) {
	if len(userDataOf(in.Metadata)) == 0 {
		return `{"status":"done","errors":[]}` + "\n" + g.system(), nil
	}
	if err := g.Clock.Sleep(ctx, g.Provision); err != nil {
		return "", err
	}
	status, provision := g.provisioned(nil)
	return string(status) + "\n" + string(provision) + "\n" + g.system(), nil
}

// system is what systemd of a guest says in which nothing fails.
func (g *Simulated) system() string {
	return fmt.Sprintf(`{"systemState":"running","failedUnits":"","finished":%d}`, g.Clock.Now().Unix())
}

// simulatedStep is a component in the words of the component runner.
type simulatedStep struct {
	Name    string `json:"name"`
	Status  string `json:"status"`
	Seconds int    `json:"seconds"`
	Exit    int    `json:"exit"`
}

// provisioned is cloud-init's status, and what the component runner writes when it
// ends.
func (g *Simulated) provisioned(done []simulatedStep) (status, provision json.RawMessage) {
	if done == nil {
		done = []simulatedStep{}
	}
	status = json.RawMessage(`{"status":"done","errors":[]}`)
	said := map[string]any{"status": "ok", "components": done}
	if g.FailComponent != "" {
		status = json.RawMessage(`{"status":"error","errors":["simulated"]}`)
		said["status"] = "failed"
		said["failed"] = map[string]any{
			"component": g.FailComponent, "exit": 1, "line": 1, "command": "false",
			"logTail": []byte("simulated failure of " + g.FailComponent + "\n"),
		}
	}
	provision, err := json.Marshal(said)
	if err != nil {
		panic(err) // texts and numbers can be encoded
	}
	return status, provision
}

// Run implements simulated.Options.Run. A builder fetches its bundle and uploads its
// steps and how they ended, by the addresses in its user data; any other guest does
// nothing. An upload that fails is no failure: the factory then asks over SSM.
func (g *Simulated) Run(ctx context.Context, in vm.Launch) {
	to := map[string]string{}
	for _, m := range assigned.FindAllStringSubmatch(string(userDataOf(in.Metadata)), -1) {
		to[m[1]] = m[2]
		if m[3] != "" {
			to[m[1]] += to["session"]
		}
	}
	if to["verdict"] == "" {
		return
	}
	names, err := g.components(ctx, to["url"], to["sha256"])
	if err != nil {
		return // the guest has no bundle to install, and so nothing to report
	}
	var done []simulatedStep
	for i, name := range names {
		g.uploadSteps(ctx, to, append(done, simulatedStep{Name: name, Status: "running"}))
		took := g.Provision*time.Duration(i+1)/time.Duration(len(names)) - g.Provision*time.Duration(i)/time.Duration(len(names))
		if g.Clock.Sleep(ctx, took) != nil {
			return // the machine is gone
		}
		step := simulatedStep{Name: name, Status: "ok", Seconds: int(took.Seconds())}
		if name == g.FailComponent {
			step.Status, step.Exit = "failed", 1
		}
		done = append(done, step)
		g.uploadSteps(ctx, to, done)
		if step.Exit != 0 {
			break
		}
	}
	status, provision := g.provisioned(done)
	verdict := fmt.Sprintf(`{"schema":1,"cloudInit":%s,"provision":%s,"system":%s}`, status, provision, g.system())
	_, _ = g.do(ctx, http.MethodPut, to["verdict"], filled(verdict, to["upload"]), true)
}

// filled is a JSON text with spaces up to the size that the addresses of a builder take.
func filled(text, size string) []byte {
	n, err := strconv.Atoi(size)
	if err != nil {
		panic(err) // the factory wrote it into the user data
	}
	return fmt.Appendf(nil, "%-*s", n-len(text)+utf8.RuneCountInString(text), text) // the width counts runes
}

// uploadSteps uploads the steps, by the variables of the bootstrap.
func (g *Simulated) uploadSteps(ctx context.Context, to map[string]string, steps []simulatedStep) {
	body, err := json.Marshal(map[string]any{"schema": 1, "steps": steps})
	if err != nil {
		panic(err) // texts and numbers can be encoded
	}
	_, _ = g.do(ctx, http.MethodPut, to["steps"], filled(string(body), to["upload"]), false)
}

// components are the names of a bundle's components, in the order of their
// installation.
func (g *Simulated) components(ctx context.Context, url, sha256 string) ([]string, error) {
	bundle, err := g.fetch(ctx, url, sha256)
	if err != nil {
		return nil, err
	}
	unzipped, err := gzip.NewReader(bytes.NewReader(bundle))
	if err != nil {
		return nil, err
	}
	files := tar.NewReader(unzipped)
	for {
		file, err := files.Next()
		if err != nil {
			return nil, err // at the end: there is no manifest
		}
		if file.Name != "manifest.json" {
			continue
		}
		var manifest struct{ Components []struct{ Name string } }
		if err := json.NewDecoder(files).Decode(&manifest); err != nil {
			return nil, err
		}
		var names []string
		for _, c := range manifest.Components {
			names = append(names, c.Name)
		}
		return names, nil
	}
}

// assigned are the values of the bootstrap's variables. Those of addresses go on with
// what they have in common.
var assigned = regexp.MustCompile(`(?m)^([a-z0-9_]+)='([^']*)'(\$session)?$`)

// userDataOf asks the instance's metadata for its user data, as cloud-init does, and
// unpacks it; empty without any.
func userDataOf(metadata http.Handler) []byte {
	if metadata == nil {
		return nil
	}
	const base = "http://169.254.169.254/latest/"
	put := httptest.NewRequest(http.MethodPut, base+"api/token", nil)
	put.Header.Set("X-aws-ec2-metadata-token-ttl-seconds", "60")
	token := httptest.NewRecorder()
	metadata.ServeHTTP(token, put)
	get := httptest.NewRequest(http.MethodGet, base+"user-data", nil)
	get.Header.Set("X-aws-ec2-metadata-token", token.Body.String())
	answer := httptest.NewRecorder()
	metadata.ServeHTTP(answer, get)
	if answer.Code != http.StatusOK {
		return nil
	}
	data := answer.Body.Bytes()
	if unzipped, err := gzip.NewReader(bytes.NewReader(data)); err == nil {
		if plain, err := io.ReadAll(unzipped); err == nil {
			return plain
		}
	}
	return data
}

var exported = regexp.MustCompile(`(?m)^export ([A-Z0-9_]+)='([^']*)'$`)

func (g *Simulated) check(ctx context.Context, script string) (string, error) {
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
	sum, size, err := g.upload(ctx, env["RESULTS_PUT_URL"], results)
	if err != nil {
		return "", err
	}
	inventorySum, inventorySize, err := g.upload(ctx, env["INVENTORY_PUT_URL"], inventory.Simulated())
	if err != nil {
		return "", err
	}
	engines, err := g.engines(ctx, env, func(c string) bool { return failing[c] })
	if err != nil {
		return "", err
	}
	return fmt.Sprintf(`{"sha256":%q,"bytes":%d,"gossExit":%d,"inventory":{"sha256":%q,"bytes":%d},"engines":%s}`,
		sum, size, min(1, len(failing)), inventorySum, inventorySize, engines), nil
}

// engines answers for the engines beside goss, and returns the digests of what it
// uploaded, as JSON.
func (g *Simulated) engines(ctx context.Context, env map[string]string, failing func(string) bool) ([]byte, error) {
	announced := map[string]string{}
	for _, name := range []string{compliance.EngineScript, compliance.EngineOpenSCAP, compliance.EngineBottlerocket} {
		url := env[strings.ToUpper(name)+"_RESULTS_PUT_URL"]
		if url == "" {
			continue
		}
		for key, address := range env { // what a guest would fetch first
			if what, ok := strings.CutPrefix(key, strings.ToUpper(name)+"_"); ok && strings.Contains(what, "URL") && !strings.Contains(what, "PUT") {
				if _, err := g.fetch(ctx, address, env[strings.Replace(key, "URL", "SHA256", 1)]); err != nil {
					return nil, err
				}
			}
		}
		packed, err := compliance.SimulateEngine(name, env, failing)
		if err != nil {
			return nil, err
		}
		if _, err := g.do(ctx, http.MethodPut, url, packed, true); err != nil {
			return nil, err
		}
		announced[name] = sha(packed)
	}
	return json.Marshal(announced)
}

// upload packs a body, sends it to an address that takes one upload, and returns its
// digest and size.
func (g *Simulated) upload(ctx context.Context, url string, body []byte) (string, int, error) {
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	if _, err := zip.Write(body); err != nil {
		return "", 0, err
	}
	if err := zip.Close(); err != nil {
		return "", 0, err
	}
	_, err := g.do(ctx, http.MethodPut, url, packed.Bytes(), true)
	return sha(packed.Bytes()), packed.Len(), err
}

func (g *Simulated) fetch(ctx context.Context, url, want string) ([]byte, error) {
	body, err := g.do(ctx, http.MethodGet, url, nil, false)
	if err != nil {
		return nil, err
	}
	if got := sha(body); got != want {
		return nil, fmt.Errorf("%.80s has SHA-256 %s, expected %s", url, got, want)
	}
	return body, nil
}

// do makes a request to the embedded AWS. An address that takes one upload has the
// header for that signed.
func (g *Simulated) do(ctx context.Context, method, url string, body []byte, once bool) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	// A request as a server sees it has these, and no scheme in its URL.
	req.RequestURI, req.RemoteAddr = req.URL.RequestURI(), "172.31.0.2:1024"
	req.Header.Set("Content-Length", strconv.Itoa(len(body)))
	if once {
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
