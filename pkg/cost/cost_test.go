package cost_test

import (
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/cost"
)

func list(t *testing.T, overrides string) cost.Table {
	t.Helper()
	table, err := cost.ListPrices(overrides)
	require.NoError(t, err)
	return table
}

// published is a bake of six and three minutes in Ireland, with a copy to
// Frankfurt.
func published() cost.Usage {
	return cost.Usage{
		Region: "eu-west-1", Architecture: "arm64",
		Instances: []cost.Instance{
			{Role: "builder", Type: "t3.medium", Seconds: 360, VolumeGiB: 8, VolumeSeconds: 720},
			{Role: "verifier", Type: "t3.medium", Seconds: 180, VolumeGiB: 8, VolumeSeconds: 180},
		},
		KeptIn: []string{"eu-west-1", "eu-central-1"}, SnapshotGiB: 8, Copies: 1,
		Transitions: 100, Requests: 80, GBSeconds: 30, S3Writes: 10, S3Reads: 80,
	}
}

// The figures of this test are computed by hand from the prices of eu-west-1.
func TestAPublishedImage(t *testing.T) {
	e := cost.Of(published(), list(t, ""))
	assert.Equal(t, []cost.Line{
		{Item: "Copies to other regions", Quantity: 8, Unit: "GiB", Price: 0.02, USD: 0.16, Estimated: true},
		{Item: "EC2 builder, t3.medium", Quantity: 0.1, Unit: "hour", Price: 0.0456, USD: 0.00456},
		{Item: "Step Functions", Quantity: 100, Unit: "transition", Price: 0.000025, USD: 0.0025},
		{Item: "EC2 verifier, t3.medium", Quantity: 0.05, Unit: "hour", Price: 0.0456, USD: 0.00228},
		{Item: "Lambda, arm64", Quantity: 30, Unit: "GB-second", Price: 0.0000133334, USD: 0.0004, Estimated: true},
		{Item: "EBS root volumes, gp3", Quantity: 2, Unit: "GiB-hour", Price: 0.088 / 720, USD: 0.000244},
		{Item: "S3, writes", Quantity: 10, Unit: "request", Price: 0.000005, USD: 0.00005, Estimated: true},
		{Item: "S3, reads", Quantity: 80, Unit: "request", Price: 0.0000004, USD: 0.000032, Estimated: true},
		{Item: "Lambda, invocations", Quantity: 80, Unit: "request", Price: 0.0000002, USD: 0.000016},
		{Item: "EBS snapshot in eu-central-1", Quantity: 8, Unit: "GiB-month", Price: 0.054, USD: 0.432, Estimated: true, Monthly: true},
		{Item: "EBS snapshot in eu-west-1", Quantity: 8, Unit: "GiB-month", Price: 0.05, USD: 0.4, Estimated: true, Monthly: true},
	}, e.Lines)
	assert.InDelta(t, 0.170082, e.USD, 1e-9)
	assert.InDelta(t, 0.832, e.MonthlyUSD, 1e-9)
	assert.Equal(t, "eu-west-1", e.Region)
	assert.Contains(t, e.Prices, "2026-10, AWS's public price list")
	assert.Len(t, e.Notes, 2, "that the snapshot's size is guessed, and what is left out")
}

func TestWhatWasRemovedAgainCostsLittle(t *testing.T) {
	u := published()
	u.KeptIn, u.Copies, u.SnapshotSeconds = nil, 0, 900
	e := cost.Of(u, list(t, ""))
	// 8 GiB for a quarter of an hour, at 0.05 $ for 720 hours: 0.000139 $.
	assert.Contains(t, e.Lines, cost.Line{Item: "EBS snapshot, until it was removed", Quantity: 2, Unit: "GiB-hour", Price: 0.05 / 720, USD: 0.000139, Estimated: true})
	assert.InDelta(t, 0.170082-0.16+0.000139, e.USD, 1e-9)
	assert.Zero(t, e.MonthlyUSD)
}

func TestPricesDifferByRegionArchitectureAndType(t *testing.T) {
	for sentence, tc := range map[string]struct {
		change    func(*cost.Usage)
		overrides string
		item      string
		usd       float64
		note      string
	}{
		"Virginia":                      {func(u *cost.Usage) { u.Region = "us-east-1" }, "", "EC2 builder, t3.medium", 0.00416, ""},
		"another type":                  {func(u *cost.Usage) { u.Instances[0].Type = "m6i.large" }, "", "EC2 builder, m6i.large", 0.0107, ""},
		"x86_64":                        {func(u *cost.Usage) { u.Architecture = "x86_64" }, "", "Lambda, x86_64", 0.0005, ""},
		"a builder of a moment":         {func(u *cost.Usage) { u.Instances[0].Seconds = 1 }, "", "EC2 builder, t3.medium", 0.00076, ""},
		"a region without prices":       {func(u *cost.Usage) { u.Region = "ap-south-2" }, "", "EC2 builder, t3.medium", 0.00416, "no prices of ap-south-2"},
		"a type without a price":        {func(u *cost.Usage) { u.Instances[0].Type = "x9.huge" }, "", "EC2 builder, x9.huge", 0, "EC2 builder, x9.huge has no price (hour)"},
		"an operator's price":           {nil, `{"regions":{"eu-west-1":{"instanceHour":{"t3.medium":0.03}}}}`, "EC2 builder, t3.medium", 0.003, ""},
		"the others stay beside it":     {nil, `{"regions":{"eu-west-1":{"instanceHour":{"t3.medium":0.03}}}}`, "Copies to other regions", 0.16, ""},
		"an operator's region":          {func(u *cost.Usage) { u.Region = "ap-south-2" }, `{"regions":{"ap-south-2":{"transition":0.00003}}}`, "Step Functions", 0.003, "Lambda, arm64 has no price"},
		"an operator's price of a type": {func(u *cost.Usage) { u.Instances[0].Type = "x9.huge" }, `{"regions":{"eu-west-1":{"instanceHour":{"x9.huge":2}}}}`, "EC2 builder, x9.huge", 0.2, ""},
	} {
		t.Run(sentence, func(t *testing.T) {
			u := published()
			if tc.change != nil {
				tc.change(&u)
			}
			e := cost.Of(u, list(t, tc.overrides))
			usd := math.NaN()
			for _, l := range e.Lines {
				if l.Item == tc.item {
					usd = l.USD
				}
			}
			assert.InDelta(t, tc.usd, usd, 1e-9)
			if tc.note == "" {
				assert.Len(t, e.Notes, 2)
			} else {
				assert.Contains(t, strings.Join(e.Notes, "\n"), tc.note)
			}
		})
	}
}

func TestASnapshotOfKnownSizeIsNotEstimated(t *testing.T) {
	u := published()
	u.SnapshotGiB, u.SnapshotKnown = 1.5, true
	e := cost.Of(u, list(t, ""))
	assert.Contains(t, e.Lines, cost.Line{Item: "Copies to other regions", Quantity: 1.5, Unit: "GiB", Price: 0.02, USD: 0.03})
	assert.InDelta(t, 1.5*(0.05+0.054), e.MonthlyUSD, 1e-9)
	assert.Len(t, e.Notes, 1)
}

func TestNothingUsedCostsNothing(t *testing.T) {
	e := cost.Of(cost.Usage{Region: "eu-west-1", Architecture: "arm64"}, list(t, ""))
	assert.Empty(t, e.Lines)
	assert.Zero(t, e.USD)
}

func TestATableThatIsNotUnderstoodIsRefused(t *testing.T) {
	for sentence, tc := range map[string]struct{ text, says string }{
		"no JSON":             {"t3.medium=1", "not a table of prices"},
		"an unknown field":    {`{"regions":{"eu-west-1":{"snapshot":1}}}`, `unknown field "snapshot"`},
		"a price below zero":  {`{"regions":{"eu-west-1":{"instanceHour":{"t3.medium":-1}}}}`, "eu-west-1 has a price below zero"},
		"something behind it": {`{} {}`, "there is text after"},
	} {
		t.Run(sentence, func(t *testing.T) {
			_, err := cost.ListPrices(tc.text)
			require.ErrorContains(t, err, tc.says)
		})
	}
}

func TestABuiltInPriceIsOfEachItem(t *testing.T) {
	for region, p := range list(t, "").Regions {
		for _, kind := range []string{"t3.medium", "t3a.medium", "m6i.large"} { // of the recipes that are here
			assert.Positive(t, p.InstanceHour[kind], "%s in %s", kind, region)
		}
		for _, arch := range []string{"arm64", "x86_64"} {
			assert.Positive(t, p.LambdaGBSecond[arch], "%s in %s", arch, region)
		}
		for _, price := range []float64{p.VolumeGiBMonth, p.SnapshotGiBMonth, p.TransferGiB, p.Transition, p.LambdaRequest, p.S3Write, p.S3Read} {
			assert.Positive(t, price, region)
		}
	}
}

func TestOverridesSayWhosePricesTheyAre(t *testing.T) {
	assert.Equal(t, "our agreement", list(t, `{"source":"our agreement"}`).Source)
	assert.Contains(t, list(t, `{"date":"2027-01"}`).Source, "the operator's prices; for the rest, AWS's")
	assert.Equal(t, "2026-10", list(t, `{"source":"ours"}`).Date)
}
