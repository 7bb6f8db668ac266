package problem_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/problem"
)

func sample() problem.List {
	return problem.List{
		{Severity: problem.Error, File: "b.yaml", Line: 2, Column: 3, Message: "second", Source: "\tx: é!"},
		{Severity: problem.Warning, File: "a.yaml", Message: "the whole file"},
		{Severity: problem.Error, File: "b.yaml", Line: 1, Column: 7, Message: "first", Allowed: "low, high", Source: "gate: middling"},
		{Severity: problem.Error, File: "b.yaml", Line: 1, Column: 7, Message: "first", Allowed: "low, high", Source: "gate: middling"},
	}
}

func TestPrintIsSortedWithCarets(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, sample().Print(&b))
	assert.Equal(t, `a.yaml: warning: the whole file
b.yaml:1:7: error: first (allowed: low, high)
    1 | gate: middling
      |       ^
b.yaml:2:3: error: second
    2 | `+"\tx: é!\n      | \t ^\n"+`2 errors, 1 warning
`, b.String())
}

func TestNothingToReportPrintsNothing(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, problem.List(nil).Print(&b))
	assert.Empty(t, b.String())
	require.NoError(t, problem.List(nil).Err())
}

func TestJSONHoldsTheSame(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, sample().WriteJSON(&b))
	var got struct {
		Errors, Warnings int
		Problems         problem.List
	}
	require.NoError(t, json.Unmarshal(b.Bytes(), &got))
	assert.Equal(t, 2, got.Errors)
	assert.Equal(t, 1, got.Warnings)
	assert.Equal(t, sample().Sort(), got.Problems)
	b.Reset()
	require.NoError(t, problem.List(nil).WriteJSON(&b))
	assert.JSONEq(t, `{"errors":0,"warnings":0,"problems":[]}`, b.String())
}

func TestWarningsAloneAreNoError(t *testing.T) {
	require.NoError(t, problem.List{{Severity: problem.Warning, File: "a", Message: "m"}}.Err())
	var invalid *problem.InvalidError
	require.ErrorAs(t, sample().Err(), &invalid)
	assert.Len(t, invalid.Problems, 3)
	assert.Equal(t, "b.yaml:1:7: error: first (allowed: low, high)\nb.yaml:2:3: error: second", invalid.Error())
}

func TestNearest(t *testing.T) {
	known := []string{"parameter", "owner", "filters", "instanceTypes", "kmsKey"}
	for given, want := range map[string]string{
		"paramter": "parameter", "Owner": "owner", "onwer": "owner", "instance_types": "instanceTypes",
		"kms-key": "kmsKey", "subnets": "", "x": "",
	} {
		assert.Equal(t, want, problem.Nearest(given, known), given)
	}
}

func TestALongLineIsCutAroundTheColumn(t *testing.T) {
	long := strings.Repeat("a", 300) + "X" + strings.Repeat("b", 300)
	for sentence, tc := range map[string]struct {
		column int
		line   string
		caret  string
	}{
		"at the beginning": {1, strings.Repeat("a", 120) + "…", "^"},
		"in the middle":    {301, "…" + strings.Repeat("a", 60) + "X" + strings.Repeat("b", 59) + "…", strings.Repeat(" ", 61) + "^"},
		"at the end":       {601, "…" + strings.Repeat("b", 120), strings.Repeat(" ", 120) + "^"},
	} {
		t.Run(sentence, func(t *testing.T) {
			var b bytes.Buffer
			require.NoError(t, problem.List{{Severity: problem.Error, File: "f", Line: 1, Column: tc.column, Message: "m", Source: long}}.Print(&b))
			assert.Equal(t, fmt.Sprintf("f:1:%d: error: m\n    1 | %s\n      | %s\n1 error, 0 warnings\n", tc.column, tc.line, tc.caret), b.String())
		})
	}
}
