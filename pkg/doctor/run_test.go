package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	eventtypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	kmstypes "github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/scheduler"
	schedulertypes "github.com/aws/aws-sdk-go-v2/service/scheduler/types"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/blueprint"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/guest"
	"github.com/ami-factory/ami-factory/pkg/localcloud"
	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	localec2 "github.com/ami-factory/ami-factory/pkg/localcloud/ec2"
	"github.com/ami-factory/ami-factory/pkg/localcloud/fault"
	localiam "github.com/ami-factory/ami-factory/pkg/localcloud/iam"
	locallambda "github.com/ami-factory/ami-factory/pkg/localcloud/lambda"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/simulated"
	"github.com/ami-factory/ami-factory/pkg/recipe"
	"github.com/ami-factory/ami-factory/pkg/workflow"
	"github.com/ami-factory/ami-factory/userdata"
)

const (
	debian       = "136693071363"
	parameter    = "/aws/service/debian/release/12/latest/amd64"
	bucketName   = "ami-factory-test"
	announced    = "arn:aws:sns:us-east-1:137112412989:amazon-linux-2023-ami-updates"
	secretName   = "ami-factory/agents/newrelic"
	builderRole  = "ami-factory-builder"
	functionsARN = "arn:aws:lambda:eu-west-1:111122223333:function:x-"
)

// account is an embedded AWS, asked over HTTP with the SDK's own clients.
type account struct {
	*testing.T
	cloud      *localcloud.Cloud
	aws        clients
	recipe     Recipe
	queue      string // of dead letters; its address
	topic      string
	signingKey string
}

func newAccount(t *testing.T, change ...func(*localcloud.Config)) *account {
	t.Helper()
	now := clock.NewReal()
	cfg := localcloud.Config{Driver: simulated.New(simulated.Options{Clock: now}), Clock: now}
	for _, f := range change {
		f(&cfg)
	}
	cloud, err := localcloud.New(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		require.NoError(t, cloud.Close(ctx))
	})
	_, err = cloud.Listen(t.Context(), "127.0.0.1:0")
	require.NoError(t, err)
	r, problems, err := recipe.Load(userdata.FS, "debian-12-docker", recipe.Options{Now: time.Now()})
	require.NoError(t, err)
	require.NoError(t, problems.Err())
	return &account{T: t, cloud: cloud, aws: clients{cloud.AWSConfig("")}, recipe: Recipe{Recipe: r, Secrets: []string{secretName}}}
}

// ready makes what an operator makes before the factory is deployed.
func (a *account) ready() *account {
	a.Helper()
	ctx, dir := a.Context(), filepath.Join(a.TempDir(), "base")
	require.NoError(a, os.MkdirAll(dir, 0o700))
	require.NoError(a, vm.WriteImage(dir, vm.ImageInfo{Kind: vm.Simulated, VolumeGiB: 2, SHA256: "ba5e"}))
	ids, err := a.cloud.EC2.RegisterBase(localec2.BaseImage{Name: "debian-12-amd64", OwnerID: debian, ImageDir: dir})
	require.NoError(a, err)
	for r, id := range ids {
		a.cloud.SSM.SetPublicParameter(r, parameter, id)
	}
	for _, to := range []string{"eu-west-1", "eu-central-1"} {
		key, err := a.aws.kms(to).CreateKey(ctx, &kms.CreateKeyInput{Policy: aws.String(`{"Version":"2012-10-17","Statement":[` + root + `,` + strings.Replace(root, home, other, 1) + `]}`)})
		require.NoError(a, err)
		_, err = a.aws.kms(to).CreateAlias(ctx, &kms.CreateAliasInput{AliasName: aws.String("alias/ami-factory"), TargetKeyId: key.KeyMetadata.KeyId})
		require.NoError(a, err)
		_, err = a.aws.ec2(to).EnableSnapshotBlockPublicAccess(ctx, &ec2.EnableSnapshotBlockPublicAccessInput{State: ec2types.SnapshotBlockPublicAccessStateBlockAllSharing})
		require.NoError(a, err)
	}
	_, err = a.aws.secrets().CreateSecret(ctx, &secretsmanager.CreateSecretInput{Name: aws.String(secretName), SecretString: aws.String("not to be read")})
	require.NoError(a, err)
	return a
}

// deploy makes what a deployment makes, as far as the doctor looks at it.
func (a *account) deploy() *account {
	a.Helper()
	ctx := a.Context()
	topic, err := a.aws.sns(region).CreateTopic(ctx, &sns.CreateTopicInput{Name: aws.String("executions")})
	require.NoError(a, err)
	a.topic = *topic.TopicArn
	_, err = a.aws.sns(region).Subscribe(ctx, &sns.SubscribeInput{TopicArn: topic.TopicArn, Protocol: aws.String("lambda"), Endpoint: aws.String(functionsARN + "pager")})
	require.NoError(a, err)
	_, err = a.aws.s3().CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String(bucketName), CreateBucketConfiguration: &s3types.CreateBucketConfiguration{LocationConstraint: region}})
	require.NoError(a, err)
	_, err = a.aws.s3().PutBucketVersioning(ctx, &s3.PutBucketVersioningInput{Bucket: aws.String(bucketName), VersioningConfiguration: &s3types.VersioningConfiguration{Status: s3types.BucketVersioningStatusEnabled}})
	require.NoError(a, err)
	_, err = a.aws.s3().PutBucketLifecycleConfiguration(ctx, &s3.PutBucketLifecycleConfigurationInput{
		Bucket: aws.String(bucketName), LifecycleConfiguration: &s3types.BucketLifecycleConfiguration{Rules: expirations()},
	})
	require.NoError(a, err)
	_, err = a.aws.s3().PutBucketNotificationConfiguration(ctx, &s3.PutBucketNotificationConfigurationInput{
		Bucket: aws.String(bucketName), NotificationConfiguration: &s3types.NotificationConfiguration{EventBridgeConfiguration: &s3types.EventBridgeConfiguration{}},
	})
	require.NoError(a, err)
	a.deployRoles()
	a.deploySigningKey()
	require.NoError(a, guest.StoreDocument(ctx, a.aws.ssm()))
	a.deployFunctions(nil)
	a.deployForwards()
	definition := workflow.Substitute(workflow.Definition().JSON(), func(s workflow.Stage) string { return functionsARN + string(s) })
	_, err = a.aws.states().CreateStateMachine(ctx, &sfn.CreateStateMachineInput{Name: aws.String(workflow.MachineName), Definition: &definition, RoleArn: aws.String("arn:aws:iam::" + home + ":role/workflow")})
	require.NoError(a, err)
	a.deployTriggers()
	a.deployProfile()
	return a
}

// deployRoles makes the roles that the functions, the machine and the schedules
// run with.
func (a *account) deployRoles() {
	a.Helper()
	roles := map[string]string{"workflow": "states", "schedules": "scheduler"}
	for _, fn := range blueprint.Functions() {
		roles[fn.Name] = "lambda"
	}
	for name, service := range roles {
		_, err := a.aws.iam().CreateRole(a.Context(), &iam.CreateRoleInput{RoleName: &name, AssumeRolePolicyDocument: aws.String(trust(service))})
		require.NoError(a, err)
	}
}

// deploySigningKey makes the key that signs evidence.
func (a *account) deploySigningKey() {
	a.Helper()
	key, err := a.aws.kms(region).CreateKey(a.Context(), &kms.CreateKeyInput{
		KeySpec: kmstypes.KeySpec(blueprint.SigningKeySpec), KeyUsage: kmstypes.KeyUsageType(blueprint.SigningKeyUsage), Policy: aws.String(signingPolicy(blueprint.Signer)),
	})
	require.NoError(a, err)
	a.signingKey = *key.KeyMetadata.Arn
}

func TestTheDocumentThatRunsScriptsIsLookedAt(t *testing.T) {
	name := aws.String(contract.ScriptDocument)
	add := func(a *account) error {
		_, err := a.aws.ssm().UpdateDocument(a.Context(), &ssm.UpdateDocumentInput{Name: name, Content: aws.String(strings.Replace(contract.ScriptDocumentContent, "as root", "as nobody", 1)), DocumentVersion: aws.String("$LATEST")})
		return err
	}
	for sentence, tc := range map[string]struct {
		change func(*account) error
		want   Verdict
		tells  string
	}{
		"as it was deployed":                    {func(*account) error { return nil }, OK, "version 1 has the hash that the factory's commands require"},
		"a version was added that nothing runs": {add, Warning, "somebody has added version 2, which nothing runs"},
		"another version runs": {func(a *account) error {
			if err := add(a); err != nil {
				return err
			}
			_, err := a.aws.ssm().UpdateDocumentDefaultVersion(a.Context(), &ssm.UpdateDocumentDefaultVersionInput{Name: name, DocumentVersion: aws.String("2")})
			return err
		}, Problem, guest.DocumentHash()},
		"it was deleted": {func(a *account) error {
			_, err := a.aws.ssm().DeleteDocument(a.Context(), &ssm.DeleteDocumentInput{Name: name})
			return err
		}, Problem, "it does not exist: every build fails with DocumentChanged"},
		"it may not be read": {func(a *account) error {
			_, err := a.cloud.Faults.Add(fault.Rule{Service: "ssm", Operation: "DescribeDocument", Code: "AccessDeniedException", Status: 400, Times: -1})
			return err
		}, NotChecked, "AccessDenied"},
	} {
		t.Run(sentence, func(t *testing.T) {
			a := newAccount(t)
			require.NoError(t, guest.StoreDocument(t.Context(), a.aws.ssm()))
			require.NoError(t, tc.change(a))
			got := judgeScriptDocument(t.Context(), a.aws.ssm())
			assert.Equal(t, tc.want, got.Verdict, got.Means)
			assert.Contains(t, got.Means, tc.tells)
			assert.Equal(t, tc.want == OK, got.Fix == "", "%s", got.Fix)
		})
	}
}

// signingPolicy is the signing key's policy when the role of a function signs.
func signingPolicy(signer string) string {
	var statements []map[string]any
	for _, s := range blueprint.SigningKeyPolicy("arn:aws:iam::" + home + ":role/" + signer) {
		statement := map[string]any{"Effect": "Allow", "Principal": map[string]string{"AWS": "arn:aws:iam::" + home + ":root"}, "Action": s.Actions, "Resource": "*"}
		if s.Conditions != nil {
			statement["Condition"] = s.Conditions
		}
		statements = append(statements, statement)
	}
	raw, _ := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": statements}) // texts marshal
	return string(raw)
}

func TestTheKeyThatSignsEvidenceIsLookedAt(t *testing.T) {
	for sentence, tc := range map[string]struct {
		change func(*account) error
		want   Verdict
		tells  string
	}{
		"as it was deployed": {func(*account) error { return nil }, OK, "lets only the role of Sign sign"},
		"disabled": {func(a *account) error {
			_, err := a.aws.kms(region).DisableKey(a.Context(), &kms.DisableKeyInput{KeyId: &a.signingKey})
			return err
		}, Problem, "it is Disabled: nothing is released"},
		"to be deleted": {func(a *account) error {
			_, err := a.aws.kms(region).ScheduleKeyDeletion(a.Context(), &kms.ScheduleKeyDeletionInput{KeyId: &a.signingKey})
			return err
		}, Problem, "it is to be deleted on"},
		"another role may sign": {func(a *account) error {
			_, err := a.aws.kms(region).PutKeyPolicy(a.Context(), &kms.PutKeyPolicyInput{KeyId: &a.signingKey, Policy: aws.String(signingPolicy("publish"))})
			return err
		}, Problem, "lets others than the role of Sign sign"},
		"the account may sign": {func(a *account) error {
			_, err := a.aws.kms(region).PutKeyPolicy(a.Context(), &kms.PutKeyPolicyInput{KeyId: &a.signingKey, Policy: aws.String(`{"Version":"2012-10-17","Statement":[` + root + `]}`)})
			return err
		}, Problem, "lets others than the role of Sign sign"},
		"nobody may sign": {func(a *account) error {
			manage := strings.Replace(signingPolicy("x"), `"kms:Sign"`, `"kms:DescribeKey"`, 1)
			_, err := a.aws.kms(region).PutKeyPolicy(a.Context(), &kms.PutKeyPolicyInput{KeyId: &a.signingKey, Policy: &manage})
			return err
		}, Problem, "does not let the role of Sign sign"},
		"a key that encrypts": {func(a *account) error {
			key, err := a.aws.kms(region).CreateKey(a.Context(), &kms.CreateKeyInput{})
			a.signingKey = *key.KeyMetadata.Arn
			return err
		}, Problem, "it is SYMMETRIC_DEFAULT for ENCRYPT_DECRYPT"},
		"no key": {func(a *account) error {
			a.signingKey = "arn:aws:kms:" + region + ":" + home + ":key/none"
			return nil
		}, Problem, "there is no key"},
	} {
		t.Run(sentence, func(t *testing.T) {
			a := newAccount(t).ready().deploy()
			require.NoError(t, tc.change(a))
			role := "arn:aws:iam::" + home + ":role/" + blueprint.Signer
			got := judgeSigningKey(t.Context(), a.aws.kms(region), a.signingKey, home, role, region)
			assert.Equal(t, tc.want, got.Verdict, got.Means)
			assert.Contains(t, got.Means, tc.tells)
		})
	}
}

func trust(service string) string {
	return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"` + service + `.amazonaws.com"},"Action":"sts:AssumeRole"}]}`
}

func (a *account) deployFunctions(change map[string]string) {
	a.Helper()
	settings := blueprint.Settings{
		Version: "v2", Bucket: bucketName, Topic: a.topic, InstanceProfile: builderRole, CheckEngines: "{}", StateMachine: machine, SigningKey: a.signingKey, AnnouncementTopics: []string{announced},
	}
	for _, fn := range blueprint.Functions() {
		env := fn.Environment(settings)
		maps.Copy(env, change)
		require.NoError(a, a.cloud.Lambda.Deploy(locallambda.Function{
			Name: "x-" + fn.Name, Env: env, Role: "arn:aws:iam::" + home + ":role/" + fn.Name, MemoryMiB: fn.MemoryMiB, Timeout: fn.Timeout,
			Handler: func(context.Context, []byte) ([]byte, error) { return []byte("{}"), nil },
		}))
	}
}

func (a *account) deployTriggers() {
	a.Helper()
	ctx := a.Context()
	queue, err := a.aws.sqs().CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: aws.String("dead-letters")})
	require.NoError(a, err)
	a.queue = *queue.QueueUrl
	dead := "arn:aws:sqs:eu-west-1:" + home + ":dead-letters"
	_, err = a.aws.events().CreateEventBus(ctx, &eventbridge.CreateEventBusInput{Name: aws.String(contract.FactoryBus)})
	require.NoError(a, err)
	for bus, pattern := range map[string]blueprint.Pattern{contract.FactoryBus: blueprint.SourceChangedPattern(), "default": blueprint.ExecutionEndedPattern(machine)} {
		raw, err := json.Marshal(pattern)
		require.NoError(a, err)
		_, err = a.aws.events().PutRule(ctx, &eventbridge.PutRuleInput{EventBusName: &bus, Name: aws.String("start"), EventPattern: aws.String(string(raw))})
		require.NoError(a, err)
		_, err = a.aws.events().PutTargets(ctx, &eventbridge.PutTargetsInput{EventBusName: &bus, Rule: aws.String("start"), Targets: []eventtypes.Target{{
			Id: aws.String("start"), Arn: aws.String(functionsARN + string(blueprint.StartBuilds)), DeadLetterConfig: &eventtypes.DeadLetterConfig{Arn: &dead},
		}}})
		require.NoError(a, err)
	}
	for _, r := range blueprint.Rules(machine, bucketName, blueprint.FindingRules{}) {
		if !r.Hint {
			continue
		}
		raw, err := json.Marshal(r.Pattern)
		require.NoError(a, err)
		_, err = a.aws.events().PutRule(ctx, &eventbridge.PutRuleInput{Name: &r.Name, EventPattern: aws.String(string(raw))})
		require.NoError(a, err)
		_, err = a.aws.events().PutTargets(ctx, &eventbridge.PutTargetsInput{Rule: &r.Name, Targets: []eventtypes.Target{{Id: aws.String("wake"), Arn: aws.String(functionsARN + r.Function)}}})
		require.NoError(a, err)
	}
	for name, stage := range map[string]workflow.Stage{"nightly": blueprint.StartBuilds, "watch": blueprint.WatchSources} {
		_, err = a.aws.scheduler().CreateSchedule(ctx, &scheduler.CreateScheduleInput{
			Name: &name, ScheduleExpression: aws.String("cron(0 3 * * ? *)"), FlexibleTimeWindow: &schedulertypes.FlexibleTimeWindow{Mode: schedulertypes.FlexibleTimeWindowModeOff},
			Target: &schedulertypes.Target{Arn: aws.String(functionsARN + string(stage)), RoleArn: aws.String("arn:aws:iam::" + home + ":role/schedules")},
		})
		require.NoError(a, err)
	}
	owner := sns.NewFromConfig(a.cloud.AWSConfigFor("137112412989", "us-east-1"))
	_, err = owner.CreateTopic(ctx, &sns.CreateTopicInput{Name: aws.String("amazon-linux-2023-ami-updates")})
	require.NoError(a, err)
	_, err = a.aws.sns("us-east-1").Subscribe(ctx, &sns.SubscribeInput{TopicArn: aws.String(announced), Protocol: aws.String("lambda"), Endpoint: aws.String(functionsARN + string(blueprint.ReleaseAnnounced))})
	require.NoError(a, err)
}

// deployForwards is what the stack of the second region makes, and beside it a rule of
// somebody else.
func (a *account) deployForwards() {
	a.Helper()
	there := a.aws.eventsIn("eu-central-1")
	bus := blueprint.HomeBus("aws", home, region)
	for _, f := range blueprint.Forwards() {
		raw, err := json.Marshal(f.Pattern)
		require.NoError(a, err)
		for name, target := range map[string]string{f.Name: bus, "a-theirs": strings.Replace(bus, region, "us-east-1", 1)} {
			_, err = there.PutRule(a.Context(), &eventbridge.PutRuleInput{Name: &name, EventPattern: aws.String(string(raw))})
			require.NoError(a, err)
			_, err = there.PutTargets(a.Context(), &eventbridge.PutTargetsInput{Rule: &name, Targets: []eventtypes.Target{{
				Id: aws.String("home"), Arn: &target, RoleArn: aws.String("arn:aws:iam::" + home + ":role/" + blueprint.ForwarderRoleName),
			}}})
			require.NoError(a, err)
		}
	}
}

func (a *account) deployProfile() {
	a.Helper()
	ctx, name := a.Context(), aws.String(builderRole)
	_, err := a.aws.iam().CreateRole(ctx, &iam.CreateRoleInput{
		RoleName: name, AssumeRolePolicyDocument: aws.String(trust("ec2")),
	})
	require.NoError(a, err)
	require.NoError(a, a.allowBuilders(blueprint.BuilderRole().Policy))
	_, err = a.aws.iam().CreateInstanceProfile(ctx, &iam.CreateInstanceProfileInput{InstanceProfileName: name})
	require.NoError(a, err)
	_, err = a.aws.iam().AddRoleToInstanceProfile(ctx, &iam.AddRoleToInstanceProfileInput{InstanceProfileName: name, RoleName: name})
	require.NoError(a, err)
}

// allowBuilders gives the builders' role its policy, as a deployment does.
func (a *account) allowBuilders(policy blueprint.Policy) error {
	document, err := json.Marshal(policy)
	require.NoError(a, err)
	_, err = a.aws.iam().PutRolePolicy(a.Context(), &iam.PutRolePolicyInput{RoleName: aws.String(builderRole), PolicyName: aws.String("builder"), PolicyDocument: aws.String(string(document))})
	return err
}

// TestEachPermissionThatABuilderLacksIsOneProblem takes the permissions of the
// role's own table away, one at a time.
func TestEachPermissionThatABuilderLacksIsOneProblem(t *testing.T) {
	a := newAccount(t).ready().deploy()
	whole := blueprint.BuilderRole().Policy
	problems := func() (out []Finding) {
		for _, f := range a.examine() {
			if f.Verdict == Problem {
				out = append(out, f)
			}
		}
		return out
	}
	assert.Empty(t, problems(), "a correct deployment has none")
	for i, statement := range whole {
		for _, action := range statement.Actions {
			t.Run(action, func(t *testing.T) {
				lacking := slices.Clone(whole)
				lacking[i].Actions = slices.DeleteFunc(slices.Clone(statement.Actions), func(s string) bool { return s == action })
				require.NoError(t, a.allowBuilders(lacking))
				found := problems()
				require.Len(t, found, 1)
				assert.Equal(t, "instance profile", found[0].Check)
				assert.Contains(t, found[0].Means, "may not "+action+":")
			})
		}
	}
}

// examine runs all checks.
func (a *account) examine(change ...func(*Options)) []Finding {
	return a.examineAs(a.cloud.AWSConfig(""), change...)
}

func (a *account) examineAs(cfg aws.Config, change ...func(*Options)) []Finding {
	opts := Options{Recipes: []Recipe{a.recipe}, Version: "v2"}
	for _, f := range change {
		f(&opts)
	}
	return Run(a.Context(), cfg, opts)
}

// bad are the findings that are not ok, told in one line each.
func bad(findings []Finding) []string {
	var out []string
	for _, f := range findings {
		if f.Verdict != OK {
			out = append(out, fmt.Sprintf("%s: %s: %s: %s", f.Check, f.Verdict, f.Looked, f.Means))
		}
	}
	return out
}

func TestADeployedFactoryInGoodHealth(t *testing.T) {
	var progress []string
	findings := newAccount(t).ready().deploy().examine(func(o *Options) { o.Progress = func(check string) { progress = append(progress, check) } })
	assert.Empty(t, bad(findings))
	assert.Equal(t, OK, Worst(findings))
	checked := map[string]bool{}
	for _, f := range findings {
		checked[f.Check] = true
		assert.NotEmpty(t, f.Means)
		assert.NotContains(t, f.Means, "not to be read", "a secret's value")
	}
	for _, c := range checks() {
		assert.True(t, checked[c.name], c.name)
		assert.Contains(t, progress, c.name)
	}
}

func TestRegionsThatDoNotSendEachOtherEventsAreNoFault(t *testing.T) {
	for partition, region := range map[string]string{"aws-cn": "cn-north-1", "aws-us-gov": "us-gov-west-1"} {
		r := *newAccount(t).recipe.Recipe
		r.Distribution.Regions = []recipe.Region{{Name: region}, {Name: "further"}}
		e := &examination{partition: partition, region: region, opts: Options{Recipes: []Recipe{{Recipe: &r}}}}
		found := checkForwards(t.Context(), e)
		require.Len(t, found, 1)
		assert.Equal(t, OK, found[0].Verdict)
		assert.Contains(t, found[0].Means, "regions of the partition "+partition+" do not send each other events. Waits for copies in further end by their time-outs")
	}
}

func TestAFactoryThatIsNotDeployedYet(t *testing.T) {
	findings := newAccount(t).ready().examine()
	require.NotEmpty(t, findings)
	for _, f := range findings {
		if f.Verdict != OK {
			assert.Equal(t, NotChecked, f.Verdict, f.Means)
			assert.Contains(t, f.Means, "not deployed yet")
		}
	}
	assert.Len(t, bad(findings), 12, "all that looks at what is deployed, and the deployment itself")
	assert.Equal(t, OK, Worst(findings), "nothing is wrong with that")
}

// change is what a case does to an account in good health.
type change func(*account) error

func TestWhatIsWrongWithAnAccount(t *testing.T) {
	vpcOf := func(a *account) (vpc, table, group string) {
		vpcs, err := a.aws.ec2(region).DescribeVpcs(a.Context(), &ec2.DescribeVpcsInput{})
		require.NoError(a, err)
		tables, err := a.aws.ec2(region).DescribeRouteTables(a.Context(), &ec2.DescribeRouteTablesInput{})
		require.NoError(a, err)
		groups, err := a.aws.ec2(region).DescribeSecurityGroups(a.Context(), &ec2.DescribeSecurityGroupsInput{})
		require.NoError(a, err)
		return *vpcs.Vpcs[0].VpcId, *tables.RouteTables[0].RouteTableId, *groups.SecurityGroups[0].GroupId
	}
	noNAT := func(a *account) error {
		_, table, _ := vpcOf(a)
		_, err := a.aws.ec2(region).DeleteRoute(a.Context(), &ec2.DeleteRouteInput{RouteTableId: &table, DestinationCidrBlock: aws.String("0.0.0.0/0")})
		return err
	}
	endpoints := func(a *account, services ...string) error {
		vpc, table, _ := vpcOf(a)
		for _, s := range services {
			in := &ec2.CreateVpcEndpointInput{VpcId: &vpc, ServiceName: aws.String("com.amazonaws.eu-west-1." + s), VpcEndpointType: ec2types.VpcEndpointTypeInterface}
			if s == "s3" {
				in.VpcEndpointType, in.RouteTableIds = ec2types.VpcEndpointTypeGateway, []string{table}
			}
			if _, err := a.aws.ec2(region).CreateVpcEndpoint(a.Context(), in); err != nil {
				return err
			}
		}
		return nil
	}
	for sentence, tc := range map[string]struct {
		change change
		check  string
		want   verdict
	}{
		"a recipe of another region": {func(a *account) error { a.recipe.Distribution.Regions[0].Name = "us-east-1"; return nil }, "regions", verdict{Warning, "refuses to build", "--region us-east-1"}},
		"a region that is not there": {func(a *account) error {
			a.recipe.Distribution.Regions[1].Name = "xx-north-1"
			return nil
		}, "regions", verdict{Problem, "no such region", "distribution.regions"}},
		"an image of somebody else":               {func(a *account) error { a.recipe.Source.Owner = "444455556666"; return nil }, "sources", verdict{Problem, "belongs to account " + debian, "find out whose"}},
		"a parameter that is not there":           {func(a *account) error { a.recipe.Source.Parameter = "/aws/service/none"; return nil }, "sources", verdict{Problem, "does not exist", "get-parameters-by-path"}},
		"a source that another recipe is to make": {func(a *account) error { a.recipe.Source.Parameter = a.recipe.Pointers.Parameters[0]; return nil }, "sources", verdict{Warning, "has not been published here yet", "ami-factory build"}},
		"a type that is offered nowhere":          {func(a *account) error { a.recipe.Builder.InstanceTypes = []string{"p9.huge"}; return nil }, "instance types", verdict{Problem, "none of them", "describe-instance-type-offerings"}},
		"subnets that are not there":              {func(a *account) error { a.recipe.Builder.SubnetIDs = []string{"subnet-0"}; return nil }, "subnets", verdict{Problem, "subnet-0", "builder.subnetIds"}},
		"no way to the internet":                  {noNAT, "subnets", verdict{Problem, "no endpoints of ssm, ssmmessages, s3", "create-vpc-endpoint"}},
		"endpoints for some": {func(a *account) error {
			if err := endpoints(a, "ssm", "s3"); err != nil {
				return err
			}
			return noNAT(a)
		}, "subnets", verdict{Problem, "the endpoint of ssm lets nobody", "authorize-security-group-ingress"}},
		"a VPC without names": {func(a *account) error {
			vpc, _, _ := vpcOf(a)
			_, err := a.aws.ec2(region).ModifyVpcAttribute(a.Context(), &ec2.ModifyVpcAttributeInput{VpcId: &vpc, EnableDnsSupport: &ec2types.AttributeBooleanValue{Value: aws.Bool(false)}})
			return err
		}, "subnets", verdict{Problem, "resolves no names", "--enable-dns-support"}},
		"a group that lets people in": {func(a *account) error {
			_, _, group := vpcOf(a)
			_, err := a.aws.ec2(region).AuthorizeSecurityGroupIngress(a.Context(), &ec2.AuthorizeSecurityGroupIngressInput{GroupId: &group, IpPermissions: []ec2types.IpPermission{https("192.0.2.0/24", "")}})
			return err
		}, "security groups", verdict{Warning, "192.0.2.0/24", "securityGroupIds"}},
		"a group that is not there": {func(a *account) error {
			a.deployFunctions(map[string]string{"AMI_FACTORY_SECURITY_GROUP_IDS": "sg-0"})
			return nil
		}, "security groups", verdict{Problem, "it is not in vpc-", "describe-security-groups"}},
		"few vCPUs":     {func(a *account) error { return a.cloud.Quotas.Set(home, region, "ec2", "L-1216C47A", 5) }, "quotas", verdict{Warning, "too few", "request-service-quota-increase"}},
		"no snapshot":   {func(a *account) error { return a.cloud.Quotas.Set(home, "eu-central-1", "ebs", "L-309BACF6", 0) }, "quotas", verdict{Problem, "all in use", "--region eu-central-1"}},
		"few functions": {func(a *account) error { return a.cloud.Quotas.Set(home, region, "lambda", "L-B99A9384", 5) }, "quotas", verdict{Warning, "throttled", "L-B99A9384"}},
		"a key that is off": {func(a *account) error {
			key, err := a.aws.kms("eu-central-1").DescribeKey(a.Context(), &kms.DescribeKeyInput{KeyId: aws.String("alias/ami-factory")})
			require.NoError(a, err)
			_, err = a.aws.kms("eu-central-1").DisableKey(a.Context(), &kms.DisableKeyInput{KeyId: key.KeyMetadata.KeyId})
			return err
		}, "keys", verdict{Problem, "disabled", "enable-key --region eu-central-1"}},
		"a key that is not there": {func(a *account) error { a.recipe.Distribution.Regions[1].KMSKey = "alias/none"; return nil }, "keys", verdict{Problem, "no such key in eu-central-1", "create-key"}},
		"an account that the key's policy leaves out": {func(a *account) error {
			a.recipe.Distribution.Accounts = append(a.recipe.Distribution.Accounts, "999988887777")
			return nil
		}, "keys", verdict{Problem, "does not name account 999988887777", "put-key-policy"}},
		"an organisation that the key's policy leaves out": {func(a *account) error {
			a.recipe.Distribution.Organizations = []string{"arn:aws:organizations::999999999999:organization/o-exampleorg"}
			return nil
		}, "keys", verdict{Problem, "gives o-exampleorg no", "aws:PrincipalOrgID"}},
		"images that may be made public": {func(a *account) error {
			_, err := a.aws.ec2(region).DisableImageBlockPublicAccess(a.Context(), &ec2.DisableImageBlockPublicAccessInput{})
			return err
		}, "public access", verdict{Warning, "not blocked", "enable-image-block-public-access"}},
		"an owner that is not allowed": {func(a *account) error {
			_, err := a.aws.ec2(region).EnableAllowedImagesSettings(a.Context(), &ec2.EnableAllowedImagesSettingsInput{AllowedImagesSettingsState: ec2types.AllowedImagesSettingsEnabledStateEnabled})
			require.NoError(a, err)
			_, err = a.aws.ec2(region).ReplaceImageCriteriaInAllowedImagesSettings(a.Context(), &ec2.ReplaceImageCriteriaInAllowedImagesSettingsInput{ImageCriteria: []ec2types.ImageCriterionRequest{{ImageProviders: []string{"444455556666"}}}})
			return err
		}, "allowed images", verdict{Problem, "no criterion allows it", "replace-image-criteria"}},
		"another workflow": {func(a *account) error {
			definition := workflow.Substitute(workflow.Definition().JSON(), func(s workflow.Stage) string { return functionsARN + string(s) })
			seal, _ := workflow.Lookup(workflow.Seal)
			definition = strings.Replace(definition, seal.Does, "does something else", 1)
			_, err := a.aws.states().UpdateStateMachine(a.Context(), &sfn.UpdateStateMachineInput{StateMachineArn: aws.String(machine), Definition: &definition})
			return err
		}, "deployment", verdict{Problem, "in Seal: somebody has changed it", "deploy"}},
		"a function that is gone": {func(a *account) error {
			_, err := a.aws.lambda().DeleteFunction(a.Context(), &lambda.DeleteFunctionInput{FunctionName: aws.String("x-seal")})
			return err
		}, "functions", verdict{Problem, "does not exist", "deploy"}},
		"another version": {func(a *account) error {
			a.deployFunctions(map[string]string{"AMI_FACTORY_VERSION": "v1"})
			return nil
		}, "functions", verdict{Warning, `deployed is "v1"`, "v1"}},
		"a profile without a role": {func(a *account) error {
			_, err := a.aws.iam().RemoveRoleFromInstanceProfile(a.Context(), &iam.RemoveRoleFromInstanceProfileInput{InstanceProfileName: aws.String(builderRole), RoleName: aws.String(builderRole)})
			return err
		}, "instance profile", verdict{Problem, "no role", "deploy"}},
		"a role that SSM does not know": {func(a *account) error {
			_, err := a.aws.iam().DeleteRolePolicy(a.Context(), &iam.DeleteRolePolicyInput{RoleName: aws.String(builderRole), PolicyName: aws.String("builder")})
			return err
		}, "instance profile", verdict{Problem, "may not ssm:UpdateInstanceInformation", "service control policy"}},
		"a profile that is not there": {func(a *account) error {
			a.deployFunctions(map[string]string{"AMI_FACTORY_INSTANCE_PROFILE": "none"})
			return nil
		}, "instance profile", verdict{Problem, "does not exist", "deploy"}},
		"a bucket without versions": {func(a *account) error {
			_, err := a.aws.s3().PutBucketVersioning(a.Context(), &s3.PutBucketVersioningInput{Bucket: aws.String(bucketName), VersioningConfiguration: &s3types.VersioningConfiguration{Status: s3types.BucketVersioningStatusSuspended}})
			return err
		}, "bucket", verdict{Warning, "not kept", "put-bucket-versioning"}},
		"no lifecycle rules": {func(a *account) error {
			_, err := a.aws.s3().DeleteBucketLifecycle(a.Context(), &s3.DeleteBucketLifecycleInput{Bucket: aws.String(bucketName)})
			return err
		}, "bucket", verdict{Warning, "plans/", "deploy"}},
		"a function with little time": {func(a *account) error {
			_, err := a.aws.lambda().UpdateFunctionConfiguration(a.Context(), &lambda.UpdateFunctionConfigurationInput{FunctionName: aws.String("x-seal"), Timeout: aws.Int32(3)})
			return err
		}, "functions", verdict{Problem, "time-out is 3s", "deploy"}},
		"a bucket that may be public": {func(a *account) error {
			_, err := a.aws.s3().DeletePublicAccessBlock(a.Context(), &s3.DeletePublicAccessBlockInput{Bucket: aws.String(bucketName)})
			return err
		}, "bucket", verdict{Warning, "not blocked", "put-public-access-block"}},
		"a bucket that is gone": {func(a *account) error {
			_, err := a.aws.s3().DeleteBucket(a.Context(), &s3.DeleteBucketInput{Bucket: aws.String(bucketName)})
			return err
		}, "bucket", verdict{Problem, "does not exist", "deploy"}},
		"a topic that nobody hears": {func(a *account) error {
			subscriptions, err := a.aws.sns(region).ListSubscriptionsByTopic(a.Context(), &sns.ListSubscriptionsByTopicInput{TopicArn: &a.topic})
			require.NoError(a, err)
			_, err = a.aws.sns(region).Unsubscribe(a.Context(), &sns.UnsubscribeInput{SubscriptionArn: subscriptions.Subscriptions[0].SubscriptionArn})
			return err
		}, "topic", verdict{Warning, "it has no subscriber", "aws sns subscribe"}},
		"a topic that is gone": {func(a *account) error {
			_, err := a.aws.sns(region).DeleteTopic(a.Context(), &sns.DeleteTopicInput{TopicArn: &a.topic})
			return err
		}, "topic", verdict{Problem, "does not exist", "deploy"}},
		"announcements that are not heard": {func(a *account) error {
			a.deployFunctions(map[string]string{"AMI_FACTORY_ANNOUNCEMENT_TOPICS": strings.Replace(announced, "us-east-1", "us-west-2", 1)})
			return nil
		}, "announcements", verdict{Warning, "no function of the factory is subscribed", "deploy"}},
		"a bucket whose events nobody hears": {func(a *account) error {
			_, err := a.aws.s3().PutBucketNotificationConfiguration(a.Context(), &s3.PutBucketNotificationConfigurationInput{Bucket: aws.String(bucketName), NotificationConfiguration: &s3types.NotificationConfiguration{}})
			return err
		}, "bucket", verdict{Warning, "not sent to EventBridge", "deploy"}},
		"a rule that ends waits, and is off": {func(a *account) error {
			_, err := a.aws.events().DisableRule(a.Context(), &eventbridge.DisableRuleInput{Name: aws.String("guest-uploaded")})
			return err
		}, "rules", verdict{Warning, "disabled: waits then last until their time-outs", "--name guest-uploaded"}},
		"a region that does not forward": {func(a *account) error {
			_, err := a.aws.eventsIn("eu-central-1").RemoveTargets(a.Context(), &eventbridge.RemoveTargetsInput{Rule: aws.String("image-changed"), Ids: []string{"home"}})
			return err
		}, "forwards", verdict{Warning, "the factory works without it", "-c stack=forward"}},
		"a region whose rule is off": {func(a *account) error {
			_, err := a.aws.eventsIn("eu-central-1").DisableRule(a.Context(), &eventbridge.DisableRuleInput{Name: aws.String("image-changed")})
			return err
		}, "forwards", verdict{Warning, "rule image-changed is disabled", "enable-rule --region eu-central-1 --name image-changed"}},
		"a rule that is off": {func(a *account) error {
			_, err := a.aws.events().DisableRule(a.Context(), &eventbridge.DisableRuleInput{EventBusName: aws.String(contract.FactoryBus), Name: aws.String("start")})
			return err
		}, "rules", verdict{Problem, "disabled", "--event-bus-name ami-factory --name start"}},
		"a rule for a function that is gone": {func(a *account) error {
			_, err := a.aws.lambda().DeleteFunction(a.Context(), &lambda.DeleteFunctionInput{FunctionName: aws.String("x-start-builds")})
			return err
		}, "rules", verdict{Problem, "which it invokes, does not exist", "deploy"}},
		"a schedule that is gone": {func(a *account) error {
			_, err := a.aws.scheduler().DeleteSchedule(a.Context(), &scheduler.DeleteScheduleInput{Name: aws.String("nightly")})
			return err
		}, "schedules", verdict{Problem, "nothing builds what is stale", "deploy"}},
		"only somebody else's schedule": {func(a *account) error {
			require.NoError(a, a.cloud.Lambda.Deploy(locallambda.Function{Name: "theirs", Role: "arn:aws:iam::" + home + ":role/seal", Handler: func(context.Context, []byte) ([]byte, error) { return nil, nil }}))
			_, err := a.aws.scheduler().CreateSchedule(a.Context(), &scheduler.CreateScheduleInput{
				Name: aws.String("theirs"), ScheduleExpression: aws.String("rate(1 day)"), FlexibleTimeWindow: &schedulertypes.FlexibleTimeWindow{Mode: schedulertypes.FlexibleTimeWindowModeOff},
				Target: &schedulertypes.Target{Arn: aws.String("arn:aws:lambda:eu-west-1:" + home + ":function:theirs"), RoleArn: aws.String("arn:aws:iam::" + home + ":role/schedules")},
			})
			require.NoError(a, err)
			_, err = a.aws.scheduler().DeleteSchedule(a.Context(), &scheduler.DeleteScheduleInput{Name: aws.String("watch")})
			return err
		}, "schedules", verdict{Problem, "nothing looks at the sources of recipes", "deploy"}},
		"dead letters": {func(a *account) error {
			_, err := a.aws.sqs().SendMessage(a.Context(), &sqs.SendMessageInput{QueueUrl: &a.queue, MessageBody: aws.String("lost")})
			return err
		}, "dead letters", verdict{Warning, "1 events were not delivered", "receive-message"}},
		"no queue for dead letters": {func(a *account) error {
			_, err := a.aws.sqs().DeleteQueue(a.Context(), &sqs.DeleteQueueInput{QueueUrl: &a.queue})
			return err
		}, "dead letters", verdict{Problem, "does not exist", "deploy"}},
		"no secret": {func(a *account) error { a.recipe.Secrets = []string{"ami-factory/agents/chef"}; return nil }, "secrets", verdict{Warning, "there is none here", "create-secret --name ami-factory/agents/chef"}},
		"a secret that is to be deleted": {func(a *account) error {
			_, err := a.aws.secrets().DeleteSecret(a.Context(), &secretsmanager.DeleteSecretInput{SecretId: aws.String(secretName)})
			return err
		}, "secrets", verdict{Warning, "to be deleted", "restore-secret"}},
		"a secret without a value": {func(a *account) error {
			a.recipe.Secrets = []string{"empty"}
			_, err := a.aws.secrets().CreateSecret(a.Context(), &secretsmanager.CreateSecretInput{Name: aws.String("empty")})
			return err
		}, "secrets", verdict{Warning, "no value yet", "put-secret-value"}},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel() // an account's state is its own, and half the time is waiting
			a := newAccount(t).ready().deploy()
			require.NoError(t, tc.change(a))
			findings := a.examine()
			var found []Finding
			for _, f := range findings {
				if f.Check == tc.check && f.Verdict != OK {
					found = append(found, f)
				}
			}
			require.NotEmpty(t, found, "%v", bad(findings))
			tc.want.check(t, found[0])
		})
	}
}

func TestAnEndpointForEverythingIsAWay(t *testing.T) {
	a := newAccount(t).ready().deploy()
	ctx, api := t.Context(), a.aws.ec2(region)
	table, err := api.DescribeRouteTables(ctx, &ec2.DescribeRouteTablesInput{})
	require.NoError(t, err)
	groups, err := api.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{})
	require.NoError(t, err)
	vpc, group := table.RouteTables[0].VpcId, groups.SecurityGroups[0].GroupId
	_, err = api.DeleteRoute(ctx, &ec2.DeleteRouteInput{RouteTableId: table.RouteTables[0].RouteTableId, DestinationCidrBlock: aws.String("0.0.0.0/0")})
	require.NoError(t, err)
	_, err = api.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: group, IpPermissions: []ec2types.IpPermission{https("", *group)}})
	require.NoError(t, err)
	for _, service := range []string{"ssm", "ssmmessages", "s3"} {
		in := &ec2.CreateVpcEndpointInput{VpcId: vpc, ServiceName: aws.String("com.amazonaws.eu-west-1." + service), VpcEndpointType: ec2types.VpcEndpointTypeInterface, SecurityGroupIds: []string{*group}}
		if service == "s3" {
			in.VpcEndpointType, in.RouteTableIds, in.SecurityGroupIds = ec2types.VpcEndpointTypeGateway, []string{*table.RouteTables[0].RouteTableId}, nil
		}
		_, err = api.CreateVpcEndpoint(ctx, in)
		require.NoError(t, err)
	}
	for _, f := range a.examine() {
		if f.Check == "subnets" {
			verdict{OK, "SSM and S3 by endpoints", ""}.check(t, f)
		}
	}
}

func TestAGrantIsAsGoodAsThePolicy(t *testing.T) {
	a := newAccount(t).ready().deploy()
	a.recipe.Distribution.Accounts = []string{"999988887777"}
	for _, to := range []string{"eu-west-1", "eu-central-1"} {
		key, err := a.aws.kms(to).DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: aws.String("alias/ami-factory")})
		require.NoError(t, err)
		_, err = a.aws.kms(to).CreateGrant(t.Context(), &kms.CreateGrantInput{
			KeyId: key.KeyMetadata.KeyId, GranteePrincipal: aws.String("arn:aws:iam::999988887777:role/deploy"),
			Operations: []kmstypes.GrantOperation{kmstypes.GrantOperationCreateGrant, kmstypes.GrantOperationDecrypt, kmstypes.GrantOperationDescribeKey, kmstypes.GrantOperationReEncryptFrom},
		})
		require.NoError(t, err)
	}
	assert.Empty(t, bad(a.examine()))
}

func TestWhoMayNotReadIsToldWhatIsMissing(t *testing.T) {
	a := newAccount(t, func(c *localcloud.Config) { c.EnforceIAM = true }).ready().deploy()
	const role = "arn:aws:iam::" + home + ":role/doctor"
	allow := func(actions string) {
		raw := json.RawMessage(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":` + actions + `,"Resource":"*"}]}`)
		require.NoError(t, a.cloud.IAM.PutRole(localiam.Role{ARN: role, Policies: map[string]json.RawMessage{"read": raw}}))
	}
	as := a.cloud.AWSConfigOfRole("", role, "doctor")

	allow(`["sts:GetCallerIdentity"]`)
	for _, f := range a.examineAs(as) {
		if f.Check == "identity" {
			assert.Equal(t, OK, f.Verdict)
			continue
		}
		assert.Equal(t, NotChecked, f.Verdict, "%s: %s: %s", f.Check, f.Looked, f.Means)
		assert.NotEqual(t, "", f.Means)
	}

	allow(`["states:*","lambda:*","ec2:*","kms:DescribeKey"]`)
	fixes := map[string]string{}
	for _, f := range a.examineAs(as) {
		if f.Fix != "" {
			fixes[f.Check] = f.Fix
		}
	}
	for check, action := range map[string]string{
		"sources": "ssm:GetParameter", "quotas": "servicequotas:GetServiceQuota", "keys": "kms:GetKeyPolicy", "topic": "sns:GetTopicAttributes", "rules": "events:ListRules",
		"bucket": "s3:GetBucketNotification", "secrets": "secretsmanager:DescribeSecret",
	} {
		assert.Contains(t, fixes[check], "allow "+action+" to who runs this", check)
	}
}

func TestARegionInWhichNothingIsBuilt(t *testing.T) {
	a := newAccount(t).ready()
	checked := map[string]Finding{}
	for _, f := range a.examineAs(a.cloud.AWSConfig("eu-central-1")) {
		checked[f.Check] = f
		assert.NotEqual(t, Problem, f.Verdict, f.Means)
	}
	for _, c := range checks() {
		assert.Contains(t, checked, c.name, "no check is left out in silence")
	}
	verdict{NotChecked, "no recipe is built in this region", ""}.check(t, checked["sources"])
}

func TestCredentialsThatAreNotAccepted(t *testing.T) {
	a := newAccount(t)
	cfg := a.cloud.AWSConfig("")
	cfg.BaseEndpoint = aws.String("http://127.0.0.1:1")
	cfg.RetryMaxAttempts = 1
	findings := a.examineAs(cfg)
	verdict{Problem, "they are not accepted", "get-caller-identity"}.check(t, findings[0])
	for _, f := range findings[1:] {
		assert.Equal(t, NotChecked, f.Verdict)
		assert.Contains(t, f.Means, "who asks is not known")
	}
}

func TestAMachineThatIsNamed(t *testing.T) {
	a := newAccount(t).ready().deploy()
	named := func(arn string) func(*Options) { return func(o *Options) { o.StateMachine = arn } }
	assert.Empty(t, bad(a.examine(named(machine))))
	findings := a.examine(named(machine + "x"))
	verdict{Problem, "could not be read", "StateMachineArn"}.check(t, findings[1])
}
