package asl

import (
	"fmt"
	"strings"
)

// Problem is one reason why a definition is refused.
type Problem struct {
	Code    string // as in ValidateStateMachineDefinition
	Path    string // JSON path, such as /States/Build/Next
	Message string
}

// Codes of problems.
const (
	CodeInvalidJSON       = "INVALID_JSON_DESCRIPTION"
	CodeSchema            = "SCHEMA_VALIDATION_FAILED"
	CodeMissingTarget     = "MISSING_TRANSITION_TARGET"
	CodeInvalidExpression = "INVALID_JSONATA_EXPRESSION"
	CodeNotSupported      = "NOT_SUPPORTED"
)

// String returns the problem in AWS's form.
func (p Problem) String() string {
	if p.Path == "" {
		return fmt.Sprintf("%s: %s", p.Code, p.Message)
	}
	return fmt.Sprintf("%s: %s at %s", p.Code, p.Message, p.Path)
}

// Problems lists all problems of a definition, in reading order.
type Problems []Problem

// Error implements error.
func (ps Problems) Error() string {
	all := make([]string, len(ps))
	for i, p := range ps {
		all[i] = p.String()
	}
	return "Invalid State Machine Definition: '" + strings.Join(all, ", ") + "'"
}

func (ps *Problems) add(code, path, format string, args ...any) {
	*ps = append(*ps, Problem{Code: code, Path: path, Message: fmt.Sprintf(format, args...)})
}
