//go:build linux

package localcloud_test

import (
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdkec2 "github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"github.com/ami-factory/ami-factory/pkg/localcloud"
	"github.com/ami-factory/ami-factory/pkg/localcloud/ec2"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/network"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/nspawn/nspawntest"
)

func TestSSHReachesARealGuestWithTheKeyThatEC2Made(t *testing.T) {
	base := nspawntest.Base(t)
	driver := nspawntest.Driver(t, network.Options{Local: http.NotFoundHandler()})
	c := listening(t, func(cfg *localcloud.Config) { cfg.Driver = driver })
	images, err := c.EC2.RegisterBase(ec2.BaseImage{Name: "debian-12-amd64-20260101-0042", OwnerID: "136693071363", ImageDir: base})
	require.NoError(t, err)
	client := sdkec2.NewFromConfig(c.AWSConfigFor(account, region))
	key, err := client.CreateKeyPair(t.Context(), &sdkec2.CreateKeyPairInput{KeyName: aws.String("packer"), KeyType: ec2types.KeyTypeEd25519})
	require.NoError(t, err)
	signer, err := ssh.ParsePrivateKey([]byte(*key.KeyMaterial))
	require.NoError(t, err)
	made, err := client.RunInstances(t.Context(), &sdkec2.RunInstancesInput{
		ImageId: aws.String(images[region]), InstanceType: ec2types.InstanceTypeT3Micro, MinCount: aws.Int32(1), MaxCount: aws.Int32(1), KeyName: key.KeyName,
	})
	require.NoError(t, err)
	address := ""
	require.Eventually(t, func() bool {
		out, err := client.DescribeInstances(t.Context(), &sdkec2.DescribeInstancesInput{InstanceIds: []string{*made.Instances[0].InstanceId}})
		require.NoError(t, err)
		address = aws.ToString(out.Reservations[0].Instances[0].PublicIpAddress)
		return address != ""
	}, time.Minute, 100*time.Millisecond)
	require.True(t, net.ParseIP(address).IsLoopback(), address)
	var session *ssh.Client
	require.Eventually(t, func() bool {
		session, err = ssh.Dial("tcp", net.JoinHostPort(address, "22"), &ssh.ClientConfig{
			User: "admin", Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, Timeout: 5 * time.Second,
			HostKeyCallback: ssh.InsecureIgnoreHostKey(), // #nosec G106 -- the guest made its host key a moment ago
		})
		return err == nil
	}, 3*time.Minute, 500*time.Millisecond, "%v", err)
	t.Cleanup(func() { _ = session.Close() })
	run, err := session.NewSession()
	require.NoError(t, err)
	out, err := run.CombinedOutput("id -un && sudo id -un")
	require.NoError(t, err, string(out))
	assert.Equal(t, []string{"admin", "root"}, strings.Fields(string(out)))
}
