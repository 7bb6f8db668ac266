// Command ami-factory is the operator's command line of the factory.
package main

import (
	"os"

	"github.com/ami-factory/ami-factory/pkg/cli"
)

func main() {
	os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
