package inventory

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/package-url/packageurl-go"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/test/golden"
)

func answer(t testing.TB) string {
	t.Helper()
	raw, err := os.ReadFile("testdata/answer.txt")
	require.NoError(t, err)
	return string(raw)
}

func parsed(t testing.TB) Inventory {
	t.Helper()
	v, err := Parse(strings.NewReader(answer(t)))
	require.NoError(t, err)
	return v
}

func TestWhatAGuestSaysIsRead(t *testing.T) {
	raw, err := json.MarshalIndent(parsed(t), "", "  ")
	require.NoError(t, err)
	golden.Testdata(t, "inventory.golden.json", append(raw, '\n'))
}

func TestTheBillOfMaterialsIsValidCycloneDX(t *testing.T) {
	document, err := parsed(t).CycloneDX(Plain)
	require.NoError(t, err)
	golden.Testdata(t, "inventory.golden.cdx.json", document)
	requireValid(t, document)

	// The schema does notice faults.
	broken := bytes.Replace(document, []byte(`"type": "library"`), []byte(`"type": "book"`), 1)
	require.NotEqual(t, document, broken)
	assert.Error(t, validate(t, broken))
}

func requireValid(t testing.TB, document []byte) {
	t.Helper()
	require.NoError(t, validate(t, document))
	var bom cdx.BOM
	require.NoError(t, cdx.NewBOMDecoder(bytes.NewReader(document), cdx.BOMFileFormatJSON).Decode(&bom))
	refs := map[string]bool{}
	for _, c := range *bom.Components {
		assert.False(t, refs[c.BOMRef], "%s is there twice", c.BOMRef)
		refs[c.BOMRef] = true
		if c.PackageURL != "" {
			url, err := packageurl.FromString(c.PackageURL)
			require.NoError(t, err)
			require.NoError(t, url.Normalize())
			assert.Equal(t, c.PackageURL, url.ToString())
		}
	}
}

// validate uses the schemas of the CycloneDX project.
func validate(t testing.TB, document []byte) error {
	t.Helper()
	c := jsonschema.NewCompiler()
	for _, name := range []string{"bom-1.5", "spdx", "jsf-0.82"} {
		raw, err := os.ReadFile(filepath.Join("testdata", name+".schema.json"))
		require.NoError(t, err)
		schema, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
		require.NoError(t, err)
		require.NoError(t, c.AddResource("http://cyclonedx.org/schema/"+name+".schema.json", schema))
	}
	schema, err := c.Compile("http://cyclonedx.org/schema/bom-1.5.schema.json")
	require.NoError(t, err)
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(document))
	require.NoError(t, err)
	return schema.Validate(value)
}

func TestTheSameGuestGivesTheSameBytes(t *testing.T) {
	want, err := parsed(t).CycloneDX(Plain)
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSpace(answer(t)), "\n")
	for seed := range uint64(20) {
		// Facts come in any order within their section, which files of repositories
		// need: their lines are not sorted.
		shuffled := slices.Clone(lines)
		r := rand.New(rand.NewPCG(seed, 1))
		for from := 0; from < len(shuffled); {
			kind, _, _ := strings.Cut(shuffled[from], "\t")
			to := from
			for to < len(shuffled) && strings.HasPrefix(shuffled[to], kind+"\t") {
				to++
			}
			if to == from {
				to++
			}
			if kind != "repository" && kind != "section" {
				r.Shuffle(to-from, func(i, j int) {
					shuffled[from+i], shuffled[from+j] = shuffled[from+j], shuffled[from+i]
				})
			}
			from = to
		}
		v, err := Parse(strings.NewReader(strings.Join(shuffled, "\n") + "\n"))
		require.NoError(t, err)
		got, err := v.CycloneDX(Plain)
		require.NoError(t, err)
		require.Equal(t, string(want), string(got))
	}
}

func TestPortsThatChangeWithEveryBootDoNotChangeTheBytes(t *testing.T) {
	booted := func(line string) string {
		text := strings.Replace(answer(t), "socket\t32768\t60999\n", line+"\nsocket\t32768\t60999\n", 1)
		text = strings.Replace(text, "section\tsocket\t0\t7\t\n", "section\tsocket\t0\t8\t\n", 1)
		v, err := Parse(strings.NewReader(text))
		require.NoError(t, err)
		document, err := v.CycloneDX(Plain)
		require.NoError(t, err)
		return string(document)
	}
	for sentence, c := range map[string]struct {
		first, second string
		same          bool
	}{
		"the streaming server of containerd":      {"socket\ttcp\t127.0.0.1:38351\tcontainerd", "socket\ttcp\t127.0.0.1:45117\tcontainerd", true},
		"one of IPv6":                             {"socket\ttcp\t[::1]:38351\tcontainerd", "socket\ttcp\t[::1]:45117\tcontainerd", true},
		"a server at a port that it chose":        {"socket\ttcp\t127.0.0.1:8080\tweb", "socket\ttcp\t127.0.0.1:8081\tweb", false},
		"a server that others reach":              {"socket\ttcp\t0.0.0.0:38351\tweb", "socket\ttcp\t0.0.0.0:45117\tweb", false},
		"another program at a port of the kernel": {"socket\ttcp\t127.0.0.1:38351\tcontainerd", "socket\ttcp\t127.0.0.1:38351\tnc", false},
	} {
		t.Run(sentence, func(t *testing.T) {
			assert.Equal(t, c.same, booted(c.first) == booted(c.second))
		})
	}
}

func TestPendingUpdatesAreNoPartOfTheBillOfMaterials(t *testing.T) {
	v := parsed(t)
	want, err := v.CycloneDX(Plain)
	require.NoError(t, err)
	v.Pending = Pending{}
	got, err := v.CycloneDX(Plain)
	require.NoError(t, err)
	assert.Equal(t, string(want), string(got))
}

func TestTheBillOfMaterialsIsReadBack(t *testing.T) {
	for name, v := range map[string]Inventory{"a guest": parsed(t), "a simulated guest": simulated(t)} {
		t.Run(name, func(t *testing.T) {
			document, err := v.CycloneDX(Plain)
			require.NoError(t, err)
			got, err := Read(document)
			require.NoError(t, err)
			want := v
			want.Pending = got.Pending
			assert.Equal(t, want, got)
			assert.NotEmpty(t, got.Pending.Unknown)
		})
	}
	_, err := Read([]byte(`{"bomFormat":"CycloneDX","specVersion":"1.5","version":1}`))
	assert.ErrorContains(t, err, "no subject")
}

func simulated(t testing.TB) Inventory {
	t.Helper()
	v, err := Parse(bytes.NewReader(Simulated()))
	require.NoError(t, err)
	v.Simulated = true
	return v
}

func TestASimulatedGuestIsLabelled(t *testing.T) {
	document, err := simulated(t).CycloneDX(Plain)
	require.NoError(t, err)
	requireValid(t, document)
	assert.Contains(t, string(document), `"ami-factory:simulated"`)
	assert.Empty(t, simulated(t).Pending.Unknown)
}

func TestPackageURLs(t *testing.T) {
	v := Inventory{System: System{ID: "debian", Version: "12"}}
	amazon := Inventory{System: System{ID: "amzn", Version: "2023"}}
	login := Package{Type: Deb, Name: "login", Version: "1:4.13+dfsg1-1+b1", Arch: "amd64", Source: "shadow", SourceVersion: "1:4.13+dfsg1-1"}
	bind := Package{Type: RPM, Name: "bind-libs", Epoch: "32", Version: "9.18.33-1.amzn2023", Arch: "x86_64", Source: "bind", SourceVersion: "9.18.33-1.amzn2023"}
	for sentence, c := range map[string]struct {
		v    Inventory
		p    Package
		d    Distro
		want string
	}{
		"the epoch of Debian stays in the version": {v, login, Plain, "pkg:deb/debian/login@1:4.13%2Bdfsg1-1%2Bb1?arch=amd64&distro=debian-12&upstream=shadow%401:4.13%2Bdfsg1-1"},
		"Inspector wants the bare version":         {v, login, ForInspector, "pkg:deb/debian/login@1:4.13%2Bdfsg1-1%2Bb1?arch=amd64&distro=12&upstream=shadow%401:4.13%2Bdfsg1-1"},
		"the epoch of RPM is a qualifier":          {amazon, bind, Plain, "pkg:rpm/amzn/bind-libs@9.18.33-1.amzn2023?arch=x86_64&distro=amzn-2023&epoch=32&upstream=bind"},
	} {
		t.Run(sentence, func(t *testing.T) {
			got, err := c.v.PURL(c.p, c.d)
			require.NoError(t, err)
			url, err := packageurl.FromString(got)
			require.NoError(t, err)
			want, err := packageurl.FromString(c.want)
			require.NoError(t, err)
			assert.Equal(t, want, url)
		})
	}
}

func TestAnAnswerThatIsNoInventoryIsRefused(t *testing.T) {
	good := answer(t)
	replace := func(old, with string) string {
		out := strings.Replace(good, old, with, 1)
		require.NotEqual(t, good, out, "%q is not there", old)
		return out
	}
	for sentence, c := range map[string]struct{ answer, want string }{
		"nothing":                         {"", "cut off"},
		"something else":                  {"hello\n", "line 1"},
		"another version":                 {replace("inventory\t1", "inventory\t2"), "line 1"},
		"cut off after a section":         {good[:strings.Index(good, "kernel\t")], "cut off"},
		"without its end":                 {strings.TrimSuffix(good, "end\n"), "cut off"},
		"with something after its end":    {good + "deb\tinstalled\tx\t1\tall\tx\t1\n", "follows its end"},
		"a section is missing":            {replace("section\tunit\t0\t2\t\n", ""), "no section unit"},
		"a package was dropped":           {replace("deb\tinstalled\topenssl\t3.0.15-1~deb12u1\tamd64\topenssl\t3.0.15-1~deb12u1\n", ""), "has 6 lines, it says \"7\""},
		"a fact after its section":        {replace("section\trpm", "deb\tinstalled\tx\t1\tall\tx\t1\nsection\trpm"), "follows the end of its section"},
		"a section ends twice":            {replace("section\trpm", "section\tdeb\t0\t7\t\nsection\trpm"), "ends twice"},
		"an unknown kind":                 {replace("section\trpm", "virus\tx\nsection\trpm"), "no kind of fact"},
		"an unknown section":              {replace("section\trpm", "section\tvirus\t0\t0\t\nsection\trpm"), "no section"},
		"a status that is none":           {replace("section\trpm\tabsent", "section\trpm\tfine"), "has the status"},
		"too few fields":                  {replace("unit\tssh.service\tenabled", "unit\tssh.service"), "has 1 fields"},
		"a package without a version":     {replace("deb\tinstalled\topenssl\t3.0.15-1~deb12u1", "deb\tinstalled\topenssl\t"), "no installed package"},
		"a package with a line feed":      {replace("deb\tinstalled\topenssl", "deb\tinstalled\topen\rssl"), "no installed package"},
		"dpkg failed":                     {replace("section\tdeb\t0", "section\tdeb\t2"), "section deb failed"},
		"no package at all":               {regexReplaceDeb(good), "names no package"},
		"no distribution":                 {replace("system\tID\tdebian", "system\tXY\tdebian"), "name the distribution"},
		"no answer about pending updates": {replace("section\tpending-apt\t0\t1\t\n", ""), "no section of pending"},
		"a key that is not base64":        {replace("bm8ga2V5", "!!"), "cannot be decoded"},
		"a socket without a port":         {replace("0.0.0.0:22", "22"), "no address of a socket"},
		"a line that is too long":         {replace("kernel\trunning\t", "kernel\trunning\t"+strings.Repeat("x", maxLine)), "token too long"},
		"a user without a shell":          {replace("\t/root\t/bin/bash", ""), "no fact of an account"},
	} {
		t.Run(sentence, func(t *testing.T) {
			_, err := Parse(strings.NewReader(c.answer))
			require.ErrorContains(t, err, c.want)
			assert.Less(t, len(err.Error()), 500)
		})
	}
}

// regexReplaceDeb removes all packages and says so.
func regexReplaceDeb(s string) string {
	var out []string
	for _, line := range strings.Split(s, "\n") {
		if !strings.HasPrefix(line, "deb\t") {
			out = append(out, strings.Replace(line, "section\tdeb\t0\t7", "section\tdeb\t0\t0", 1))
		}
	}
	return strings.Join(out, "\n")
}

// endless repeats a line for ever.
type endless struct{ line string }

func (e endless) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		n += copy(p[n:], e.line)
	}
	return n, nil
}

func TestAnEndlessAnswerIsRefused(t *testing.T) {
	for sentence, line := range map[string]string{
		"many lines": "unit\tx\tenabled\n",
		"no lines":   "x",
	} {
		t.Run(sentence, func(t *testing.T) {
			_, err := Parse(io.MultiReader(strings.NewReader(header+"\n"), endless{line}))
			assert.Error(t, err)
		})
	}
	t.Run("a bomb", func(t *testing.T) {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, err := io.WriteString(z, header+"\n")
		require.NoError(t, err)
		row := strings.Repeat("unit\t"+strings.Repeat("x", 4000)+"\tenabled\n", 100)
		for range 200 {
			_, err := io.WriteString(z, row)
			require.NoError(t, err)
		}
		require.NoError(t, z.Close())
		_, err = Unpack(b.Bytes())
		assert.Error(t, err)
	})
	t.Run("too much packed", func(t *testing.T) {
		_, err := Unpack(make([]byte, MaxPacked+1))
		assert.ErrorContains(t, err, fmt.Sprintf("%d are allowed", MaxPacked))
	})
	t.Run("not packed", func(t *testing.T) {
		_, err := Unpack([]byte(answer(t)))
		assert.ErrorContains(t, err, "unpack")
	})
}

func TestControlCharactersDoNotReachReaders(t *testing.T) {
	hostile := strings.NewReplacer("/opt/tool/helper", "/opt/\x1b]0;owned\x07helper", "Debian GNU/Linux 12 (bookworm)", "Debian\u202eexe.12").Replace(answer(t))
	v, err := Parse(strings.NewReader(hostile))
	require.NoError(t, err)
	document, err := v.CycloneDX(Plain)
	require.NoError(t, err)
	for _, bad := range []string{"\x1b", "\x07", "\u202e", `\u001b`, `\u202e`} {
		assert.NotContains(t, string(document), bad)
	}
	assert.Contains(t, string(document), "<U+001B>")
}

func TestRepositoriesThatNeedNoSignatureSaySo(t *testing.T) {
	for sentence, c := range map[string]struct {
		file  string
		lines []string
		want  []Repository
	}{
		"a line with options": {"a.list", []string{"deb [ trusted=yes arch=amd64 ] https://x.test/ ./"},
			[]Repository{{File: "a.list", URI: "https://x.test/", Suites: "./", Enabled: true, Keys: "[trusted]"}}},
		"a line without": {"a.list", []string{"# no", "deb https://x.test stable main contrib"},
			[]Repository{{File: "a.list", URI: "https://x.test", Suites: "stable", Parts: "main contrib", Enabled: true}}},
		"yum, two of them": {"a.repo", []string{"[one]", "baseurl = https://x.test/1", "gpgcheck=0", "[two]", "mirrorlist=https://x.test/2", "enabled=0", "gpgkey=file:///etc/pki/rpm-gpg/K"},
			[]Repository{{File: "a.repo", Name: "one", URI: "https://x.test/1", Enabled: true, Keys: "[unsigned]"}, {File: "a.repo", Name: "two", URI: "https://x.test/2", Keys: "file:///etc/pki/rpm-gpg/K"}}},
		"only sources": {"a.sources", []string{"Types: deb-src", "URIs: https://x.test"}, nil},
		"broken":       {"a.list", []string{"deb", "deb [", "deb [x]", "deb [x] y"}, nil},
	} {
		t.Run(sentence, func(t *testing.T) { assert.Equal(t, c.want, repositories(c.file, c.lines)) })
	}
}

func TestSourcePackagesOfRPM(t *testing.T) {
	for file, want := range map[string][2]string{
		"bash-5.2.15-1.amzn2023.0.2.src.rpm":     {"bash", "5.2.15-1.amzn2023.0.2"},
		"python3.11-3.11.6-1.amzn2023.nosrc.rpm": {"python3.11", "3.11.6-1.amzn2023"},
		"(none)":                                 {"x", "1-1"},
		"odd.src.rpm":                            {"x", "1-1"},
		"-1.src.rpm":                             {"x", "1-1"},
	} {
		name, version := sourceRPM(file, "x", "1-1")
		assert.Equal(t, want, [2]string{name, version}, file)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(answer(f)))
	f.Add(Simulated())
	f.Fuzz(func(t *testing.T, raw []byte) {
		v, err := Parse(bytes.NewReader(raw))
		if err != nil {
			return
		}
		document, err := v.CycloneDX(Plain)
		if err != nil {
			return
		}
		if _, err := Read(document); err != nil {
			t.Fatal(err)
		}
	})
}
