package component_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/component"
	"github.com/ami-factory/ami-factory/pkg/recipe"
)

func TestTheRecipesValueGoesBeforeTheDeploymentsAndThatBeforeTheDefault(t *testing.T) {
	fsys := edited("recipes/sample.yaml", "      token: abc\n", "")
	r, _, err := recipe.Load(fsys, "sample", recipe.Options{Now: now})
	require.NoError(t, err)
	selected, problems, err := component.Select(fsys, r, component.Deployment{
		"base": {"variant": "base"}, "web": {"token": "of the deployment", "port": "90"}, "other": {"port": "7"},
	})
	require.NoError(t, err)
	require.Empty(t, problems)
	assert.Equal(t, map[string]string{"variant": "base", "strict": "true", "open": "22", "wait": "30"}, selected[0].Values, "the deployment's, then the default")
	assert.Equal(t, map[string]string{"token": "of the deployment", "port": "8080"}, selected[1].Values, "a value that is needed, then the recipe's own")
}

func TestARuleOfTheDeploymentGoesBeforeTheRecipesValue(t *testing.T) {
	r, _, err := recipe.Load(tree(), "sample", recipe.Options{Now: now})
	require.NoError(t, err)
	selected, problems, err := component.Select(tree(), r, component.Deployment{"web": {"port!": "90", "port": "70", "token": "of the deployment"}})
	require.NoError(t, err)
	require.Empty(t, problems)
	assert.Equal(t, map[string]string{"token": "abc", "port": "90"}, selected[1].Values)
}

func TestWhatADeploymentGetsWrongIsItsOwnProblem(t *testing.T) {
	const of = "component parameters of the deployment: error: "
	for sentence, tc := range map[string]struct {
		given component.Deployment
		want  string
	}{
		"an unknown component":               {component.Deployment{"wbe": {"port": "1"}}, of + `there is no component "wbe"; did you mean "web"? (allowed: base, other, web)`},
		"an unknown parameter":               {component.Deployment{"web": {"prot": "1"}}, of + `component web has no parameter "prot"; did you mean "port"? (allowed: port, token)`},
		"a bad value":                        {component.Deployment{"base": {"variant": "ecs"}}, of + `parameter variant of base: "ecs" is not one of the values (allowed: base, docker)`},
		"a bad value of a rule":              {component.Deployment{"base": {"variant!": "ecs"}}, of + `parameter variant of base: "ecs" is not one of the values (allowed: base, docker)`},
		"one that the recipe would override": {component.Deployment{"web": {"port": "many"}}, of + `parameter port of web: "many" is not a whole number (allowed: a whole number)`},
		"one of a component of no recipe":    {component.Deployment{"other": {"port": "many"}}, of + `parameter port of other: "many" is not a whole number (allowed: a whole number)`},
	} {
		t.Run(sentence, func(t *testing.T) {
			r, _, err := recipe.Load(tree(), "sample", recipe.Options{Now: now})
			require.NoError(t, err)
			_, problems, err := component.Select(tree(), r, tc.given)
			require.NoError(t, err)
			require.Len(t, problems, 1)
			assert.Equal(t, tc.want, problems[0].String())
		})
	}
}

func TestParseDeployment(t *testing.T) {
	given, err := component.ParseDeployment(`{"web":{"port":8080,"tls":true,"token":"x"}}`)
	require.NoError(t, err)
	assert.Equal(t, component.Deployment{"web": {"port": "8080", "tls": "true", "token": "x"}}, given)
	given, err = component.ParseDeployment(" ")
	require.NoError(t, err)
	assert.Empty(t, given)
	for sentence, tc := range map[string]struct{ text, want string }{
		"no JSON":         {`web.port=1`, "not a JSON object of components"},
		"no object":       {`["web"]`, "not a JSON object of components"},
		"one level":       {`{"web":"1"}`, "not a JSON object of components"},
		"a list":          {`{"web":{"port":[1]}}`, "web.port is neither"},
		"null":            {`{"web":{"port":null}}`, "web.port is neither"},
		"something after": {`{} {}`, "text after"},
	} {
		t.Run(sentence, func(t *testing.T) {
			_, err := component.ParseDeployment(tc.text)
			assert.ErrorContains(t, err, tc.want)
		})
	}
}
