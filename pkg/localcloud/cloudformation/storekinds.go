package cloudformation

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	kmstypes "github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	secretstypes "github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	ssmtypes "github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/partition"
)

type bucketProperties struct {
	BucketName                     string
	BucketEncryption               *struct{ ServerSideEncryptionConfiguration []encryptionRule }
	PublicAccessBlockConfiguration *s3types.PublicAccessBlockConfiguration
	VersioningConfiguration        *struct {
		Status s3types.BucketVersioningStatus
	}
	OwnershipControls *struct {
		Rules []s3types.OwnershipControlsRule
	}
	NotificationConfiguration *notificationProperties
	Tags                      []tag
	// These have no effect: nothing in the embedded S3 expires or is logged.
	LifecycleConfiguration, LoggingConfiguration any
}

// notificationProperties are those of EventBridge, the only one that the embedded S3
// notifies
// (https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-properties-s3-bucket-notificationconfiguration.html).
type notificationProperties struct {
	EventBridgeConfiguration *struct {
		EventBridgeEnabled *bool
	}
}

// configuration is what the embedded S3 takes of the properties.
func (p *notificationProperties) configuration() (*s3types.NotificationConfiguration, error) {
	out := &s3types.NotificationConfiguration{}
	if p == nil {
		return out, nil
	}
	if e := p.EventBridgeConfiguration; e != nil {
		if e.EventBridgeEnabled == nil {
			return nil, wire.Errorf("ValidationError", "NotificationConfiguration.EventBridgeConfiguration: EventBridgeEnabled is required: true or false")
		}
		if *e.EventBridgeEnabled {
			out.EventBridgeConfiguration = &s3types.EventBridgeConfiguration{}
		}
	}
	return out, nil
}

type encryptionRule struct {
	BucketKeyEnabled              *bool
	ServerSideEncryptionByDefault *struct {
		SSEAlgorithm s3types.ServerSideEncryption
		KeyID        *string `json:"KMSMasterKeyID"`
	}
}

type bucketPolicyProperties struct {
	Bucket         string
	PolicyDocument document
}

func s3Kinds(api func(account, region string) S3) map[string]kind {
	p := s3Provider{api}
	return map[string]kind{
		"AWS::S3::Bucket":       of(changer[bucketProperties]{create: p.createBucket, update: p.updateBucket, remove: p.deleteBucket, replace: []string{"BucketName"}}),
		"AWS::S3::BucketPolicy": of(changer[bucketPolicyProperties]{create: p.createPolicy, update: p.updatePolicy, remove: p.deletePolicy, replace: []string{"Bucket"}}),
	}
}

type s3Provider struct {
	api func(account, region string) S3
}

func (s s3Provider) of(t *target) S3 { return s.api(t.stack.Account, t.stack.Region) }

func (s s3Provider) createBucket(ctx context.Context, t *target, p bucketProperties) error {
	name := p.BucketName
	if name == "" {
		name = strings.ToLower(t.physicalName(63))
	}
	in := &s3.CreateBucketInput{Bucket: aws.String(name)}
	if t.stack.Region != "us-east-1" {
		in.CreateBucketConfiguration = &s3types.CreateBucketConfiguration{LocationConstraint: s3types.BucketLocationConstraint(t.stack.Region)}
	}
	if _, err := s.of(t).CreateBucket(ctx, in); err != nil {
		return err
	}
	t.PhysicalID = name
	of := partition.OrDefault(t.stack.Region)
	t.set("Arn", of.ARN("s3", "", "", name))
	t.set("DomainName", name+".s3."+of.DNSSuffix)
	t.set("RegionalDomainName", name+".s3."+t.stack.Region+"."+of.DNSSuffix)
	t.set("DualStackDomainName", name+".s3.dualstack."+t.stack.Region+"."+of.DNSSuffix)
	return s.configure(ctx, t, p)
}

// configure sets the bucket's properties.
func (s s3Provider) configure(ctx context.Context, t *target, p bucketProperties) error {
	api, name := s.of(t), aws.String(t.PhysicalID)
	if v := p.VersioningConfiguration; v != nil {
		if _, err := api.PutBucketVersioning(ctx, &s3.PutBucketVersioningInput{Bucket: name, VersioningConfiguration: &s3types.VersioningConfiguration{Status: v.Status}}); err != nil {
			return err
		}
	}
	if e := p.BucketEncryption; e != nil {
		if _, err := api.PutBucketEncryption(ctx, &s3.PutBucketEncryptionInput{Bucket: name, ServerSideEncryptionConfiguration: encryption(e.ServerSideEncryptionConfiguration)}); err != nil {
			return err
		}
	}
	if b := p.PublicAccessBlockConfiguration; b != nil {
		if _, err := api.PutPublicAccessBlock(ctx, &s3.PutPublicAccessBlockInput{Bucket: name, PublicAccessBlockConfiguration: b}); err != nil {
			return err
		}
	}
	if o := p.OwnershipControls; o != nil {
		if _, err := api.PutBucketOwnershipControls(ctx, &s3.PutBucketOwnershipControlsInput{Bucket: name, OwnershipControls: &s3types.OwnershipControls{Rules: o.Rules}}); err != nil {
			return err
		}
	}
	if p.NotificationConfiguration != nil {
		notification, err := p.NotificationConfiguration.configuration()
		if err != nil {
			return err
		}
		if _, err := api.PutBucketNotificationConfiguration(ctx, &s3.PutBucketNotificationConfigurationInput{Bucket: name, NotificationConfiguration: notification}); err != nil {
			return err
		}
	}
	all := t.tags(p.Tags)
	if len(all) == 0 {
		return nil
	}
	var tags []s3types.Tag
	for _, key := range sortedKeys(all) {
		tags = append(tags, s3types.Tag{Key: aws.String(key), Value: aws.String(all[key])})
	}
	_, err := api.PutBucketTagging(ctx, &s3.PutBucketTaggingInput{Bucket: name, Tagging: &s3types.Tagging{TagSet: tags}})
	return err
}

func encryption(rules []encryptionRule) *s3types.ServerSideEncryptionConfiguration {
	out := &s3types.ServerSideEncryptionConfiguration{}
	for _, r := range rules {
		rule := s3types.ServerSideEncryptionRule{BucketKeyEnabled: r.BucketKeyEnabled}
		if d := r.ServerSideEncryptionByDefault; d != nil {
			rule.ApplyServerSideEncryptionByDefault = &s3types.ServerSideEncryptionByDefault{SSEAlgorithm: d.SSEAlgorithm, KMSMasterKeyID: d.KeyID}
		}
		out.Rules = append(out.Rules, rule)
	}
	return out
}

func (s s3Provider) updateBucket(ctx context.Context, t *target, old, p bucketProperties) error {
	if old.VersioningConfiguration != nil && p.VersioningConfiguration == nil {
		suspended := *old.VersioningConfiguration
		suspended.Status = s3types.BucketVersioningStatusSuspended
		p.VersioningConfiguration = &suspended
	}
	if old.NotificationConfiguration != nil && p.NotificationConfiguration == nil {
		p.NotificationConfiguration = &notificationProperties{}
	}
	if len(t.tags(p.Tags)) == 0 && len(t.tags(old.Tags)) > 0 {
		if _, err := s.of(t).DeleteBucketTagging(ctx, &s3.DeleteBucketTaggingInput{Bucket: aws.String(t.PhysicalID)}); err != nil {
			return err
		}
	}
	return s.configure(ctx, t, p)
}

// deleteBucket fails for a bucket with objects, as on AWS.
func (s s3Provider) deleteBucket(ctx context.Context, t *target, _ bucketProperties) error {
	_, err := s.of(t).DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: aws.String(t.PhysicalID)})
	return ignoreMissing(err)
}

func (s s3Provider) createPolicy(ctx context.Context, t *target, p bucketPolicyProperties) error {
	_, err := s.of(t).PutBucketPolicy(ctx, &s3.PutBucketPolicyInput{Bucket: aws.String(p.Bucket), Policy: aws.String(string(p.PolicyDocument))})
	if err == nil {
		t.PhysicalID = p.Bucket
	}
	return err
}

func (s s3Provider) updatePolicy(ctx context.Context, t *target, _, p bucketPolicyProperties) error {
	return s.createPolicy(ctx, t, p)
}

func (s s3Provider) deletePolicy(ctx context.Context, t *target, p bucketPolicyProperties) error {
	_, err := s.of(t).DeleteBucketPolicy(ctx, &s3.DeleteBucketPolicyInput{Bucket: aws.String(p.Bucket)})
	return ignoreMissing(err)
}

type keyProperties struct {
	Description         string
	KeyPolicy           document
	KeySpec             kmstypes.KeySpec
	KeyUsage            kmstypes.KeyUsageType
	MultiRegion         *bool
	PendingWindowInDays *int32
	Tags                []tag
	// These have no effect: the embedded KMS does not rotate keys, and new keys are
	// always enabled.
	Enabled, EnableKeyRotation, RotationPeriodInDays any
}

type aliasProperties struct {
	AliasName string
	Key       string `json:"TargetKeyId"`
}

func kmsKinds(api KMS) map[string]kind {
	p := kmsProvider{api}
	return map[string]kind{
		"AWS::KMS::Key": of(changer[keyProperties]{
			create: p.createKey, update: p.updateKey, remove: p.deleteKey, replace: []string{"KeySpec", "KeyUsage", "MultiRegion", "Description"},
		}),
		"AWS::KMS::Alias": of(changer[aliasProperties]{create: p.createAlias, update: p.updateAlias, remove: p.deleteAlias, replace: []string{"AliasName"}}),
	}
}

type kmsProvider struct{ api KMS }

func (k kmsProvider) createKey(ctx context.Context, t *target, p keyProperties) error {
	var tags []kmstypes.Tag
	all := t.tags(p.Tags)
	for _, key := range sortedKeys(all) {
		tags = append(tags, kmstypes.Tag{TagKey: aws.String(key), TagValue: aws.String(all[key])})
	}
	out, err := k.api.CreateKey(ctx, &kms.CreateKeyInput{
		Description: aws.String(p.Description), Policy: scope.Optional(string(p.KeyPolicy)), KeySpec: p.KeySpec, KeyUsage: p.KeyUsage, MultiRegion: p.MultiRegion, Tags: tags,
	})
	if err != nil {
		return err
	}
	t.PhysicalID = aws.ToString(out.KeyMetadata.KeyId)
	t.set("Arn", aws.ToString(out.KeyMetadata.Arn))
	t.set("KeyId", t.PhysicalID)
	return nil
}

func (k kmsProvider) updateKey(ctx context.Context, t *target, old, p keyProperties) error {
	if old.KeyPolicy == p.KeyPolicy || p.KeyPolicy == "" {
		return nil
	}
	_, err := k.api.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: aws.String(t.PhysicalID), Policy: aws.String(string(p.KeyPolicy))})
	return err
}

func (k kmsProvider) deleteKey(ctx context.Context, t *target, p keyProperties) error {
	_, err := k.api.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: aws.String(t.PhysicalID), PendingWindowInDays: p.PendingWindowInDays})
	return ignoreMissing(err)
}

func (k kmsProvider) createAlias(ctx context.Context, t *target, p aliasProperties) error {
	_, err := k.api.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: aws.String(p.AliasName), TargetKeyId: aws.String(p.Key)})
	if err == nil {
		t.PhysicalID = p.AliasName
	}
	return err
}

func (k kmsProvider) updateAlias(ctx context.Context, _ *target, _, p aliasProperties) error {
	_, err := k.api.UpdateAlias(ctx, &kms.UpdateAliasInput{AliasName: aws.String(p.AliasName), TargetKeyId: aws.String(p.Key)})
	return err
}

func (k kmsProvider) deleteAlias(ctx context.Context, t *target, _ aliasProperties) error {
	_, err := k.api.DeleteAlias(ctx, &kms.DeleteAliasInput{AliasName: aws.String(t.PhysicalID)})
	return ignoreMissing(err)
}

type parameterProperties struct {
	Name, Value, Description string
	Type                     ssmtypes.ParameterType
	Tier                     ssmtypes.ParameterTier
	DataType, AllowedPattern string
	Tags                     map[string]string
}

func ssmKinds(api Parameters) map[string]kind {
	p := ssmProvider{api}
	return map[string]kind{
		"AWS::SSM::Parameter": of(changer[parameterProperties]{create: p.create, update: p.update, remove: p.delete, replace: []string{"Name"}}),
		"AWS::SSM::Document": of(changer[documentProperties]{
			create: p.createDocument, update: p.updateDocument, remove: p.deleteDocument, replace: []string{"Name", "DocumentType"},
		}),
	}
}

type documentProperties struct {
	Content        document
	DocumentFormat ssmtypes.DocumentFormat
	DocumentType   ssmtypes.DocumentType
	Name           string
	TargetType     string
	VersionName    string
	// UpdateMethod is Replace (default), which makes another document, or NewVersion.
	UpdateMethod string
	Tags         []tag
}

// createDocument makes a document, whose Ref is its name.
func (s ssmProvider) createDocument(ctx context.Context, t *target, p documentProperties) error {
	name := p.Name
	if name == "" {
		name = t.physicalName(128)
	}
	all := t.tags(p.Tags)
	in := &ssm.CreateDocumentInput{
		Name: aws.String(name), Content: aws.String(string(p.Content)), DocumentFormat: p.DocumentFormat, DocumentType: p.DocumentType,
		TargetType: scope.Optional(p.TargetType), VersionName: scope.Optional(p.VersionName),
	}
	for _, key := range sortedKeys(all) {
		in.Tags = append(in.Tags, ssmtypes.Tag{Key: aws.String(key), Value: aws.String(all[key])})
	}
	if _, err := s.api.CreateDocument(ctx, in); err != nil {
		return err
	}
	t.PhysicalID = name
	return nil
}

// updateDocument adds the new content as a version and makes it the default. It refuses
// UpdateMethod Replace. CloudFormation refuses that only for a document with a custom name
// (https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-ssm-document.html).
func (s ssmProvider) updateDocument(ctx context.Context, t *target, old, p documentProperties) error {
	if old.Content == p.Content && old.DocumentFormat == p.DocumentFormat && old.VersionName == p.VersionName {
		return nil
	}
	if p.UpdateMethod != "NewVersion" {
		return fmt.Errorf("the content of the document %s changes: set UpdateMethod to NewVersion, because the embedded CloudFormation does not replace documents", t.PhysicalID)
	}
	out, err := s.api.UpdateDocument(ctx, &ssm.UpdateDocumentInput{
		Name: aws.String(t.PhysicalID), Content: aws.String(string(p.Content)), DocumentFormat: p.DocumentFormat, DocumentVersion: aws.String("$LATEST"),
		VersionName: scope.Optional(p.VersionName),
	})
	if err != nil {
		return err
	}
	_, err = s.api.UpdateDocumentDefaultVersion(ctx, &ssm.UpdateDocumentDefaultVersionInput{
		Name: aws.String(t.PhysicalID), DocumentVersion: out.DocumentDescription.DocumentVersion,
	})
	return err
}

func (s ssmProvider) deleteDocument(ctx context.Context, t *target, _ documentProperties) error {
	_, err := s.api.DeleteDocument(ctx, &ssm.DeleteDocumentInput{Name: aws.String(t.PhysicalID)})
	return ignoreMissing(err)
}

type ssmProvider struct{ api Parameters }

func (s ssmProvider) put(ctx context.Context, t *target, name string, p parameterProperties, overwrite bool) error {
	in := &ssm.PutParameterInput{
		Name: aws.String(name), Value: aws.String(p.Value), Type: p.Type, Description: scope.Optional(p.Description), Tier: p.Tier,
		DataType: scope.Optional(p.DataType), AllowedPattern: scope.Optional(p.AllowedPattern), Overwrite: aws.Bool(overwrite),
	}
	if !overwrite { // tags cannot be given again
		var own []tag
		for _, key := range sortedKeys(p.Tags) {
			own = append(own, tag{key, p.Tags[key]})
		}
		all := t.tags(own)
		for _, key := range sortedKeys(all) {
			in.Tags = append(in.Tags, ssmtypes.Tag{Key: aws.String(key), Value: aws.String(all[key])})
		}
	}
	if _, err := s.api.PutParameter(ctx, in); err != nil {
		return err
	}
	t.PhysicalID = name
	t.set("Type", string(p.Type))
	t.set("Value", p.Value)
	return nil
}

func (s ssmProvider) create(ctx context.Context, t *target, p parameterProperties) error {
	name := p.Name
	if name == "" {
		name = "CFN-" + t.physicalName(100)
	}
	return s.put(ctx, t, name, p, false)
}

func (s ssmProvider) update(ctx context.Context, t *target, _, p parameterProperties) error {
	return s.put(ctx, t, t.PhysicalID, p, true)
}

func (s ssmProvider) delete(ctx context.Context, t *target, _ parameterProperties) error {
	_, err := s.api.DeleteParameter(ctx, &ssm.DeleteParameterInput{Name: aws.String(t.PhysicalID)})
	return ignoreMissing(err)
}

type secretProperties struct {
	Name, Description, SecretString string
	Key                             string `json:"KmsKeyId"`
	GenerateSecretString            *generated
	Tags                            []tag
}

// generated describes how to generate a secret's value.
type generated struct {
	PasswordLength                          *int
	ExcludeCharacters                       string
	ExcludePunctuation                      bool
	SecretStringTemplate, GenerateStringKey string
}

func secretsKinds(api Secrets) map[string]kind {
	p := secretsProvider{api}
	return map[string]kind{
		"AWS::SecretsManager::Secret": of(changer[secretProperties]{
			create: p.create, update: p.update, remove: p.delete, replace: []string{"Name", "Description", "KmsKeyId"},
		}),
	}
}

type secretsProvider struct{ api Secrets }

// value returns the secret's value, generated if the template says so.
func (p secretProperties) value() (string, error) {
	g := p.GenerateSecretString
	if g == nil {
		return p.SecretString, nil
	}
	alphabet := "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	if !g.ExcludePunctuation {
		alphabet += "!#$%&()*+,-./:;<=>?@[]^_{|}~"
	}
	alphabet = strings.Map(func(r rune) rune {
		if strings.ContainsRune(g.ExcludeCharacters, r) {
			return -1
		}
		return r
	}, alphabet)
	if alphabet == "" {
		return "", invalid("GenerateSecretString excludes all characters")
	}
	length := 32
	if g.PasswordLength != nil {
		length = *g.PasswordLength
	}
	password := make([]byte, 0, max(length, 0))
	for range length {
		n, err := rand.Int(rand.Reader, big.NewInt(int64(len(alphabet))))
		if err != nil {
			return "", err
		}
		password = append(password, alphabet[n.Int64()])
	}
	if g.GenerateStringKey == "" {
		return string(password), nil
	}
	fields := map[string]any{}
	if err := json.Unmarshal([]byte(g.SecretStringTemplate), &fields); err != nil {
		return "", invalid("SecretStringTemplate is not a JSON object: %v", err)
	}
	fields[g.GenerateStringKey] = string(password)
	raw, err := json.Marshal(fields)
	return string(raw), err
}

func (s secretsProvider) create(ctx context.Context, t *target, p secretProperties) error {
	name := p.Name
	if name == "" {
		name = t.physicalName(200)
	}
	value, err := p.value()
	if err != nil {
		return err
	}
	var tags []secretstypes.Tag
	all := t.tags(p.Tags)
	for _, key := range sortedKeys(all) {
		tags = append(tags, secretstypes.Tag{Key: aws.String(key), Value: aws.String(all[key])})
	}
	out, err := s.api.CreateSecret(ctx, &secretsmanager.CreateSecretInput{
		Name: aws.String(name), Description: scope.Optional(p.Description), KmsKeyId: scope.Optional(p.Key), SecretString: scope.Optional(value), Tags: tags,
	})
	if err != nil {
		return err
	}
	t.PhysicalID = aws.ToString(out.ARN)
	t.set("Id", t.PhysicalID)
	return nil
}

func (s secretsProvider) update(ctx context.Context, t *target, old, p secretProperties) error {
	if old.SecretString == p.SecretString && (old.GenerateSecretString == nil) == (p.GenerateSecretString == nil) {
		return nil
	}
	value, err := p.value()
	if err != nil {
		return err
	}
	_, err = s.api.PutSecretValue(ctx, &secretsmanager.PutSecretValueInput{SecretId: aws.String(t.PhysicalID), SecretString: aws.String(value)})
	return err
}

func (s secretsProvider) delete(ctx context.Context, t *target, _ secretProperties) error {
	_, err := s.api.DeleteSecret(ctx, &secretsmanager.DeleteSecretInput{SecretId: aws.String(t.PhysicalID), ForceDeleteWithoutRecovery: aws.Bool(true)})
	return ignoreMissing(err)
}
