package fault_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/events"
	"github.com/ami-factory/ami-factory/pkg/localcloud/fault"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// arrival is an event of EC2 about an instance.
func arrival(instance, state string) events.Arrival {
	return events.Arrival{
		Account: "111122223333", Region: "eu-west-1", Source: "aws.ec2", DetailType: "EC2 Instance State-change Notification",
		Document: map[string]any{"source": "aws.ec2", "detail": map[string]any{"instance-id": instance, "state": state}},
	}
}

func TestARuleDisturbsTheEventsItDescribes(t *testing.T) {
	second := fault.Duration(time.Second)
	for sentence, tc := range map[string]struct {
		rules []fault.Rule
		want  string // each arrival as event@seconds; events 1, 2, 3 and 4 are emitted at 0, 10, 20 and 30 s
	}{
		"no rule":                                        {nil, "1@0 2@10 3@20 4@30"},
		"one event is lost":                              {[]fault.Rule{{Source: "aws.ec2", Lose: true}}, "2@10 3@20 4@30"},
		"every event is lost":                            {[]fault.Rule{{Source: "*", Lose: true, Times: -1}}, ""},
		"the second and third are lost":                  {[]fault.Rule{{Source: "aws.ec2", Lose: true, Nth: 2, Times: 2}}, "1@0 4@30"},
		"one comes late":                                 {[]fault.Rule{{Source: "aws.ec2", Delay: 15 * second}}, "2@10 1@15 3@20 4@30"},
		"each comes five times":                          {[]fault.Rule{{Source: "aws.ec2", Repeat: 4, Times: 2}}, "1@0 1@0 1@0 1@0 1@0 2@10 2@10 2@10 2@10 2@10 3@20 4@30"},
		"one is repeated later":                          {[]fault.Rule{{Source: "aws.ec2", Repeat: 2, Gap: 12 * second}}, "1@0 2@10 1@12 3@20 1@24 4@30"},
		"one is late, and is repeated":                   {[]fault.Rule{{Source: "aws.ec2", Delay: 5 * second, Repeat: 1, Gap: second}}, "1@5 1@6 2@10 3@20 4@30"},
		"one changes places with the next":               {[]fault.Rule{{Source: "aws.ec2", Behind: 1}}, "2@10 1@10 3@20 4@30"},
		"each pair changes places":                       {[]fault.Rule{{Source: "aws.ec2", Behind: 1}, {Source: "aws.ec2", Nth: 2, Behind: 1}}, "2@10 1@10 4@30 3@30"},
		"one is held until two later ones have come":     {[]fault.Rule{{Source: "aws.ec2", Behind: 2}}, "2@10 3@20 1@20 4@30"},
		"one is held, but not for longer than the delay": {[]fault.Rule{{Source: "aws.ec2", Behind: 3, Delay: 12 * second}}, "2@10 1@12 3@20 4@30"},
		"one that is let go in time does not come twice": {[]fault.Rule{{Source: "aws.ec2", Behind: 1, Delay: 12 * second}}, "2@10 1@10 3@20 4@30"},
		"one that is held is repeated":                   {[]fault.Rule{{Source: "aws.ec2", Behind: 1, Repeat: 1}}, "2@10 1@10 1@10 3@20 4@30"},
		"the last is held for good":                      {[]fault.Rule{{Source: "aws.ec2", Nth: 4, Behind: 1}}, "1@0 2@10 3@20"},
		"only those of its detail type":                  {[]fault.Rule{{Source: "aws.ec2", DetailType: "EC2 AMI State Change", Lose: true, Times: -1}}, "1@0 2@10 3@20 4@30"},
		"only those of its source":                       {[]fault.Rule{{Source: "aws.s3", Lose: true, Times: -1}}, "1@0 2@10 3@20 4@30"},
		"only those of its account":                      {[]fault.Rule{{Source: "*", Account: "444455556666", Lose: true, Times: -1}}, "1@0 2@10 3@20 4@30"},
		"only those of its region":                       {[]fault.Rule{{Source: "*", Region: "us-east-1", Lose: true, Times: -1}}, "1@0 2@10 3@20 4@30"},
		"only those that its pattern matches":            {[]fault.Rule{{Source: "*", Pattern: json.RawMessage(`{"detail":{"state":["stopped"]}}`), Lose: true, Times: -1}}, "1@0 3@20"},
		"a rule about calls takes no event":              {[]fault.Rule{{Service: "*", Code: "X", Times: -1}}, "1@0 2@10 3@20 4@30"},
		"what one rule leaves, the next takes":           {[]fault.Rule{{Source: "aws.ec2", Lose: true}, {Source: "*", Repeat: 1, Times: -1}}, "2@10 2@10 3@20 3@20 4@30 4@30"},
	} {
		t.Run(sentence, func(t *testing.T) {
			start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
			c := clock.NewVirtual(start)
			release := c.Hold()
			s := fault.New(c)
			_, err := s.Add(tc.rules...)
			require.NoError(t, err)
			var mu sync.Mutex
			var got []string
			for i, state := range []string{"pending", "stopped", "running", "stopped"} {
				s.Event(arrival(fmt.Sprint(i+1), state), func() {
					mu.Lock()
					defer mu.Unlock()
					got = append(got, fmt.Sprintf("%d@%.0f", i+1, c.Now().Sub(start).Seconds()))
				})
				require.NoError(t, c.Sleep(t.Context(), 10*time.Second))
			}
			require.NoError(t, c.Sleep(t.Context(), time.Minute))
			release()
			mu.Lock()
			defer mu.Unlock()
			assert.Equal(t, tc.want, strings.Join(got, " "))
		})
	}
}

func TestWhatIsHeldArrivesWhenTheRuleGoes(t *testing.T) {
	for sentence, end := range map[string]func(*fault.Set){
		"removed": func(s *fault.Set) { s.Remove("mine") },
		"cleared": (*fault.Set).Clear,
	} {
		t.Run(sentence, func(t *testing.T) {
			s := fault.New(clock.NewReal())
			_, err := s.Add(fault.Rule{ID: "mine", Source: "*", Behind: 9})
			require.NoError(t, err)
			count := 0
			s.Event(arrival("1", "stopped"), func() { count++ })
			assert.Zero(t, count)
			assert.Equal(t, 1, s.Taken("mine"))
			end(s)
			assert.Equal(t, 1, count)
		})
	}
}

func TestARuleAboutEventsTakesNoCall(t *testing.T) {
	s := fault.New(clock.NewReal())
	_, err := s.Add(fault.Rule{Source: "*", Lose: true, Times: -1})
	require.NoError(t, err)
	assert.NoError(t, s.Before(t.Context(), wire.Caller{}, "ec2", "RunInstances"))
	assert.True(t, s.HasCapacity(wire.Caller{}, "t3.medium", "eu-west-1a"))
}
