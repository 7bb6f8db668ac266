package cli

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/evidence"
	"github.com/ami-factory/ami-factory/pkg/evidence/bundle"
	"github.com/ami-factory/ami-factory/pkg/evidence/inventory"
	"github.com/ami-factory/ami-factory/pkg/evidence/vulnerability"
	"github.com/ami-factory/ami-factory/pkg/execution"
	"github.com/ami-factory/ami-factory/pkg/store"
)

func TestReportsAndTheSiteOfADeployedFactory(t *testing.T) {
	f := deployedFactory(t)
	r := onAWS(t, "report", "latest", "--bucket", f.Bucket)
	assert.Equal(t, exitFailed, r.code)
	assert.Equal(t, "ami-factory: no execution has ended in the factory of s3://"+f.Bucket+"; give the name of one\n", r.err)
	empty := t.TempDir()
	r = onAWS(t, "site", "--out", empty, "--bucket", f.Bucket)
	require.Equal(t, exitOK, r.code, r.err)
	assert.Contains(t, read(t, empty, "index.html"), "No execution has ended yet.")

	r = onAWS(t, "build", "debian-12-docker", "--output", "json")
	require.Equal(t, exitOK, r.code, r.err)
	var built execution.Result
	require.NoError(t, json.Unmarshal([]byte(r.out), &built))
	t.Setenv(contract.EnvBucket, f.Bucket)

	kept := func(object string) string {
		out, err := f.Cloud.S3.GetObject(t.Context(), &s3.GetObjectInput{Bucket: &f.Bucket, Key: aws.String(contract.ExecutionKey(built.Execution, object))})
		require.NoError(t, err)
		defer func() { _ = out.Body.Close() }()
		var b strings.Builder
		buf := make([]byte, 1<<16)
		for {
			n, err := out.Body.Read(buf)
			b.Write(buf[:n])
			if err != nil {
				return b.String()
			}
		}
	}
	for _, which := range []string{"latest", built.Execution, built.Images["eu-west-1"], built.Images["eu-central-1"]} {
		r := onAWS(t, "report", which)
		require.Equal(t, exitOK, r.code, r.err)
		assert.True(t, r.out == kept(contract.PageObject), "%s: the page, byte by byte", which)
	}
	valid := map[string]func(string) error{
		"json":  func(s string) error { return json.Unmarshal([]byte(s), &evidence.Report{}) },
		"sarif": func(s string) error { return json.Unmarshal([]byte(s), &map[string]any{}) },
		"asff":  func(s string) error { return json.Unmarshal([]byte(s), &[]evidence.ASFF{}) },
		"junit": func(s string) error { return xml.Unmarshal([]byte(s), new(struct{ XMLName xml.Name })) },
		"html":  func(string) error { return nil },
	}
	dir := t.TempDir()
	for format, check := range valid {
		file := filepath.Join(dir, "report."+format)
		r := onAWS(t, "report", "latest", "--format", format, "--out", file)
		require.Equal(t, exitOK, r.code, r.err)
		assert.Equal(t, file+"\n", r.out)
		text := read(t, dir, "report."+format)
		require.NoError(t, check(text), format)
		assert.True(t, r.out != text && onAWS(t, "report", "latest", "--format", format).out == text, format)
		assert.True(t, strings.Contains(text, "FWL-01"), "%s has the waived control", format)
	}

	dir = t.TempDir()
	r = onAWS(t, "site", "--out", filepath.Join(dir, "site"), "-o", "json")
	require.Equal(t, exitOK, r.code, r.err)
	assert.JSONEq(t, `{"index":"`+filepath.Join(dir, "site", "index.html")+`","recipes":1,"missingReports":[]}`, r.out)
	page := read(t, dir, "site/index.html")
	for _, text := range []string{`href="executions/` + built.Execution + `/report.html"`, built.Images["eu-west-1"], "SIMULATED"} {
		assert.True(t, strings.Contains(page, text), text)
	}
	assert.True(t, kept(contract.PageObject) == read(t, dir, "site/executions/"+built.Execution+"/report.html"))
}

func TestAReportAsOpenVEX(t *testing.T) {
	f := deployedFactory(t)
	execution := "arn:aws:states:eu-west-1:111122223333:execution:bake:checked"
	put := func(object string, body []byte) {
		_, err := f.Cloud.S3.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &f.Bucket, Key: aws.String(contract.ExecutionKey("checked", object)), Body: bytes.NewReader(body)})
		require.NoError(t, err)
	}
	says := func() result {
		return onAWS(t, "report", "checked", "--format", "openvex", "--bucket", f.Bucket)
	}
	put(contract.ReportObject, []byte(`{}`))
	r := says()
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.err, "it has no "+contract.VulnerabilitiesObject)

	packages := inventory.Inventory{System: inventory.System{ID: "debian", Version: "12"}, Packages: []inventory.Package{
		{Type: inventory.Deb, Name: "libssl3", Version: "3.0.15-1", Arch: "amd64", Source: "openssl", SourceVersion: "3.0.15-1"},
	}}
	document, err := packages.CycloneDX(inventory.Plain)
	require.NoError(t, err)
	report := vulnerability.Report{
		Schema: vulnerability.Schema, Of: compliance.Binding{Execution: execution}, ImageID: "ami-0123456789abcdef0", InventorySHA256: store.Digest(document),
		Evaluated: time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC),
	}
	put(contract.InventoryObject, document)
	keep := func() {
		raw, err := json.Marshal(report)
		require.NoError(t, err)
		put(contract.VulnerabilitiesObject, raw)
	}
	keep()
	r = says()
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.err, vulnerability.ErrNoStatement.Error())

	report.Findings = []vulnerability.Finding{{
		ID: "CVE-2026-0001", Package: "openssl", Binaries: []string{"libssl3"}, Installed: "3.0.15-1", Severity: "high", Outcome: vulnerability.NotAffected,
		Waiver: &compliance.Waiver{FalsePositive: "vulnerable_code_not_present", Reason: "this build has no such cipher", Approver: "bob", Expires: "2026-12-24"},
	}}
	keep()
	r = says()
	require.Equal(t, exitOK, r.code, r.err)
	assert.Contains(t, r.out, `"@id": "arn:aws:ec2:eu-west-1::image/ami-0123456789abcdef0"`, "unsigned: the image that was checked")
	assert.Contains(t, r.out, `"justification": "vulnerable_code_not_present"`)
	assert.Contains(t, r.out, `"@id": "pkg:deb/debian/libssl3@3.0.15-1?`)

	put(contract.ManifestObject, bundle.Manifest{Schema: bundle.ManifestSchema, Images: []bundle.Image{
		{Region: "eu-west-1", ImageID: "ami-0123456789abcdef0"}, {Region: "eu-central-1", ImageID: "ami-0123456789abcdef1"},
	}}.Encode())
	signed := says()
	require.Equal(t, exitOK, signed.code, signed.err)
	assert.Contains(t, signed.out, `"@id": "arn:aws:ec2:eu-central-1::image/ami-0123456789abcdef1"`, "signed: the images of all regions")
	assert.Equal(t, signed.out, says().out)

	put(contract.InventoryObject, append(document, '\n'))
	r = says()
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.err, "is not the one in which vulnerabilities were found")
}

func read(t *testing.T, dir, name string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
	require.NoError(t, err)
	return string(raw)
}

func TestAReportThatCannotBeHadIsAnErrorThatSaysWhy(t *testing.T) {
	f := deployedFactory(t)
	put := func(key, body string) {
		_, err := f.Cloud.S3.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &f.Bucket, Key: &key, Body: strings.NewReader(body)})
		require.NoError(t, err)
	}
	put(contract.ExecutionKey("runs", contract.ClaimObject), "{}")
	put(contract.ExecutionKey("strange", contract.ReportObject), `{"schema":"ami-factory/execution-report/9"}`)
	put(contract.ExecutionKey("unchecked", contract.ReportObject), `{"schema":"`+evidence.Schema+`","status":"FailedClean"}`)
	for sentence, tc := range map[string]struct {
		args []string
		code int
		says string
	}{
		"an unknown format":          {[]string{"latest", "--format", "sarf"}, exitUsage, `--format is "sarf" (allowed: html, json, sarif, junit, asff, openvex, cyclonedx); did you mean sarif?`},
		"no name of an execution":    {[]string{"a b"}, exitUsage, `"a b" names no execution, no image and is not "latest"`},
		"a wrong image id":           {[]string{"ami-x"}, exitUsage, `"ami-x" is not an AMI id`},
		"an unknown image":           {[]string{"ami-0123456789abcdef0"}, exitFailed, "there is no image ami-0123456789abcdef0"},
		"an unknown execution":       {[]string{"none"}, exitFailed, "there is no execution none in the factory of s3://" + f.Bucket},
		"one that has not ended":     {[]string{"runs"}, exitFailed, "it has no report.html: it has not ended yet"},
		"a report of another schema": {[]string{"strange", "--format", "junit"}, exitFailed, `the report of strange is not an ami-factory/execution-report/1: its schema is "ami-factory/execution-report/9"`},
		"findings without checks":    {[]string{"unchecked", "--format", "sarif"}, exitFailed, "the execution ended before any control was checked"},
		"two factories":              {[]string{"latest", "--state", "x"}, exitUsage, "--bucket names a deployed factory, and --state and --guests a state folder"},
	} {
		t.Run(sentence, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "out")
			r := onAWS(t, append([]string{"report", "--bucket", f.Bucket, "--out", file}, tc.args...)...)
			assert.Equal(t, tc.code, r.code)
			assert.Contains(t, r.err, tc.says)
			assert.Empty(t, r.out)
			assert.NoFileExists(t, file)
		})
	}
	r := onAWS(t, "report", "latest")
	assert.Equal(t, exitUsage, r.code)
	assert.Contains(t, r.err, "the factory's bucket is not known: give --bucket or set AMI_FACTORY_BUCKET")
	r = onAWS(t, "site", "--bucket", f.Bucket)
	assert.Equal(t, exitUsage, r.code)
	assert.Contains(t, r.err, "give --out, the folder to write to")
}
