package baseimage

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/apt"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
)

// testBuilder is a builder of one source at the given mirror.
func testBuilder(t *testing.T, mirror string) *builder {
	return &builder{
		opts:     Options{Distribution: "debian-12", Kind: vm.VM, CacheDir: t.TempDir(), Progress: func(string) {}},
		dist:     distribution{codename: "bookworm", packages: []string{"b", "a"}},
		sources:  []apt.Source{entry(mirror, "bookworm", []string{"main"}, "")},
		settings: apt.Settings{},
		client:   http.DefaultClient,
		now:      time.Now,
	}
}

func TestTheDefinitionChangesWithWhatIsInstalledAndWithNothingElse(t *testing.T) {
	base, err := testBuilder(t, "http://m.test/debian").definition()
	require.NoError(t, err)
	for sentence, tc := range map[string]struct {
		change func(*builder)
		same   bool
	}{
		"another package changes it":            {func(b *builder) { b.dist.packages = []string{"a", "b", "c"} }, false},
		"another mirror changes it":             {func(b *builder) { b.sources[0].URI = "http://n.test/debian" }, false},
		"a setting that the image gets does":    {func(b *builder) { b.settings["Acquire::Check-Date"] = "false" }, false},
		"another distribution changes it":       {func(b *builder) { b.opts.Distribution = "debian-13" }, false},
		"the order of packages does not matter": {func(b *builder) { b.dist.packages = []string{"a", "b"} }, true},
		"the host's proxy does not matter":      {func(b *builder) { b.settings["Acquire::http::Proxy"] = "http://p.test" }, true},
		"the kind does not matter":              {func(b *builder) { b.opts.Kind = vm.Container }, true},
	} {
		t.Run(sentence, func(t *testing.T) {
			b := testBuilder(t, "http://m.test/debian")
			tc.change(b)
			got, err := b.definition()
			require.NoError(t, err)
			assert.Equal(t, tc.same, got == base)
		})
	}
}

func TestDigestOfKeepsItsPartsApart(t *testing.T) {
	assert.NotEqual(t, digestOf("ab", "c"), digestOf("a", "bc"))
}

const inRelease = `Origin: Debian
Date: DATE
SHA256:
 1111111111111111111111111111111111111111111111111111111111111111  100 main/binary-amd64/Packages
 2222222222222222222222222222222222222222222222222222222222222222  100 contrib/binary-amd64/Packages
 3333333333333333333333333333333333333333333333333333333333333333  100 main/binary-amd64/Packages.gz
`

func TestTheArchiveIsAskedOnceADay(t *testing.T) {
	release, asked, down := inRelease, 0, false
	mirror := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		if down || r.URL.Path != "/debian/dists/bookworm/InRelease" {
			http.Error(w, "no", http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte(release))
	}))
	defer mirror.Close()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	b := testBuilder(t, mirror.URL+"/debian/")
	b.now = func() time.Time { return now }
	stamp := func() string {
		s, err := b.archiveStamp(t.Context())
		require.NoError(t, err)
		return s
	}

	first := stamp()
	assert.NotEmpty(t, first)
	assert.Equal(t, first, stamp())
	assert.Equal(t, 1, asked, "an answer holds for a day")

	now = now.Add(25 * time.Hour)
	release = strings.ReplaceAll(inRelease, "DATE", "later")
	release = strings.ReplaceAll(release, "2222", "4444")
	assert.Equal(t, first, stamp(), "neither the date nor other components count")
	assert.Equal(t, 2, asked)

	now = now.Add(25 * time.Hour)
	down = true
	assert.Equal(t, first, stamp(), "without network the last answer holds on")

	down = false
	release = strings.ReplaceAll(release, "1111", "5555")
	assert.NotEqual(t, first, stamp(), "new packages make a new base")
}

func TestAMirrorThatNeverAnsweredDoesNotStopABuild(t *testing.T) {
	mirror := httptest.NewServer(http.NotFoundHandler())
	defer mirror.Close()
	b := testBuilder(t, mirror.URL)
	var said []string
	b.opts.Progress = func(text string) { said = append(said, text) }
	stamp, err := b.archiveStamp(t.Context())
	require.NoError(t, err)
	assert.Empty(t, stamp)
	require.Len(t, said, 1)
	assert.Contains(t, said[0], "404")

	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("interrupted"))
	_, err = b.archiveStamp(ctx)
	assert.ErrorContains(t, err, "interrupted")
}

func TestTheLockIsHeldByOneAndWaitedForByOthers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "lock")
	unlock, err := lock(t.Context(), file, func(string) {})
	require.NoError(t, err)

	ctx, cancel := context.WithCancelCause(t.Context())
	said := make(chan string, 1)
	failed := make(chan error)
	go func() {
		_, err := lock(ctx, file, func(text string) { said <- text })
		failed <- err
	}()
	assert.Contains(t, <-said, "waiting for another process")
	cancel(errors.New("interrupted"))
	assert.ErrorContains(t, <-failed, "interrupted")

	unlock()
	again, err := lock(t.Context(), file, func(string) { t.Error("a free lock is not waited for") })
	require.NoError(t, err)
	again()
}

func TestBuildRefusesWhatItDoesNotKnow(t *testing.T) {
	for sentence, tc := range map[string]struct {
		opts Options
		want string
	}{
		"an unknown distribution is refused with those that are": {Options{Distribution: "debian-3", Kind: vm.VM}, `base image "debian-3" is not known (allowed: debian-12, debian-13)`},
		"simulated guests have no base image":                    {Options{Distribution: "debian-12", Kind: vm.Simulated}, "allowed: vm, container"},
		"an official image is no container": {
			Options{Distribution: "debian-12", Kind: vm.Container, Official: Official{URL: "http://m.test/x", SHA256: strings.Repeat("0", 64)}}, "serves guests of kind vm",
		},
		"an official image needs a digest": {
			Options{Distribution: "debian-12", Kind: vm.VM, Official: Official{URL: "http://m.test/x"}}, `SHA-256 "" is not valid`,
		},
		"an official image needs a URL that can be fetched": {
			Options{Distribution: "debian-12", Kind: vm.VM, Official: Official{URL: "ftp://m.test/x", SHA256: strings.Repeat("0", 64)}}, `URL "ftp://m.test/x" is not valid`,
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			tc.opts.CacheDir = t.TempDir()
			_, err := Build(t.Context(), tc.opts)
			assert.ErrorContains(t, err, tc.want)
		})
	}
}

func TestMissingNamesPackagesOnceAndSorted(t *testing.T) {
	nothing := func(string) (string, error) { return "", errors.New("not found") }
	assert.Equal(t, []string{"e2fsprogs", "qemu-system-x86", "qemu-utils"}, missing(guestTools(vm.VM), nothing))
	assert.Equal(t, []string{"systemd-container"}, missing(guestTools(vm.Container), nothing))
	assert.Equal(t, []string{"mmdebstrap", "tar", "uidmap", "util-linux"}, missing(buildTools(false), nothing))
	assert.Empty(t, missing(guestTools(vm.VM), func(p string) (string, error) { return p, nil }))
	assert.Empty(t, Missing(vm.Simulated))
}

func TestAFailedToolIsExplained(t *testing.T) {
	direct := tool{}
	err := direct.run(t.Context(), "sh", "-c", "echo working; echo 'disk on fire' >&2; exit 3")
	assert.ErrorContains(t, err, "sh failed: exit status 3")
	assert.ErrorContains(t, err, "disk on fire")

	err = direct.run(t.Context(), "sh", "-c", "echo 'cp: No space left on device'; exit 1")
	assert.ErrorContains(t, err, "the disk is full")

	cmd := command(t.Context(), "mmdebstrap-that-is-absent")
	err = explain(t.Context(), cmd, cmd.Run(), nil)
	assert.ErrorContains(t, err, "mmdebstrap-that-is-absent is not installed")

	ctx, cancel := context.WithCancelCause(t.Context())
	go cancel(errors.New("interrupted"))
	err = direct.run(ctx, "sleep", "60")
	assert.ErrorContains(t, err, "sleep was stopped: interrupted")
}
