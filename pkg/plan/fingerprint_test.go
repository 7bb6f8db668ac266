package plan_test

import (
	"bytes"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/baseline"
	"github.com/ami-factory/ami-factory/pkg/component"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/plan"
	"github.com/ami-factory/ami-factory/pkg/recipe"
)

// leaves are the paths of all fields of a struct that hold no other fields, in the
// words of JSON, which are those of YAML.
func leaves(t *testing.T, typ reflect.Type, path string) []string {
	t.Helper()
	for typ.Kind() == reflect.Slice || typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	if typ.Kind() != reflect.Struct {
		return []string{path}
	}
	var out []string
	for i := range typ.NumField() {
		f := typ.Field(i)
		if !f.IsExported() {
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		inYAML, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		require.NotEmpty(t, name, "%s of %s", f.Name, typ)
		require.Equal(t, inYAML, name, "%s of %s", f.Name, typ)
		out = append(out, leaves(t, f.Type, strings.TrimPrefix(path+"."+name, "."))...)
	}
	return out
}

func TestEveryFieldOfARecipeIsContentOrRelease(t *testing.T) {
	var named []string
	for _, f := range plan.Fields() {
		assert.Contains(t, []plan.Side{plan.Content, plan.Release}, f.Side, f.Path)
		named = append(named, f.Path)
	}
	assert.Equal(t, leaves(t, reflect.TypeFor[recipe.Recipe](), ""), named,
		"plan.Fields must say of each field of the recipe whether a change of it needs a bake (content) or releases the image that exists (release)")
}

// full is the sample recipe with a value in every field, so that each can change.
func full(t *testing.T) input {
	t.Helper()
	fsys := tree(t)
	for _, name := range []string{"base", "web"} {
		fsys["components/"+name+"/component.yaml"].Data = bytes.Replace(fsys["components/"+name+"/component.yaml"].Data, []byte("[debian-12]"), []byte("[debian-12, debian-13]"), 1)
	}
	in := sample(t, fsys)
	r := in.Recipe
	r.Source.Filters = []recipe.Filter{{Name: "name", Values: []string{"debian-12-*"}}}
	r.Builder.SubnetIDs = []string{"subnet-0123456789abcdef0"}
	r.Builder.CloudConfig = "#cloud-config\nbootcmd: []\n"
	r.Pointers.Accounts = []string{"210987654321"}
	for _, name := range []string{"web", "other"} {
		fsys["recipes/checks/"+name+".sh"] = &fstest.MapFile{Data: []byte("#!/bin/sh\n")}
	}
	r.Checks.Engines = recipe.Engines{
		Script:       &recipe.Script{Files: []string{"checks/web.sh"}, Controls: []recipe.OwnControl{{ID: "OWN-01", Title: "It answers", Severity: "high"}}},
		OpenSCAP:     &recipe.OpenSCAP{Stream: "a.xml", SHA256: strings.Repeat("a", 64), Profile: "xccdf_a_profile_b", MinimumRules: 10, NotApplicable: []string{"xccdf_a_rule_b"}, Severity: "high", Program: "a.tar.gz", ProgramSHA256: strings.Repeat("a", 64)},
		Bottlerocket: &recipe.Bottlerocket{Report: "cis", Level: 1, MinimumChecks: 3},
	}
	r.Gate.Vulnerabilities = recipe.VulnerabilityGate{Severity: "high", Feeds: []recipe.Feed{{Kind: "osv", SHA256: strings.Repeat("a", 64), Published: "2026-11-20T00:00:00Z"}}}
	r.Checks.Waivers = append(r.Checks.Waivers, recipe.Waiver{Vulnerability: "CVE-2026-0001", Package: "openssl", Reason: "not reachable in this image", Author: "a", Approver: "b", Created: "2026-11-20", Expires: "2026-12-24"})
	return in
}

// changes are one change of each field of a recipe that still builds.
func changes() map[string]func(*input) {
	return map[string]func(*input){
		"name":                         func(in *input) { in.Recipe.Name = "simple" },
		"description":                  func(in *input) { in.Recipe.Description = "Another sample" },
		"family":                       func(in *input) { in.Recipe.Family = "debian-13" },
		"architecture":                 func(in *input) { in.Recipe.Architecture, in.Source.Architecture = "arm64", "arm64" },
		"rehearsalOnly":                func(in *input) { in.Recipe.RehearsalOnly = false },
		"source.parameter":             func(in *input) { in.Recipe.Source.Parameter = "/another" },
		"source.owner":                 func(in *input) { in.Recipe.Source.Owner, in.Source.OwnerID = "099720109477", "099720109477" },
		"source.filters.name":          func(in *input) { in.Recipe.Source.Filters[0].Name = "description" },
		"source.filters.values":        func(in *input) { in.Recipe.Source.Filters[0].Values[0] = "debian-*" },
		"builder.instanceTypes":        func(in *input) { slices.Reverse(in.Recipe.Builder.InstanceTypes) },
		"builder.subnetIds":            func(in *input) { in.Recipe.Builder.SubnetIDs[0] = "subnet-0123456789abcdef1" },
		"builder.rootVolume.sizeGiB":   func(in *input) { in.Recipe.Builder.RootVolume.SizeGiB = 9 },
		"builder.rootVolume.kmsKey":    func(in *input) { in.Recipe.Builder.RootVolume.KMSKey = "alias/other" },
		"builder.cloudConfig":          func(in *input) { in.Recipe.Builder.CloudConfig += "runcmd: []\n" },
		"builder.timeout":              func(in *input) { in.Recipe.Builder.Timeout += recipe.Duration(time.Minute) },
		"components.name":              func(in *input) { in.Recipe.Components = in.Recipe.Components[1:] },
		"components.parameters":        func(in *input) { in.Recipe.Components[1].Parameters["variant"] = "base" },
		"checks.timeout":               func(in *input) { in.Recipe.Checks.Timeout += recipe.Duration(time.Minute) },
		"checks.waivers.control":       func(in *input) { in.Recipe.Checks.Waivers[0].Control = "SYS-02" },
		"checks.waivers.reason":        func(in *input) { in.Recipe.Checks.Waivers[0].Reason = "accepted until next year" },
		"checks.waivers.vulnerability": func(in *input) { in.Recipe.Checks.Waivers[1].Vulnerability = "CVE-2026-0002" },
		"checks.waivers.package":       func(in *input) { in.Recipe.Checks.Waivers[1].Package = "libssl3" },
		"checks.waivers.falsePositive.justification": func(in *input) {
			in.Recipe.Checks.Waivers[1].FalsePositive.Justification = "component_not_present"
		},
		"checks.waivers.author":                     func(in *input) { in.Recipe.Checks.Waivers[0].Author = "another@example.com" },
		"checks.waivers.secondApprover":             func(in *input) { in.Recipe.Checks.Waivers[0].SecondApprover = "ciso@example.com" },
		"checks.waivers.created":                    func(in *input) { in.Recipe.Checks.Waivers[0].Created = "2026-11-21" },
		"checks.waivers.approver":                   func(in *input) { in.Recipe.Checks.Waivers[0].Approver = "ciso@example.com" },
		"checks.waivers.expires":                    func(in *input) { in.Recipe.Checks.Waivers[0].Expires = "2026-12-25" },
		"checks.engines.script.files":               func(in *input) { in.Recipe.Checks.Engines.Script.Files[0] = "checks/other.sh" },
		"checks.engines.script.controls.id":         func(in *input) { in.Recipe.Checks.Engines.Script.Controls[0].ID = "OWN-02" },
		"checks.engines.script.controls.title":      func(in *input) { in.Recipe.Checks.Engines.Script.Controls[0].Title = "Another" },
		"checks.engines.script.controls.severity":   func(in *input) { in.Recipe.Checks.Engines.Script.Controls[0].Severity = "critical" },
		"checks.engines.openscap.stream":            func(in *input) { in.Recipe.Checks.Engines.OpenSCAP.Stream = "b.xml" },
		"checks.engines.openscap.sha256":            func(in *input) { in.Recipe.Checks.Engines.OpenSCAP.SHA256 = strings.Repeat("b", 64) },
		"checks.engines.openscap.profile":           func(in *input) { in.Recipe.Checks.Engines.OpenSCAP.Profile += "2" },
		"checks.engines.openscap.minimumRules":      func(in *input) { in.Recipe.Checks.Engines.OpenSCAP.MinimumRules++ },
		"checks.engines.openscap.notApplicable":     func(in *input) { in.Recipe.Checks.Engines.OpenSCAP.NotApplicable = nil },
		"checks.engines.openscap.severity":          func(in *input) { in.Recipe.Checks.Engines.OpenSCAP.Severity = "medium" },
		"checks.engines.openscap.program":           func(in *input) { in.Recipe.Checks.Engines.OpenSCAP.Program = "b.tar.gz" },
		"checks.engines.openscap.programSHA256":     func(in *input) { in.Recipe.Checks.Engines.OpenSCAP.ProgramSHA256 = strings.Repeat("b", 64) },
		"checks.engines.bottlerocket.report":        func(in *input) { in.Recipe.Checks.Engines.Bottlerocket.Report = "cis-k8s" },
		"checks.engines.bottlerocket.level":         func(in *input) { in.Recipe.Checks.Engines.Bottlerocket.Level = 2 },
		"checks.engines.bottlerocket.minimumChecks": func(in *input) { in.Recipe.Checks.Engines.Bottlerocket.MinimumChecks++ },
		"gate.severity":                             func(in *input) { in.Recipe.Gate.Severity = "high" },
		"gate.vulnerabilities.severity":             func(in *input) { in.Recipe.Gate.Vulnerabilities.Severity = "low" },
		"gate.vulnerabilities.scanner":              func(in *input) { in.Recipe.Gate.Vulnerabilities.Scanner = "inspector" },
		"gate.vulnerabilities.onlyFixable":          func(in *input) { in.Recipe.Gate.Vulnerabilities.OnlyFixable = true },
		"gate.vulnerabilities.graceDays":            func(in *input) { in.Recipe.Gate.Vulnerabilities.GraceDays = 7 },
		"gate.vulnerabilities.maximumAge":           func(in *input) { in.Recipe.Gate.Vulnerabilities.MaximumAge = recipe.Duration(time.Hour) },
		"gate.vulnerabilities.feeds.kind":           func(in *input) { in.Recipe.Gate.Vulnerabilities.Feeds[0].Kind = "kev" },
		"gate.vulnerabilities.feeds.sha256":         func(in *input) { in.Recipe.Gate.Vulnerabilities.Feeds[0].SHA256 = strings.Repeat("b", 64) },
		"gate.vulnerabilities.feeds.published":      func(in *input) { in.Recipe.Gate.Vulnerabilities.Feeds[0].Published = "2026-11-21T00:00:00Z" },
		"distribution.regions.name":                 func(in *input) { in.Recipe.Distribution.Regions[1].Name = "eu-central-2" },
		"distribution.regions.kmsKey": func(in *input) {
			in.Recipe.Distribution.Regions[1].KMSKey = "alias/other"
		},
		"approval.mode":              func(in *input) { in.Recipe.Approval.Mode = recipe.ApprovalTwo },
		"approval.expires":           func(in *input) { in.Recipe.Approval.Expires = recipe.Duration(time.Hour) },
		"distribution.copies":        func(in *input) { in.Recipe.Distribution.Copies = contract.CopiesAfterGate },
		"distribution.accounts":      func(in *input) { in.Recipe.Distribution.Accounts = nil },
		"distribution.organizations": func(in *input) { in.Recipe.Distribution.Organizations[0] += "k" },
		"pointers.parameters":        func(in *input) { in.Recipe.Pointers.Parameters[0] = "/ami-factory/sample/newest" },
		"pointers.accounts": func(in *input) {
			in.Recipe.Pointers.Accounts = append(in.Recipe.Pointers.Accounts, "210987654322")
		},
		"retention.keep":           func(in *input) { in.Recipe.Retention.Keep = 4 },
		"retention.deprecateAfter": func(in *input) { in.Recipe.Retention.DeprecateAfter *= 2 },
		"retention.removeAfter":    func(in *input) { in.Recipe.Retention.RemoveAfter *= 2 },
	}
}

func TestAChangeOfAFieldChangesTheDigestsOfItsSide(t *testing.T) {
	base, _ := build(t, full(t))
	change := changes()
	seen := map[string]string{base.ReleaseID: "the original"}
	for _, f := range plan.Fields() {
		t.Run(f.Path, func(t *testing.T) {
			require.Contains(t, change, f.Path, "the test must change this field too")
			in := full(t)
			change[f.Path](&in)
			delete(change, f.Path)
			p, _ := build(t, in)
			if f.Side == plan.Content {
				assert.NotEqual(t, base.Fingerprint, p.Fingerprint)
			} else {
				assert.Equal(t, base.Fingerprint, p.Fingerprint)
			}
			assert.Contains(t, plan.Differences(*base, *p), f.Path)
			other, dup := seen[p.ReleaseID]
			require.False(t, dup, "the release id is that of %s", other)
			seen[p.ReleaseID] = f.Path
		})
	}
	assert.Empty(t, change, "changes of fields that there are not")
}

// A recipe of an earlier factory has no such field: its images are not released again.
func TestTheDefaultOfAnOptionalFieldIsNoChange(t *testing.T) {
	base, _ := build(t, full(t))
	in := full(t)
	require.Equal(t, contract.CopiesBeforeGate, in.Recipe.Distribution.Copies)
	in.Recipe.Distribution.Copies = ""
	require.Equal(t, recipe.Approval{Mode: recipe.ApprovalNone, Expires: recipe.DefaultApprovalTime}, in.Recipe.Approval)
	in.Recipe.Approval = recipe.Approval{}
	earlier, _ := build(t, in)
	assert.Equal(t, base.ReleaseID, earlier.ReleaseID)
	assert.Empty(t, plan.Differences(*earlier, *base))
}

func TestDifferencesNameWhatChangedAndNothingElse(t *testing.T) {
	base, _ := build(t, full(t))
	for sentence, tc := range map[string]struct {
		change func(*input)
		want   []string
	}{
		"nothing":                               {func(*input) {}, nil},
		"an account":                            {changes()["distribution.accounts"], []string{"distribution.accounts"}},
		"a parameter of a component":            {changes()["components.parameters"], []string{"components.parameters"}},
		"a file of a component":                 {func(in *input) { edit(in, "components/web/install.sh") }, []string{"files of the components"}},
		"the source image":                      {func(in *input) { in.Source.ImageID = "ami-00000000000000001" }, []string{"the source image"}},
		"the check engine":                      {func(in *input) { in.CheckEngine = strings.Repeat("f", 64) }, []string{"the check engine"}},
		"the source image and the check engine": {func(in *input) { in.Source.ImageID, in.CheckEngine = "ami-00000000000000001", strings.Repeat("f", 64) }, []string{"the source image", "the check engine"}},
		"the source image and what describes a component": {func(in *input) { in.Source.ImageID = "ami-00000000000000001"; edit(in, "components/web/install.sh") }, []string{"the source image", "files of the components"}},
		"an account and a component's":                    {func(in *input) { changes()["distribution.accounts"](in); edit(in, "components/web/install.sh") }, []string{"distribution.accounts", "files of the components"}},
	} {
		t.Run(sentence, func(t *testing.T) {
			in := full(t)
			tc.change(&in)
			p, _ := build(t, in)
			assert.Equal(t, tc.want, plan.Differences(*base, *p))
		})
	}
}

// edit adds a comment to a file of the user data.
func edit(in *input, name string) {
	file := in.UserData.(fstest.MapFS)[name]
	file.Data = append(file.Data, "# changed\n"...)
}

// Every single byte of every file, the source and the check engine are in the
// fingerprint.
func TestAChangeOfWhatTheImageIsMadeOfChangesTheFingerprint(t *testing.T) {
	base, _ := build(t, sample(t, tree(t)))
	seen := map[string]string{base.Fingerprint: "the original"}
	unique := func(what string, in input) {
		t.Helper()
		p, _ := build(t, in)
		other, dup := seen[p.Fingerprint]
		require.False(t, dup, "%s has the fingerprint of %s", what, other)
		seen[p.Fingerprint] = what
	}
	for _, file := range slices.Sorted(maps.Keys(tree(t))) {
		if strings.HasPrefix(file, "recipes/") || file == baseline.File || strings.HasPrefix(file, "components/unused/") {
			continue
		}
		fsys := tree(t)
		if strings.HasSuffix(file, ".yaml") {
			fsys[file].Data = append(fsys[file].Data, "# changed\n"...)
		} else {
			fsys[file].Data = append(fsys[file].Data, 'x')
		}
		unique("a change of "+file, sample(t, fsys))
	}
	fsys := tree(t)
	fsys["components/base/files/new"] = &fstest.MapFile{Data: nil}
	unique("a new empty file", sample(t, fsys))
	fsys = tree(t)
	fsys["components/base/files/renamed.conf"] = fsys["components/base/files/base.conf"]
	delete(fsys, "components/base/files/base.conf")
	unique("a renamed file", sample(t, fsys))

	in := sample(t, tree(t))
	in.Source.ImageID = "ami-0123456789abcdef1"
	unique("another source", in)
	in = sample(t, tree(t))
	in.CheckEngine = strings.Repeat("f", 64)
	unique("another check engine", in)
	in = sample(t, tree(t))
	in.Parameters = component.Deployment{"base": {"variant": "base"}}
	in.Recipe.Components[1].Parameters = nil
	unique("another value of a parameter, from the deployment", in)
}

func TestWhatIsNoInputLeavesTheFingerprintAlone(t *testing.T) {
	base, _ := build(t, sample(t, tree(t)))
	in := sample(t, tree(t))
	in.ExecutionName, in.ExecutionStart = "another", now.Add(time.Hour)
	p, _ := build(t, in)
	assert.Equal(t, base.Fingerprint, p.Fingerprint, "the execution")
	assert.NotEqual(t, base.ImageName, p.ImageName)
	assert.Equal(t, strings.NewReplacer(base.ImageName, p.ImageName, "2026-11-23T17:41:55Z", "2026-11-23T18:41:55Z").Replace(base.UserData),
		p.UserData, "the builder is told the execution's name and start, and nothing else differs")

	for sentence, change := range map[string]func(fstest.MapFS, *input){
		"another version of the factory": func(_ fstest.MapFS, in *input) { in.FactoryVersion = "1.2.4" },
		"a component that the recipe does not use": func(fsys fstest.MapFS, _ *input) {
			fsys["components/unused/install.sh"].Data = []byte("changed\n")
		},
		"a page about a component": func(fsys fstest.MapFS, _ *input) {
			fsys["components/base/README.md"] = &fstest.MapFile{Data: []byte("# base\n")}
		},
		"the order of the components in the recipe": func(_ fstest.MapFS, in *input) { slices.Reverse(in.Recipe.Components) },
		"the order of accounts, regions and pointers": func(_ fstest.MapFS, in *input) {
			slices.Reverse(in.Recipe.Distribution.Regions)
			slices.Reverse(in.Recipe.Distribution.Accounts)
			slices.Reverse(in.Recipe.Pointers.Parameters)
		},
		"the description of the source image": func(_ fstest.MapFS, in *input) { in.Source.Name = "another" },
	} {
		fsys := tree(t)
		in := sample(t, fsys)
		if sentence == "the order of accounts, regions and pointers" {
			in.Recipe.Distribution.Accounts = append(in.Recipe.Distribution.Accounts, "210987654322")
			in.Recipe.Pointers.Parameters = append(in.Recipe.Pointers.Parameters, "/ami-factory/sample/newest")
		}
		before, _ := build(t, in)
		change(fsys, &in)
		after, _ := build(t, in)
		assert.Equal(t, before.Fingerprint, after.Fingerprint, sentence)
		assert.Equal(t, before.ReleaseID, after.ReleaseID, sentence)
	}

	fsys := tree(t)
	fsys["recipes/sample.yaml"].Data = append([]byte("# a comment\n"), fsys["recipes/sample.yaml"].Data...)
	p, _ = build(t, sample(t, fsys))
	assert.Equal(t, base.Fingerprint, p.Fingerprint, "a comment in the recipe")
}

func TestAParameterWithItsDefaultIsNoChange(t *testing.T) {
	given := sample(t, tree(t))
	require.Equal(t, "docker", given.Recipe.Components[1].Parameters["variant"], "which is its default")
	with, _ := build(t, given)
	left := sample(t, tree(t))
	left.Recipe.Components[1].Parameters = nil
	without, _ := build(t, left)
	assert.Equal(t, with.Fingerprint, without.Fingerprint)
}
