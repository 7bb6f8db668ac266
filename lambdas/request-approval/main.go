// Command request-approval is the Lambda function of the stage that stage.RequestApproval describes.
package main

import (
	"github.com/ami-factory/ami-factory/pkg/functions"
	"github.com/ami-factory/ami-factory/pkg/lambdafn"
)

func main() { lambdafn.Start(functions.RequestApproval) }
