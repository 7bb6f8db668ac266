// Package sts is the Security Token Service of the embedded AWS: it resolves
// access keys to their owners, and issues temporary keys for roles.
package sts

import (
	"context"
	"encoding/json"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/authz"
	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/persist"
	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// Limits of AssumeRole's DurationSeconds
// (https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html).
const (
	defaultSession  = time.Hour
	shortestSession = 15 * time.Minute
	longestSession  = 12 * time.Hour
)

// Session is a set of temporary credentials.
type Session struct {
	AccessKeyID     string
	SecretAccessKey string
	SessionToken    string
	Account         string
	RoleARN         string
	SessionName     string
	ExternalID      string `json:",omitempty"` // from the caller of AssumeRole
	SourceARN       string // principal that assumed the role
	Expires         time.Time
}

// ARN returns the ARN of the assumed role's session.
func (s Session) ARN() string {
	return authz.RoleSession(s.RoleARN, s.SessionName).ARN
}

// Role returns the name of the assumed role.
func (s Session) Role() string { return roleName(s.RoleARN) }

// Service implements STS.
type Service struct {
	clock      clock.Clock
	fallback   wire.Caller
	rootSecret string
	admits     Admits

	mu       sync.RWMutex
	sessions map[string]Session // by access key id
}

// Admits returns why a caller may not assume a role, or nil.
type Admits func(ctx context.Context, who wire.Caller, in *sts.AssumeRoleInput) error

// New returns a Service whose default caller is fallback. rootSecret is the secret
// access key of the root users of all accounts. Without admits, every caller may
// assume every role.
func New(c clock.Clock, fallback wire.Caller, rootSecret string, admits Admits) *Service {
	return &Service{clock: c, fallback: fallback, rootSecret: rootSecret, admits: admits, sessions: map[string]Session{}}
}

// Key returns what is known about an access key. Twelve digits are the root user
// of that account, with the secret given to New. Other keys are those that
// AssumeRole has issued, until they expire.
func (s *Service) Key(accessKeyID string) (wire.Key, bool) {
	if accountID.MatchString(accessKeyID) {
		return wire.Key{Secret: s.rootSecret, Account: accessKeyID, ARN: wire.RootARN(accessKeyID, s.fallback.Region)}, true
	}
	session, ok := s.Session(accessKeyID)
	if !ok {
		return wire.Key{}, false
	}
	return wire.Key{
		Secret: session.SecretAccessKey, Token: session.SessionToken, Account: session.Account, ARN: session.ARN(),
		Expired: !s.clock.Now().Before(session.Expires),
	}, true
}

// Session returns the temporary credentials with that access key id, expired
// or not.
func (s *Service) Session(accessKeyID string) (Session, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	session, ok := s.sessions[accessKeyID]
	return session, ok
}

// TemporaryPrefix is the prefix of sessions' access key ids.
const TemporaryPrefix = "ASIA"

var (
	accountID   = regexp.MustCompile(`^[0-9]{12}$`)
	roleARN     = regexp.MustCompile(`^arn:aws[a-z-]*:iam::([0-9]{12}):role/(.+)$`)
	sessionName = regexp.MustCompile(`^[\w+=,.@-]{2,64}$`)
)

func roleName(arn string) string { return arn[strings.LastIndex(arn, "/")+1:] }

func (s *Service) caller(ctx context.Context, optFns []func(*sts.Options)) wire.Caller {
	c := scope.CallerIn(ctx, s.fallback, optFns, func(o *sts.Options) *string { return &o.Region })
	if c.ARN == "" {
		c.ARN = wire.RootARN(c.Account, c.Region)
	}
	return c
}

// GetCallerIdentity returns the identity of the caller.
func (s *Service) GetCallerIdentity(ctx context.Context, _ *sts.GetCallerIdentityInput, optFns ...func(*sts.Options)) (*sts.GetCallerIdentityOutput, error) {
	c := s.caller(ctx, optFns)
	userID := c.Account
	if session, ok := s.Session(c.AccessKeyID); ok {
		userID = roleID(session.RoleARN) + ":" + session.SessionName
	}
	return &sts.GetCallerIdentityOutput{Account: aws.String(c.Account), Arn: aws.String(c.ARN), UserId: aws.String(userID)}, nil
}

// GetAccessKeyInfo returns the account of an access key.
func (s *Service) GetAccessKeyInfo(_ context.Context, in *sts.GetAccessKeyInfoInput, _ ...func(*sts.Options)) (*sts.GetAccessKeyInfoOutput, error) {
	id := aws.ToString(in.AccessKeyId)
	key, ok := s.Key(id)
	if !ok || key.Expired {
		return nil, wire.Errorf("ValidationError", "The access key id %q is unknown or has expired.", id)
	}
	return &sts.GetAccessKeyInfoOutput{Account: aws.String(key.Account)}, nil
}

// AssumeRole issues keys that act in the account of the role.
func (s *Service) AssumeRole(ctx context.Context, in *sts.AssumeRoleInput, optFns ...func(*sts.Options)) (*sts.AssumeRoleOutput, error) {
	arn, name := aws.ToString(in.RoleArn), aws.ToString(in.RoleSessionName)
	match := roleARN.FindStringSubmatch(arn)
	if match == nil {
		return nil, wire.Errorf("ValidationError", "%q is not the ARN of a role: arn:<partition>:iam::<account>:role/<name> is expected", arn)
	}
	if !sessionName.MatchString(name) {
		return nil, wire.Errorf("ValidationError", "1 validation error detected: Value '%s' at 'roleSessionName' failed to satisfy constraint: Member must satisfy regular expression pattern: [\\w+=,.@-]{2,64}", name)
	}
	length := defaultSession
	if in.DurationSeconds != nil {
		length = time.Duration(*in.DurationSeconds) * time.Second
		if length < shortestSession || length > longestSession {
			return nil, wire.Errorf("ValidationError", "DurationSeconds is %d; %d to %d are allowed", *in.DurationSeconds, int(shortestSession.Seconds()), int(longestSession.Seconds()))
		}
	}
	who := s.caller(ctx, optFns)
	if s.admits != nil {
		if err := s.admits(ctx, who, in); err != nil {
			return nil, err
		}
	}
	session := Session{
		AccessKeyID:     TemporaryPrefix + strings.ToUpper(scope.Hex(16)),
		SecretAccessKey: scope.Hex(40),
		SessionToken:    scope.Hex(64),
		Account:         match[1],
		RoleARN:         arn,
		SessionName:     name,
		ExternalID:      aws.ToString(in.ExternalId),
		SourceARN:       who.ARN,
		Expires:         s.clock.Now().Add(length).Truncate(time.Second),
	}
	s.mu.Lock()
	s.sessions[session.AccessKeyID] = session
	s.mu.Unlock()
	return &sts.AssumeRoleOutput{
		AssumedRoleUser: &types.AssumedRoleUser{
			Arn:           aws.String(session.ARN()),
			AssumedRoleId: aws.String(roleID(arn) + ":" + name),
		},
		Credentials: &types.Credentials{
			AccessKeyId:     aws.String(session.AccessKeyID),
			SecretAccessKey: aws.String(session.SecretAccessKey),
			SessionToken:    aws.String(session.SessionToken),
			Expiration:      aws.Time(session.Expires),
		},
	}, nil
}

// roleID returns a unique id for a role, in IAM's form: always the same for the
// same ARN.
func roleID(arn string) string { return scope.UniqueID("AROA", arn) }

// Wire describes the service to the HTTP front end.
func (s *Service) Wire() wire.Service {
	return wire.Service{
		ID: "sts", Name: "STS", Protocol: wire.AWSQuery, Version: "2011-06-15",
		Operations: map[string]wire.Operation{
			"AssumeRole":        wire.Op(s.AssumeRole),
			"GetAccessKeyInfo":  wire.Op(s.GetAccessKeyInfo),
			"GetCallerIdentity": wire.Op(s.GetCallerIdentity),
		},
	}
}

// Snapshot implements wire.Stateful.
func (s *Service) Snapshot() (json.RawMessage, error) {
	return persist.Snapshot(s.mu.RLocker(), &s.sessions)
}

// Restore implements wire.Stateful. Sessions that have expired are dropped.
func (s *Service) Restore(raw json.RawMessage) error {
	return persist.Restore(&s.mu, "STS", raw, &s.sessions, func(sessions map[string]Session) error {
		for id, session := range sessions {
			if !s.clock.Now().Before(session.Expires) {
				delete(sessions, id)
			}
		}
		return nil
	})
}
