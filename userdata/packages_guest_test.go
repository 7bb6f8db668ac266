//go:build linux

package userdata_test

import (
	"io/fs"
	"maps"
	"path"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/userdata"
)

// withComponents is the tree with further components, whose files are named by
// their paths below components/.
func withComponents(t *testing.T, files map[string]string) fs.FS {
	t.Helper()
	tree := fstest.MapFS{}
	require.NoError(t, fs.WalkDir(userdata.FS, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := fs.ReadFile(userdata.FS, name)
		tree[name] = &fstest.MapFile{Data: data}
		return err
	}))
	for name, content := range files {
		tree[path.Join("components", name)] = &fstest.MapFile{Data: []byte(content)}
	}
	return tree
}

const (
	ownChecks = "controls:\n  - {id: OWN-01, title: t, severity: low, goss: {file: {/etc/hostname: {exists: true}}}}\n"
	// bootComponent asks for boot files as components and packages do.
	bootComponent = "name: bootish\ndescription: d\nfamilies: [debian-12]\norder: 31\npackages: [{name: logrotate}, {name: jq}]\n"
	bootInstall   = "set -e\nupdate-initramfs -u\nupdate-initramfs -c -k 9.0\nupdate-initramfs -u\nupdate-grub\n"
)

// unitsOf are the times at which services of the guest became active.
func unitsOf(t *testing.T, g *guest) map[string]string {
	t.Helper()
	out := map[string]string{}
	for line := range strings.Lines(g.output(t, `systemctl list-units --type=service --state=running --plain --no-legend | while read -r unit _; do
	echo "$unit $(systemctl show --value -p ActiveEnterTimestampMonotonic "$unit")"; done`)) {
		unit, at, _ := strings.Cut(strings.TrimSpace(line), " ")
		if !strings.Contains(unit, "@") && !strings.HasPrefix(unit, "apt-daily") {
			out[unit] = at
		}
	}
	return out
}

func TestThePackagesOfAllComponentsAreOneRunThatRestartsNothing(t *testing.T) {
	g := bootGuest(t)
	fsys := withComponents(t, map[string]string{
		"bootish/component.yaml": bootComponent, "bootish/checks.yaml": ownChecks, "bootish/install.sh": bootInstall,
	})
	g.write(t, "/usr/sbin/update-initramfs", 0o755, []byte("#!/bin/sh\necho \"$*\" >>/root/initramfs-calls\n"))
	g.output(t, "touch /boot/vmlinuz-9.0 && rm -f /var/log/apt/history.log")
	before := unitsOf(t, g)
	require.NotEmpty(t, before)
	const components = "  - {name: hardening}\n  - {name: docker}\n  - {name: bootish}\n"

	log, code := g.installOf(t, fsys, components)
	require.Zero(t, code, log)

	assert.Equal(t, "1", g.output(t, "grep -c ^Start-Date: /var/log/apt/history.log"), "runs of the package manager that changed something")
	for _, name := range []string{"auditd", "chrony", "docker.io", "jq"} {
		assert.Contains(t, g.output(t, "grep ^Install: /var/log/apt/history.log"), name+":", "it is in that run")
	}
	assert.Equal(t, "-c -k 9.0", g.output(t, "cat /root/initramfs-calls"), "one initramfs")
	after := unitsOf(t, g)
	for unit, at := range before {
		if now, running := after[unit]; running {
			assert.Equal(t, at, now, "%s was restarted", unit)
		}
	}
	assert.Equal(t, "0 0", g.output(t, "echo $(systemctl show --value -p ActiveEnterTimestampMonotonic auditd.service chrony.service)"),
		"the image's own boot starts them")
	g.output(t, "docker info >/dev/null") // which its component starts
	var result provision
	g.json(t, "/var/lib/ami-factory/provision.json", &result)
	var steps []string
	for _, s := range result.Components {
		steps = append(steps, s.Name)
		assert.Equal(t, "ok", s.Status)
	}
	assert.Equal(t, []string{"packages", "hardening", "docker", "bootish", "boot-files"}, steps)

	log, code = g.installOf(t, fsys, components)
	require.Zero(t, code, log)
	assert.NotRegexp(t, "[1-9][0-9]* changes", log, "a second run")
	assert.Equal(t, "1", g.output(t, "grep -c ^Start-Date: /var/log/apt/history.log"))
}

func TestAPackageThatIsMissingNamesItsComponentAndLine(t *testing.T) {
	g := bootGuest(t)
	broken := map[string]string{
		"broken/checks.yaml": ownChecks, "broken/install.sh": "echo NEVER\n",
		"broken/component.yaml": "name: broken\ndescription: d\nfamilies: [debian-12]\norder: 31\npackages:\n  - name: jq\n  - name: ami-factory-no-such\n",
	}
	run := func(t *testing.T, files map[string]string) (provision, string) {
		t.Helper()
		log, code := g.installOf(t, withComponents(t, files), "  - {name: filesystem}\n  - {name: docker}\n  - {name: broken}\n")
		require.NotZero(t, code, log)
		var result provision
		g.json(t, "/var/lib/ami-factory/provision.json", &result)
		require.NotNil(t, result.Failed)
		assert.NotContains(t, log, "NEVER")
		return result, log
	}
	result, log := run(t, broken)
	assert.Equal(t, "broken", result.Failed.Component)
	assert.Equal(t, "package ami-factory-no-such (components/broken/component.yaml:7:11) cannot be installed: E: Unable to locate package ami-factory-no-such", result.Failed.Command)
	assert.Equal(t, 0, result.Failed.Line)
	assert.Contains(t, log, "packages: failed with exit code ")
	assert.NotContains(t, log, "attempt 1 of 3", "another attempt finds it no more")
	g.output(t, "! command -v dockerd") // nothing is installed

	// A package that none lists: it is needed by one, and its script fails.
	g.output(t, "apt-get -q update >/dev/null; cd /root && mkdir -p needed/DEBIAN needs/DEBIAN /srv/apt"+
		" && printf 'Package: needed\nVersion: 1\nArchitecture: all\nMaintainer: m <m@x>\nDescription: d\n' >needed/DEBIAN/control"+
		" && printf '#!/bin/sh\nexit 3\n' >needed/DEBIAN/postinst && chmod 755 needed/DEBIAN/postinst"+
		" && printf 'Package: needs\nVersion: 1\nArchitecture: all\nMaintainer: m <m@x>\nDepends: needed\nDescription: d\n' >needs/DEBIAN/control"+
		" && dpkg-deb -b needed /srv/apt >/dev/null && dpkg-deb -b needs /srv/apt >/dev/null && cd /srv/apt"+
		" && for f in *.deb; do dpkg-deb --field $f; echo Filename: ./$f; echo Size: $(stat -c %s $f); echo SHA256: $(sha256sum <$f | cut -d' ' -f1); echo; done >Packages"+
		" && echo 'deb [trusted=yes] file:/srv/apt ./' >/etc/apt/sources.list.d/own.list && apt-get -q update >/dev/null")
	fixed := maps.Clone(broken)
	fixed["broken/component.yaml"] = strings.Replace(broken["broken/component.yaml"], "ami-factory-no-such", "needs", 1)
	result, _ = run(t, fixed)
	assert.Equal(t, "broken", result.Failed.Component)
	assert.Equal(t, "package needed, which needs (components/broken/component.yaml:7:11) needs, cannot be installed: dpkg: error processing package needed (--configure):", result.Failed.Command)
	g.output(t, "rm /var/lib/dpkg/info/needed.postinst") // and the run goes on where it was interrupted
	delete(fixed, "broken/install.sh")
	fixed["broken/install.sh"] = "true\n"
	log, code := g.installOf(t, withComponents(t, fixed), "  - {name: filesystem}\n  - {name: docker}\n  - {name: broken}\n")
	require.Zero(t, code, log)
	assert.Equal(t, "installed installed", g.output(t, "dpkg-query -W -f '${db:Status-Status} ' needed needs | sed 's/ $//'"))
}
