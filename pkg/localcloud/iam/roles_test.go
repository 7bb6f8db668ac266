package iam

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/authz"
	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

const (
	instance = "arn:aws:ec2:eu-west-1:111122223333:instance/i-1"
	object   = "arn:aws:s3:::bucket/plans/a:b.json"
)

func newService() *Service {
	return New(clock.NewReal(), wire.Caller{Account: "111122223333", Region: "eu-west-1"})
}

func TestRolesSurviveARestart(t *testing.T) {
	const arn = "arn:aws:iam::111122223333:role/x"
	s := newService()
	require.NoError(t, s.PutRole(Role{
		ARN:      arn,
		Policies: map[string]json.RawMessage{"all": []byte(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`)},
		Boundary: []byte(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"ec2:*","Resource":"*"}}`),
	}))
	raw, err := s.Snapshot()
	require.NoError(t, err)
	s = newService()
	require.NoError(t, s.Restore(raw))
	assert.Equal(t, authz.Allowed, s.Evaluate(arn, authz.Request{Action: "ec2:StopInstances", Resource: instance}))
	assert.Equal(t, authz.OutsideTheBoundary, s.Evaluate(arn, authz.Request{Action: "s3:GetObject", Resource: object}))
	assert.Equal(t, authz.NotAllowed, s.Evaluate(arn+"y", authz.Request{Action: "ec2:StopInstances", Resource: instance}), "a role that is not there")

	require.ErrorContains(t, s.PutRole(Role{ARN: "x"}), "not the ARN of a role")
	require.ErrorContains(t, s.PutRole(Role{ARN: arn, Policies: map[string]json.RawMessage{"p": []byte(`{}`)}}), "policy p")
	require.ErrorContains(t, s.PutRole(Role{ARN: arn, Boundary: []byte(`{}`)}), "boundary")
}
