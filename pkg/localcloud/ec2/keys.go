package ec2

import (
	"fmt"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/partition"
)

// managedKey is EBS's own key, used where a volume is to be encrypted and no
// key is named.
const managedKey = "alias/aws/ebs"

// anyKey is the ResolveKey of a Service without KMS.
func anyKey(account, region, ref string) (Key, error) {
	arn := ref
	switch {
	case strings.HasPrefix(ref, "arn:"):
	case strings.HasPrefix(ref, "alias/"):
		arn = partition.ARN("kms", region, account, ref)
	default:
		arn = partition.ARN("kms", region, account, "key/"+ref)
	}
	return Key{ARN: arn, Managed: strings.Contains(arn, ":alias/aws/"), Enabled: true}, nil
}

// AnyProfile is the Profile of a Service without IAM: every profile exists, with
// a role of its name, in the partition of a region.
func AnyProfile(region, account, ref string) (InstanceProfile, error) {
	p := partition.OrDefault(region)
	name := ref[strings.LastIndex(ref, "/")+1:]
	arn := ref
	if !strings.HasPrefix(ref, "arn:") {
		arn = p.ARN("iam", "", account, "instance-profile/"+name)
	}
	return InstanceProfile{
		ARN: arn, ID: stableUpperID("AIPA", arn), Role: name, RoleARN: p.ARN("iam", "", account, "role/"+name),
	}, nil
}

func stableUpperID(prefix string, parts ...string) string {
	return prefix + strings.ToUpper(stableID("", parts...))
}

// encryption is what a new volume or snapshot is encrypted with.
type encryption struct {
	Encrypted bool
	KeyARN    string
	Managed   bool
	Trouble   string // why the key cannot be used; found out after the call, as on EC2
}

// resolveEncryption settles the key for account in region.
func (s *Service) resolveEncryption(account, region, ref string) encryption {
	if ref == "" {
		ref = managedKey
	}
	key, err := s.cfg.ResolveKey(account, region, ref)
	switch {
	case err != nil:
		return encryption{Encrypted: true, KeyARN: ref, Trouble: fmt.Sprintf("Given key ID %s is not accessible: %v", ref, err)}
	case !key.Enabled:
		return encryption{Encrypted: true, KeyARN: key.ARN, Trouble: fmt.Sprintf("Given key ID %s is not usable: it is disabled or pending deletion", key.ARN)}
	}
	return encryption{Encrypted: true, KeyARN: key.ARN, Managed: key.Managed}
}
