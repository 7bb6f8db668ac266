// Package cost estimates the cost of an execution on AWS, from its usage and a
// table of prices, which operators can replace. It makes no calls.
package cost

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

//go:embed prices.json
var listPrices []byte

// Table is a table of prices.
type Table struct {
	Date    string            `json:"date"`    // year and month of the prices
	Source  string            `json:"source"`  // where the prices come from, and what they leave out
	Regions map[string]Prices `json:"regions"` // by the region's name
}

// Prices holds the prices of a region, in US dollars.
type Prices struct {
	InstanceHour     map[string]float64 `json:"instanceHour,omitempty"` // by instance type
	VolumeGiBMonth   float64            `json:"volumeGiBMonth,omitempty"`
	SnapshotGiBMonth float64            `json:"snapshotGiBMonth,omitempty"`
	TransferGiB      float64            `json:"transferGiB,omitempty"` // out of the region, to another
	Transition       float64            `json:"transition,omitempty"`  // of a standard workflow
	LambdaGBSecond   map[string]float64 `json:"lambdaGBSecond,omitempty"`
	LambdaRequest    float64            `json:"lambdaRequest,omitempty"`
	S3Write          float64            `json:"s3Write,omitempty"` // PUT and LIST
	S3Read           float64            `json:"s3Read,omitempty"`  // GET
}

// ListPrices returns the built-in prices, changed by overrides: a Table as JSON
// with only the prices that differ, or empty. An invalid table or price is an
// error.
func ListPrices(overrides string) (Table, error) {
	var t Table
	if err := json.Unmarshal(listPrices, &t); err != nil {
		return Table{}, fmt.Errorf("built-in prices: %w", err) // never happens: a test parses them
	}
	if strings.TrimSpace(overrides) == "" {
		return t, nil
	}
	own, err := parse(overrides)
	if err != nil {
		return Table{}, fmt.Errorf("not a table of prices such as {\"source\": \"our agreement\", \"regions\": {\"eu-west-1\": {\"instanceHour\": {\"t3.medium\": 0.04}}}}: %w", err)
	}
	t.Date, t.Source = orElse(own.Date, t.Date), orElse(own.Source, "the operator's prices; for the rest, "+t.Source)
	for _, region := range slices.Sorted(maps.Keys(own.Regions)) {
		t.Regions[region] = merge(t.Regions[region], own.Regions[region])
	}
	return t, nil
}

func parse(text string) (Table, error) {
	var t Table
	dec := json.NewDecoder(bytes.NewReader([]byte(text)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&t); err != nil {
		return t, err
	}
	if _, more := dec.Token(); !errors.Is(more, io.EOF) {
		return t, errors.New("there is text after the JSON document")
	}
	for _, region := range slices.Sorted(maps.Keys(t.Regions)) {
		p := t.Regions[region]
		all := append(slices.Collect(maps.Values(p.InstanceHour)), slices.Collect(maps.Values(p.LambdaGBSecond))...)
		all = append(all, p.VolumeGiBMonth, p.SnapshotGiBMonth, p.TransferGiB, p.Transition, p.LambdaRequest, p.S3Write, p.S3Read)
		if slices.Min(all) < 0 {
			return t, fmt.Errorf("region %s has a price below zero", region)
		}
	}
	return t, nil
}

// merge returns a, with the values that b has in their place.
func merge(a, b Prices) Prices {
	a.InstanceHour, a.LambdaGBSecond = mergeMaps(a.InstanceHour, b.InstanceHour), mergeMaps(a.LambdaGBSecond, b.LambdaGBSecond)
	a.VolumeGiBMonth, a.SnapshotGiBMonth = orElse(b.VolumeGiBMonth, a.VolumeGiBMonth), orElse(b.SnapshotGiBMonth, a.SnapshotGiBMonth)
	a.TransferGiB, a.Transition = orElse(b.TransferGiB, a.TransferGiB), orElse(b.Transition, a.Transition)
	a.LambdaRequest = orElse(b.LambdaRequest, a.LambdaRequest)
	a.S3Write, a.S3Read = orElse(b.S3Write, a.S3Write), orElse(b.S3Read, a.S3Read)
	return a
}

func mergeMaps(a, b map[string]float64) map[string]float64 {
	out := map[string]float64{}
	maps.Copy(out, a)
	maps.Copy(out, b)
	return out
}

func orElse[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}
