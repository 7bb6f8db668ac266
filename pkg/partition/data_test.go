package partition_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/format"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/test/golden"
)

const sdk = "github.com/aws/aws-sdk-go-v2"

// generate renders data.go from the partitions that the SDK resolves endpoints
// with, of the version in go.mod.
func generate(t *testing.T) []byte {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", sdk).Output()
	require.NoError(t, err)
	data, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(out)), "internal", "endpoints", "awsrulesfn", "partitions.json"))
	require.NoError(t, err)
	var file struct {
		Partitions []struct {
			ID      string
			Outputs struct {
				DNSSuffix, DualStackDNSSuffix, ImplicitGlobalRegion string
			}
			RegionRegex string
			Regions     map[string]any
		}
	}
	require.NoError(t, json.Unmarshal(data, &file))
	var b bytes.Buffer
	b.WriteString("// Code generated from partitions.json of " + sdk + " by: go test ./pkg/partition -update. DO NOT EDIT.\n\npackage partition\n\nvar partitions = []Partition{\n")
	slices.SortFunc(file.Partitions, func(a, b struct {
		ID      string
		Outputs struct {
			DNSSuffix, DualStackDNSSuffix, ImplicitGlobalRegion string
		}
		RegionRegex string
		Regions     map[string]any
	}) int {
		return strings.Compare(a.ID, b.ID)
	})
	for _, p := range file.Partitions {
		fmt.Fprintf(&b, "{\nID: %q, DNSSuffix: %q, DualStackDNSSuffix: %q, GlobalRegion: %q,\nRegionPattern: `%s`,\nRegions: []string{\n",
			p.ID, p.Outputs.DNSSuffix, p.Outputs.DualStackDNSSuffix, p.Outputs.ImplicitGlobalRegion, p.RegionRegex)
		for _, name := range slices.Sorted(maps.Keys(p.Regions)) {
			if name != p.ID+"-global" { // where endpoints of services without regions are resolved
				fmt.Fprintf(&b, "%q,\n", name)
			}
		}
		b.WriteString("},\n},\n")
	}
	b.WriteString("}\n")
	text, err := format.Source(b.Bytes())
	require.NoError(t, err)
	return text
}

func TestTheDataIsThatOfTheSDK(t *testing.T) {
	golden.File(t, "data.go", generate(t))
}
