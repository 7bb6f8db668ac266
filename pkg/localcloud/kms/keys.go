package kms

import (
	"context"
	"crypto/rand"
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/google/uuid"

	"github.com/ami-factory/ami-factory/pkg/localcloud/authz"
	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/partition"
)

// defaultPolicy lets the account's IAM policies decide, like KMS's default
// (https://docs.aws.amazon.com/kms/latest/developerguide/key-policy-default.html).
func defaultPolicy(at scope.Key) string {
	return fmt.Sprintf(`{"Version":"2012-10-17","Id":"key-default-1","Statement":[{"Sid":"Enable IAM User Permissions","Effect":"Allow","Principal":{"AWS":%q},"Action":"kms:*","Resource":"*"}]}`, wire.RootARN(at.Account, at.Region))
}

func (s *Service) newKey(at scope.Key) *key {
	material := make([]byte, 32)
	_, _ = rand.Read(material) // never fails, see crypto/rand
	id := uuid.NewString()
	return &key{
		ID: id, ARN: partition.ARN("kms", at.Region, at.Account, "key/"+id),
		State: types.KeyStateEnabled, Created: s.clock.Now(), Policy: defaultPolicy(at),
		Material: material, Grants: map[string]grant{}, Tags: map[string]string{},
	}
}

func (k *key) metadata() *types.KeyMetadata {
	manager := types.KeyManagerTypeCustomer
	if k.Managed {
		manager = types.KeyManagerTypeAws
	}
	m := &types.KeyMetadata{
		KeyId: aws.String(k.ID), Arn: aws.String(k.ARN), AWSAccountId: aws.String(strings.Split(k.ARN, ":")[4]),
		CreationDate: aws.Time(k.Created), Description: aws.String(k.Description),
		Enabled: k.State == types.KeyStateEnabled, KeyState: k.State, KeyManager: manager,
		KeySpec: k.spec(), CustomerMasterKeySpec: types.CustomerMasterKeySpec(k.spec()),
		KeyUsage: k.usage(), Origin: types.OriginTypeAwsKms, MultiRegion: aws.Bool(false),
	}
	if spec, signs := signingSpecOf(k.spec()); signs {
		m.SigningAlgorithms = spec.algorithms
	} else {
		m.EncryptionAlgorithms = []types.EncryptionAlgorithmSpec{types.EncryptionAlgorithmSpecSymmetricDefault}
	}
	if k.State == types.KeyStatePendingDeletion {
		m.DeletionDate = aws.Time(k.Deletion)
	}
	return m
}

// CreateKey makes a symmetric customer key, or one that signs.
func (s *Service) CreateKey(ctx context.Context, in *kms.CreateKeyInput, optFns ...func(*kms.Options)) (*kms.CreateKeyOutput, error) {
	spec, usage, err := checkSpec(in)
	if err != nil {
		return nil, err
	}
	if aws.ToBool(in.MultiRegion) {
		return nil, &types.UnsupportedOperationException{Message: aws.String("The embedded KMS does not support multi-Region keys.")}
	}
	if in.Policy != nil {
		if err := checkPolicy(*in.Policy); err != nil {
			return nil, err
		}
	}
	at := scope.KeyOf(s.caller(ctx, optFns))
	k := s.newKey(at)
	if signing, ok := signingSpecOf(spec); ok {
		k.Spec, k.Usage = spec, usage
		if k.Material, err = signing.material(); err != nil { // of RSA: takes seconds, so before the lock
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k.Description = aws.ToString(in.Description)
	if in.Policy != nil {
		k.Policy = *in.Policy
	}
	for _, tag := range in.Tags {
		k.Tags[aws.ToString(tag.TagKey)] = aws.ToString(tag.TagValue)
	}
	s.at(at).Keys[k.ID] = k
	return &kms.CreateKeyOutput{KeyMetadata: k.metadata()}, nil
}

// DescribeKey returns a key's metadata.
func (s *Service) DescribeKey(ctx context.Context, in *kms.DescribeKeyInput, optFns ...func(*kms.Options)) (*kms.DescribeKeyOutput, error) {
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	k, _, err := s.find(at, aws.ToString(in.KeyId))
	if err != nil {
		return nil, err
	}
	return &kms.DescribeKeyOutput{KeyMetadata: k.metadata()}, nil
}

// ListKeys lists the account's keys by id.
func (s *Service) ListKeys(ctx context.Context, in *kms.ListKeysInput, optFns ...func(*kms.Options)) (*kms.ListKeysOutput, error) {
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	page, next, err := scope.Page(s.at(at).sortedKeys(), aws.ToString(in.Marker), limitOf(in.Limit))
	if err != nil {
		return nil, err
	}
	out := &kms.ListKeysOutput{Truncated: next != "", NextMarker: marker(next)}
	for _, k := range page {
		out.Keys = append(out.Keys, types.KeyListEntry{KeyId: aws.String(k.ID), KeyArn: aws.String(k.ARN)})
	}
	return out, nil
}

// CreateAlias makes an alias of a key.
func (s *Service) CreateAlias(ctx context.Context, in *kms.CreateAliasInput, optFns ...func(*kms.Options)) (*kms.CreateAliasOutput, error) {
	name := aws.ToString(in.AliasName)
	if !aliasRef.MatchString(name) {
		return nil, &types.InvalidAliasNameException{Message: aws.String(fmt.Sprintf("%q is not an alias: alias/<letters, digits, / _ -> is expected", name))}
	}
	if strings.HasPrefix(name, "alias/aws/") {
		return nil, wire.Errorf("NotAuthorizedException", "Aliases that begin with alias/aws/ belong to AWS.")
	}
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	k, where, err := s.find(at, aws.ToString(in.TargetKeyId))
	if err != nil {
		return nil, err
	}
	if where != at {
		return nil, &types.NotFoundException{Message: aws.String("An alias and its key must be in the same account and region.")}
	}
	r := s.at(at)
	if _, taken := r.Aliases[name]; taken {
		return nil, &types.AlreadyExistsException{Message: aws.String(fmt.Sprintf("An alias with the name %s already exists", partition.ARN("kms", at.Region, at.Account, name)))}
	}
	r.Aliases[name] = alias{KeyID: k.ID, Created: s.clock.Now()}
	return &kms.CreateAliasOutput{}, nil
}

// ListAliases lists the account's aliases by name, or those of one key.
func (s *Service) ListAliases(ctx context.Context, in *kms.ListAliasesInput, optFns ...func(*kms.Options)) (*kms.ListAliasesOutput, error) {
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	only := ""
	if in.KeyId != nil {
		k, _, err := s.find(at, *in.KeyId)
		if err != nil {
			return nil, err
		}
		only = k.ID
	}
	var entries []types.AliasListEntry
	for name, a := range s.at(at).Aliases {
		if only != "" && a.KeyID != only {
			continue
		}
		entries = append(entries, types.AliasListEntry{
			AliasName: aws.String(name), AliasArn: aws.String(partition.ARN("kms", at.Region, at.Account, name)),
			TargetKeyId: aws.String(a.KeyID), CreationDate: aws.Time(a.Created), LastUpdatedDate: aws.Time(a.Created),
		})
	}
	sort.Slice(entries, func(i, j int) bool { return *entries[i].AliasName < *entries[j].AliasName })
	page, next, err := scope.Page(entries, aws.ToString(in.Marker), limitOf(in.Limit))
	if err != nil {
		return nil, err
	}
	return &kms.ListAliasesOutput{Aliases: page, Truncated: next != "", NextMarker: marker(next)}, nil
}

// GetKeyPolicy returns the key's only policy, "default".
func (s *Service) GetKeyPolicy(ctx context.Context, in *kms.GetKeyPolicyInput, optFns ...func(*kms.Options)) (*kms.GetKeyPolicyOutput, error) {
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	k, _, err := s.find(at, aws.ToString(in.KeyId))
	if err != nil {
		return nil, err
	}
	if err := checkPolicyName(in.PolicyName); err != nil {
		return nil, err
	}
	return &kms.GetKeyPolicyOutput{Policy: aws.String(k.Policy), PolicyName: aws.String("default")}, nil
}

// PutKeyPolicy replaces the key's policy.
func (s *Service) PutKeyPolicy(ctx context.Context, in *kms.PutKeyPolicyInput, optFns ...func(*kms.Options)) (*kms.PutKeyPolicyOutput, error) {
	if err := checkPolicyName(in.PolicyName); err != nil {
		return nil, err
	}
	if err := checkPolicy(aws.ToString(in.Policy)); err != nil {
		return nil, err
	}
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	k, _, err := s.find(at, aws.ToString(in.KeyId))
	if err != nil {
		return nil, err
	}
	if k.Managed {
		return nil, wire.Errorf("AccessDeniedException", "The policy of an AWS managed key cannot be changed.")
	}
	k.Policy = *in.Policy
	return &kms.PutKeyPolicyOutput{}, nil
}

// ScheduleKeyDeletion deletes a customer key after 7 to 30 days, 30 by default.
func (s *Service) ScheduleKeyDeletion(ctx context.Context, in *kms.ScheduleKeyDeletionInput, optFns ...func(*kms.Options)) (*kms.ScheduleKeyDeletionOutput, error) {
	days := int32(30)
	if in.PendingWindowInDays != nil {
		days = *in.PendingWindowInDays
	}
	if days < 7 || days > 30 {
		return nil, wire.Errorf("ValidationException", "PendingWindowInDays is %d; 7 to 30 are allowed", days)
	}
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	k, _, err := s.find(at, aws.ToString(in.KeyId))
	if err != nil {
		return nil, err
	}
	if k.Managed {
		return nil, wire.Errorf("AccessDeniedException", "An AWS managed key cannot be deleted.")
	}
	if k.State == types.KeyStatePendingDeletion {
		return nil, &types.KMSInvalidStateException{Message: aws.String(k.ARN + " is pending deletion.")}
	}
	k.State = types.KeyStatePendingDeletion
	k.Deletion = s.clock.Now().Add(time.Duration(days) * 24 * time.Hour)
	return &kms.ScheduleKeyDeletionOutput{
		KeyId: aws.String(k.ARN), DeletionDate: aws.Time(k.Deletion), KeyState: k.State, PendingWindowInDays: aws.Int32(days),
	}, nil
}

func checkPolicyName(name *string) error {
	if n := aws.ToString(name); n != "" && n != "default" {
		return &types.NotFoundException{Message: aws.String(fmt.Sprintf("No such policy exists: %q; a key's only policy is \"default\"", n))}
	}
	return nil
}

func checkPolicy(policy string) error {
	if _, err := authz.ParseResource([]byte(policy)); err != nil {
		return &types.MalformedPolicyDocumentException{Message: aws.String(err.Error())}
	}
	return nil
}

func limitOf(limit *int32) int {
	if limit == nil {
		return 100
	}
	return int(*limit)
}

func marker(next string) *string {
	if next == "" {
		return nil
	}
	return aws.String(next)
}
