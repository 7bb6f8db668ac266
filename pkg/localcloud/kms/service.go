// Package kms is the Key Management Service of the embedded AWS: keys that
// encrypt or sign (the saved state contains their material), aliases, policies and
// grants.
package kms

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/persist"
	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/partition"
)

// managedAliases returns the aliases of AWS managed keys that the services here
// use.
func managedAliases() []string { return []string{"alias/aws/ebs", "alias/aws/ecr", "alias/aws/ssm"} }

// key is one KMS key.
type key struct {
	ID          string
	ARN         string
	Description string
	Managed     bool // by AWS
	State       types.KeyState
	Created     time.Time
	Deletion    time.Time // if it is pending deletion
	Policy      string
	// Spec and Usage are empty for symmetric keys, also in states that were saved
	// before there were others.
	Spec     types.KeySpec
	Usage    types.KeyUsageType
	Material []byte // of a symmetric key 32 bytes, of one that signs its private key as PKCS #8
	Grants   map[string]grant
	Tags     map[string]string
}

type grant struct {
	ID         string
	Token      string
	Name       string
	Grantee    string
	Retiring   string
	Operations []types.GrantOperation
	Context    *types.GrantConstraints
	Created    time.Time
	Issuer     string
}

// region is the state of one account in one region.
type region struct {
	Keys    map[string]*key  // by key id
	Aliases map[string]alias // by name, "alias/…"
}

type alias struct {
	KeyID   string
	Created time.Time
}

// Service implements KMS.
type Service struct {
	clock    clock.Clock
	fallback wire.Caller

	mu      sync.Mutex
	regions map[scope.Key]*region
}

// New returns a Service whose default caller is fallback.
func New(c clock.Clock, fallback wire.Caller) *Service {
	return &Service{clock: c, fallback: fallback, regions: map[scope.Key]*region{}}
}

func (s *Service) caller(ctx context.Context, optFns []func(*kms.Options)) wire.Caller {
	c := scope.CallerIn(ctx, s.fallback, optFns, func(o *kms.Options) *string { return &o.Region })
	if c.ARN == "" {
		c.ARN = wire.RootARN(c.Account, c.Region)
	}
	return c
}

// at returns the state of an account in a region; AWS managed keys always exist.
// The caller holds s.mu.
func (s *Service) at(k scope.Key) *region {
	if r, ok := s.regions[k]; ok {
		return r
	}
	r := &region{Keys: map[string]*key{}, Aliases: map[string]alias{}}
	s.regions[k] = r
	for _, name := range managedAliases() {
		made := s.newKey(k)
		made.Managed = true
		made.Description = "Default key that protects my " + strings.TrimPrefix(name, "alias/aws/") + " data when no other key is defined"
		r.Keys[made.ID] = made
		r.Aliases[name] = alias{KeyID: made.ID, Created: made.Created}
	}
	return r
}

var (
	keyARN   = regexp.MustCompile(`^arn:aws[a-z-]*:kms:([a-z0-9-]+):([0-9]{12}):(key|alias)/(.+)$`)
	aliasRef = regexp.MustCompile(`^alias/[a-zA-Z0-9/_-]+$`)
)

// find looks a key up by id, ARN, alias name or alias ARN. The caller holds
// s.mu. The scope of the result is the caller's, or that of the ARN.
func (s *Service) find(at scope.Key, ref string) (*key, scope.Key, error) {
	if m := keyARN.FindStringSubmatch(ref); m != nil {
		if m[1] != at.Region {
			return nil, at, &types.NotFoundException{Message: aws.String(fmt.Sprintf("Invalid arn %s: it is of region %s, and the call was made in %s", ref, m[1], at.Region))}
		}
		at.Account = m[2]
		ref = m[4]
		if m[3] == "alias" {
			ref = "alias/" + m[4]
		}
	}
	r := s.at(at)
	id := ref
	if strings.HasPrefix(ref, "alias/") {
		a, ok := r.Aliases[ref]
		if !ok {
			return nil, at, &types.NotFoundException{Message: aws.String(fmt.Sprintf("Alias %s is not found.", partition.ARN("kms", at.Region, at.Account, ref)))}
		}
		id = a.KeyID
	}
	k, ok := r.Keys[id]
	if ok && k.State == types.KeyStatePendingDeletion && !s.clock.Now().Before(k.Deletion) {
		delete(r.Keys, id)
		ok = false
	}
	if !ok {
		return nil, at, &types.NotFoundException{Message: aws.String(fmt.Sprintf("Key '%s' does not exist", partition.ARN("kms", at.Region, at.Account, "key/"+id)))}
	}
	return k, at, nil
}

// usable is find for the cryptographic operations, which refuse a key that is
// disabled or pending deletion.
func (s *Service) usable(at scope.Key, ref string) (*key, error) {
	k, _, err := s.find(at, ref)
	if err != nil {
		return nil, err
	}
	switch k.State {
	case types.KeyStateEnabled:
		return k, nil
	case types.KeyStateDisabled:
		return nil, &types.DisabledException{Message: aws.String(k.ARN + " is disabled.")}
	default:
		return nil, &types.KMSInvalidStateException{Message: aws.String(fmt.Sprintf("%s is %s.", k.ARN, k.State))}
	}
}

// usableFor is usable for an operation that needs a key of a usage.
func (s *Service) usableFor(at scope.Key, ref, operation string, usage types.KeyUsageType) (*key, error) {
	k, err := s.usable(at, ref)
	if err == nil && k.usage() != usage {
		err = &types.InvalidKeyUsageException{Message: aws.String(fmt.Sprintf("%s key usage is %s which is not valid for %s.", k.ARN, k.usage(), operation))}
	}
	return k, err
}

func (k *key) spec() types.KeySpec { return cmp.Or(k.Spec, types.KeySpecSymmetricDefault) }

func (k *key) usage() types.KeyUsageType { return cmp.Or(k.Usage, types.KeyUsageTypeEncryptDecrypt) }

// Resolved is the key to which a reference resolves.
type Resolved struct {
	ARN     string
	Managed bool // by AWS: images that it encrypts cannot be shared
	Enabled bool
	Spec    types.KeySpec
	Usage   types.KeyUsageType
	Aliases []string // sorted
}

// Resolve looks up a key for another service, by id, ARN, alias or alias ARN,
// for an account in a region. The error is a NotFoundException.
func (s *Service) Resolve(account, regionName, ref string) (Resolved, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, at, err := s.find(scope.Key{Account: account, Region: regionName}, ref)
	if err != nil {
		return Resolved{}, err
	}
	out := Resolved{ARN: k.ARN, Managed: k.Managed, Enabled: k.State == types.KeyStateEnabled, Spec: k.spec(), Usage: k.usage()}
	for name, a := range s.at(at).Aliases {
		if a.KeyID == k.ID {
			out.Aliases = append(out.Aliases, name)
		}
	}
	slices.Sort(out.Aliases)
	return out, nil
}

// Wire describes the service to the HTTP front end.
func (s *Service) Wire() wire.Service {
	return wire.Service{
		ID: "kms", Name: "KMS", Protocol: wire.AWSJSON, Version: "2014-11-01", TargetPrefix: "TrentService",
		Operations: map[string]wire.Operation{
			"CreateAlias":         wire.Op(s.CreateAlias),
			"CreateGrant":         wire.Op(s.CreateGrant),
			"CreateKey":           wire.Op(s.CreateKey),
			"Decrypt":             wire.Op(s.Decrypt),
			"DeleteAlias":         wire.Op(s.DeleteAlias),
			"DescribeKey":         wire.Op(s.DescribeKey),
			"DisableKey":          wire.Op(s.DisableKey),
			"EnableKey":           wire.Op(s.EnableKey),
			"Encrypt":             wire.Op(s.Encrypt),
			"GenerateDataKey":     wire.Op(s.GenerateDataKey),
			"GetPublicKey":        wire.Op(s.GetPublicKey),
			"Sign":                wire.Op(s.Sign),
			"Verify":              wire.Op(s.Verify),
			"GetKeyPolicy":        wire.Op(s.GetKeyPolicy),
			"ListAliases":         wire.Op(s.ListAliases),
			"ListGrants":          wire.Op(s.ListGrants),
			"ListKeys":            wire.Op(s.ListKeys),
			"PutKeyPolicy":        wire.Op(s.PutKeyPolicy),
			"RetireGrant":         wire.Op(s.RetireGrant),
			"ScheduleKeyDeletion": wire.Op(s.ScheduleKeyDeletion),
			"UpdateAlias":         wire.Op(s.UpdateAlias),
		},
	}
}

// Snapshot implements wire.Stateful.
func (s *Service) Snapshot() (json.RawMessage, error) { return persist.Snapshot(&s.mu, &s.regions) }

// Restore implements wire.Stateful.
func (s *Service) Restore(raw json.RawMessage) error {
	return persist.Restore(&s.mu, "KMS", raw, &s.regions, nil)
}

// sortedKeys returns the keys of a region by id. The caller holds s.mu.
func (r *region) sortedKeys() []*key {
	keys := make([]*key, 0, len(r.Keys))
	for _, k := range r.Keys {
		keys = append(keys, k)
	}
	sort.Slice(keys, func(i, j int) bool { return keys[i].ID < keys[j].ID })
	return keys
}
