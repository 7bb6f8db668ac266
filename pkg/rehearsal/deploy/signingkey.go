package deploy

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	kmstypes "github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/blueprint"
)

// deploySigningKey makes the key that signs evidence, or gives it another policy.
func (d *Deployment) deploySigningKey(ctx context.Context) error {
	policy, err := d.signingKeyPolicy()
	if err != nil {
		return fmt.Errorf("policy of the key that signs evidence: %w", err)
	}
	have, err := d.cloud.KMS.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String(blueprint.SigningKeyAlias)})
	if err == nil {
		d.SigningKey = aws.ToString(have.KeyMetadata.Arn)
		_, err = d.cloud.KMS.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: have.KeyMetadata.KeyId, Policy: &policy})
	} else if awserr.Is(err, "NotFoundException") {
		err = d.createSigningKey(ctx, policy)
	}
	if err != nil {
		return fmt.Errorf("key that signs evidence: %w", err)
	}
	return nil
}

func (d *Deployment) createSigningKey(ctx context.Context, policy string) error {
	made, err := d.cloud.KMS.CreateKey(ctx, &kms.CreateKeyInput{
		Description: aws.String(blueprint.SigningKeyDoes), Policy: &policy,
		KeySpec: kmstypes.KeySpec(blueprint.SigningKeySpec), KeyUsage: kmstypes.KeyUsageType(blueprint.SigningKeyUsage),
	})
	if err != nil {
		return err
	}
	d.SigningKey = aws.ToString(made.KeyMetadata.Arn)
	_, err = d.cloud.KMS.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: aws.String(blueprint.SigningKeyAlias), TargetKeyId: made.KeyMetadata.KeyId})
	return err
}

func (d *Deployment) signingKeyPolicy() (string, error) {
	root := map[string]any{"AWS": d.partition().ARN("iam", "", d.cloud.Account(), "root")}
	var statements []map[string]any
	for _, s := range blueprint.SigningKeyPolicy(d.roleARN(blueprint.Signer)) {
		statement := map[string]any{"Sid": s.Sid, "Effect": "Allow", "Principal": root, "Action": s.Actions, "Resource": "*"}
		if s.Conditions != nil {
			statement["Condition"] = s.Conditions
		}
		statements = append(statements, statement)
	}
	raw, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": statements})
	return string(raw), err
}
