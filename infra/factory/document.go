package factory

import (
	"github.com/aws/aws-cdk-go/awscdk/v2/awsssm"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/ami-factory/ami-factory/pkg/contract"
)

// newScriptDocument is the document that runs the factory's scripts in instances. Its
// content is a text, so that Systems Manager stores, and hashes, the bytes that the
// functions were built with. A new content becomes a version, which CloudFormation makes
// the default.
func newScriptDocument(scope constructs.Construct) {
	document := awsssm.NewCfnDocument(scope, jsii.String("ScriptDocument"), &awsssm.CfnDocumentProps{
		Name:           jsii.String(contract.ScriptDocument),
		Content:        map[string]any{}, // the CDK's types take a mapping only
		DocumentFormat: jsii.String("JSON"),
		DocumentType:   jsii.String("Command"),
		UpdateMethod:   jsii.String("NewVersion"),
	})
	document.AddPropertyOverride(jsii.String("Content"), contract.ScriptDocumentContent)
	// Its schema takes a text, which its rule of the content then cannot read (cfn-lint
	// 1.51). A test shows the linter the content as a mapping.
	document.AddMetadata(jsii.String("cfn-lint"), map[string]any{"config": map[string]any{"ignore_checks": []string{"E3051"}}})
}
