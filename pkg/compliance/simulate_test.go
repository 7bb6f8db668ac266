package compliance_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/compliance"
)

func TestSimulatedResultsAreComplete(t *testing.T) {
	checks, controls := compiled(t)
	results, err := compliance.Simulate(checks, nil)
	require.NoError(t, err)
	report, err := compliance.Evaluate(input(controls, results))
	require.NoError(t, err)
	assert.Equal(t, compliance.Counts{Passed: len(controls)}, report.Counts)

	results, err = compliance.Simulate(checks, func(c string) bool { return c == "BBB-03" })
	require.NoError(t, err)
	report, err = compliance.Evaluate(input(controls, results))
	require.NoError(t, err)
	assert.Equal(t, compliance.Counts{Passed: len(controls) - 1, Failed: 1, Rejecting: 1}, report.Counts)
	assert.Equal(t, "BBB-03", report.Rejections()[0].ControlID)

	_, err = compliance.Simulate([]byte("no checks"), nil)
	assert.Error(t, err)
}
