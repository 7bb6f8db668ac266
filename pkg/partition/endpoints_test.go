package partition

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"go/format"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/test/golden"
)

const cdk = "github.com/aws/aws-cdk-go/awscdk/v2"

// cdkFile reads a file of aws-cdk-lib, of the version in go.mod.
func cdkFile(t *testing.T, name string) []byte {
	t.Helper()
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", cdk).Output()
	require.NoError(t, err)
	packed, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(dir)), "jsii", "aws-cdk-lib-*.tgz"))
	require.NoError(t, err)
	require.Len(t, packed, 1, "run `go mod download` first")
	f, err := os.Open(packed[0])
	require.NoError(t, err)
	defer func() { require.NoError(t, f.Close()) }()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	for files := tar.NewReader(z); ; {
		h, err := files.Next()
		require.NoError(t, err, "aws-cdk-lib has no %s", name)
		if h.Name == "package/"+name {
			raw, err := io.ReadAll(files)
			require.NoError(t, err)
			return raw
		}
	}
}

var (
	endpointTable  = regexp.MustCompile(`getDefaultEndpointPrefix\(name,region\)\{if\((\{[^}]*\})\[region\]\?\.includes\(name\)\)switch\(region\)\{(.*?)\}return"com\.amazonaws"\}`)
	endpointPrefix = regexp.MustCompile(`((?:case"[^"]+":)+)return"([^"]+)"`)
	caseOf         = regexp.MustCompile(`case"([^"]+)":`)
)

// generateEndpoints renders endpointdata.go from the table in the CDK's construct of
// interface endpoints.
func generateEndpoints(t *testing.T) []byte {
	t.Helper()
	m := endpointTable.FindSubmatch(cdkFile(t, "aws-ec2/lib/vpc-endpoint.js"))
	require.NotNil(t, m, "the CDK's code has another shape: read getDefaultEndpointPrefix of vpc-endpoint.js")
	var services map[string][]string
	require.NoError(t, json.Unmarshal(m[1], &services))
	prefixes := map[string]string{}
	for _, p := range endpointPrefix.FindAllSubmatch(m[2], -1) {
		for _, region := range caseOf.FindAllSubmatch(p[1], -1) {
			prefixes[string(region[1])] = string(p[2])
		}
	}
	var b bytes.Buffer
	b.WriteString("// Code generated from aws-ec2/lib/vpc-endpoint.js of aws-cdk-lib by: go test ./pkg/partition -update. DO NOT EDIT.\n\npackage partition\n\nvar endpoints = map[string]prefixed{\n")
	for _, region := range slices.Sorted(maps.Keys(services)) {
		require.True(t, Known(region), region)
		require.NotEmpty(t, prefixes[region], region)
		slices.Sort(services[region])
		fmt.Fprintf(&b, "%q: {%q, []string{\n", region, prefixes[region])
		for _, s := range services[region] {
			fmt.Fprintf(&b, "%q,\n", s)
		}
		b.WriteString("}},\n")
	}
	b.WriteString("}\n")
	text, err := format.Source(b.Bytes())
	require.NoError(t, err)
	return text
}

func TestTheNamesOfEndpointsAreThoseOfTheCDK(t *testing.T) {
	golden.File(t, "endpointdata.go", generateEndpoints(t))
}

func TestEndpointsHaveThePrefixOfTheirServiceAndRegion(t *testing.T) {
	for want, got := range map[string]string{
		"com.amazonaws.eu-west-1.ssm":                InterfaceEndpoint("ssm", "eu-west-1"),
		"com.amazonaws.us-gov-west-1.ssmmessages":    InterfaceEndpoint("ssmmessages", "us-gov-west-1"),
		"com.amazonaws.cn-north-1.ssm":               InterfaceEndpoint("ssm", "cn-north-1"),
		"cn.com.amazonaws.cn-north-1.sts":            InterfaceEndpoint("sts", "cn-north-1"),
		"cn.com.amazonaws.cn-northwest-1.s3":         InterfaceEndpoint("s3", "cn-northwest-1"),
		"com.amazonaws.cn-northwest-1.s3":            GatewayEndpoint("s3", "cn-northwest-1"),
		"com.amazonaws.eusc-de-east-1.ssm":           InterfaceEndpoint("ssm", "eusc-de-east-1"),
		"eu.amazonaws.eusc-de-east-1.ecr.api":        InterfaceEndpoint("ecr.api", "eusc-de-east-1"),
		"gov.ic.c2s.us-iso-east-1.ec2":               InterfaceEndpoint("ec2", "us-iso-east-1"),
		"com.amazonaws.eu-central-9.ssm":             InterfaceEndpoint("ssm", "eu-central-9"), // newer than the data
		"com.amazonaws.${Token[AWS.Region.1]}.s3":    GatewayEndpoint("s3", "${Token[AWS.Region.1]}"),
		"com.amazonaws.${Token[AWS.Region.1]}.s3api": InterfaceEndpoint("s3api", "${Token[AWS.Region.1]}"),
	} {
		assert.Equal(t, want, got)
	}
}
