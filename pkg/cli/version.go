package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// Version of this build; the Makefile sets it.
var Version string // the linker writes it

// version falls back to what the Go toolchain recorded.
func version() string {
	if Version != "" {
		return Version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "dev"
}

func (a *app) version() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version of this program",
		Long:    "Print the version of this program, of the Go toolchain that built it, and its platform.",
		Example: "  ami-factory version\n  ami-factory version --output json | jq -r .version",
		Args:    takes(),
		RunE: func(*cobra.Command, []string) error {
			platform := runtime.GOOS + "/" + runtime.GOARCH
			if a.format == "json" {
				return a.json(map[string]string{"version": version(), "go": runtime.Version(), "platform": platform})
			}
			_, err := fmt.Fprintf(a.out, "ami-factory %s, %s, %s\n", version(), runtime.Version(), platform)
			return err
		},
	}
}
