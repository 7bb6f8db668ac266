package component_test

import (
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/component"
)

func TestAComponentIsDecodedAgainOnlyAfterAChangeThatItDependsOn(t *testing.T) {
	change := func(file, text string) func(fstest.MapFS) {
		return func(fsys fstest.MapFS) { fsys[file] = &fstest.MapFile{Data: []byte(text)} }
	}
	for sentence, c := range map[string]struct {
		change func(fstest.MapFS)
		again  bool
	}{
		"nothing changed":                      {func(fstest.MapFS) {}, false},
		"a file of the image changed":          {change("components/base/files/etc/base.conf", "y\n"), false},
		"the checks of another one changed":    {change("components/web/checks.yaml", baseChecks), false},
		"its description changed":              {change("components/base/component.yaml", baseYAML+"ports: [22]\n"), true},
		"its checks changed":                   {change("components/base/checks.yaml", webChecks), true},
		"its checks are gone":                  {func(fsys fstest.MapFS) { delete(fsys, "components/base/checks.yaml") }, true},
		"a script of it changed":               {change("components/base/install.sh", "false\n"), true},
		"it has a script more":                 {change("components/base/bootstrap.sh", "true\n"), true},
		"it has a page more":                   {change("components/base/more.md", "a page\n"), true},
		"there is a component more":            {change("components/new/component.yaml", webYAML), true},
		"the order of another one changed":     {change("components/web/component.yaml", webYAML+"# order\n"), true},
		"one that it may have named went away": {func(fsys fstest.MapFS) { delete(fsys, "components/other/component.yaml") }, true},
	} {
		t.Run(sentence, func(t *testing.T) {
			fsys := tree()
			remembering := component.Remember(fsys)
			before, _, err := component.Load(remembering, "base")
			require.NoError(t, err)
			c.change(fsys)
			after, problems, err := component.Load(component.Remember(remembering), "base")
			require.NoError(t, err)
			assert.Equal(t, c.again, before != after, "decoded again")
			want, wanted, err := component.Load(fsys, "base")
			require.NoError(t, err)
			assert.Equal(t, want, after)
			assert.Equal(t, wanted, problems)
		})
	}
}

func TestAComponentThatIsGoneIsNotRemembered(t *testing.T) {
	fsys := tree()
	remembering := component.Remember(fsys)
	_, _, err := component.Load(remembering, "web")
	require.NoError(t, err)
	delete(fsys, "components/web/component.yaml")
	_, _, err = component.Load(remembering, "web")
	require.ErrorIs(t, err, component.ErrUnknown)
}
