package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/simulated"
	"github.com/ami-factory/ami-factory/pkg/rehearsal"
	"github.com/ami-factory/ami-factory/pkg/rehearsal/guests"
)

func TestASimulatedBakeAndItsImages(t *testing.T) {
	tune, state := inProcess(t), filepath.Join(t.TempDir(), "state")
	local := func(args ...string) []string { return append(args, "--guests", "simulated", "--state", state) }

	r := call(t, tune, local("bake", "debian-12-docker")...)
	require.Equal(t, exitOK, r.code, r.err)
	assert.True(t, strings.HasPrefix(r.out, "SIMULATED: "), r.out)
	for _, row := range []string{
		`status +Published in `, `recipe +debian-12-docker\n`, `fingerprint +[0-9a-f]{64}\n`, `source +ami-`, `images +eu-central-1 ami-`,
		` +eu-west-1 ami-`, `guests +simulated `, `checks +\d+ passed, 0 failed`, `stages +\d.*s  Resolve\n`, ` +\d.*s  Notify\n`,
		`cost on AWS +about \$0\.\d\d, and \$0\.83 a month to keep the image`,
		`report +.*/report\.html\n`, `evidence +.*/evidence\.tar\.gz\n`, `verify it +ami-factory evidence verify .*/evidence\.tar\.gz --key .*/evidence-key\.pem\n`, `execution +debian-12-docker-`,
	} {
		assert.Regexp(t, `(?m)^`+row, r.out)
	}
	assert.Contains(t, r.err, "guests are simulated")
	assert.Contains(t, r.err, "AwaitProvisioned         done in ")
	assert.Contains(t, r.err, "Copy eu-central-1        EC2 copies the image while it is verified\n", "the region is shown")
	assert.NotContains(t, r.err, "Copy eu-west-1", "in the home region the image is its own copy")

	firstRun := regexp.MustCompile(`(?m)^execution +(\S+)$`).FindStringSubmatch(r.out)
	require.Len(t, firstRun, 2, r.out)

	r = call(t, tune, local("bake", "debian-12-docker", "--output", "json")...)
	require.Equal(t, exitOK, r.code, r.err)
	upToDate := summaryOf(t, r.out)
	assert.Equal(t, "UpToDate", upToDate.Status)

	r = call(t, tune, local("bake", "debian-12-docker", "--force", "-o", "json")...)
	require.Equal(t, exitOK, r.code, r.err)
	s := summaryOf(t, r.out)
	assert.Equal(t, "Published", s.Status)
	assert.Equal(t, "debian-12-docker", s.Recipe)
	assert.Equal(t, vm.Simulated, s.Guests)
	assert.Contains(t, s.Description, "nothing is really booted")
	assert.NotEmpty(t, s.Execution)
	assert.Contains(t, s.ARN, s.Execution)
	assert.Equal(t, upToDate.Fingerprint, s.Fingerprint)
	assert.Regexp(t, `^ami-[0-9a-f]{17}$`, s.SourceImage)
	assert.Len(t, s.Images, 2)
	assert.Len(t, s.States, 19)
	assert.Positive(t, s.Seconds)
	assert.Positive(t, s.Checks.Passed)
	assert.True(t, s.Simulated)
	for _, file := range []string{s.Report, s.ReportJSON} {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		assert.Contains(t, strings.ToLower(string(text)), "simulated", file)
	}
	assert.Empty(t, s.Disk, "there is none")
	evidenceIsVerified(t, tune, local, s)
	releasesAreCompared(t, tune, local, firstRun[1], s)

	home := s.Images["eu-west-1"]
	t.Run("images list", func(t *testing.T) {
		r := call(t, tune, local("images", "list")...)
		require.Equal(t, exitOK, r.code, r.err)
		assert.Equal(t, 5, strings.Count(r.out, "\n"), "a heading and two bakes in two regions\n%s", r.out)
		assert.Contains(t, r.out, home+"  eu-west-1     simulated")
		r = call(t, tune, local("images", "list", "--region", "eu-west-1", "-o", "json")...)
		require.Equal(t, exitOK, r.code, r.err)
		var list []image
		require.NoError(t, json.Unmarshal([]byte(r.out), &list))
		require.Len(t, list, 2)
		assert.Equal(t, home, list[0].ImageID, "the newest is first")
		assert.Equal(t, "simulated", list[0].Guests)
		assert.Equal(t, s.Fingerprint, list[0].Fingerprint)
	})
	t.Run("images show", func(t *testing.T) {
		r := call(t, tune, local("images", "show", home)...)
		require.Equal(t, exitOK, r.code, r.err)
		for _, text := range []string{home, "simulated", "210987654321", "8 GiB, encrypted: true", "v2.0", "ami-factory:recipe"} {
			assert.Contains(t, r.out, text)
		}
		r = call(t, tune, local("images", "show", home, "-o", "json")...)
		require.Equal(t, exitOK, r.code, r.err)
		var one image
		require.NoError(t, json.Unmarshal([]byte(r.out), &one))
		assert.Equal(t, []string{"210987654321"}, one.SharedWith)
		r = call(t, tune, local("images", "show", "ami-00000000")...)
		assert.Equal(t, exitFailed, r.code)
		assert.Contains(t, r.err, "there is no image ami-00000000; `ami-factory images list`")
	})
	t.Run("images export is refused", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "disk.qcow2")
		r := call(t, tune, local("images", "export", home, file)...)
		assert.Equal(t, exitFailed, r.code)
		assert.Contains(t, r.err, "simulated guests and has no disk; bake with --guests vm")
		assert.Empty(t, r.out)
		assert.NoFileExists(t, file)
	})
	t.Run("plan for the source that was baked from", func(t *testing.T) {
		r := call(t, tune, local("plan", "debian-12-docker", "-o", "json")...)
		require.Equal(t, exitOK, r.code, r.err)
		assert.NotContains(t, r.err, "stand-in")
		var got struct{ Fingerprint string }
		require.NoError(t, json.Unmarshal([]byte(r.out), &got))
		assert.Equal(t, s.Fingerprint, got.Fingerprint, "what plan says is what is baked")
	})
}

func summaryOf(t *testing.T, out string) rehearsal.Summary {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader([]byte(out)))
	dec.DisallowUnknownFields()
	var s rehearsal.Summary
	require.NoError(t, dec.Decode(&s), out)
	for _, field := range []string{
		"execution", "executionArn", "status", "recipe", "fingerprint", "sourceImage", "images", "guests", "guestsDescription", "seconds",
		"stages", "checks",
	} {
		assert.Contains(t, out, `"`+field+`"`)
	}
	return s
}

func TestHowABakeEndsIsToldByTextAndExitCode(t *testing.T) {
	for sentence, tc := range map[string]struct {
		guest guests.Simulated
		code  int
		says  []string
	}{
		"rejected": {
			guests.Simulated{FailControls: []string{"SSH-03"}}, exitRejected,
			[]string{`status +Rejected in `, `error +ComplianceRejected\n`, `cause +`, ` +SSH-03 `, `report +`},
		},
		"failed": {
			guests.Simulated{FailComponent: "docker"}, exitFailed,
			[]string{`status +FailedClean in `, `error +ProvisioningFailed\n`, `cause +.*component docker`, `report +`, `consoles +.*console-builder.log\n`},
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			tune := inProcess(t)
			r := call(t, func(o *rehearsal.Options) { tune(o); o.Simulated = tc.guest },
				"bake", "debian-12-docker", "--guests", "simulated", "--state", t.TempDir())
			assert.Equal(t, tc.code, r.code)
			assert.True(t, strings.HasPrefix(r.out, "SIMULATED: "), r.out)
			for _, row := range tc.says {
				assert.Regexp(t, `(?m)^`+row, r.out)
			}
			assert.NotContains(t, r.out, "\nimages ")
		})
	}
}

func TestCtrlCRemovesWhatWasMade(t *testing.T) {
	tune, state := inProcess(t), t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := callIn(ctx, t, func(o *rehearsal.Options) {
		tune(o)
		o.Clock = clock.NewReal()
		o.Simulated = guests.Simulated{Boot: time.Hour, Faults: func(vm.Launch) simulated.Faults {
			cancel() // while the builder starts
			return simulated.Faults{}
		}}
	}, "bake", "debian-12-docker", "--guests", "simulated", "--state", state)
	assert.Equal(t, exitInterrupted, r.code, r.err)
	assert.Empty(t, r.out)
	assert.Regexp(t, `interrupted; removed .*i-[0-9a-f]{17}.*; nothing is left`, r.err)

	r = call(t, tune, "images", "list", "--guests", "simulated", "--state", state)
	assert.Equal(t, exitOK, r.code, r.err)
	assert.Contains(t, r.err, "no images")
}

func TestServingTellsWhatToExport(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		t.Run(format, func(t *testing.T) {
			tune := inProcess(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var out, errOut buffer
			a := &app{in: strings.NewReader(""), out: &out, err: &errOut, tune: tune}
			var code int
			var served sync.WaitGroup
			served.Go(func() {
				code = a.run(ctx, []string{"local", "up", "--schedules=false", "--guests", "simulated", "--state", t.TempDir(), "--listen", "127.0.0.1:0", "-o", format})
			})
			require.Eventually(t, func() bool { return strings.Contains(errOut.String(), "serving") }, time.Minute, 10*time.Millisecond, errOut.String())
			cancel()
			served.Wait()
			assert.Equal(t, exitOK, code, errOut.String())
			if format == "text" {
				assert.Contains(t, out.String(), "\nexport AWS_ENDPOINT_URL=http://127.0.0.1:")
				assert.Contains(t, out.String(), "guests are simulated")
				assert.Regexp(t, `(?m)^# container registry at (127\.0\.0\.1:[0-9]+): aws ecr get-login-password \| docker login -u AWS --password-stdin 127\.0\.0\.1:[0-9]+$`, out.String())
				return
			}
			var got struct {
				URL, Registry, StateMachine, Bucket, Guests string
				Environment                                 map[string]string
			}
			require.NoError(t, json.Unmarshal([]byte(out.String()), &got))
			assert.Equal(t, got.URL, got.Environment["AWS_ENDPOINT_URL"])
			assert.Equal(t, got.URL, "http://"+got.Registry)
			assert.Contains(t, got.Guests, "simulated")
			assert.Contains(t, got.StateMachine, "stateMachine:ami-factory")
		})
	}
}

func TestDurationsAreReadable(t *testing.T) {
	for given, want := range map[float64]string{
		0: "0s", 0.004: "4ms", 0.0321: "32ms", 0.25: "250ms", 1: "1.0s", 7.84: "7.8s", 59.9: "59.9s", 222.4: "3m42s", 3600: "1h0m0s", -1: "0s",
	} {
		assert.Equal(t, want, seconds(given))
	}
}

// The simulated guest answers no command but the factory's own, and says so.
func TestTheGuestOfAFailedBakeIsKeptToLookInto(t *testing.T) {
	bake := func(guest guests.Simulated, typed string, more ...string) result {
		withoutAWS(t)
		tune := inProcess(t)
		var out, errOut buffer
		a := &app{in: strings.NewReader(typed), out: &out, err: &errOut, tune: func(o *rehearsal.Options) { tune(o); o.Simulated = guest }}
		code := a.run(t.Context(), append([]string{"bake", "debian-12-docker", "--guests", "simulated", "--state", t.TempDir()}, more...))
		return result{code, out.String(), errOut.String()}
	}
	for sentence, tc := range map[string]struct {
		guest guests.Simulated
		code  int
		role  string
	}{
		"a builder":  {guests.Simulated{FailComponent: "docker"}, exitFailed, "builder"},
		"a verifier": {guests.Simulated{FailControls: []string{"SSH-03"}}, exitRejected, "verifier"},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := bake(tc.guest, "cat /etc/hostname\n\nexit\nnot read\n", "--keep-failed")
			assert.Equal(t, tc.code, r.code)
			assert.Regexp(t, `the `+tc.role+` i-[0-9a-f]{17} is still running`, r.err)
			assert.Contains(t, r.err, "knows no answer to: /bin/sh -c cat /etc/hostname")
			assert.Contains(t, r.err, "exit code 1")
			assert.NotContains(t, r.err, "not read")
			assert.NotContains(t, r.out, "knows no answer", "stdout has the summary only")
		})
	}
	t.Run("the end of the input ends it", func(t *testing.T) {
		r := bake(guests.Simulated{FailComponent: "docker"}, "", "--keep-failed")
		assert.Equal(t, exitFailed, r.code)
		assert.Contains(t, r.err, "is still running")
	})
	t.Run("not without the flag", func(t *testing.T) {
		assert.NotContains(t, bake(guests.Simulated{FailComponent: "docker"}, "").err, "is still running")
	})
	t.Run("not when nothing failed", func(t *testing.T) {
		r := bake(guests.Simulated{}, "", "--keep-failed")
		assert.Equal(t, exitOK, r.code, r.err)
		assert.NotContains(t, r.err, "is still running")
	})
}
