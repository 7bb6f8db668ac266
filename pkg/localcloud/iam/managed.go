package iam

import (
	"embed"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/ami-factory/ami-factory/pkg/localcloud/authz"
	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/partition"
)

// awsAccount takes the place of the account in the ARNs of AWS's managed
// policies.
const awsAccount = "aws"

// managedDocuments has the AWS managed policies that a deployment may use. They
// allow what the AWS Managed Policy Reference documents
// (https://docs.aws.amazon.com/aws-managed-policy/latest/reference/policy-list.html,
// one page for each policy), in statements of the same effect.
//
//go:embed managed/*.json
var managedDocuments embed.FS

// awsManaged returns the AWS managed policies in a partition, by ARN. They never
// change.
func awsManaged(of partition.Partition) map[string]*policy {
	out := map[string]*policy{}
	for _, m := range []struct {
		path, name, version string
		created, updated    time.Time
	}{
		{"/", "AmazonSSMManagedInstanceCore", "v2", day(2019, 3, 15), day(2019, 5, 23)},
		{"/service-role/", "AWSLambdaBasicExecutionRole", "v1", day(2015, 4, 9), day(2015, 4, 9)},
		{"/", "AWSXRayDaemonWriteAccess", "v2", day(2018, 8, 28), day(2024, 2, 13)},
	} {
		file := path.Join("managed", m.name+".json")
		raw, err := managedDocuments.ReadFile(file)
		if err != nil {
			panic(err) // embedded
		}
		parsed, err := authz.Parse(raw)
		if err != nil {
			panic(fmt.Sprintf("%s: %v", file, err))
		}
		p := &policy{
			Name: m.name, Path: m.path, ARN: arnOf(of, awsAccount, "policy", m.path, m.name), Created: m.created, Updated: m.updated, Default: m.version,
			Versions: []policyVersion{{ID: m.version, Created: m.updated, Text: policyText{raw: strings.TrimSpace(string(raw)), parsed: parsed}}},
		}
		p.ID = scope.UniqueID("ANPA", p.ARN)
		out[p.ARN] = p
	}
	return out
}

func day(year, month, day int) time.Time {
	return time.Date(year, time.Month(month), day, 0, 0, 0, 0, time.UTC)
}
