package ec2_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"github.com/ami-factory/ami-factory/pkg/localcloud/ec2"
	"github.com/ami-factory/ami-factory/pkg/localcloud/imds"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire/wiretest"
)

// over is an SDK client of the service over HTTP.
func over(t *testing.T, e *env) *sdk.Client {
	t.Helper()
	server := httptest.NewServer(wire.Handler(wiretest.Options(), e.Wire()))
	t.Cleanup(server.Close)
	return newClient(wiretest.Config(server.URL))
}

func TestKeyPairsAreMadeImportedShownAndDeleted(t *testing.T) {
	e := setup(t, options{})
	c := over(t, e)
	ctx := t.Context()
	for kind, block := range map[types.KeyType]string{"": "RSA PRIVATE KEY", types.KeyTypeEd25519: "OPENSSH PRIVATE KEY"} {
		name := "made" + string(kind)
		made, err := c.CreateKeyPair(ctx, &sdk.CreateKeyPairInput{KeyName: &name, KeyType: kind, TagSpecifications: []types.TagSpecification{{
			ResourceType: types.ResourceTypeKeyPair, Tags: []types.Tag{{Key: aws.String("for"), Value: aws.String("packer")}},
		}}})
		require.NoError(t, err)
		assert.Contains(t, *made.KeyMaterial, block)
		signer, err := ssh.ParsePrivateKey([]byte(*made.KeyMaterial))
		require.NoError(t, err)
		shown, err := c.DescribeKeyPairs(ctx, &sdk.DescribeKeyPairsInput{KeyNames: []string{name}, IncludePublicKey: aws.Bool(true)})
		require.NoError(t, err)
		require.Len(t, shown.KeyPairs, 1)
		public, _, _, _, err := ssh.ParseAuthorizedKey([]byte(*shown.KeyPairs[0].PublicKey))
		require.NoError(t, err)
		assert.Equal(t, signer.PublicKey().Marshal(), public.Marshal(), "the private key belongs to the public one")
		assert.Equal(t, made.KeyFingerprint, shown.KeyPairs[0].KeyFingerprint)
		assert.Equal(t, made.KeyPairId, shown.KeyPairs[0].KeyPairId)
		assert.Equal(t, "packer", *shown.KeyPairs[0].Tags[0].Value)
		_, err = c.CreateKeyPair(ctx, &sdk.CreateKeyPairInput{KeyName: &name})
		requireCode(t, err, "InvalidKeyPair.Duplicate")
	}
	own, _, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	public, err := ssh.NewPublicKey(own)
	require.NoError(t, err)
	_, err = c.ImportKeyPair(ctx, &sdk.ImportKeyPairInput{KeyName: aws.String("mine"), PublicKeyMaterial: ssh.MarshalAuthorizedKey(public)})
	require.NoError(t, err)
	_, err = c.ImportKeyPair(ctx, &sdk.ImportKeyPairInput{KeyName: aws.String("bad"), PublicKeyMaterial: []byte("no key")})
	requireCode(t, err, "InvalidKey.Format")
	all, err := c.DescribeKeyPairs(ctx, &sdk.DescribeKeyPairsInput{Filters: []types.Filter{{Name: aws.String("key-name"), Values: []string{"m*"}}}})
	require.NoError(t, err)
	require.Len(t, all.KeyPairs, 3)
	assert.Nil(t, all.KeyPairs[0].PublicKey, "only on demand")
	_, err = c.DescribeKeyPairs(as(ctx, other), &sdk.DescribeKeyPairsInput{KeyNames: []string{"absent"}})
	requireCode(t, err, "InvalidKeyPair.NotFound")
	_, err = c.DeleteKeyPair(ctx, &sdk.DeleteKeyPairInput{KeyName: aws.String("mine")})
	require.NoError(t, err)
	_, err = c.DeleteKeyPair(ctx, &sdk.DeleteKeyPairInput{KeyName: aws.String("mine")})
	require.NoError(t, err, "one that is not there is no error")
	_, err = c.DescribeKeyPairs(ctx, &sdk.DescribeKeyPairsInput{KeyNames: []string{"mine"}})
	requireCode(t, err, "InvalidKeyPair.NotFound")
}

func TestAnInstanceHasTheKeyItWasLaunchedWith(t *testing.T) {
	shown := make(chan imds.Instance, 1)
	e := setup(t, options{config: func(c *ec2.Config) {
		c.SSHKey = "ssh-ed25519 AAAA of-all"
		c.Metadata = func(i imds.Instance) http.Handler {
			shown <- i
			return http.NotFoundHandler()
		}
	}})
	made, err := e.CreateKeyPair(t.Context(), &sdk.CreateKeyPairInput{KeyName: aws.String("packer")})
	require.NoError(t, err)
	i := e.run(func(in *sdk.RunInstancesInput) { in.KeyName = made.KeyName })
	assert.Equal(t, "packer", *i.KeyName)
	e.pass(time.Minute)
	at := <-shown
	assert.Equal(t, "packer", at.KeyName)
	assert.True(t, strings.HasPrefix(at.SSHKey, "ssh-rsa "), at.SSHKey)
	assert.Nil(t, e.describe(*i.InstanceId).PublicIpAddress, "simulated guests have no network to lead to")
}

// reachable are guests whose port 22 is a server of the test.
type reachable struct {
	vm.Driver
	server string
}

type reachableMachine struct {
	vm.Machine
	server string
}

func (d reachable) Start(ctx context.Context, in vm.Launch) (vm.Machine, error) {
	m, err := d.Driver.Start(ctx, in)
	return reachableMachine{m, d.server}, err
}

func (m reachableMachine) Dial(ctx context.Context, _ uint16) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "tcp", m.server)
}

func TestAPublicAddressLeadsToTheGuestsSSHAndGoesWithIt(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("to listen on port 22 of a loopback address needs root")
	}
	server, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = server.Close() })
	go func() {
		for {
			conn, err := server.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, "SSH-2.0-guest\r\n")
			_ = conn.Close()
		}
	}()
	e := setup(t, options{config: func(c *ec2.Config) { c.Driver = reachable{c.Driver, server.Addr().String()} }})
	_, err = e.CreateKeyPair(t.Context(), &sdk.CreateKeyPairInput{KeyName: aws.String("packer")})
	require.NoError(t, err)
	plain := *e.run().InstanceId
	keyed := *e.run(func(in *sdk.RunInstancesInput) { in.KeyName = aws.String("packer") }).InstanceId
	asked := *e.run(func(in *sdk.RunInstancesInput) {
		in.NetworkInterfaces = []types.InstanceNetworkInterfaceSpecification{{DeviceIndex: aws.Int32(0), AssociatePublicIpAddress: aws.Bool(true)}}
	}).InstanceId
	declined := *e.run(func(in *sdk.RunInstancesInput) {
		in.KeyName = aws.String("packer")
		in.NetworkInterfaces = []types.InstanceNetworkInterfaceSpecification{{DeviceIndex: aws.Int32(0), AssociatePublicIpAddress: aws.Bool(false)}}
	}).InstanceId
	e.pass(time.Minute)
	assert.Nil(t, e.describe(plain).PublicIpAddress, "without a key and not asked for")
	assert.Nil(t, e.describe(declined).PublicIpAddress)
	for _, id := range []string{keyed, asked} {
		i := e.describe(id)
		require.NotNil(t, i.PublicIpAddress)
		assert.Equal(t, "127"+strings.TrimPrefix(*i.PrivateIpAddress, "172"), *i.PublicIpAddress)
		assert.Equal(t, i.PublicIpAddress, i.NetworkInterfaces[0].Association.PublicIp)
		conn, err := net.Dial("tcp", net.JoinHostPort(*i.PublicIpAddress, "22"))
		require.NoError(t, err)
		banner, err := io.ReadAll(conn)
		require.NoError(t, err)
		assert.Equal(t, "SSH-2.0-guest\r\n", string(banner))
		require.NoError(t, conn.Close())
	}
	address := *e.describe(keyed).PublicIpAddress
	_, err = e.StopInstances(t.Context(), &sdk.StopInstancesInput{InstanceIds: []string{keyed}})
	require.NoError(t, err)
	e.pass(time.Minute)
	assert.Nil(t, e.describe(keyed).PublicIpAddress, "a stopped instance has none")
	_, err = net.Dial("tcp", net.JoinHostPort(address, "22"))
	assert.Error(t, err)
}

func TestGroupsHaveRulesOfTheirOwnAndAreDeletedByIDOrName(t *testing.T) {
	e := setup(t, options{})
	c := over(t, e)
	ctx := t.Context()
	made, err := c.CreateSecurityGroup(ctx, &sdk.CreateSecurityGroupInput{GroupName: aws.String("packer"), Description: aws.String("temporary")})
	require.NoError(t, err)
	ssh := []types.IpPermission{{IpProtocol: aws.String("tcp"), FromPort: aws.Int32(22), ToPort: aws.Int32(22), IpRanges: []types.IpRange{{CidrIp: aws.String("0.0.0.0/0")}}}}
	authorised, err := c.AuthorizeSecurityGroupIngress(ctx, &sdk.AuthorizeSecurityGroupIngressInput{GroupId: made.GroupId, IpPermissions: ssh})
	require.NoError(t, err)
	require.Len(t, authorised.SecurityGroupRules, 1)
	assert.Equal(t, made.GroupId, authorised.SecurityGroupRules[0].GroupId)
	_, err = c.AuthorizeSecurityGroupIngress(ctx, &sdk.AuthorizeSecurityGroupIngressInput{GroupId: made.GroupId, IpPermissions: ssh})
	requireCode(t, err, "InvalidPermission.Duplicate")
	_, err = c.AuthorizeSecurityGroupIngress(ctx, &sdk.AuthorizeSecurityGroupIngressInput{
		GroupName: aws.String("packer"), IpProtocol: aws.String("tcp"), FromPort: aws.Int32(80), ToPort: aws.Int32(80), CidrIp: aws.String("10.0.0.0/8"),
	})
	require.NoError(t, err, "the older form, by name")
	_, err = c.AuthorizeSecurityGroupIngress(ctx, &sdk.AuthorizeSecurityGroupIngressInput{GroupId: made.GroupId})
	requireCode(t, err, "MissingParameter")
	groups := func() map[string]int {
		out, err := c.DescribeSecurityGroups(ctx, &sdk.DescribeSecurityGroupsInput{})
		require.NoError(t, err)
		rules := map[string]int{}
		for _, g := range out.SecurityGroups {
			rules[*g.GroupName] = len(g.IpPermissions)
		}
		return rules
	}
	assert.Equal(t, map[string]int{"default": 0, "packer": 2}, groups())
	_, err = c.RevokeSecurityGroupIngress(ctx, &sdk.RevokeSecurityGroupIngressInput{GroupId: made.GroupId, IpPermissions: ssh})
	require.NoError(t, err)
	assert.Equal(t, map[string]int{"default": 0, "packer": 1}, groups())
	_, err = c.DeleteSecurityGroup(ctx, &sdk.DeleteSecurityGroupInput{GroupName: aws.String("packer")})
	require.NoError(t, err)
	assert.Equal(t, map[string]int{"default": 0}, groups())
	_, err = c.DeleteSecurityGroup(ctx, &sdk.DeleteSecurityGroupInput{GroupId: made.GroupId})
	requireCode(t, err, "InvalidGroup.NotFound")
	_, err = c.DeleteSecurityGroup(ctx, &sdk.DeleteSecurityGroupInput{GroupName: aws.String("default")})
	requireCode(t, err, "CannotDelete")
}

func TestAttributesAreModifiedWithoutOperationTypeWhereTheRequestSaysWhatIsAdded(t *testing.T) {
	e := setup(t, options{})
	id := e.made("mine")
	c := over(t, e)
	ctx := t.Context()
	// As Packer's amazon plugin sends it: the account in both lists, no OperationType.
	_, err := c.ModifyImageAttribute(ctx, &sdk.ModifyImageAttributeInput{
		ImageId: &id, UserIds: []string{other}, LaunchPermission: &types.LaunchPermissionModifications{Add: []types.LaunchPermission{{UserId: aws.String(other)}}},
	})
	require.NoError(t, err)
	shown, err := c.DescribeImageAttribute(ctx, &sdk.DescribeImageAttributeInput{ImageId: &id, Attribute: types.ImageAttributeNameLaunchPermission})
	require.NoError(t, err)
	require.Len(t, shown.LaunchPermissions, 1)
	assert.Equal(t, other, *shown.LaunchPermissions[0].UserId)
	_, err = c.ModifyImageAttribute(ctx, &sdk.ModifyImageAttributeInput{ImageId: &id, UserIds: []string{other}})
	requireCode(t, err, "MissingParameter")

	snapshot := e.snapshotOf(id).SnapshotId
	_, err = c.ModifySnapshotAttribute(ctx, &sdk.ModifySnapshotAttributeInput{
		SnapshotId: snapshot, UserIds: []string{other},
		CreateVolumePermission: &types.CreateVolumePermissionModifications{Add: []types.CreateVolumePermission{{UserId: aws.String(other)}}},
	})
	require.NoError(t, err)
	volumes, err := c.DescribeSnapshotAttribute(ctx, &sdk.DescribeSnapshotAttributeInput{SnapshotId: snapshot, Attribute: types.SnapshotAttributeNameCreateVolumePermission})
	require.NoError(t, err)
	require.Len(t, volumes.CreateVolumePermissions, 1)
}

func TestAttributesOfAnInstanceAreShownOneByOne(t *testing.T) {
	e := setup(t, options{})
	c := over(t, e)
	id := *e.run(func(in *sdk.RunInstancesInput) {
		in.UserData, in.InstanceInitiatedShutdownBehavior, in.DisableApiTermination = aws.String("eA=="), types.ShutdownBehaviorTerminate, aws.Bool(true)
	}).InstanceId
	show := func(name types.InstanceAttributeName) *sdk.DescribeInstanceAttributeOutput {
		out, err := c.DescribeInstanceAttribute(t.Context(), &sdk.DescribeInstanceAttributeInput{InstanceId: &id, Attribute: name})
		require.NoError(t, err)
		return out
	}
	assert.Equal(t, "eA==", *show(types.InstanceAttributeNameUserData).UserData.Value)
	assert.Equal(t, "terminate", *show(types.InstanceAttributeNameInstanceInitiatedShutdownBehavior).InstanceInitiatedShutdownBehavior.Value)
	assert.True(t, *show(types.InstanceAttributeNameDisableApiTermination).DisableApiTermination.Value)
	assert.Equal(t, "t3.medium", *show(types.InstanceAttributeNameInstanceType).InstanceType.Value)
	assert.Len(t, show(types.InstanceAttributeNameBlockDeviceMapping).BlockDeviceMappings, 1)
	assert.Len(t, show(types.InstanceAttributeNameGroupSet).Groups, 1)
	assert.Empty(t, show(types.InstanceAttributeNameInstanceType).Groups)
	_, err := c.DescribeInstanceAttribute(t.Context(), &sdk.DescribeInstanceAttributeInput{InstanceId: &id, Attribute: "colour"})
	requireCode(t, err, "InvalidParameterValue")
	_, err = c.DescribeInstanceAttribute(t.Context(), &sdk.DescribeInstanceAttributeInput{InstanceId: aws.String("i-0123456789abcdef0"), Attribute: types.InstanceAttributeNameInstanceType})
	requireCode(t, err, "InvalidInstanceID.NotFound")
}
