package ecr

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecr/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

const (
	// tokenLife is how long an authorization token is valid
	// (https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_GetAuthorizationToken.html).
	tokenLife    = 12 * time.Hour
	downloadLife = time.Hour
	user         = "AWS" // of an authorization token
	// downloadParameter is the parameter of a download address that has its signature.
	downloadParameter = "X-Ecr-Token"
)

// claim is what a password or a download address says. It is signed, so that the service
// keeps no list of them.
type claim struct {
	Caller  wire.Caller
	Expires time.Time
	// Layer is set for the download of one layer only.
	Layer *layerRef `json:",omitempty"`
}

type layerRef struct {
	Registry   scope.Key
	Repository string
	Digest     string
}

// errors of claims.
var (
	errNotSigned = errors.New("the authorization token is not one of this registry")
	errExpired   = errors.New("the authorization token has expired") // of the claim, or of the access key
)

func (s *Service) signature(payload string) []byte {
	mac := hmac.New(sha256.New, []byte("ecr "+s.cfg.Secret))
	mac.Write([]byte(payload)) // never fails
	return mac.Sum(nil)
}

func (s *Service) sign(c claim) (string, error) {
	raw, err := json.Marshal(c)
	if err != nil {
		return "", fmt.Errorf("signing a token: %w", err)
	}
	payload := base64.RawURLEncoding.EncodeToString(raw)
	return payload + "." + base64.RawURLEncoding.EncodeToString(s.signature(payload)), nil
}

func (s *Service) verify(token string) (claim, error) {
	payload, mac, _ := strings.Cut(token, ".")
	given, err := base64.RawURLEncoding.DecodeString(mac)
	if err != nil || !hmac.Equal(given, s.signature(payload)) {
		return claim{}, errNotSigned
	}
	raw, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		return claim{}, errNotSigned
	}
	var c claim
	if err := json.Unmarshal(raw, &c); err != nil {
		return claim{}, errNotSigned
	}
	if !s.cfg.Clock.Now().Before(c.Expires) || s.cfg.Known != nil && c.Caller.AccessKeyID != "" && !s.cfg.Known(c.Caller.AccessKeyID) {
		return claim{}, errExpired
	}
	return c, nil
}

// GetAuthorizationToken returns a name and password for the registry. The permissions
// are those of the caller, in every registry.
func (s *Service) GetAuthorizationToken(ctx context.Context, in *ecr.GetAuthorizationTokenInput, optFns ...func(*ecr.Options)) (*ecr.GetAuthorizationTokenOutput, error) {
	c := s.caller(ctx, optFns)
	//lint:ignore SA1019 the member is deprecated, and clients still send it
	ids := in.RegistryIds
	if len(ids) == 0 {
		ids = []string{c.Account}
	}
	if len(ids) > 10 {
		return nil, invalid("registryIds", "must have a length between 1 and 10")
	}
	expires := s.cfg.Clock.Now().Add(tokenLife).Truncate(time.Millisecond)
	password, err := s.sign(claim{Caller: c, Expires: expires})
	if err != nil {
		return nil, err
	}
	out := &ecr.GetAuthorizationTokenOutput{}
	for _, id := range ids {
		if err := checkRegistry(&id); err != nil {
			return nil, err
		}
		scheme, host := s.address(c, scope.Key{Account: id, Region: c.Region})
		out.AuthorizationData = append(out.AuthorizationData, types.AuthorizationData{
			AuthorizationToken: aws.String(base64.StdEncoding.EncodeToString([]byte(user + ":" + password))), ExpiresAt: aws.Time(expires), ProxyEndpoint: aws.String(scheme + "://" + host),
		})
	}
	return out, nil
}

// downloadURL is an address from which a layer can be read without credentials.
func (s *Service) downloadURL(c wire.Caller, k scope.Key, name, digest string) (string, error) {
	token, err := s.sign(claim{Caller: c, Expires: s.cfg.Clock.Now().Add(downloadLife), Layer: &layerRef{Registry: k, Repository: name, Digest: digest}})
	if err != nil {
		return "", err
	}
	scheme, host := s.address(c, k)
	return scheme + "://" + host + "/v2/" + name + "/blobs/" + digest + "?" + url.Values{downloadParameter: {token}}.Encode(), nil
}
