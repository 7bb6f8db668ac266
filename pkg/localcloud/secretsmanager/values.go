package secretsmanager

import (
	"context"
	"regexp"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/google/uuid"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
)

// Limits of a secret
// (https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_limits.html).
const (
	maxValue     = 65536 // bytes
	maxLabels    = 20
	minTokenSize = 32
	maxTokenSize = 64
)

// secretName also excludes names that look like a name with an ARN's six
// characters.
var secretName = regexp.MustCompile(`^[A-Za-z0-9/_+=.@-]{1,512}$`)

// CreateSecret makes a secret, with a first version if a value is given.
// Repeating the call with the same token and value makes it once, as on AWS.
func (s *Service) CreateSecret(ctx context.Context, in *secretsmanager.CreateSecretInput, optFns ...func(*secretsmanager.Options)) (*secretsmanager.CreateSecretOutput, error) {
	name := aws.ToString(in.Name)
	if !secretName.MatchString(name) {
		return nil, invalidParameter("Invalid name. Must be a valid name containing alphanumeric characters, or any of the following: -/_+=.@")
	}
	valued := in.SecretString != nil || in.SecretBinary != nil
	token, err := checkValue(in.ClientRequestToken, in.SecretString, in.SecretBinary)
	if err != nil {
		return nil, err
	}
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	secrets := s.at(at)
	if held, taken := secrets[name]; taken {
		if !held.Deleted.IsZero() {
			return nil, invalidRequest("You can't create this secret because a secret with this name is already scheduled for deletion.")
		}
		if v := held.Versions[token]; v != nil && v.same(in.SecretString, in.SecretBinary) {
			return &secretsmanager.CreateSecretOutput{ARN: aws.String(held.ARN), Name: aws.String(name), VersionId: aws.String(token)}, nil
		}
		return nil, exists("The operation failed because the secret %s already exists.", name)
	}
	now := s.clock.Now()
	made := &secret{
		Name: name, ARN: secretARN(at, name) + "-" + scope.Hex(6), Description: aws.ToString(in.Description),
		KMSKeyID: aws.ToString(in.KmsKeyId), Tags: slices.Clone(in.Tags), Created: now, Changed: now, Versions: map[string]*version{},
	}
	out := &secretsmanager.CreateSecretOutput{ARN: aws.String(made.ARN), Name: aws.String(name)}
	if valued {
		made.Versions[token] = &version{ID: token, String: in.SecretString, Binary: in.SecretBinary, Stages: []string{current}, Created: now}
		out.VersionId = aws.String(token)
	}
	secrets[name] = made
	return out, nil
}

// PutSecretValue adds a version, which becomes AWSCURRENT unless the call has
// other labels.
func (s *Service) PutSecretValue(ctx context.Context, in *secretsmanager.PutSecretValueInput, optFns ...func(*secretsmanager.Options)) (*secretsmanager.PutSecretValueOutput, error) {
	if in.SecretString == nil && in.SecretBinary == nil {
		return nil, invalidRequest("You must provide either SecretString or SecretBinary.")
	}
	token, err := checkValue(in.ClientRequestToken, in.SecretString, in.SecretBinary)
	if err != nil {
		return nil, err
	}
	labels := in.VersionStages
	if len(labels) == 0 {
		labels = []string{current}
	}
	if len(labels) > maxLabels {
		return nil, invalidParameter("VersionStages has %d labels; at most %d are allowed.", len(labels), maxLabels)
	}
	c := s.caller(ctx, optFns)
	s.mu.Lock()
	defer s.mu.Unlock()
	held, err := s.inUse(c, "PutSecretValue", aws.ToString(in.SecretId))
	if err != nil {
		return nil, err
	}
	v := held.Versions[token]
	if v != nil && !v.same(in.SecretString, in.SecretBinary) {
		return nil, exists("A resource with the ID you requested already exists.")
	}
	if v == nil {
		v = &version{ID: token, String: in.SecretString, Binary: in.SecretBinary, Created: s.clock.Now()}
		held.Versions[token] = v
		held.stage(v, labels)
		if held.staged(current) == nil { // the first version
			v.add(current)
		}
		held.Changed = v.Created
	}
	return &secretsmanager.PutSecretValueOutput{
		ARN: aws.String(held.ARN), Name: aws.String(held.Name), VersionId: aws.String(token), VersionStages: slices.Clone(v.Stages),
	}, nil
}

// GetSecretValue returns a version by id or label, AWSCURRENT by default.
func (s *Service) GetSecretValue(ctx context.Context, in *secretsmanager.GetSecretValueInput, optFns ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error) {
	c := s.caller(ctx, optFns)
	s.mu.Lock()
	defer s.mu.Unlock()
	held, err := s.inUse(c, "GetSecretValue", aws.ToString(in.SecretId))
	if err != nil {
		return nil, err
	}
	label := aws.ToString(in.VersionStage)
	var v *version
	if id := aws.ToString(in.VersionId); id != "" {
		if v = held.Versions[id]; v == nil {
			return nil, notFound("Secrets Manager can't find the specified secret value for VersionId: %s", id)
		}
		if label != "" && !slices.Contains(v.Stages, label) {
			return nil, invalidRequest("You provided a VersionStage that is not associated to the provided VersionId.")
		}
	} else {
		if label == "" {
			label = current
		}
		if v = held.staged(label); v == nil {
			return nil, notFound("Secrets Manager can't find the specified secret value for staging label: %s", label)
		}
	}
	return &secretsmanager.GetSecretValueOutput{
		ARN: aws.String(held.ARN), Name: aws.String(held.Name), CreatedDate: aws.Time(v.Created), SecretString: v.String,
		SecretBinary: slices.Clone(v.Binary), VersionId: aws.String(v.ID), VersionStages: slices.Clone(v.Stages),
	}, nil
}

// checkValue checks a value, and returns the id of its new version.
func checkValue(token, text *string, binary []byte) (string, error) {
	if text != nil && binary != nil {
		return "", invalidParameter("You can't specify both a binary secret value and a string secret value in the same secret.")
	}
	if text != nil && *text == "" || binary != nil && len(binary) == 0 {
		return "", invalidParameter("A secret value cannot be empty.")
	}
	if size := max(len(aws.ToString(text)), len(binary)); size > maxValue {
		return "", invalidParameter("The secret value has %d bytes; at most %d are allowed.", size, maxValue)
	}
	if token == nil {
		return uuid.NewString(), nil
	}
	if n := len(*token); n < minTokenSize || n > maxTokenSize {
		return "", invalidParameter("ClientRequestToken must be %d-%d characters long.", minTokenSize, maxTokenSize)
	}
	return *token, nil
}
