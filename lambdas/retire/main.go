// Command retire is the Lambda function of the stage that stage.Retire describes.
package main

import (
	"github.com/ami-factory/ami-factory/pkg/functions"
	"github.com/ami-factory/ami-factory/pkg/lambdaentry"
)

func main() { lambdaentry.Start(functions.Retire) }
