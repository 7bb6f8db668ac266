package metric

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/ami-factory/ami-factory/pkg/failure"
)

// maxDimension is the maximum length of a dimension's value, in characters
// (https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_Dimension.html).
const maxDimension = 1024

// Value is one figure to publish. Dimensions holds a value for each of the
// metric's dimensions in the table, in that order.
type Value struct {
	Name       string
	Dimensions []string
	Value      float64
}

// Of returns a Value.
func Of(name string, value float64, dimensions ...string) Value {
	return Value{Name: name, Value: value, Dimensions: dimensions}
}

// Emit is Write, but does nothing if w is nil, as in a process whose metrics
// nobody reads. Its error has the code Internal.
func Emit(w io.Writer, at time.Time, values ...Value) error {
	if w == nil || len(values) == 0 {
		return nil
	}
	if err := Write(w, at, values...); err != nil {
		return failure.Wrap(failure.Internal, err, "write the metrics")
	}
	return nil
}

// Write writes figures of one time, as lines of one document each. The format is
// "Specification: Embedded metric format" in the CloudWatch User Guide
// (https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html).
// Metrics with the same dimensions share a line, with at most one figure of each
// metric. If a metric is not in the table or a figure is not a number, Write
// returns an error and writes nothing.
func Write(w io.Writer, at time.Time, values ...Value) error {
	var lines []*line
	for _, v := range values {
		spec, ok := Lookup(v.Name)
		if !ok {
			return fmt.Errorf("metric %q is not in the table", v.Name)
		}
		if err := v.check(spec); err != nil {
			return err
		}
		i := slices.IndexFunc(lines, func(l *line) bool { return l.takes(spec, v) })
		if i < 0 {
			lines = append(lines, &line{names: spec.Dimensions, dimensions: v.Dimensions})
			i = len(lines) - 1
		}
		lines[i].specs, lines[i].values = append(lines[i].specs, spec), append(lines[i].values, v.Value)
	}
	var all bytes.Buffer
	for _, l := range lines {
		if err := l.write(&all, at); err != nil {
			return err
		}
	}
	// One write, so that concurrent writes to w do not come in between.
	_, err := w.Write(all.Bytes())
	return err
}

func (v Value) check(spec Spec) error {
	if len(v.Dimensions) != len(spec.Dimensions) {
		return fmt.Errorf("metric %s has %d dimensions (%s), not %d", v.Name, len(spec.Dimensions), strings.Join(spec.Dimensions, ", "), len(v.Dimensions))
	}
	if math.IsNaN(v.Value) || math.IsInf(v.Value, 0) {
		return fmt.Errorf("metric %s is %v, which is not a number", v.Name, v.Value)
	}
	return nil
}

// line is one document.
type line struct {
	names, dimensions []string
	specs             []Spec
	values            []float64
}

func (l *line) takes(spec Spec, v Value) bool {
	return slices.Equal(l.names, spec.Dimensions) && slices.Equal(l.dimensions, v.Dimensions) &&
		!slices.ContainsFunc(l.specs, func(s Spec) bool { return s.Name == spec.Name })
}

// directive describes which members of a document are metrics, and their
// dimensions.
type directive struct {
	Namespace  string       `json:"Namespace"`
	Dimensions [][]string   `json:"Dimensions"`
	Metrics    []definition `json:"Metrics"`
}

type definition struct {
	Name string `json:"Name"`
	Unit Unit   `json:"Unit"`
}

func (l *line) write(w io.Writer, at time.Time) error {
	set := append([]string{}, l.names...) // an empty list, not null
	d := directive{Namespace: Namespace, Dimensions: [][]string{set}}
	document := map[string]any{}
	for i, name := range l.names {
		document[name] = dimension(l.dimensions[i])
	}
	for i, s := range l.specs {
		d.Metrics = append(d.Metrics, definition{Name: s.Name, Unit: s.Unit})
		document[s.Name] = l.values[i]
	}
	document["_aws"] = map[string]any{"Timestamp": at.UnixMilli(), "CloudWatchMetrics": []directive{d}}
	return json.NewEncoder(w).Encode(document) // keys sorted, one line
}

// dimension turns any text into a value that CloudWatch accepts: printable
// ASCII, 1 to 1,024 characters.
func dimension(s string) string {
	s = strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s))
	if s == "" {
		return "unknown"
	}
	return s[:min(len(s), maxDimension)]
}
