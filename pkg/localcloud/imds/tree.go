package imds

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/ami-factory/ami-factory/pkg/partition"
)

// content makes the text of one leaf.
type content func(ctx context.Context) []byte

// tree holds the leaves below a version by their path, such as
// "meta-data/placement/region". Directories follow from the paths.
type tree map[string]content

func newTree(in Instance) tree {
	t := tree{}
	const md = "meta-data/"
	for name, value := range map[string]string{
		"ami-id":                       in.ImageID,
		"ami-launch-index":             "0",
		"ami-manifest-path":            "(unknown)",
		"block-device-mapping/ami":     in.RootDevice,
		"block-device-mapping/root":    in.RootDevice,
		"events/maintenance/history":   "[]",
		"events/maintenance/scheduled": "[]",
		"hibernation/configured":       "false",
		"hostname":                     in.Hostname,
		"instance-action":              "none",
		"instance-id":                  in.InstanceID,
		"instance-life-cycle":          "on-demand",
		"instance-type":                in.InstanceType,
		"local-hostname":               in.Hostname,
		"local-ipv4":                   in.PrivateIP,
		"mac":                          in.MAC,
		"placement/availability-zone":  in.AvailabilityZone,
		"placement/region":             in.Region,
		"profile":                      "default-hvm",
		"services/domain":              partition.OrDefault(in.Region).DNSSuffix,
		"services/partition":           partition.OrDefault(in.Region).ID,
		"system":                       "nitro",
	} {
		t.text(md+name, value)
	}
	t.optional(md+"placement/availability-zone-id", in.AvailabilityZoneID)
	t.optional(md+"reservation-id", in.ReservationID)
	t.optional(md+"security-groups", strings.Join(in.SecurityGroups, "\n"))
	t.addInterface(in)
	t.addIAM(in)
	if in.SSHKey != "" {
		// The directory is listed as "0=<key name>", see list.
		t.text(md+"public-keys/0/openssh-key", strings.TrimSpace(in.SSHKey)+"\n")
		t.text(md+"public-keys/"+keyListing, "0="+in.KeyName)
	}
	if in.TagsEnabled {
		for key, value := range in.Tags {
			t.text(md+"tags/instance/"+key, value)
		}
	}
	// The signed forms (pkcs7, rsa2048, signature) are absent: only AWS
	// can sign them.
	t["dynamic/instance-identity/document"] = func(context.Context) []byte { return identity(in) }
	return t
}

// keyListing is a pseudo leaf with the listing of its directory.
const keyListing = "="

func (t tree) text(path, value string) {
	t[path] = func(context.Context) []byte { return []byte(value) }
}

func (t tree) optional(path, value string) {
	if value != "" {
		t.text(path, value)
	}
}

func (t tree) addInterface(in Instance) {
	dir := "meta-data/network/interfaces/macs/" + in.MAC + "/"
	t.text(dir+"device-number", "0")
	t.text(dir+"local-hostname", in.Hostname)
	t.text(dir+"local-ipv4s", in.PrivateIP)
	t.text(dir+"mac", in.MAC)
	t.text(dir+"owner-id", in.Account)
	t.optional(dir+"interface-id", in.InterfaceID)
	t.optional(dir+"security-group-ids", strings.Join(in.SecurityGroupIDs, "\n"))
	t.optional(dir+"security-groups", strings.Join(in.SecurityGroups, "\n"))
	t.optional(dir+"subnet-id", in.SubnetID)
	t.optional(dir+"subnet-ipv4-cidr-block", in.SubnetCIDR)
	t.optional(dir+"vpc-id", in.VPCID)
	t.optional(dir+"vpc-ipv4-cidr-block", in.VPCCIDR)
	t.optional(dir+"vpc-ipv4-cidr-blocks", in.VPCCIDR)
}

func (t tree) addIAM(in Instance) {
	if in.Profile == "" {
		return
	}
	t["meta-data/iam/info"] = func(context.Context) []byte {
		return document(struct {
			Code, LastUpdated, InstanceProfileArn, InstanceProfileId string
		}{"Success", stamp(in.Now()), in.Profile, in.ProfileID})
	}
	if in.Role != "" && in.Credentials != nil {
		t["meta-data/iam/security-credentials/"+in.Role] = func(ctx context.Context) []byte {
			return credentials(ctx, in)
		}
	}
}

func credentials(ctx context.Context, in Instance) []byte {
	c, err := in.Credentials(ctx, in.Role)
	if err != nil {
		return document(struct {
			Code, Message, LastUpdated string
		}{"AssumeRoleUnauthorizedAccess", err.Error(), stamp(in.Now())})
	}
	return document(struct {
		Code, LastUpdated, Type, AccessKeyId, SecretAccessKey, Token, Expiration string
	}{"Success", stamp(in.Now()), "AWS-HMAC", c.AccessKeyID, c.SecretAccessKey, c.SessionToken, stamp(c.Expires)})
}

// identity returns the instance identity document.
func identity(in Instance) []byte {
	type nullable = *string
	return document(struct {
		AccountID               string   `json:"accountId"`
		Architecture            string   `json:"architecture"`
		AvailabilityZone        string   `json:"availabilityZone"`
		BillingProducts         []string `json:"billingProducts"`
		DevpayProductCodes      []string `json:"devpayProductCodes"`
		MarketplaceProductCodes []string `json:"marketplaceProductCodes"`
		ImageID                 string   `json:"imageId"`
		InstanceID              string   `json:"instanceId"`
		InstanceType            string   `json:"instanceType"`
		KernelID                nullable `json:"kernelId"`
		PendingTime             string   `json:"pendingTime"`
		PrivateIP               string   `json:"privateIp"`
		RamdiskID               nullable `json:"ramdiskId"`
		Region                  string   `json:"region"`
		Version                 string   `json:"version"`
	}{
		AccountID: in.Account, Architecture: in.Architecture, AvailabilityZone: in.AvailabilityZone,
		ImageID: in.ImageID, InstanceID: in.InstanceID, InstanceType: in.InstanceType,
		PendingTime: stamp(in.PendingTime), PrivateIP: in.PrivateIP, Region: in.Region, Version: "2017-09-30",
	})
}

// get returns the leaf or the listing of the directory at path.
func (t tree) get(ctx context.Context, path string) ([]byte, bool) {
	if leaf, ok := t[path]; ok {
		return leaf(ctx), true
	}
	dir := strings.TrimSuffix(path, "/") + "/"
	if listing, ok := t[dir+keyListing]; ok {
		return listing(ctx), true
	}
	names := t.list(dir)
	if len(names) == 0 {
		return nil, false
	}
	return []byte(strings.Join(names, "\n")), true
}

// list returns the names in dir, sorted; those of directories end with a slash.
func (t tree) list(dir string) []string {
	seen := map[string]bool{}
	for path := range t {
		rest, ok := strings.CutPrefix(path, dir)
		if !ok {
			continue
		}
		name, _, isDir := strings.Cut(rest, "/")
		if isDir {
			name += "/"
		}
		seen[name] = true
	}
	names := make([]string, 0, len(seen))
	for name := range seen {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func document(v any) []byte {
	// Marshalling structs of strings cannot fail.
	raw, _ := json.MarshalIndent(v, "", "  ")
	return raw
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
