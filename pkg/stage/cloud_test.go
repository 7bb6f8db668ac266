package stage

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	ssmtypes "github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/ami"
	"github.com/ami-factory/ami-factory/pkg/guest"
	"github.com/ami-factory/ami-factory/pkg/localcloud"
	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	cloudec2 "github.com/ami-factory/ami-factory/pkg/localcloud/ec2"
	"github.com/ami-factory/ami-factory/pkg/localcloud/fault"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/simulated"
	"github.com/ami-factory/ami-factory/pkg/store"
)

// cloud is the embedded AWS with the factory's bucket and a public image of Debian's,
// on a clock that moves only in pass. The clients are the SDK's own.
type cloud struct {
	*localcloud.Cloud
	t     *testing.T
	clock *clock.Virtual
	cache store.Cache
	base  string

	content string                                              // of public images, a directory
	guest   func(ctx context.Context, cmd vm.Command) vm.Result // answers commands; nil: every one succeeds
	faults  simulated.Faults                                    // of guests that are started
	console string                                              // of guests
	reason  string                                              // of instances' states, instead of EC2's own
	keys    map[string]string                                   // ARNs of the keys that key made, by alias
}

// key makes a key for images.
func (c *cloud) key(region, alias string) {
	c.t.Helper()
	client := kms.NewFromConfig(c.config(region))
	made, err := client.CreateKey(c.t.Context(), &kms.CreateKeyInput{})
	require.NoError(c.t, err)
	_, err = client.CreateAlias(c.t.Context(), &kms.CreateAliasInput{AliasName: &alias, TargetKeyId: made.KeyMetadata.KeyId})
	require.NoError(c.t, err)
	c.keys[alias] = aws.ToString(made.KeyMetadata.Arn)
}

func newCloud(t *testing.T) *cloud {
	t.Helper()
	c := &cloud{t: t, clock: clock.NewVirtual(start), keys: map[string]string{}}
	t.Cleanup(c.clock.Hold())
	var err error
	c.Cloud, err = localcloud.New(t.Context(), localcloud.Config{
		Driver: simulated.New(simulated.Options{
			Clock: c.clock, Console: func(vm.Launch) string { return c.console }, Faults: func(vm.Launch) simulated.Faults { return c.faults },
			Respond: func(ctx context.Context, _ vm.Launch, cmd vm.Command) vm.Result {
				if c.guest == nil {
					return vm.Result{}
				}
				return c.guest(ctx, cmd)
			},
		}), Clock: c.clock, Timing: cloudec2.AWSLike(),
		Account: factory, Region: home, Regions: []string{home, remote},
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close(context.Background())) })
	c.content = filepath.Join(t.TempDir(), "base")
	require.NoError(t, os.Mkdir(c.content, 0o700))
	require.NoError(t, vm.WriteImage(c.content, vm.ImageInfo{Kind: vm.Simulated, VolumeGiB: 2, SHA256: "ba5e"}))
	ids, err := c.EC2.RegisterBase(cloudec2.BaseImage{Name: "debian-12", OwnerID: debian, ImageDir: c.content})
	require.NoError(t, err)
	c.base = ids[home]
	_, err = c.s3().CreateBucket(t.Context(), &s3.CreateBucketInput{
		Bucket: aws.String(bucket), CreateBucketConfiguration: &s3types.CreateBucketConfiguration{LocationConstraint: home},
	})
	require.NoError(t, err)
	require.NoError(t, guest.StoreDocument(t.Context(), c.ssm(home)))
	return c
}

// config has calls that fail tried once only.
func (c *cloud) config(region string) aws.Config {
	cfg := c.AWSConfigInProcess("", region)
	cfg.Retryer = func() aws.Retryer { return aws.NopRetryer{} }
	return cfg
}

func (c *cloud) s3() *s3.Client {
	return s3.NewFromConfig(c.config(home), func(o *s3.Options) { o.UsePathStyle = true })
}

func (c *cloud) store() store.Store {
	return store.Store{Bucket: bucket, API: c.s3(), Presign: s3.NewPresignClient(c.s3()), Cache: &c.cache}
}

func (c *cloud) ec2(region string) *ec2.Client { return ec2.NewFromConfig(c.config(region)) }

func (c *cloud) ssm(region string) *ssm.Client { return ssm.NewFromConfig(c.config(region)) }

func (c *cloud) pass(d time.Duration) {
	c.t.Helper()
	require.NoError(c.t, c.clock.Sleep(c.t.Context(), d))
}

// fail has every call of an operation answer with an error; failFrom those from the
// nth on.
func (c *cloud) fail(service, operation, code string) { c.failFrom(1, service, operation, code) }

func (c *cloud) failFrom(n int, service, operation, code string) {
	c.t.Helper()
	_, err := c.Faults.Add(fault.Rule{Service: service, Operation: operation, Code: code, Nth: n, Times: -1})
	require.NoError(c.t, err)
}

// tag puts tags on an image.
func (c *cloud) tag(region, id string, tags ...types.Tag) {
	c.t.Helper()
	_, err := c.ec2(region).CreateTags(c.t.Context(), &ec2.CreateTagsInput{Resources: []string{id}, Tags: tags})
	require.NoError(c.t, err)
}

// point has a pointer name an image.
func (c *cloud) point(region, parameter, id string) {
	c.t.Helper()
	_, err := c.ssm(region).PutParameter(c.t.Context(), &ssm.PutParameterInput{
		Name: &parameter, Value: &id, Type: ssmtypes.ParameterTypeString, DataType: aws.String("aws:ec2:image"), Overwrite: aws.Bool(true),
	})
	require.NoError(c.t, err)
	c.pass(5 * time.Second) // SSM looks whether there is such an image
}

// launch launches an instance with one volume.
func (c *cloud) launch(encrypted bool) string {
	c.t.Helper()
	out, err := c.ec2(home).RunInstances(c.t.Context(), &ec2.RunInstancesInput{
		ImageId: &c.base, InstanceType: types.InstanceTypeT3Medium, MinCount: aws.Int32(1), MaxCount: aws.Int32(1),
		BlockDeviceMappings: []types.BlockDeviceMapping{{DeviceName: aws.String("/dev/xvda"), Ebs: &types.EbsBlockDevice{Encrypted: &encrypted}}},
	})
	require.NoError(c.t, err)
	return aws.ToString(out.Instances[0].InstanceId)
}

// builder launches an instance with an encrypted volume; stopped, if it is to be
// imaged.
func (c *cloud) builder(encrypted, stopped bool) string {
	c.t.Helper()
	id := c.launch(encrypted)
	c.pass(time.Minute)
	if stopped {
		c.stop(id)
		c.pass(5 * time.Minute)
	}
	return id
}

// stop asks an instance to stop, which takes some time.
func (c *cloud) stop(id string) {
	c.t.Helper()
	_, err := c.ec2(home).StopInstances(c.t.Context(), &ec2.StopInstancesInput{InstanceIds: []string{id}})
	require.NoError(c.t, err)
}

// terminate ends an instance.
func (c *cloud) terminate(id string) {
	c.t.Helper()
	_, err := c.ec2(home).TerminateInstances(c.t.Context(), &ec2.TerminateInstancesInput{InstanceIds: []string{id}})
	require.NoError(c.t, err)
	c.pass(time.Minute)
}

// instance describes one.
func (c *cloud) instance(id string) types.Instance {
	c.t.Helper()
	i, err := ami.DescribeInstance(c.t.Context(), c.ec2(home), id)
	require.NoError(c.t, err)
	return i
}

func (c *cloud) image(region, id string) types.Image {
	c.t.Helper()
	img, err := ami.Describe(c.t.Context(), c.ec2(region), id)
	require.NoError(c.t, err)
	return img
}

func (c *cloud) snapshots(region string, ids ...string) []types.Snapshot {
	c.t.Helper()
	out, err := ami.DescribeSnapshots(c.t.Context(), c.ec2(region), ids)
	require.NoError(c.t, err)
	return out
}

// odd is EC2 with answers that are changed on the way: states which the embedded one
// does not come into by itself.
type odd struct {
	*ec2.Client
	image    func(*types.Image)
	snapshot func(*types.Snapshot)
	reason   string                 // of instances' states; "" for their own
	deaf     bool                   // ModifyImageAttribute is accepted and changes nothing
	shared   types.LaunchPermission // one more than the image has; of an encrypted image EC2 grants no public one
}

func (o odd) DescribeImages(ctx context.Context, in *ec2.DescribeImagesInput, opts ...func(*ec2.Options)) (*ec2.DescribeImagesOutput, error) {
	out, err := o.Client.DescribeImages(ctx, in, opts...)
	if err == nil && o.image != nil {
		for i := range out.Images {
			o.image(&out.Images[i])
		}
	}
	return out, err
}

func (o odd) DescribeSnapshots(ctx context.Context, in *ec2.DescribeSnapshotsInput, opts ...func(*ec2.Options)) (*ec2.DescribeSnapshotsOutput, error) {
	out, err := o.Client.DescribeSnapshots(ctx, in, opts...)
	if err == nil && o.snapshot != nil {
		for i := range out.Snapshots {
			o.snapshot(&out.Snapshots[i])
		}
	}
	return out, err
}

func (o odd) ModifyImageAttribute(ctx context.Context, in *ec2.ModifyImageAttributeInput, opts ...func(*ec2.Options)) (*ec2.ModifyImageAttributeOutput, error) {
	if o.deaf {
		return &ec2.ModifyImageAttributeOutput{}, nil
	}
	return o.Client.ModifyImageAttribute(ctx, in, opts...)
}

func (o odd) DescribeInstances(ctx context.Context, in *ec2.DescribeInstancesInput, opts ...func(*ec2.Options)) (*ec2.DescribeInstancesOutput, error) {
	out, err := o.Client.DescribeInstances(ctx, in, opts...)
	if err == nil && o.reason != "" {
		for _, r := range out.Reservations {
			for i := range r.Instances {
				r.Instances[i].StateReason = &types.StateReason{Code: &o.reason, Message: aws.String("why")}
			}
		}
	}
	return out, err
}
