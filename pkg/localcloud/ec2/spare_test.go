package ec2_test

import (
	"path/filepath"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/ec2"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
)

func TestTheGuestOfATerminatedInstanceMayBeSpared(t *testing.T) {
	var asked []string
	var spared vm.Machine
	e := setup(t, options{config: func(c *ec2.Config) {
		c.Spare = func(id string, m vm.Machine) bool {
			asked = append(asked, id)
			if len(asked) > 1 {
				return false
			}
			spared = m
			return true
		}
	}})
	any := func(*sdk.RunInstancesInput) {}
	first, second := *e.run(any).InstanceId, *e.run(any).InstanceId
	e.pass(time.Minute)
	for _, id := range []string{first, second} {
		_, err := e.TerminateInstances(t.Context(), &sdk.TerminateInstancesInput{InstanceIds: []string{id}})
		require.NoError(t, err)
		e.pass(time.Minute)
	}
	assert.Equal(t, []string{first, second}, asked)
	for _, id := range asked {
		assert.Equal(t, types.InstanceStateNameTerminated, e.describe(id).State.Name, "for clients both are gone")
	}
	require.NoError(t, spared.Ping(t.Context()), "the guest of one is not")
	assert.DirExists(t, filepath.Join(e.dir, "instances", first))
	assert.NoDirExists(t, filepath.Join(e.dir, "instances", second))

	require.NoError(t, spared.Kill())
	e.pass(time.Minute)
	assert.NoDirExists(t, filepath.Join(e.dir, "instances", first), "its disk goes with it")
	assert.Equal(t, types.InstanceStateNameTerminated, e.describe(first).State.Name)
}
