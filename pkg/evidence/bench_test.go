package evidence_test

import (
	"bytes"
	"fmt"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/evidence"
)

// large is a report of 1,000 controls and 900 vulnerable packages.
func large() evidence.Report {
	r := vulnerable()
	r.Compliance.Results, r.Vulnerabilities.Findings = nil, nil
	for i := range 1000 {
		status := "pass"
		if i%10 == 0 {
			status = "fail"
		}
		r.Compliance.Results = append(r.Compliance.Results, result(fmt.Sprintf("BIG-%04d", i), "medium", status, "A control with a title of ordinary length", "kernel-param net.ipv4.conf.all.send_redirects value = 0", "1"))
	}
	for i := range 900 {
		r.Vulnerabilities.Findings = append(r.Vulnerabilities.Findings, evidence.Vulnerability{
			ID: fmt.Sprintf("CVE-2026-%05d", i), Package: fmt.Sprintf("package-%d", i), Installed: "1.0-1", Fixed: "1.0-2", Severity: "medium", Status: evidence.VulnerabilityOpen,
		})
	}
	return r
}

func BenchmarkReportOf1000ControlsAnd900Packages(b *testing.B) {
	r := large()
	for name, write := range map[string]func(*bytes.Buffer) error{
		"html":  func(w *bytes.Buffer) error { return r.WriteHTML(w) },
		"junit": func(w *bytes.Buffer) error { return r.WriteJUnit(w) },
		"json": func(w *bytes.Buffer) error {
			raw, err := r.JSON()
			w.Write(raw)
			return err
		},
		"asff": func(w *bytes.Buffer) error {
			findings, err := r.ASFF(nil)
			if err != nil {
				return err
			}
			batches, err := evidence.BatchASFF(findings)
			fmt.Fprint(w, len(batches))
			return err
		},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var size int
			for b.Loop() {
				var out bytes.Buffer
				require.NoError(b, write(&out))
				size = out.Len()
			}
			b.ReportMetric(float64(size), "bytes")
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			b.ReportMetric(float64(m.HeapSys)/(1<<20), "MiB-heap")
		})
	}
}
