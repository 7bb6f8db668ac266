//go:build linux

package userdata_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/component"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/nspawn/nspawntest"
	builder "github.com/ami-factory/ami-factory/pkg/userdata"
	"github.com/ami-factory/ami-factory/userdata"
)

// bucket is what a builder reaches of S3: one bundle to get, and two objects to put.
type bucket struct {
	mu      sync.Mutex
	bundle  []byte
	objects map[string]string
}

func (b *bucket) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r.Method != http.MethodPut {
		_, _ = w.Write(b.bundle)
		return
	}
	if _, there := b.objects[r.URL.Path]; there && r.Header.Get("If-None-Match") == "*" {
		w.WriteHeader(http.StatusPreconditionFailed)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	b.objects[r.URL.Path] = string(body)
}

func (b *bucket) object(path string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.objects[path]
}

// provisioning is the user data of a builder whose only component is a script.
func (b *bucket) provisioning(t *testing.T, install string) []byte {
	t.Helper()
	var files []component.File
	for from, to := range map[string]string{
		"runner/run.sh": "run.sh", "runner/report.sh": "report.sh", "lib/lib.sh": "lib/lib.sh", "lib/packages.sh": "lib/packages.sh",
	} {
		content, err := userdata.FS.ReadFile(from)
		require.NoError(t, err)
		files = append(files, component.File{Path: to, Data: content})
	}
	files = append(files,
		component.File{Path: "manifest.json", Data: []byte(`{"family":"` + guestFamily + `","components":[{"name":"only"}]}`)},
		component.File{Path: "components/only/install.sh", Data: []byte("set -euo pipefail\n" + install + "\n")})
	bundle, err := component.Bundle(files)
	require.NoError(t, err)
	sum := sha256.Sum256(bundle)
	b.mu.Lock()
	b.bundle, b.objects = bundle, map[string]string{}
	b.mu.Unlock()
	text, err := builder.Render(builder.Spec{Recipe: "test", BundleSHA256: hex.EncodeToString(sum[:]), BundleSize: len(bundle)})
	require.NoError(t, err)
	const signed = "?X-Amz-Security-Token=t&X-Amz-Signature=canary-5f1c8e"
	data, err := builder.Fill(text, builder.Addresses{
		Bundle: "http://bucket.test/bundle" + signed, Verdict: "http://bucket.test/verdict" + signed, Steps: "http://bucket.test/steps" + signed,
	})
	require.NoError(t, err)
	return data
}

// verdict awaits the report of a builder.
func (b *bucket) verdict(t *testing.T) report {
	t.Helper()
	require.Eventually(t, func() bool { return b.object("/verdict") != "" }, 3*time.Minute, 100*time.Millisecond, "the builder reports nothing")
	var v report
	require.NoError(t, json.Unmarshal([]byte(b.object("/verdict")), &v), b.object("/verdict"))
	assert.Equal(t, 1, v.Schema)
	return v
}

// A real cloud-init runs the user data, in a container.
func TestABuilderReportsHowItIsProvisioned(t *testing.T) {
	b := &bucket{objects: map[string]string{}}
	g := bootGuestBeside(t, map[string]http.Handler{"bucket.test": b})
	done := func(status string) string {
		return `{"schema":1,"steps":[{"name":"only","status":"` + status + `","seconds":S,"exit":` + map[string]string{"ok": "0", "failed": "7"}[status] + `}]}`
	}
	steps := func() string { return seconds.ReplaceAllString(b.object("/steps"), `"seconds":S`) }

	g.again(t, "i-0aaaaaaaaaaaaaaa2", b.provisioning(t, "true"))
	v := b.verdict(t)
	require.NotNil(t, v.CloudInit, "it is reported when cloud-init has ended")
	assert.Equal(t, "done", v.CloudInit.Status)
	assert.Equal(t, "ok", v.Provision.Status)
	require.Eventually(t, func() bool { return strings.TrimSpace(steps()) == done("ok") }, time.Minute, 100*time.Millisecond, steps())
	assert.Equal(t, "600 root:root", g.output(t, "stat -c '%a %U:%G' /var/lib/ami-factory/uploads"))
	assert.Equal(t, "none", g.output(t, "grep -rlF canary-5f1c8e /etc /usr /opt /root /home /var/log /var/tmp /tmp || echo none"),
		"the addresses are only where the seal removes everything")

	g.again(t, "i-0aaaaaaaaaaaaaaa3", b.provisioning(t, "exit 7"))
	v = b.verdict(t)
	require.NotNil(t, v.Provision.Failed)
	assert.Equal(t, "only", v.Provision.Failed.Component)
	assert.Equal(t, 7, v.Provision.Failed.Exit)
	require.Eventually(t, func() bool { return strings.TrimSpace(steps()) == done("failed") }, time.Minute, 100*time.Millisecond, steps())

	// A restart in the middle: cloud-init does not run the script again, and the next
	// boot says so, where the factory would wait for its time-out.
	g.output(t, "cloud-init clean --logs; rm -rf /var/lib/ami-factory")
	g.launch.Metadata = nspawntest.Metadata(instance("i-0aaaaaaaaaaaaaaa4", b.provisioning(t, "sleep 600")))
	forced, err := g.machine.Shutdown(t.Context(), 3*time.Minute)
	require.NoError(t, err)
	require.False(t, forced)
	g.machine, err = g.driver.Start(t.Context(), g.launch)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return strings.Contains(b.object("/steps"), `"status":"running"`) }, 3*time.Minute, 100*time.Millisecond)
	assert.Empty(t, b.object("/verdict"))
	g.reboot(t)
	v = b.verdict(t)
	if v.Provision != nil { // the component could still say that it was killed
		assert.Equal(t, "failed", v.Provision.Status)
		require.NotNil(t, v.Provision.Failed)
	}
	assert.Equal(t, "none", g.output(t, "for i in $(seq 100); do test -e /var/lib/cloud/scripts/per-boot/ami-factory-report || break; sleep 0.1; done; ls /var/lib/cloud/scripts/per-boot | grep ami-factory || echo none"))
}

var seconds = regexp.MustCompile(`"seconds":[0-9]+`)
