package baseimage

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Maximum space for installing, in bytes: the tree, the downloaded packages and
// the scratch files of their scripts.
const installRoom = 3 << 30

// mmdebstrap installs the distribution into the file tar.
func (b *builder) mmdebstrap(ctx context.Context, tar string) error {
	// Readable by the users of the namespace that runs the hook.
	work, err := os.MkdirTemp("", "ami-factory-")
	if err != nil {
		return fmt.Errorf("make scratch folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(work) }()
	if err := os.Chmod(work, 0o755); err != nil {
		return fmt.Errorf("make scratch folder: %w", err)
	}
	files, err := b.overlayFiles()
	if err != nil {
		return fmt.Errorf("read the files of a base image: %w", err)
	}
	inputs := map[string][]byte{"customize.sh": customize}
	for name, data := range files {
		inputs[filepath.Join("overlay", name)] = data
	}
	for _, name := range sortedKeys(inputs) {
		file := filepath.Join(work, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return fmt.Errorf("make scratch folder: %w", err)
		}
		if err := os.WriteFile(file, inputs[name], 0o644); err != nil {
			return fmt.Errorf("write scratch file: %w", err)
		}
	}

	argv := b.mmdebstrapArgs(work, tar)
	if !b.tool.namespaced && b.canUnshare(ctx) {
		scratch := filepath.Join(filepath.Dir(tar), "scratch")
		if err := os.Mkdir(scratch, 0o755); err != nil {
			return fmt.Errorf("make scratch folder: %w", err)
		}
		defer func() { _ = os.RemoveAll(scratch) }()
		argv = isolated(scratch, freeMemory() >= 2*installRoom, argv)
	}
	cmd := command(ctx, argv...)
	cmd.Stdin = strings.NewReader(b.sourceLines())
	var log bytes.Buffer
	lines := &progressWriter{report: b.report, log: &log}
	cmd.Stdout, cmd.Stderr = lines, lines
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	if err := explain(ctx, cmd, cmd.Run(), log.Bytes()); err != nil {
		return b.advise(err, log.String())
	}
	return nil
}

// advise adds what to do if apt refused the archive: a host of an older release
// may lack the keys of a newer release, and its mirrors may not serve it.
func (b *builder) advise(err error, log string) error {
	switch release := b.dist.codename; {
	case strings.Contains(log, "NO_PUBKEY"):
		return fmt.Errorf("apt's keyring on this machine lacks the keys of %s: upgrade the package debian-archive-keyring, "+
			"and let apt's sources be signed by its debian-archive-keyring.gpg: %w", release, err)
	case strings.Contains(log, "does not have a Release file"):
		return fmt.Errorf("the Debian mirrors of apt's sources on this machine do not serve %s: "+
			"add one that does to /etc/apt/sources.list.d: %w", release, err)
	}
	return err
}

// mmdebstrapArgs returns mmdebstrap's command line. It reads the sources from
// standard input.
func (b *builder) mmdebstrapArgs(work, tar string) []string {
	mode := "root"
	if b.tool.namespaced {
		mode = "unshare"
	}
	argv := append([]string{"mmdebstrap", "--mode=" + mode}, b.installArgs(work)...)
	for line := range strings.Lines(render(b.settings, func(string) bool { return true })) {
		argv = append(argv, "--aptopt="+strings.TrimSpace(line))
	}
	return append(argv, b.dist.codename, tar, "-")
}

// installArgs returns the arguments that decide what is installed. They are part
// of the cache's key.
func (b *builder) installArgs(work string) []string {
	return []string{
		"--variant=minbase",
		"--format=tar",
		"--include=" + strings.Join(slices.Sorted(slices.Values(b.dist.packages)), ","),
		// Unsafe, but if the machine crashes the tree is discarded anyway.
		"--dpkgopt=force-unsafe-io",
		// Not needed on a server, as in Debian's own minimal images.
		"--dpkgopt=path-exclude=/usr/share/locale/*",
		"--dpkgopt=path-include=/usr/share/locale/locale.alias",
		// Before the kernel and its initramfs are installed.
		fmt.Sprintf(`--essential-hook=mkdir -p "$1/etc/initramfs-tools" && cp -r %s/overlay/etc/initramfs-tools/conf.d "$1/etc/initramfs-tools/"`, work),
		fmt.Sprintf(`--customize-hook=sh %s/customize.sh "$1" %s/overlay`, work, work),
	}
}

// sourceLines returns the host's Debian sources for mmdebstrap.
func (b *builder) sourceLines() string {
	var lines strings.Builder
	for _, s := range b.sources {
		lines.WriteString(oneLine(s))
	}
	return lines.String()
}

// ownNamespaces returns the unshare command that runs a program with its own
// process ids and mounts: however this process ends, all processes that it
// started end too, and their mounts are never visible outside.
func ownNamespaces() []string {
	return []string{"unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc", "--"}
}

// isolated wraps a command with ownNamespaces. Its scratch files are in a
// folder, on request on a new tmpfs there, because the host's own memory-backed
// folders may be small or not allow devices.
func isolated(scratch string, inMemory bool, argv []string) []string {
	mount := ":"
	if inMemory {
		mount = fmt.Sprintf(`mount -t tmpfs -o size=%d,mode=0755 tmpfs "$TMPDIR"`, int64(installRoom))
	}
	shell := []string{"sh", "-c", `TMPDIR=$1; export TMPDIR; shift; ` + mount + ` && "$@"`, "sh", scratch}
	return slices.Concat(ownNamespaces(), shell, argv)
}

// canUnshare reports whether this process may create namespaces, which root in a
// container often may not.
func (b *builder) canUnshare(ctx context.Context) bool {
	return b.tool.run(ctx, append(ownNamespaces(), "true")...) == nil
}

// report passes on mmdebstrap's messages as progress.
func (b *builder) report(line string) {
	if text, ok := strings.CutPrefix(line, "I: "); ok {
		if text, ok := strings.CutSuffix(text, "..."); ok && !strings.HasPrefix(text, "finding") {
			b.opts.Progress(text)
		}
	}
}

// progressWriter keeps everything written and reports it line by line.
type progressWriter struct {
	report func(string)
	log    *bytes.Buffer
	rest   []byte
}

var _ io.Writer = (*progressWriter)(nil)

func (w *progressWriter) Write(p []byte) (int, error) {
	w.log.Write(p)
	w.rest = append(w.rest, p...)
	for {
		advance, line, err := bufio.ScanLines(w.rest, false)
		if err != nil || advance == 0 {
			return len(p), err
		}
		w.report(string(line))
		w.rest = w.rest[advance:]
	}
}
