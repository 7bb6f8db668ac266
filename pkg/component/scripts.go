package component

import (
	"bytes"
	"errors"
	"io/fs"
	"path"
	"regexp"
	"strings"

	"mvdan.cc/sh/v3/syntax"

	"github.com/ami-factory/ami-factory/pkg/problem"
)

const installScript = "install.sh"

var bashLine = regexp.MustCompile(`^#! ?(/usr)?/bin/(env +(-S +)?)?bash( .*)?$`)

// scripts checks the shell scripts of a component's directory, because a script
// that bash cannot parse would otherwise only fail on the builder. The files
// need not be executable: the bundle sets the mode of every script.
func scripts(fsys fs.FS, dir string) (problem.List, error) {
	files, err := fs.Glob(fsys, path.Join(dir, "*.sh"))
	if err != nil {
		return nil, err
	}
	var out problem.List
	install := path.Join(dir, installScript)
	if _, err := fs.Stat(fsys, install); err != nil {
		out = append(out, problem.Problem{Severity: problem.Error, File: install, Message: "the component has no install.sh"})
	}
	for _, file := range files {
		data, err := fs.ReadFile(fsys, file)
		if err != nil {
			return nil, err
		}
		if p := script(file, data); p != nil {
			out = append(out, *p)
		}
	}
	return out, nil
}

// script returns the first problem that keeps bash from running a script, or nil.
func script(file string, data []byte) *problem.Problem {
	lines := strings.Split(string(data), "\n")
	problem := func(line, column int, allowed, message string) *problem.Problem {
		p := &problem.Problem{Severity: problem.Error, File: file, Line: line, Column: column, Message: message, Allowed: allowed}
		if line >= 1 && line <= len(lines) {
			p.Source = strings.TrimSuffix(lines[line-1], "\r")
		}
		return p
	}
	if i := bytes.IndexByte(data, '\r'); i >= 0 {
		line := bytes.Count(data[:i], []byte("\n")) + 1
		return problem(line, i-bytes.LastIndexByte(data[:i], '\n'), "lines that end with LF alone", "the line ends with CRLF or has a carriage return: bash reads it as part of a word")
	}
	if bytes.HasPrefix(data, []byte("\ufeff")) {
		return problem(1, 1, "a file that begins with #!/bin/bash", "the file begins with a byte order mark, which bash reads as part of a word")
	}
	// The runner starts bash by name, so the script does not need this line.
	if strings.HasPrefix(lines[0], "#!") && !bashLine.MatchString(lines[0]) {
		return problem(1, 1, "#!/bin/bash", "the first line names another interpreter, but bash runs the script")
	}
	_, err := syntax.NewParser(syntax.Variant(syntax.LangBash)).Parse(bytes.NewReader(data), file)
	var wrong syntax.ParseError
	if errors.As(err, &wrong) {
		return problem(int(wrong.Pos.Line()), int(wrong.Pos.Col()), "", "not valid bash: "+wrong.Text)
	}
	var lang syntax.LangError
	if errors.As(err, &lang) {
		return problem(int(lang.Pos.Line()), int(lang.Pos.Col()), "", "not valid bash: "+lang.Feature)
	}
	if err != nil {
		return problem(1, 1, "", "not valid bash: "+err.Error())
	}
	return nil
}
