package snapshot_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/ami-factory/ami-factory/pkg/snapshot"
)

func TestARuleThatCannotBeJudgedByIsRefused(t *testing.T) {
	for sentence, tc := range map[string]struct {
		rule snapshot.Rule
		at   string
		want string
	}{
		"nothing is wrong":                 {snapshot.Rule{Present: []string{"/a/*b?/[x-z]/**"}, Absent: []string{"~/.ssh/**"}}, "", ""},
		"it states nothing":                {snapshot.Rule{}, "", "without a statement"},
		"a path is relative":               {snapshot.Rule{Present: []string{"/a", "etc/passwd"}}, "present.1", "does not begin"},
		"a path goes up":                   {snapshot.Rule{Absent: []string{"/a/../b"}}, "absent.0", "an empty part, or . or .."},
		"a path has an empty part":         {snapshot.Rule{Empty: []string{"/a//b"}}, "empty.0", "an empty part"},
		"a home alone":                     {snapshot.Rule{Empty: []string{"~/"}}, "empty.0", "an empty part"},
		"everything is in the middle":      {snapshot.Rule{Absent: []string{"/a/**/b"}}, "absent.0", "before its end"},
		"everything is beside a name":      {snapshot.Rule{Absent: []string{"/a/**.pem"}}, "absent.0", "and other characters"},
		"a pattern is open":                {snapshot.Rule{Absent: []string{"/a/[b"}}, "absent.0", "syntax error"},
		"an expression is open":            {snapshot.Rule{Lines: &snapshot.Lines{In: []string{"/a"}, Match: "(a"}}, "lines.match", "missing closing )"},
		"an exception is of another kind":  {snapshot.Rule{Lines: &snapshot.Lines{In: []string{"/a"}, Match: "a", Except: `\1`}}, "lines.except", "invalid escape"},
		"a file of an expression is wrong": {snapshot.Rule{Lines: &snapshot.Lines{In: []string{"a"}, Match: "a"}}, "lines.in.0", "does not begin"},
	} {
		t.Run(sentence, func(t *testing.T) {
			problems := tc.rule.Check()
			if tc.want == "" {
				assert.Empty(t, problems)
				return
			}
			if assert.Len(t, problems, 1) {
				assert.Equal(t, tc.at, strings.Join(problems[0].Path, "."))
				assert.Contains(t, problems[0].Message, tc.want)
				assert.NotEmpty(t, problems[0].Allowed)
			}
		})
	}
}

func TestARuleIsSentences(t *testing.T) {
	assert.Equal(t, []string{
		"/etc/ami-factory/sealed.json present", "/lib/systemd/system/*.service present",
		"/etc/ssh/ssh_host_* absent", "~/.ssh/authorized_keys* absent", "~/.aws/** absent", "/var/lib/cloud/** absent",
		"/etc/machine-id empty", "/var/lib/dbus/machine-id empty", "/var/log/** empty",
		"lines of /etc/** without /secret|PRIVATE KEY/", "lines of ~/** without /secret|PRIVATE KEY/",
	}, func() (all []string) {
		for _, r := range rules() {
			all = append(all, r.Statements()...)
		}
		return all
	}())
}
