package guest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/contract"
)

// DocumentHash returns the SHA-256 of the factory's document, which is the hash that
// Systems Manager gives a document of this content
// (https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_DocumentDescription.html).
func DocumentHash() string {
	sum := sha256.Sum256([]byte(contract.ScriptDocumentContent))
	return hex.EncodeToString(sum[:])
}

// DocumentAPI lists the calls that store the document.
type DocumentAPI interface {
	CreateDocument(context.Context, *ssm.CreateDocumentInput, ...func(*ssm.Options)) (*ssm.CreateDocumentOutput, error)
	DescribeDocument(context.Context, *ssm.DescribeDocumentInput, ...func(*ssm.Options)) (*ssm.DescribeDocumentOutput, error)
	UpdateDocument(context.Context, *ssm.UpdateDocumentInput, ...func(*ssm.Options)) (*ssm.UpdateDocumentOutput, error)
	UpdateDocumentDefaultVersion(context.Context, *ssm.UpdateDocumentDefaultVersionInput, ...func(*ssm.Options)) (*ssm.UpdateDocumentDefaultVersionOutput, error)
}

// StoreDocument creates the document that runs the factory's scripts in instances, where
// no template does: in rehearsals. If the default version of an existing one has
// another content, it adds a version and makes that the default, as CloudFormation does.
func StoreDocument(ctx context.Context, api DocumentAPI) error {
	if err := storeDocument(ctx, api); err != nil {
		return fmt.Errorf("document %s: %w", contract.ScriptDocument, err)
	}
	return nil
}

func storeDocument(ctx context.Context, api DocumentAPI) error {
	name, content := aws.String(contract.ScriptDocument), aws.String(contract.ScriptDocumentContent)
	have, err := api.DescribeDocument(ctx, &ssm.DescribeDocumentInput{Name: name})
	if awserr.Is(err, "InvalidDocument") {
		_, err = api.CreateDocument(ctx, &ssm.CreateDocumentInput{Name: name, Content: content, DocumentFormat: types.DocumentFormatJson, DocumentType: types.DocumentTypeCommand})
		return err
	}
	if err != nil || aws.ToString(have.Document.Hash) == DocumentHash() {
		return err
	}
	version := have.Document.LatestVersion
	out, err := api.UpdateDocument(ctx, &ssm.UpdateDocumentInput{Name: name, Content: content, DocumentFormat: types.DocumentFormatJson, DocumentVersion: aws.String("$LATEST")})
	switch {
	case awserr.Is(err, "DuplicateDocumentContent"): // the latest version is right, and is not the default
	case err != nil:
		return err
	default:
		version = out.DocumentDescription.DocumentVersion
	}
	_, err = api.UpdateDocumentDefaultVersion(ctx, &ssm.UpdateDocumentDefaultVersionInput{Name: name, DocumentVersion: version})
	return err
}
