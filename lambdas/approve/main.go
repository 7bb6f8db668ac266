// Command approve is the Lambda function of the function URL that approval.Door describes.
package main

import (
	"github.com/ami-factory/ami-factory/pkg/functions"
	"github.com/ami-factory/ami-factory/pkg/lambdafn"
)

func main() { lambdafn.Start(functions.Approve) }
