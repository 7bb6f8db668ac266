package deploy

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	ssmtypes "github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/rehearsal/guests"
)

// deploySecrets makes what agents start with, of no use anywhere else. What is
// there already stays.
func (d *Deployment) deploySecrets(ctx context.Context) error {
	if !d.opts.Agents {
		return nil
	}
	for name, value := range map[string]func() (string, error){
		"ami-factory/agents/newrelic":    func() (string, error) { return "stand-in-license-key", nil },
		"ami-factory/agents/appdynamics": func() (string, error) { return "stand-in-access-key", nil },
		"ami-factory/agents/chef":        validationKey,
	} {
		_, err := d.cloud.Secrets.DescribeSecret(ctx, &secretsmanager.DescribeSecretInput{SecretId: &name})
		if err == nil {
			continue
		}
		if !awserr.Is(err, "ResourceNotFoundException") {
			return fmt.Errorf("secret %s: %w", name, err)
		}
		text, err := value()
		if err != nil {
			return fmt.Errorf("secret %s: %w", name, err)
		}
		_, err = d.cloud.Secrets.CreateSecret(ctx, &secretsmanager.CreateSecretInput{
			Name: &name, SecretString: &text, Description: aws.String("For stand-ins; of no use to a vendor's agent"),
		})
		if err != nil {
			return fmt.Errorf("secret %s: %w", name, err)
		}
	}
	_, err := d.cloud.SSM.PutParameter(ctx, &ssm.PutParameterInput{
		Name: aws.String(guests.DemoConfiguration), Type: ssmtypes.ParameterTypeString,
		Value: aws.String(`{"metrics":{"metrics_collected":{"mem":{"measurement":["mem_used_percent"]}}}}`),
	})
	if err != nil && !awserr.Is(err, "ParameterAlreadyExists") {
		return fmt.Errorf("parameter %s: %w", guests.DemoConfiguration, err)
	}
	return nil
}

// validationKey is a new key of the kind that registers Chef's nodes.
func validationKey() (string, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return "", err
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})), nil
}
