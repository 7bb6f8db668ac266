package blueprint

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// prefixesOfKeys are the beginnings of the keys that package contract knows: its
// texts with a slash in them that do not begin with one.
func prefixesOfKeys(t *testing.T) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", "contract", "objects.go"), nil, 0)
	require.NoError(t, err)
	var out []string
	ast.Inspect(file, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			text, err := strconv.Unquote(lit.Value)
			require.NoError(t, err)
			if strings.Contains(text, "/") && !strings.HasPrefix(text, "/") {
				out = append(out, text)
			}
		}
		return true
	})
	return out
}

func TestEveryPrefixOfTheBucketHasALifetime(t *testing.T) {
	lifetimes := Lifetimes(StorageSettings{WorkDays: 30, EvidenceYears: 7})
	prefixes := prefixesOfKeys(t)
	require.Greater(t, len(prefixes), 5)
	for _, prefix := range prefixes {
		holds := slices.DeleteFunc(slices.Clone(lifetimes), func(l Lifetime) bool { return !strings.HasPrefix(prefix, l.Prefix) })
		assert.Len(t, holds, 1, "%s: one lifetime of what is written below it", prefix)
	}
	names := map[string]bool{}
	for _, l := range lifetimes {
		assert.NotEmpty(t, l.Why, l.Prefix)
		assert.False(t, names[l.Name], "%s is there twice", l.Name)
		names[l.Name] = true
		assert.True(t, slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(p, l.Prefix) }), "nothing is written below %s", l.Prefix)
	}
}

// Each role's objects lie below a prefix with a lifetime.
func TestWhatRolesWriteHasALifetime(t *testing.T) {
	lifetimes := Lifetimes(StorageSettings{WorkDays: 30, EvidenceYears: 7})
	for _, fn := range Functions() {
		for _, s := range fn.Policy(site) {
			if !slices.Contains(s.Actions, "s3:PutObject") {
				continue
			}
			for _, arn := range s.Resources {
				key := strings.TrimPrefix(arn, site.Bucket+"/")
				assert.True(t, slices.ContainsFunc(lifetimes, func(l Lifetime) bool { return strings.HasPrefix(key, l.Prefix) }), "%s writes %s", fn.Name, key)
			}
		}
	}
}
