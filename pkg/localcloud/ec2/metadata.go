package ec2

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/imds"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
)

// credentialsRenewal is the time before their expiry at which a role's
// credentials are renewed; EC2 guarantees new ones at least five minutes before.
const credentialsRenewal = 15 * time.Minute

// metadata makes the metadata service of one life of an instance.
func (s *Service) metadata(i *instance) http.Handler {
	if i.MetadataOptions.HttpEndpoint == types.InstanceMetadataEndpointStateDisabled {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) })
	}
	required := i.MetadataOptions.HttpTokens == types.HttpTokensStateRequired
	if s.cfg.Driver.Kind() == vm.Container {
		// Containers have no DMI, and cloud-init then does not fetch a session token.
		required = false
	}
	in := imds.Instance{
		InstanceID: *i.InstanceId, ImageID: aws.ToString(i.ImageId), InstanceType: string(i.InstanceType), Architecture: string(i.Architecture),
		PrivateIP: *i.PrivateIpAddress, MAC: i.MAC, Account: i.Account, Region: i.Region,
		AvailabilityZone: aws.ToString(i.Placement.AvailabilityZone), AvailabilityZoneID: zoneID(i.Region, aws.ToString(i.Placement.AvailabilityZone)),
		PendingTime: *i.LaunchTime, ReservationID: i.ReservationID,
		SubnetID: aws.ToString(i.SubnetId), VPCID: aws.ToString(i.VpcId), VPCCIDR: vpcCIDR,
		RootDevice: aws.ToString(i.RootDeviceName), UserData: i.UserData, SSHKey: s.cfg.SSHKey,
		TokensRequired: required, TagsEnabled: i.MetadataOptions.InstanceMetadataTags == types.InstanceMetadataTagsStateEnabled,
		Tags:    make(map[string]string, len(i.Tags)),
		Profile: i.Profile.ARN, ProfileID: i.Profile.ID, Role: i.Profile.Role,
		Now: s.cfg.Clock.Now,
	}
	if i.SSHKey != "" {
		in.SSHKey, in.KeyName = i.SSHKey, aws.ToString(i.KeyName)
	}
	for _, t := range i.Tags {
		in.Tags[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	for _, g := range i.SecurityGroups {
		in.SecurityGroups = append(in.SecurityGroups, aws.ToString(g.GroupName))
		in.SecurityGroupIDs = append(in.SecurityGroupIDs, aws.ToString(g.GroupId))
	}
	for _, n := range i.NetworkInterfaces {
		in.InterfaceID = aws.ToString(n.NetworkInterfaceId)
	}
	if s.cfg.Credentials == nil {
		in.Profile = ""
		return s.cfg.Metadata(in)
	}
	account, region, id := i.Account, i.Region, in.InstanceID
	var mu sync.Mutex
	var held aws.Credentials
	in.Credentials = func(ctx context.Context, role string) (aws.Credentials, error) {
		mu.Lock()
		defer mu.Unlock()
		// As on EC2, repeated requests return the same credentials until they are
		// about to expire.
		if held.Expires.Sub(s.cfg.Clock.Now()) > credentialsRenewal {
			return held, nil
		}
		credentials, err := s.cfg.Credentials(ctx, account, region, role, id)
		if err != nil {
			return aws.Credentials{}, fmt.Errorf("credentials of role %s for %s: %w", role, id, err)
		}
		held = credentials
		return credentials, nil
	}
	return s.cfg.Metadata(in)
}
