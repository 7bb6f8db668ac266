// Command start-builds is the Lambda function of the trigger that trigger.StartBuilds describes.
package main

import (
	"github.com/ami-factory/ami-factory/pkg/functions"
	"github.com/ami-factory/ami-factory/pkg/lambdafn"
)

func main() { lambdafn.Start(functions.StartBuilds) }
