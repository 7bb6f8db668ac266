package oss_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/evidence/inventory"
	"github.com/ami-factory/ami-factory/pkg/oss"
	"github.com/ami-factory/ami-factory/test/schema"
)

var today = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

const good = `licenses: [MIT, Apache-2.0, GPL-2.0-or-later, GPL-3.0-or-later WITH Bison-exception-2.2]
packages:
  - {ecosystem: deb, source: openssl, versions: ">= 3.0, < 4", licenses: Apache-2.0, reason: every service needs it, owner: a@example.com, approvedBy: b@example.com, approved: 2026-10-01, expires: 2027-09-30}
  - {ecosystem: deb, source: zlib, reason: every service needs it, owner: a@example.com, approvedBy: b@example.com, approved: 2026-10-01, expires: 2027-09-30}
  - {ecosystem: rpm, source: bash, licenses: GPL-2.0-or-later, reason: every service needs it, owner: a@example.com, approvedBy: b@example.com, approved: 2026-10-01, expires: 2027-09-30}
`

func load(t *testing.T, text string) (oss.List, []string) {
	t.Helper()
	list, problems, err := oss.Load(fstest.MapFS{"oss/debian.yaml": {Data: []byte(text)}}, today)
	require.NoError(t, err)
	var lines []string
	for _, p := range problems {
		lines = append(lines, p.String())
		assert.Positive(t, p.Line)
	}
	return list, lines
}

func TestTheAllowListIsReadStrictly(t *testing.T) {
	compiled := schema.Compile(t, oss.Schema())
	dates := regexp.MustCompile(`20\d\d-\d\d-\d\d`) // plain YAML makes timestamps of dates
	for sentence, tc := range map[string]struct {
		old, new, says string
		inSchema       bool // the schema finds it too
	}{
		"a good list":                    {"", "", "", false},
		"no owner":                       {"owner: a@example.com, ", "", "oss/debian.yaml:3:5: error: packages[0].owner is required but missing", true},
		"its owner approves":             {"approvedBy: b@example.com", `approvedBy: "A@example.com "`, "error: openssl is approved by its owner", false},
		"an unknown ecosystem":           {"ecosystem: deb", "ecosystem: npm", "oss/debian.yaml:3:17: error:", true},
		"a license that is none":         {"[MIT,", "[Expat,", `oss/debian.yaml:1:12: error: "Expat" is no identifier of SPDX`, false},
		"an expression among licenses":   {"[MIT,", "[MIT OR ISC,", `error: "MIT OR ISC" is more than one license`, false},
		"an expression that is none":     {"licenses: Apache-2.0,", "licenses: Apache 2,", "oss/debian.yaml:3:74: error:", false},
		"a license that is not allowed":  {"licenses: Apache-2.0,", "licenses: AGPL-3.0-only,", "error: the licenses of openssl, AGPL-3.0-only, are not allowed", false},
		"one of two that is not allowed": {"licenses: Apache-2.0,", "licenses: Apache-2.0 AND ISC,", "are not allowed", false},
		"one of two suffices":            {"licenses: Apache-2.0,", "licenses: Apache-2.0 OR ISC,", "", false},
		"with an exception":              {"licenses: Apache-2.0,", "licenses: GPL-2.0-or-later WITH Classpath-exception-2.0,", "are not allowed", false},
		"a range that is none":           {`">= 3.0, < 4"`, `"3.x"`, `error: "3.x" is no comparison with a version`, false},
		"a day that is none":             {"approved: 2026-10-01, expires: 2027-09-30", "approved: 2026-10-32, expires: 2027-09-30", `approved: "2026-10-32" is not a date of the calendar`, false},
		"an approval of the future":      {"approved: 2026-10-01", "approved: 2026-11-02", "is of the future", false},
		"an approval for ever":           {"expires: 2027-09-30", "expires: 2099-09-30", "would hold until 2099-09-30", false},
		"one that ended":                 {"approved: 2026-10-01, expires: 2027-09-30", "approved: 2025-11-01, expires: 2026-10-31", "warning: the approval of openssl expired on 2026-10-31", false},
		"one that ends soon":             {"expires: 2027-09-30", "expires: 2026-11-20", "warning: the approval of openssl ends on 2026-11-20", false},
		"one twice":                      {"source: zlib", "source: openssl, versions: \">= 3.0, < 4\"", "error: openssl is approved twice; the first is oss/debian.yaml:3:", false},
		"no licenses":                    {"licenses: [MIT, Apache-2.0, GPL-2.0-or-later, GPL-3.0-or-later WITH Bison-exception-2.2]\n", "", "error: no file says which licenses are allowed", false},
		"a misspelt key":                 {"reason:", "reasons:", `unknown key "reasons"`, true},
		"a name with a space":            {"source: openssl", "source: open ssl", "error:", true},
	} {
		t.Run(sentence, func(t *testing.T) {
			require.Contains(t, good, tc.old)
			text := strings.Replace(good, tc.old, tc.new, 1)
			_, lines := load(t, text)
			if tc.says == "" {
				assert.Empty(t, lines)
			} else {
				assert.Contains(t, strings.Join(lines, "\n"), tc.says)
			}
			assert.Equal(t, tc.inSchema, compiled.Validate(t, []byte(dates.ReplaceAllString(text, "'$0'"))) != nil)
		})
	}
	_, problems, err := oss.Load(fstest.MapFS{"oss/a.yml": {Data: []byte("{}")}}, today)
	require.NoError(t, err)
	assert.True(t, problems.HasErrors())
	_, problems, err = oss.Load(fstest.MapFS{}, today)
	require.NoError(t, err)
	assert.Empty(t, problems)
}

func deb(name, source, version string) inventory.Package {
	return inventory.Package{Type: inventory.Deb, Name: name, Source: source, Version: version, SourceVersion: version, Arch: "amd64"}
}

func TestPackagesAreJudgedByTheAllowList(t *testing.T) {
	mit := oss.Evidence{Readable: true, Expressions: []string{"MIT"}}
	for sentence, tc := range map[string]struct {
		list     func(string) string
		packages []inventory.Package
		evidence map[string]oss.Evidence
		missing  []string
		fails    map[string]string
		warns    string
	}{
		"approved by the source": {packages: []inventory.Package{deb("libssl3", "openssl", "3.0.17-1~deb12u2")}},
		"licenses of its own":    {packages: []inventory.Package{deb("zlib1g", "zlib", "1:1.2.13")}, evidence: map[string]oss.Evidence{"zlib1g": mit}},
		"an RPM":                 {packages: []inventory.Package{{Type: inventory.RPM, Name: "bash", Source: "bash", Version: "5.2.15-1.amzn2023", Arch: "x86_64"}}},
		"not approved":           {packages: []inventory.Package{deb("curl", "curl", "7.88.1")}, fails: map[string]string{"OSS-01": "curl 7.88.1 is not approved"}},
		"a dependency":           {packages: []inventory.Package{deb("openssl", "openssl", "3.0.1"), deb("libc6", "glibc", "2.36")}, fails: map[string]string{"OSS-01": "libc6 of the source glibc 2.36 is not approved"}},
		"of another ecosystem":   {packages: []inventory.Package{{Type: inventory.RPM, Name: "zlib", Source: "zlib", Version: "1.2"}}, fails: map[string]string{"OSS-01": "zlib 1.2 is not approved"}},
		"a version too new":      {packages: []inventory.Package{deb("openssl", "openssl", "4.0.0")}, fails: map[string]string{"OSS-01": "has version 4.0.0; approved is >= 3.0, < 4"}},
		"a version too old":      {packages: []inventory.Package{deb("openssl", "openssl", "3.0~rc1")}, fails: map[string]string{"OSS-01": "has version 3.0~rc1"}},
		"a name like another": {packages: []inventory.Package{deb("opensll", "opensll", "3.0.1")},
			fails: map[string]string{"OSS-01": "opensll 3.0.1 is not approved", "OSS-04": "opensll is nearly openssl, which is approved"}},
		"two letters exchanged": {packages: []inventory.Package{deb("zlbi", "zlbi", "1")}, fails: map[string]string{"OSS-01": "zlbi", "OSS-04": "zlbi is nearly zlib"}},
		"a name like another that is approved too": {
			list: func(s string) string {
				return s + strings.Replace(strings.Split(s, "\n")[2], "openssl", "openssh", 1) + "\n"
			}, packages: []inventory.Package{deb("openssh", "openssh", "3.1")}},
		"an approval that ended": {
			list: func(s string) string {
				return strings.Replace(s, "approved: 2026-10-01, expires: 2027-09-30", "approved: 2025-11-01, expires: 2026-10-31", 1)
			},
			packages: []inventory.Package{deb("openssl", "openssl", "3.0.1")}, fails: map[string]string{"OSS-02": "expired on 2026-10-31 (oss/debian.yaml:3:"}},
		"an approval that ends soon": {
			list:     func(s string) string { return strings.Replace(s, "expires: 2027-09-30", "expires: 2026-11-01", 1) },
			packages: []inventory.Package{deb("openssl", "openssl", "3.0.1")}, warns: "ends on 2026-11-01"},
		"licenses that nobody knows":   {packages: []inventory.Package{deb("zlib1g", "zlib", "1")}, fails: map[string]string{"OSS-03": "there is no copyright file"}},
		"a copyright file for people":  {packages: []inventory.Package{deb("zlib1g", "zlib", "1")}, evidence: map[string]oss.Evidence{"zlib1g": {}}, fails: map[string]string{"OSS-03": "is not machine-readable"}},
		"a license that is not known":  {packages: []inventory.Package{deb("zlib1g", "zlib", "1")}, evidence: map[string]oss.Evidence{"zlib1g": {Readable: true, Expressions: []string{"MIT"}, Unknown: []string{"mine"}}}, fails: map[string]string{"OSS-03": `names "mine"`}},
		"a license that is forbidden":  {packages: []inventory.Package{deb("zlib1g", "zlib", "1")}, evidence: map[string]oss.Evidence{"zlib1g": {Readable: true, Expressions: []string{"AGPL-3.0-only", "MIT"}}}, fails: map[string]string{"OSS-03": "names AGPL-3.0-only"}},
		"a person stated the licenses": {packages: []inventory.Package{deb("openssl", "openssl", "3.1")}, evidence: map[string]oss.Evidence{"openssl": {Readable: true, Unknown: []string{"mine"}}}},
		"a person overlooked a license": {packages: []inventory.Package{deb("openssl", "openssl", "3.1")}, evidence: map[string]oss.Evidence{"openssl": {Readable: true, Expressions: []string{"AGPL-3.0-only"}}},
			fails: map[string]string{"OSS-03": "names AGPL-3.0-only, which is neither allowed nor stated"}},
		"an inventory with a gap": {packages: []inventory.Package{deb("openssl", "openssl", "3.1")}, missing: []string{"deb: dpkg failed"}, fails: map[string]string{"OSS-05": "dpkg failed"}},
		"no package":              {fails: map[string]string{"OSS-05": "no package at all"}},
	} {
		t.Run(sentence, func(t *testing.T) {
			text := good
			if tc.list != nil {
				text = tc.list(good)
			}
			list, lines := load(t, text)
			for _, l := range lines {
				require.NotContains(t, l, ": error: ")
			}
			report, err := list.Check(oss.Subject{ID: "x", Packages: tc.packages, Evidence: tc.evidence, Incomplete: tc.missing}, oss.Options{Gate: "low", Now: today})
			require.NoError(t, err)
			require.Len(t, report.Results, len(oss.Controls()))
			for _, r := range report.Results {
				want, fails := tc.fails[r.ControlID]
				assert.Equal(t, !fails, r.Status == compliance.StatusPass, "%s: %s", r.ControlID, r.Evidence.Actual)
				assert.Contains(t, r.Evidence.Actual, want)
			}
			assert.Equal(t, len(tc.fails) == 0, report.Verdict == compliance.VerdictPassed)
			assert.Contains(t, strings.Join(report.Warnings, "\n"), tc.warns)
		})
	}
}

func TestLicensesOfDebianInTheWordsOfSPDX(t *testing.T) {
	for text, want := range map[string]string{
		"Expat":                            "MIT",
		"GPL-2+":                           "GPL-2.0-or-later",
		"GPL-2":                            "GPL-2.0-only",
		"LGPL-2.1+":                        "LGPL-2.1-or-later",
		"GPL-3.0+":                         "GPL-3.0-or-later",
		"GFDL-NIV-1.3+":                    "GFDL-1.3-no-invariants-or-later",
		"GFDL-1.3-NIV+":                    "GFDL-1.3-no-invariants-or-later",
		"Apache-2-LLVM-exceptions":         "Apache-2.0 WITH LLVM-exception",
		"AGPL-3":                           "AGPL-3.0-only",
		"BSD-3-clause":                     "BSD-3-Clause",
		"Apache-2.0":                       "Apache-2.0",
		"public-domain":                    "LicenseRef-public-domain",
		"GPL-2+ and Expat":                 "GPL-2.0-or-later AND MIT",
		"GPL-2+ or Artistic":               "GPL-2.0-or-later OR Artistic-1.0-Perl",
		"GPL-2+ or Artistic, and Expat":    "(GPL-2.0-or-later OR Artistic-1.0-Perl) AND MIT",
		"Expat, BSD-2-clause":              "MIT AND BSD-2-Clause",
		"Perl and Zlib":                    "(GPL-1.0-or-later OR Artistic-1.0-Perl) AND Zlib",
		"GPL-3+ with Bison exception":      "GPL-3.0-or-later WITH Bison-exception-2.2",
		"GPL-2+ with OpenSSL exception":    "GPL-2.0-or-later",
		"GPL-2+ WITH some-exception":       "GPL-2.0-or-later",
		"BSD":                              "?",
		"custom-of-this-package":           "?",
		"Expat and custom":                 "?",
		"Expat with non-commercial-use":    "?",
		"(Expat or Apache-2.0) and AGPL-3": "?",
	} {
		t.Run(text, func(t *testing.T) {
			got, unknown := oss.Expression(text)
			if want == "?" {
				assert.NotEmpty(t, unknown)
				return
			}
			assert.Empty(t, unknown)
			assert.Equal(t, want, got)
		})
	}
}

const copyright = `Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: demo

Files: *
Copyright: 2020 Somebody
License: Expat
 Permission is hereby granted

Files: debian/*
Copyright: 2020 Somebody
License: GPL-2+
Comment: the packaging

License: GPL-2+
 This is free software

License: GPL-3
 a text that no file has
`

func TestEvidenceIsReadFromCopyrightFiles(t *testing.T) {
	assert.Equal(t, oss.Evidence{Readable: true, Expressions: []string{"GPL-2.0-or-later", "MIT"}}, oss.ReadCopyright([]byte(copyright)))
	assert.Equal(t, oss.Evidence{}, oss.ReadCopyright([]byte("This package was debianized by somebody.\n\nIt is under the GPL.\n")))
	assert.Equal(t, oss.Evidence{}, oss.ReadCopyright(nil))
	unnamed := oss.ReadCopyright([]byte("Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\nLicense: Expat\n\nFiles: extra\nLicense:\n text only\n"))
	assert.NotEmpty(t, unnamed.Unknown, "files without the name of a license")
	assert.Equal(t, oss.Evidence{}, oss.ReadCopyright([]byte(" begins with a continuation\n")))
}

func TestPackagesOfARootFileSystem(t *testing.T) {
	root := fstest.MapFS{
		"var/lib/dpkg/status":            {Data: []byte("Package: libssl3\nStatus: install ok installed\nSource: openssl (3.0.1-1)\nArchitecture: amd64\nVersion: 3.0.1-1+b1\nDescription: x\n more\n\nPackage: gone\nStatus: deinstall ok config-files\nVersion: 1\n\nPackage: half\nStatus: install ok unpacked\nVersion: 2\n")},
		"var/lib/dpkg/status.d/zlib1g":   {Data: []byte("Package: zlib1g\nSource: zlib\nArchitecture: amd64\nVersion: 1:1.2.13\n")},
		"usr/share/doc/zlib1g/copyright": {Data: []byte(copyright)},
	}
	packages, evidence, err := oss.Debian(root)
	require.NoError(t, err)
	assert.Equal(t, []inventory.Package{
		{Type: "deb", Name: "half", Version: "2", Source: "half", SourceVersion: "2"},
		{Type: "deb", Name: "libssl3", Version: "3.0.1-1+b1", Arch: "amd64", Source: "openssl", SourceVersion: "3.0.1-1"},
		{Type: "deb", Name: "zlib1g", Version: "1:1.2.13", Arch: "amd64", Source: "zlib", SourceVersion: "1:1.2.13"},
	}, packages)
	assert.Equal(t, []string{"GPL-2.0-or-later", "MIT"}, evidence["zlib1g"].Expressions)
	for sentence, files := range map[string]fstest.MapFS{
		"no list":            {"etc/os-release": {}},
		"a name upwards":     {"var/lib/dpkg/status": {Data: []byte("Package: ../../etc\nVersion: 1\n")}},
		"no version":         {"var/lib/dpkg/status": {Data: []byte("Package: x\n")}},
		"a line of nonsense": {"var/lib/dpkg/status": {Data: []byte("nonsense here\n")}},
	} {
		t.Run(sentence, func(t *testing.T) {
			_, _, err := oss.Debian(files)
			assert.Error(t, err)
		})
	}
}

func TestPackagesOfOtherPackageManagersAreNotOverlooked(t *testing.T) {
	for name, want := range map[string][]string{
		"lib/apk/db/installed":          {"the packages in /lib/apk/db/installed are not read"},
		"usr/lib/sysimage/rpm/Packages": {"the packages in /usr/lib/sysimage/rpm/Packages are not read"},
		"var/lib/rpm/rpmdb.sqlite":      {"the packages in /var/lib/rpm/rpmdb.sqlite are not read"},
		"var/lib/rpm/.keep":             nil,
		"var/lib/dpkg/status":           nil,
	} {
		t.Run(name, func(t *testing.T) {
			got, err := oss.Unread(fstest.MapFS{name: {}})
			require.NoError(t, err)
			assert.Equal(t, want, got)
		})
	}
}

func TestThePageShowsAGoodList(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("..", "..", "userdata", "oss", "README.md"))
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(raw), "```yaml\n")
	require.True(t, found)
	text, _, _ := strings.Cut(rest, "```")
	_, lines := load(t, text)
	assert.Empty(t, lines)
}
