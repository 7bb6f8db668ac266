package lambda

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
)

// maxData is the number of metric figures that are kept.
const maxData = 10000

// Datum is one figure of a metric, as CloudWatch would read it from a function's
// line in the embedded metric format.
type Datum struct {
	Function   string // name
	Namespace  string
	Name       string
	Unit       string // "None" if the line has none
	Dimensions map[string]string
	Value      float64
	At         time.Time
}

// String returns the figure as one line, with its dimensions sorted by name.
func (d Datum) String() string {
	var dimensions []string
	for name, value := range d.Dimensions {
		dimensions = append(dimensions, name+"="+value)
	}
	slices.Sort(dimensions)
	return fmt.Sprintf("%s/%s{%s} %g %s", d.Namespace, d.Name, strings.Join(dimensions, ","), d.Value, d.Unit)
}

// metrics holds the figures that functions wrote, oldest first.
type metrics struct {
	mu   sync.Mutex
	data []Datum
}

func (m *metrics) add(data []Datum) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.data = append(m.data, data...)
	if over := len(m.data) - maxData; over > 0 {
		m.data = slices.Delete(m.data, 0, over)
	}
}

// Metrics returns the latest figures of all functions, in the order in which
// they were written.
func (s *Service) Metrics() []Datum {
	s.metrics.mu.Lock()
	defer s.metrics.mu.Unlock()
	return slices.Clone(s.metrics.data)
}

// wrote processes a line that a function wrote.
func (s *Service) wrote(f *function, line string) {
	f.log.add(line)
	s.config.Logger.Info(line, "function", f.config.Name)
	data, err := embedded(line)
	if err != nil {
		// CloudWatch ignores such lines and counts them as EMFValidationErrors.
		s.config.Logger.Warn("a line in the embedded metric format is not valid", "function", f.config.Name, "error", err)
		return
	}
	for i := range data {
		data[i].Function = f.config.Name
	}
	s.metrics.add(data)
}

// Output returns the standard output of a function that runs in this process.
// Each Write must contain whole lines. function is a name or an ARN.
func (s *Service) Output(function string) io.Writer { return output{s, function} }

type output struct {
	service  *Service
	function string
}

func (o output) Write(p []byte) (int, error) {
	f, err := o.service.find(o.function, o.service.config.Default)
	if err != nil {
		return 0, err
	}
	for line := range strings.SplitSeq(strings.TrimSuffix(string(p), "\n"), "\n") {
		o.service.wrote(f, line)
	}
	return len(p), nil
}

// embedded parses a line in the embedded metric format
// (https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html);
// any other line has no figures.
func embedded(line string) ([]Datum, error) {
	if !strings.HasPrefix(line, "{") || !strings.Contains(line, `"_aws"`) {
		return nil, nil
	}
	var root map[string]json.RawMessage
	if err := json.Unmarshal([]byte(line), &root); err != nil {
		return nil, err
	}
	var meta struct {
		Timestamp         *int64
		CloudWatchMetrics []struct {
			Namespace  string
			Dimensions [][]string
			Metrics    []struct{ Name, Unit string }
		}
	}
	if err := json.Unmarshal(root["_aws"], &meta); err != nil {
		return nil, fmt.Errorf("_aws: %w", err)
	}
	if meta.Timestamp == nil {
		return nil, fmt.Errorf("_aws has no Timestamp")
	}
	var all []Datum
	for _, d := range meta.CloudWatchMetrics {
		if d.Namespace == "" || len(d.Dimensions) == 0 || len(d.Metrics) > 100 {
			return nil, fmt.Errorf("a directive needs a Namespace, Dimensions and at most 100 Metrics; it has %q, %d and %d", d.Namespace, len(d.Dimensions), len(d.Metrics))
		}
		for _, set := range d.Dimensions {
			dimensions, err := target(root, set)
			if err != nil {
				return nil, err
			}
			for _, m := range d.Metrics {
				values, err := numbers(root[m.Name])
				if err != nil {
					return nil, fmt.Errorf("metric %q: %w", m.Name, err)
				}
				for _, v := range values {
					all = append(all, Datum{
						Namespace: d.Namespace, Name: m.Name, Unit: orDefault(m.Unit, "None"), Dimensions: dimensions,
						Value: v, At: time.UnixMilli(*meta.Timestamp).UTC(),
					})
				}
			}
		}
	}
	return all, nil
}

// target returns the values of a set of dimensions.
func target(root map[string]json.RawMessage, set []string) (map[string]string, error) {
	if len(set) > 30 {
		return nil, fmt.Errorf("%d dimensions; a metric has at most 30", len(set))
	}
	values := map[string]string{}
	for _, name := range set {
		var v string
		if err := json.Unmarshal(root[name], &v); err != nil || v == "" {
			return nil, fmt.Errorf("the dimension %q is not a text at the root", name)
		}
		values[name] = v
	}
	return values, nil
}

// numbers returns a metric's figures: a number, or a list of at most 100.
func numbers(raw json.RawMessage) ([]float64, error) {
	var one float64
	if json.Unmarshal(raw, &one) == nil {
		return []float64{one}, nil
	}
	var list []float64
	if err := json.Unmarshal(raw, &list); err != nil || len(list) == 0 || len(list) > 100 {
		return nil, fmt.Errorf("it is not a number or a list of at most 100 numbers at the root: %.100s", raw)
	}
	return list, nil
}
