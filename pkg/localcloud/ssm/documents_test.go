package ssm_test

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const greeting = `{"schemaVersion":"2.2","description":"greets","parameters":{
	"who":{"type":"String","default":"world","allowedPattern":"^[a-z]+$"},
	"more":{"type":"StringList","default":[]},
	"limit":{"type":"String","default":"60","allowedValues":["1","60"]}},
	"mainSteps":[{"action":"aws:runShellScript","name":"greet","inputs":{"timeoutSeconds":"{{ limit }}","workingDirectory":"/usr",
		"runCommand":["echo hello {{who}}","pwd","{{ more }}"]}}]}`

func (r *rig) createDocument(t *testing.T, name, content string) *types.DocumentDescription {
	t.Helper()
	out, err := r.CreateDocument(t.Context(), &sdk.CreateDocumentInput{Name: &name, Content: &content, DocumentType: types.DocumentTypeCommand})
	require.NoError(t, err)
	return out.DocumentDescription
}

func sha(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func TestACommandRunsADocumentOfTheAccount(t *testing.T) {
	for sentence, tc := range map[string]struct {
		parameters map[string][]string
		change     func(*sdk.SendCommandInput)
		status     types.CommandInvocationStatus
		stdout     string
	}{
		"with its defaults":      {nil, nil, "Success", "hello world\n/usr\n"},
		"with parameters":        {map[string][]string{"who": {"factory"}}, nil, "Success", "hello factory\n/usr\n"},
		"a list becomes lines":   {map[string][]string{"more": {"echo a", "echo b"}}, nil, "Success", "hello world\n/usr\na\nb\n"},
		"its time limit ends it": {map[string][]string{"more": {"sleep 60"}, "limit": {"1"}}, nil, "TimedOut", "hello world\n/usr\n"},
		"by its ARN": {nil, func(in *sdk.SendCommandInput) {
			in.DocumentName = aws.String("arn:aws:ssm:eu-west-1:" + account + ":document/greeting")
		}, "Success", "hello world\n/usr\n"},
		"with the hash that it has": {nil, func(in *sdk.SendCommandInput) {
			in.DocumentHash, in.DocumentHashType = aws.String(sha(greeting)), types.DocumentHashTypeSha256
		}, "Success", "hello world\n/usr\n"},
		"of another version":           {nil, func(in *sdk.SendCommandInput) { in.DocumentVersion = aws.String("2") }, "Success", "second\n"},
		"of the latest version":        {nil, func(in *sdk.SendCommandInput) { in.DocumentVersion = aws.String("$LATEST") }, "Success", "second\n"},
		"of the default version, by $": {nil, func(in *sdk.SendCommandInput) { in.DocumentVersion = aws.String("$DEFAULT") }, "Success", "hello world\n/usr\n"},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := newRig(t)
			r.createDocument(t, "greeting", greeting)
			second := `{"schemaVersion":"2.2","mainSteps":[{"action":"aws:runShellScript","name":"greet","inputs":{"runCommand":["echo second"]}}]}`
			_, err := r.UpdateDocument(t.Context(), &sdk.UpdateDocumentInput{Name: aws.String("greeting"), Content: &second, DocumentVersion: aws.String("$LATEST")})
			require.NoError(t, err)
			id := r.send(t, "", func(in *sdk.SendCommandInput) {
				in.DocumentName, in.Parameters = aws.String("greeting"), tc.parameters
				in.OutputS3BucketName, in.OutputS3KeyPrefix = aws.String("outputs"), aws.String("runs/1/")
				if tc.change != nil {
					tc.change(in)
				}
			})
			out := r.result(t, id)
			assert.Equal(t, tc.status, out.Status)
			assert.Equal(t, tc.stdout, *out.StandardOutputContent)
			assert.Equal(t, "greeting", *out.DocumentName)
			assert.Equal(t, "greet", *out.PluginName)
			assert.Equal(t, tc.stdout, r.bucket.objects["outputs/runs/1/"+id+"/"+instance+"/awsrunShellScript/greet/stdout"], "the agent writes it under the step's name")
			listed, err := r.ListCommands(t.Context(), &sdk.ListCommandsInput{CommandId: &id})
			require.NoError(t, err)
			assert.Equal(t, "greeting", *listed.Commands[0].DocumentName)
			assert.Equal(t, "greeting", r.seen("EC2 Command Invocation Status-change Notification")[0]["document-name"])
		})
	}
}

func TestACommandOfAnotherDocumentThanExpectedIsRefused(t *testing.T) {
	r := newRig(t)
	r.createDocument(t, "greeting", greeting)
	for sentence, tc := range map[string]struct {
		in   sdk.SendCommandInput
		want string
	}{
		"the hash of another content":         {sdk.SendCommandInput{DocumentName: aws.String("greeting"), DocumentHash: aws.String(sha("x")), DocumentHashType: types.DocumentHashTypeSha256}, "InvalidDocument: document hash " + sha("x") + " does not match Sha256."},
		"a hash of the kind that is not used": {sdk.SendCommandInput{DocumentName: aws.String("greeting"), DocumentHash: aws.String("x"), DocumentHashType: types.DocumentHashTypeSha1}, "deprecated"},
		"a document that does not exist":      {sdk.SendCommandInput{DocumentName: aws.String("other")}, "InvalidDocument: Document with name other does not exist"},
		"a document of another account":       {sdk.SendCommandInput{DocumentName: aws.String("arn:aws:ssm:eu-west-1:444455556666:document/greeting")}, "InvalidDocument"},
		"a version that does not exist":       {sdk.SendCommandInput{DocumentName: aws.String("greeting"), DocumentVersion: aws.String("9")}, "InvalidDocumentVersion"},
		"a parameter that it does not have":   {sdk.SendCommandInput{DocumentName: aws.String("greeting"), Parameters: map[string][]string{"commands": {"id"}}}, `InvalidParameters: Parameter "commands" is not one of the document's: limit, more, who`},
		"a value that it does not allow":      {sdk.SendCommandInput{DocumentName: aws.String("greeting"), Parameters: map[string][]string{"who": {"$(id)"}}}, "allowedPattern"},
		"a value that is not in its list":     {sdk.SendCommandInput{DocumentName: aws.String("greeting"), Parameters: map[string][]string{"limit": {"2"}}}, "allowed: 1, 60"},
	} {
		t.Run(sentence, func(t *testing.T) {
			tc.in.InstanceIds = []string{instance}
			_, err := r.SendCommand(t.Context(), &tc.in)
			assert.ErrorContains(t, err, tc.want)
		})
	}
	listed, err := r.ListCommands(t.Context(), &sdk.ListCommandsInput{})
	require.NoError(t, err)
	assert.Empty(t, listed.Commands, "none of them ran")
}

func TestDocumentsHaveVersionsAndHashes(t *testing.T) {
	r := newRig(t)
	made := r.createDocument(t, "greeting", greeting)
	assert.Equal(t, sha(greeting), *made.Hash)
	assert.Equal(t, types.DocumentHashTypeSha256, made.HashType)
	require.Len(t, made.Parameters, 3)
	assert.Equal(t, "world", *made.Parameters[2].DefaultValue)
	changed := strings.Replace(greeting, "hello", "good bye", 1)
	name := aws.String("greeting")
	_, err := r.UpdateDocument(t.Context(), &sdk.UpdateDocumentInput{Name: name, Content: aws.String(greeting)})
	require.ErrorContains(t, err, "DuplicateDocumentContent")
	_, err = r.UpdateDocument(t.Context(), &sdk.UpdateDocumentInput{Name: name, Content: &changed})
	require.NoError(t, err)
	described, err := r.DescribeDocument(t.Context(), &sdk.DescribeDocumentInput{Name: name})
	require.NoError(t, err)
	assert.Equal(t, sha(greeting), *described.Document.Hash, "the default version stays")
	assert.Equal(t, "2", *described.Document.LatestVersion)
	_, err = r.UpdateDocumentDefaultVersion(t.Context(), &sdk.UpdateDocumentDefaultVersionInput{Name: name, DocumentVersion: aws.String("2")})
	require.NoError(t, err)
	raw, err := r.Snapshot()
	require.NoError(t, err)
	again := newRig(t)
	require.NoError(t, again.Restore(raw))
	got, err := again.GetDocument(t.Context(), &sdk.GetDocumentInput{Name: name})
	require.NoError(t, err)
	assert.Equal(t, changed, *got.Content)
	_, err = r.DeleteDocument(t.Context(), &sdk.DeleteDocumentInput{Name: name, DocumentVersion: aws.String("2")})
	require.ErrorContains(t, err, "InvalidDocumentOperation")
	_, err = r.DeleteDocument(t.Context(), &sdk.DeleteDocumentInput{Name: name})
	require.NoError(t, err)
	_, err = r.GetDocument(t.Context(), &sdk.GetDocumentInput{Name: name})
	assert.ErrorContains(t, err, "InvalidDocument")
}

func TestADocumentInYAMLIsRead(t *testing.T) {
	r := newRig(t)
	content := "schemaVersion: '2.2'\nmainSteps:\n- action: aws:runShellScript\n  name: one\n  inputs:\n    timeoutSeconds: 30\n    runCommand:\n    - echo yaml\n"
	_, err := r.CreateDocument(t.Context(), &sdk.CreateDocumentInput{Name: aws.String("yaml"), Content: &content, DocumentFormat: types.DocumentFormatYaml})
	require.NoError(t, err)
	out := r.result(t, r.send(t, "", func(in *sdk.SendCommandInput) { in.DocumentName, in.Parameters = aws.String("yaml"), nil }))
	assert.Equal(t, "yaml\n", *out.StandardOutputContent)
}

func TestADocumentThatCannotRunIsRefused(t *testing.T) {
	step := func(s string) string { return `{"schemaVersion":"2.2","mainSteps":[` + s + `]}` }
	for sentence, tc := range map[string]struct{ name, content, want string }{
		"not JSON":                     {"doc", "{", "wrong form"},
		"a field that is unknown":      {"doc", `{"schemaVersion":"2.2","mainStep":[]}`, "mainStep"},
		"another schema version":       {"doc", `{"schemaVersion":"1.2","mainSteps":[]}`, "use 2.2"},
		"no step":                      {"doc", step(""), "0 mainSteps"},
		"another action":               {"doc", step(`{"action":"aws:runPowerShellScript","name":"a","inputs":{"runCommand":["x"]}}`), "aws:runShellScript"},
		"no commands":                  {"doc", step(`{"action":"aws:runShellScript","name":"a","inputs":{}}`), "no runCommand"},
		"a parameter that is missing":  {"doc", step(`{"action":"aws:runShellScript","name":"a","inputs":{"runCommand":["{{ x }}"]}}`), `the parameter "x"`},
		"a name that AWS reserves":     {"AWS-Mine", greeting, "reserved"},
		"a name with other characters": {"a/b", greeting, "3 to 128"},
		"more than 64 KiB":             {"doc", strings.Repeat(" ", 64*1024+1), "MaxDocumentSizeExceeded"},
	} {
		t.Run(sentence, func(t *testing.T) {
			_, err := newRig(t).CreateDocument(t.Context(), &sdk.CreateDocumentInput{Name: &tc.name, Content: &tc.content})
			assert.ErrorContains(t, err, tc.want)
		})
	}
}
