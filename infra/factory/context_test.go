package factory

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// propsOf reads a context whose programs are there.
func propsOf(t *testing.T, context map[string]any) (*Props, error) {
	t.Helper()
	all := programs(t)
	maps.Copy(all, context)
	app := awscdk.NewApp(&awscdk.AppProps{Context: &all, Outdir: jsii.String(t.TempDir())})
	return PropsFromContext(app, nil)
}

func TestAContextThatIsWrongIsToldWhatIsAllowed(t *testing.T) {
	for sentence, tc := range map[string]struct {
		context map[string]any
		says    string
	}{
		"a network that is none":                {map[string]any{"network": "private"}, `context network is "private" (allowed: default, own, existing)`},
		"existing without subnets":              {map[string]any{"network": "existing"}, "context network is existing, and subnetIds is empty"},
		"subnets of an own network":             {map[string]any{"network": "own", "subnetIds": "subnet-1"}, "context vpcId and subnetIds are for network existing, not own"},
		"a VPC of the default network":          {map[string]any{"vpcId": "vpc-1"}, "context vpcId and subnetIds are for network existing, not default"},
		"groups of an own network":              {map[string]any{"network": "own", "securityGroupIds": "sg-1"}, "context securityGroupIds are not for network own"},
		"a way out of a network that exists":    {map[string]any{"subnetIds": "subnet-1", "nat": true}, "context nat and flowLogs are for network own, not existing"},
		"a subnet that is none":                 {map[string]any{"subnetIds": "subnet-1,private-a"}, `context subnetIds is "private-a"`},
		"a range with bits beyond its mask":     {map[string]any{"vpcCidr": "10.0.0.1/20"}, `context vpcCidr is "10.0.0.1/20" (allowed: an IPv4 range of /16 to /24)`},
		"a range too small to divide":           {map[string]any{"vpcCidr": "10.0.0.0/26"}, `context vpcCidr is "10.0.0.0/26"`},
		"no zone":                               {map[string]any{"zones": 0}, `context zones is "0" (allowed: 1 to 4)`},
		"a number that is none":                 {map[string]any{"zones": "two"}, `context zones is "two" (allowed: 1 to 4)`},
		"half a number":                         {map[string]any{"evidenceYears": 1.5}, `context evidenceYears is "1.5"`},
		"a flag that is none":                   {map[string]any{"nat": "yes"}, `context nat is "yes" (allowed: true, false)`},
		"a key that is none":                    {map[string]any{"encryptionKey": "customer"}, `context encryptionKey is "customer" (allowed: none, new, the ARN of a key)`},
		"days that CloudWatch does not take":    {map[string]any{"logDays": 10}, `context logDays is "10" (allowed: what CloudWatch takes: 1, 3, 5, 7,`},
		"work that expires under an execution":  {map[string]any{"workDays": 1}, `context workDays is "1" (allowed: 30 to 3650)`},
		"a level that is none":                  {map[string]any{"executionLog": "debug"}, `context executionLog is "debug"`},
		"a subscriber without a way to":         {map[string]any{"alarmSubscribers": "ops"}, `context alarmSubscribers is "ops"`},
		"subscribers of somebody else's topic":  {map[string]any{"alarmTopicArns": "arn:aws:sns:eu-west-1:111122223333:t", "alarmSubscribers": "a@example.test"}, "subscribe to those"},
		"more days in a row than an alarm sees": {map[string]any{"failuresInARow": 8}, `context failuresInARow is "8" (allowed: 1 to 7)`},
		"a path without its slash":              {map[string]any{"rolePath": "/factory"}, `context rolePath is "/factory"`},
		"a prefix that leaves no room":          {map[string]any{"roleNamePrefix": strings.Repeat("x", 25)}, "context roleNamePrefix is"},
		"a policy that is none":                 {map[string]any{"permissionsBoundary": "my boundary"}, `context permissionsBoundary is "my boundary"`},
		"a tag of the factory's":                {map[string]any{"tags": "ami-factory:execution=x"}, `context tags is "ami-factory:execution=x"`},
		"a tag of AWS's":                        {map[string]any{"tags": map[string]any{"aws:x": "y"}}, `context tags is "aws:x=y"`},
		"tags without values":                   {map[string]any{"tags": "team"}, `context tags is "team" (allowed: name=value`},
		"tags that are no text":                 {map[string]any{"tags": map[string]any{"n": 1.0}}, "context tags is"},
		"prices that are none":                  {map[string]any{"prices": "cheap"}, "context prices: not a table of prices such as"},
		"prices of the whole world":             {map[string]any{"prices": `{"source":"` + strings.Repeat("x", 2100) + `"}`}, "(allowed: 2048, for it is told to a function by its environment)"},
		"accounts nobody may be asked for":      {map[string]any{"targetAccounts": "210987654321"}, "context targetAccounts and targetExternalId go together"},
		"an account of eleven digits":           {map[string]any{"targetAccounts": "21098765432", "targetExternalId": "a-long-external-id"}, `context targetAccounts is "21098765432" (allowed: accounts' ids, with commas)`},
		"an id that can be guessed":             {map[string]any{"targetAccounts": "210987654321", "targetExternalId": "short"}, `context targetExternalId is "short" (allowed: 16 to 1224 letters`},
		"a name one letter off":                 {map[string]any{"nightlly": "x"}, "context nightlly is unknown; nightly is meant?"},
		"a name of another case":                {map[string]any{"subnetids": "subnet-1"}, "context subnetids is unknown; subnetIds is meant?"},
		"a name that is nothing like ours":      {map[string]any{"spotPrice": "0.1"}, "context spotPrice is unknown (allowed: stack, architecture,"},
	} {
		t.Run(sentence, func(t *testing.T) {
			_, err := propsOf(t, tc.context)
			require.ErrorContains(t, err, tc.says)
			assert.NotContains(t, err.Error(), "\n", "nothing else is wrong")
		})
	}
}

func TestAllFaultsOfAContextAreToldAtOnce(t *testing.T) {
	_, err := propsOf(t, map[string]any{"zones": "9", "logDays": "x", "watch": "30m", "vpcID": "vpc-1", "subnetIds": "a,b"})
	for _, says := range []string{`zones is "9"`, `logDays is "x"`, `watch is "30m"`, "vpcID is unknown; vpcId is meant?", `subnetIds is "a"`, `subnetIds is "b"`} {
		assert.ErrorContains(t, err, says)
	}
}

func TestTheContextOfOthersIsLeftAlone(t *testing.T) {
	for _, name := range []string{"@aws-cdk/core:checkSecretUsage", "aws:cdk:bundling-stacks", "availability-zones:account=1:region=eu-west-1", "acknowledged-issue-numbers", "cli-telemetry"} {
		_, err := propsOf(t, map[string]any{name: true})
		assert.NoError(t, err, name)
	}
}

func TestTheContextIsReadAsTextOrAsWhatCDKJSONHas(t *testing.T) {
	for sentence, context := range map[string]map[string]any{
		"text, as of -c": {"subnetIds": "subnet-1,subnet-2", "nat": "false", "zones": "3", "tags": "a=b,c=d", "announcementTopics": "none"},
		"what JSON has":  {"subnetIds": []any{"subnet-1", "subnet-2"}, "nat": false, "zones": 3.0, "tags": map[string]any{"a": "b", "c": "d"}, "announcementTopics": []any{"none"}},
	} {
		t.Run(sentence, func(t *testing.T) {
			p, err := propsOf(t, context)
			require.NoError(t, err)
			assert.Equal(t, []string{"subnet-1", "subnet-2"}, p.Network.SubnetIDs)
			assert.Equal(t, 3, p.Network.Zones)
			assert.Equal(t, map[string]string{"a": "b", "c": "d"}, p.Tags)
			assert.Empty(t, p.Triggers.Topics)
		})
	}
}

func TestWithoutContextTheDefaultsHold(t *testing.T) {
	p, err := propsOf(t, nil)
	require.NoError(t, err)
	want := Defaults()
	want.FunctionsDir, want.GossDir = p.FunctionsDir, p.GossDir
	assert.Equal(t, want, *p)
}

// The page is read by people, the table by the app: they say the same.
func TestTheREADMEHasTheTableOfTheContext(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "README.md"))
	require.NoError(t, err)
	var rows []string
	for _, s := range settings() {
		fallback := ""
		if s.fallback != "" {
			fallback = "`" + s.fallback + "`"
		}
		row := "| `" + s.name + "` | " + fallback + " | " + s.allowed + " | " + s.means + " |"
		rows = append(rows, row)
		assert.Contains(t, string(page), row+"\n")
	}
	count := 0
	for line := range strings.Lines(string(page)) {
		if strings.HasPrefix(line, "| `") && strings.Count(line, " | ") == 3 {
			count++
			assert.True(t, slices.Contains(rows, strings.TrimSuffix(line, "\n")), "no setting is as %s", line)
		}
	}
	assert.Equal(t, len(rows), count)
}
