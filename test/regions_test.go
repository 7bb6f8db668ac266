package test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	localec2 "github.com/ami-factory/ami-factory/pkg/localcloud/ec2"
	"github.com/ami-factory/ami-factory/pkg/localcloud/fault"
	"github.com/ami-factory/ami-factory/pkg/rehearsal"
)

// threeRegions adds a region to the recipe, which stands between the other two.
const threeRegions = "    - name: " + third + "\n      kmsKey: alias/ami-factory\n    - name: " + second

// refused and slow are calls of EC2 in a region that fail and that take their time.
func refused(region, operation string) fault.Rule {
	return fault.Rule{Service: "ec2", Operation: operation, Region: region, Code: "InvalidRequest", Status: 400, Times: -1}
}

func slow(region, operation string, d time.Duration) fault.Rule {
	return fault.Rule{Service: "ec2", Operation: operation, Region: region, Delay: fault.Duration(d), Times: -1}
}

// later lets pass what a function that was still running can have done.
func later(t *testing.T, clk clock.Clock) {
	t.Helper()
	require.NoError(t, clk.Sleep(context.Background(), 10*time.Minute))
}

// On AWS a function runs on when the state that invoked it is aborted. So what one
// region still does while another one has failed must end before Cleanup begins.
func TestARegionThatFailsLeavesNothingOfTheOthers(t *testing.T) {
	t.Parallel()
	for sentence, tc := range map[string]struct {
		change []string // of the recipe
		timing func(*localec2.Timing)
		faults []fault.Rule
		state  string
		err    string
		cause  []string
	}{
		"one refuses the copy while another is slow to start it": {
			faults: []fault.Rule{refused(third, "CopyImage"), slow(second, "CopyImage", 20*time.Second)},
			state:  contract.StateStartCopies, err: "CopyFailed", cause: []string{third, "InvalidRequest"},
		},
		"the same after the gate": {
			change: []string{"  accounts:", afterGate},
			faults: []fault.Rule{refused(third, "CopyImage"), slow(second, "CopyImage", 20*time.Second)},
			state:  contract.StateDistribute, err: "CopyFailed", cause: []string{third, "InvalidRequest"},
		},
		"EC2 does not show the copies yet when one is refused": {
			timing: func(timing *localec2.Timing) { timing.ConsistencyWindow = 20 * time.Second },
			faults: []fault.Rule{refused(third, "CopyImage")},
			state:  contract.StateStartCopies, err: "CopyFailed", cause: []string{third, "InvalidRequest"},
		},
		"one copy fails while another takes long": {
			faults: []fault.Rule{refused(third, "DescribeImageAttribute"), slow(second, "DescribeImageAttribute", 100*time.Second)},
			state:  contract.StateDistribute, err: "ShareFailed", cause: []string{third, "InvalidRequest"},
		},
		"one cannot be shared while another is slow to be": {
			faults: []fault.Rule{refused(third, "ModifyImageAttribute"), slow(second, "ModifyImageAttribute", 30*time.Second)},
			state:  contract.StateShare, err: "ShareFailed", cause: []string{third, "InvalidRequest"},
		},
		"two fail, each for its reason": {
			faults: []fault.Rule{refused(third, "CopyImage"), {Service: "ec2", Operation: "CopyImage", Region: second, Code: "UnauthorizedOperation", Status: 403, Times: -1}},
			state:  contract.StateStartCopies, err: "CopyFailed", cause: []string{third + " (CopyFailed): ", "InvalidRequest", second + " (AccessDenied): "},
		},
		"one does not answer in time": {
			faults: []fault.Rule{slow(third, "CopyImage", time.Hour)},
			state:  contract.StateStartCopies, err: "CopyFailed", cause: []string{third + ": The function of Copy did not answer in time"},
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			var clk clock.Clock
			e := sideBySide(t, func(o *rehearsal.Options) {
				clk = o.Clock
				if tc.timing != nil {
					tc.timing(&o.Timing)
				}
			})
			e.edit(append([]string{"    - name: " + second, threeRegions}, tc.change...)...)
			_, err := e.Cloud.Faults.Add(tc.faults...)
			require.NoError(t, err)
			s := bake(t, e.Factory, contract.ExecutionInput{})
			require.Equal(t, contract.FailedClean, s.Status, s.Cause)
			assert.Equal(t, tc.err, s.Error)
			for _, text := range tc.cause {
				assert.Contains(t, s.Cause, text)
			}
			r := reportOf(t, e, s)
			require.NotNil(t, r.Failure)
			assert.Equal(t, tc.state, r.Failure.State)
			requireMetricsAgree(t, e.Factory, s)
			later(t, clk)
			requireNothingLeft(t, e.Factory)
		})
	}
}

// A release without a bake changes images that exist: what a slow region has shared
// must be taken back, also where the call came after another region had failed.
func TestAReleaseThatFailsInOneRegionSharesWithNobodyNew(t *testing.T) {
	t.Parallel()
	for sentence, faults := range map[string][]fault.Rule{
		"another region is slow":      {refused(home, "ModifyImageAttribute"), slow(second, "ModifyImageAttribute", 30*time.Second)},
		"a new region is refused":     {refused(third, "ModifyImageAttribute"), slow(second, "ModifyImageAttribute", 30*time.Second)},
		"the copy to it is refused":   {refused(third, "CopyImage"), slow(second, "DescribeImages", 10*time.Second)},
		"the region answers too late": {slow(second, "ModifyImageAttribute", 3*time.Minute)},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			var clk clock.Clock
			e := newEditable(t, func(o *rehearsal.Options) { clk = o.Clock })
			first := bake(t, e.Factory, contract.ExecutionInput{})
			require.Equal(t, contract.Published, first.Status, first.Cause)
			e.edit(`accounts: ["210987654321"]`, `accounts: ["210987654321", "`+partner+`"]`, "    - name: "+second, threeRegions)
			var own []fault.Rule
			for _, r := range faults { // Cleanup's calls are not to fail
				if r.Operation == "ModifyImageAttribute" {
					r.Times = 7
				}
				own = append(own, r)
			}
			_, err := e.Cloud.Faults.Add(own...)
			require.NoError(t, err)
			s := bake(t, e.Factory, contract.ExecutionInput{})
			require.NotEqual(t, contract.Published, s.Status)
			e.Cloud.Faults.Clear()
			later(t, clk)
			for region, id := range first.Images {
				assert.Equal(t, []string{"210987654321"}, e.sharedWith(region, id), "%s: %s", region, s.Cause)
				assert.Equal(t, id, pointed(t, e.Factory, region))
			}
			assert.ElementsMatch(t, []string{first.Images[home], first.Images[second]}, take(t, e.Factory).Images)
			assert.Equal(t, contract.FailedClean, s.Status, s.Cause)
		})
	}
}
