package stage

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	ssmtypes "github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/ami"
	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	s3door "github.com/ami-factory/ami-factory/pkg/localcloud/s3"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/plan"
	"github.com/ami-factory/ami-factory/pkg/recipe"
	"github.com/ami-factory/ami-factory/pkg/store"
)

// The fakes below hold just enough state to tell a stage's effects, and fail on
// demand with AWS's own codes.

const (
	factory = "111122223333"
	home    = "eu-west-1"
	remote  = "eu-central-1"
	bucket  = "factory"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func awsErr(code string) error {
	return &smithy.GenericAPIError{Code: code, Message: "said AWS", Fault: smithy.FaultClient}
}

// faults are errors by operation, used up in order; the last one stays.
type faults map[string][]error

func (f faults) next(op string) error {
	list := f[op]
	if len(list) == 0 {
		return nil
	}
	if len(list) > 1 {
		f[op] = list[1:]
	}
	return list[0]
}

// fakeS3 is the embedded S3 with the factory's bucket. It fails on demand, and what
// it presigns does not differ from run to run.
type fakeS3 struct {
	*s3door.Service
	faults
	cache store.Cache // as a function has one
}

func newS3(t testing.TB) *fakeS3 {
	t.Helper()
	service, err := s3door.New(s3door.Config{Clock: clock.NewVirtual(start), Default: wire.Caller{Account: factory, Region: home}, Dir: t.TempDir()})
	require.NoError(t, err)
	_, err = service.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String(bucket)})
	require.NoError(t, err)
	return &fakeS3{Service: service, faults: faults{}}
}

func (f *fakeS3) GetObject(ctx context.Context, in *s3.GetObjectInput, opts ...func(*s3.Options)) (*s3.GetObjectOutput, error) {
	if err := f.next("GetObject"); err != nil {
		return nil, err
	}
	return f.Service.GetObject(ctx, in, opts...)
}

func (f *fakeS3) PutObject(ctx context.Context, in *s3.PutObjectInput, opts ...func(*s3.Options)) (*s3.PutObjectOutput, error) {
	if err := f.next("PutObject"); err != nil {
		return nil, err
	}
	return f.Service.PutObject(ctx, in, opts...)
}

// get is an object's content; nil when there is none.
func (f *fakeS3) get(key string) []byte {
	body, err := store.Store{Bucket: bucket, API: f.Service}.Read(context.Background(), key)
	if errors.Is(err, store.ErrNone) {
		return nil
	}
	if err != nil {
		panic(err) // it is this process's own
	}
	return body
}

// put stores an object as somebody else does.
func (f *fakeS3) put(key string, body []byte) {
	if err := f.Service.Put(context.Background(), bucket, key, "", bytes.NewReader(body)); err != nil {
		panic(err)
	}
}

func (f *fakeS3) PresignGetObject(_ context.Context, in *s3.GetObjectInput, _ ...func(*s3.PresignOptions)) (*v4.PresignedHTTPRequest, error) {
	return &v4.PresignedHTTPRequest{URL: "https://get.example/" + *in.Key + "?sig=ab&x=1"}, f.next("Presign")
}

func (f *fakeS3) PresignPutObject(_ context.Context, in *s3.PutObjectInput, _ ...func(*s3.PresignOptions)) (*v4.PresignedHTTPRequest, error) {
	query := "" // it takes any number of uploads
	if aws.ToString(in.IfNoneMatch) == "*" {
		query = "?once=x"
	}
	return &v4.PresignedHTTPRequest{URL: "https://put.example/" + *in.Key + query}, f.next("Presign")
}

func (f *fakeS3) store() store.Store {
	return store.Store{Bucket: bucket, API: f, Presign: f, Cache: &f.cache}
}

func (f *fakeS3) directory() store.Directory { return store.Directory{Bucket: bucket, API: f} }

// fakeEC2 is one region of EC2.
type fakeEC2 struct {
	faults
	region     string
	instances  []types.Instance
	images     []types.Image
	older      []types.Image // of earlier executions; found by their ids only
	snapshots  []types.Snapshot
	templates  map[string]string // image by id of a launch template
	audience   map[string][]types.LaunchPermission
	deprecated map[string]time.Time
	userData   map[string]string // by instance, base64
	ran        []*ec2.RunInstancesInput
	terminated []string
}

func newEC2(region string) *fakeEC2 {
	return &fakeEC2{faults: faults{}, region: region, audience: map[string][]types.LaunchPermission{}, deprecated: map[string]time.Time{}}
}

func matches(filters []types.Filter, value func(name string) string) bool {
	for _, f := range filters {
		if !slices.Contains(f.Values, value(*f.Name)) {
			return false
		}
	}
	return true
}

func (f *fakeEC2) DescribeInstances(_ context.Context, in *ec2.DescribeInstancesInput, _ ...func(*ec2.Options)) (*ec2.DescribeInstancesOutput, error) {
	if err := f.next("DescribeInstances"); err != nil {
		return nil, err
	}
	var found []types.Instance
	for _, i := range f.instances {
		byID := len(in.InstanceIds) == 0 || slices.Contains(in.InstanceIds, *i.InstanceId)
		if byID && matches(in.Filters, func(name string) string {
			switch name {
			case "instance-state-name":
				return string(i.State.Name)
			case "client-token":
				return aws.ToString(i.ClientToken)
			case "image-id":
				return aws.ToString(i.ImageId)
			default:
				return ami.TagValue(i.Tags, strings.TrimPrefix(name, "tag:"))
			}
		}) {
			found = append(found, i)
		}
	}
	if len(in.InstanceIds) > 0 && len(found) == 0 {
		return nil, awsErr("InvalidInstanceID.NotFound")
	}
	return &ec2.DescribeInstancesOutput{Reservations: []types.Reservation{{Instances: found}}}, nil
}

// DescribeImageReferences serves the instances in the states that are asked for,
// and the templates.
func (f *fakeEC2) DescribeImageReferences(_ context.Context, in *ec2.DescribeImageReferencesInput, _ ...func(*ec2.Options)) (*ec2.DescribeImageReferencesOutput, error) {
	if err := f.next("DescribeImageReferences"); err != nil {
		return nil, err
	}
	out := &ec2.DescribeImageReferencesOutput{}
	add := func(image, arn string) {
		if slices.Contains(in.ImageIds, image) {
			out.ImageReferences = append(out.ImageReferences, types.ImageReference{ImageId: &image, Arn: aws.String("arn:aws:ec2:" + f.region + ":111122223333:" + arn)})
		}
	}
	for _, r := range in.ResourceTypes {
		for _, i := range f.instances {
			if r.ResourceType == types.ImageReferenceResourceTypeEc2Instance && slices.Contains(r.ResourceTypeOptions[0].OptionValues, string(i.State.Name)) {
				add(aws.ToString(i.ImageId), "instance/"+*i.InstanceId)
			}
		}
		for id, image := range f.templates {
			if r.ResourceType == types.ImageReferenceResourceTypeEc2LaunchTemplate {
				add(image, "launch-template/"+id)
			}
		}
	}
	return out, nil
}

func (f *fakeEC2) RunInstances(_ context.Context, in *ec2.RunInstancesInput, _ ...func(*ec2.Options)) (*ec2.RunInstancesOutput, error) {
	f.ran = append(f.ran, in)
	if err := f.next("RunInstances"); err != nil {
		return nil, err
	}
	i := types.Instance{InstanceId: aws.String(fmt.Sprintf("i-%d", len(f.ran))), InstanceType: in.InstanceType}
	return &ec2.RunInstancesOutput{Instances: []types.Instance{i}}, nil
}

func (f *fakeEC2) DescribeInstanceAttribute(_ context.Context, in *ec2.DescribeInstanceAttributeInput, _ ...func(*ec2.Options)) (*ec2.DescribeInstanceAttributeOutput, error) {
	out := &ec2.DescribeInstanceAttributeOutput{InstanceId: in.InstanceId, UserData: &types.AttributeValue{}}
	if data, ok := f.userData[*in.InstanceId]; ok {
		out.UserData.Value = &data
	}
	return out, f.next("DescribeInstanceAttribute")
}

func (f *fakeEC2) TerminateInstances(_ context.Context, in *ec2.TerminateInstancesInput, _ ...func(*ec2.Options)) (*ec2.TerminateInstancesOutput, error) {
	if err := f.next("TerminateInstances"); err != nil {
		return nil, err
	}
	f.terminated = append(f.terminated, in.InstanceIds...)
	return &ec2.TerminateInstancesOutput{}, nil
}

func (f *fakeEC2) DescribeImages(_ context.Context, in *ec2.DescribeImagesInput, _ ...func(*ec2.Options)) (*ec2.DescribeImagesOutput, error) {
	if err := f.next("DescribeImages"); err != nil {
		return nil, err
	}
	all := f.images
	if len(in.ImageIds) > 0 || slices.ContainsFunc(in.Filters, func(f types.Filter) bool { return *f.Name == "image-id" }) {
		all = slices.Concat(f.images, f.older)
	}
	var found []types.Image
	for _, i := range all {
		byID := len(in.ImageIds) == 0 || slices.Contains(in.ImageIds, *i.ImageId)
		mine := aws.ToString(i.OwnerId) != debian
		if byID && (mine || !slices.Contains(in.Owners, "self")) && matches(in.Filters, func(name string) string {
			switch name {
			case "name":
				return aws.ToString(i.Name)
			case "image-id":
				return *i.ImageId
			default:
				return ami.TagValue(i.Tags, strings.TrimPrefix(name, "tag:"))
			}
		}) {
			found = append(found, i)
		}
	}
	if len(in.ImageIds) > 0 && len(found) == 0 {
		return nil, awsErr("InvalidAMIID.NotFound")
	}
	return &ec2.DescribeImagesOutput{Images: found}, nil
}

func (f *fakeEC2) DescribeSnapshots(_ context.Context, in *ec2.DescribeSnapshotsInput, _ ...func(*ec2.Options)) (*ec2.DescribeSnapshotsOutput, error) {
	if err := f.next("DescribeSnapshots"); err != nil {
		return nil, err
	}
	var found []types.Snapshot
	for _, s := range f.snapshots {
		byID := len(in.SnapshotIds) == 0 || slices.Contains(in.SnapshotIds, *s.SnapshotId)
		if byID && matches(in.Filters, func(name string) string { return ami.TagValue(s.Tags, strings.TrimPrefix(name, "tag:")) }) {
			found = append(found, s)
		}
	}
	return &ec2.DescribeSnapshotsOutput{Snapshots: found}, nil
}

func (f *fakeEC2) ModifyImageAttribute(_ context.Context, in *ec2.ModifyImageAttributeInput, _ ...func(*ec2.Options)) (*ec2.ModifyImageAttributeOutput, error) {
	if err := f.next("ModifyImageAttribute"); err != nil {
		return nil, err
	}
	if in.LaunchPermission != nil {
		f.audience[*in.ImageId] = append(f.audience[*in.ImageId], in.LaunchPermission.Add...)
	}
	for i := range f.images {
		if *f.images[i].ImageId == *in.ImageId && in.ImdsSupport != nil {
			f.images[i].ImdsSupport = types.ImdsSupportValues(*in.ImdsSupport.Value)
		}
	}
	return &ec2.ModifyImageAttributeOutput{}, nil
}

func (f *fakeEC2) DescribeImageAttribute(_ context.Context, in *ec2.DescribeImageAttributeInput, _ ...func(*ec2.Options)) (*ec2.DescribeImageAttributeOutput, error) {
	return &ec2.DescribeImageAttributeOutput{LaunchPermissions: f.audience[*in.ImageId]}, f.next("DescribeImageAttribute")
}

func (f *fakeEC2) EnableImageDeprecation(_ context.Context, in *ec2.EnableImageDeprecationInput, _ ...func(*ec2.Options)) (*ec2.EnableImageDeprecationOutput, error) {
	f.deprecated[*in.ImageId] = *in.DeprecateAt
	return &ec2.EnableImageDeprecationOutput{}, f.next("EnableImageDeprecation")
}

func (f *fakeEC2) CreateTags(_ context.Context, in *ec2.CreateTagsInput, _ ...func(*ec2.Options)) (*ec2.CreateTagsOutput, error) {
	if err := f.next("CreateTags"); err != nil {
		return nil, err
	}
	for i := range f.images {
		if slices.Contains(in.Resources, *f.images[i].ImageId) {
			f.images[i].Tags = overlay(f.images[i].Tags, in.Tags)
		}
	}
	for i := range f.snapshots {
		if slices.Contains(in.Resources, *f.snapshots[i].SnapshotId) {
			f.snapshots[i].Tags = overlay(f.snapshots[i].Tags, in.Tags)
		}
	}
	return &ec2.CreateTagsOutput{}, nil
}

func overlay(have, add []types.Tag) []types.Tag {
	out := slices.Clone(have)
	for _, a := range add {
		out = slices.DeleteFunc(out, func(t types.Tag) bool { return *t.Key == *a.Key })
		out = append(out, a)
	}
	return out
}

func (f *fakeEC2) DeregisterImage(_ context.Context, in *ec2.DeregisterImageInput, _ ...func(*ec2.Options)) (*ec2.DeregisterImageOutput, error) {
	if err := f.next("DeregisterImage"); err != nil {
		return nil, err
	}
	f.images = slices.DeleteFunc(f.images, func(i types.Image) bool { return *i.ImageId == *in.ImageId })
	return &ec2.DeregisterImageOutput{}, nil
}

func (f *fakeEC2) DeleteSnapshot(_ context.Context, in *ec2.DeleteSnapshotInput, _ ...func(*ec2.Options)) (*ec2.DeleteSnapshotOutput, error) {
	if err := f.next("DeleteSnapshot"); err != nil {
		return nil, err
	}
	n := len(f.snapshots)
	f.snapshots = slices.DeleteFunc(f.snapshots, func(s types.Snapshot) bool { return *s.SnapshotId == *in.SnapshotId })
	if len(f.snapshots) == n {
		return nil, awsErr("InvalidSnapshot.NotFound")
	}
	return &ec2.DeleteSnapshotOutput{}, nil
}

func (f *fakeEC2) imageIDs() []string {
	out := []string{}
	for _, i := range f.images {
		out = append(out, *i.ImageId)
	}
	return out
}

// fakeSSM is one region of SSM.
type fakeSSM struct {
	faults
	commands   []ssmtypes.Command
	sent       []*ssm.SendCommandInput
	invocation *ssm.GetCommandInvocationOutput // of every command
	parameters map[string]string
	earlier    map[string][]string // values that parameters had
	lag        bool                // PutParameter is accepted and never shows
	puts       []string
}

func newSSM() *fakeSSM { return &fakeSSM{faults: faults{}, parameters: map[string]string{}} }

func (f *fakeSSM) ListCommands(context.Context, *ssm.ListCommandsInput, ...func(*ssm.Options)) (*ssm.ListCommandsOutput, error) {
	return &ssm.ListCommandsOutput{Commands: f.commands}, f.next("ListCommands")
}

func (f *fakeSSM) SendCommand(_ context.Context, in *ssm.SendCommandInput, _ ...func(*ssm.Options)) (*ssm.SendCommandOutput, error) {
	if err := f.next("SendCommand"); err != nil {
		return nil, err
	}
	f.sent = append(f.sent, in)
	c := ssmtypes.Command{CommandId: aws.String("c-1"), Comment: in.Comment, InstanceIds: in.InstanceIds}
	f.commands = append(f.commands, c)
	return &ssm.SendCommandOutput{Command: &c}, nil
}

func (f *fakeSSM) GetCommandInvocation(context.Context, *ssm.GetCommandInvocationInput, ...func(*ssm.Options)) (*ssm.GetCommandInvocationOutput, error) {
	if f.invocation == nil {
		return &ssm.GetCommandInvocationOutput{Status: ssmtypes.CommandInvocationStatusInProgress}, f.next("GetCommandInvocation")
	}
	return f.invocation, f.next("GetCommandInvocation")
}

func (f *fakeSSM) GetParameter(_ context.Context, in *ssm.GetParameterInput, _ ...func(*ssm.Options)) (*ssm.GetParameterOutput, error) {
	if err := f.next("GetParameter"); err != nil {
		return nil, err
	}
	v, ok := f.parameters[*in.Name]
	if !ok {
		return nil, &ssmtypes.ParameterNotFound{}
	}
	return &ssm.GetParameterOutput{Parameter: &ssmtypes.Parameter{Name: in.Name, Value: &v}}, nil
}

func (f *fakeSSM) GetParameterHistory(_ context.Context, in *ssm.GetParameterHistoryInput, _ ...func(*ssm.Options)) (*ssm.GetParameterHistoryOutput, error) {
	if err := f.next("GetParameterHistory"); err != nil {
		return nil, err
	}
	out := &ssm.GetParameterHistoryOutput{}
	for _, v := range append(slices.Clone(f.earlier[*in.Name]), f.parameters[*in.Name]) {
		out.Parameters = append(out.Parameters, ssmtypes.ParameterHistory{Name: in.Name, Value: aws.String(v)})
	}
	return out, nil
}

func (f *fakeSSM) PutParameter(_ context.Context, in *ssm.PutParameterInput, _ ...func(*ssm.Options)) (*ssm.PutParameterOutput, error) {
	if err := f.next("PutParameter"); err != nil {
		return nil, err
	}
	if _, ok := f.parameters[*in.Name]; ok && !*in.Overwrite {
		return nil, &ssmtypes.ParameterAlreadyExists{}
	}
	f.puts = append(f.puts, *in.Name+"="+*in.Value)
	if !f.lag {
		f.parameters[*in.Name] = *in.Value
	}
	return &ssm.PutParameterOutput{}, nil
}

func (f *fakeSSM) DeleteParameter(_ context.Context, in *ssm.DeleteParameterInput, _ ...func(*ssm.Options)) (*ssm.DeleteParameterOutput, error) {
	if err := f.next("DeleteParameter"); err != nil {
		return nil, err
	}
	if _, ok := f.parameters[*in.Name]; !ok {
		return nil, &ssmtypes.ParameterNotFound{}
	}
	delete(f.parameters, *in.Name)
	return &ssm.DeleteParameterOutput{}, nil
}

func answered(status ssmtypes.CommandInvocationStatus, exit int32, stdout, stderr string) *ssm.GetCommandInvocationOutput {
	return &ssm.GetCommandInvocationOutput{Status: status, ResponseCode: exit, StandardOutputContent: &stdout, StandardErrorContent: &stderr}
}

func testPlan() plan.BuildPlan {
	return plan.BuildPlan{
		Recipe: recipe.Recipe{
			Name: "debian", Description: "a test", Architecture: "x86_64",
			Builder: recipe.Builder{
				InstanceTypes: []string{"t3.medium", "m6i.large"},
				RootVolume:    recipe.RootVolume{SizeGiB: 8, KMSKey: "alias/k"},
				Timeout:       recipe.Duration(45 * time.Minute),
			},
			Checks: recipe.Checks{Timeout: recipe.Duration(15 * time.Minute)},
			Gate:   recipe.Gate{Severity: "medium"},
			Distribution: recipe.Distribution{
				Regions:  []recipe.Region{{Name: home, KMSKey: "alias/k"}, {Name: remote, KMSKey: "alias/r"}},
				Accounts: []string{"210987654321"},
			},
			Pointers:  recipe.Pointers{Parameters: []string{"/p/latest"}},
			Retention: recipe.Retention{Keep: 1, DeprecateAfter: recipe.DefaultDeprecateAfter, RemoveAfter: recipe.DefaultRemoveAfter},
		},
		Source:      plan.SourceImage{ImageID: "ami-base", RootDevice: "/dev/xvda"},
		Fingerprint: "f00d",
		ImageName:   "debian-f00d-20260301",
		UserData:    "#!/bin/sh\ncurl '@@SESSION@@' '@@BUNDLE_URL@@'\nput '@@VERDICT_URL@@' '@@STEPS_URL@@'\n",
		Bundle:      plan.Bundle{SHA256: "b00b"},
		Checks:      []byte("kernel-param: {}\n"),
		Controls:    []compliance.Control{{ID: "SYS-02", Title: "Do not send ICMP redirects", Severity: "medium"}},
	}
}

// passed is what CheckCompliance writes of an image that passed.
func passed(in Job, p plan.BuildPlan, image string) compliance.Report {
	r := compliance.Report{
		Schema: compliance.ReportSchema, Of: bindingOf(in, p), RunID: in.Execution.Name, ImageID: image, Gate: p.Recipe.Gate.Severity,
		Verdict: compliance.VerdictPassed, Evaluated: in.Now,
	}
	for _, c := range p.Controls {
		r.Results = append(r.Results, compliance.Result{ControlID: c.ID, Severity: c.Severity, Status: compliance.StatusPass, ImageID: image})
		r.Counts.Passed++
	}
	return r
}

// job stores the plan and returns the job of a stage one minute after the start.
func job(t testing.TB, f interface{ store() store.Store }, stage string, p plan.BuildPlan) Job {
	t.Helper()
	raw, err := json.Marshal(p)
	require.NoError(t, err)
	o, err := f.store().Put(t.Context(), "plans/p.json", "application/json", raw)
	require.NoError(t, err)
	t.Cleanup(func() { requireUnchanged(t, f.store(), o, raw) })
	return Job{
		Execution: Execution{ID: "arn:run", Name: "run", StartTime: start},
		State:     stage, Now: start.Add(time.Minute), Plan: o,
	}
}

// requireUnchanged fails when a stage has changed the plan that it shares with later
// calls of its function.
func requireUnchanged(t testing.TB, s store.Store, o store.Object, raw []byte) {
	t.Helper()
	kept, err := store.Load(context.Background(), s, o, func([]byte) (*plan.BuildPlan, error) { return nil, errors.New("not in the cache") })
	if err != nil {
		return // no stage has read it
	}
	now, err := json.Marshal(kept)
	require.NoError(t, err)
	require.JSONEq(t, string(raw), string(now), "the plan in the cache")
}

func requireCode(t *testing.T, want failure.Code, err error) {
	t.Helper()
	require.Error(t, err)
	require.Equal(t, want, failure.CodeOf(err), "%v", err)
}

func tagged(id, execution string, published bool, tags ...types.Tag) []types.Tag {
	l := ami.Labels{Name: id, Recipe: "debian", Execution: execution, Stage: "s", Fingerprint: "f00d", Expires: start}
	out := append(l.Tags(), tags...)
	if published {
		out = overlay(out, ami.PublishedTags(start, start))
	}
	return out
}

// image is an available, finished image with one snapshot.
func image(id, execution string, published bool) types.Image {
	return types.Image{
		ImageId: aws.String(id), Name: aws.String("debian-f00d-20260301"), State: types.ImageStateAvailable,
		CreationDate: aws.String("2026-03-01T12:00:00.000Z"), RootDeviceName: aws.String("/dev/xvda"),
		ImdsSupport: types.ImdsSupportValuesV20, Tags: tagged(id, execution, published),
		BlockDeviceMappings: []types.BlockDeviceMapping{{DeviceName: aws.String("/dev/xvda"), Ebs: &types.EbsBlockDevice{
			SnapshotId: aws.String("snap-" + id), Encrypted: aws.Bool(true), VolumeSize: aws.Int32(8),
		}}},
	}
}

func snapshot(id, execution string) types.Snapshot {
	return types.Snapshot{
		SnapshotId: aws.String(id), State: types.SnapshotStateCompleted, Encrypted: aws.Bool(true), Tags: tagged(id, execution, false),
		FullSnapshotSizeInBytes: aws.Int64(3 << 29),
	}
}

// genuine is the evidence of releases that the test is not about.
type genuine struct{}

func (genuine) Check(context.Context, EvidenceOf) error { return nil }
