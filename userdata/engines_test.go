package userdata_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/compliance"
)

// verifier runs the very scripts that a verifier is sent, with stand-ins for goss and
// for the programs of a test, and judges what they upload.
type verifier struct {
	engines  compliance.Engines
	programs map[string]string // scripts in the PATH of the guest, by name
	seconds  string            // for each program; default 20
	there    []byte            // what is at the engines' addresses before
}

func (v verifier) judge(t *testing.T) (compliance.Report, error) {
	t.Helper()
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("curl is not installed, and run-checks.sh needs it")
	}
	checks, controls, err := compliance.Compile([]compliance.Set{{Component: "hardening", Specs: []compliance.Spec{{
		ID: "SYS-02", Title: "Do not send ICMP redirects", Severity: "medium",
		Goss: compliance.Goss{"kernel-param": {"net.ipv4.conf.all.send_redirects": {"value": "0"}}},
	}}}})
	require.NoError(t, err)
	passing, err := compliance.Simulate(checks, nil)
	require.NoError(t, err)
	goss := []byte("#!/bin/sh\ncat <<'end of goss'\n" + string(passing) + "\nend of goss\n")
	s := &store{objects: map[string][]byte{"/goss": goss, "/checks": checks}}
	server := httptest.NewServer(s)
	defer server.Close()

	path := t.TempDir()
	for name, text := range v.programs {
		require.NoError(t, os.WriteFile(filepath.Join(path, name), []byte("#!/bin/sh\n"+text+"\n"), 0o600))
		require.NoError(t, os.Chmod(filepath.Join(path, name), 0o700)) // #nosec G302 -- a program
	}
	seconds := v.seconds
	if seconds == "" {
		seconds = "20"
	}
	env := []string{
		"PATH=" + path + ":" + os.Getenv("PATH"), "no_proxy=*", "NO_PROXY=*", "AMI_FACTORY_CHECKS_DIR=" + t.TempDir(), "CHECKS_SECONDS=" + seconds,
		"GOSS_URL=" + server.URL + "/goss", "GOSS_SHA256=" + hexDigest(goss), "CHECKS_URL=" + server.URL + "/checks", "CHECKS_SHA256=" + hexDigest(checks),
		"RESULTS_PUT_URL=" + server.URL + "/results", "INVENTORY_PUT_URL=" + server.URL + "/inventory", "INVENTORY_SCRIPT=echo nothing", "INVENTORY_SECONDS=60",
	}
	for _, name := range v.engines.Names() {
		env = append(env, strings.ToUpper(name)+"_RESULTS_PUT_URL="+server.URL+"/results-"+name)
		if v.there != nil {
			s.objects["/results-"+name] = v.there
		}
	}
	if e := v.engines.Script; e != nil {
		env = append(env, fmt.Sprintf("SCRIPT_COUNT=%d", len(e.Files)))
		for i, f := range e.Files {
			s.objects["/script/"+f.Path] = f.Data
			env = append(env, fmt.Sprintf("SCRIPT_URL_%d=%s/script/%s", i, server.URL, f.Path), fmt.Sprintf("SCRIPT_SHA256_%d=%s", i, hexDigest(f.Data)))
		}
	}
	if e := v.engines.OpenSCAP; e != nil {
		s.objects["/stream"] = []byte("<stream/>")
		env = append(env, "OPENSCAP_PROFILE="+e.Profile, "OPENSCAP_STREAM_URL="+server.URL+"/stream", "OPENSCAP_STREAM_SHA256="+e.SHA256)
	}
	if e := v.engines.Bottlerocket; e != nil {
		env = append(env, "BOTTLEROCKET_REPORT="+e.Report, fmt.Sprintf("BOTTLEROCKET_LEVEL=%d", e.Level))
	}
	var script []byte
	for _, name := range []string{"verify/engines.sh", "verify/run-checks.sh"} {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		script = append(script, text...)
	}
	command := exec.CommandContext(t.Context(), "sh", "-c", string(script))
	command.Env = env
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	if err := command.Run(); err != nil {
		return compliance.Report{}, fmt.Errorf("%w: %s", err, stderr.String())
	}
	var said struct {
		Engines map[string]string `json:"engines"`
	}
	require.NoError(t, json.Unmarshal(stdout.Bytes(), &said), stdout.String())
	outputs := map[string]compliance.Output{}
	for _, name := range v.engines.Names() {
		packed := s.objects["/results-"+name]
		if got := hexDigest(packed); got != said.Engines[name] {
			return compliance.Report{}, fmt.Errorf("the results of %s were altered on the way", name)
		}
		outputs[name] = compliance.Output{Packed: packed}
	}
	return compliance.Evaluate(compliance.Input{
		Controls: append(controls, v.engines.Controls()...), Checks: checks, Results: passing, Gate: "medium",
		Now: time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC), ImageID: "ami-1", Engines: v.engines, Outputs: outputs,
	})
}

// verdict runs the verifier and compares: "" says that the image passes.
func (v verifier) requires(t *testing.T, want string) {
	t.Helper()
	report, err := v.judge(t)
	if err == nil && report.Verdict != compliance.VerdictPassed {
		err = fmt.Errorf("%s", report.Cause())
	}
	if want == "" {
		require.NoError(t, err)
		assert.Empty(t, report.Doubts(append(v.engines.Controls(), compliance.Control{ID: "SYS-02", Severity: "medium"}), "medium"))
		return
	}
	require.Error(t, err)
	assert.ErrorContains(t, err, want)
}

func TestARecipesOwnChecksDecideOverTheImage(t *testing.T) {
	const pass = `echo '{"control":"WEB-01","status":"pass"}'; `
	const both = pass + `echo '{"control":"WEB-02","status":"pass","expected":"200","actual":"200"}'; `
	for sentence, tc := range map[string]struct {
		scripts []string
		seconds string
		there   []byte
		want    string
	}{
		"JSON lines that say that all is well":    {scripts: []string{both}},
		"TAP that says so":                        {scripts: []string{`printf 'TAP version 13\n1..2\nok 1 - WEB-01 it answers\nok 2 - WEB-02: it is fast # in time\n'`}},
		"one of each":                             {scripts: []string{pass, `printf '1..1\nok WEB-02 fine\n'`}},
		"a control that fails":                    {scripts: []string{pass + `echo '{"control":"WEB-02","status":"fail","expected":"200","actual":"503"}'`}, want: "WEB-02 (critical) It is fast: expected recipes/0.sh = 200, found 503"},
		"a control that fails in TAP":             {scripts: []string{`printf '1..2\nok 1 - WEB-01\nnot ok 2 - WEB-02 answers 200\n# got 503\n'; exit 1`}, want: "expected recipes/0.sh = answers 200, found got 503"},
		"a low one that fails passes the gate":    {scripts: []string{`echo '{"control":"WEB-01","status":"fail"}'; echo '{"control":"WEB-02","status":"pass"}'`}},
		"one script fails what another passes":    {scripts: []string{both, `echo '{"control":"WEB-02","status":"fail","actual":"slow"}'`}, want: "WEB-02 (critical)"},
		"a control that nobody reports":           {scripts: []string{pass}, want: "WEB-02 (critical) It is fast: expected a result, found none: no script reported it"},
		"a control that is skipped":               {scripts: []string{pass + `echo '{"control":"WEB-02","status":"skip"}'`}, want: "WEB-02 (critical)"},
		"a TAP test that is skipped":              {scripts: []string{`printf '1..2\nok 1 WEB-01\nok 2 WEB-02 # SKIP no network\n'`}, want: "skipped: SKIP no network"},
		"a test that is still to do":              {scripts: []string{`printf '1..2\nok 1 WEB-01\nnot ok 2 WEB-02 # TODO later\n'`}, want: "WEB-02 (critical)"},
		"a status that is not known":              {scripts: []string{pass + `echo '{"control":"WEB-02","status":"fine"}'`}, want: `the unknown status "fine"`},
		"an error of a check":                     {scripts: []string{pass + `echo '{"control":"WEB-02","status":"error","actual":"no network"}'`}, want: "found no network"},
		"a control that was not declared":         {scripts: []string{both + `echo '{"control":"WEB-03","status":"pass"}'`}, want: "the recipe declares no control WEB-03"},
		"a TAP test without a control":            {scripts: []string{`printf '1..3\nok 1 WEB-01\nok 2 WEB-02\nok 3\n'`}, want: "the recipe declares no control"},
		"nonsense":                                {scripts: []string{both + "echo all is well"}, want: "its line 3 is no JSON line"},
		"nonsense that is no TAP either":          {scripts: []string{both, "echo all is well"}, want: "is neither TAP nor a JSON line"},
		"binary nonsense":                         {scripts: []string{both, `printf '\000\377\033[2J'`}, want: "is neither TAP nor a JSON line"},
		"a silent script":                         {scripts: []string{both, "exit 0"}, want: "found it printed nothing"},
		"a script that crashes after its results": {scripts: []string{both + "echo broken >&2; exit 3"}, want: "it ended with 3: broken"},
		"a script that crashes before any result": {scripts: []string{both, "echo no such library >&2; exit 127"}, want: "it ended with 127: no such library"},
		"a script that hangs before any result":   {scripts: []string{both, "sleep 60"}, seconds: "1", want: "it did not end in time"},
		"a script that fails without a failure":   {scripts: []string{both + "exit 1"}, want: "it ended with 1"},
		"a script that cannot be run":             {scripts: []string{both, "#!/no/such/interpreter"}, want: "recipes/1.sh"},
		"a script that never ends":                {scripts: []string{both + "sleep 60"}, seconds: "1", want: "it did not end in time"},
		"a script that says too much":             {scripts: []string{both + `head -c 2000000 /dev/zero | tr '\0' x`}, want: "UNKNOWN recipes/0.sh"},
		"a script that says it without an end":    {scripts: []string{both + "yes '{\"control\":\"WEB-01\",\"status\":\"pass\"}'"}, want: "UNKNOWN recipes/0.sh"},
		"TAP without a plan":                      {scripts: []string{`printf 'ok 1 WEB-01\nok 2 WEB-02\n'`}, want: "has no plan"},
		"TAP that is cut off":                     {scripts: []string{`printf '1..3\nok 1 WEB-01\nok 2 WEB-02\n'`}, want: "has 2 tests, its plan has 3"},
		"TAP with two plans":                      {scripts: []string{`printf '1..2\nok 1 WEB-01\nok 2 WEB-02\n1..2\n'`}, want: "two plans"},
		"TAP with a test twice":                   {scripts: []string{`printf '1..2\nok 1 WEB-01\nok 1 WEB-02\n'`}, want: "test 1 twice"},
		"TAP that gives up":                       {scripts: []string{`printf '1..2\nok 1 WEB-01\nok 2 WEB-02\nBail out! no disk\n'`}, want: "it gave up: Bail out! no disk"},
		"results that somebody else put first":    {scripts: []string{both}, there: []byte("a stranger's"), want: "altered on the way"},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			e := &compliance.Script{Declared: []compliance.Control{
				{ID: "WEB-01", Title: "It answers", Severity: "low", Engine: compliance.EngineScript},
				{ID: "WEB-02", Title: "It is fast", Severity: "critical", Engine: compliance.EngineScript},
			}}
			for i, text := range tc.scripts {
				if !strings.HasPrefix(text, "#!") {
					text = "#!/bin/sh\n" + text
				}
				e.Files = append(e.Files, compliance.ScriptFile{Path: fmt.Sprintf("recipes/%d.sh", i), Data: []byte(text + "\n")})
			}
			verifier{engines: compliance.Engines{Script: e}, seconds: tc.seconds, there: tc.there}.requires(t, tc.want)
		})
	}
}

// reportOf is what "apiclient report cis --format json" prints.
func reportOf(results string, passed, failed, skipped int) string {
	return fmt.Sprintf(`{"level":1,"total":%d,"passed":%d,"skipped":%d,"failed":%d,"status":"PASS","timestamp":"2026-11-30T12:00:00Z","name":"CIS Bottlerocket Benchmark","version":"v1.0.0","results":{%s}}`,
		passed+failed+skipped, passed, skipped, failed, results)
}

func TestTheReportOfBottlerocketDecidesOverTheImage(t *testing.T) {
	rule := func(id, mode, status, more string) string {
		return fmt.Sprintf(`"br%s":{"name":"br%s","id":"%s","level":1,"title":"Rule %s","mode":"%s","status":"%s"%s}`, id, id, id, id, mode, status, more)
	}
	good := rule("1.1", "Automatic", "PASS", "") + "," + rule("1.2", "Automatic", "PASS", "")
	for sentence, tc := range map[string]struct {
		program string // apiclient
		want    string
	}{
		"all checks pass":                  {"[ \"$*\" = 'report cis --level 1 --format json' ] && cat <<'end'\n" + reportOf(good, 2, 0, 0) + "\nend", ""},
		"what a person must check is left": {"cat <<'end'\n" + reportOf(good+","+rule("1.3", "Manual", "SKIP", ""), 2, 0, 1) + "\nend", ""},
		"a check fails":                    {"cat <<'end'\n" + reportOf(good+","+rule("1.3", "Automatic", "FAIL", `,"error":"unable to read"`), 2, 1, 0) + "\nend", "1.3 Rule 1.3 = PASS, found FAIL: unable to read"},
		"a check was skipped":              {"cat <<'end'\n" + reportOf(good+","+rule("1.3", "Automatic", "SKIP", ""), 2, 0, 1) + "\nend", "BRKT-01"},
		"a status that is not known":       {"cat <<'end'\n" + reportOf(good+","+rule("1.3", "Automatic", "FINE", ""), 2, 0, 1) + "\nend", "contradict its results"},
		"too few checks were made":         {"cat <<'end'\n" + reportOf(rule("1.1", "Automatic", "PASS", ""), 1, 0, 0) + "\nend", "checks that were evaluated = at least 2, found 1"},
		"the counts are wrong":             {"cat <<'end'\n" + reportOf(good, 3, 0, 0) + "\nend", "contradict its results"},
		"a result is there twice":          {"cat <<'end'\n" + reportOf(rule("1.1", "Automatic", "FAIL", "")+","+good, 2, 0, 0) + "\nend", `it has "br1.1" twice`},
		"there are two reports":            {"cat <<'end'\n" + reportOf(good, 2, 0, 0) + reportOf(good, 2, 0, 0) + "\nend", "text after its JSON"},
		"nonsense":                         {"echo no", "cannot be trusted"},
		"JSON of another kind":             {"echo '{\"results\":{}}'", "it is no report"},
		"too much":                         {"head -c 5000000 /dev/zero", "more than 4194304 bytes"},
		"nothing":                          {"echo 'no such report' >&2; exit 2", "apiclient printed no report (exit code 2): no such report"},
		"it never ends":                    {"sleep 60", "apiclient printed no report (exit code 124)"},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			seconds := "20"
			if strings.HasPrefix(tc.program, "sleep") {
				seconds = "1"
			}
			e := compliance.Engines{Bottlerocket: &compliance.Bottlerocket{Report: "cis", Level: 1, MinimumChecks: 2}}
			verifier{engines: e, programs: map[string]string{"apiclient": tc.program}, seconds: seconds}.requires(t, tc.want)
		})
	}
	t.Run("the guest is no Bottlerocket", func(t *testing.T) {
		verifier{engines: compliance.Engines{Bottlerocket: &compliance.Bottlerocket{Report: "cis", Level: 1, MinimumChecks: 2}}}.requires(t, "there is no program apiclient")
	})
}

const profile = "xccdf_org.example_profile_strict"

func arf(profile, results string) string {
	return `<?xml version="1.0" encoding="UTF-8"?>
<arf:asset-report-collection xmlns:arf="http://scap.nist.gov/schema/asset-reporting-format/1.1">
 <arf:report-requests><x:Benchmark xmlns:x="http://checklists.nist.gov/xccdf/1.2"><x:Rule id="xccdf_org.example_rule_a"><x:title>Root &amp; nobody else</x:title></x:Rule></x:Benchmark></arf:report-requests>
 <arf:reports><arf:report><arf:content><TestResult xmlns="http://checklists.nist.gov/xccdf/1.2" id="x" test-system="cpe:/a:redhat:openscap:1.3.7">
  <profile idref="` + profile + `"/>` + results + `<score maximum="100">100</score></TestResult></arf:content></arf:report></arf:reports></arf:asset-report-collection>`
}

func ruleResult(name, severity, result string) string {
	return `<rule-result idref="xccdf_org.example_rule_` + name + `" severity="` + severity + `"><result>` + result + `</result><message severity="info">m</message></rule-result>`
}

func TestOpenSCAPDecidesOverTheImage(t *testing.T) {
	two := ruleResult("a", "high", "pass") + ruleResult("b", "medium", "pass")
	write := func(text string) string {
		return "while [ \"$1\" != --results-arf ]; do shift; done\ncat >\"$2\" <<'end'\n" + text + "\nend\n"
	}
	var bomb strings.Builder
	bomb.WriteString("<!DOCTYPE x [<!ENTITY a0 'ha'>")
	for i := range 20 {
		fmt.Fprintf(&bomb, "<!ENTITY a%d '&a%d;&a%d;'>", i+1, i, i)
	}
	bomb.WriteString("]><x>&a20;</x>")
	for sentence, tc := range map[string]struct {
		oscap string
		want  string
	}{
		"all rules pass":                        {write(arf(profile, two)), ""},
		"the exit code alone says nothing":      {write(arf(profile, two)) + "exit 2", ""},
		"rules that were not selected":          {write(arf(profile, two+ruleResult("c", "high", "notselected"))), ""},
		"a rule that need not apply":            {write(arf(profile, two+ruleResult("partition_tmp", "high", "notapplicable"))), ""},
		"a rule that should apply":              {write(arf(profile, two+ruleResult("c", "high", "notapplicable"))), "xccdf_org.example_rule_c (high)"},
		"a rule that fails":                     {write(arf(profile, two+ruleResult("c", "high", "fail"))) + "exit 2", "xccdf_org.example_rule_c (high) xccdf_org.example_rule_c: expected xccdf_org.example_rule_c = pass, found fail m"},
		"a rule that fails below the threshold": {write(arf(profile, two+ruleResult("c", "medium", "fail"))), ""},
		"a rule that was fixed":                 {write(arf(profile, two+ruleResult("c", "high", "fixed"))), "a verifier changes nothing"},
		"a rule whose result is unknown":        {write(arf(profile, two+ruleResult("c", "high", "unknown"))), "found unknown m"},
		"a rule with an error":                  {write(arf(profile, two+ruleResult("c", "high", "error"))), "found error m"},
		"a rule with no result":                 {write(arf(profile, two+`<rule-result idref="xccdf_org.example_rule_c" severity="high"/>`)), "found none"},
		"a rule that a person must check":       {write(arf(profile, two+ruleResult("c", "high", "notchecked"))), "xccdf_org.example_rule_c (high)"},
		"a rule that passes and fails":          {write(arf(profile, two+ruleResult("c", "high", "pass")+ruleResult("c", "high", "fail"))), "xccdf_org.example_rule_c (high)"},
		"too few rules were evaluated":          {write(arf(profile, ruleResult("a", "high", "pass")+ruleResult("partition_a", "high", "notapplicable"))), "OSCAP-01 (critical)"},
		"the results of another profile":        {write(arf("xccdf_org.example_profile_lax", two)), `it is of the profile "xccdf_org.example_profile_lax"`},
		"no test result":                        {write("<x/>"), "it has no test result"},
		"two test results":                      {write("<x>" + strings.Repeat(strings.SplitN(arf(profile, two), "?>", 2)[1], 2) + "</x>"), "it has 2 test results"},
		"a result of no rule":                   {write(arf(profile, two+`<rule-result idref="SYS-02" severity="high"><result>pass</result></rule-result>`)), "which is not the id of a rule"},
		"XML that is cut off":                   {write(arf(profile, two)[:900]), "its XML"},
		"XML that expands":                      {write(bomb.String()), "a document type, which could define entities"},
		"XML that is nested without end":        {"while [ \"$1\" != --results-arf ]; do shift; done\nyes '<a>' | head -n 100000 >\"$2\"", "nested more than 100 deep"},
		"nonsense":                              {write("no"), "it has no test result"},
		"nothing":                               {"echo 'Profile not found' >&2; exit 1", "oscap wrote no results (exit code 1): Profile not found"},
		"it never ends":                         {"sleep 60", "oscap wrote no results (exit code 124)"},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			seconds := "20"
			if strings.HasPrefix(tc.oscap, "sleep") {
				seconds = "1"
			}
			e := compliance.Engines{OpenSCAP: &compliance.OpenSCAP{
				Stream: "a.xml", SHA256: hexDigest([]byte("<stream/>")), Profile: profile, MinimumRules: 2, Severity: "high", NotApplicable: []string{"xccdf_org.example_rule_partition_tmp", "xccdf_org.example_rule_partition_a"},
			}}
			verifier{engines: e, programs: map[string]string{"oscap": tc.oscap}, seconds: seconds}.requires(t, tc.want)
		})
	}
	t.Run("another data stream than the recipe names", func(t *testing.T) {
		e := compliance.Engines{OpenSCAP: &compliance.OpenSCAP{SHA256: strings.Repeat("0", 64), Profile: profile, MinimumRules: 2}}
		verifier{engines: e, programs: map[string]string{"oscap": "exit 0"}}.requires(t, "stream.xml has SHA-256 ")
	})
}
