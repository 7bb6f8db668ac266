// Package secretsmanager is the Secrets Manager of the embedded AWS: secrets
// with their versions, kept in its state.
package secretsmanager

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/persist"
	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/partition"
)

// The staging labels that Secrets Manager itself moves.
const (
	current  = "AWSCURRENT"
	previous = "AWSPREVIOUS"
)

// secret is one secret with all its versions.
type secret struct {
	Name        string
	ARN         string
	Description string
	KMSKeyID    string
	Tags        []types.Tag
	Created     time.Time
	Changed     time.Time
	Deleted     time.Time // when DeleteSecret was called; zero: it is in use
	Removal     time.Time // when it is gone
	Versions    map[string]*version
}

// version is one value of a secret.
type version struct {
	ID      string
	String  *string
	Binary  []byte
	Stages  []string // sorted
	Created time.Time
}

// region is the state of one account in one region: secrets by name.
type region map[string]*secret

// Service implements Secrets Manager.
type Service struct {
	clock    clock.Clock
	fallback wire.Caller

	mu      sync.Mutex
	regions map[scope.Key]region
}

// New returns a Service whose default caller is fallback.
func New(c clock.Clock, fallback wire.Caller) *Service {
	return &Service{clock: c, fallback: fallback, regions: map[scope.Key]region{}}
}

func (s *Service) caller(ctx context.Context, optFns []func(*secretsmanager.Options)) wire.Caller {
	c := scope.CallerIn(ctx, s.fallback, optFns, func(o *secretsmanager.Options) *string { return &o.Region })
	if c.ARN == "" {
		c.ARN = wire.RootARN(c.Account, c.Region)
	}
	return c
}

// at returns the secrets of an account in a region, without those whose time to
// be recovered is over. The caller holds s.mu.
func (s *Service) at(k scope.Key) region {
	r, ok := s.regions[k]
	if !ok {
		r = region{}
		s.regions[k] = r
	}
	for name, held := range r {
		if !held.Deleted.IsZero() && !s.clock.Now().Before(held.Removal) {
			delete(r, name)
		}
	}
	return r
}

// arnSuffix: Secrets Manager ends every ARN with six characters of its own, and
// takes an ARN without them too.
var (
	arnRef    = regexp.MustCompile(`^arn:aws[a-z-]*:secretsmanager:([a-z0-9-]+):([0-9]{12}):secret:(.+)$`)
	arnSuffix = regexp.MustCompile(`-[A-Za-z0-9]{6}$`)
)

// find looks a secret up by name or ARN. The caller holds s.mu. Without a
// resource policy, which the embedded one does not keep, no account reads
// another's.
func (s *Service) find(c wire.Caller, action, ref string) (*secret, error) {
	if ref == "" {
		return nil, invalidParameter("You must provide a value for the SecretId parameter.")
	}
	name := ref
	if m := arnRef.FindStringSubmatch(ref); m != nil {
		if m[2] != c.Account {
			return nil, wire.Errorf("AccessDeniedException",
				"User: %s is not authorized to perform: secretsmanager:%s on resource: %s because no resource-based policy allows the secretsmanager:%s action", c.ARN, action, ref, action)
		}
		if m[1] != c.Region {
			return nil, notFound("Secrets Manager can't find the specified secret.")
		}
		name = m[3]
	}
	secrets := s.at(scope.KeyOf(c))
	if found, ok := secrets[name]; ok {
		return found, nil
	}
	if name != ref && arnSuffix.MatchString(name) {
		if found, ok := secrets[name[:len(name)-len("-xxxxxx")]]; ok && found.ARN == ref {
			return found, nil
		}
	}
	return nil, notFound("Secrets Manager can't find the specified secret.")
}

// inUse is find for operations that a secret marked for deletion refuses.
func (s *Service) inUse(c wire.Caller, action, ref string) (*secret, error) {
	found, err := s.find(c, action, ref)
	if err != nil {
		return nil, err
	}
	if !found.Deleted.IsZero() {
		return nil, invalidRequest("You can't perform this operation on the secret because it was marked for deletion.")
	}
	return found, nil
}

// Name is the name of the secret that a reference means to an account in a
// region, whether there is one or not, and the ARN to speak of it with. ok is
// false for a reference to elsewhere.
func (s *Service) Name(account, regionName, ref string) (name, arn string, ok bool) {
	c := wire.Caller{Account: account, Region: regionName}
	s.mu.Lock()
	defer s.mu.Unlock()
	if found, err := s.find(c, "", ref); err == nil {
		return found.Name, found.ARN, true
	}
	if m := arnRef.FindStringSubmatch(ref); m != nil {
		return m[3], ref, m[1] == regionName && m[2] == account
	}
	return ref, secretARN(scope.Key{Account: account, Region: regionName}, ref), true
}

func secretARN(at scope.Key, name string) string {
	return partition.ARN("secretsmanager", at.Region, at.Account, "secret:"+name)
}

// staged returns the version with a label.
func (t *secret) staged(label string) *version {
	for _, v := range t.Versions {
		if slices.Contains(v.Stages, label) {
			return v
		}
	}
	return nil
}

// stage moves labels to a version. The version that loses AWSCURRENT gets
// AWSPREVIOUS.
func (t *secret) stage(v *version, labels []string) {
	for _, label := range labels {
		from := t.staged(label)
		if from == v {
			continue
		}
		if from != nil {
			from.drop(label)
			if label == current {
				if older := t.staged(previous); older != nil {
					older.drop(previous)
				}
				from.add(previous)
			}
		}
		v.add(label)
	}
}

func (v *version) add(label string) {
	v.Stages = append(v.Stages, label)
	slices.Sort(v.Stages)
}

func (v *version) drop(label string) {
	v.Stages = slices.DeleteFunc(v.Stages, func(s string) bool { return s == label })
}

// same reports whether a version has exactly this value.
func (v *version) same(text *string, binary []byte) bool {
	return (v.String == nil) == (text == nil) && aws.ToString(v.String) == aws.ToString(text) && slices.Equal(v.Binary, binary)
}

// stages returns the labels of all versions that have any, by version id.
func (t *secret) stages() map[string][]string {
	out := map[string][]string{}
	for id, v := range t.Versions {
		if len(v.Stages) > 0 {
			out[id] = slices.Clone(v.Stages)
		}
	}
	return out
}

func notFound(format string, values ...any) error {
	return &types.ResourceNotFoundException{Message: aws.String(fmt.Sprintf(format, values...))}
}

func invalidRequest(format string, values ...any) error {
	return &types.InvalidRequestException{Message: aws.String(fmt.Sprintf(format, values...))}
}

func invalidParameter(format string, values ...any) error {
	return &types.InvalidParameterException{Message: aws.String(fmt.Sprintf(format, values...))}
}

func exists(format string, values ...any) error {
	return &types.ResourceExistsException{Message: aws.String(fmt.Sprintf(format, values...))}
}

// Wire describes the service to the HTTP front end.
func (s *Service) Wire() wire.Service {
	return wire.Service{
		ID: "secretsmanager", Name: "Secrets Manager", Protocol: wire.AWSJSON, Version: "2017-10-17", TargetPrefix: "secretsmanager",
		Operations: map[string]wire.Operation{
			"CreateSecret":   wire.Op(s.CreateSecret),
			"DeleteSecret":   wire.Op(s.DeleteSecret),
			"DescribeSecret": wire.Op(s.DescribeSecret),
			"GetSecretValue": wire.Op(s.GetSecretValue),
			"ListSecrets":    wire.Op(s.ListSecrets),
			"PutSecretValue": wire.Op(s.PutSecretValue),
		},
	}
}

// Snapshot implements wire.Stateful.
func (s *Service) Snapshot() (json.RawMessage, error) { return persist.Snapshot(&s.mu, &s.regions) }

// Restore implements wire.Stateful.
func (s *Service) Restore(raw json.RawMessage) error {
	return persist.Restore(&s.mu, "Secrets Manager", raw, &s.regions, nil)
}

// describes reports whether a text begins with one of the values, or, after "!",
// with none of them.
func describes(text string, values []string) bool {
	for _, v := range values {
		if rest, negated := strings.CutPrefix(v, "!"); negated {
			if !strings.HasPrefix(text, rest) {
				return true
			}
		} else if strings.HasPrefix(text, v) {
			return true
		}
	}
	return false
}
