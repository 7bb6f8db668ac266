package userdata_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/contract"
)

// uploads is an S3 that takes what a builder reports. Its answers to the requests for
// a path are given in order; after them it takes everything.
type uploads struct {
	mu      sync.Mutex
	answers map[string][]int
	got     map[string][]string // bodies that were taken, by path
	tries   map[string]int
	once    map[string]bool
}

func (u *uploads) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.tries[r.URL.Path]++
	u.once[r.URL.Path] = r.Header.Get("If-None-Match") == "*"
	body, err := io.ReadAll(r.Body)
	if r.Method != http.MethodPut || err != nil || r.URL.RawQuery != "X-Amz-Signature=secret" {
		http.Error(w, "not what was signed", http.StatusForbidden)
		return
	}
	if r.ContentLength != contract.BuilderUploadBytes || int64(len(body)) != r.ContentLength {
		http.Error(w, "not the size that was signed", http.StatusForbidden)
		return
	}
	if next := u.answers[r.URL.Path]; len(next) > 0 {
		u.answers[r.URL.Path] = next[1:]
		if next[0] != http.StatusOK {
			w.WriteHeader(next[0])
			return
		}
	}
	u.got[r.URL.Path] = append(u.got[r.URL.Path], string(body))
}

// reporter runs report.sh with a state directory and with stand-ins for programs.
type reporter struct {
	dir    string
	server *uploads
}

const (
	cloudInitDone  = `printf '{\n  "status": "done",\n  "errors": []\n}\n'`
	provisionedOK  = `{"status":"ok","components":[{"name":"a","status":"ok","seconds":3,"exit":0}]}`
	provisionedNot = `{"status":"failed","components":[],"failed":{"component":"a","exit":7,"line":3,"command":"false","logTail":""}}`
)

func newReporter(t *testing.T, provision string) reporter {
	t.Helper()
	for _, tool := range []string{"bash", "curl", "flock", "python3"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed, and report.sh needs it", tool)
		}
	}
	r := reporter{dir: t.TempDir(), server: &uploads{answers: map[string][]int{}, got: map[string][]string{}, tries: map[string]int{}, once: map[string]bool{}}}
	web := httptest.NewServer(r.server)
	t.Cleanup(web.Close)
	r.addresses(t, web.URL)
	if provision != "" {
		r.write(t, "provision.json", provision+"\n")
	}
	r.program(t, "cloud-init", cloudInitDone)
	r.program(t, "systemctl", `if [[ $1 == is-system-running ]]; then echo degraded; exit 1; fi; echo "a.service loaded failed failed A"`)
	r.program(t, "sleep", "")
	return r
}

// addresses says where to upload.
func (r reporter) addresses(t *testing.T, url string) {
	t.Helper()
	r.write(t, "uploads", url+"/verdict?X-Amz-Signature=secret\n"+url+"/steps?X-Amz-Signature=secret\n"+strconv.Itoa(contract.BuilderUploadBytes)+"\n")
}

func (r reporter) write(t *testing.T, name, content string) {
	t.Helper()
	file := filepath.Join(r.dir, name)
	require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o750))
	require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
}

// program puts a program before this machine's own.
func (r reporter) program(t *testing.T, name, script string) {
	t.Helper()
	r.write(t, "bin/"+name, "#!/bin/bash\n"+script+"\n")
	require.NoError(t, os.Chmod(filepath.Join(r.dir, "bin", name), 0o700))
}

// run runs report.sh and returns what it printed. It ends well whatever happens.
func (r reporter) run(t *testing.T, command string, more ...string) string {
	t.Helper()
	c := exec.CommandContext(t.Context(), "bash", "runner/report.sh", command)
	c.Env = append(os.Environ(), append([]string{
		"AMI_FACTORY_STATE_DIR=" + r.dir, "AMI_FACTORY_BOOT_SCRIPTS=" + filepath.Join(r.dir, "per-boot"), "AMI_FACTORY_REPORT_TRIES=3",
		"AMI_FACTORY_CLOUD_CONFIG=" + filepath.Join(r.dir, "cloud-config.txt"),
		"PATH=" + filepath.Join(r.dir, "bin") + ":" + os.Getenv("PATH"), "no_proxy=*", "NO_PROXY=*",
	}, more...)...)
	output, err := c.CombinedOutput()
	require.NoError(t, err, "%s", output)
	assert.NotContains(t, string(output), "secret", "an address is a credential")
	return string(output)
}

// report is what is uploaded as the verdict.
type report struct {
	Schema    int
	CloudInit *struct{ Status string }
	Provision *provision
	System    *struct {
		SystemState, FailedUnits string
		Finished                 int64
	}
}

func (r reporter) verdict(t *testing.T) report {
	t.Helper()
	require.Len(t, r.server.got["/verdict"], 1)
	var v report
	require.NoError(t, json.Unmarshal([]byte(r.server.got["/verdict"][0]), &v), r.server.got["/verdict"][0])
	assert.Equal(t, 1, v.Schema)
	return v
}

func TestTheVerdictOfABuilderIsUploadedOnce(t *testing.T) {
	r := newReporter(t, provisionedOK)
	assert.Empty(t, r.run(t, "verdict"))
	v := r.verdict(t)
	assert.True(t, r.server.once["/verdict"])
	assert.Equal(t, "done", v.CloudInit.Status)
	assert.Equal(t, "ok", v.Provision.Status)
	assert.Equal(t, "degraded", v.System.SystemState)
	assert.Equal(t, "a.service ", v.System.FailedUnits)
	assert.Positive(t, v.System.Finished)
}

func TestAFailureIsReportedWithoutWaitingForCloudInit(t *testing.T) {
	r := newReporter(t, provisionedNot)
	r.program(t, "cloud-init", "echo asked >&2; exit 1")
	assert.Empty(t, r.run(t, "verdict"))
	v := r.verdict(t)
	assert.Nil(t, v.CloudInit)
	require.NotNil(t, v.Provision.Failed)
	assert.Equal(t, 7, v.Provision.Failed.Exit)
}

func TestWhatIsNotThereIsNotReportedAsIfItWere(t *testing.T) {
	t.Run("no result of the runner", func(t *testing.T) {
		r := newReporter(t, "")
		r.run(t, "verdict")
		assert.Nil(t, r.verdict(t).Provision)
	})
	t.Run("a cloud-init that does not say JSON", func(t *testing.T) {
		r := newReporter(t, provisionedOK)
		r.program(t, "cloud-init", "echo 'status: done'")
		r.run(t, "verdict")
		assert.Nil(t, r.verdict(t).CloudInit)
	})
}

func TestUploadsAreTriedAgainOnlyWhereThatHelps(t *testing.T) {
	for sentence, c := range map[string]struct {
		answers   []int
		wantTries int
		wantTaken bool
	}{
		"S3 is busy once":            {[]int{503}, 2, true},
		"S3 is busy all the time":    {[]int{500, 503, 500, 503, 500, 503, 500}, 3, false},
		"another upload is underway": {[]int{409}, 2, true},
		"the signature has expired":  {[]int{403}, 1, false},
		"the answer was lost":        {[]int{412}, 1, false}, // what is there is this script's own
	} {
		t.Run(sentence, func(t *testing.T) {
			r := newReporter(t, provisionedOK)
			r.server.answers["/verdict"] = c.answers
			output := r.run(t, "verdict")
			assert.Equal(t, c.wantTries, r.server.tries["/verdict"])
			assert.Equal(t, c.wantTaken, len(r.server.got["/verdict"]) == 1)
			if !c.wantTaken && c.answers[0] != 412 {
				assert.Contains(t, output, "the upload of verdict.json failed: HTTP ")
			}
		})
	}
	t.Run("it has more bytes than the address takes", func(t *testing.T) {
		r := newReporter(t, strings.Replace(provisionedOK, `"a"`, `"`+strings.Repeat("ä", contract.BuilderUploadBytes/2)+`"`, 1))
		assert.Contains(t, r.run(t, "verdict"), "verdict.json has more than 65536 bytes and is not uploaded; the factory asks over SSM instead")
		assert.Zero(t, r.server.tries["/verdict"])
	})
	t.Run("it has letters of more than one byte", func(t *testing.T) {
		r := newReporter(t, strings.Replace(provisionedOK, `"a"`, `"größe"`, 1))
		r.run(t, "verdict", "LC_ALL=C.UTF-8")
		assert.Equal(t, "größe", r.verdict(t).Provision.Components[0].Name)
	})
	t.Run("there is no network", func(t *testing.T) {
		r := newReporter(t, provisionedOK)
		r.addresses(t, "http://127.0.0.1:1")
		assert.Contains(t, r.run(t, "verdict"), "the upload of verdict.json failed: HTTP 000")
	})
	t.Run("there are no addresses", func(t *testing.T) {
		r := newReporter(t, provisionedOK)
		require.NoError(t, os.Remove(filepath.Join(r.dir, "uploads")))
		for _, command := range []string{"steps", "start", "verdict"} {
			assert.Empty(t, r.run(t, command))
		}
	})
}

// Components may remove curl, and some images have none.
func TestAGuestWithoutCurlUploadsToo(t *testing.T) {
	for sentence, c := range map[string]struct {
		answers []int
		taken   int
	}{
		"at once":              {nil, 1},
		"at the second try":    {[]int{503}, 1},
		"not when it is there": {[]int{412}, 0},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := newReporter(t, provisionedOK)
			r.server.answers["/verdict"] = c.answers
			for _, tool := range []string{"bash", "flock", "head", "wc", "cat", "date", "awk", "sed", "tr", "grep", "rm", "dirname", "install", "chmod"} {
				path, err := exec.LookPath(tool)
				require.NoError(t, err)
				require.NoError(t, os.Symlink(path, filepath.Join(r.dir, "bin", tool)))
			}
			python, err := exec.CommandContext(t.Context(), "python3", "-c", "import sys; print(sys.executable)").Output()
			require.NoError(t, err)
			r.program(t, "python3", "exec '"+strings.TrimSpace(string(python))+"' \"$@\"")
			assert.Empty(t, r.run(t, "verdict", "PATH="+filepath.Join(r.dir, "bin")))
			assert.Len(t, r.server.got["/verdict"], c.taken)
			assert.True(t, r.server.once["/verdict"])
		})
	}
}

func TestABuilderThatRestartsReportsAfterwards(t *testing.T) {
	script := func(r reporter) string { return filepath.Join(r.dir, "per-boot", "ami-factory-report") }
	t.Run("a restart of the next moment is not overtaken", func(t *testing.T) {
		r := newReporter(t, provisionedOK)
		r.write(t, "steps.json", `{"schema":1,"steps":[]}`)
		r.run(t, "steps")
		r.program(t, "systemctl", "echo stopping; exit 1")
		r.run(t, "verdict")
		assert.Empty(t, r.server.got["/verdict"])
		content, err := os.ReadFile(script(r))
		require.NoError(t, err, "the next boot runs it")
		assert.Contains(t, string(content), "report.sh start\n")
		info, err := os.Stat(script(r))
		require.NoError(t, err)
		assert.Equal(t, os.FileMode(0o700), info.Mode().Perm())
	})
	t.Run("one that cloud-init brings about is awaited", func(t *testing.T) {
		r := newReporter(t, provisionedOK)
		r.write(t, "cloud-config.txt", "#cloud-config\npower_state:\n  mode: reboot\n")
		r.program(t, "sleep", `echo "$1" >>"`+r.dir+`/slept"`)
		r.run(t, "verdict")
		slept, err := os.ReadFile(filepath.Join(r.dir, "slept"))
		require.NoError(t, err)
		assert.Equal(t, "10\n", string(slept))
	})
	t.Run("a builder that has reported does not do so again", func(t *testing.T) {
		r := newReporter(t, provisionedOK)
		r.write(t, "steps.json", `{"schema":1,"steps":[]}`)
		r.run(t, "steps")
		r.run(t, "verdict")
		_, err := os.Stat(script(r))
		assert.ErrorIs(t, err, os.ErrNotExist)
	})
}

func TestTheStepsThatAreUploadedLastAreTheNewest(t *testing.T) {
	r := newReporter(t, "")
	r.write(t, "steps.json", `{"schema":1,"steps":[]}`)
	var running sync.WaitGroup
	for range 8 {
		running.Go(func() { r.run(t, "steps") })
	}
	r.write(t, "steps.json.new", `{"schema":1,"steps":[{"name":"last"}]}`)
	require.NoError(t, os.Rename(filepath.Join(r.dir, "steps.json.new"), filepath.Join(r.dir, "steps.json")))
	running.Go(func() { r.run(t, "steps") })
	running.Wait()
	got := r.server.got["/steps"]
	require.Len(t, got, 9)
	assert.Contains(t, got[8], "last")
	assert.False(t, r.server.once["/steps"])
}

func TestTheRunnerReportsItsSteps(t *testing.T) {
	for sentence, c := range map[string]struct {
		second string
		want   string // the last steps
	}{
		"all is well":       {"true\n", `{"schema":1,"steps":[{"name":"first","status":"ok","seconds":S,"exit":0},{"name":"second","status":"ok","seconds":S,"exit":0}]}`},
		"a component fails": {"exit 7\n", `{"schema":1,"steps":[{"name":"first","status":"ok","seconds":S,"exit":0},{"name":"second","status":"failed","seconds":S,"exit":7}]}`},
	} {
		t.Run(sentence, func(t *testing.T) {
			b := newBench(t, `{"family":"debian-12","components":[{"name":"first"},{"name":"second"}]}`, map[string]string{
				"first":  `cp "$AMI_FACTORY_LIB/../../state/steps.json" "$AMI_FACTORY_LIB/../../during.json"`,
				"second": c.second,
			})
			b.write(t, "bundle/report.sh", `printf '%s\n' "$1" >>"`+b.dir+`/called"`)
			_, output, ok := b.run(t)
			assert.Equal(t, !strings.Contains(c.want, "failed"), ok, output)
			during, err := os.ReadFile(filepath.Join(b.dir, "during.json"))
			require.NoError(t, err)
			assert.JSONEq(t, `{"schema":1,"steps":[{"name":"first","status":"running"}]}`, string(during))
			last, err := os.ReadFile(filepath.Join(b.dir, "state", "steps.json"))
			require.NoError(t, err)
			assert.JSONEq(t, strings.ReplaceAll(c.want, "S", "0"), string(regexp.MustCompile(`"seconds":[0-9]+`).ReplaceAll(last, []byte(`"seconds":0`))))
			require.Eventually(t, func() bool {
				called, err := os.ReadFile(filepath.Join(b.dir, "called"))
				return err == nil && strings.Count(string(called), "steps\n") == 3 && strings.Count(string(called), "start\n") == 1
			}, time.Minute, 20*time.Millisecond, "reports run beside the components")
		})
	}
}
