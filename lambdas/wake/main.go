// Command wake is the Lambda function that package wake describes.
package main

import (
	"github.com/ami-factory/ami-factory/pkg/functions"
	"github.com/ami-factory/ami-factory/pkg/lambdafn"
)

func main() { lambdafn.Start(functions.Wake) }
