package ec2

import (
	"fmt"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/partition"
)

// managedKey is EBS's own key, the default for encrypted volumes.
const managedKey = "alias/aws/ebs"

// anyKey is the default of ResolveKey, for a Service without KMS.
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

// AnyProfile is the default of Profile, for a Service without IAM: every profile
// exists and has a role of the same name, in the partition of the region.
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

// encryption is the encryption of a new volume or snapshot.
type encryption struct {
	Encrypted bool
	KeyARN    string
	Managed   bool
	Trouble   string // why the key cannot be used; reported after the call, as on EC2
}

// resolveEncryption resolves the key for an account in a region.
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
