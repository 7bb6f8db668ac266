package compliance

import "github.com/ami-factory/ami-factory/pkg/failure"

// Judge makes a report of what the factory checked itself, without an engine in a guest:
// properties holds what was compared for each control. A control without properties has
// failed, and so has the image if there is no control at all. Gate and waivers apply as
// they do in Evaluate; in.Results is the evidence that the results name by its digest.
func Judge(in Input, properties map[string][]PropertyResult) (Report, error) {
	if len(in.Controls) == 0 {
		return Report{}, failure.New(failure.ComplianceFailed, "there is no control, so nothing can be proved")
	}
	e := evaluator{in: in, sum: digest(in.Results)}
	report := e.report()
	for _, c := range in.Controls {
		r := e.result(c)
		r.Properties = properties[c.ID]
		r.Started, r.Ended = in.Now.UTC(), in.Now.UTC()
		r.conclude()
		report.Results = append(report.Results, r)
	}
	e.decide(&report)
	return report, nil
}
