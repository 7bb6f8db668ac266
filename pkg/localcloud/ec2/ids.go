package ec2

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

var idSuffix = regexp.MustCompile(`^([0-9a-f]{8}|[0-9a-f]{17})$`)

// resourceKind has the names of a kind of resource in ids and errors.
type resourceKind struct {
	prefix string // of ids
	family string // of error codes: InvalidAMIID
	noun   string // in messages
}

var (
	amiKind      = resourceKind{"ami-", "InvalidAMIID", "image"}
	instanceKind = resourceKind{"i-", "InvalidInstanceID", "instance"}
	snapshotKind = resourceKind{"snap-", "InvalidSnapshotID", "snapshot"}
	volumeKind   = resourceKind{"vol-", "InvalidVolumeID", "volume"}
)

func (k resourceKind) newID() string { return k.prefix + scope.Hex(17) }

// check refuses a malformed id of this kind.
func (k resourceKind) check(id string) error {
	suffix, ok := strings.CutPrefix(id, k.prefix)
	if !ok || !idSuffix.MatchString(suffix) {
		return wire.Errorf(k.family+".Malformed", "Invalid id: %q (expecting %q)", id, k.prefix+"...")
	}
	return nil
}

// notFound returns EC2's error for missing resources.
func (k resourceKind) notFound(ids ...string) error {
	switch {
	case k == amiKind && len(ids) == 1:
		return wire.Errorf("InvalidAMIID.NotFound", "The image id '[%s]' does not exist", ids[0])
	case k == amiKind:
		return wire.Errorf("InvalidAMIID.NotFound", "The image ids '[%s]' do not exist", strings.Join(ids, ", "))
	case k == snapshotKind:
		return wire.Errorf("InvalidSnapshot.NotFound", "The snapshot '%s' does not exist.", strings.Join(ids, ", "))
	case k == volumeKind:
		return wire.Errorf("InvalidVolume.NotFound", "The volume '%s' does not exist.", strings.Join(ids, ", "))
	case len(ids) == 1:
		return wire.Errorf(k.family+".NotFound", "The %s ID '%s' does not exist", k.noun, ids[0])
	}
	return wire.Errorf(k.family+".NotFound", "The %s IDs '%s' do not exist", k.noun, strings.Join(ids, ", "))
}

// required refuses an absent parameter.
func required(name string, value *string) error {
	if aws.ToString(value) == "" {
		return wire.Errorf("MissingParameter", "The request must contain the parameter %s", name)
	}
	return nil
}

// dryRun ends a call that only tests its permissions.
func dryRun(flag *bool) error {
	if aws.ToBool(flag) {
		return wire.Errorf("DryRunOperation", "Request would have succeeded, but DryRun flag is set.")
	}
	return nil
}

// stableID derives an id from the given parts.
func stableID(prefix string, parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return prefix + hex.EncodeToString(sum[:])[:17]
}

// replay returns the result of an earlier call with the same client token.
// params are the call's parameters without the token. The caller holds s.mu.
func (s *Service) replay(c wire.Caller, operation string, clientToken *string, params any) (key string, digest string, result string, err error) {
	if aws.ToString(clientToken) == "" {
		return "", "", "", nil
	}
	raw, err := json.Marshal(params)
	if err != nil {
		return "", "", "", fmt.Errorf("digest the parameters of %s: %w", operation, err)
	}
	sum := sha256.Sum256(raw)
	digest = hex.EncodeToString(sum[:])
	key = strings.Join([]string{c.Account, c.Region, operation, *clientToken}, "/")
	known, ok := s.st.Tokens[key]
	if !ok {
		return key, digest, "", nil
	}
	if known.Digest != digest {
		return "", "", "", wire.Errorf("IdempotentParameterMismatch",
			"Arguments on this idempotent request are inconsistent with arguments used in previous request(s).")
	}
	return key, digest, known.Result, nil
}

// remember stores the result of a call with a client token.
func (s *Service) remember(key, digest, result string) {
	if key != "" {
		s.st.Tokens[key] = token{Digest: digest, Result: result}
	}
}
