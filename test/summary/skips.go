package main

import (
	"github.com/ami-factory/ami-factory/pkg/problem"
	"github.com/ami-factory/ami-factory/pkg/strictyaml"
)

// skipList is the file that lists the tests that may be skipped.
type skipList struct {
	Skips []allowedSkip `yaml:"skips" jsonschema:"required"`
}

// allowedSkip is a test that may be skipped, on which ground, and why that is accepted.
type allowedSkip struct {
	Package string `yaml:"package" jsonschema:"required,minLength=1"` // relative to the module
	Test    string `yaml:"test" jsonschema:"required,minLength=1"`    // as go test names it, subtests after slashes
	Says    string `yaml:"says" jsonschema:"required,minLength=8"`    // is part of the reason that the test gives
	Why     string `yaml:"why" jsonschema:"required,minLength=8"`     // why no machine of continuous integration runs it
}

// parseSkips reads that file.
func parseSkips(file string, text []byte) ([]allowedSkip, problem.List) {
	var list skipList
	_, problems := strictyaml.Decode(file, text, &list)
	return list.Skips, problems
}
