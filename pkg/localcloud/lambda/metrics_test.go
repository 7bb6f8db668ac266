package lambda_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/lambda"
)

func TestMetricsOfAProcessAreTakenFromWhatItWrites(t *testing.T) {
	s := newService(t, nil)
	deploy(t, s, nil)
	c := client(t, s)
	invoke(t, c, `{"Do":"metric"}`)
	invoke(t, c, `{"Do":"nothing"}`)
	assert.Equal(t, []lambda.Datum{{
		Function: "f", Namespace: "Shop", Name: "Sold", Unit: "Count", Dimensions: map[string]string{"Where": "here"}, Value: 3,
		At: time.Date(2026, 11, 28, 3, 0, 0, 250e6, time.UTC),
	}}, s.Metrics())
	log, err := s.Log(ctx, "f")
	require.NoError(t, err)
	assert.Len(t, log, 3, "the line is in the log too")
}

func TestMetricsOfAHandlerAreTakenFromItsOutput(t *testing.T) {
	const at = `"Timestamp":1795834800250`
	for sentence, tc := range map[string]struct {
		line    string
		want    []string
		refused string
	}{
		"a figure": {
			`{"_aws":{` + at + `,"CloudWatchMetrics":[{"Namespace":"N","Dimensions":[["A","B"]],"Metrics":[{"Name":"M","Unit":"Seconds"}]}]},"A":"1","B":"2","M":1.5}`,
			[]string{"N/M{A=1,B=2} 1.5 Seconds"}, "",
		},
		"no dimensions, and no unit": {
			`{"_aws":{` + at + `,"CloudWatchMetrics":[{"Namespace":"N","Dimensions":[[]],"Metrics":[{"Name":"M"}]}]},"M":2}`,
			[]string{"N/M{} 2 None"}, "",
		},
		"two sets of dimensions are two metrics, a list two figures": {
			`{"_aws":{` + at + `,"CloudWatchMetrics":[{"Namespace":"N","Dimensions":[["A"],[]],"Metrics":[{"Name":"M"}]}]},"A":"1","M":[2,3]}`,
			[]string{"N/M{A=1} 2 None", "N/M{A=1} 3 None", "N/M{} 2 None", "N/M{} 3 None"}, "",
		},
		"another line of JSON": {`{"level":"INFO","msg":"done"}`, nil, ""},
		"plain text":           {`hello "_aws"`, nil, ""},
		"a dimension that is not there": {
			`{"_aws":{` + at + `,"CloudWatchMetrics":[{"Namespace":"N","Dimensions":[["A"]],"Metrics":[{"Name":"M"}]}]},"M":2}`, nil, `the dimension \"A\" is not a text`,
		},
		"a dimension that is no text": {
			`{"_aws":{` + at + `,"CloudWatchMetrics":[{"Namespace":"N","Dimensions":[["A"]],"Metrics":[{"Name":"M"}]}]},"A":1,"M":2}`, nil, `the dimension \"A\" is not a text`,
		},
		"a figure that is not there": {
			`{"_aws":{` + at + `,"CloudWatchMetrics":[{"Namespace":"N","Dimensions":[[]],"Metrics":[{"Name":"M"}]}]},"m":2}`, nil, `metric \"M\": it is not a number`,
		},
		"a figure that is text": {
			`{"_aws":{` + at + `,"CloudWatchMetrics":[{"Namespace":"N","Dimensions":[[]],"Metrics":[{"Name":"M"}]}]},"M":"2"}`, nil, `metric \"M\": it is not a number`,
		},
		"no dimension sets": {
			`{"_aws":{` + at + `,"CloudWatchMetrics":[{"Namespace":"N","Dimensions":[],"Metrics":[{"Name":"M"}]}]},"M":2}`, nil, `a directive needs`,
		},
		"no time":             {`{"_aws":{"CloudWatchMetrics":[]}}`, nil, "no Timestamp"},
		"a line that was cut": {`{"_aws":{` + at, nil, "unexpected end of JSON"},
	} {
		t.Run(sentence, func(t *testing.T) {
			var log bytes.Buffer
			s := newService(t, func(c *lambda.Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
			require.NoError(t, s.Deploy(lambda.Function{Name: "f", Handler: func(context.Context, []byte) ([]byte, error) {
				_, err := fmt.Fprintln(s.Output("f"), tc.line)
				return []byte("1"), err
			}}))
			invoke(t, client(t, s), `{}`)
			var got []string
			for _, d := range s.Metrics() {
				got = append(got, d.String())
			}
			assert.Equal(t, tc.want, got)
			if tc.refused == "" {
				assert.NotContains(t, log.String(), "WARN")
			} else {
				assert.Contains(t, log.String(), tc.refused)
			}
			lines, err := s.Log(ctx, "f")
			require.NoError(t, err)
			assert.Equal(t, []string{tc.line}, lines)
		})
	}
}

func TestOutputOfAFunctionThatIsNotThereIsRefused(t *testing.T) {
	_, err := newService(t, nil).Output("f").Write([]byte("x\n"))
	require.ErrorContains(t, err, "Function not found")
}

func TestWhatIsBilledIsRoundedUpAndCountsMemory(t *testing.T) {
	s := newService(t, nil)
	require.NoError(t, s.Deploy(lambda.Function{Name: "f", MemoryMiB: 512, Handler: func(context.Context, []byte) ([]byte, error) { return []byte("1"), nil }}))
	for range 3 {
		invoke(t, s, `{}`)
	}
	stats := s.Stats()[0]
	assert.Equal(t, 512, stats.MemoryMiB)
	assert.GreaterOrEqual(t, stats.Billed, 3*time.Millisecond, "each takes less than one, and is billed as one")
	assert.Zero(t, stats.Billed%time.Millisecond)
	assert.InDelta(t, stats.Billed.Seconds()/2, stats.GBSeconds(), 1e-12)
}
