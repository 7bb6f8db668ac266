package fault_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/fault"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

func TestARuleTakesTheCallsItDescribes(t *testing.T) {
	ireland := wire.Caller{Account: "111122223333", Region: "eu-west-1"}
	for sentence, tc := range map[string]struct {
		rule  fault.Rule
		calls int
		want  string // one letter a call: x is a fault
	}{
		"once by default":                {fault.Rule{Service: "ec2", Operation: "RunInstances", Code: "RequestLimitExceeded"}, 3, "x.."},
		"the second call":                {fault.Rule{Service: "ec2", Operation: "RunInstances", Code: "X", Nth: 2}, 3, ".x."},
		"two calls from the second":      {fault.Rule{Service: "ec2", Code: "X", Nth: 2, Times: 2}, 4, ".xx."},
		"every call":                     {fault.Rule{Service: "ec2", Code: "X", Times: -1}, 3, "xxx"},
		"every service":                  {fault.Rule{Service: "*", Code: "X"}, 1, "x"},
		"its own account":                {fault.Rule{Service: "ec2", Code: "X", Account: "111122223333"}, 1, "x"},
		"not another account":            {fault.Rule{Service: "ec2", Code: "X", Account: "444455556666"}, 1, "."},
		"not another region":             {fault.Rule{Service: "ec2", Code: "X", Region: "us-east-1"}, 1, "."},
		"not another operation":          {fault.Rule{Service: "ec2", Operation: "CopyImage", Code: "X"}, 1, "."},
		"not another service":            {fault.Rule{Service: "ssm", Code: "X"}, 1, "."},
		"a rule about capacity: no call": {fault.Rule{InstanceType: "t3.medium", Times: -1}, 1, "."},
	} {
		t.Run(sentence, func(t *testing.T) {
			s := fault.New(clock.NewReal())
			_, err := s.Add(tc.rule)
			require.NoError(t, err)
			got := ""
			for range tc.calls {
				if s.Before(t.Context(), ireland, "ec2", "RunInstances") != nil {
					got += "x"
				} else {
					got += "."
				}
			}
			assert.Equal(t, tc.want, got)
		})
	}
}

func TestAFaultIsAnAPIErrorWithItsStatus(t *testing.T) {
	s := fault.New(clock.NewReal())
	ids, err := s.Add(fault.Rule{Service: "s3", Code: "SlowDown", Message: "Please reduce your request rate.", Status: 503})
	require.NoError(t, err)
	err = s.Before(t.Context(), wire.Caller{}, "s3", "PUT")
	var api smithy.APIError
	require.True(t, errors.As(err, &api))
	assert.Equal(t, "SlowDown", api.ErrorCode())
	assert.Equal(t, "Please reduce your request rate.", api.ErrorMessage())
	assert.Equal(t, smithy.FaultServer, api.ErrorFault())
	var injected *fault.Injected
	require.True(t, errors.As(err, &injected))
	assert.Equal(t, 503, injected.HTTPStatusCode())
	assert.Equal(t, 1, s.Taken(ids[0]))
}

func TestADelayPassesOnTheClock(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	c := clock.NewVirtual(start)
	defer c.Hold()()
	s := fault.New(c)
	_, err := s.Add(fault.Rule{Service: "ec2", Delay: fault.Duration(time.Hour)})
	require.NoError(t, err)
	require.NoError(t, s.Before(t.Context(), wire.Caller{}, "ec2", "RunInstances"))
	assert.Equal(t, start.Add(time.Hour), c.Now())
}

func TestCapacityIsByTypeAndZone(t *testing.T) {
	s := fault.New(clock.NewReal())
	_, err := s.Add(
		fault.Rule{InstanceType: "c7i.large", Times: -1},
		fault.Rule{InstanceType: "t3.medium", Zone: "eu-west-1a", Times: 1},
	)
	require.NoError(t, err)
	c := wire.Caller{Account: "111122223333", Region: "eu-west-1"}
	assert.False(t, s.HasCapacity(c, "c7i.large", "eu-west-1a"))
	assert.False(t, s.HasCapacity(c, "c7i.large", "eu-west-1b"))
	assert.True(t, s.HasCapacity(c, "t3.medium", "eu-west-1b"))
	assert.False(t, s.HasCapacity(c, "t3.medium", "eu-west-1a"))
	assert.True(t, s.HasCapacity(c, "t3.medium", "eu-west-1a"), "the rule took its one call")
}

func TestSenselessRulesAreRefused(t *testing.T) {
	for sentence, tc := range map[string]struct {
		rule fault.Rule
		want string
	}{
		"no service":                 {fault.Rule{Code: "X"}, "service is missing"},
		"nothing to do":              {fault.Rule{Service: "ec2"}, "would do nothing"},
		"a status that is no error":  {fault.Rule{Service: "ec2", Code: "X", Status: 200}, "status is 200"},
		"times below -1":             {fault.Rule{Service: "ec2", Code: "X", Times: -2}, "times"},
		"a negative delay":           {fault.Rule{Service: "ec2", Delay: -1}, "delay, gap, repeat and behind must be 0 or more"},
		"an event of no source":      {fault.Rule{Lose: true}, "source is missing"},
		"a type of no source":        {fault.Rule{DetailType: "EC2 AMI State Change", Lose: true}, "source is missing"},
		"an event and a service":     {fault.Rule{Source: "aws.ec2", Service: "ec2", Lose: true}, "a source, and is about events, or a service"},
		"an event with an answer":    {fault.Rule{Source: "aws.ec2", Code: "X", Lose: true}, "an event has no answer"},
		"an event untouched":         {fault.Rule{Source: "aws.ec2"}, "none of lose, delay, repeat and behind"},
		"lost and late":              {fault.Rule{Source: "aws.ec2", Lose: true, Delay: 1}, "lose excludes delay"},
		"a gap without repetitions":  {fault.Rule{Source: "aws.ec2", Delay: 1, Gap: 1}, "repeat is not given"},
		"a pattern that is none":     {fault.Rule{Source: "aws.ec2", Lose: true, Pattern: []byte(`{"detail":"x"}`)}, "pattern: "},
		"a negative repetition":      {fault.Rule{Source: "aws.ec2", Repeat: -1}, "must be 0 or more"},
		"capacity with another code": {fault.Rule{InstanceType: "t3.medium", Code: "X"}, "capacity"},
	} {
		t.Run(sentence, func(t *testing.T) {
			_, err := fault.New(clock.NewReal()).Add(tc.rule)
			assert.ErrorContains(t, err, tc.want)
		})
	}
}

func TestRulesComeFromAFileOrOverHTTP(t *testing.T) {
	s := fault.New(clock.NewReal())
	file := filepath.Join(t.TempDir(), "faults.json")
	require.NoError(t, os.WriteFile(file, []byte(`[{"service":"ec2","code":"X","delay":"5ms"}]`), 0o600))
	require.NoError(t, s.Load(file))
	require.NoError(t, os.WriteFile(file, []byte(`[{"service":"ec2","kode":"X"}]`), 0o600))
	assert.ErrorContains(t, s.Load(file), `unknown field "kode"`)

	send := func(method, target, body, from string) *httptest.ResponseRecorder {
		r := httptest.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
		r.RemoteAddr = from
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		return w
	}
	assert.Equal(t, http.StatusForbidden, send("GET", fault.Path, "", "172.31.0.5:1000").Code, "a guest is kept out")
	added := send("POST", fault.Path, `[{"id":"mine","service":"ssm","code":"Y"}]`, "127.0.0.1:1")
	assert.Equal(t, http.StatusCreated, added.Code)
	assert.JSONEq(t, `{"ids":["mine"]}`, added.Body.String())
	assert.Equal(t, http.StatusBadRequest, send("POST", fault.Path, `[{"service":"ssm"}]`, "127.0.0.1:1").Code)
	assert.Contains(t, send("GET", fault.Path, "", "127.0.0.1:1").Body.String(), `"mine"`)
	assert.Equal(t, http.StatusNotFound, send("DELETE", fault.Path+"?id=none", "", "127.0.0.1:1").Code)
	assert.Equal(t, http.StatusNoContent, send("DELETE", fault.Path, "", "127.0.0.1:1").Code)
	assert.NoError(t, s.Before(t.Context(), wire.Caller{}, "ssm", "SendCommand"), "no rule is left")
}
