package securityhub

import (
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/securityhub"

	"github.com/ami-factory/ami-factory/pkg/localcloud/authz"
)

// Permissions returns the permission rules of Security Hub's calls.
func (s *Service) Permissions() authz.Permissions {
	return authz.Permissions{Service: "securityhub", Rules: map[string]authz.Rule{http.MethodPost: requests}}
}

// requests requires the operation: on the product of each finding that is imported, on
// the hub otherwise (https://docs.aws.amazon.com/service-authorization/latest/reference/list_awssecurityhub.html).
func requests(c authz.Call, input any) ([]authz.Request, error) {
	r, err := authz.HTTPRequest(input)
	if err != nil {
		return nil, err
	}
	operation, err := routes().Operation("Security Hub", r)
	if err != nil {
		return nil, err
	}
	action := "securityhub:" + operation
	if operation != "BatchImportFindings" {
		return []authz.Request{{Action: action, Resource: c.ARN("securityhub", c.Caller.Account, "hub/default")}}, nil
	}
	var body securityhub.BatchImportFindingsInput
	if err := authz.PeekJSON(r, maxBody, &body); err != nil {
		return nil, err
	}
	var out []authz.Request
	seen := map[string]bool{}
	for _, f := range body.Findings {
		if product := aws.ToString(f.ProductArn); !seen[product] {
			seen[product] = true
			out = append(out, authz.Request{Action: action, Resource: product})
		}
	}
	if out == nil {
		out = []authz.Request{{Action: action, Resource: "*"}}
	}
	return out, nil
}
