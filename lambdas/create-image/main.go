// Command create-image is the Lambda function of the stage that stage.CreateImage describes.
package main

import (
	"github.com/ami-factory/ami-factory/pkg/functions"
	"github.com/ami-factory/ami-factory/pkg/lambdafn"
)

func main() { lambdafn.Start(functions.CreateImage) }
