package cloudformation

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/partition"
)

// functions are the intrinsic functions that are served
// (https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/intrinsic-function-reference.html).
var functions = []string{
	"Fn::And", "Fn::Base64", "Fn::Contains", "Fn::Equals", "Fn::FindInMap", "Fn::GetAZs", "Fn::GetAtt", "Fn::If", "Fn::ImportValue",
	"Fn::Join", "Fn::Not", "Fn::Or", "Fn::Select", "Fn::Split", "Fn::Sub",
}

// absent is the value of AWS::NoValue: a property with this value is left out.
type absent struct{}

// evaluator computes the values of a template for one stack.
type evaluator struct {
	template *template
	stack    identity
	// parameters are the values of parameters: texts, or lists of texts.
	parameters map[string]any
	// reference returns the value of a resource's Ref (attribute "") or attribute.
	reference func(logicalID, attribute string) (any, error)
	export    func(name string) (string, error)
	zones     func() ([]string, error)

	conditions map[string]bool
}

// identity holds the values of a stack's pseudo-parameters.
type identity struct {
	Account, Region, Name, ARN string
	Notifications              []string
}

// call returns the function and its argument if a value is a function call.
func call(v any) (name string, argument any, ok bool) {
	m, isMap := v.(map[string]any)
	if !isMap || len(m) != 1 {
		return "", nil, false
	}
	for name, argument := range m {
		if name == "Ref" || name == "Condition" || strings.HasPrefix(name, "Fn::") {
			return name, argument, true
		}
	}
	return "", nil, false
}

// value computes a value. Outside conditions, the key Condition is not a
// function, because policies have an element with that name.
func (e *evaluator) value(v any) (any, error) {
	name, argument, isCall := call(v)
	if isCall && name != "Condition" {
		return e.apply(name, argument)
	}
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for _, key := range sortedKeys(v) {
			member, err := e.value(v[key])
			if err != nil {
				return nil, err
			}
			if member != (absent{}) {
				out[key] = member
			}
		}
		return out, nil
	case []any:
		out := make([]any, 0, len(v))
		for _, element := range v {
			item, err := e.value(element)
			if err != nil {
				return nil, err
			}
			if item != (absent{}) {
				out = append(out, item)
			}
		}
		return out, nil
	case string:
		if strings.Contains(v, "{{resolve:") {
			return nil, invalid("Template error: dynamic references such as %.60q are not served by the embedded AWS", v)
		}
	}
	return v, nil
}

func (e *evaluator) apply(name string, argument any) (any, error) {
	switch name {
	case "Ref":
		return e.ref(argument)
	case "Fn::GetAtt":
		return e.getAtt(argument)
	case "Fn::Sub":
		return e.sub(argument)
	case "Fn::Join":
		return e.join(argument)
	case "Fn::Select":
		return e.pick(argument)
	case "Fn::Split":
		return e.split(argument)
	case "Fn::If":
		return e.choose(argument)
	case "Fn::FindInMap":
		return e.findInMap(argument)
	case "Fn::Base64":
		text, err := e.text(argument, name)
		return base64.StdEncoding.EncodeToString([]byte(text)), err
	case "Fn::ImportValue":
		text, err := e.text(argument, name)
		if err != nil {
			return nil, err
		}
		return e.export(text)
	case "Fn::GetAZs":
		return e.getAZs(argument)
	case "Fn::Equals", "Fn::And", "Fn::Or", "Fn::Not", "Fn::Contains":
		return e.condition(map[string]any{name: argument})
	}
	return nil, invalid("Template error: the function %s is not served by the embedded AWS (served: %s)", name, strings.Join(functions, ", "))
}

func (e *evaluator) ref(argument any) (any, error) {
	name, ok := argument.(string)
	if !ok {
		return nil, invalid("Template error: Ref takes a name, not %s", kindOf(argument))
	}
	if value, ok := e.pseudo(name); ok {
		return value, nil
	}
	if value, ok := e.parameters[name]; ok {
		return value, nil
	}
	return e.reference(name, "")
}

// pseudo returns the value of a pseudo-parameter.
func (e *evaluator) pseudo(name string) (any, bool) {
	switch name {
	case "AWS::AccountId":
		return e.stack.Account, true
	case "AWS::Region":
		return e.stack.Region, true
	case "AWS::Partition":
		return partition.OrDefault(e.stack.Region).ID, true
	case "AWS::URLSuffix":
		return partition.OrDefault(e.stack.Region).DNSSuffix, true
	case "AWS::StackName":
		return e.stack.Name, true
	case "AWS::StackId":
		return e.stack.ARN, true
	case "AWS::NotificationARNs":
		list := make([]any, 0, len(e.stack.Notifications))
		for _, arn := range e.stack.Notifications {
			list = append(list, arn)
		}
		return list, true
	case "AWS::NoValue":
		return absent{}, true
	}
	return nil, false
}

// attributeOf returns the logical id and the attribute in the argument of
// GetAtt.
func attributeOf(argument any) (id, attribute string, err error) {
	switch v := argument.(type) {
	case string:
		id, attribute, _ = strings.Cut(v, ".")
	case []any:
		if len(v) == 2 {
			id, _ = v[0].(string)
			attribute, _ = v[1].(string)
		}
	}
	if id == "" || attribute == "" {
		return "", "", invalid("Template error: Fn::GetAtt takes a logical id and an attribute")
	}
	return id, attribute, nil
}

func (e *evaluator) getAtt(argument any) (any, error) {
	id, attribute, err := attributeOf(argument)
	if err != nil {
		return nil, err
	}
	return e.reference(id, attribute)
}

var placeholder = regexp.MustCompile(`\$\{([^}]*)\}`)

func (e *evaluator) sub(argument any) (any, error) {
	text, variables := "", map[string]any{}
	switch v := argument.(type) {
	case string:
		text = v
	case []any:
		if len(v) == 2 {
			text, _ = v[0].(string)
			variables, _ = v[1].(map[string]any)
		}
	}
	if text == "" {
		return nil, invalid("Template error: Fn::Sub takes a text, or a text and a map of variables")
	}
	var failed error
	out := placeholder.ReplaceAllStringFunc(text, func(found string) string {
		name := strings.TrimSpace(found[2 : len(found)-1])
		if literal, ok := strings.CutPrefix(name, "!"); ok {
			return "${" + literal + "}"
		}
		value, err := e.variable(name, variables)
		if err != nil && failed == nil {
			failed = err
		}
		return value
	})
	return out, failed
}

// variable returns the text of a variable of Fn::Sub.
func (e *evaluator) variable(name string, variables map[string]any) (string, error) {
	var value any
	var err error
	if own, ok := variables[name]; ok {
		value, err = e.value(own)
	} else if id, attribute, ok := strings.Cut(name, "."); ok {
		value, err = e.reference(id, attribute)
	} else {
		value, err = e.ref(name)
	}
	if err != nil {
		return "", err
	}
	return textOf(value, "Fn::Sub of "+name)
}

// textOf returns a scalar as text.
func textOf(v any, where string) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case json.Number:
		return v.String(), nil
	case bool:
		return strconv.FormatBool(v), nil
	}
	return "", invalid("Template error: %s: a text is expected, not %s", where, kindOf(v))
}

func kindOf(v any) string {
	switch v.(type) {
	case nil:
		return "nothing"
	case map[string]any:
		return "an object"
	case []any:
		return "a list"
	case absent:
		return "AWS::NoValue"
	}
	return fmt.Sprintf("%v", v)
}

func (e *evaluator) text(v any, where string) (string, error) {
	value, err := e.value(v)
	if err != nil {
		return "", err
	}
	return textOf(value, where)
}

// list computes a list. A comma-separated parameter is a list too.
func (e *evaluator) list(v any, where string) ([]any, error) {
	value, err := e.value(v)
	if err != nil {
		return nil, err
	}
	list, ok := value.([]any)
	if !ok {
		return nil, invalid("Template error: %s: a list is expected, not %s", where, kindOf(value))
	}
	return list, nil
}

// pair returns the two arguments of a function.
func pair(argument any, where string) (first, second any, err error) {
	list, ok := argument.([]any)
	if !ok || len(list) != 2 {
		return nil, nil, invalid("Template error: %s takes two arguments", where)
	}
	return list[0], list[1], nil
}

func (e *evaluator) join(argument any) (any, error) {
	delimiter, elements, err := pair(argument, "Fn::Join")
	if err != nil {
		return nil, err
	}
	separator, err := e.text(delimiter, "Fn::Join")
	if err != nil {
		return nil, err
	}
	list, err := e.list(elements, "Fn::Join")
	if err != nil {
		return nil, err
	}
	parts := make([]string, 0, len(list))
	for _, element := range list {
		part, err := textOf(element, "Fn::Join")
		if err != nil {
			return nil, err
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, separator), nil
}

func (e *evaluator) pick(argument any) (any, error) {
	index, elements, err := pair(argument, "Fn::Select")
	if err != nil {
		return nil, err
	}
	text, err := e.text(index, "Fn::Select")
	if err != nil {
		return nil, err
	}
	list, err := e.list(elements, "Fn::Select")
	if err != nil {
		return nil, err
	}
	if i, err := strconv.Atoi(text); err == nil && i >= 0 && i < len(list) {
		return list[i], nil
	}
	return nil, invalid("Template error: Fn::Select cannot select nonexistent value at index %s", text)
}

func (e *evaluator) split(argument any) (any, error) {
	delimiter, source, err := pair(argument, "Fn::Split")
	if err != nil {
		return nil, err
	}
	separator, err := e.text(delimiter, "Fn::Split")
	if err != nil {
		return nil, err
	}
	text, err := e.text(source, "Fn::Split")
	if err != nil {
		return nil, err
	}
	if text == knownAfterApply { // anything selected from it is unknown too
		return slices.Repeat([]any{knownAfterApply}, 16), nil
	}
	var out []any
	for part := range strings.SplitSeq(text, separator) {
		out = append(out, part)
	}
	return out, nil
}

func (e *evaluator) choose(argument any) (any, error) {
	list, ok := argument.([]any)
	if !ok || len(list) != 3 {
		return nil, invalid("Template error: Fn::If requires a list argument with three elements")
	}
	holds, err := e.condition(map[string]any{"Condition": list[0]})
	if err != nil {
		return nil, err
	}
	if holds {
		return e.value(list[1])
	}
	return e.value(list[2])
}

func (e *evaluator) findInMap(argument any) (any, error) {
	list, ok := argument.([]any)
	if !ok || len(list) != 3 {
		return nil, invalid("Template error: Fn::FindInMap takes a map and two keys")
	}
	var keys [3]string
	for i := range keys {
		var err error
		if keys[i], err = e.text(list[i], "Fn::FindInMap"); err != nil {
			return nil, err
		}
	}
	value, ok := e.template.Mappings[keys[0]][keys[1]][keys[2]]
	if !ok {
		return nil, invalid("Template error: Unable to get mapping for %s::%s::%s", keys[0], keys[1], keys[2])
	}
	return value, nil
}

func (e *evaluator) getAZs(argument any) (any, error) {
	region, err := e.text(argument, "Fn::GetAZs")
	if err != nil {
		return nil, err
	}
	if region != "" && region != e.stack.Region {
		return nil, invalid("Template error: Fn::GetAZs of %s: the embedded AWS knows the zones of the stack's own region, %s", region, e.stack.Region)
	}
	names, err := e.zones()
	if err != nil {
		return nil, err
	}
	out := make([]any, 0, len(names))
	for _, name := range names {
		out = append(out, name)
	}
	return out, nil
}

// condition computes a condition or a rule's assertion.
func (e *evaluator) condition(v any) (bool, error) {
	name, argument, ok := call(v)
	if !ok {
		if b, isBool := v.(bool); isBool {
			return b, nil
		}
		return false, invalid("Template error: %s is not a condition", kindOf(v))
	}
	switch name {
	case "Condition":
		return e.named(argument)
	case "Fn::Equals":
		return e.equals(argument)
	case "Fn::Not":
		if list, ok := argument.([]any); ok && len(list) == 1 {
			holds, err := e.condition(list[0])
			return !holds, err
		}
		return false, invalid("Template error: Fn::Not takes one condition")
	case "Fn::And", "Fn::Or":
		return e.several(name == "Fn::And", argument)
	case "Fn::Contains":
		return e.contains(argument)
	}
	return false, invalid("Template error: %s is not a condition", name)
}

func (e *evaluator) named(argument any) (bool, error) {
	name, ok := argument.(string)
	if !ok {
		return false, invalid("Template error: the name of a condition must be a text")
	}
	if holds, known := e.conditions[name]; known {
		return holds, nil
	}
	definition, ok := e.template.Conditions[name]
	if !ok {
		return false, invalid("Template error: unresolved condition dependency: %s", name)
	}
	if e.conditions == nil {
		e.conditions = map[string]bool{}
	}
	e.conditions[name] = false // ends the recursion of a condition that refers to itself
	holds, err := e.condition(definition)
	e.conditions[name] = holds
	return holds, err
}

func (e *evaluator) equals(argument any) (bool, error) {
	first, second, err := pair(argument, "Fn::Equals")
	if err != nil {
		return false, err
	}
	a, err := e.value(first)
	if err != nil {
		return false, err
	}
	b, err := e.value(second)
	if err != nil {
		return false, err
	}
	return same(a, b), nil
}

// same compares values like CloudFormation: true and "true" are equal.
func same(a, b any) bool {
	x, errX := textOf(a, "")
	y, errY := textOf(b, "")
	if errX == nil && errY == nil {
		return x == y
	}
	return errX != nil && errY != nil && reflect.DeepEqual(a, b)
}

func (e *evaluator) several(all bool, argument any) (bool, error) {
	list, ok := argument.([]any)
	if !ok || len(list) < 2 || len(list) > 10 {
		return false, invalid("Template error: Fn::And and Fn::Or take 2 to 10 conditions")
	}
	for _, element := range list {
		holds, err := e.condition(element)
		if err != nil {
			return false, err
		}
		if holds != all {
			return holds, nil
		}
	}
	return all, nil
}

func (e *evaluator) contains(argument any) (bool, error) {
	elements, sought, err := pair(argument, "Fn::Contains")
	if err != nil {
		return false, err
	}
	list, err := e.list(elements, "Fn::Contains")
	if err != nil {
		return false, err
	}
	value, err := e.value(sought)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(list, func(element any) bool { return same(element, value) }), nil
}

// checkRules evaluates the rules' assertions
// (https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/rules-section-structure.html).
func (e *evaluator) checkRules() error {
	for _, name := range sortedKeys(e.template.Rules) {
		r := e.template.Rules[name]
		if r.RuleCondition != nil {
			applies, err := e.condition(r.RuleCondition)
			if err != nil {
				return err
			}
			if !applies {
				continue
			}
		}
		for _, a := range r.Assertions {
			holds, err := e.condition(a.Assert)
			if err != nil {
				return err
			}
			if !holds {
				return invalid("Template error: rule %s is violated: %s", name, a.AssertDescription)
			}
		}
	}
	return nil
}
