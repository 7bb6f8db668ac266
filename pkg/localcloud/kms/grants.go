package kms

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sort"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// CreateGrant allows another principal to use a key. A repeated grant (same
// name, grantee and operations) has the same id, as on KMS.
func (s *Service) CreateGrant(ctx context.Context, in *kms.CreateGrantInput, optFns ...func(*kms.Options)) (*kms.CreateGrantOutput, error) {
	if aws.ToString(in.GranteePrincipal) == "" {
		return nil, wire.Errorf("ValidationException", "GranteePrincipal is required.")
	}
	if len(in.Operations) == 0 {
		return nil, wire.Errorf("ValidationException", "Operations must name at least one operation.")
	}
	c := s.caller(ctx, optFns)
	s.mu.Lock()
	defer s.mu.Unlock()
	k, err := s.usable(scope.KeyOf(c), aws.ToString(in.KeyId))
	if err != nil {
		return nil, err
	}
	if name := aws.ToString(in.Name); name != "" {
		for _, g := range k.Grants {
			if g.Name == name && g.Grantee == *in.GranteePrincipal && fmt.Sprint(g.Operations) == fmt.Sprint(in.Operations) {
				return &kms.CreateGrantOutput{GrantId: aws.String(g.ID), GrantToken: aws.String(g.Token)}, nil
			}
		}
	}
	g := grant{
		ID: scope.Hex(64), Token: scope.Hex(96), Name: aws.ToString(in.Name), Grantee: *in.GranteePrincipal,
		Retiring: aws.ToString(in.RetiringPrincipal), Operations: in.Operations, Context: in.Constraints,
		Created: s.clock.Now(), Issuer: c.ARN,
	}
	k.Grants[g.ID] = g
	return &kms.CreateGrantOutput{GrantId: aws.String(g.ID), GrantToken: aws.String(g.Token)}, nil
}

// ListGrants lists the grants of a key, oldest first.
func (s *Service) ListGrants(ctx context.Context, in *kms.ListGrantsInput, optFns ...func(*kms.Options)) (*kms.ListGrantsOutput, error) {
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	k, _, err := s.find(at, aws.ToString(in.KeyId))
	if err != nil {
		return nil, err
	}
	var grants []grant
	for _, g := range k.Grants {
		if (in.GrantId == nil || *in.GrantId == g.ID) && (in.GranteePrincipal == nil || *in.GranteePrincipal == g.Grantee) {
			grants = append(grants, g)
		}
	}
	sort.Slice(grants, func(i, j int) bool {
		if !grants[i].Created.Equal(grants[j].Created) {
			return grants[i].Created.Before(grants[j].Created)
		}
		return grants[i].ID < grants[j].ID
	})
	page, next, err := scope.Page(grants, aws.ToString(in.Marker), limitOf(in.Limit))
	if err != nil {
		return nil, err
	}
	out := &kms.ListGrantsOutput{Truncated: next != "", NextMarker: marker(next)}
	for _, g := range page {
		entry := types.GrantListEntry{
			GrantId: aws.String(g.ID), KeyId: aws.String(k.ARN), GranteePrincipal: aws.String(g.Grantee), Operations: g.Operations,
			Constraints: g.Context, CreationDate: aws.Time(g.Created), IssuingAccount: aws.String(g.Issuer), Name: aws.String(g.Name),
		}
		if g.Retiring != "" {
			entry.RetiringPrincipal = aws.String(g.Retiring)
		}
		out.Grants = append(out.Grants, entry)
	}
	return out, nil
}

// RetireGrant ends a grant, given by its token or by key and grant id.
func (s *Service) RetireGrant(ctx context.Context, in *kms.RetireGrantInput, optFns ...func(*kms.Options)) (*kms.RetireGrantOutput, error) {
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	if in.GrantToken != nil {
		for _, k := range s.at(at).Keys {
			for id, g := range k.Grants {
				if g.Token == *in.GrantToken {
					delete(k.Grants, id)
					return &kms.RetireGrantOutput{}, nil
				}
			}
		}
		return nil, &types.InvalidGrantTokenException{Message: aws.String("The grant token is not valid.")}
	}
	k, _, err := s.find(at, aws.ToString(in.KeyId))
	if err != nil {
		return nil, err
	}
	if _, ok := k.Grants[aws.ToString(in.GrantId)]; !ok {
		return nil, &types.NotFoundException{Message: aws.String(fmt.Sprintf("Grant %q of %s does not exist.", aws.ToString(in.GrantId), k.ARN))}
	}
	delete(k.Grants, *in.GrantId)
	return &kms.RetireGrantOutput{}, nil
}

// Policy returns a key's policy and its grants, for permission checks. ok is
// false if the key does not exist.
func (s *Service) Policy(arn string) (policy string, grants []types.GrantListEntry, ok bool) {
	m := keyARN.FindStringSubmatch(arn)
	if m == nil {
		return "", nil, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k, _, err := s.find(scope.Key{Account: m[2], Region: m[1]}, arn)
	if err != nil {
		return "", nil, false
	}
	for _, id := range slices.Sorted(maps.Keys(k.Grants)) {
		g := k.Grants[id]
		grants = append(grants, types.GrantListEntry{GrantId: aws.String(id), GranteePrincipal: aws.String(g.Grantee), Operations: g.Operations, Constraints: g.Context})
	}
	return k.Policy, grants, true
}
