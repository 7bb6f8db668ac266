package diff

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/evidence/bundle"
	"github.com/ami-factory/ami-factory/pkg/evidence/inventory"
	"github.com/ami-factory/ami-factory/pkg/evidence/vulnerability"
	"github.com/ami-factory/ami-factory/pkg/plan"
	"github.com/ami-factory/ami-factory/pkg/recipe"
	"github.com/ami-factory/ami-factory/test/golden"
)

func deb(name, version string) inventory.Package {
	return inventory.Package{Type: inventory.Deb, Name: name, Version: version, Arch: "amd64", Source: name, SourceVersion: version}
}

func kernel(abi, version string) inventory.Package {
	p := deb("linux-image-"+abi+"-cloud-amd64", version)
	p.Source = "linux-signed-amd64"
	return p
}

func rpm(name, epoch, version string) inventory.Package {
	return inventory.Package{Type: inventory.RPM, Name: name, Version: version, Epoch: epoch, Arch: "x86_64", Source: name, SourceVersion: version}
}

// released is the evidence of a release, after some changes.
func released(execution string, changes ...func(*Record)) Record {
	r := Record{
		Side: Side{ImageID: "ami-" + execution, ImageName: "docker-" + execution, Execution: execution, Fingerprint: "f", ReleaseID: "r", FactoryVersion: "1.0.0"},
		Manifest: bundle.Manifest{
			Recipe: "debian-12-docker", Made: time.Date(2026, 11, 30, 3, 0, 0, 0, time.UTC),
			Source:   bundle.Source{ImageID: "ami-base1", Name: "debian-12-20261101", OwnerID: "136693071363", Architecture: "x86_64", CreationDate: "2026-11-01T00:00:00.000Z"},
			Images:   []bundle.Image{{Region: "eu-central-1", ImageID: "ami-" + execution, Architecture: "x86_64", RootDevice: "/dev/xvda", Volumes: []bundle.Volume{{Device: "/dev/xvda", SnapshotID: "snap-" + execution, SizeGiB: 8, Encrypted: true, KMSKeyID: "arn:key"}}}},
			Audience: bundle.Audience{Accounts: []string{"111111111111"}, Organizations: []string{}},
		},
		Plan: plan.BuildPlan{
			Recipe:      recipe.Recipe{Name: "debian-12-docker", Family: "debian-12", Checks: recipe.Checks{Waivers: []recipe.Waiver{waived("SYS-02", "2026-12-31")}}},
			Fingerprint: "f", Inputs: plan.Inputs{Files: "files", UserData: "data", CheckEngine: "goss"}, Components: []plan.Component{{Name: "docker", Parameters: map[string]string{"version": "27.1"}}},
		},
		Compliance: compliance.Report{Results: []compliance.Result{
			{ControlID: "SYS-01", Severity: "high", Status: compliance.StatusPass, Engine: compliance.Engine{Name: "goss", Version: "0.4.8"}},
			{ControlID: "SYS-02", Severity: "low", Status: compliance.StatusFail, Waiver: &compliance.Waiver{Control: "SYS-02"}, Engine: compliance.Engine{Name: "goss", Version: "0.4.8"}},
		}},
		Inventory: inventory.Inventory{
			System:   inventory.System{ID: "debian", Version: "12", Codename: "bookworm", Name: "Debian GNU/Linux 12"},
			Kernel:   inventory.Kernel{Running: "6.1.0-27-cloud-amd64", Default: "6.1.0-27-cloud-amd64", Installed: []string{"6.1.0-27-cloud-amd64"}},
			Packages: []inventory.Package{deb("openssl", "3.0.14-1"), deb("bash", "5.2.15-2"), deb("tar", "1:1.34"), kernel("6.1.0-27", "6.1.115-1")},
			Files:    []inventory.File{{Path: "/usr/bin/sudo", Mode: "4755", Owner: "root", Group: "root", Package: "sudo"}},
			Users:    []inventory.User{{Name: "root", UID: "0", GID: "0", Home: "/root", Shell: "/bin/bash", Password: "locked"}},
			Sockets:  []inventory.Socket{{Protocol: "tcp", Address: "any", Port: "22", Process: "sshd"}},
			Units:    []inventory.Unit{{Name: "ssh.service", State: "enabled"}},
			Sysctls:  []inventory.Sysctl{{Name: "net.ipv4.ip_forward", Value: "0"}},
			Repositories: []inventory.Repository{
				{File: "/etc/apt/sources.list", URI: "https://deb.example", Suites: "bookworm", Parts: "main", Enabled: true, Keys: "/usr/share/keyrings/debian.gpg"},
			},
			Keys:   []inventory.Key{{File: "/usr/share/keyrings/debian.gpg", SHA256: "aa", Fingerprints: []string{"F1"}}},
			Images: []inventory.Image{{Engine: "docker", Repository: "pause", Tag: "3.10", Digest: "sha256:1", ID: "sha256:2"}},
		},
		Vulnerabilities: vulnerability.Report{Findings: []vulnerability.Finding{
			{ID: "CVE-2026-1", Package: "openssl", Installed: "3.0.14-1", Fixed: "3.0.15-1", Severity: "high"},
			{ID: "CVE-2026-2", Package: "bash", Installed: "5.2.15-2", Severity: "low"},
		}},
	}
	for _, change := range changes {
		change(&r)
	}
	return r
}

func waived(control, expires string) recipe.Waiver {
	return recipe.Waiver{Control: control, Reason: "the reason", Author: "ann@example.com", Approver: "bob@example.com", Created: "2026-11-01", Expires: expires}
}

// with replaces the version of a package.
func with(name, version string) func(*Record) {
	return func(r *Record) {
		at := slices.IndexFunc(r.Inventory.Packages, func(p inventory.Package) bool { return p.Name == name })
		if at < 0 {
			return // a change before has removed it
		}
		r.Inventory.Packages = slices.Clone(r.Inventory.Packages)
		r.Inventory.Packages[at].Version, r.Inventory.Packages[at].SourceVersion = version, version
	}
}

func packages(list ...inventory.Package) func(*Record) {
	return func(r *Record) { r.Inventory.Packages = append(slices.Clone(r.Inventory.Packages), list...) }
}

func kernelIs(version string, installed ...string) func(*Record) {
	return func(r *Record) {
		r.Inventory.Kernel = inventory.Kernel{Running: version, Default: version, Installed: installed}
	}
}

func newerSource(r *Record) {
	r.Manifest.Source.ImageID, r.Manifest.Source.Name, r.Manifest.Source.CreationDate = "ami-base2", "debian-12-20261120", "2026-11-20T00:00:00.000Z"
	r.Plan.Source.ImageID, r.Plan.Fingerprint, r.Fingerprint = "ami-base2", "g", "g"
}

func withoutPackage(name string) func(*Record) {
	return func(r *Record) {
		r.Inventory.Packages = slices.DeleteFunc(slices.Clone(r.Inventory.Packages), func(p inventory.Package) bool { return p.Name == name })
	}
}

// one is a case of a table: what changes, and what the diff says of it.
type one struct {
	before, after []func(*Record)
	want          []string // sections with their changes
	upgrades      bool     // nothing but upgrades of packages
}

func change(f ...func(*Record)) []func(*Record) { return f }

func cases() map[string]one {
	pkg := "packages: "
	return map[string]one{
		"nothing differs":                           {upgrades: true},
		"a package is upgraded":                     {after: change(with("openssl", "3.0.15-1")), want: []string{pkg + "openssl upgraded: 3.0.14-1 -> 3.0.15-1"}, upgrades: true},
		"a package is downgraded":                   {after: change(with("openssl", "3.0.9-1")), want: []string{pkg + "openssl downgraded: 3.0.14-1 -> 3.0.9-1"}},
		"a tilde sorts before the end of a version": {after: change(with("bash", "5.2.15-2~deb12u1")), want: []string{pkg + "bash downgraded: 5.2.15-2 -> 5.2.15-2~deb12u1"}},
		"an epoch outweighs a version":              {after: change(with("tar", "1.35")), want: []string{pkg + "tar downgraded: 1:1.34 -> 1.35"}},
		"a version that cannot be compared":         {after: change(with("bash", "not a version")), want: []string{pkg + "bash changed: 5.2.15-2 -> not a version"}},
		"a package is added":                        {after: change(packages(deb("nmap", "7.93"))), want: []string{pkg + "nmap added: 7.93"}},
		"a package is removed":                      {after: change(withoutPackage("bash")), want: []string{pkg + "bash removed: 5.2.15-2"}},
		"an epoch of RPM is part of its version":    {before: change(packages(rpm("vim", "2", "9.0"))), after: change(packages(rpm("vim", "1", "9.1"))), want: []string{pkg + "vim downgraded: 2:9.0 -> 1:9.1"}},
		"an architecture is added":                  {after: change(packages(inventory.Package{Type: inventory.Deb, Name: "bash", Version: "5.2.15-2", Arch: "i386", Source: "bash", SourceVersion: "5.2.15-2"})), want: []string{pkg + "bash:i386 added: 5.2.15-2"}},
		"a later version comes from another source package": {
			after: change(with("bash", "5.2.15-3"), func(r *Record) { r.Inventory.Packages[1].Source = "evil" }),
			want:  []string{pkg + "bash changed: bash 5.2.15-2 of bash 5.2.15-2 -> bash 5.2.15-3 of evil 5.2.15-3"},
		},
		"the same version is built from another source": {
			after: change(func(r *Record) {
				r.Inventory.Packages = slices.Clone(r.Inventory.Packages)
				r.Inventory.Packages[1].Source = "evil"
			}),
			want: []string{pkg + "bash changed: bash 5.2.15-2 of bash 5.2.15-2 -> bash 5.2.15-2 of evil 5.2.15-2"},
		},
		"a kernel of Debian replaces the one before": {
			after: change(withoutPackage("linux-image-6.1.0-27-cloud-amd64"), packages(kernel("6.1.0-28", "6.1.119-1")), kernelIs("6.1.0-28-cloud-amd64", "6.1.0-28-cloud-amd64")),
			want: []string{
				"kernel: default upgraded: 6.1.0-27-cloud-amd64 -> 6.1.0-28-cloud-amd64", "kernel: installed upgraded: 6.1.0-27-cloud-amd64 -> 6.1.0-28-cloud-amd64",
				"kernel: running upgraded: 6.1.0-27-cloud-amd64 -> 6.1.0-28-cloud-amd64", pkg + "linux-image-*-cloud-amd64 upgraded: 6.1.115-1 -> 6.1.119-1",
			}, upgrades: true,
		},
		"a kernel of RPM is installed beside the one before": {
			before: change(packages(rpm("kernel", "", "6.1.112-122.amzn2023"))), after: change(packages(rpm("kernel", "", "6.1.112-122.amzn2023"), rpm("kernel", "", "6.1.115-126.amzn2023"))),
			want: []string{pkg + "kernel upgraded: 6.1.112-122.amzn2023 -> 6.1.112-122.amzn2023, 6.1.115-126.amzn2023"}, upgrades: true,
		},
		"the later of two kernels is removed": {
			before: change(packages(rpm("kernel", "", "6.1.112"), rpm("kernel", "", "6.1.115"))), after: change(packages(rpm("kernel", "", "6.1.112"))),
			want: []string{pkg + "kernel downgraded: 6.1.112, 6.1.115 -> 6.1.112"},
		},
		"the earlier of two kernels is removed": {
			before: change(packages(rpm("kernel", "", "6.1.112"), rpm("kernel", "", "6.1.115"))), after: change(packages(rpm("kernel", "", "6.1.115"))),
			want: []string{pkg + "kernel removed: 6.1.112, 6.1.115 -> 6.1.115"},
		},
		"the kernel differs without an upgrade of its package": {
			after: change(kernelIs("6.1.0-28-cloud-amd64", "6.1.0-27-cloud-amd64")),
			want:  []string{"kernel: default upgraded: 6.1.0-27-cloud-amd64 -> 6.1.0-28-cloud-amd64", "kernel: running upgraded: 6.1.0-27-cloud-amd64 -> 6.1.0-28-cloud-amd64"},
		},
		"an older kernel is booted": {
			before: change(kernelIs("6.1.0-28-cloud-amd64", "6.1.0-28-cloud-amd64")), after: change(with("linux-image-6.1.0-27-cloud-amd64", "6.1.119-1"), kernelIs("6.1.0-9-cloud-amd64", "6.1.0-28-cloud-amd64")),
			want: []string{
				"kernel: default downgraded: 6.1.0-28-cloud-amd64 -> 6.1.0-9-cloud-amd64", "kernel: running downgraded: 6.1.0-28-cloud-amd64 -> 6.1.0-9-cloud-amd64",
				pkg + "linux-image-*-cloud-amd64 upgraded: 6.1.115-1 -> 6.1.119-1",
			},
		},
		"the source image is newer": {after: change(newerSource, with("bash", "5.2.15-3")), want: []string{pkg + "bash upgraded: 5.2.15-2 -> 5.2.15-3", "source: image upgraded: ami-base1 debian-12-20261101 -> ami-base2 debian-12-20261120"}, upgrades: true},
		"the source image is older": {before: change(newerSource), want: []string{"source: image downgraded: ami-base2 debian-12-20261120 -> ami-base1 debian-12-20261101"}},
		"the source image is of another owner": {
			after: change(newerSource, func(r *Record) { r.Manifest.Source.OwnerID = "999999999999" }),
			want:  []string{"source: image upgraded: ami-base1 debian-12-20261101 -> ami-base2 debian-12-20261120", "source: owner changed: 136693071363 -> 999999999999"},
		},
		"a field of the recipe changes": {after: change(func(r *Record) { r.Plan.Recipe.Gate.Severity = "low" }), want: []string{"recipe: gate.severity added: low"}},
		"a part of the content changes beside the source image": {
			after: change(newerSource, func(r *Record) { r.Plan.Inputs.UserData = "other" }),
			want:  []string{"recipe: the builder's user data changed", "source: image upgraded: ami-base1 debian-12-20261101 -> ami-base2 debian-12-20261120"},
		},
		"the check engine changes beside the source image": {
			after: change(newerSource, func(r *Record) { r.Plan.Inputs.CheckEngine = "other" }),
			want:  []string{"recipe: the check engine changed", "source: image upgraded: ami-base1 debian-12-20261101 -> ami-base2 debian-12-20261120"},
		},
		"the release before does not record all parts of its content": {
			before: change(func(r *Record) { r.Plan.Inputs = plan.Inputs{} }), after: change(newerSource),
			want: []string{"recipe: parts of the content that only one of the two plans records changed", "source: image upgraded: ami-base1 debian-12-20261101 -> ami-base2 debian-12-20261120"},
		},
		"files of components change beside the source image": {
			after: change(newerSource, func(r *Record) { r.Plan.Inputs.Files = "other" }),
			want:  []string{"recipe: files of the components changed", "source: image upgraded: ami-base1 debian-12-20261101 -> ami-base2 debian-12-20261120"},
		},
		"a parameter of a component changes": {
			after: change(func(r *Record) {
				r.Plan.Components = []plan.Component{{Name: "docker", Parameters: map[string]string{"version": "28"}}}
			}),
			want: []string{`components: docker version changed: "27.1" -> "28"`},
		},
		"a component is added": {
			after: change(func(r *Record) {
				r.Plan.Components = append(slices.Clone(r.Plan.Components), plan.Component{Name: "ecs"})
			}),
			want: []string{"components: ecs added"},
		},
		"a vulnerability is fixed": {after: change(func(r *Record) { r.Vulnerabilities.Findings = r.Vulnerabilities.Findings[1:] }), want: []string{"vulnerabilities: CVE-2026-1 in openssl fixed: high, installed 3.0.14-1, fixed in 3.0.15-1"}, upgrades: true},
		"a vulnerability is new":   {before: change(func(r *Record) { r.Vulnerabilities.Findings = r.Vulnerabilities.Findings[1:] }), want: []string{"vulnerabilities: CVE-2026-1 in openssl new: high, installed 3.0.14-1, fixed in 3.0.15-1"}},
		"a vulnerability is exploited": {
			after: change(func(r *Record) {
				r.Vulnerabilities.Findings = slices.Clone(r.Vulnerabilities.Findings)
				r.Vulnerabilities.Findings[0].Exploited = "2026-11-20"
			}),
			want: []string{"vulnerabilities: CVE-2026-1 in openssl changed: high -> high, exploited since 2026-11-20"},
		},
		"a control fails that passed":      {after: change(status("SYS-01", compliance.StatusFail)), want: []string{"controls: SYS-01 worsened: pass (high) -> fail (high)"}},
		"a control passes that was waived": {after: change(status("SYS-02", compliance.StatusPass)), want: []string{"controls: SYS-02 improved: waived (low) -> pass (low)"}},
		"a control is less severe":         {after: change(severity("SYS-01", "low")), want: []string{"controls: SYS-01 changed: pass (high) -> pass (low)"}},
		"a control is no longer checked":   {after: change(func(r *Record) { r.Compliance.Results = r.Compliance.Results[:1] }), want: []string{"controls: SYS-02 removed: waived (low)"}},
		"another check engine": {after: change(func(r *Record) {
			r.Compliance.Results = slices.Clone(r.Compliance.Results)
			for i := range r.Compliance.Results {
				r.Compliance.Results[i].Engine.Version = "0.4.9"
			}
		}), want: []string{"engines: goss changed: 0.4.8 -> 0.4.9"}},
		"a waiver is renewed": {after: change(waivers(waived("SYS-02", "2027-02-28"))), want: []string{
			"waivers: debian-12-docker/SYS-02 renewed: until 2026-12-31, by ann@example.com, approved by bob@example.com: the reason -> until 2027-02-28, by ann@example.com, approved by bob@example.com: the reason"}},
		"a waiver is added": {after: change(waivers(waived("SYS-02", "2026-12-31"), waived("SYS-03", "2026-12-31"))), want: []string{"waivers: debian-12-docker/SYS-03 added: until 2026-12-31, by ann@example.com, approved by bob@example.com: the reason"}},
		"a waiver states a false positive now": {after: change(func(r *Record) {
			w := waived("SYS-02", "2026-12-31")
			w.FalsePositive.Justification = "component_not_present"
			r.Plan.Recipe.Checks.Waivers = []recipe.Waiver{w}
		}), want: []string{"waivers: debian-12-docker/SYS-02 changed: until 2026-12-31, by ann@example.com, approved by bob@example.com: the reason -> until 2026-12-31, by ann@example.com, approved by bob@example.com: the reason, stated as a false positive: component_not_present"}},
		"a waiver is removed": {after: change(waivers()), want: []string{"waivers: debian-12-docker/SYS-02 ended: until 2026-12-31, by ann@example.com, approved by bob@example.com: the reason"}},
		"a waiver runs out":   {after: change(func(r *Record) { r.Manifest.Made = r.Manifest.Made.AddDate(0, 2, 0) }), want: []string{"waivers: debian-12-docker/SYS-02 ended: until 2026-12-31, by ann@example.com, approved by bob@example.com: the reason"}},
		"a user gets a shell": {after: change(func(r *Record) {
			r.Inventory.Users = append(slices.Clone(r.Inventory.Users), inventory.User{Name: "eve", UID: "0", GID: "0", Home: "/", Shell: "/bin/sh"})
		}), want: []string{"users: eve added: uid 0, gid 0, home /, shell /bin/sh, password unknown"}},
		"a second account has the same name": {after: change(func(r *Record) {
			r.Inventory.Users = append(slices.Clone(r.Inventory.Users), inventory.User{Name: "root", UID: "0", GID: "0", Home: "/", Shell: "/bin/sh", Password: "empty"})
		}),
			want: []string{"users: root changed: uid 0, gid 0, home /root, shell /bin/bash, password locked -> uid 0, gid 0, home /, shell /bin/sh, password empty; uid 0, gid 0, home /root, shell /bin/bash, password locked"}},
		"a group gets a member": {after: change(func(r *Record) {
			r.Inventory.Groups = []inventory.Group{{Name: "sudo", GID: "27", Members: []string{"eve"}}}
		}), want: []string{"users: group sudo added: gid 27, members eve"}},
		"a privileged file is added": {after: change(func(r *Record) {
			r.Inventory.Files = append(slices.Clone(r.Inventory.Files), inventory.File{Path: "/tmp/x", Mode: "4755", Owner: "root", Group: "root"})
		}), want: []string{"files: /tmp/x added: 4755 root:root, package none"}},
		"a socket listens": {after: change(func(r *Record) {
			r.Inventory.Sockets = append(slices.Clone(r.Inventory.Sockets), inventory.Socket{Protocol: "tcp", Address: "any", Port: "80", Process: "nginx"})
		}), want: []string{"sockets: tcp any:80 added: nginx"}},
		"a unit is enabled": {after: change(func(r *Record) {
			r.Inventory.Units = append(slices.Clone(r.Inventory.Units), inventory.Unit{Name: "x.service", State: "enabled"})
		}), want: []string{"units: x.service added: enabled"}},
		"a kernel parameter changes": {after: change(func(r *Record) { r.Inventory.Sysctls = []inventory.Sysctl{{Name: "net.ipv4.ip_forward", Value: "1"}} }), want: []string{"sysctls: net.ipv4.ip_forward changed: 0 -> 1"}},
		"a repository loses its keys": {after: change(func(r *Record) {
			r.Inventory.Repositories = slices.Clone(r.Inventory.Repositories)
			r.Inventory.Repositories[0].Keys = ""
		}), want: []string{"repositories: /etc/apt/sources.list https://deb.example bookworm changed: enabled, components main, keys /usr/share/keyrings/debian.gpg -> enabled, components main, keys not named"}},
		"a key is replaced": {after: change(func(r *Record) {
			r.Inventory.Keys = []inventory.Key{{File: "/usr/share/keyrings/debian.gpg", SHA256: "bb", Fingerprints: []string{"F2"}}}
		}), want: []string{"keys: /usr/share/keyrings/debian.gpg changed: sha256 aa F1 -> sha256 bb F2"}},
		"a container image changes": {after: change(func(r *Record) {
			r.Inventory.Images = []inventory.Image{{Engine: "docker", Repository: "pause", Tag: "3.10", Digest: "sha256:9"}}
		}), want: []string{"containers: docker pause:3.10 changed: sha256:1 -> sha256:9"}},
		"the distribution has a new version":          {after: change(func(r *Record) { r.Inventory.System.Version = "13" }), want: []string{"system: version changed: 12 -> 13"}},
		"the description of the distribution changes": {after: change(func(r *Record) { r.Inventory.System.Name = "Debian GNU/Linux 12.8" }), want: []string{"system: description changed: Debian GNU/Linux 12 -> Debian GNU/Linux 12.8"}, upgrades: true},
		"the volume is larger": {after: change(func(r *Record) {
			r.Manifest.Images = slices.Clone(r.Manifest.Images)
			r.Manifest.Images[0].Volumes = []bundle.Volume{{Device: "/dev/xvda", SizeGiB: 16, Encrypted: true, KMSKeyID: "arn:key"}}
		}), want: []string{"image: eu-central-1 /dev/xvda changed: 8 GiB, encrypted with arn:key -> 16 GiB, encrypted with arn:key"}},
		"the image is shared with another account": {after: change(func(r *Record) { r.Manifest.Audience.Accounts = []string{"111111111111", "222222222222"} }), want: []string{"sharing: account 222222222222 added"}},
		"an inventory is not complete":             {after: change(func(r *Record) { r.Incomplete = []string{"docker: exit code 1"} })},
		"one of the guests is simulated":           {after: change(func(r *Record) { r.Simulated = true })},
		"both guests are simulated":                {before: change(func(r *Record) { r.Simulated = true }), after: change(func(r *Record) { r.Simulated = true }), upgrades: true},
	}
}

func status(id, to string) func(*Record) {
	return func(r *Record) {
		r.Compliance.Results = slices.Clone(r.Compliance.Results)
		for i := range r.Compliance.Results {
			if r.Compliance.Results[i].ControlID == id {
				r.Compliance.Results[i].Status = to
			}
		}
	}
}

func severity(id, to string) func(*Record) {
	return func(r *Record) {
		r.Compliance.Results = slices.Clone(r.Compliance.Results)
		for i := range r.Compliance.Results {
			if r.Compliance.Results[i].ControlID == id {
				r.Compliance.Results[i].Severity = to
			}
		}
	}
}

func waivers(list ...recipe.Waiver) func(*Record) {
	return func(r *Record) { r.Plan.Recipe.Checks.Waivers = list }
}

// all are the changes of a diff, each with its section, sorted.
func all(d Diff) []string {
	var out []string
	for _, s := range d.Sections {
		for _, c := range s.Changes {
			out = append(out, string(s.Kind)+": "+c.String())
		}
	}
	slices.Sort(out)
	return out
}

func TestADiffNamesEveryChangeAndWhetherItIsMoreThanUpgrades(t *testing.T) {
	for name, c := range cases() {
		t.Run(name, func(t *testing.T) {
			before, after := released("one", c.before...), released("two", c.after...)
			d := Of(&before, after, "")
			assert.Equal(t, c.want, all(d))
			assert.Equal(t, c.upgrades, d.OnlyPackageUpgrades())
			assert.Equal(t, c.upgrades, slices.Contains(d.Lines(99), "Only packages were upgraded.") || d.Empty() && c.upgrades)
		})
	}
}

func TestExchangedSidesMirrorADiffAndEqualOnesAreEmpty(t *testing.T) {
	opposite := map[string]string{
		Added: Removed, Removed: Added, Upgraded: Downgraded, Downgraded: Upgraded, Fixed: New, New: Fixed, Improved: Worsened, Worsened: Improved,
		Renewed: Shortened, Shortened: Renewed, Ended: Added, Changed: Changed,
	}
	table := cases()
	var names []string
	for name := range table {
		names = append(names, name)
	}
	slices.Sort(names)
	random := rand.New(rand.NewPCG(1, 2))
	some := func() []func(*Record) {
		var out []func(*Record)
		for range random.IntN(6) {
			c := table[names[random.IntN(len(names))]]
			out = append(out, append(c.before, c.after...)...)
		}
		return out
	}
	for range 300 {
		a, b := released("one", some()...), released("two", some()...)
		assert.True(t, Of(&a, a, "").Empty(), "a release does not differ from itself")
		there, back := Of(&a, b, ""), Of(&b, a, "")
		require.Len(t, back.Sections, len(there.Sections))
		for i, s := range there.Sections {
			want := slices.Clone(s.Changes)
			for j := range want {
				to := opposite[want[j].What]
				if s.Kind == Waivers && want[j].What == Added {
					to = Ended
				}
				want[j] = Change{to, want[j].Name, want[j].After, want[j].Before}
			}
			require.Equal(t, want, back.Sections[i].Changes, s.Kind)
			require.Equal(t, s.Kind, back.Sections[i].Kind)
		}
		require.Equal(t, Counts{Fixed: there.Vulnerabilities.New, New: there.Vulnerabilities.Fixed, Remaining: there.Vulnerabilities.Remaining}, back.Vulnerabilities)
		raw, err := there.Encode()
		require.NoError(t, err)
		again, err := Decode(raw)
		require.NoError(t, err)
		require.Equal(t, there, again)
	}
}

func TestWithoutAReleaseBeforeTheDiffSaysWhy(t *testing.T) {
	for name, c := range map[string]struct{ reason, want string }{
		"the first release":                    {"", "Nothing is compared with this release: no image of the recipe was published before."},
		"the evidence before was not verified": {"the evidence of ami-one is not verified: manifest.json: it was changed", "Nothing is compared with this release: the evidence of ami-one is not verified: manifest.json: it was changed."},
		"a reason of several lines":            {"a\n\x1b[2Jb", "Nothing is compared with this release: a <U+001B>[2Jb."},
	} {
		t.Run(name, func(t *testing.T) {
			d := Of(nil, released("two"), c.reason)
			assert.Equal(t, []string{c.want}, d.Lines(10))
			assert.False(t, d.OnlyPackageUpgrades(), "what is not known is not only upgrades")
			assert.False(t, d.Empty())
			raw, err := d.Encode()
			require.NoError(t, err)
			again, err := Decode(raw)
			require.NoError(t, err)
			assert.Equal(t, d, again)
		})
	}
}

// changedInAllWays is a diff with several changes of many kinds.
func changedInAllWays(t *testing.T) Diff {
	before := released("one", packages(deb("zlib1g", "1:1.2.13"), deb("wget", "1.21")))
	after := released("two", newerSource, with("openssl", "3.0.15-1"), with("bash", "5.2.15-1"), packages(deb("nmap", "7.93"), deb("zlib1g", "1:1.3")),
		status("SYS-01", compliance.StatusFail), waivers(waived("SYS-02", "2027-02-28"), waived("SYS-01", "2026-12-24")),
		func(r *Record) {
			r.Vulnerabilities.Findings = append(slices.Clone(r.Vulnerabilities.Findings[1:]), vulnerability.Finding{ID: "CVE-2026-9", Package: "nmap", Installed: "7.93", Severity: "critical"})
			r.Inventory.Sockets = append(slices.Clone(r.Inventory.Sockets), inventory.Socket{Protocol: "tcp", Address: "any", Port: "80", Process: "nginx"})
			r.Manifest.Audience.Accounts = nil
		})
	d := Of(&before, after, "")
	require.GreaterOrEqual(t, len(d.Sections), 7)
	return d
}

func TestADiffIsStableBytesAndPlainSentences(t *testing.T) {
	d := changedInAllWays(t)
	raw, err := d.Encode()
	require.NoError(t, err)
	golden.Testdata(t, "diff.json", raw)
	golden.Testdata(t, "lines.txt", strings.Join(d.Lines(99), "\n")+"\n")
	for range 10 {
		again, err := changedInAllWays(t).Encode()
		require.NoError(t, err)
		require.Equal(t, string(raw), string(again))
	}
}

func TestASummaryHasAtMostSoManyLines(t *testing.T) {
	d := changedInAllWays(t)
	whole := d.Lines(99)
	for limit := range len(whole) + 2 {
		lines := d.Lines(limit)
		assert.Len(t, lines, min(limit, len(whole)))
		if limit > 1 && limit < len(whole) {
			assert.Regexp(t, `^\d+ more lines?, see the report\.$`, lines[limit-1])
		}
	}
	for _, line := range whole {
		assert.LessOrEqual(t, len([]rune(line)), 700)
	}
	assert.Len(t, Of(nil, released("two"), "").Lines(0), 0)
}

func TestMoreChangesThanAreListedAreCountedAndAreNotOnlyUpgrades(t *testing.T) {
	var was, is []inventory.Package
	for i := range maxPackages + 7 {
		was, is = append(was, deb(fmt.Sprintf("p%04d", i), "1")), append(is, deb(fmt.Sprintf("p%04d", i), "2"))
	}
	before, after := released("one", packages(was...)), released("two", packages(is...))
	d := Of(&before, after, "")
	s := d.Section(Packages)
	assert.Equal(t, maxPackages+7, s.Total())
	assert.Len(t, s.Changes, maxPackages)
	assert.False(t, d.OnlyPackageUpgrades(), "a change that is not listed may be of any kind")
	assert.Contains(t, strings.Join(d.Lines(9), "\n"), "Packages: 3000 upgraded, 7 not listed")
}

func TestWhatAGuestSaysIsBoundedAndPlain(t *testing.T) {
	before := released("one")
	after := released("two", packages(deb("x\u202e\x1b[31m\ny", strings.Repeat("9", 10_000))))
	d := Of(&before, after, "")
	require.Len(t, d.Section(Packages).Changes, 1)
	c := d.Section(Packages).Changes[0]
	assert.Equal(t, "x<U+202E> y", c.Name)
	assert.Less(t, len(c.After), maxValue+100)
	assert.NotContains(t, c.After, "\n")
}

func TestOnlyWhatTheFactoryWritesIsRead(t *testing.T) {
	raw, err := changedInAllWays(t).Encode()
	require.NoError(t, err)
	edit := func(old, with string) []byte {
		require.Contains(t, string(raw), old)
		return []byte(strings.Replace(string(raw), old, with, 1))
	}
	for name, c := range map[string]struct {
		raw  []byte
		want string
	}{
		"an unknown field":                 {edit(`"recipe":`, `"more": 1, "recipe":`), "unknown field"},
		"another schema":                   {edit(Schema, "ami-factory/diff/2"), `its schema is "ami-factory/diff/2"`},
		"other white space":                {append(raw, '\n'), "not in the form"},
		"text after it":                    {append(bytes.Clone(raw), "{}"...), "not in the form"},
		"a section that does not exist":    {edit(`"kind": "source"`, `"kind": "sauce"`), `a section "sauce"`},
		"sections out of order":            {edit(`"kind": "sharing"`, `"kind": "recipe"`), "out of order"},
		"a verb of another section":        {edit(`"what": "worsened"`, `"what": "upgraded"`), `section controls has a change "upgraded"`},
		"changes without a release before": {edit(`"before": {`, `"before": null, "x": {`), "unknown field"},
		"neither a release nor a reason":   {[]byte(`{"schema":"` + Schema + `","recipe":"x","before":null,"after":{},"sections":[]}`), "either a release before, or a reason"},
		"no list of sections":              {[]byte(`{"schema":"` + Schema + `","recipe":"x","notCompared":"y"}`), "no list of sections"},
		"changes, but no release":          {[]byte(`{"schema":"` + Schema + `","recipe":"x","notCompared":"y","sections":[{"kind":"recipe","changes":[]}]}`), "but no release before"},
		"an empty section":                 {[]byte(`{"schema":"` + Schema + `","recipe":"x","before":{},"sections":[{"kind":"recipe","changes":[]}]}`), "0 changes"},
		"nothing":                          {nil, "EOF"},
		"too much":                         {bytes.Repeat([]byte(" "), MaxSize+1), "are allowed"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Decode(c.raw)
			require.ErrorContains(t, err, c.want)
		})
	}
}
