package ssm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"go.yaml.in/yaml/v4"
)

// content is a Command document of schema version 2.2
// (https://docs.aws.amazon.com/systems-manager/latest/userguide/documents-schemas-features.html),
// as far as it is served here: one step, which runs a shell script.
type content struct {
	SchemaVersion string               `json:"schemaVersion"`
	Description   string               `json:"description"`
	Parameters    map[string]inputType `json:"parameters"`
	MainSteps     []step               `json:"mainSteps"`
}

type inputType struct {
	Type           string          `json:"type"` // String or StringList
	Description    string          `json:"description"`
	Default        json.RawMessage `json:"default"`
	AllowedValues  []string        `json:"allowedValues"`
	AllowedPattern string          `json:"allowedPattern"`
	DisplayType    string          `json:"displayType"`
	MinItems       *int            `json:"minItems"`
	MaxItems       *int            `json:"maxItems"`
	MinChars       *int            `json:"minChars"`
	MaxChars       *int            `json:"maxChars"`
}

type step struct {
	Action       string          `json:"action"`
	Name         string          `json:"name"`
	Precondition json.RawMessage `json:"precondition"` // always met: guests run Linux
	Inputs       struct {
		RunCommand       lines  `json:"runCommand"`
		WorkingDirectory string `json:"workingDirectory"`
		TimeoutSeconds   scalar `json:"timeoutSeconds"`
	} `json:"inputs"`
}

// lines is a list of texts, or one text.
type lines []string

// UnmarshalJSON implements json.Unmarshaler.
func (l *lines) UnmarshalJSON(raw []byte) error {
	var one string
	if string(raw) != "null" && json.Unmarshal(raw, &one) == nil {
		*l = lines{one}
		return nil
	}
	return json.Unmarshal(raw, (*[]string)(l))
}

// scalar is a text or a number.
type scalar string

// UnmarshalJSON implements json.Unmarshaler.
func (s *scalar) UnmarshalJSON(raw []byte) error {
	var number json.Number
	if json.Unmarshal(raw, &number) == nil {
		*s = scalar(number)
		return nil
	}
	return json.Unmarshal(raw, (*string)(s))
}

var (
	stepName  = regexp.MustCompile(`^[a-zA-Z0-9_]{1,128}$`)
	inputName = regexp.MustCompile(`^[a-zA-Z0-9]{1,64}$`)
	reference = regexp.MustCompile(`\{\{\s*([a-zA-Z0-9:_]+)\s*\}\}`)
)

func badContent(format string, args ...any) error {
	return &types.InvalidDocumentContent{Message: aws.String(fmt.Sprintf(format, args...))}
}

// parseContent reads a document, and refuses what is not served here.
func parseContent(text string, format types.DocumentFormat) (content, error) {
	var doc content
	raw := []byte(text)
	if format == types.DocumentFormatYaml {
		var any map[string]any
		if err := yaml.Unmarshal(raw, &any); err != nil {
			return doc, badContent("The document is not YAML: %v", err)
		}
		var err error
		if raw, err = json.Marshal(any); err != nil {
			return doc, badContent("The document is not YAML: %v", err)
		}
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&doc); err != nil {
		return doc, badContent("The document has the wrong form: %v", err)
	}
	if decoder.More() {
		return doc, badContent("The document is followed by more data.")
	}
	if doc.SchemaVersion != "2.2" {
		return doc, badContent("The schemaVersion %q is not served: use 2.2.", doc.SchemaVersion)
	}
	if len(doc.MainSteps) != 1 {
		return doc, badContent("The document has %d mainSteps; the embedded SSM runs documents of one step.", len(doc.MainSteps))
	}
	s := doc.MainSteps[0]
	switch {
	case s.Action != pluginName:
		return doc, badContent("The action %q of step %q is not served: use %s.", s.Action, s.Name, pluginName)
	case !stepName.MatchString(s.Name):
		return doc, badContent("The step's name %q does not have 1 to 128 letters, digits and _.", s.Name)
	case len(s.Inputs.RunCommand) == 0:
		return doc, badContent("The step %q has no runCommand.", s.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(doc.Parameters)) {
		if err := doc.Parameters[name].check(name); err != nil {
			return doc, err
		}
	}
	for _, text := range append([]string{s.Inputs.WorkingDirectory, string(s.Inputs.TimeoutSeconds)}, s.Inputs.RunCommand...) {
		for _, m := range reference.FindAllStringSubmatch(text, -1) {
			if _, declared := doc.Parameters[m[1]]; !declared {
				return doc, badContent("The step %q refers to the parameter %q, which the document does not declare.", s.Name, m[1])
			}
		}
	}
	return doc, nil
}

func (p inputType) check(name string) error {
	if !inputName.MatchString(name) {
		return badContent("The parameter's name %q does not have 1 to 64 letters and digits.", name)
	}
	if p.Type != "String" && p.Type != "StringList" {
		return badContent("The type %q of the parameter %s is not served: use String or StringList.", p.Type, name)
	}
	if _, err := regexp.Compile(p.AllowedPattern); err != nil {
		return badContent("The allowedPattern of the parameter %s is not a regular expression: %v", name, err)
	}
	if p.Default == nil {
		return nil
	}
	values, err := p.defaults()
	if err != nil {
		return badContent("The default of the parameter %s is not a %s.", name, p.Type)
	}
	if err := p.accept(name, values); err != nil {
		return badContent("%v", err)
	}
	return nil
}

// defaults returns the default values; none if the parameter must be given.
func (p inputType) defaults() ([]string, error) {
	if p.Default == nil {
		return nil, nil
	}
	if p.Type == "StringList" {
		var list []string
		err := json.Unmarshal(p.Default, &list)
		return list, err
	}
	var one string
	err := json.Unmarshal(p.Default, &one)
	return []string{one}, err
}

// accept checks the values that a command gives a parameter.
func (p inputType) accept(name string, values []string) error {
	outside := func(n int, least, most *int) bool { return least != nil && n < *least || most != nil && n > *most }
	if p.Type == "String" && len(values) != 1 {
		return fmt.Errorf("parameter %q is a String and has %d values", name, len(values))
	}
	if p.Type == "StringList" && outside(len(values), p.MinItems, p.MaxItems) {
		return fmt.Errorf("parameter %q has %d items, which its minItems or maxItems does not allow", name, len(values))
	}
	for _, v := range values {
		switch {
		case len(p.AllowedValues) > 0 && !slices.Contains(p.AllowedValues, v):
			return fmt.Errorf("parameter %q is %q; allowed: %s", name, v, strings.Join(p.AllowedValues, ", "))
		case p.AllowedPattern != "" && !regexp.MustCompile(p.AllowedPattern).MatchString(v):
			return fmt.Errorf("parameter %q is %q, which does not match its allowedPattern %s", name, v, p.AllowedPattern)
		case outside(len([]rune(v)), p.MinChars, p.MaxChars):
			return fmt.Errorf("parameter %q has %d characters, which its minChars or maxChars does not allow", name, len([]rune(v)))
		}
	}
	return nil
}

// script is a document's step with the parameters of a command.
type script struct {
	step    string
	text    string
	dir     string
	timeout time.Duration
}

// fill puts the parameters of a command into the step of a document.
func (doc content) fill(given map[string][]string) (script, error) {
	values := map[string][]string{}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		p, declared := doc.Parameters[name]
		if !declared {
			return script{}, &types.InvalidParameters{Message: aws.String(fmt.Sprintf("Parameter %q is not one of the document's: %s.", name, strings.Join(slices.Sorted(maps.Keys(doc.Parameters)), ", ")))}
		}
		if err := p.accept(name, given[name]); err != nil {
			return script{}, &types.InvalidParameters{Message: aws.String(err.Error())}
		}
		values[name] = given[name]
	}
	for _, name := range slices.Sorted(maps.Keys(doc.Parameters)) {
		if _, isGiven := values[name]; isGiven {
			continue
		}
		p := doc.Parameters[name]
		if p.Default == nil {
			return script{}, &types.InvalidParameters{Message: aws.String(fmt.Sprintf("Parameter %q is required.", name))}
		}
		defaults, err := p.defaults()
		if err != nil {
			return script{}, &types.InvalidParameters{Message: aws.String(err.Error())}
		}
		values[name] = defaults
	}
	put := func(text string) string {
		return reference.ReplaceAllStringFunc(text, func(m string) string {
			return strings.Join(values[reference.FindStringSubmatch(m)[1]], " ")
		})
	}
	s := doc.MainSteps[0]
	var run []string
	for _, line := range s.Inputs.RunCommand {
		if m := reference.FindStringSubmatch(line); m != nil && m[0] == strings.TrimSpace(line) { // a list becomes lines
			run = append(run, values[m[1]]...)
			continue
		}
		run = append(run, put(line))
	}
	out := script{step: s.Name, text: strings.Join(run, "\n") + "\n", dir: put(s.Inputs.WorkingDirectory), timeout: defaultExecution * time.Second}
	if text := put(string(s.Inputs.TimeoutSeconds)); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > longestExecution {
			return script{}, &types.InvalidParameters{Message: aws.String(fmt.Sprintf("timeoutSeconds of the step %q is %q; 1 to %d seconds are allowed.", s.Name, text, longestExecution))}
		}
		out.timeout = time.Duration(n) * time.Second
	}
	return out, nil
}
