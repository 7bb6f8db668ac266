package asl

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestDefinitionsThatAreRefused(t *testing.T) {
	tests := map[string]struct {
		definition string
		want       []string
	}{
		"not JSON": {
			definition: `{`,
			want:       []string{"INVALID_JSON_DESCRIPTION: the definition is not JSON: unexpected EOF"},
		},
		"JSONPath by default": {
			definition: `{"StartAt":"A","States":{"A":{"Type":"Pass","End":true}}}`,
			want:       []string{`NOT_SUPPORTED: only the JSONata query language is available here, but a definition without "QueryLanguage" uses JSONPath: set "QueryLanguage": "JSONata" at /QueryLanguage`},
		},
		"a state in JSONPath": {
			definition: `{"QueryLanguage":"JSONata","StartAt":"A","States":{"A":{"Type":"Pass","QueryLanguage":"JSONPath","ResultPath":"$","End":true}}}`,
			want: []string{
				`NOT_SUPPORTED: only JSONata is available here at /States/A/QueryLanguage`,
				`SCHEMA_VALIDATION_FAILED: the field "ResultPath" belongs to the JSONPath query language; with JSONata use Output or Assign at /States/A/ResultPath`,
			},
		},
		"an unknown field": {
			definition: `{"QueryLanguage":"JSONata","StartAt":"A","Surprise":1,"States":{"A":{"Type":"Pass","End":true,"Outptu":{}}}}`,
			want: []string{
				`SCHEMA_VALIDATION_FAILED: the field "Outptu" is not supported here at /States/A/Outptu`,
				`SCHEMA_VALIDATION_FAILED: the field "Surprise" is not supported here at /Surprise`,
			},
		},
		"targets that do not exist": {
			definition: `{"QueryLanguage":"JSONata","StartAt":"A","States":{"A":{"Type":"Choice","Default":"X","Choices":[{"Condition":true,"Next":"Y"}]}}}`,
			want: []string{
				`MISSING_TRANSITION_TARGET: there is no state "Y" here at /States/A/Choices[0]/Next`,
				`MISSING_TRANSITION_TARGET: there is no state "X" here at /States/A/Default`,
			},
		},
		"nowhere to start": {
			definition: `{"QueryLanguage":"JSONata","StartAt":"Z","States":{"A":{"Type":"Pass","End":true}}}`,
			want:       []string{`MISSING_TRANSITION_TARGET: there is no state "Z" to start at at /StartAt`},
		},
		"a state that nothing leads to": {
			definition: `{"QueryLanguage":"JSONata","StartAt":"A","States":{"A":{"Type":"Succeed"},"B":{"Type":"Succeed"}}}`,
			want:       []string{`MISSING_TRANSITION_TARGET: no transition leads to the state "B" at /States/B`},
		},
		"no end": {
			definition: `{"QueryLanguage":"JSONata","StartAt":"A","States":{"A":{"Type":"Pass"}}}`,
			want:       []string{`SCHEMA_VALIDATION_FAILED: a state needs "Next" or "End": true at /States/A`},
		},
		"two ends": {
			definition: `{"QueryLanguage":"JSONata","StartAt":"A","States":{"A":{"Type":"Pass","End":true,"Next":"A"}}}`,
			want:       []string{`SCHEMA_VALIDATION_FAILED: a state has either "Next" or "End": true, not both at /States/A`},
		},
		"an unknown type": {
			definition: `{"QueryLanguage":"JSONata","StartAt":"A","States":{"A":{"Type":"Dance","End":true}}}`,
			want:       []string{`SCHEMA_VALIDATION_FAILED: "Dance" is not a type of state (allowed: Task, Pass, Choice, Wait, Parallel, Map, Succeed, Fail) at /States/A/Type`},
		},
		"an expression that is not JSONata": {
			definition: `{"QueryLanguage":"JSONata","StartAt":"A","States":{"A":{"Type":"Pass","Output":{"x":[1,"{% $a ?? 1 %}"]},"End":true}}}`,
			want:       []string{`INVALID_JSONATA_EXPRESSION: the JSONata expression " $a ?? 1 " is not valid: the operator "??" at character 3 is not part of JSONata 2.0.6, the version of Step Functions: use $exists(x) ? x : y at /States/A/Output/x[1]`},
		},
		"a resource that nobody serves": {
			definition: `{"QueryLanguage":"JSONata","StartAt":"A","States":{"A":{"Type":"Task","Resource":"arn:aws:states:::dynamodb:putItem","End":true}}}`,
			want:       []string{`NOT_SUPPORTED: the resource "arn:aws:states:::dynamodb:putItem" is not available here (available: the ARN of a Lambda function, and arn:aws:states:::lambda:invoke, arn:aws:states:::sns:publish, arn:aws:states:::sqs:sendMessage and arn:aws:states:::events:putEvents, each also with .waitForTaskToken) at /States/A/Resource`},
		},
		"an invocation without a function": {
			definition: `{"QueryLanguage":"JSONata","StartAt":"A","States":{"A":{"Type":"Task","Resource":"arn:aws:states:::lambda:invoke","Arguments":{"Paylod":1},"End":true}}}`,
			want: []string{
				`SCHEMA_VALIDATION_FAILED: the required field "FunctionName" is missing at /States/A/Arguments`,
				`SCHEMA_VALIDATION_FAILED: the field "Paylod" is not supported by lambda:invoke at /States/A/Arguments/Paylod`,
			},
		},
		"policies that cannot work": {
			definition: `{"QueryLanguage":"JSONata","StartAt":"A","States":{"A":{"Type":"Parallel","End":true,
				"Branches":[{"StartAt":"B","States":{"B":{"Type":"Succeed"}}}],
				"Retry":[{"ErrorEquals":["States.ALL"],"BackoffRate":0.5},{"ErrorEquals":[],"JitterStrategy":"SOME","IntervalSeconds":1.5}],
				"Catch":[{"ErrorEquals":["States.ALL"]}]}}}`,
			want: []string{
				`SCHEMA_VALIDATION_FAILED: States.ALL must stand alone, in the last element at /States/A/Retry[0]/ErrorEquals`,
				`SCHEMA_VALIDATION_FAILED: 0.5 is not between 1 and 1.7976931348623157e+308 at /States/A/Retry[0]/BackoffRate`,
				`SCHEMA_VALIDATION_FAILED: "ErrorEquals" must list at least one error name at /States/A/Retry[1]`,
				`SCHEMA_VALIDATION_FAILED: 1.5 is not a whole number at /States/A/Retry[1]/IntervalSeconds`,
				`SCHEMA_VALIDATION_FAILED: "SOME" is not FULL or NONE at /States/A/Retry[1]/JitterStrategy`,
				`SCHEMA_VALIDATION_FAILED: the required field "Next" is missing at /States/A/Catch[0]`,
			},
		},
		"a variable of an outer scope, and bad names": {
			definition: `{"QueryLanguage":"JSONata","StartAt":"A","States":{"A":{"Type":"Parallel","End":true,"Assign":{"x":1,"states":2,"9":3},
				"Branches":[{"StartAt":"B","States":{"B":{"Type":"Pass","Assign":{"x":1},"End":true}}}]}}}`,
			want: []string{
				`SCHEMA_VALIDATION_FAILED: "9" is not a name for a variable: letters, digits and _, not beginning with a digit, at most 80, and not "states" at /States/A/Assign/9`,
				`SCHEMA_VALIDATION_FAILED: "states" is not a name for a variable: letters, digits and _, not beginning with a digit, at most 80, and not "states" at /States/A/Assign/states`,
				`SCHEMA_VALIDATION_FAILED: the variable "x" is assigned outside of this branch too; give it another name at /States/A/Branches[0]/States/B/Assign`,
			},
		},
		"fields of a wrong type": {
			definition: `{"QueryLanguage":"JSONata","StartAt":"A","TimeoutSeconds":"long","States":{
				"A":{"Type":"Wait","Seconds":"10","Next":"B"},
				"B":{"Type":"Wait","Next":"C"},
				"C":{"Type":"Map","Items":[1],"ItemProcessor":{"ProcessorConfig":{"Mode":"DISTRIBUTED"},"StartAt":"D","States":{"D":{"Type":"Succeed"}}},"Next":"E"},
				"E":{"Type":"Fail","Error":1}}}`,
			want: []string{
				`SCHEMA_VALIDATION_FAILED: expected a number, got a string at /TimeoutSeconds`,
				`SCHEMA_VALIDATION_FAILED: expected a number or a JSONata expression "{% … %}", got a string at /States/A/Seconds`,
				`SCHEMA_VALIDATION_FAILED: a Wait state has either "Seconds" or "Timestamp" at /States/B`,
				`NOT_SUPPORTED: the mode "DISTRIBUTED" is not available here: use INLINE at /States/C/ItemProcessor/ProcessorConfig/Mode`,
				`SCHEMA_VALIDATION_FAILED: expected a string or a JSONata expression "{% … %}", got a number at /States/E/Error`,
			},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			m, problems := Parse([]byte(tc.definition))
			assert.Nil(t, m)
			var got []string
			for _, p := range problems {
				got = append(got, p.String())
			}
			assert.Equal(t, tc.want, got)
		})
	}
}

func TestTheFactorysOwnDefinitionIsAccepted(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("..", "..", "..", "workflow", "testdata", "definition.asl.json"))
	require.NoError(t, err)
	m, problems := Parse(raw)
	require.Empty(t, problems)
	assert.NotEmpty(t, m.graph.states)
}
