package stage

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/ami"
	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/evidence/inventory"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/localcloud/authz"
	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/ebs"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/plan"
	"github.com/ami-factory/ami-factory/pkg/program"
	offline "github.com/ami-factory/ami-factory/pkg/snapshot"
	"github.com/ami-factory/ami-factory/pkg/store"
)

// engines is a deployment with a check engine for x86_64.
func engines() program.Engines {
	return program.Engines{"x86_64": {Key: "tools/goss-v0.4.10-amd64", SHA256: "g055", Version: "v0.4.10"}}
}

func settings() Settings {
	return Settings{Region: home, Engines: engines(), Guests: "vm qemu 7.2.22", TopicARN: "arn:topic"}
}

func TestRunCompliance(t *testing.T) {
	s, m := newS3(t), newSSM()
	r := RunCompliance{Settings: settings(), Store: s.store(), SSM: m, Files: fstest.MapFS{checksScript: {Data: []byte("#!/bin/sh\nrun\n")}, inventoryScript: {Data: []byte("#!/bin/sh\nlist it's\n")}}}
	in := ComplianceInput{Job: job(t, s, "RunCompliance", testPlan()), ImageID: "ami-new", InstanceID: "i-2"}
	out, err := r.Run(t.Context(), in)
	require.NoError(t, err)
	assert.Equal(t, "c-1", out.CommandID)

	sum := store.Digest(testPlan().Checks)
	assert.Equal(t, testPlan().Checks, s.get("checks/"+sum+".yaml"))
	require.Len(t, m.sent, 1)
	assert.Equal(t, "export GOSS_URL='https://get.example/tools/goss-v0.4.10-amd64?sig=ab&x=1'\n"+
		"export GOSS_SHA256='g055'\n"+
		"export CHECKS_URL='https://get.example/checks/"+sum+".yaml?sig=ab&x=1'\n"+
		"export CHECKS_SHA256='"+sum+"'\n"+
		"export RESULTS_PUT_URL='https://put.example/executions/run/results.json.gz?once=x'\n"+
		"export INVENTORY_PUT_URL='https://put.example/executions/run/inventory-raw.txt.gz?once=x'\n"+
		"export INVENTORY_SCRIPT='#!/bin/sh\nlist it'\\''s'\n"+
		"export INVENTORY_SECONDS='880'\n"+
		"#!/bin/sh\nrun\n", strings.Join(m.sent[0].Parameters["commands"], "\n"))
	assert.Equal(t, []string{"900"}, m.sent[0].Parameters["executionTimeout"])

	again, err := r.Run(t.Context(), in)
	require.NoError(t, err)
	assert.Equal(t, out, again)
	assert.Len(t, m.sent, 1, "a second attempt finds the first one's command")
}

func TestTheCheckEngineMayLieInABucketOfItsOwn(t *testing.T) {
	s, m := newS3(t), newSSM()
	presigned := map[string]string{} // bucket by key
	signing := s.store()
	signing.Presign = presignRecorder{s, presigned}
	r := RunCompliance{Settings: settings(), Store: signing, SSM: m, Files: fstest.MapFS{checksScript: {Data: []byte("x")}, inventoryScript: {Data: []byte("x")}}}
	r.Settings.Engines = program.Engines{"x86_64": {Bucket: "assets", Key: "tools/goss-v0.4.10-amd64", SHA256: "g055"}}
	_, err := r.Run(t.Context(), ComplianceInput{Job: job(t, s, "RunCompliance", testPlan()), ImageID: "ami-new", InstanceID: "i-2"})
	require.NoError(t, err)
	assert.Equal(t, map[string]string{
		"tools/goss-v0.4.10-amd64":                                   "assets",
		"checks/" + store.Digest(testPlan().Checks) + ".yaml":        bucket,
		executionKey(Execution{Name: "run"}, "results.json.gz"):      bucket,
		executionKey(Execution{Name: "run"}, "inventory-raw.txt.gz"): bucket,
	}, presigned)
}

// presignRecorder notes in which bucket a presigned key is.
type presignRecorder struct {
	*fakeS3
	buckets map[string]string
}

func (p presignRecorder) PresignGetObject(ctx context.Context, in *s3.GetObjectInput, o ...func(*s3.PresignOptions)) (*v4.PresignedHTTPRequest, error) {
	p.buckets[*in.Key] = *in.Bucket
	return p.fakeS3.PresignGetObject(ctx, in, o...)
}

func (p presignRecorder) PresignPutObject(ctx context.Context, in *s3.PutObjectInput, o ...func(*s3.PresignOptions)) (*v4.PresignedHTTPRequest, error) {
	p.buckets[*in.Key] = *in.Bucket
	return p.fakeS3.PresignPutObject(ctx, in, o...)
}

func TestRunComplianceFails(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*RunCompliance, *fakeS3, *fakeSSM)
		want   failure.Code
	}{
		"no engine is deployed": {func(r *RunCompliance, _ *fakeS3, _ *fakeSSM) {
			r.Settings.Engines = program.Engines{"arm64": {Key: "k", SHA256: "g055"}}
		}, failure.ComplianceFailed},
		"the script is missing": {func(r *RunCompliance, _ *fakeS3, _ *fakeSSM) { r.Files = fstest.MapFS{} }, failure.Internal},
		"SSM refuses": {func(_ *RunCompliance, _ *fakeS3, m *fakeSSM) {
			m.faults["SendCommand"] = []error{awsErr("InvalidInstanceId")}
		}, failure.ComplianceFailed},
		"SSM throttles": {func(_ *RunCompliance, _ *fakeS3, m *fakeSSM) {
			m.faults["ListCommands"] = []error{awsErr("ThrottlingException")}
		}, failure.Throttled},
		"the checks cannot be stored": {func(_ *RunCompliance, s *fakeS3, _ *fakeSSM) { s.faults["PutObject"] = []error{awsErr("AccessDenied")} }, failure.AccessDenied},
		"nothing can be presigned":    {func(_ *RunCompliance, s *fakeS3, _ *fakeSSM) { s.faults["Presign"] = []error{awsErr("ExpiredToken")} }, failure.ServiceUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			s, m := newS3(t), newSSM()
			r := RunCompliance{Settings: settings(), Store: s.store(), SSM: m, Files: fstest.MapFS{checksScript: {Data: []byte("x")}, inventoryScript: {Data: []byte("x")}}}
			in := ComplianceInput{Job: job(t, s, "RunCompliance", testPlan()), ImageID: "ami-new", InstanceID: "i-2"}
			c.change(&r, s, m)
			_, err := r.Run(t.Context(), in)
			requireCode(t, c.want, err)
		})
	}
}

func TestQuoting(t *testing.T) {
	assert.Equal(t, `'a'\''b'`, shellQuote("a'b"))
}

// checkedPlan has one control, on one kernel parameter.
func checkedPlan(t *testing.T) plan.BuildPlan {
	t.Helper()
	p := testPlan()
	var err error
	p.Checks, p.Controls, err = compliance.Compile([]compliance.Set{{Component: "hardening", Specs: []compliance.Spec{{
		ID: "SYS-02", Title: "Do not send ICMP redirects", Severity: "medium",
		Goss: compliance.Goss{"kernel-param": {"net.ipv4.conf.all.send_redirects": {"value": "0"}}},
	}}}})
	require.NoError(t, err)
	return p
}

func gossSays(p plan.BuildPlan, found string) string {
	ok, outcome, failed := found == "0", 1, 1
	if ok {
		outcome, failed = 0, 0
	}
	raw, err := json.Marshal(map[string]any{
		"results": []any{map[string]any{
			"resource-id": p.Controls[0].Resources[0].ID, "resource-type": "KernelParam", "property": "value",
			"successful": ok, "result": outcome, "skipped": false, "err": nil,
			"start-time": start, "end-time": start,
			"matcher-result": map[string]any{"actual": found, "expected": []string{"0"}, "message": "to equal"},
		}},
		"summary": map[string]any{"test-count": 1, "failed-count": failed, "skipped-count": 0},
	})
	if err != nil {
		panic(err)
	}
	return string(raw)
}

func zipped(s string) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write([]byte(s))
	_ = z.Close()
	return b.Bytes()
}

type complianceCase struct {
	answer   *ssm.GetCommandInvocationOutput // nil: as run-checks.sh does
	uploaded []byte                          // nil: nothing
	listed   []byte                          // the inventory; nil: a simulated guest's
	silent   bool                            // no inventory is uploaded
	change   func(*fakeS3, *fakeSSM)
	images   ec2.DescribeImagesAPIClient // nil: no rule asks for one
	blocks   ami.BlocksAPI
}

func (c complianceCase) run(t *testing.T, p plan.BuildPlan) (CheckComplianceOutput, *fakeS3, error) {
	t.Helper()
	s, m := newS3(t), newSSM()
	in := ComplianceInput{Job: job(t, s, "EvaluateGate", p), ImageID: "ami-new", InstanceID: "i-2", CommandID: "c-1"}
	if c.uploaded != nil {
		s.put("executions/run/results.json.gz", c.uploaded)
	}
	listed := c.listed
	if listed == nil {
		listed = zipped(string(inventory.Simulated()))
	}
	if !c.silent {
		s.put("executions/run/inventory-raw.txt.gz", listed)
	}
	m.invocation = c.answer
	if c.answer == nil {
		m.invocation = answered("Success", 0, "noise\n"+`{"sha256":"`+store.Digest(c.uploaded)+`","bytes":1,"gossExit":0,"inventory":{"sha256":"`+store.Digest(listed)+`","bytes":1}}`+"\n", "")
	}
	if c.change != nil {
		c.change(s, m)
	}
	out, err := CheckCompliance{Settings: settings(), Store: s.store(), SSM: m, EC2: c.images, EBS: c.blocks}.Run(t.Context(), in)
	return out, s, err
}

func TestImageThatPasses(t *testing.T) {
	p := checkedPlan(t)
	out, s, err := complianceCase{uploaded: zipped(gossSays(p, "0"))}.run(t, p)
	require.NoError(t, err)
	assert.Equal(t, 1, out.Passed)
	assert.Zero(t, out.Failed)
	raw, err := s.store().Get(t.Context(), out.Results)
	require.NoError(t, err)
	var r compliance.Report
	require.NoError(t, json.Unmarshal(raw, &r))
	assert.Equal(t, compliance.Guests{Kind: "vm", Description: "qemu 7.2.22"}, r.Guests)
	assert.Equal(t, compliance.Engine{Name: "goss", Version: "v0.4.10"}, r.Results[0].Engine)
	assert.Equal(t, "s3://factory/executions/run/results.json.gz", r.Results[0].Evidence.URI)
	document := s.get("executions/run/inventory.cdx.json")
	assert.Equal(t, store.Digest(document), r.InventorySHA256)
	listed, err := inventory.Read(document)
	require.NoError(t, err)
	assert.Len(t, listed.Packages, 4)
}

func TestImageThatIsRejected(t *testing.T) {
	p := checkedPlan(t)
	_, s, err := complianceCase{uploaded: zipped(gossSays(p, "1"))}.run(t, p)
	requireCode(t, failure.ComplianceRejected, err)
	for _, text := range []string{"SYS-02", "Do not send ICMP redirects", "medium"} {
		assert.Contains(t, err.Error(), text)
	}
	assert.Contains(t, string(s.get("executions/run/compliance.json")), "rejected", "the results of a rejected image are kept too")
}

func TestCheckComplianceFails(t *testing.T) {
	p := checkedPlan(t)
	good := zipped(gossSays(p, "0"))
	for name, c := range map[string]struct {
		complianceCase
		want  failure.Code
		tells string
	}{
		"the checks are running":      {complianceCase{answer: answered("InProgress", -1, "", "")}, failure.ComplianceNotReady, ""},
		"the script fails":            {complianceCase{answer: answered("Failed", 1, "", "run-checks: cannot download goss")}, failure.ComplianceFailed, "cannot download goss"},
		"the script times out":        {complianceCase{answer: answered("TimedOut", -1, "", "")}, failure.ComplianceFailed, "TimedOut"},
		"the script says nothing":     {complianceCase{answer: answered("Success", 0, "", "")}, failure.ComplianceFailed, "did not end with the digest"},
		"the results are missing":     {complianceCase{}, failure.ComplianceFailed, "not there"},
		"the results were altered":    {complianceCase{uploaded: good, change: func(s *fakeS3, _ *fakeSSM) { s.put("executions/run/results.json.gz", zipped("{}")) }}, failure.ComplianceFailed, "altered"},
		"the results are not packed":  {complianceCase{uploaded: []byte("plain")}, failure.ComplianceFailed, "unpack"},
		"the results are cut off":     {complianceCase{uploaded: good[:len(good)-9]}, failure.ComplianceFailed, "unpack"},
		"the results are too large":   {complianceCase{uploaded: make([]byte, compliance.MaxOutput+1)}, failure.ComplianceFailed, "are read"},
		"no inventory is announced":   {complianceCase{uploaded: good, answer: answered("Success", 0, `{"sha256":"`+store.Digest(good)+`","bytes":1,"gossExit":0}`, "")}, failure.ComplianceFailed, "without the digest of an inventory"},
		"the inventory is missing":    {complianceCase{uploaded: good, silent: true}, failure.ComplianceFailed, "its inventory, but it is not there"},
		"the inventory was altered":   {complianceCase{uploaded: good, change: func(s *fakeS3, _ *fakeSSM) { s.put("executions/run/inventory-raw.txt.gz", zipped("x")) }}, failure.ComplianceFailed, "altered on the way"},
		"the inventory is too large":  {complianceCase{uploaded: good, listed: make([]byte, inventory.MaxPacked+1)}, failure.ComplianceFailed, "are read"},
		"the inventory is nonsense":   {complianceCase{uploaded: good, listed: zipped("hello\x1b[2J\n")}, failure.ComplianceFailed, `line 1 of the inventory is "hello<U+001B>[2J"`},
		"the inventory is not packed": {complianceCase{uploaded: good, listed: []byte("plain")}, failure.ComplianceFailed, "unpack the inventory"},
		"the inventory is cut off":    {complianceCase{uploaded: good, listed: zipped(strings.TrimSuffix(string(inventory.Simulated()), "end\n"))}, failure.ComplianceFailed, "cut off"},
		"nothing was evaluated":       {complianceCase{uploaded: zipped(`{"results":[],"summary":{"test-count":0,"failed-count":0,"skipped-count":0}}`)}, failure.ComplianceFailed, "nothing is proved"},
		"SSM throttles":               {complianceCase{uploaded: good, change: func(_ *fakeS3, m *fakeSSM) { m.faults["GetCommandInvocation"] = []error{awsErr("ThrottlingException")} }}, failure.Throttled, ""},
		"the report cannot be stored": {complianceCase{uploaded: good, change: func(s *fakeS3, _ *fakeSSM) { s.faults["PutObject"] = []error{awsErr("AccessDenied")} }}, failure.AccessDenied, ""},
		"S3 has trouble with the answer": {complianceCase{uploaded: good, change: func(s *fakeS3, _ *fakeSSM) {
			body := s.get("plans/p.json")
			s.faults["GetObject"] = []error{nil, awsErr("InternalError")}
			s.put("plans/p.json", body)
		}}, failure.ServiceUnavailable, ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := c.run(t, p)
			requireCode(t, c.want, err)
			assert.Contains(t, err.Error(), c.tells)
		})
	}
}

// rootImage is what EC2 says of the image.
type rootImage struct {
	snapshot string
	err      error
}

func (f rootImage) DescribeImages(context.Context, *ec2.DescribeImagesInput, ...func(*ec2.Options)) (*ec2.DescribeImagesOutput, error) {
	if f.err != nil {
		return nil, f.err
	}
	return &ec2.DescribeImagesOutput{Images: []ec2types.Image{{
		ImageId: aws.String("ami-new"), RootDeviceName: aws.String("/dev/xvda"),
		BlockDeviceMappings: []ec2types.BlockDeviceMapping{
			{DeviceName: aws.String("/dev/xvdb"), Ebs: &ec2types.EbsBlockDevice{SnapshotId: aws.String("snap-other")}},
			{DeviceName: aws.String("/dev/xvda"), Ebs: &ec2types.EbsBlockDevice{SnapshotId: aws.String(f.snapshot)}},
		},
	}}}, nil
}

// fileSnapshots is the embedded EBS over one file.
type fileSnapshots struct {
	file string
	err  error
}

func (f fileSnapshots) FindSnapshot(_ wire.Caller, id string) (int32, error) {
	if id != "snap-root" {
		return 0, wire.Errorf("InvalidSnapshot.NotFound", "The snapshot '%s' does not exist.", id)
	}
	return 1, f.err
}

func (f fileSnapshots) OpenSnapshot(context.Context, wire.Caller, string) (vm.Disk, error) {
	return vm.OpenRaw(f.file, false)
}

func (fileSnapshots) ReadingSnapshot(authz.Call, string, string, bool) []authz.Request { return nil }

// image makes an ext4 file system of files.
func ext4Of(t *testing.T, files map[string]string) string {
	t.Helper()
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "disk")
	for name, text := range files {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	tool, err := exec.LookPath("mke2fs")
	if err != nil {
		tool = "/usr/sbin/mke2fs"
	}
	out, err := exec.Command(tool, "-q", "-t", "ext4", "-d", dir, file, "8M").CombinedOutput()
	require.NoError(t, err, string(out))
	return file
}

// The engine inside of the image says that all is well, each time.
func TestAnImageCannotForgeWhatItsSnapshotSays(t *testing.T) {
	p := checkedPlan(t)
	p.Controls[0].Severity = "critical"
	p.Controls[0].Snapshot = []offline.Rule{{Present: []string{"/etc/sealed"}, Absent: []string{"~/.ssh/**"}}}
	sealed := map[string]string{"etc/passwd": "root:x:0:0::/root:/bin/sh\n", "etc/sealed": "x"}
	with := func(name, text string) map[string]string {
		out := maps.Clone(sealed)
		out[name] = text
		return out
	}
	for sentence, tc := range map[string]struct {
		files  map[string]string
		image  rootImage
		blocks fileSnapshots
		want   failure.Code // empty: it passes
		tells  []string
	}{
		"nothing is wrong":               {files: sealed},
		"a key was put back":             {files: with("root/.ssh/authorized_keys", "k"), want: failure.ComplianceRejected, tells: []string{"SYS-02 (critical)", "on the snapshot: ~/.ssh/** absent", "/root/.ssh/authorized_keys"}},
		"there is no system on the disk": {files: map[string]string{"x": ""}, want: failure.ComplianceRejected, tells: []string{"on the snapshot", "no file system of the disk has an /etc/passwd"}},
		"EC2 does not know the image":    {files: sealed, image: rootImage{err: awsErr("AccessDenied")}, want: failure.AccessDenied},
		"the snapshot is gone":           {files: sealed, image: rootImage{snapshot: "snap-gone"}, want: failure.ComplianceFailed, tells: []string{"read the snapshot of ami-new"}},
		"EBS throttles":                  {files: sealed, blocks: fileSnapshots{err: awsErr("ThrottlingException")}, want: failure.ComplianceFailed},
	} {
		t.Run(sentence, func(t *testing.T) {
			if tc.image == (rootImage{}) {
				tc.image.snapshot = "snap-root"
			}
			tc.blocks.file = ext4Of(t, tc.files)
			service := ebs.New(clock.NewReal(), wire.Caller{Account: "111122223333", Region: "eu-west-1"}, tc.blocks)
			t.Cleanup(func() { assert.NoError(t, service.Close()) })
			out, s, err := complianceCase{uploaded: zipped(gossSays(p, "0")), images: tc.image, blocks: service}.run(t, p)
			if tc.want == "" {
				require.NoError(t, err)
				assert.Equal(t, 1, out.Passed)
				assert.Contains(t, string(s.get("executions/run/compliance.json")), "on the snapshot: /etc/sealed present")
				return
			}
			requireCode(t, tc.want, err)
			for _, text := range tc.tells {
				assert.Contains(t, err.Error(), text)
			}
		})
	}
}

func TestTheSnapshotIsReadWhileTheChecksRun(t *testing.T) {
	p := checkedPlan(t)
	p.Controls[0].Snapshot = []offline.Rule{{Present: []string{"/etc/sealed"}}}
	file := ext4Of(t, map[string]string{"etc/passwd": "root:x:0:0::/root:/bin/sh\n", "etc/sealed": "x"})
	running, done := answered("InProgress", -1, "", ""), answered("Success", 0, `{"sha256":"`+store.Digest(zipped(gossSays(p, "0")))+`","inventory":{"sha256":"`+store.Digest(zipped(string(inventory.Simulated())))+`"}}`, "")
	for sentence, tc := range map[string]struct {
		first  error // of EBS, while the checks run
		later  error // of EBS, when they have ended
		change func(*fakeS3)
		want   failure.Code // empty: it passes
	}{
		"so that the gate does not read it again": {later: awsErr("AccessDenied")},
		"and again by the gate where that failed": {first: awsErr("AccessDenied")},
		"and again by the gate where the record is gone": {change: func(s *fakeS3) {
			_, err := s.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: aws.String(bucket), Key: aws.String("executions/run/snapshot.json")})
			require.NoError(t, err)
		}},
		"and again by the gate where it is nonsense":       {change: func(s *fakeS3) { s.put("executions/run/snapshot.json", []byte("{")) }},
		"a record without findings is not used":            {later: awsErr("AccessDenied"), change: edit(`"found"`, `"lost"`), want: failure.ComplianceFailed},
		"a record of another image is not used":            {later: awsErr("AccessDenied"), change: edit("ami-new", "ami-old"), want: failure.ComplianceFailed},
		"a record of another execution is not used":        {later: awsErr("AccessDenied"), change: edit(`arn:`, `nra:`), want: failure.ComplianceFailed},
		"a snapshot that cannot be read is no gate passed": {first: awsErr("AccessDenied"), later: awsErr("AccessDenied"), want: failure.ComplianceFailed},
	} {
		t.Run(sentence, func(t *testing.T) {
			s, m := newS3(t), newSSM()
			in := ComplianceInput{Job: job(t, s, "EvaluateGate", p), ImageID: "ami-new", InstanceID: "i-2", CommandID: "c-1"}
			s.put("executions/run/inventory-raw.txt.gz", zipped(string(inventory.Simulated())))
			look := func(err error, answer *ssm.GetCommandInvocationOutput) error {
				service := ebs.New(clock.NewReal(), wire.Caller{Account: "111122223333", Region: "eu-west-1"}, fileSnapshots{file: file, err: err})
				defer func() { assert.NoError(t, service.Close()) }()
				m.invocation = answer
				_, err = CheckCompliance{Settings: settings(), Store: s.store(), SSM: m, EC2: rootImage{snapshot: "snap-root"}, EBS: service}.Run(t.Context(), in)
				return err
			}
			requireCode(t, failure.ComplianceNotReady, look(tc.first, running))
			if tc.change != nil {
				tc.change(s)
			}
			s.put("executions/run/results.json.gz", zipped(gossSays(p, "0")))
			if err := look(tc.later, done); tc.want != "" {
				requireCode(t, tc.want, err)
			} else {
				require.NoError(t, err)
				assert.Contains(t, string(s.get("executions/run/compliance.json")), "on the snapshot: /etc/sealed present")
			}
		})
	}
}

// edit changes the record of the snapshot's findings.
func edit(from, to string) func(*fakeS3) {
	return func(s *fakeS3) {
		const key = "executions/run/snapshot.json"
		s.put(key, bytes.ReplaceAll(s.get(key), []byte(from), []byte(to)))
	}
}
