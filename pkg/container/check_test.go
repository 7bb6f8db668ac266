package container_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/container"
)

var today = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// item is an entry of a layer; a name with a slash at its end is a folder.
type item struct {
	name     string
	content  string
	mode     int64
	uid, gid int
	kind     byte // 0: of the name
	link     string
	xattr    string
}

func packed(t *testing.T, items []item) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, i := range items {
		h := &tar.Header{Name: i.name, Mode: i.mode, Uid: i.uid, Gid: i.gid, Typeflag: i.kind, Linkname: i.link, Size: int64(len(i.content)), Format: tar.FormatPAX}
		if i.kind == 0 {
			h.Typeflag = tar.TypeReg
			if strings.HasSuffix(i.name, "/") {
				h.Typeflag = tar.TypeDir
			}
		}
		if i.mode == 0 {
			h.Mode = 0o644
			if h.Typeflag == tar.TypeDir {
				h.Mode = 0o755
			}
		}
		if i.xattr != "" {
			h.PAXRecords = map[string]string{"SCHILY.xattr." + i.xattr: "\x01"}
		}
		require.NoError(t, w.WriteHeader(h))
		_, err := io.WriteString(w, i.content)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}

func layerOf(t *testing.T, archive []byte) v1.Layer {
	t.Helper()
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive)), nil }, tarball.WithMediaType(types.OCILayer), tarball.WithCompressionLevel(gzip.NoCompression))
	require.NoError(t, err)
	return l
}

// system is a program of this machine, its interpreter and its libraries: real ELF files.
type system struct {
	program, interpreter string
	interpreterPath      string
	libraries            map[string]string // by name
}

func systemProgram(t *testing.T) system {
	t.Helper()
	file, err := exec.LookPath("true")
	require.NoError(t, err)
	read := func(name string) string {
		b, err := os.ReadFile(name)
		require.NoError(t, err)
		return string(b)
	}
	f, err := elf.Open(file)
	require.NoError(t, err)
	defer func() { require.NoError(t, f.Close()) }()
	out := system{program: read(file), libraries: map[string]string{}}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			name, err := io.ReadAll(p.Open())
			require.NoError(t, err)
			out.interpreterPath = strings.TrimRight(string(name), "\x00")
		}
	}
	require.NotEmpty(t, out.interpreterPath, "%s is linked statically", file)
	out.interpreter = read(out.interpreterPath)
	needed, err := f.DynString(elf.DT_NEEDED)
	require.NoError(t, err)
	require.NotEmpty(t, needed)
	real, err := filepath.EvalSymlinks(out.interpreterPath)
	require.NoError(t, err)
	for _, lib := range needed {
		out.libraries[lib] = read(filepath.Join(filepath.Dir(real), lib))
	}
	return out
}

// architectureHere is that of the machine whose programs the images have.
func architectureHere(s system) string {
	f, err := elf.NewFile(strings.NewReader(s.program))
	if err == nil && f.Machine == elf.EM_AARCH64 {
		return "arm64"
	}
	return "amd64"
}

// builder makes an image of a good one.
type builder struct {
	base        []item // the reference image
	layers      [][]item
	config      v1.ConfigFile
	after       string // the end of the archive of the last layer
	annotations map[string]string
	options     container.Options
}

const contractOfApp = `contract:
  entrypoint: [/app/server]
  arguments: [--verbose]
  user: 950
  ports: [{env: PORT, default: 8080}]
  health: {path: /healthz}
  writable: [/tmp, /var/lib/service]
`

func goodBuild(t *testing.T, s system) *builder {
	t.Helper()
	c := parse(t, contractOfApp)
	labels, err := c.Labels()
	require.NoError(t, err)
	maps.Copy(labels, map[string]string{
		"org.opencontainers.image.created": "2026-10-30T00:00:00Z", "org.opencontainers.image.licenses": "Apache-2.0",
		"org.opencontainers.image.revision": "abc", "org.opencontainers.image.source": "https://git.example.com/demo",
		"org.opencontainers.image.title": "demo", "org.opencontainers.image.vendor": "Example", "org.opencontainers.image.version": "1.2.3",
		"io.ami-factory.eol": "2027-06-30", "io.ami-factory.owner": "team@example.com",
	})
	b := &builder{
		base: []item{
			{name: "./"}, {name: "etc/"}, {name: "etc/passwd", content: "root:x:0:0::/root:/bin/sh\nsvc:x:950:950::/:/bin/false\n"},
			{name: "tmp/", mode: 0o1777}, {name: "var/lib/service/", uid: 950, gid: 950, mode: 0o750},
			{name: "usr/lib/"}, {name: "lib", kind: tar.TypeSymlink, link: "usr/lib"}, {name: "lib64", kind: tar.TypeSymlink, link: "/usr/lib"},
			{name: strings.TrimPrefix(s.interpreterPath, "/"), content: s.interpreter, mode: 0o755},
		},
		layers:  [][]item{{{name: "app/"}, {name: "app/server", content: s.program, mode: 0o755}}},
		options: container.Options{Gate: "low", Now: today},
	}
	for _, name := range slices.Sorted(maps.Keys(s.libraries)) {
		b.base = append(b.base, item{name: "usr/lib/" + name, content: s.libraries[name]})
	}
	b.config = v1.ConfigFile{OS: "linux", Architecture: architectureHere(s), Config: v1.Config{
		User: "950:950", Entrypoint: []string{"/app/server"}, Cmd: []string{"--verbose"}, StopSignal: "SIGTERM",
		Env: []string{"PATH=/usr/bin:/bin", "PORT=8080"}, ExposedPorts: map[string]struct{}{"8080/tcp": {}}, Labels: labels,
	}}
	return b
}

// image assembles what was described. The base is approved unless the case says otherwise.
func (b *builder) image(t *testing.T) container.Image {
	t.Helper()
	img := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	img = mutate.ConfigMediaType(img, types.OCIConfigJSON)
	base := layerOf(t, packed(t, b.base))
	var err error
	img, err = mutate.AppendLayers(img, base)
	require.NoError(t, err)
	if b.options.Bases == nil {
		id, err := base.DiffID()
		require.NoError(t, err)
		digest, err := img.Digest()
		require.NoError(t, err)
		b.options.Bases = &container.Bases{Bases: []container.Base{{Digest: digest.String(), Layers: []string{id.String()}}}}
		if _, ok := b.config.Config.Labels["org.opencontainers.image.base.digest"]; !ok {
			b.config.Config.Labels["org.opencontainers.image.base.digest"] = digest.String()
		}
	}
	for i, l := range b.layers {
		archive := packed(t, l)
		if i == len(b.layers)-1 {
			archive = append(archive, b.after...)
		}
		img, err = mutate.AppendLayers(img, layerOf(t, archive))
		require.NoError(t, err)
	}
	made, err := img.ConfigFile()
	require.NoError(t, err)
	config := b.config
	config.RootFS, config.History = made.RootFS, append(made.History, b.config.History...)
	img, err = mutate.ConfigFile(img, &config)
	require.NoError(t, err)
	img, ok := mutate.Annotations(img, b.annotations).(v1.Image)
	require.True(t, ok)
	digest, err := img.Digest()
	require.NoError(t, err)
	return container.Image{Image: img, ID: digest.String(), Manifested: true}
}

// failed are the controls that did not pass, with what was found.
func failed(r compliance.Report) map[string]string {
	out := map[string]string{}
	for _, result := range r.Results {
		if result.Status != compliance.StatusPass {
			out[result.ControlID] = result.Evidence.Actual
		}
	}
	return out
}

func (b *builder) check(t *testing.T) (compliance.Report, map[string]string) {
	t.Helper()
	r, err := container.CheckImage(b.image(t), b.options)
	require.NoError(t, err)
	return r, failed(r)
}

func (b *builder) add(items ...item) { b.layers = append(b.layers, items) }

func TestStaticChecksOfAnImage(t *testing.T) {
	s := systemProgram(t)
	library := slices.Sorted(maps.Keys(s.libraries))[0]
	key := "-----BEGIN " + "RSA PRIVATE KEY-----\n" + strings.Repeat("MIIEvQIBADANBgkq", 8) + "\n"
	token := "AKIA" + "ABCDEFGHIJKLMNOP"
	for sentence, tc := range map[string]struct {
		change func(*builder)
		fails  map[string]string // control to a part of what is found; nothing else may fail
	}{
		"a good image":                        {func(*builder) {}, nil},
		"a user's name":                       {func(b *builder) { b.config.Config.User = "svc" }, map[string]string{"OCI-01": `the user is "svc"`, "OCI-16": `user "svc"`}},
		"a user's number that becomes root's": {func(b *builder) { b.config.Config.User = "4294967296:950" }, map[string]string{"OCI-01": `the user is "4294967296:950"`, "OCI-16": "user"}},
		"a password beside the word for a key": {func(b *builder) {
			b.add(item{name: "app/.env", content: "# -----BEGIN " + "RSA PRIVATE KEY-----\nDB_PASSWORD=correct-horse-battery\n"})
		}, map[string]string{"OCI-08": "/app/.env of layer 3 has a password or key"}},
		"a password in the health check": {func(b *builder) {
			b.config.Config.Healthcheck = &v1.HealthConfig{Test: []string{"CMD", "curl", "http://u:correct-horse-battery@127.0.0.1/"}}
		}, map[string]string{"OCI-09": "the health check has"}},
		"a user whose name is the number": {func(b *builder) {
			b.add(item{name: "etc/passwd", content: "950:x:0:0::/:/bin/false\nsvc:x:950:950::/:/bin/false\n"})
		}, map[string]string{"OCI-01": "has a user of this name", "OCI-16": "user"}},
		"a group whose name is the number": {func(b *builder) {
			b.config.Config.User = "950:951"
			b.add(item{name: "etc/group", content: "951:x:0:\n"})
		}, map[string]string{"OCI-01": "has a group of this name", "OCI-16": "user"}},
		"no user":                          {func(b *builder) { b.config.Config.User = "" }, map[string]string{"OCI-01": "no user, which is root", "OCI-16": "user"}},
		"root":                             {func(b *builder) { b.config.Config.User = "0:0" }, map[string]string{"OCI-01": "which is root", "OCI-16": "user"}},
		"root's group":                     {func(b *builder) { b.config.Config.User = "950:0" }, map[string]string{"OCI-01": "whose group is root's", "OCI-16": "user"}},
		"a user whose group is in passwd":  {func(b *builder) { b.config.Config.User = "950" }, nil},
		"a user whose group nobody states": {func(b *builder) { b.config.Config.User = "951" }, map[string]string{"OCI-01": "whose group is root's", "OCI-16": "user"}},
		"a shell form": {func(b *builder) { b.config.Config.Entrypoint = []string{"/bin/sh", "-c", "/app/server"} },
			map[string]string{"OCI-02": "shell /bin/sh", "OCI-03": "/bin/sh does not exist", "OCI-04": "/bin/sh", "OCI-16": "entrypoint"}},
		"no entrypoint":                {func(b *builder) { b.config.Config.Entrypoint = nil }, map[string]string{"OCI-02": "no entrypoint", "OCI-16": "entrypoint []"}},
		"a program that is not there":  {func(b *builder) { b.add(item{name: "app/.wh.server"}) }, map[string]string{"OCI-03": "/app/server does not exist", "OCI-04": "/app/server"}},
		"a program without the right":  {func(b *builder) { b.layers[0][1].mode = 0o744 }, map[string]string{"OCI-03": "mode 0744", "OCI-04": "mode 0744"}},
		"a program in a closed folder": {func(b *builder) { b.layers[0][0].mode = 0o700 }, map[string]string{"OCI-03": "cannot enter", "OCI-04": "cannot enter"}},
		"a program that is a folder":   {func(b *builder) { b.add(item{name: "app/server/"}) }, map[string]string{"OCI-03": "no regular file", "OCI-04": "no regular file"}},
		"a program without its interpreter": {func(b *builder) { b.add(item{name: "usr/lib/.wh." + filepath.Base(s.interpreterPath)}) },
			map[string]string{"OCI-04": "its interpreter " + s.interpreterPath}},
		"a program without a library": {func(b *builder) { b.add(item{name: "usr/lib/.wh." + library}) }, map[string]string{"OCI-04": "/app/server needs the library " + library}},
		"a library of another machine": {func(b *builder) {
			b.add(item{name: "usr/lib/" + library, content: "\x7fELF\x01\x01\x01" + strings.Repeat("\x00", 90)})
		}, map[string]string{"OCI-04": ""}},
		"a library elsewhere": {func(b *builder) {
			b.add(item{name: "usr/lib/.wh." + library}, item{name: "opt/lib/" + library, content: s.libraries[library]})
		}, map[string]string{"OCI-04": library}},
		"a library where the environment says": {func(b *builder) {
			b.add(item{name: "usr/lib/.wh." + library}, item{name: "opt/lib/" + library, content: s.libraries[library]})
			b.config.Config.Env = append(b.config.Config.Env, "LD_LIBRARY_PATH=/opt/lib")
		}, nil},
		"a library where ld.so.conf says, with a cache": {func(b *builder) {
			b.add(item{name: "usr/lib/.wh." + library}, item{name: "opt/lib/" + library, content: s.libraries[library]},
				item{name: "etc/ld.so.conf", content: "include /etc/ld.so.conf.d/*.conf\n"}, item{name: "etc/ld.so.conf.d/opt.conf", content: "# ours\n/opt/lib\n"}, item{name: "etc/ld.so.cache", content: "x"})
		}, nil},
		"a library where ld.so.conf says, without a cache": {func(b *builder) {
			b.add(item{name: "usr/lib/.wh." + library}, item{name: "opt/lib/" + library, content: s.libraries[library]}, item{name: "etc/ld.so.conf", content: "/opt/lib\n"})
		}, map[string]string{"OCI-04": library}},
		"a script": {func(b *builder) {
			b.add(item{name: "app/server", content: "#!/app/run -x\n", mode: 0o755}, item{name: "app/run", content: s.program, mode: 0o755})
		}, nil},
		"a script of env": {func(b *builder) {
			b.add(item{name: "app/server", content: "#!/usr/bin/env -S run -x\n", mode: 0o755}, item{name: "usr/bin/run", content: s.program, mode: 0o755}, item{name: "usr/bin/env", content: s.program, mode: 0o755})
		}, nil},
		"a script without interpreter": {func(b *builder) { b.add(item{name: "app/server", content: "#!/usr/bin/python3\n", mode: 0o755}) }, map[string]string{"OCI-04": "its interpreter /usr/bin/python3 does not exist"}},
		"a script of env without it": {func(b *builder) {
			b.add(item{name: "app/server", content: "#!/usr/bin/env python3\n", mode: 0o755}, item{name: "usr/bin/env", content: s.program, mode: 0o755})
		}, map[string]string{"OCI-04": "python3 is in no folder of PATH"}},
		"a script with Windows' lines": {func(b *builder) {
			b.add(item{name: "app/server", content: "#!/app/run\r\n", mode: 0o755}, item{name: "app/run", content: s.program, mode: 0o755})
		}, map[string]string{"OCI-04": "carriage return"}},
		"a text":                 {func(b *builder) { b.add(item{name: "app/server", content: "hello", mode: 0o755}) }, map[string]string{"OCI-04": "neither an ELF file nor a script"}},
		"no signal":              {func(b *builder) { b.config.Config.StopSignal = "" }, map[string]string{"OCI-05": "no STOPSIGNAL", "OCI-16": "stop signal"}},
		"a signal by its number": {func(b *builder) { b.config.Config.StopSignal = "15" }, nil},
		"a signal that kills":    {func(b *builder) { b.config.Config.StopSignal = "SIGKILL" }, map[string]string{"OCI-05": "SIGKILL", "OCI-16": "stop signal"}},
		"a setuid file":          {func(b *builder) { b.add(item{name: "usr/bin/su", content: "x", mode: 0o4755}) }, map[string]string{"OCI-06": "/usr/bin/su is setuid of 0 (layer 3)"}},
		"a setgid file":          {func(b *builder) { b.add(item{name: "usr/bin/wall", content: "x", mode: 0o2755, gid: 5}) }, map[string]string{"OCI-06": "/usr/bin/wall is setgid of 5"}},
		"a setuid file behind a link": {func(b *builder) {
			b.add(item{name: "usr/bin/su", content: "x", mode: 0o4755})
			b.add(item{name: "su", kind: tar.TypeLink, link: "usr/bin/su"})
			b.add(item{name: "usr/bin/.wh.su"})
		}, map[string]string{"OCI-06": "/su is setuid"}},
		"a setuid file that was removed": {func(b *builder) {
			b.add(item{name: "usr/bin/su", content: "x", mode: 0o4755})
			b.add(item{name: "usr/bin/.wh.su"})
		}, nil},
		"a setuid file that was opened": {func(b *builder) {
			b.add(item{name: "usr/bin/su", content: "x", mode: 0o4755})
			b.add(item{name: "usr/bin/su", content: "x", mode: 0o755})
		}, nil},
		"a file with capabilities": {func(b *builder) {
			b.add(item{name: "usr/bin/ping", content: "x", mode: 0o755, xattr: "security.capability"})
		}, map[string]string{"OCI-06": "/usr/bin/ping has capabilities"}},
		"a file that all can write":   {func(b *builder) { b.add(item{name: "etc/motd", mode: 0o666}) }, map[string]string{"OCI-07": "/etc/motd has mode 0666"}},
		"a folder that all can write": {func(b *builder) { b.add(item{name: "data/", mode: 0o1777}) }, map[string]string{"OCI-07": "/data has mode 1777"}},
		"a tmp that is not sticky":    {func(b *builder) { b.add(item{name: "tmp/", mode: 0o777}) }, map[string]string{"OCI-07": "/tmp has mode 0777"}},
		"a link has every right":      {func(b *builder) { b.add(item{name: "etc/link", kind: tar.TypeSymlink, link: "motd", mode: 0o777}) }, nil},
		"a key":                       {func(b *builder) { b.add(item{name: "app/key.pem", content: key}) }, map[string]string{"OCI-08": "/app/key.pem of layer 3 has a private key"}},
		"a key in a deleted file":     {func(b *builder) { b.add(item{name: "app/key.pem", content: key}); b.add(item{name: "app/.wh.key.pem"}) }, map[string]string{"OCI-08": "/app/key.pem of layer 3 has a private key; a later layer removes it"}},
		"a key in an emptied folder": {func(b *builder) {
			b.add(item{name: "build/key", content: key})
			b.add(item{name: "build/"}, item{name: "build/.wh..wh..opq"})
		}, map[string]string{"OCI-08": "/build/key of layer 3 has a private key; a later layer removes it"}},
		"a key that was overwritten": {func(b *builder) {
			b.add(item{name: "app/k", content: token})
			b.add(item{name: "app/k", content: "none"})
		}, map[string]string{"OCI-08": "/app/k of layer 3 has an AWS access key; a later layer"}},
		"a key at the end of much": {func(b *builder) {
			b.add(item{name: "usr/share/big", content: strings.Repeat("0123456\n", 1<<18) + token})
		}, map[string]string{"OCI-08": "/usr/share/big"}},
		"a key between two parts": {func(b *builder) {
			b.add(item{name: "usr/share/big", content: strings.Repeat(" ", 1<<20-10) + token + strings.Repeat(" ", 1<<20)})
		}, map[string]string{"OCI-08": "/usr/share/big"}},
		"a password in settings": {func(b *builder) { b.add(item{name: "app/.env", content: "DB_PASSWORD=correct-horse-battery\n"}) }, map[string]string{"OCI-08": "/app/.env of layer 3 has a password or key"}},
		"credentials of docker": {func(b *builder) {
			b.add(item{name: "root/.docker/config.json", content: `{"auths":{"r":{"auth":"eA=="}}}`})
		}, map[string]string{"OCI-08": "a file of passwords"}},
		"a password in the environment": {func(b *builder) {
			b.config.Config.Env = append(b.config.Config.Env, "DB_PASSWORD=correct-horse-battery")
		}, map[string]string{"OCI-09": "variable DB_PASSWORD has a password or key"}},
		"a token in the history": {func(b *builder) {
			b.config.History = []v1.History{{CreatedBy: "RUN |1 TOKEN=" + token, EmptyLayer: true}}
		}, map[string]string{"OCI-09": "the history has an AWS access key"}},
		"a token in an annotation": {func(b *builder) { b.annotations = map[string]string{"build": token} }, map[string]string{"OCI-09": "annotation build"}},
		"no base":                  {func(b *builder) { b.config.Config.Labels["org.opencontainers.image.base.digest"] = "" }, map[string]string{"OCI-10": "no label"}},
		"a base that nobody approved": {func(b *builder) {
			b.config.Config.Labels["org.opencontainers.image.base.digest"] = "sha256:" + strings.Repeat("0", 64)
		}, map[string]string{"OCI-10": "is not approved"}},
		"a base that it only claims": {func(b *builder) {
			digest := "sha256:" + strings.Repeat("1", 64)
			b.config.Config.Labels["org.opencontainers.image.base.digest"] = digest
			b.options.Bases = &container.Bases{Bases: []container.Base{{Digest: digest, Layers: []string{"sha256:" + strings.Repeat("2", 64)}}}}
		}, map[string]string{"OCI-10": "does not begin with its layers"}},
		"a base whose approval ended": {func(b *builder) {
			digest := "sha256:" + strings.Repeat("1", 64)
			b.config.Config.Labels["org.opencontainers.image.base.digest"] = digest
			b.options.Bases = &container.Bases{Bases: []container.Base{{Digest: digest, Expires: "2026-10-31"}}}
		}, map[string]string{"OCI-10": "expired on 2026-10-31"}},
		"a reference image has no base": {func(b *builder) {
			b.options.Reference = true
			b.config.Config.Labels["org.opencontainers.image.base.digest"] = ""
		}, nil},
		"no architecture":              {func(b *builder) { b.config.Architecture = "" }, map[string]string{"OCI-11": "no architecture"}},
		"another architecture":         {func(b *builder) { b.config.Architecture = "s390x" }, map[string]string{"OCI-11": "/app/server is for " + architectureHere(s)}},
		"another system":               {func(b *builder) { b.config.OS = "windows" }, map[string]string{"OCI-11": `operating system "windows"`}},
		"no title":                     {func(b *builder) { delete(b.config.Config.Labels, "org.opencontainers.image.title") }, map[string]string{"OCI-12": "no label org.opencontainers.image.title"}},
		"a day without a time":         {func(b *builder) { b.config.Config.Labels["org.opencontainers.image.created"] = "2026-10-30" }, map[string]string{"OCI-12": "no time of RFC 3339"}},
		"an annotation that disagrees": {func(b *builder) { b.annotations = map[string]string{"org.opencontainers.image.version": "2"} }, map[string]string{"OCI-12": `is "2", the label is "1.2.3"`}},
		"no end":                       {func(b *builder) { delete(b.config.Config.Labels, "io.ami-factory.eol") }, map[string]string{"OCI-13": "no label"}},
		"an end that is past":          {func(b *builder) { b.config.Config.Labels["io.ami-factory.eol"] = "2026-10-31" }, map[string]string{"OCI-13": "2026-10-31, which is past"}},
		"the last day":                 {func(b *builder) { b.config.Config.Labels["io.ami-factory.eol"] = "2026-11-01" }, nil},
		"no owner":                     {func(b *builder) { delete(b.config.Config.Labels, "io.ami-factory.owner") }, map[string]string{"OCI-14": "no label"}},
		"no contract": {func(b *builder) { delete(b.config.Config.Labels, container.LabelContract) },
			map[string]string{"OCI-15": "no label", "OCI-16": "there is no contract", "OCI-17": "there is no contract", "OCI-18": "there is no contract"}},
		"a contract that is none": {func(b *builder) { b.config.Config.Labels[container.LabelContract] = `{"user":0}` },
			map[string]string{"OCI-15": "user is out of range", "OCI-16": "there is no contract", "OCI-17": "there is no contract", "OCI-18": "there is no contract"}},
		"another contract than the given": {func(b *builder) {
			c := parse(t, strings.Replace(contractOfApp, "/healthz", "/ready", 1))
			b.options.Contract = &c
		}, map[string]string{"OCI-15": "/ready"}},
		"other arguments":             {func(b *builder) { b.config.Config.Cmd = nil }, map[string]string{"OCI-16": "command []"}},
		"a wrong PORT":                {func(b *builder) { b.config.Config.Env[1] = "PORT=80" }, map[string]string{"OCI-17": "PORT=80, the contract says PORT=8080"}},
		"no PORT":                     {func(b *builder) { b.config.Config.Env = b.config.Config.Env[:1] }, map[string]string{"OCI-17": "no variable PORT"}},
		"a port that nobody promised": {func(b *builder) { b.config.Config.ExposedPorts["22"] = struct{}{} }, map[string]string{"OCI-17": "EXPOSE 22"}},
		"no folder to write to":       {func(b *builder) { b.add(item{name: "var/lib/.wh.service"}) }, map[string]string{"OCI-18": "/var/lib/service does not exist"}},
		"a folder of root":            {func(b *builder) { b.add(item{name: "var/lib/service/"}) }, map[string]string{"OCI-18": "950:950 cannot write"}},
		"a cache":                     {func(b *builder) { b.add(item{name: "var/lib/apt/lists/x_InRelease", content: "x"}) }, map[string]string{"OCI-19": "/var/lib/apt/lists has 1 files"}},
		"an empty cache":              {func(b *builder) { b.add(item{name: "var/lib/apt/lists/lock"}) }, nil},
		"a link upwards":              {func(b *builder) { b.add(item{name: "app/etc", kind: tar.TypeSymlink, link: "../../../etc"}) }, map[string]string{"OCI-20": "/app/etc leads to ../../../etc"}},
		"a link of the host":          {func(b *builder) { b.add(item{name: "app/root", kind: tar.TypeSymlink, link: "/proc/1/root"}) }, map[string]string{"OCI-20": "which is the host's"}},
		"a link within": {func(b *builder) {
			b.add(item{name: "app/etc", kind: tar.TypeSymlink, link: "../etc"}, item{name: "app/abs", kind: tar.TypeSymlink, link: "/etc"})
		}, nil},
		"a name upwards":         {func(b *builder) { b.add(item{name: "../etc/cron.d/x", content: "x"}) }, map[string]string{"OCI-21": "leads upwards"}},
		"a hard link to nothing": {func(b *builder) { b.add(item{name: "app/x", kind: tar.TypeLink, link: "etc/shadow"}) }, map[string]string{"OCI-21": `hard link to "etc/shadow", which does not exist`}},
		"a hard link upwards":    {func(b *builder) { b.add(item{name: "app/x", kind: tar.TypeLink, link: "../../etc/shadow"}) }, map[string]string{"OCI-21": "leads upwards"}},
		"a hard link to a deleted file": {func(b *builder) {
			b.add(item{name: "etc/.wh.passwd"}, item{name: "app/x", kind: tar.TypeLink, link: "etc/passwd"})
		}, map[string]string{"OCI-21": "does not exist"}},
		"a file in a file":               {func(b *builder) { b.add(item{name: "app/server/x", content: "x"}) }, map[string]string{"OCI-21": "no folder"}},
		"a whiteout of nothing":          {func(b *builder) { b.add(item{name: "app/.wh."}) }, map[string]string{"OCI-21": "whiteout of no file"}},
		"a device":                       {func(b *builder) { b.add(item{name: "dev/sda", kind: tar.TypeBlock, mode: 0o666}) }, map[string]string{"OCI-22": "/dev/sda is a device"}},
		"a pipe":                         {func(b *builder) { b.add(item{name: "run/x", kind: tar.TypeFifo}) }, map[string]string{"OCI-22": "named pipe"}},
		"a program of the user's own":    {func(b *builder) { b.layers[0][1].uid = 950 }, map[string]string{"OCI-23": "/app/server is the user's own"}},
		"a folder of the user's own":     {func(b *builder) { b.layers[0][0].uid = 950 }, map[string]string{"OCI-23": "in a folder that the user can change"}},
		"layers that unpack to too much": {func(b *builder) { b.options.Limits = container.DefaultLimits(); b.options.Limits.Bytes = 1 << 20 }, filesOf("more than is read")},
		"very many files":                {func(b *builder) { b.options.Limits = container.DefaultLimits(); b.options.Limits.Entries = 5 }, filesOf("number of files")},
		"very many layers":               {func(b *builder) { b.options.Limits = container.DefaultLimits(); b.options.Limits.Layers = 1 }, filesOf("2 layers")},
		"a whiteout and its name again": {func(b *builder) {
			b.add(item{name: "etc/x", content: "new"}, item{name: "etc/.wh.x"}, item{name: "app/hard", kind: tar.TypeLink, link: "etc/x"})
		}, nil},
		"a whiteout behind a link": {func(b *builder) { b.add(item{name: "lib/.wh." + library}) }, map[string]string{"OCI-21": "a link leads to the folder of this whiteout"}},
		"a hard link that makes its file setuid": {func(b *builder) {
			b.add(item{name: "usr/bin/su", content: "x", mode: 0o755})
			b.add(item{name: "su", kind: tar.TypeLink, link: "usr/bin/su", mode: 0o4755})
		}, map[string]string{"OCI-06": "/usr/bin/su is setuid"}},
		"a hard link that opens its file to all": {func(b *builder) {
			b.add(item{name: "app/x", content: "x"}, item{name: "app/y", kind: tar.TypeLink, link: "app/x", mode: 0o666})
		}, map[string]string{"OCI-07": "/app/x has mode 0666"}},
		"a hard link that gives its file capabilities": {func(b *builder) {
			b.add(item{name: "app/x", content: "x"}, item{name: "app/y", kind: tar.TypeLink, link: "app/x", xattr: "security.capability"})
		}, map[string]string{"OCI-06": "/app/x has capabilities"}},
		"a hard link that gives its file to the user": {func(b *builder) {
			b.add(item{name: "app/x", kind: tar.TypeLink, link: "app/server", mode: 0o755, uid: 950})
		}, map[string]string{"OCI-21": "a hard link gives its file another owner, 950:0 instead of 0:0"}},
		"a whiteout in a folder that replaces a link": {func(b *builder) {
			b.add(item{name: "opt/e/su", content: "x", mode: 0o4755}, item{name: "l", kind: tar.TypeSymlink, link: "/opt/e"})
			b.add(item{name: "l/"}, item{name: "l/.wh.su"})
		}, map[string]string{"OCI-06": "/opt/e/su is setuid", "OCI-21": "folder of this whiteout"}},
		"an opaque folder that replaces a link": {func(b *builder) {
			b.add(item{name: "opt/e/su", content: "x", mode: 0o4755}, item{name: "l", kind: tar.TypeSymlink, link: "/opt/e"})
			b.add(item{name: "l/"}, item{name: "l/.wh..wh..opq"})
		}, map[string]string{"OCI-06": "/opt/e/su is setuid", "OCI-21": "folder of this whiteout"}},
		"a whiteout in a folder that another replaces": {func(b *builder) {
			b.add(item{name: "opt/e/x", content: "x"})
			b.add(item{name: "opt/e/.wh.x"}, item{name: "opt/e", kind: tar.TypeSymlink, link: "/app"})
		}, map[string]string{"OCI-21": "the layer also replaces the folder of this whiteout"}},
		"a whiteout behind a link of its own layer": {func(b *builder) {
			b.add(item{name: "opt/e/x", content: "x"})
			b.add(item{name: "l", kind: tar.TypeSymlink, link: "/opt/e"}, item{name: "l/.wh.x"})
		}, map[string]string{"OCI-21": "the layer also replaces the folder of this whiteout"}},
		"a file that replaces one behind a link": {func(b *builder) {
			b.add(item{name: "opt/e/su", content: "x", mode: 0o4755}, item{name: "l", kind: tar.TypeSymlink, link: "/opt/e"})
			b.add(item{name: "l/su", content: "x", mode: 0o755})
		}, map[string]string{"OCI-06": "/opt/e/su is setuid", "OCI-21": "behind a link of a lower layer"}},
		"a folder that changes its mode behind a link": {func(b *builder) {
			b.add(item{name: "opt/e/d/", mode: 0o777}, item{name: "l", kind: tar.TypeSymlink, link: "/opt/e"})
			b.add(item{name: "l/d/"})
		}, map[string]string{"OCI-07": "/opt/e/d has mode 0777", "OCI-21": "behind a link of a lower layer"}},
		"a program without a table of sections": {func(b *builder) {
			b.layers[0][1].content = s.program[:0x28] + strings.Repeat("\x00", 8) + s.program[0x30:0x3c] + "\x00\x00\x00\x00" + s.program[0x40:]
		}, nil},
		"a program of 32 bits whose bytes have the other order": {func(b *builder) {
			b.add(item{name: "app/server", content: madeELF(false, binary.BigEndian, "/app/ld.so", "libx.so.9"), mode: 0o755}, item{name: "app/ld.so", content: madeELF(false, binary.BigEndian, ""), mode: 0o755})
		}, map[string]string{"OCI-04": "/app/server needs the library libx.so.9", "OCI-11": "/app/server is for s390x"}},
		"a program that needs very many libraries": {func(b *builder) {
			b.layers[0][1].content = madeELF(true, binary.LittleEndian, "/app/ld.so", slices.Repeat([]string{"libx.so.9"}, 1001)...)
		}, map[string]string{"OCI-04": "/app/server: it needs more than 1000 libraries"}},
		"a program that needs a library with a very long name": {func(b *builder) {
			b.layers[0][1].content = madeELF(true, binary.LittleEndian, "/app/ld.so", strings.Repeat("x", 5000))
		}, map[string]string{"OCI-04": "/app/server: one of its names does not end, or is too long"}},
		"settings of the linker that include one another": {func(b *builder) {
			b.add(item{name: "usr/lib/.wh." + library}, item{name: "opt/lib/" + library, content: s.libraries[library]},
				item{name: "etc/ld.so.conf", content: "include ld.so.conf.d/*\n"}, item{name: "etc/ld.so.cache", content: "x"}, item{name: "etc/ld.so.conf.d/z", content: "/opt/lib\n"})
			for i := range 40 {
				b.add(item{name: fmt.Sprintf("etc/ld.so.conf.d/%d", i), content: strings.Repeat("include /etc/ld.so.conf.d/*\n", 40)})
			}
		}, nil},
		"folders that only the names of others have": {func(b *builder) {
			b.add(item{name: strings.Repeat("d/", 100) + "x", content: "x"})
			b.options.Limits = container.DefaultLimits()
			b.options.Limits.Entries = 50
		}, filesOf("number of files")},
		"files that are kept and too large together": {func(b *builder) {
			b.add(item{name: "etc/ld.so.conf", content: strings.Repeat("#", 600)})
			b.add(item{name: "etc/ld.so.conf", content: strings.Repeat("#", 600)})
			b.options.Limits = container.DefaultLimits()
			b.options.Limits.Kept = 1000
		}, filesOf("the files that are kept: more than is read")},
		"a link to a very long name": {func(b *builder) { b.add(item{name: "app/x", kind: tar.TypeSymlink, link: strings.Repeat("x", 5000)}) }, map[string]string{"OCI-21": "target is too long"}},
		"a link that makes a very long path": {func(b *builder) {
			deep := strings.Repeat(strings.Repeat("d", 200)+"/", 15)
			b.add(item{name: deep}, item{name: "l", kind: tar.TypeSymlink, link: "/" + deep}, item{name: "l/" + deep + "x", content: "x"})
		}, map[string]string{"OCI-21": "path is too long"}},
		"a path of very many folders":    {func(b *builder) { b.add(item{name: strings.Repeat("d/", 1500) + "x", content: "x"}) }, map[string]string{"OCI-21": "path is too long"}},
		"very many problems":             {func(b *builder) { b.add(slices.Repeat([]item{{name: "../x"}}, 1005)...) }, map[string]string{"OCI-21": "and 981 more"}},
		"a relative link of the host":    {func(b *builder) { b.add(item{name: "app/root", kind: tar.TypeSymlink, link: "../proc/1/root"}) }, map[string]string{"OCI-20": "which is the host's"}},
		"a link of the host by a detour": {func(b *builder) { b.add(item{name: "app/root", kind: tar.TypeSymlink, link: "/etc/..//proc/1/root"}) }, map[string]string{"OCI-20": "which is the host's"}},
		"a link of the host through others": {func(b *builder) {
			b.add(item{name: "app/r", kind: tar.TypeSymlink, link: "/"}, item{name: "app/root", kind: tar.TypeSymlink, link: "r/proc/1/root"})
		}, map[string]string{"OCI-20": "/app/root leads to r/proc/1/root, which is the host's"}},
		"a link that only begins like standard output": {func(b *builder) { b.add(item{name: "app/x", kind: tar.TypeSymlink, link: "/dev/stdout/../sda"}) }, map[string]string{"OCI-20": "which is the host's"}},
		"links to standard output": {func(b *builder) {
			b.add(item{name: "app/log", kind: tar.TypeSymlink, link: "/dev/stdout"}, item{name: "app/log2", kind: tar.TypeSymlink, link: "../dev/stdout"}, item{name: "dev/stdout", kind: tar.TypeSymlink, link: "/proc/self/fd/1"})
		}, nil},
		"a whiteout with content":   {func(b *builder) { b.add(item{name: "app/.wh.x", content: token}) }, map[string]string{"OCI-21": "it is a whiteout with content"}},
		"more after a layer's end":  {func(b *builder) { b.after = strings.Repeat("\x00", 2048) + token }, map[string]string{"OCI-21": "there is more after the end of its archive"}},
		"zeros after a layer's end": {func(b *builder) { b.after = strings.Repeat("\x00", 9000) }, nil},
		"a key between two parts of a file that is kept": {func(b *builder) {
			b.add(item{name: "etc/ld.so.conf.d/x", content: strings.Repeat(" ", 1<<20-10) + token + "\n"})
		}, map[string]string{"OCI-08": "/etc/ld.so.conf.d/x"}},
		"a user whose group is in passwd, with a zero before its number": {func(b *builder) {
			b.add(item{name: "etc/passwd", content: "svc:x:0950:950::/:/bin/false\n"})
			b.config.Config.User = "950"
		}, nil},
		"a shell whose command line is the command": {func(b *builder) {
			b.add(item{name: "bin/sh", content: s.program, mode: 0o755})
			b.config.Config.Entrypoint, b.config.Config.Cmd = []string{"/bin/sh"}, []string{"-c", "/app/server"}
		}, map[string]string{"OCI-02": "shell /bin/sh", "OCI-16": "entrypoint"}},
		"a shell under another name": {func(b *builder) {
			b.add(item{name: "bin/dash", content: s.program, mode: 0o755}, item{name: "app/run", kind: tar.TypeSymlink, link: "/bin/dash"})
			b.config.Config.Entrypoint, b.config.Config.Cmd = []string{"/app/run", "-c"}, []string{"/app/server"}
		}, map[string]string{"OCI-02": "shell /bin/dash", "OCI-16": "entrypoint"}},
		"an applet of busybox with an option -c": {func(b *builder) {
			b.add(item{name: "bin/busybox", content: s.program, mode: 0o755}, item{name: "app/httpd", kind: tar.TypeSymlink, link: "/bin/busybox"})
			b.config.Config.Entrypoint, b.config.Config.Cmd = []string{"/app/httpd", "-c"}, []string{"/etc/x"}
		}, map[string]string{"OCI-16": "entrypoint"}},
		"a folder of the user's own above the program": {func(b *builder) {
			b.add(item{name: "app/", uid: 950}, item{name: "app/bin/"}, item{name: "app/bin/server", content: s.program, mode: 0o755}, item{name: "app/server", kind: tar.TypeSymlink, link: "bin/server"})
		}, map[string]string{"OCI-23": "in a folder that the user can change, /app: mode"}},
		"a link to the program in a folder of the user's own": {func(b *builder) {
			b.add(item{name: "usr/bin/server", content: s.program, mode: 0o755}, item{name: "app/", uid: 950}, item{name: "app/server", kind: tar.TypeSymlink, link: "/usr/bin/server"})
		}, map[string]string{"OCI-23": "/app/server is in a folder that the user can change, /app: mode"}},
		"a link to the program that the user can replace in a sticky folder": {func(b *builder) {
			b.add(item{name: "tmp/server", kind: tar.TypeSymlink, link: "/usr/bin/server", uid: 950}, item{name: "usr/bin/server", content: s.program, mode: 0o755},
				item{name: "app/server", kind: tar.TypeSymlink, link: "/tmp/server"})
		}, map[string]string{"OCI-23": "/app/server is in a folder that the user can change, /tmp: mode"}},
	} {
		t.Run(sentence, func(t *testing.T) {
			b := goodBuild(t, s)
			tc.change(b)
			report, got := b.check(t)
			for id, part := range tc.fails {
				assert.Contains(t, got, id)
				assert.Contains(t, got[id], part)
			}
			for id, found := range got {
				assert.Contains(t, tc.fails, id, "unexpected: %s", found)
			}
			want := compliance.VerdictPassed
			if len(tc.fails) > 0 {
				want = compliance.VerdictRejected
			}
			assert.Equal(t, want, report.Verdict)
		})
	}
}

// madeELF is a program that has an interpreter, unless that is empty, and needs libraries.
func madeELF(wide bool, order binary.AppendByteOrder, interpreter string, needed ...string) string {
	word, class, machine, header, each := order.AppendUint32(nil, 0), elf.ELFCLASS32, elf.EM_S390, 52, 32
	if wide {
		word, class, machine, header, each = order.AppendUint64(nil, 0), elf.ELFCLASS64, elf.EM_X86_64, 64, 56
		if runtime.GOARCH == "arm64" {
			machine = elf.EM_AARCH64
		}
	}
	var out []byte
	half := func(v int) { out = order.AppendUint16(out, uint16(v)) }
	long := func(v int) { out = order.AppendUint32(out, uint32(v)) }
	address := func(values ...int) {
		for _, v := range values {
			if wide {
				out = order.AppendUint64(out, uint64(v))
			} else {
				long(v)
			}
		}
	}
	endian := elf.ELFDATA2LSB
	if order.String() == binary.BigEndian.String() {
		endian = elf.ELFDATA2MSB
	}
	names, offsets := []byte{0}, []int{}
	for _, n := range needed {
		offsets = append(offsets, len(names))
		names = append(append(names, n...), 0)
	}
	segments := 2
	if interpreter != "" {
		segments = 3
	}
	atName := header + segments*each
	atNames := atName + len(interpreter) + 1
	atDynamic := atNames + len(names)
	lengthDynamic := (len(needed) + 3) * 2 * len(word)
	out = append([]byte(elf.ELFMAG), byte(class), byte(endian), 1)
	out = append(out, make([]byte, 9)...)
	half(int(elf.ET_DYN))
	half(int(machine))
	long(1)
	address(0, header, 0)
	long(0)
	half(header)
	half(each)
	half(segments)
	half(0)
	half(0)
	half(0)
	segment := func(kind elf.ProgType, at, length int) {
		long(int(kind))
		if wide {
			long(4)
			address(at, at, at, length, length, 1)
			return
		}
		address(at, at, at, length, length)
		long(4)
		long(1)
	}
	if interpreter != "" {
		segment(elf.PT_INTERP, atName, len(interpreter)+1)
	}
	segment(elf.PT_LOAD, 0, atDynamic+lengthDynamic)
	segment(elf.PT_DYNAMIC, atDynamic, lengthDynamic)
	out = append(append(append(out, interpreter...), 0), names...)
	for _, at := range offsets {
		address(int(elf.DT_NEEDED), at)
	}
	address(int(elf.DT_STRTAB), atNames, int(elf.DT_STRSZ), len(names), int(elf.DT_NULL), 0)
	return string(out)
}

// filesOf says that every check that reads files fails with the same reason.
func filesOf(why string) map[string]string {
	out := map[string]string{}
	for _, id := range []string{"03", "04", "06", "07", "08", "18", "19", "20", "21", "22", "23"} {
		out["OCI-"+id] = why
	}
	return out
}

func TestAStaticProgramNeedsNothing(t *testing.T) {
	dir := t.TempDir()
	source := filepath.Join(dir, "main.go")
	require.NoError(t, os.WriteFile(source, []byte("package main\n\nfunc main() {}\n"), 0o600))
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "server"), source)
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	said, err := build.CombinedOutput()
	require.NoError(t, err, string(said))
	program, err := os.ReadFile(filepath.Join(dir, "server"))
	require.NoError(t, err)
	b := goodBuild(t, systemProgram(t))
	b.base = []item{{name: "tmp/", mode: 0o1777}, {name: "var/lib/service/", uid: 950, gid: 950}}
	b.layers[0][1].content = string(program)
	report, got := b.check(t)
	assert.Empty(t, got)
	assert.Equal(t, compliance.VerdictPassed, report.Verdict)
}

func TestWaiversAndGateApplyToImages(t *testing.T) {
	s := systemProgram(t)
	b := goodBuild(t, s)
	b.add(item{name: "usr/bin/su", content: "x", mode: 0o4755})
	b.options.Waivers = compliance.Waivers{Given: []compliance.Waiver{{
		ID: "1", Control: "OCI-06", Reason: "because of the test", Author: "one", Approver: "two", Created: "2026-10-20", Expires: "2026-11-20",
	}}}
	report, _ := b.check(t)
	assert.Equal(t, compliance.VerdictPassed, report.Verdict)
	assert.Equal(t, 1, report.Counts.Waived)

	b = goodBuild(t, s)
	delete(b.config.Config.Labels, "org.opencontainers.image.title")
	b.options.Gate = "medium"
	report, got := b.check(t)
	assert.Contains(t, got, "OCI-12")
	assert.Equal(t, compliance.VerdictPassed, report.Verdict)
	assert.Empty(t, report.Doubts(container.Controls(), "medium"))
}

func TestALayerThatIsNotWhatTheConfigurationSays(t *testing.T) {
	s := systemProgram(t)
	b := goodBuild(t, s)
	img := b.image(t)
	config, err := img.ConfigFile()
	require.NoError(t, err)
	config = config.DeepCopy()
	config.RootFS.DiffIDs[1].Hex = strings.Repeat("0", 64)
	changed, err := mutate.ConfigFile(img.Image, config)
	require.NoError(t, err)
	report, err := container.CheckImage(container.Image{Image: changed, ID: "x", Manifested: true}, b.options)
	require.NoError(t, err)
	assert.Contains(t, failed(report)["OCI-21"], "the configuration says sha256:0000")
	assert.Equal(t, compliance.VerdictRejected, report.Verdict)
}
