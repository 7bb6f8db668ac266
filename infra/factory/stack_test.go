package factory

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/assertions"
	"github.com/aws/jsii-runtime-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/blueprint"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/lambdafn"
	"github.com/ami-factory/ami-factory/pkg/program"
	"github.com/ami-factory/ami-factory/pkg/workflow"
)

// synthesised are the templates by context: each takes seconds.
var synthesised = map[string][]byte{}

// template synthesises the stack with stand-in binaries: their content does not
// matter to the template.
func template(t *testing.T, context map[string]any) map[string]any {
	t.Helper()
	given, err := json.Marshal(context)
	require.NoError(t, err)
	raw, ok := synthesised[string(given)]
	if !ok {
		_, stack := stackOf(t, context)
		raw, err = json.Marshal(assertions.Template_FromStack(stack.Stack, nil).ToJSON())
		require.NoError(t, err)
		synthesised[string(given)] = raw
	}
	// Through JSON, so that numbers and nesting are plain.
	var out map[string]any
	require.NoError(t, json.Unmarshal(raw, &out))
	return out
}

// stackOf makes an app with the stack.
func stackOf(t *testing.T, context map[string]any) (awscdk.App, Stack) {
	t.Helper()
	all := programs(t)
	for k, v := range context {
		all[k] = v
	}
	app := awscdk.NewApp(&awscdk.AppProps{Context: &all, Outdir: jsii.String(t.TempDir())})
	props, err := PropsFromContext(app, nil)
	require.NoError(t, err)
	return app, NewStack(app, "Test", awscdk.StackProps{
		Env: &awscdk.Environment{Account: jsii.String("111122223333"), Region: jsii.String("eu-west-1")},
	}, props)
}

// programs is the context of stand-ins for what is deployed.
func programs(t *testing.T) map[string]any {
	t.Helper()
	dir := t.TempDir()
	for _, fn := range blueprint.Functions() {
		writeFile(t, filepath.Join(dir, fn.Name, "bootstrap"), "#!/bin/sh\n# "+fn.Name+"\n")
	}
	writeFile(t, filepath.Join(dir, "version"), "v1.2.3\n")
	goss := filepath.Join(dir, "goss")
	for _, architecture := range GuestArchitectures() {
		writeFile(t, filepath.Join(goss, program.GOARCH(architecture)), "goss")
	}
	return map[string]any{"functions": dir, "goss": goss, "@aws-cdk/core:enablePartitionLiterals": true}
}

func writeFile(t *testing.T, file, content string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
	require.NoError(t, os.WriteFile(file, []byte(content), 0o755))
}

type resource = map[string]any

func ofType(tpl map[string]any, kind string) map[string]resource {
	out := map[string]resource{}
	for id, r := range tpl["Resources"].(map[string]any) {
		if r := r.(resource); r["Type"] == kind {
			out[id] = r
		}
	}
	return out
}

func properties(r resource) map[string]any { return r["Properties"].(map[string]any) }

// actionsOf returns the actions that policies attach to a role, but for writing
// its own logs.
func actionsOf(tpl map[string]any, roleID string) []string {
	var out []string
	for _, p := range ofType(tpl, "AWS::IAM::Policy") {
		props := properties(p)
		attached := slices.ContainsFunc(props["Roles"].([]any), func(r any) bool { return r.(map[string]any)["Ref"] == roleID })
		if !attached {
			continue
		}
		for _, s := range props["PolicyDocument"].(map[string]any)["Statement"].([]any) {
			switch a := s.(map[string]any)["Action"].(type) {
			case string:
				out = append(out, a)
			case []any:
				for _, x := range a {
					out = append(out, x.(string))
				}
			}
		}
	}
	out = slices.DeleteFunc(out, func(a string) bool { return strings.HasPrefix(a, "logs:") })
	slices.Sort(out)
	return slices.Compact(out)
}

func functionOf(t *testing.T, tpl map[string]any, fn blueprint.Function) map[string]any {
	t.Helper()
	for _, f := range ofType(tpl, "AWS::Lambda::Function") {
		if p := properties(f); p["Description"] == fn.Does {
			return p
		}
	}
	require.Failf(t, "no function", "function %s", fn.Name)
	return nil
}

func TestTheStateMachineIsTheWorkflowsAndNamesEveryFunction(t *testing.T) {
	tpl := template(t, nil)
	machines := ofType(tpl, "AWS::StepFunctions::StateMachine")
	require.Len(t, machines, 1)
	for _, m := range machines {
		props := properties(m)
		assert.Equal(t, workflow.InPartition(workflow.Definition().JSON(), "aws"), props["DefinitionString"])
		substitutions := props["DefinitionSubstitutions"].(map[string]any)
		assert.Len(t, substitutions, len(workflow.Stages()))
		for _, spec := range workflow.Stages() {
			assert.Contains(t, substitutions, workflow.PlaceholderName(spec.Stage))
		}
	}
}

func TestEachRoleAllowsExactlyItsStagesActions(t *testing.T) {
	tpl := template(t, map[string]any{"targetAccounts": "210987654321", "targetExternalId": "a-long-external-id", "securityHub": true, "inspectorScan": true})
	for _, fn := range blueprint.Functions() {
		t.Run(fn.Name, func(t *testing.T) {
			f := functionOf(t, tpl, fn)
			roleID := f["Role"].(map[string]any)["Fn::GetAtt"].([]any)[0].(string)
			role := ofType(tpl, "AWS::IAM::Role")[roleID]
			require.NotNil(t, role)
			assert.Nil(t, properties(role)["ManagedPolicyArns"], "no managed policy widens it")
			var want []string
			for _, a := range fn.Actions {
				want = append(want, a.Name)
			}
			want = append(want, "xray:PutTelemetryRecords", "xray:PutTraceSegments") // Lambda traces with it
			slices.Sort(want)
			assert.Equal(t, slices.Compact(want), actionsOf(tpl, roleID))
		})
	}
}

// statementsOf returns the statements of a stage's role that allow an action.
func statementsOf(t *testing.T, tpl map[string]any, stage workflow.Stage, action string) []map[string]any {
	t.Helper()
	fn, ok := blueprint.Lookup(string(stage))
	require.True(t, ok)
	roleID := functionOf(t, tpl, fn)["Role"].(map[string]any)["Fn::GetAtt"].([]any)[0].(string)
	var out []map[string]any
	for _, p := range ofType(tpl, "AWS::IAM::Policy") {
		props := properties(p)
		if !slices.ContainsFunc(props["Roles"].([]any), func(r any) bool { return r.(map[string]any)["Ref"] == roleID }) {
			continue
		}
		for _, s := range props["PolicyDocument"].(map[string]any)["Statement"].([]any) {
			s := s.(map[string]any)
			b, err := json.Marshal(s["Action"])
			require.NoError(t, err)
			if strings.Contains(string(b), `"`+action+`"`) {
				out = append(out, s)
			}
		}
	}
	require.NotEmpty(t, out, "%s of %s", action, stage)
	return out
}

func TestEverythingThatALaunchTagsMayBeTagged(t *testing.T) {
	statements := statementsOf(t, template(t, nil), workflow.Launch, "ec2:CreateTags")
	b, err := json.Marshal(statements)
	require.NoError(t, err)
	for _, kind := range []string{"instance", "volume", "network-interface"} { // as stage.Launch asks for
		assert.Contains(t, string(b), ":"+kind+"/*")
	}
}

func TestStagesThatMakeResourcesCannotTagOthers(t *testing.T) {
	tpl := template(t, nil)
	var labels []any
	for _, key := range contract.LabelTags() {
		labels = append(labels, key)
	}
	for _, stage := range []workflow.Stage{workflow.Launch, workflow.CreateImage, workflow.Distribute} {
		for _, s := range statementsOf(t, tpl, stage, "ec2:CreateTags") {
			assert.Equal(t, map[string]any{
				"StringLike":                map[string]any{"aws:RequestTag/ami-factory:execution": "*"},
				"StringEquals":              map[string]any{"ec2:CreateAction": []any{"RunInstances", "CreateImage", "CopyImage"}},
				"ForAllValues:StringEquals": map[string]any{"aws:TagKeys": labels},
				"Null":                      map[string]any{"aws:TagKeys": "false"},
			}, s["Condition"], stage)
		}
	}
}

func TestOnlyTheFactorysInstancesBecomeImages(t *testing.T) {
	for _, s := range statementsOf(t, template(t, nil), workflow.CreateImage, "ec2:CreateImage") {
		b, err := json.Marshal(s)
		require.NoError(t, err)
		if strings.Contains(string(b), ":instance/*") {
			assert.Contains(t, string(b), `"aws:ResourceTag/ami-factory:execution"`)
		}
	}
}

// Every variable that the functions read has to be one that the deployment
// sets, and the other way round.
func TestTheFunctionsReadWhatTheDeploymentTellsThem(t *testing.T) {
	tpl := template(t, map[string]any{
		"subnetIds": "subnet-1", "securityGroupIds": "sg-1", "componentParameters": map[string]any{"docker": map[string]any{"logMaxSize": "10m"}},
		"targetAccounts": "210987654321", "targetExternalId": "a-long-external-id",
		"securityHub": "true", "inspectorScan": "true", "onDemandFindings": "true", "findingProducts": "arn:aws:securityhub:eu-west-1:111122223333:product/111122223333/default",
		"prices": map[string]any{"regions": map[string]any{"eu-west-1": map[string]any{"transition": 0.5}}},
	})
	// A trigger is told all that a stage is, and more.
	told := variablesOfStage(t, tpl, blueprint.StartBuilds)
	for _, s := range []workflow.Stage{workflow.Notify, workflow.Publish, workflow.CheckCompliance} { // which are told something of their own
		maps.Copy(told, variablesOfStage(t, tpl, s))
	}
	read := map[string]bool{}
	value := func(name string) string {
		switch name {
		case contract.EnvParameters, contract.EnvFindingHours, contract.EnvOnDemand, contract.EnvPrices, contract.EnvTargetExternal, contract.EnvSecurityHub, contract.EnvInspectorScan:
			return told[name].(string)
		}
		if name == contract.EnvApprovers {
			return "arn:aws:iam::111122223333:role/Approver"
		}
		if name == contract.EnvEngines {
			return `{"x86_64":{"bucket":"b","key":"k","sha256":"s"}}`
		}
		return "x"
	}
	_, err := lambdafn.LoadConfig(func(name string) string {
		read[name] = true
		return value(name)
	})
	require.NoError(t, err)
	for name := range told {
		assert.True(t, read[name], "%s is told and never read", name)
	}
	config, err := lambdafn.LoadConfig(func(name string) string {
		if name == contract.EnvRegion || told[name] != nil { // Lambda itself sets the region
			return value(name)
		}
		return ""
	})
	require.NoError(t, err, "the deployment tells all that is required")
	assert.Equal(t, "b", config.Engines["x86_64"].Bucket)
	assert.Equal(t, "10m", config.Parameters["docker"]["logMaxSize"])
	assert.InDelta(t, 0.5, config.Prices.Regions["eu-west-1"].Transition, 0)
	assert.Equal(t, "a-long-external-id", config.ExternalID)
	assert.True(t, config.SecurityHub)
	assert.True(t, config.InspectorScan)
	assert.True(t, config.Triggers.Reporters.OnDemand)
	assert.Contains(t, written(t, variablesOfStage(t, tpl, workflow.Publish)[contract.EnvTargetRole]), ":iam::*:role/ami-factory-target-write")
	assert.Contains(t, written(t, variablesOfStage(t, tpl, workflow.Resolve)[contract.EnvTargetRole]), ":iam::*:role/ami-factory-target-read")
	assert.NotContains(t, variablesOfStage(t, tpl, workflow.Launch), contract.EnvTargetRole)
}

func variablesOfStage(t *testing.T, tpl map[string]any, s workflow.Stage) map[string]any {
	t.Helper()
	fn, ok := blueprint.Lookup(string(s))
	require.True(t, ok)
	return functionOf(t, tpl, fn)["Environment"].(map[string]any)["Variables"].(map[string]any)
}

func TestBuildersAreLaunchedFromImagesOfTheRecipesOwners(t *testing.T) {
	for sentence, tc := range map[string]struct {
		context map[string]any
		owners  string
	}{
		"of the recipes that functions carry":   {nil, `"099720109477","136693071363","137112412989"`},
		"and of those that the operator allows": {map[string]any{"sourceOwners": "444455556666,aws-marketplace"}, `"099720109477","136693071363","137112412989","444455556666","aws-marketplace"`},
	} {
		t.Run(sentence, func(t *testing.T) {
			var found []string
			for _, p := range ofType(template(t, tc.context), "AWS::IAM::Policy") {
				for _, s := range properties(p)["PolicyDocument"].(map[string]any)["Statement"].([]any) {
					if strings.Contains(written(t, s), "ec2:RunInstances") && strings.Contains(written(t, s), "::image/*") {
						found = append(found, written(t, s.(map[string]any)["Condition"]))
					}
				}
			}
			assert.Equal(t, []string{`{"StringEquals":{"ec2:Owner":["amazon","111122223333",` + tc.owners + `]}}`}, found)
		})
	}
}

func TestNoStatementAllowsEverything(t *testing.T) {
	for id, p := range ofType(template(t, nil), "AWS::IAM::Policy") {
		b, err := json.Marshal(properties(p)["PolicyDocument"])
		require.NoError(t, err)
		assert.NotContains(t, string(b), `"Action":"*"`, id)
		assert.NotContains(t, string(b), `:*"`+`,"Effect"`, id)
	}
}

func TestTheStateMachineMayInvokeEachFunction(t *testing.T) {
	tpl := template(t, nil)
	var policies strings.Builder
	for _, p := range ofType(tpl, "AWS::IAM::Policy") {
		b, err := json.Marshal(properties(p))
		require.NoError(t, err)
		if strings.Contains(string(b), "lambda:InvokeFunction") {
			policies.Write(b)
		}
	}
	invoked := policies.String()
	for id, f := range ofType(tpl, "AWS::Lambda::Function") {
		isStage := slices.ContainsFunc(workflow.Stages(), func(x workflow.Row) bool { return x.Does == properties(f)["Description"] })
		if isStage {
			assert.Contains(t, invoked, id)
		}
	}
}

func TestFunctionsFollowTheStageTableAndTheArchitectureOfTheContext(t *testing.T) {
	for _, arch := range []string{ARM64, X86} {
		t.Run(arch, func(t *testing.T) {
			tpl := template(t, map[string]any{"architecture": arch})
			for _, fn := range blueprint.Functions() {
				f := functionOf(t, tpl, fn)
				assert.Equal(t, []any{arch}, f["Architectures"])
				assert.Equal(t, "provided.al2023", f["Runtime"])
				assert.InDelta(t, fn.Timeout.Seconds(), f["Timeout"], 0)
				assert.InDelta(t, float64(fn.MemoryMiB), f["MemorySize"], 0)
			}
		})
	}
}

func TestTheBucketIsPrivateEncryptedVersionedAndKept(t *testing.T) {
	buckets := ofType(template(t, nil), "AWS::S3::Bucket")
	require.Len(t, buckets, 1)
	for _, b := range buckets {
		assert.Equal(t, "Retain", b["DeletionPolicy"])
		block := properties(b)["PublicAccessBlockConfiguration"].(map[string]any)
		for _, k := range []string{"BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"} {
			assert.Equal(t, true, block[k], k)
		}
		assert.NotNil(t, properties(b)["BucketEncryption"])
		assert.Equal(t, map[string]any{"Status": "Enabled"}, properties(b)["VersioningConfiguration"])
	}
}

func TestBadContextIsReportedWholeAndBeforeAnythingIsMade(t *testing.T) {
	context := map[string]any{"architecture": "sparc", "functions": t.TempDir(), "goss": filepath.Join(t.TempDir(), "none")}
	app := awscdk.NewApp(&awscdk.AppProps{Context: &context, Outdir: jsii.String(t.TempDir())})
	_, err := PropsFromContext(app, nil)
	require.Error(t, err)
	assert.ErrorContains(t, err, `architecture is "sparc" (allowed: arm64, x86_64)`)
	assert.ErrorContains(t, err, filepath.Join("none", "amd64")+" is missing")
	for _, spec := range workflow.Stages() {
		assert.ErrorContains(t, err, filepath.Join(string(spec.Stage), "bootstrap")+" is missing")
	}
}

func TestABuilderMayTakeCommandsAndNothingElse(t *testing.T) {
	tpl, found := template(t, nil), 0
	for id, role := range ofType(tpl, "AWS::IAM::Role") {
		if strings.HasPrefix(id, "BuilderRole") {
			assert.NotContains(t, properties(role), "ManagedPolicyArns")
		}
	}
	for id, policy := range ofType(tpl, "AWS::IAM::Policy") {
		if !strings.HasPrefix(id, "BuilderRole") {
			continue
		}
		found++
		raw, err := json.Marshal(properties(policy)["PolicyDocument"])
		require.NoError(t, err)
		want, err := json.Marshal(blueprint.BuilderRole().Policy)
		require.NoError(t, err)
		// CloudFormation is given one resource as a text.
		assert.JSONEq(t, strings.ReplaceAll(string(want), `["*"]`, `"*"`), string(raw))
	}
	assert.Equal(t, 1, found)
}

func TestMain(m *testing.M) {
	code := m.Run()
	jsii.Close()
	os.Exit(code)
}

// A deployment of x86_64 used to carry functions for arm64, which fail at their
// first invocation.
func TestProgramsForAnotherProcessorAreRefused(t *testing.T) {
	elfFile := func(machine byte) string {
		b := make([]byte, 64)
		copy(b, "\x7fELF\x02\x01\x01")
		b[16], b[18], b[20], b[52] = 2, machine, 1, 64
		return string(b)
	}
	const x86, arm = 0x3e, 0xb7
	for sentence, tc := range map[string]struct {
		architecture string
		machine      byte
		refused      string
	}{
		"functions of the context's architecture": {X86, x86, ""},
		"functions for arm64 on x86_64":           {X86, arm, "resolve/bootstrap is built for arm64 and cannot run on amd64: build it with `make functions GOARCH=amd64`"},
		"functions for x86_64 on arm64":           {ARM64, x86, "resolve/bootstrap is built for amd64 and cannot run on arm64: build it with `make functions GOARCH=arm64`"},
	} {
		t.Run(sentence, func(t *testing.T) {
			context := programs(t)
			context["architecture"] = tc.architecture
			writeFile(t, filepath.Join(context["functions"].(string), string(workflow.Resolve), "bootstrap"), elfFile(tc.machine))
			_, err := propsOf(t, context)
			if tc.refused == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, tc.refused)
		})
	}
	t.Run("a check engine for another guest", func(t *testing.T) {
		context := programs(t)
		writeFile(t, filepath.Join(context["goss"].(string), "amd64"), elfFile(arm))
		_, err := propsOf(t, context)
		require.ErrorContains(t, err, "build it with `make goss GOARCH=amd64`")
	})
}

func TestTheAppBuildsForTheContext(t *testing.T) {
	app := awscdk.NewApp(&awscdk.AppProps{Context: &map[string]any{"architecture": X86}, Outdir: jsii.String(t.TempDir())})
	var built []string
	_, err := PropsFromContext(app, func(p *Props) error {
		built = append(built, p.Architecture)
		return errors.New("built nothing")
	})
	require.EqualError(t, err, "built nothing")
	assert.Equal(t, []string{X86}, built)

	app = awscdk.NewApp(&awscdk.AppProps{Context: &map[string]any{"architecture": "sparc"}, Outdir: jsii.String(t.TempDir())})
	_, err = PropsFromContext(app, func(*Props) error { panic("nothing is built for a wrong context") })
	require.EqualError(t, err, `context architecture is "sparc" (allowed: arm64, x86_64)`)
}

func TestTheVersionIsThatOfTheBuild(t *testing.T) {
	p, err := propsOf(t, nil)
	require.NoError(t, err)
	assert.Equal(t, "v1.2.3", p.version())
	context := programs(t)
	require.NoError(t, os.Remove(filepath.Join(context["functions"].(string), "version")))
	_, err = propsOf(t, context)
	require.ErrorContains(t, err, "the version of the factory is not known")
	context["version"] = "v9"
	p, err = propsOf(t, context)
	require.NoError(t, err)
	assert.Equal(t, "v9", p.version())
}

func TestDualStackEndpointsAreAnOptionOfAllFunctions(t *testing.T) {
	for value, want := range map[string]any{"true": "true", "false": nil} {
		tpl := template(t, map[string]any{"dualStack": value})
		for _, f := range blueprint.Functions() {
			assert.Equal(t, want, variablesOfStage(t, tpl, workflow.Stage(f.Name))["AWS_USE_DUALSTACK_ENDPOINT"], "%s: %s", value, f.Name)
		}
	}
}

func TestComponentParametersOfTheContext(t *testing.T) {
	object := map[string]any{"docker": map[string]any{"logMaxSize": "10m", "logMaxFiles": 3.0}}
	for sentence, tc := range map[string]struct {
		context any
		want    string
		refused string
	}{
		"none":                      {"", "", ""},
		"an object of cdk.json":     {object, `{"docker":{"logMaxFiles":3,"logMaxSize":"10m"}}`, ""},
		"a text of -c":              {`{"docker":{"logMaxSize":"10m"}}`, `{"docker":{"logMaxSize":"10m"}}`, ""},
		"no JSON":                   {"docker.logMaxSize=10m", "", "not an object of components"},
		"a list":                    {[]any{"docker"}, "", "not an object of components"},
		"a value that is an object": {map[string]any{"docker": map[string]any{"log": map[string]any{}}}, "", "docker.log is neither"},
	} {
		t.Run(sentence, func(t *testing.T) {
			var p Props
			err := parameters{}.parse(&p, textOf(tc.context))
			got := p.Parameters
			if tc.refused != "" {
				require.ErrorContains(t, err, tc.refused)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, tc.want, got)
		})
	}
}
