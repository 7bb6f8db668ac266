package userdata_test

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What units look like, as systemctl shows them.
const (
	unitRuns  = "LoadState=loaded\nActiveState=active\nSubState=running\n"
	unitEnded = "LoadState=loaded\nActiveState=failed\nSubState=failed\nResult=exit-code\nJob=0\n"
)

// anAgent is what a boot leaves behind where the image has an agent, by path:
// the state of its unit, and its report if it wrote one.
func anAgent(unit, told string) map[string]string {
	files := map[string]string{
		"etc/cloud-init.target.wants/ami-factory-agent@newrelic-infra.service": "",
		"units/ami-factory-agent@newrelic-infra.service":                       unit,
	}
	if told != "" {
		files["run/ami-factory/agents/newrelic-infra.json"] = told
	}
	return files
}

func told(state, reason string) string {
	return `{"agent": "newrelic-infra", "state": "` + state + `", "reason": "` + reason + `", "unit": "newrelic-infra.service", "secret": "s3cr3t"}`
}

// with is files with one more.
func with(files map[string]string, name, content string) map[string]string {
	out := maps.Clone(files)
	out[name] = content
	return out
}

// aBoot is what a boot left behind, and what its report must contain.
type aBoot struct {
	files         map[string]string // beside docker.service, which the image declares and which runs
	code          int
	status        string
	agent, reason string // the agent's state, if there is one
	says          string
}

func TestTheReportOfABootTellsOfServicesAndAgents(t *testing.T) {
	const absent = "secret web/newrelic: GetSecretValue ended with ResourceNotFoundException"
	for sentence, c := range map[string]aBoot{
		"all is well, and there are no agents":             {nil, 0, "ok", "", "", "ok, 1 services healthy after"},
		"an agent that was not asked for":                  {anAgent("ActiveState=inactive\nResult=exec-condition\n", told("not-configured", "no file")), 0, "ok", "not-configured", "no file", "ok, 1 services"},
		"an agent that runs":                               {anAgent(unitRuns, told("started", "")), 0, "ok", "started", "", "ok, 1 services"},
		"an agent that failed closed without its secret":   {anAgent(unitEnded, told("failed", absent)), 0, "degraded", "failed", absent, "DEGRADED: agent newrelic-infra is off: " + absent + "\n"},
		"an agent that was killed before its report":       {anAgent("ActiveState=failed\nResult=timeout\n", ""), 0, "degraded", "failed", "ami-factory-agent@newrelic-infra.service is failed: result timeout", "DEGRADED:"},
		"an agent whose file is damaged":                   {anAgent(unitEnded, "s3cr3t"), 0, "degraded", "failed", "ami-factory-agent@newrelic-infra.service is failed: result exit-code", "DEGRADED:"},
		"an agent that started and fell over":              {with(anAgent(unitRuns, told("started", "")), "units/newrelic-infra.service", unitEnded), 0, "degraded", "failed", "newrelic-infra.service was started, and failed: result exit-code", "DEGRADED:"},
		"an agent that is still at it when the time is up": {anAgent("ActiveState=activating\nJob=17\n", ""), 0, "degraded", "unknown", "its unit has not ended", "DEGRADED:"},
		"an agent whose turn has not come":                 {anAgent("ActiveState=inactive\nJob=17\n", ""), 0, "degraded", "unknown", "its unit has not ended", "DEGRADED:"},
		"a service that failed beside an agent that did":   {with(anAgent(unitEnded, told("failed", "no host")), "units/docker.service", unitEnded), 1, "failed", "failed", "no host", "FAILED: docker.service is failed (failed): result exit-code\nDEGRADED: agent newrelic-infra is off: no host\n"},
		"a container of user data that failed": {
			map[string]string{"etc/multi-user.target.wants/service@web.service": "", "units/service@web.service": unitEnded, "run/ami-factory/services/web.reason": "it answers with HTTP status 503\n"},
			1, "failed", "", "", "FAILED: service@web.service is failed (failed): it answers with HTTP status 503\n",
		},
		"cloud-init that failed": {
			map[string]string{"run/cloud-init/result.json": `{"v1": {"datasource": "DataSourceEc2", "errors": ["scripts_user"]}}`},
			1, "failed", "", "", "FAILED: cloud-init: scripts_user\n",
		},
	} {
		t.Run(sentence, c.isReported)
	}
}

func (c aBoot) isReported(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not installed, and the report needs it")
	}
	dir := t.TempDir()
	write := func(name, content string) {
		file := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o750))
		require.NoError(t, os.WriteFile(file, []byte(content), 0o700)) // #nosec G306 -- a program among them
	}
	write("boot.json", `{"wait": 1, "services": [{"unit": "docker.service", "health": ""}]}`)
	write("run/cloud-init/result.json", `{"v1": {"datasource": "DataSourceEc2", "errors": []}}`)
	write("bin/systemctl", "#!/bin/bash\ncat \""+dir+"/units/${!#}\"\n")
	write("units/docker.service", unitRuns)
	write("units/newrelic-infra.service", unitRuns)
	for name, content := range c.files {
		write(name, content)
	}
	command := exec.CommandContext(t.Context(), python, "-I", "components/boot/files/boot-report.py")
	command.Env = append(os.Environ(), "PATH="+dir+"/bin:"+os.Getenv("PATH"), "AMI_FACTORY_BOOT_FILE="+dir+"/boot.json",
		"AMI_FACTORY_BOOT_RESULT="+dir+"/result.json", "AMI_FACTORY_CONSOLE="+dir+"/console", "AMI_FACTORY_RUN="+dir+"/run", "AMI_FACTORY_UNITS="+dir+"/etc")
	output, _ := command.CombinedOutput()
	assert.Equal(t, c.code, command.ProcessState.ExitCode(), "%s", output)
	assert.Contains(t, string(output), c.says)
	console, err := os.ReadFile(filepath.Join(dir, "console"))
	require.NoError(t, err, "%s", output)
	content, err := os.ReadFile(filepath.Join(dir, "result.json"))
	require.NoError(t, err, "%s", output)
	var report struct {
		Status string
		Agents []map[string]string
	}
	require.NoError(t, json.Unmarshal(content, &report))
	assert.Equal(t, c.status, report.Status)
	want := []map[string]string{}
	if c.agent != "" {
		want = append(want, map[string]string{"agent": "newrelic-infra", "state": c.agent, "reason": c.reason})
	}
	assert.Equal(t, want, report.Agents)
	assert.NotContains(t, string(output)+string(content)+string(console), "s3cr3t", "nothing of an agent's file is taken over unseen")
}
