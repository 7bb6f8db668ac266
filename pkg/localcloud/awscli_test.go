package localcloud_test

import (
	"bytes"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// documented is a command of the page of triggers, without the name of the program and with
// the address of an embedded AWS.
func documented(t *testing.T, address, command string) []string {
	t.Helper()
	readme, err := os.ReadFile(filepath.Join("..", "..", "infra", "docs", "triggers.md"))
	require.NoError(t, err)
	_, text, found := strings.Cut(strings.ReplaceAll(string(readme), "\\\n", ""), "    $ "+command)
	require.True(t, found, "the page has %s", command)
	text, _, _ = strings.Cut(text, "\n")
	return strings.Fields(strings.NewReplacer(`"`, "", "$AWS_ENDPOINT_URL", address).Replace(strings.TrimPrefix(command, "aws ") + text))
}

// TestTheAWSCommandLineWorks runs a stock client in another process.
func TestTheAWSCommandLineWorks(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: some twenty starts of the AWS command line take their time")
	}
	path, err := exec.LookPath("aws")
	if err != nil {
		t.Skip("the AWS command line is not in PATH: make setup installs it into build/programs")
	}
	c := listening(t)
	instance := running(t, c)
	home := t.TempDir()
	cli := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), path, args...)
		cmd.Env = append(append(os.Environ(), "HOME="+home, "AWS_PAGER=", "AWS_CONFIG_FILE="+home+"/none", "AWS_SHARED_CREDENTIALS_FILE="+home+"/none"), c.Environment()...)
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		require.NoError(t, cmd.Run(), "aws %v: %s", args, stderr.String())
		return stdout.String()
	}
	assert.Contains(t, cli("sts", "get-caller-identity"), account)
	assert.Contains(t, cli("ec2", "describe-images", "--owners", "136693071363"), "debian-12-amd64")
	assert.Contains(t, cli("ec2", "describe-instances", "--query", "Reservations[].Instances[].State.Name"), "running")
	cli("ssm", "put-parameter", "--name", "/golden/latest", "--type", "String", "--value", "ami-1")
	assert.Equal(t, "ami-1\n", cli("ssm", "get-parameter", "--name", "/golden/latest", "--query", "Parameter.Value", "--output", "text"))
	command := cli("ssm", "send-command", "--document-name", "AWS-RunShellScript", "--instance-ids", instance, "--parameters", "commands=uptime", "--query", "Command.CommandId", "--output", "text")
	id := string(bytes.TrimSpace([]byte(command)))
	cli("ssm", "wait", "command-executed", "--command-id", id, "--instance-id", instance)
	assert.Equal(t, "UPTIME\n\n", cli("ssm", "get-command-invocation", "--command-id", id, "--instance-id", instance, "--query", "StandardOutputContent", "--output", "text"))

	file := filepath.Join(home, "report.txt")
	require.NoError(t, os.WriteFile(file, bytes.Repeat([]byte("report\n"), 2<<20), 0o600)) // 14 MiB: in parts
	cli("s3", "mb", "s3://reports")
	cli("s3", "cp", file, "s3://reports/runs/report.txt", "--only-show-errors")
	assert.Contains(t, cli("s3", "ls", "s3://reports/runs/"), "report.txt")
	cli("s3", "cp", "s3://reports/runs/report.txt", file+".back", "--only-show-errors")
	back, err := os.ReadFile(file + ".back")
	require.NoError(t, err)
	assert.Len(t, back, 14<<20)
	cli("configure", "set", "default.s3.signature_version", "s3v4") // as docs/clients.md says
	status, body := ask(t, request(t, http.MethodGet, strings.TrimSpace(cli("s3", "presign", "s3://reports/runs/report.txt")), "", nil))
	assert.Equal(t, http.StatusOK, status)
	assert.Len(t, body, 14<<20)
	cli("s3", "rb", "--force", "s3://reports")
	topic := cli("sns", "create-topic", "--name", "news", "--query", "TopicArn", "--output", "text")
	cli("sns", "publish", "--topic-arn", string(bytes.TrimSpace([]byte(topic))), "--message", "hello")
	cli("events", "put-rule", "--name", "r", "--event-pattern", `{"source":["aws.ec2"]}`)
	assert.Contains(t, cli("events", "list-rules"), `"ENABLED"`)
	cli("sqs", "create-queue", "--endpoint-url", c.URL(), "--queue-name", "ami-factory-triggers-dead-letters")
	cli("sqs", "send-message", "--endpoint-url", c.URL(), "--queue-url", c.URL()+"/"+account+"/ami-factory-triggers-dead-letters", "--message-body", "lost")
	assert.Contains(t, cli(documented(t, c.URL(), "aws sqs receive-message")...), "lost", "the command, as the page prints it")
	assert.Contains(t, cli("kms", "list-aliases"), "alias/aws/ebs")
	assert.Contains(t, cli("stepfunctions", "list-state-machines"), "stateMachines")
}
