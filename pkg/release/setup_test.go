package release_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdkscaling "github.com/aws/aws-sdk-go-v2/service/autoscaling"
	sdkec2 "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	sdkssm "github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/ami"
	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/localcloud"
	"github.com/ami-factory/ami-factory/pkg/localcloud/autoscaling"
	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/ec2"
	"github.com/ami-factory/ami-factory/pkg/localcloud/fault"
	"github.com/ami-factory/ami-factory/pkg/localcloud/ssm"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/simulated"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/plan"
	"github.com/ami-factory/ami-factory/pkg/recipe"
	"github.com/ami-factory/ami-factory/pkg/release"
)

const (
	factory = "111122223333"
	target  = "210987654321"
	debian  = "136693071363"
	home    = "eu-west-1"
	remote  = "eu-central-1"
	latest  = "/ami-factory/debian/latest"
	day     = 24 * time.Hour
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// world is the embedded AWS on a clock that moves only in pass, with a stopped
// builder that images are made of.
type world struct {
	t       *testing.T
	cloud   *localcloud.Cloud
	clock   *clock.Virtual
	recipe  recipe.Recipe
	builder string
	base    string // a public image of Debian's
	holds   memoryHolds
	keys    map[string]string // customer keys by region: AWS's own cannot be shared
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, holds: memoryHolds{}, clock: clock.NewVirtual(start), recipe: recipe.Recipe{
		Name: "debian",
		Distribution: recipe.Distribution{
			Regions: []recipe.Region{{Name: home}, {Name: remote}}, Accounts: []string{target},
		},
		Pointers:  recipe.Pointers{Parameters: []string{latest}},
		Retention: recipe.Retention{Keep: 1, DeprecateAfter: recipe.DefaultDeprecateAfter, RemoveAfter: recipe.DefaultRemoveAfter},
	}}
	t.Cleanup(w.clock.Hold())
	driver := simulated.New(simulated.Options{Clock: w.clock})
	var err error
	w.cloud, err = localcloud.New(t.Context(), localcloud.Config{Driver: driver, Clock: w.clock, Account: factory, Region: home, Regions: []string{home, remote}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, w.cloud.Close(context.Background())) })
	dir := filepath.Join(t.TempDir(), "base")
	require.NoError(t, os.Mkdir(dir, 0o700))
	require.NoError(t, vm.WriteImage(dir, vm.ImageInfo{Kind: vm.Simulated, VolumeGiB: 2, SHA256: "ba5e"}))
	ids, err := w.cloud.EC2.RegisterBase(ec2.BaseImage{Name: "debian-12-amd64-20260101-1", OwnerID: debian, ImageDir: dir})
	require.NoError(t, err)
	w.base, w.keys = ids[home], map[string]string{}
	for _, region := range []string{home, remote} {
		key, err := w.cloud.KMS.CreateKey(wire.WithCaller(t.Context(), w.door("", region).caller), &kms.CreateKeyInput{})
		require.NoError(t, err)
		w.keys[region] = aws.ToString(key.KeyMetadata.Arn)
	}
	w.builder = w.run(home, w.base)
	w.pass(time.Minute)
	_, err = w.ec2(home).StopInstances(t.Context(), &sdkec2.StopInstancesInput{InstanceIds: []string{w.builder}})
	require.NoError(t, err)
	w.pass(5 * time.Minute)
	return w
}

func (w *world) pass(d time.Duration) {
	w.t.Helper()
	require.NoError(w.t, w.clock.Sleep(w.t.Context(), d))
}

// run launches an instance with encrypted volumes and returns its id.
func (w *world) run(region, image string) string {
	w.t.Helper()
	img := w.image(region, image)
	out, err := w.ec2(region).RunInstances(w.t.Context(), &sdkec2.RunInstancesInput{
		ImageId: &image, InstanceType: types.InstanceTypeT3Medium, MinCount: aws.Int32(1), MaxCount: aws.Int32(1),
		BlockDeviceMappings: []types.BlockDeviceMapping{{DeviceName: img.RootDeviceName, Ebs: &types.EbsBlockDevice{Encrypted: aws.Bool(true), KmsKeyId: aws.String(w.keys[region])}}},
	})
	require.NoError(w.t, err)
	return aws.ToString(out.Instances[0].InstanceId)
}

func (w *world) image(region, id string) types.Image {
	w.t.Helper()
	img, err := ami.Describe(w.t.Context(), w.ec2(region), id)
	require.NoError(w.t, err)
	return img
}

func (w *world) exists(region, id string) bool {
	w.t.Helper()
	_, err := ami.Describe(w.t.Context(), w.ec2(region), id)
	if err != nil {
		require.ErrorIs(w.t, err, ami.ErrNotFound)
	}
	return err == nil
}

// bake makes an image with the execution's tags in the home region and copies it,
// and shares both as the recipe says: what Publisher expects.
func (w *world) bake(execution string) release.Publication {
	w.t.Helper()
	ctx := w.t.Context()
	p := release.Publication{
		Of:     compliance.Binding{Execution: "arn:" + execution, Started: w.clock.Now(), PlanSHA256: "p1a9", Fingerprint: "f00d"},
		Recipe: w.recipe, Source: plan.SourceImage{ImageID: w.base, CreationDate: "2026-01-01T00:00:00.000Z"},
		ID: "id-of-" + execution, Targets: map[string]release.Target{},
	}
	labels := ami.Labels{
		Name: "debian-" + execution, Recipe: w.recipe.Name, Execution: execution, Stage: "CreateImage", Fingerprint: "f00d", Expires: w.clock.Now().Add(2 * day),
	}
	made, err := w.ec2(home).CreateImage(ctx, &sdkec2.CreateImageInput{
		InstanceId: &w.builder, Name: &labels.Name, TagSpecifications: labels.Specifications(types.ResourceTypeImage, types.ResourceTypeSnapshot),
	})
	require.NoError(w.t, err)
	w.pass(10 * time.Minute)
	for _, region := range release.Regions(w.recipe) {
		id := aws.ToString(made.ImageId)
		if region != home {
			id, err = release.Copy{Token: execution + region, ImageID: id, From: home, To: region, KMSKey: w.keys[region], Labels: labels}.Start(ctx, w.ec2(region))
			require.NoError(w.t, err)
			w.pass(10 * time.Minute)
		}
		_, err := w.ec2(region).ModifyImageAttribute(ctx, &sdkec2.ModifyImageAttributeInput{ImageId: &id, ImdsSupport: &types.AttributeValue{Value: aws.String("v2.0")}})
		require.NoError(w.t, err)
		_, err = release.Share(ctx, w.ec2(region), id, "the image", release.AudienceOf(w.recipe.Distribution), release.Audience{})
		require.NoError(w.t, err)
		p.Targets[region] = release.Target{ImageID: id, SnapshotIDs: ami.Snapshots(w.image(region, id)), Labels: labels}
	}
	p.Now = w.clock.Now()
	return p
}

// publish bakes and publishes, and returns the images by region.
func (w *world) publish(execution string) map[string]string {
	w.t.Helper()
	p := w.bake(execution)
	w.settle(w.publisher(&memory{}), p)
	out := map[string]string{}
	for region, target := range p.Targets {
		out[region] = target.ImageID
	}
	return out
}

// settle publishes until SSM has accepted the pointers.
func (w *world) settle(s release.Publisher, p release.Publication) []release.Pointer {
	w.t.Helper()
	for range 10 {
		p.Now = w.clock.Now()
		moved, err := s.Publish(w.t.Context(), p)
		if err == nil {
			return moved
		}
		requireCode(w.t, failure.PublishNotReady, err)
		w.pass(2 * time.Second)
	}
	require.Fail(w.t, "SSM does not accept the pointers")
	return nil
}

func (w *world) publisher(r release.Records) release.Publisher {
	return release.Publisher{
		Records: r, Holds: w.holds,
		EC2: func(region string) release.PublishAPI { return w.ec2(region) },
		SSM: func(account, region string) release.ParameterAPI { return w.ssm(account, region) },
	}
}

// pointer is what the parameter names; empty when it does not exist.
func (w *world) pointer(account, region string) string {
	w.t.Helper()
	id, err := release.ReadPointer(w.t.Context(), w.ssm(account, region), latest)
	require.NoError(w.t, err)
	return id
}

// pointers are the factory's own by region.
func (w *world) pointers() map[string]string {
	return map[string]string{home: w.pointer("", home), remote: w.pointer("", remote)}
}

// setByHand has a pointer name another image, as a person does it.
func (w *world) setByHand(region, image string) {
	w.t.Helper()
	_, err := w.ssm("", region).PutParameter(w.t.Context(), &sdkssm.PutParameterInput{
		Name: aws.String(latest), Value: &image, Type: "String", DataType: aws.String("aws:ec2:image"), Overwrite: aws.Bool(true),
	})
	require.NoError(w.t, err)
	w.pass(5 * time.Second)
	require.Equal(w.t, image, w.pointer("", region))
}

// fail has calls answer with an error.
func (w *world) fail(rules ...fault.Rule) {
	w.t.Helper()
	_, err := w.cloud.Faults.Add(rules...)
	require.NoError(w.t, err)
}

// memory is the Records of one execution.
type memory struct{ raw []byte }

func (m *memory) Address() string                      { return "s3://factory/executions/run/pointers.json" }
func (m *memory) Read(context.Context) ([]byte, error) { return m.raw, nil }

func (m *memory) Create(_ context.Context, raw []byte) (bool, error) {
	if m.raw != nil {
		return false, nil
	}
	m.raw = raw
	return true, nil
}

func (m *memory) Write(_ context.Context, raw []byte) error {
	m.raw = raw
	return nil
}

// memoryHolds are the Holds of all executions, by recipe.
type memoryHolds map[string]release.Hold

func (m memoryHolds) Update(_ context.Context, recipe string, change func(*release.Hold) (bool, error)) error {
	h := m[recipe]
	write, err := change(&h)
	if write {
		m[recipe] = h
	}
	return err
}

func requireCode(t *testing.T, want failure.Code, err error) {
	t.Helper()
	require.Error(t, err)
	require.Equal(t, want, failure.CodeOf(err), "%v", err)
}

// door is the embedded AWS as one account in one region sees it, without HTTP. The
// rules of Cloud.Faults hold as they do over HTTP.
type door struct {
	cloud  *localcloud.Cloud
	caller wire.Caller
}

func (w *world) door(account, region string) door {
	if account == "" {
		account = factory
	}
	return door{w.cloud, wire.Caller{Account: account, Region: region, ARN: "arn:aws:iam::" + account + ":root"}}
}

func (w *world) ec2(region string) ec2Door { return ec2Door{w.cloud.EC2, w.door("", region)} }

func (w *world) ssm(account, region string) ssmDoor {
	return ssmDoor{w.cloud.SSM, w.door(account, region)}
}

// through makes a call in the caller's name unless a fault takes it.
func through[In, Opt, Out any](ctx context.Context, d door, service, operation string, call func(context.Context, In, ...func(Opt)) (Out, error), in In) (Out, error) {
	if err := d.cloud.Faults.Before(ctx, d.caller, service, operation); err != nil {
		var none Out
		return none, fmt.Errorf("operation error %s: %w", operation, err)
	}
	return call(wire.WithCaller(ctx, d.caller), in)
}

type ec2Door struct {
	*ec2.Service
	door
}

func (d ec2Door) RunInstances(ctx context.Context, in *sdkec2.RunInstancesInput, _ ...func(*sdkec2.Options)) (*sdkec2.RunInstancesOutput, error) {
	return through(ctx, d.door, "ec2", "RunInstances", d.Service.RunInstances, in)
}

func (d ec2Door) StopInstances(ctx context.Context, in *sdkec2.StopInstancesInput, _ ...func(*sdkec2.Options)) (*sdkec2.StopInstancesOutput, error) {
	return through(ctx, d.door, "ec2", "StopInstances", d.Service.StopInstances, in)
}

func (d ec2Door) TerminateInstances(ctx context.Context, in *sdkec2.TerminateInstancesInput, _ ...func(*sdkec2.Options)) (*sdkec2.TerminateInstancesOutput, error) {
	return through(ctx, d.door, "ec2", "TerminateInstances", d.Service.TerminateInstances, in)
}

func (d ec2Door) CreateImage(ctx context.Context, in *sdkec2.CreateImageInput, _ ...func(*sdkec2.Options)) (*sdkec2.CreateImageOutput, error) {
	return through(ctx, d.door, "ec2", "CreateImage", d.Service.CreateImage, in)
}

func (d ec2Door) CopyImage(ctx context.Context, in *sdkec2.CopyImageInput, _ ...func(*sdkec2.Options)) (*sdkec2.CopyImageOutput, error) {
	return through(ctx, d.door, "ec2", "CopyImage", d.Service.CopyImage, in)
}

func (d ec2Door) CreateTags(ctx context.Context, in *sdkec2.CreateTagsInput, _ ...func(*sdkec2.Options)) (*sdkec2.CreateTagsOutput, error) {
	return through(ctx, d.door, "ec2", "CreateTags", d.Service.CreateTags, in)
}

func (d ec2Door) DeleteTags(ctx context.Context, in *sdkec2.DeleteTagsInput, _ ...func(*sdkec2.Options)) (*sdkec2.DeleteTagsOutput, error) {
	return through(ctx, d.door, "ec2", "DeleteTags", d.Service.DeleteTags, in)
}

func (d ec2Door) DescribeImages(ctx context.Context, in *sdkec2.DescribeImagesInput, _ ...func(*sdkec2.Options)) (*sdkec2.DescribeImagesOutput, error) {
	return through(ctx, d.door, "ec2", "DescribeImages", d.Service.DescribeImages, in)
}

func (d ec2Door) DescribeImageAttribute(ctx context.Context, in *sdkec2.DescribeImageAttributeInput, _ ...func(*sdkec2.Options)) (*sdkec2.DescribeImageAttributeOutput, error) {
	return through(ctx, d.door, "ec2", "DescribeImageAttribute", d.Service.DescribeImageAttribute, in)
}

func (d ec2Door) ModifyImageAttribute(ctx context.Context, in *sdkec2.ModifyImageAttributeInput, _ ...func(*sdkec2.Options)) (*sdkec2.ModifyImageAttributeOutput, error) {
	return through(ctx, d.door, "ec2", "ModifyImageAttribute", d.Service.ModifyImageAttribute, in)
}

func (d ec2Door) DescribeImageReferences(ctx context.Context, in *sdkec2.DescribeImageReferencesInput, _ ...func(*sdkec2.Options)) (*sdkec2.DescribeImageReferencesOutput, error) {
	return through(ctx, d.door, "ec2", "DescribeImageReferences", d.Service.DescribeImageReferences, in)
}

func (d ec2Door) CreateLaunchTemplate(ctx context.Context, in *sdkec2.CreateLaunchTemplateInput, _ ...func(*sdkec2.Options)) (*sdkec2.CreateLaunchTemplateOutput, error) {
	return through(ctx, d.door, "ec2", "CreateLaunchTemplate", d.Service.CreateLaunchTemplate, in)
}

func (d ec2Door) EnableImageDeprecation(ctx context.Context, in *sdkec2.EnableImageDeprecationInput, _ ...func(*sdkec2.Options)) (*sdkec2.EnableImageDeprecationOutput, error) {
	return through(ctx, d.door, "ec2", "EnableImageDeprecation", d.Service.EnableImageDeprecation, in)
}

func (d ec2Door) DeregisterImage(ctx context.Context, in *sdkec2.DeregisterImageInput, _ ...func(*sdkec2.Options)) (*sdkec2.DeregisterImageOutput, error) {
	return through(ctx, d.door, "ec2", "DeregisterImage", d.Service.DeregisterImage, in)
}

func (d ec2Door) DeleteSnapshot(ctx context.Context, in *sdkec2.DeleteSnapshotInput, _ ...func(*sdkec2.Options)) (*sdkec2.DeleteSnapshotOutput, error) {
	return through(ctx, d.door, "ec2", "DeleteSnapshot", d.Service.DeleteSnapshot, in)
}

type ssmDoor struct {
	*ssm.Service
	door
}

func (d ssmDoor) GetParameter(ctx context.Context, in *sdkssm.GetParameterInput, _ ...func(*sdkssm.Options)) (*sdkssm.GetParameterOutput, error) {
	return through(ctx, d.door, "ssm", "GetParameter", d.Service.GetParameter, in)
}

func (d ssmDoor) GetParameterHistory(ctx context.Context, in *sdkssm.GetParameterHistoryInput, _ ...func(*sdkssm.Options)) (*sdkssm.GetParameterHistoryOutput, error) {
	return through(ctx, d.door, "ssm", "GetParameterHistory", d.Service.GetParameterHistory, in)
}

func (d ssmDoor) PutParameter(ctx context.Context, in *sdkssm.PutParameterInput, _ ...func(*sdkssm.Options)) (*sdkssm.PutParameterOutput, error) {
	return through(ctx, d.door, "ssm", "PutParameter", d.Service.PutParameter, in)
}

func (d ssmDoor) DeleteParameter(ctx context.Context, in *sdkssm.DeleteParameterInput, _ ...func(*sdkssm.Options)) (*sdkssm.DeleteParameterOutput, error) {
	return through(ctx, d.door, "ssm", "DeleteParameter", d.Service.DeleteParameter, in)
}

type scalingDoor struct {
	*autoscaling.Service
	door
}

func (w *world) scaling(region string) scalingDoor {
	return scalingDoor{w.cloud.AutoScaling, w.door("", region)}
}

func (d scalingDoor) CreateLaunchConfiguration(ctx context.Context, in *sdkscaling.CreateLaunchConfigurationInput, _ ...func(*sdkscaling.Options)) (*sdkscaling.CreateLaunchConfigurationOutput, error) {
	return through(ctx, d.door, "autoscaling", "CreateLaunchConfiguration", d.Service.CreateLaunchConfiguration, in)
}

func (d scalingDoor) DeleteLaunchConfiguration(ctx context.Context, in *sdkscaling.DeleteLaunchConfigurationInput, _ ...func(*sdkscaling.Options)) (*sdkscaling.DeleteLaunchConfigurationOutput, error) {
	return through(ctx, d.door, "autoscaling", "DeleteLaunchConfiguration", d.Service.DeleteLaunchConfiguration, in)
}

func (d scalingDoor) DescribeLaunchConfigurations(ctx context.Context, in *sdkscaling.DescribeLaunchConfigurationsInput, _ ...func(*sdkscaling.Options)) (*sdkscaling.DescribeLaunchConfigurationsOutput, error) {
	return through(ctx, d.door, "autoscaling", "DescribeLaunchConfigurations", d.Service.DescribeLaunchConfigurations, in)
}
