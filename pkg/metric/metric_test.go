package metric_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/metric"
)

// The rules of the format as a schema, after the CloudWatch User Guide's
// "Specification: Embedded metric format". What a schema cannot say, targets
// does.
const schema = `{
	"type": "object",
	"required": ["_aws"],
	"properties": {"_aws": {
		"type": "object",
		"required": ["Timestamp", "CloudWatchMetrics"],
		"additionalProperties": false,
		"properties": {
			"Timestamp": {"type": "integer", "minimum": 1000000000000, "maximum": 9999999999999},
			"CloudWatchMetrics": {"type": "array", "minItems": 1, "items": {
				"type": "object",
				"required": ["Namespace", "Dimensions", "Metrics"],
				"additionalProperties": false,
				"properties": {
					"Namespace": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[^:].*$"},
					"Dimensions": {"type": "array", "minItems": 1, "items": {
						"type": "array", "maxItems": 30, "uniqueItems": true,
						"items": {"type": "string", "minLength": 1, "maxLength": 255}
					}},
					"Metrics": {"type": "array", "minItems": 1, "maxItems": 100, "items": {
						"type": "object",
						"required": ["Name"],
						"additionalProperties": false,
						"properties": {
							"Name": {"type": "string", "minLength": 1, "maxLength": 255},
							"Unit": {"enum": ["Seconds", "Microseconds", "Milliseconds", "Bytes", "Kilobytes", "Megabytes", "Gigabytes", "Terabytes",
								"Bits", "Kilobits", "Megabits", "Gigabits", "Terabits", "Percent", "Count", "Bytes/Second", "Kilobytes/Second",
								"Megabytes/Second", "Gigabytes/Second", "Terabytes/Second", "Bits/Second", "Kilobits/Second", "Megabits/Second",
								"Gigabits/Second", "Terabits/Second", "Count/Second", "None"]},
							"StorageResolution": {"enum": [1, 60]}
						}
					}}
				}
			}}
		}
	}}
}`

// maxEvent is the largest line that CloudWatch Logs takes for such a document.
const maxEvent = 256 << 10

func compiled(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(schema))
	require.NoError(t, err)
	c := jsonschema.NewCompiler()
	require.NoError(t, c.AddResource("emf.json", doc))
	s, err := c.Compile("emf.json")
	require.NoError(t, err)
	return s
}

// requireValid holds each line to the format.
func requireValid(t *testing.T, text string) {
	t.Helper()
	s := compiled(t)
	require.True(t, strings.HasSuffix(text, "\n"), "the last line ends")
	for _, l := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		require.LessOrEqual(t, len(l), maxEvent)
		doc, err := jsonschema.UnmarshalJSON(strings.NewReader(l))
		require.NoError(t, err, l)
		require.NoError(t, s.Validate(doc), l)
		require.NoError(t, targets(doc.(map[string]any)), l)
	}
}

// targets says whether what a document refers to is there: dimensions are text
// that CloudWatch takes, metrics are numbers, on the root.
func targets(doc map[string]any) error {
	for _, d := range doc["_aws"].(map[string]any)["CloudWatchMetrics"].([]any) {
		for _, set := range d.(map[string]any)["Dimensions"].([]any) {
			for _, name := range set.([]any) {
				value, ok := doc[name.(string)].(string)
				if !ok || value == "" || len(value) > 1024 || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }) {
					return errors.New("no dimension " + name.(string))
				}
			}
		}
		for _, m := range d.(map[string]any)["Metrics"].([]any) {
			name := m.(map[string]any)["Name"].(string)
			if _, ok := doc[name].(json.Number); !ok {
				return errors.New("no number " + name)
			}
		}
	}
	return nil
}

var at = time.Date(2026, 11, 28, 3, 0, 0, 250e6, time.UTC)

func written(t *testing.T, values ...metric.Value) string {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, metric.Write(&b, at, values...))
	return b.String()
}

func TestALineHasTheFigureItsUnitAndItsDimensions(t *testing.T) {
	got := written(t, metric.Of(metric.BakeDuration, 331.5, "debian-12-docker"))
	requireValid(t, got)
	assert.Equal(t, `{"BakeDuration":331.5,"Recipe":"debian-12-docker","_aws":{"CloudWatchMetrics":[{"Namespace":"AmiFactory",`+
		`"Dimensions":[["Recipe"]],"Metrics":[{"Name":"BakeDuration","Unit":"Seconds"}]}],"Timestamp":1795834800250}}`+"\n", got)
}

func TestFiguresShareALineIfTheirDimensionsAreTheSame(t *testing.T) {
	for sentence, tc := range map[string]struct {
		values []metric.Value
		lines  int
	}{
		"two metrics of one recipe":         {[]metric.Value{metric.Of(metric.BakeDuration, 1, "a"), metric.Of(metric.ImageCost, 2, "a")}, 1},
		"one metric of two recipes":         {[]metric.Value{metric.Of(metric.ImageCost, 1, "a"), metric.Of(metric.ImageCost, 2, "b")}, 2},
		"the same twice":                    {[]metric.Value{metric.Of(metric.ImageCost, 1, "a"), metric.Of(metric.ImageCost, 2, "a")}, 2},
		"other dimensions of the same name": {[]metric.Value{metric.Of(metric.Failures, 1, "x"), metric.Of(metric.Executions, 1, "x")}, 2},
		"a figure without dimensions":       {[]metric.Value{metric.Of(metric.RecipesPaused, 0), metric.Of(metric.ImageCost, 2, "a")}, 2},
		"nothing":                           {nil, 0},
	} {
		t.Run(sentence, func(t *testing.T) {
			got := written(t, tc.values...)
			if tc.lines > 0 {
				requireValid(t, got)
			}
			assert.Equal(t, tc.lines, strings.Count(got, "\n"))
		})
	}
}

func TestEveryMetricOfTheTableCanBeWritten(t *testing.T) {
	require.LessOrEqual(t, len(metric.Table()), 100, "what a line may have")
	seen := map[string]bool{}
	var values []metric.Value
	for _, s := range metric.Table() {
		assert.False(t, seen[s.Name], "%s is there twice", s.Name)
		seen[s.Name] = true
		assert.NotEmpty(t, s.Means, s.Name)
		values = append(values, metric.Of(s.Name, 1, make([]string, len(s.Dimensions))...))
	}
	requireValid(t, written(t, values...))
}

func TestADimensionIsWhatCloudWatchTakes(t *testing.T) {
	for sentence, tc := range map[string]struct{ value, want string }{
		"a name stays":                   {"debian-12-docker", `"Recipe":"debian-12-docker"`},
		"other letters are replaced":     {"größe", `"Recipe":"gr??e"`},
		"so are ends of lines":           {"a\nb", `"Recipe":"a?b"`},
		"nothing is said to be nothing":  {" ", `"Recipe":"unknown"`},
		"what is too long is cut":        {strings.Repeat("x", 2000), `"Recipe":"` + strings.Repeat("x", 1024) + `"`},
		"quotes do not end the document": {`a","b":"`, `"Recipe":"a\",\"b\":\""`},
	} {
		t.Run(sentence, func(t *testing.T) {
			got := written(t, metric.Of(metric.ImageCost, 1, tc.value))
			requireValid(t, got)
			assert.Contains(t, got, tc.want)
		})
	}
}

func TestWhatIsNoFigureOfTheTableIsRefusedAndNothingIsWritten(t *testing.T) {
	good := metric.Of(metric.RecipesPaused, 1)
	for sentence, tc := range map[string]struct {
		value metric.Value
		says  string
	}{
		"an unknown name":         {metric.Of("Speed", 1), `"Speed" is not in the table`},
		"a dimension too few":     {metric.Of(metric.ImageCost, 1), "ImageCost has 1 dimensions (Recipe), not 0"},
		"a dimension too many":    {metric.Of(metric.RecipesPaused, 1, "a"), "RecipesPaused has 0 dimensions (), not 1"},
		"what is not a number":    {metric.Of(metric.ImageCost, math.NaN(), "a"), "not a number"},
		"more than numbers go to": {metric.Of(metric.ImageCost, math.Inf(1), "a"), "not a number"},
	} {
		t.Run(sentence, func(t *testing.T) {
			var b bytes.Buffer
			require.ErrorContains(t, metric.Write(&b, at, good, tc.value), tc.says)
			assert.Empty(t, b.String())
		})
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("closed") }

func TestAWriterThatFailsIsNoticed(t *testing.T) {
	require.ErrorContains(t, metric.Write(failing{}, at, metric.Of(metric.RecipesPaused, 1)), "closed")
}

func TestThePageOfCostHasTheTable(t *testing.T) {
	text, err := os.ReadFile("../../infra/docs/cost.md")
	require.NoError(t, err)
	for _, s := range metric.Table() {
		assert.Contains(t, string(text), fmt.Sprintf("| `%s` | %s | %s | %s |\n", s.Name, s.Unit, strings.Join(s.Dimensions, ", "), s.Means))
	}
}
