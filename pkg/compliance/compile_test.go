package compliance_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v4"

	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/strictyaml"
	"github.com/ami-factory/ami-factory/test/golden"
)

func specs(t *testing.T) []compliance.Spec {
	t.Helper()
	data, err := os.ReadFile("testdata/controls.yaml")
	require.NoError(t, err)
	var file struct {
		Controls []compliance.Spec `yaml:"controls"`
	}
	_, problems := strictyaml.Decode("controls.yaml", data, &file)
	require.Empty(t, problems)
	return file.Controls
}

func compiled(t *testing.T) ([]byte, []compliance.Control) {
	t.Helper()
	checks, controls, err := compliance.Compile([]compliance.Set{
		{Component: "sample", Values: map[string]string{"variant": "docker"}, Specs: specs(t)},
	})
	require.NoError(t, err)
	return checks, controls
}

// goss runs the engine that go.mod pins on this machine.
func goss(t *testing.T, checks []byte) []byte {
	t.Helper()
	file := filepath.Join(t.TempDir(), "checks.yaml")
	require.NoError(t, os.WriteFile(file, checks, 0o600))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "tool", "goss", "--gossfile", file, "validate", "--format", "json", "--no-color")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	require.True(t, json.Valid(stdout.Bytes()), "goss did not run: %s%s", stdout.String(), stderr.String())
	return stdout.Bytes()
}

func TestCompiledChecksAndControls(t *testing.T) {
	checks, controls := compiled(t)
	golden.Testdata(t, "checks.json", checks)
	data, err := json.MarshalIndent(controls, "", "  ")
	require.NoError(t, err)
	golden.Testdata(t, "controls.json", append(data, '\n'))
	assert.NotContains(t, string(checks), "{{")
	assert.NotContains(t, string(checks), "CCC-01", "its condition does not hold")

	var asJSON, asYAML any
	require.NoError(t, json.Unmarshal(checks, &asJSON))
	require.NoError(t, yaml.Load(checks, &asYAML))
	text, err := json.Marshal(asYAML)
	require.NoError(t, err)
	assert.JSONEq(t, string(checks), string(text), "goss reads the file as YAML when its name says so")
}

func TestEngineReportsWhatTheControlsExpect(t *testing.T) {
	checks, controls := compiled(t)
	results := goss(t, checks)
	if golden.Updating() { // durations differ
		golden.Testdata(t, "goss.json", results)
	}
	got, err := compliance.Evaluate(input(controls, results))
	require.NoError(t, err)
	status := map[string]string{}
	for _, r := range got.Results {
		status[r.ControlID] = r.Status
	}
	assert.Equal(t, map[string]string{
		"AAA-01": "pass", "AAA-02": "pass", "BBB-01": "fail", "BBB-02": "fail", "BBB-03": "error", "BBB-04": "error", "BBB-05": "fail",
	}, status)
}

func TestCompileRefuses(t *testing.T) {
	one := compliance.Spec{ID: "AAA-01", Title: "t", Severity: "low", Goss: compliance.Goss{"kernel-param": {"a": {"value": "1"}}}}
	bad := one
	bad.Goss = compliance.Goss{"kernel-param": {"a": {}}}
	never := one
	never.When = map[string][]strictyaml.Scalar{"variant": {"base"}}
	tests := map[string]struct {
		sets []compliance.Set
		want string
	}{
		"the same control in two components": {
			[]compliance.Set{{Component: "x", Specs: []compliance.Spec{one}}, {Component: "y", Specs: []compliance.Spec{one}}},
			"control AAA-01 is in component x and again in y; give one of them another id",
		},
		"a resource that checks nothing": {
			[]compliance.Set{{Component: "x", Specs: []compliance.Spec{bad}}},
			"control AAA-01 of component x: kernel-param.a: value is required but missing",
		},
		"no control at all": {
			[]compliance.Set{{Component: "x", Specs: []compliance.Spec{never}}},
			"no control applies; an image that proves nothing is not built",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, _, err := compliance.Compile(tt.sets)
			assert.EqualError(t, err, tt.want)
		})
	}
}

func TestGossCheckFinds(t *testing.T) {
	tests := map[string]struct {
		goss compliance.Goss
		want string
	}{
		"nothing at all":                    {compliance.Goss{}, ": the control checks nothing"},
		"an unknown type":                   {compliance.Goss{"kernel-params": {"a": {"value": 1}}}, `kernel-params: unknown resource type "kernel-params"; did you mean "kernel-param"?`},
		"a type that needs the network":     {compliance.Goss{"http": {"x": {"status": 200}}}, `http: unknown resource type "http"`},
		"a type without resources":          {compliance.Goss{"file": {}}, "file: no file is named, so nothing is checked"},
		"an unknown attribute":              {compliance.Goss{"file": {"/a": {"exists": true, "modes": "0644"}}}, `file./a.modes: unknown attribute "modes"; did you mean "mode"?`},
		"a mode that YAML read as a number": {compliance.Goss{"file": {"/a": {"exists": true, "mode": 420}}}, "file./a.mode: mode must be text"},
		"a missing attribute":               {compliance.Goss{"file": {"/a": {"mode": "0644"}}}, "file./a: exists is required but missing"},
		"a service without a question":      {compliance.Goss{"service": {"a": {}}}, "service.a: nothing is checked"},
		"a skipped check":                   {compliance.Goss{"service": {"a": {"running": true, "skip": true}}}, "service.a.skip: a skipped check proves nothing; waive the control in the recipe instead"},
		"an empty list":                     {compliance.Goss{"file": {"/a": {"exists": true, "contents": []any{}}}}, "file./a.contents: contents is empty, so goss would check nothing"},
		"what goss would skip":              {compliance.Goss{"file": {"/a": {"exists": false, "mode": "0644"}}}, "file./a.exists: exists is false, so goss would skip all other attributes"},
		"a time-out in words":               {compliance.Goss{"command": {"a": {"exit-status": 0, "timeout": "5s"}}}, "command.a.timeout: timeout must be a number"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			problems := tt.goss.Check()
			require.Len(t, problems, 1)
			assert.Equal(t, tt.want, strings.Join(problems[0].Path, ".")+": "+problems[0].Message)
		})
	}
}
