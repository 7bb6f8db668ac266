package factory

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/test/golden"
)

func TestWhatAStackIsMadeOf(t *testing.T) {
	for name, context := range map[string]map[string]any{"resources-default.txt": nil, "resources-everything.txt": variants()["everything"]} {
		t.Run(name, func(t *testing.T) {
			count := map[string]int{}
			for _, r := range template(t, context)["Resources"].(map[string]any) {
				count[r.(resource)["Type"].(string)]++
			}
			var b strings.Builder
			for _, kind := range slices.Sorted(maps.Keys(count)) {
				fmt.Fprintf(&b, "%3d %s\n", count[kind], kind)
			}
			golden.Testdata(t, name, b.String())
		})
	}
}

// hash is what the CDK adds to ids.
var hash = regexp.MustCompile(`[0-9A-F]{8}$`)

func TestWhatEachRoleMayDo(t *testing.T) {
	for name, context := range map[string]map[string]any{"roles-default.txt": nil, "roles-everything.txt": variants()["everything"]} {
		t.Run(name, func(t *testing.T) {
			tpl := template(t, context)
			var roles []string
			for id := range ofType(tpl, "AWS::IAM::Role") {
				roles = append(roles, hash.ReplaceAllString(id, "")+"\n"+strings.Join(statementsIn(t, tpl, id), ""))
			}
			slices.Sort(roles)
			golden.Testdata(t, name, strings.Join(roles, ""))
		})
	}
}

// statementsIn are a role's, a line each: effect, actions, and the keys of
// conditions.
func statementsIn(t *testing.T, tpl map[string]any, roleID string) []string {
	t.Helper()
	var out []string
	for _, p := range ofType(tpl, "AWS::IAM::Policy") {
		if !slices.ContainsFunc(properties(p)["Roles"].([]any), func(r any) bool { return r.(map[string]any)["Ref"] == roleID }) {
			continue
		}
		for _, s := range properties(p)["PolicyDocument"].(map[string]any)["Statement"].([]any) {
			s := s.(map[string]any)
			line := "  " + strings.ToLower(s["Effect"].(string)) + " " + strings.Join(texts(s["Action"]), " ")
			for _, operator := range slices.Sorted(maps.Keys(keysOf(s["Condition"]))) {
				line += " [" + operator + " " + strings.Join(slices.Sorted(maps.Keys(keysOf(keysOf(s["Condition"])[operator]))), " ") + "]"
			}
			out = append(out, line+"\n")
		}
	}
	slices.Sort(out)
	return out
}

func keysOf(v any) map[string]any { m, _ := v.(map[string]any); return m }

func texts(v any) []string {
	if one, ok := v.(string); ok {
		return []string{one}
	}
	var out []string
	for _, x := range v.([]any) {
		out = append(out, x.(string))
	}
	return out
}

// Whoever reviews the template has to know everything that runs: no function but
// the stages' is deployed, no resource is made by a program.
func TestNoResourceIsMadeByAProgram(t *testing.T) {
	for sentence, context := range variants() {
		t.Run(sentence, func(t *testing.T) {
			tpl := template(t, context)
			for id, r := range tpl["Resources"].(map[string]any) {
				kind := r.(resource)["Type"].(string)
				assert.False(t, strings.HasPrefix(kind, "Custom::") || strings.HasPrefix(kind, "AWS::CloudFormation::"), "%s is a %s", id, kind)
			}
			for id, f := range ofType(tpl, "AWS::Lambda::Function") {
				assert.Equal(t, "provided.al2023", properties(f)["Runtime"], id)
			}
			raw, err := json.Marshal(tpl)
			require.NoError(t, err)
			assert.NotContains(t, string(raw), "{{resolve:", "nothing is looked up by the deployment")
		})
	}
}
