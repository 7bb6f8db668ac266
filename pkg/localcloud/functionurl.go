package localcloud

import (
	"errors"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
	sdksts "github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"github.com/ami-factory/ami-factory/pkg/localcloud/lambda"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// largestURLRequest limits the body of a request to a function URL, in bytes. The
// payload of an invocation may have 6 MB.
const largestURLRequest = 6 << 20

// serveFunctionURL serves a request to a function URL: it verifies the signature,
// unless the URL has the AuthType NONE, and the permissions, then invokes the
// function.
func (c *Cloud) serveFunctionURL(w http.ResponseWriter, r *http.Request) {
	target, ok := c.Lambda.Target(r)
	if !ok {
		lambda.RefuseURL(w, http.StatusNotFound, "ResourceNotFoundException", "There is no such function URL.")
		return
	}
	if target.AuthType == lambdatypes.FunctionUrlAuthTypeNone {
		if err := c.authz.PermitAnyone(r.Context(), target.Region, "lambda", "InvokeFunctionUrl", &target); err != nil {
			forbid(w, err)
			return
		}
		c.Lambda.ServeURL(w, r, target, nil)
		return
	}
	request, caller, done, err := c.authenticator().Authenticate(r, c.Lambda.Wire(), largestURLRequest)
	if err != nil {
		forbid(w, err)
		return
	}
	defer done()
	if caller.Region != target.Region {
		forbid(w, wire.Errorf("InvalidSignatureException", "Credential should be scoped to a valid region, not '%s'.", caller.Region))
		return
	}
	ctx := wire.WithCaller(request.Context(), caller)
	if err := c.before(ctx, caller, "lambda", "InvokeFunctionUrl"); err != nil {
		lambda.RefuseURL(w, http.StatusInternalServerError, "ServiceException", err.Error())
		return
	}
	if err := c.authz.Permit(ctx, caller, "lambda", "InvokeFunctionUrl", &target); err != nil {
		forbid(w, err)
		return
	}
	who, err := c.STS.GetCallerIdentity(ctx, &sdksts.GetCallerIdentityInput{})
	if err != nil {
		forbid(w, err)
		return
	}
	identity := lambda.URLCaller{
		AccessKey: caller.AccessKeyID, AccountID: aws.ToString(who.Account), CallerID: aws.ToString(who.UserId),
		UserARN: aws.ToString(who.Arn), UserID: aws.ToString(who.UserId),
	}
	if id := c.authz.Organization(identity.AccountID); id != "" {
		identity.PrincipalOrgID = &id
	}
	c.Lambda.ServeURL(w, request.WithContext(ctx), target, &identity)
}

// forbid answers a request that is not signed or not allowed. Function URLs have one
// status for both.
func forbid(w http.ResponseWriter, err error) {
	code, message := "AccessDeniedException", err.Error()
	var api smithy.APIError
	if errors.As(err, &api) {
		code, message = api.ErrorCode(), api.ErrorMessage()
	}
	lambda.RefuseURL(w, http.StatusForbidden, code, message)
}
