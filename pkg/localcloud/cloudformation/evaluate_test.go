package cloudformation

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const evaluated = `
Parameters:
  Stage: {Type: String}
  Subnets: {Type: CommaDelimitedList}
Mappings:
  Sizes:
    prod: {memory: 512}
Conditions:
  IsProd: !Equals [!Ref Stage, prod]
  IsOther: !Not [!Condition IsProd]
  Both: !And [!Condition IsProd, !Condition IsOther]
  Either: !Or [!Condition IsProd, !Condition IsOther]
Resources:
  Topic: {Type: AWS::SNS::Topic, Properties: {Value: X}}
`

// evaluatorOf is that of a template with a deployed resource Topic.
func evaluatorOf(t *testing.T) *evaluator {
	t.Helper()
	parsed, err := parseTemplate(evaluated)
	require.NoError(t, err)
	return &evaluator{
		template: parsed, stack: identity{Account: "111122223333", Region: "eu-west-1", Name: "factory", ARN: "arn:stack"},
		parameters: map[string]any{"Stage": "prod", "Subnets": []any{"subnet-a", "subnet-b"}},
		reference: func(id, attribute string) (any, error) {
			if id == "Topic" {
				return map[string]any{"": "the-topic", "TopicName": "name", "Nested.Name": "deep"}[attribute], nil
			}
			return nil, invalid("no %s", id)
		},
		export: func(name string) (string, error) { return "exported " + name, nil },
		zones:  func() ([]string, error) { return []string{"eu-west-1a", "eu-west-1b"}, nil },
	}
}

func TestFunctions(t *testing.T) {
	for sentence, tc := range map[string]struct{ value, want string }{
		"a reference to a resource is its id":                     {`{"Ref":"Topic"}`, `"the-topic"`},
		"a reference to a parameter is its value":                 {`{"Ref":"Stage"}`, `"prod"`},
		"a list parameter is a list":                              {`{"Ref":"Subnets"}`, `["subnet-a","subnet-b"]`},
		"pseudo-parameters name the stack":                        {`{"Fn::Join":[":",[{"Ref":"AWS::Partition"},{"Ref":"AWS::AccountId"},{"Ref":"AWS::Region"},{"Ref":"AWS::StackName"},{"Ref":"AWS::URLSuffix"}]]}`, `"aws:111122223333:eu-west-1:factory:amazonaws.com"`},
		"an attribute is named by a list":                         {`{"Fn::GetAtt":["Topic","TopicName"]}`, `"name"`},
		"an attribute is named by a text with a dot":              {`{"Fn::GetAtt":"Topic.Nested.Name"}`, `"deep"`},
		"Sub puts references, attributes and variables in a text": {`{"Fn::Sub":["${Topic}/${Topic.TopicName}/${X}/${!Literal}/${AWS::Region}",{"X":{"Ref":"Stage"}}]}`, `"the-topic/name/prod/${Literal}/eu-west-1"`},
		"Select takes one of a list":                              {`{"Fn::Select":["1",{"Ref":"Subnets"}]}`, `"subnet-b"`},
		"Split makes a list":                                      {`{"Fn::Split":[",","a,b"]}`, `["a","b"]`},
		"FindInMap looks up":                                      {`{"Fn::FindInMap":["Sizes",{"Ref":"Stage"},"memory"]}`, `512`},
		"If chooses":                                              {`{"Fn::If":["IsProd","yes","no"]}`, `"yes"`},
		"If chooses the other":                                    {`{"Fn::If":["Both","yes","no"]}`, `"no"`},
		"Or is true when one is":                                  {`{"Fn::If":["Either","yes","no"]}`, `"yes"`},
		"what has no value is left out of objects and lists":      {`{"a":{"Fn::If":["IsOther","x",{"Ref":"AWS::NoValue"}]},"b":["c",{"Ref":"AWS::NoValue"}]}`, `{"b":["c"]}`},
		"an import is another stack's export":                     {`{"Fn::ImportValue":"name"}`, `"exported name"`},
		"Base64 encodes":                                          {`{"Fn::Base64":"hello"}`, `"aGVsbG8="`},
		"GetAZs lists the zones":                                  {`{"Fn::GetAZs":""}`, `["eu-west-1a","eu-west-1b"]`},
		"a policy's Condition stays as it is":                     {`{"Condition":{"StringEquals":{"aws:SourceAccount":{"Ref":"AWS::AccountId"}}}}`, `{"Condition":{"StringEquals":{"aws:SourceAccount":"111122223333"}}}`},
	} {
		t.Run(sentence, func(t *testing.T) {
			got, err := evaluatorOf(t).value(valueFrom(t, tc.value))
			require.NoError(t, err)
			raw, err := json.Marshal(got)
			require.NoError(t, err)
			assert.JSONEq(t, tc.want, string(raw))
		})
	}
}

func valueFrom(t *testing.T, text string) any {
	t.Helper()
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	var v any
	require.NoError(t, decoder.Decode(&v))
	return v
}

func TestFunctionsThatCannotBe(t *testing.T) {
	for sentence, tc := range map[string]struct{ value, want string }{
		"a function that is not served is named":        {`{"Fn::Cidr":["10.0.0.0/8",2,8]}`, "Fn::Cidr is not served"},
		"a dynamic reference is refused, not kept":      {`"{{resolve:ssm:/x}}"`, "dynamic references"},
		"an index beyond the list":                      {`{"Fn::Select":[7,["a"]]}`, "nonexistent value at index 7"},
		"a key that the map has not":                    {`{"Fn::FindInMap":["Sizes","test","memory"]}`, "Sizes::test::memory"},
		"a condition that there is not":                 {`{"Fn::If":["Nonsense",1,2]}`, "Nonsense"},
		"a list cannot be joined into a text as a text": {`{"Fn::Sub":"${Subnets}"}`, "a text is expected"},
	} {
		t.Run(sentence, func(t *testing.T) {
			_, err := evaluatorOf(t).value(valueFrom(t, tc.value))
			assert.ErrorContains(t, err, tc.want)
		})
	}
}

func TestTemplatesThatCannotBe(t *testing.T) {
	for sentence, tc := range map[string]struct{ body, want string }{
		"nothing to make":                  {`{"Resources":{}}`, "At least one Resources member"},
		"a section that is not served":     {`{"Transform":"AWS::Serverless-2016-10-31","Resources":{"A":{"Type":"T"}}}`, "section Transform is not served"},
		"a resource without a type":        {`{"Resources":{"A":{}}}`, "[/Resources/A]"},
		"a policy that is not served":      {`{"Resources":{"A":{"Type":"T","DeletionPolicy":"Snapshot"}}}`, "Snapshot is not served"},
		"a tag that is not known":          {"Resources:\n  A: {Type: T, Properties: {X: !Nonsense y}}", "line 2"},
		"what is no JSON":                  {`{"Resources":`, "JSON not well-formed"},
		"a condition that is not in there": {`{"Resources":{"A":{"Type":"T","Condition":"C"}}}`, "Unresolved condition dependency C"},
	} {
		t.Run(sentence, func(t *testing.T) {
			_, err := parseTemplate(tc.body)
			assert.ErrorContains(t, err, tc.want)
		})
	}
}

func TestResourcesAreMadeAfterWhatTheyNeed(t *testing.T) {
	parsed, err := parseTemplate(`
Resources:
  A: {Type: T, DependsOn: D}
  B: {Type: T, Properties: {X: !Sub "${C.Arn} ${!D}"}}
  C: {Type: T, Properties: {X: !GetAtt A.Arn, Y: !Ref AWS::Region}}
  D: {Type: T}
`)
	require.NoError(t, err)
	needs, err := parsed.dependencies()
	require.NoError(t, err)
	ids, err := order(needs, sortedKeys(parsed.Resources))
	require.NoError(t, err)
	assert.Equal(t, []string{"D", "A", "C", "B"}, ids)

	circular, err := parseTemplate("Resources: {A: {Type: T, DependsOn: B}, B: {Type: T, Properties: {X: !Ref A}}}")
	require.NoError(t, err)
	needs, err = circular.dependencies()
	require.NoError(t, err)
	_, err = order(needs, []string{"A", "B"})
	assert.ErrorContains(t, err, "Circular dependency between resources: [A, B]")

	dangling, err := parseTemplate("Resources: {A: {Type: T, Properties: {X: !Ref Nobody}}}")
	require.NoError(t, err)
	_, err = dangling.dependencies()
	assert.ErrorContains(t, err, "Unresolved resource dependencies [Nobody]")
}

func TestPropertiesAreReadAsCloudFormationDoes(t *testing.T) {
	p, err := read[queueProperties](map[string]any{
		"MessageRetentionPeriod": json.Number("1209600"), "SqsManagedSseEnabled": true, "RedrivePolicy": map[string]any{"maxReceiveCount": json.Number("3")},
		"KmsMasterKeyId": "key", "Tags": []any{map[string]any{"Key": "a", "Value": "b"}},
	})
	require.NoError(t, err)
	assert.Equal(t, queueProperties{
		MessageRetentionPeriod: "1209600", SqsManagedSseEnabled: "true", RedrivePolicy: `{"maxReceiveCount":3}`, KmsKey: "key", Tags: []tag{{"a", "b"}},
	}, p)
	f, err := read[functionProperties](map[string]any{"MemorySize": "256", "Timeout": json.Number("3")})
	require.NoError(t, err)
	assert.Equal(t, int32(256), *f.MemorySize)

	_, err = read[functionProperties](map[string]any{"Code": map[string]any{"ImageUri": "x"}})
	assert.ErrorContains(t, err, "Code.ImageUri is not served")
	_, err = read[functionProperties](map[string]any{"MemorySize": "much"})
	assert.ErrorContains(t, err, `MemorySize: "much" is not a whole number`)
}

func TestNamesFitTheirLimit(t *testing.T) {
	for _, most := range []int{40, 64, 100} {
		for _, id := range []string{"X", "AVeryLongLogicalIdOfAResourceWhichTheTemplateHasNotNamed83908E77"} {
			made := &target{stack: identity{Name: "AStackWithALongNameToo"}, LogicalID: id}
			name := made.physicalName(most)
			assert.LessOrEqual(t, len(name), most, name)
			assert.NotEqual(t, name, made.physicalName(most), "each is another")
		}
	}
}
