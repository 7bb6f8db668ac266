package provision_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v4"

	"github.com/ami-factory/ami-factory/pkg/userdata/provision"
)

// result is result.json.
type result struct {
	Schema  int
	Name    string
	Status  string
	Reboot  bool
	Seconds int
	Steps   []struct {
		Kind, Name, Status, Command, Message string
		Seconds, Exit, Line                  int
	}
}

// run runs the script of a spec whose steps need no root, with its state in a
// folder of the test, and its files there as cloud-init would write them.
func run(t *testing.T, text string) (r result, output string, ok bool) {
	t.Helper()
	for _, tool := range []string{"bash", "timeout", "awk"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("needs " + tool + ", which is not installed; make setup installs it on Debian")
		}
	}
	dir := t.TempDir()
	s := parse(t, text)
	out, err := provision.Render(s, s.Target)
	require.NoError(t, err)
	for _, c := range s.Commands {
		if c.Script != "" {
			file := filepath.Join(dir, "state", "commands", c.Name+".sh")
			require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o750))
			require.NoError(t, os.WriteFile(file, []byte(strings.TrimRight(c.Script, "\n")+"\n"), 0o600))
		}
	}
	script := strings.NewReplacer(provision.State, dir+"/state", "/run/ami-factory-userdata.reboot", dir+"/reboot").Replace(out.Script)
	file := filepath.Join(dir, "userdata.sh")
	require.NoError(t, os.WriteFile(file, []byte(script), 0o600))
	cmd := exec.CommandContext(t.Context(), "bash", file)
	cmd.Dir = dir
	cmd.Env = []string{"INVOCATION_ID=0"} // a unit's environment has little
	said, err := cmd.CombinedOutput()
	data, readErr := os.ReadFile(filepath.Join(dir, "state", "result.json"))
	require.NoError(t, readErr, "%s", said)
	require.NoError(t, json.Unmarshal(data, &r), "%s", data)
	assert.NoFileExists(t, filepath.Join(dir, "state", "result.json.new"))
	return r, string(said), err == nil
}

const head = "kind: UserData\nname: web\ntarget: cloud-init\nfamily: debian-12\n"

func TestCommandsRunInOrder(t *testing.T) {
	r, output, ok := run(t, head+`commands:
  - {name: first, argv: [printf, "%s|", "it's $HOME; *", "two words", ""]}
  - name: second
    script: |
      x=$(echo second)
      if false; then echo never; fi
      false || true
      echo "$x in $PWD"
`)
	require.True(t, ok, output)
	assert.Equal(t, "ok", r.Status)
	assert.Equal(t, "web", r.Name)
	assert.Equal(t, 1, r.Schema)
	assert.False(t, r.Reboot)
	require.Len(t, r.Steps, 2)
	assert.Equal(t, "command first", r.Steps[0].Name)
	assert.Equal(t, "ok", r.Steps[1].Status)
	assert.Contains(t, output, "it's $HOME; *|two words||")
	assert.Contains(t, output, "second in /")
	assert.Contains(t, output, "ami-factory userdata: step 1 of 2: command first\n")
}

func TestTheCommandThatFailsIsNamed(t *testing.T) {
	for sentence, tc := range map[string]struct {
		command string
		exit    int
		line    int // 0: the script's own, which moves
		says    string
	}{
		"a program":                      {`argv: [bash, -c, "echo why >&2; exit 7"]`, 7, 0, "bash -c echo why >&2; exit 7"},
		"a program that does not exist":  {"argv: [no-such-program]", 127, 0, "no-such-program"},
		"a line of a script":             {"script: \"echo why\\ntrue\\nls /nonexistent-'dir'\\ntrue\\n\"", 2, 3, "ls /nonexistent-'dir'"},
		"a function of a script":         {"script: \"f() {\\n  false\\n}\\necho why\\nf\\n\"", 1, 2, "false"},
		"a substitution":                 {"script: \"echo why\\nx=$(cat /nonexistent)\\n\"", 1, 2, "x=$(cat /nonexistent)"},
		"what was forgiven is not named": {"script: \"if ! x=$(false); then echo why; fi\\ntest a = b\\n\"", 1, 2, "test a = b"},
		"quotes and backslashes":         {`script: "echo why; false '\"\\\\'"`, 1, 1, `false '"\\'`},
	} {
		t.Run(sentence, func(t *testing.T) {
			r, output, ok := run(t, head+"commands:\n  - {name: good, argv: [\"true\"]}\n  - {name: bad, "+tc.command+"}\n  - {name: never, argv: [echo, NEVER-RUN]}\n")
			require.False(t, ok, output)
			assert.Equal(t, "failed", r.Status)
			require.Len(t, r.Steps, 3)
			bad := r.Steps[1]
			assert.Equal(t, []string{"ok", "failed", "not run"}, []string{r.Steps[0].Status, bad.Status, r.Steps[2].Status})
			assert.Equal(t, tc.exit, bad.Exit)
			assert.Equal(t, tc.says, bad.Command)
			if tc.line > 0 {
				assert.Equal(t, tc.line, bad.Line)
			} else {
				assert.Positive(t, bad.Line)
			}
			if !strings.Contains(sentence, "does not exist") {
				assert.Contains(t, bad.Message, "why")
			}
			assert.NotContains(t, output, "\nNEVER-RUN")
			assert.Contains(t, output, `step "command bad" failed with exit code`)
		})
	}
}

func TestACommandThatHangsIsKilled(t *testing.T) {
	for _, command := range []string{`argv: [sleep, "600"]`, "script: sleep 600"} {
		began := time.Now()
		r, output, ok := run(t, head+"commands:\n  - {name: slow, timeoutSeconds: 1, "+command+"}\n")
		require.False(t, ok, output)
		assert.Less(t, time.Since(began), 30*time.Second)
		assert.Contains(t, r.Steps[0].Message, "it was killed after 1 s")
		assert.Equal(t, 124, r.Steps[0].Exit)
	}
}

// A service that a command leaves behind keeps its output open, and must not
// keep the first boot waiting.
func TestWhatACommandLeavesBehindHoldsNothingUp(t *testing.T) {
	began := time.Now()
	_, output, ok := run(t, head+"commands:\n  - {name: leaves, script: 'sleep 20 &'}\n  - {name: after, argv: [echo, reached]}\n")
	require.True(t, ok, output)
	assert.Contains(t, output, "reached")
	assert.Less(t, time.Since(began), 15*time.Second)
}

func TestAMountThatFailsIsToldAndForgiven(t *testing.T) {
	r, output, ok := run(t, head+`mounts: {volumes: [{device: /dev/disk/by-id/no-such-disk, mountPoint: /mnt/x, timeoutSeconds: 5}]}
commands: [{name: after, argv: [echo, reached]}]
`)
	require.True(t, ok, output)
	assert.Equal(t, "degraded", r.Status)
	assert.Equal(t, "failed", r.Steps[0].Status)
	assert.Contains(t, r.Steps[0].Message, "there is no such device: by_path /dev/disk/by-id/no-such-disk")
	assert.Equal(t, "device=$(await 5 by_path /dev/disk/by-id/no-such-disk)", r.Steps[0].Command, "the step ended there")
	assert.Equal(t, "ok", r.Steps[1].Status)
	assert.Contains(t, output, "reached")
}

// The unit that is absent is a slip in the spec; what does not need it is done.
func TestAStepThatFailsStopsOnlyWhatNeedsIt(t *testing.T) {
	if _, err := exec.LookPath("systemctl"); err != nil {
		t.Skip("needs systemctl, which is not installed; make setup installs it on Debian")
	}
	r, output, ok := run(t, head+`services: {disable: [no-such-unit.service]}
commands:
  - {name: first, argv: [echo, FIRST]}
  - {name: second, argv: ["false"]}
  - {name: third, argv: [echo, NEVER-RUN]}
  - {name: fourth, argv: [echo, NEVER-RUN]}
`)
	require.False(t, ok, output)
	assert.Equal(t, "failed", r.Status)
	var got []string
	for _, s := range r.Steps {
		got = append(got, s.Name+": "+s.Status)
	}
	assert.Equal(t, []string{
		"disable no-such-unit.service: failed", "command first: ok", "command second: failed", "command third: not run", "command fourth: not run",
	}, got)
	assert.Contains(t, r.Steps[0].Command+r.Steps[0].Message, "no-such-unit.service")
	assert.Equal(t, `it needs "command second", which did not succeed`, r.Steps[3].Message)
	assert.Equal(t, `it needs "command third", which did not succeed`, r.Steps[4].Message)
	assert.Contains(t, output, "\nFIRST")
	assert.NotContains(t, output, "\nNEVER-RUN")
}

func TestPackagesWaitForTheirRepositories(t *testing.T) {
	out := cases(t)["web-service"]
	assert.Contains(t, out.Script, "plan repository 'repository example' must step_8\nplan packages 'install packages' must step_9 step_8\n")
	assert.Contains(t, out.Script, "plan files 'file /etc/example/collector.conf' must step_16 step_2\n", "it is owned by the user collector")
	assert.Contains(t, out.Script, "plan container 'container web' must step_23\n", "a container needs no command")
}

func TestCommandsHaveTheEnvironmentOfALogin(t *testing.T) {
	_, output, ok := run(t, head+"commands: [{name: environment, script: 'echo \"<$HOME $USER $LOGNAME $SHELL $LANG $PATH>\"'}]\n")
	require.True(t, ok, output)
	assert.Contains(t, output, "</root root root /bin/bash C.UTF-8 /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin>")
}

func TestCommandsHaveTheProxyOfTheSpec(t *testing.T) {
	_, output, _ := run(t, head+`proxy: {https: "http://proxy.example.com:3128", noProxy: [.example.com]}
commands: [{name: environment, script: 'echo "<$https_proxy $HTTPS_PROXY ${http_proxy-none}>"; echo "no $no_proxy"; test "$no_proxy" = "$NO_PROXY"'}]
`)
	assert.Contains(t, output, "<http://proxy.example.com:3128 http://proxy.example.com:3128 none>")
	line, _, _ := strings.Cut(output[strings.Index(output, "\nno ")+4:], "\n")
	assert.Subset(t, strings.Split(line, ","), []string{
		"localhost", "127.0.0.1", "::1", "169.254.169.254", "fd00:ec2::254", "169.254.170.2", "169.254.170.23", "fd00:ec2::23", ".internal", ".example.com",
	})
}

// systemctlOf stands in for systemd: units with their properties, each by a file
// that answers show.
func systemctlOf(t *testing.T, dir string, units map[string]string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(dir+"/bin", 0o750))
	require.NoError(t, os.MkdirAll(dir+"/units", 0o750))
	for name, properties := range units {
		require.NoError(t, os.WriteFile(dir+"/units/"+name, []byte("Id="+name+"\n"+properties), 0o600))
	}
	const stub = `#!/bin/bash
value=false wanted= words=()
for word in "$@"; do
	case $word in
	--value) value=true ;;
	--property=*) wanted=${word#*=} ;;
	--) ;;
	*) words+=("$word") ;;
	esac
done
if [[ ${words[0]} != show ]]; then
	echo "$*" >>DIR/calls
	case "$*" in *slow*) exec sleep 60 ;; *broken*) exit 3 ;; esac
	exit 0
fi
separator=
for unit in "${words[@]:1}"; do
	printf '%s' "$separator"
	separator=$'\n'
	file=DIR/units/$unit
	if [[ ! -e $file ]]; then file=DIR/units/none; fi
	if $value; then sed -n "s/^$wanted=//p" "$file"; else cat "$file"; fi
done
`
	require.NoError(t, os.WriteFile(dir+"/units/none", []byte("Id=none\nLoadState=not-found\nActiveState=inactive\n"), 0o600))
	require.NoError(t, os.WriteFile(dir+"/bin/systemctl", []byte(strings.ReplaceAll(stub, "DIR", dir)), 0o700)) // #nosec G306 -- a program
}

// A unit that is ordered after cloud-final.service starts only after it, and
// cloud-final.service ends only after this script.
func TestAUnitThatWaitsForTheFirstBootIsQueued(t *testing.T) {
	const final = "cloud-final.service"
	units := func(own string, more ...string) map[string]string {
		out := map[string]string{"web.service": "LoadState=loaded\nActiveState=inactive\n" + own, final: "ActiveState=activating\nJob=7\n"}
		for i := 0; i < len(more); i += 2 {
			out[more[i]] = more[i+1]
		}
		return out
	}
	for sentence, tc := range map[string]struct {
		units map[string]string
		start string // what systemctl is asked for
		says  string
	}{
		"a unit of no order":                      {units("After=basic.target\n", "basic.target", "ActiveState=active\n"), "start web.service", ""},
		"a unit after cloud-final.service":        {units("After=basic.target cloud-final.service\n"), "--no-block start web.service", "web.service after cloud-final.service"},
		"a unit after cloud-init.target":          {units("After=cloud-init.target\n", "cloud-init.target", "ActiveState=inactive\nJob=9\nAfter=cloud-final.service\n"), "--no-block start web.service", "web.service after cloud-init.target after cloud-final.service"},
		"a unit after what it starts itself":      {units("After=base.service\nWants=base.service\n", "base.service", "ActiveState=inactive\nAfter=cloud-final.service\n"), "--no-block start web.service", "web.service after base.service after cloud-final.service"},
		"a unit after one that nobody starts":     {units("After=other.service\n", "other.service", "ActiveState=inactive\nAfter=cloud-final.service\n"), "start web.service", ""},
		"a unit after one that has ended":         {units("After=multi-user.target\n", "multi-user.target", "ActiveState=active\nAfter=cloud-final.service\n"), "start web.service", ""},
		"orders that go round":                    {units("After=a.target\n", "a.target", "ActiveState=inactive\nJob=1\nAfter=b.target web.service\n", "b.target", "ActiveState=inactive\nJob=2\nAfter=a.target\n"), "start web.service", ""},
		"a first boot's script that runs by hand": {units("After=cloud-final.service\n", final, "ActiveState=active\n"), "start web.service", ""},
	} {
		t.Run(sentence, func(t *testing.T) {
			dir := t.TempDir()
			systemctlOf(t, dir, tc.units)
			r, output := runWith(t, dir, "services: {start: [web.service]}\n")
			require.Len(t, r.Steps, 1, output)
			assert.Equal(t, tc.start+"\n", read(t, dir+"/calls"))
			if tc.says == "" {
				assert.Equal(t, "ok", r.Steps[0].Status, output)
				return
			}
			assert.Equal(t, "queued", r.Steps[0].Status, output)
			assert.Contains(t, r.Steps[0].Message, tc.says)
			assert.Equal(t, "ok", r.Status)
		})
	}
}

func TestAServiceHasItsTime(t *testing.T) {
	dir := t.TempDir()
	systemctlOf(t, dir, map[string]string{
		"slow.service": "LoadState=loaded\nActiveState=inactive\n", "broken.service": "LoadState=loaded\n", "web.service": "LoadState=loaded\n",
		"cloud-final.service": "ActiveState=activating\n",
	})
	r, output := runWith(t, dir, "services: {start: [slow.service, broken.service, absent.service, web.service], timeoutSeconds: 1}\n")
	require.Len(t, r.Steps, 4, output)
	assert.Equal(t, "failed", r.Status)
	assert.Contains(t, r.Steps[0].Message, "systemctl start slow.service has not ended within 1 s")
	assert.Contains(t, r.Steps[1].Message, "systemctl start broken.service ended with 3")
	assert.Contains(t, r.Steps[2].Message, "there is no unit absent.service in this image")
	assert.Equal(t, "ok", r.Steps[3].Status)
}

// What reaches out of the instance and runs already has the environment that it
// was started with.
func TestUnitsThatRunAreRestartedWithTheProxy(t *testing.T) {
	dir := t.TempDir()
	systemctlOf(t, dir, nil)
	r, output := runWith(t, dir, "proxy: {http: 'http://proxy.example.com:3128'}\n")
	assert.Equal(t, "ok", r.Status, output)
	calls := read(t, dir+"/calls")
	assert.True(t, strings.HasPrefix(calls, "daemon-reexec\n"), calls)
	for _, unit := range []string{"docker.service", "containerd.service", "amazon-ssm-agent.service", "snap.amazon-ssm-agent.amazon-ssm-agent.service", "snapd.service", "ecs.service"} {
		assert.Contains(t, calls, "is-active --quiet "+unit+"\nrestart "+unit+"\n")
	}
}

// runWith runs the script of a spec with programs of the test before the machine's.
func runWith(t *testing.T, dir, text string) (r result, output string) {
	t.Helper()
	out := render(t, head+text)
	cmd := exec.CommandContext(t.Context(), "bash", "-s")
	cmd.Stdin = strings.NewReader(strings.NewReplacer(provision.State, dir+"/state", "/run/ami-factory-userdata.reboot", dir+"/reboot",
		"export PATH=", "export PATH="+dir+"/bin:").Replace(out.Script))
	said, _ := cmd.CombinedOutput()
	require.NoError(t, json.Unmarshal([]byte(read(t, dir+"/state/result.json")), &r), "%s", said)
	return r, string(said)
}

func TestASysctlThatFailsIsNamed(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(dir+"/bin", 0o750))
	for name, body := range map[string]string{
		"systemd-detect-virt": "exit 1", "modprobe": "echo modprobe >>" + dir + "/calls",
		"sysctl": "echo \"${@:3}\" >>" + dir + "/calls; case $* in *swap*) echo invalid >&2; exit 1 ;; esac",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "bin", name), []byte("#!/bin/bash\n"+body+"\n"), 0o700)) // #nosec G306 -- a program
	}
	r, output := runWith(t, dir, "kernel: {modules: {load: [ip_vs]}, sysctl: {vm.swappiness: 10, net.core.somaxconn: 4096, net.netfilter.nf_conntrack_max: 65536, net.ipv4.tcp_rmem: '4096  87380 6291456'}}\n")
	require.Len(t, r.Steps, 2, output)
	assert.Equal(t, "load kernel modules", r.Steps[0].Name)
	assert.Equal(t, "not set: vm.swappiness", r.Steps[1].Command, "and the others are")
	assert.Equal(t, "modprobe\nnet.core.somaxconn=4096\nnet.ipv4.tcp_rmem=4096 87380 6291456\nnet.netfilter.nf_conntrack_max=65536\nvm.swappiness=10\n", read(t, dir+"/calls"))
	assert.Contains(t, render(t, head+"kernel: {sysctl: {net.netfilter.nf_conntrack_max: 65536}}\n").Script, "modprobe -a nf_conntrack\n", "what only a module has needs it")
}

func TestOnePackageThatIsNoneCostsOnlyItself(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(dir+"/bin", 0o750))
	require.NoError(t, os.WriteFile(dir+"/bin/apt-get", []byte("#!/bin/bash\ncase $* in *nosuch*) exit 100 ;; *install*) echo \"${@: -2}\" >>"+dir+"/calls ;; esac\n"), 0o700)) // #nosec G306 -- a program
	r, output := runWith(t, dir, "packages: [{name: jq}, {name: nosuch}, {name: tree}]\n")
	require.Len(t, r.Steps, 1, output)
	assert.Equal(t, "failed", r.Status)
	assert.Equal(t, "not installed: nosuch", r.Steps[0].Command)
	assert.Equal(t, "install jq\ninstall tree\n", read(t, dir+"/calls"))
}

func TestNothingToDoIsDoneWell(t *testing.T) {
	r, output, ok := run(t, head)
	require.True(t, ok, output)
	assert.Equal(t, "ok", r.Status)
	assert.Empty(t, r.Steps)
}

// The step that takes a repository into use is run for real, with apt's folder
// in one of the test.
func TestARepositoryIsUsedOnlyWithTheKeyThatWasReviewed(t *testing.T) {
	for _, tool := range []string{"bash", "sha256sum"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("needs " + tool + ", which is not installed; make setup installs it on Debian")
		}
	}
	for sentence, tc := range map[string]struct {
		change func(key string) string
		ok     bool
	}{
		"the key that was reviewed": {func(key string) string { return key }, true},
		"a key that was swapped":    {func(string) string { return otherKey }, false},
		"a key that is damaged":     {func(key string) string { return key[:len(key)/2] }, false},
		"a key beside the reviewed": {func(key string) string { return key + otherKey }, false},
	} {
		t.Run(sentence, func(t *testing.T) {
			dir := t.TempDir()
			text := read(t, examples+"/web-service.yaml")
			_, rest, _ := strings.Cut(text, "\nrepositories:\n")
			repositories, _, _ := strings.Cut(rest, "\npackages:\n")
			out := render(t, head+"repositories:\n"+repositories+"\n")
			for name, content := range stagedFiles(t, out) {
				if strings.HasSuffix(name, ".asc") {
					content = tc.change(content)
				}
				file := filepath.Join(dir, "state", strings.TrimPrefix(name, provision.State))
				require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o750))
				require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
			}
			cmd := exec.CommandContext(t.Context(), "bash", "-s")
			cmd.Stdin = strings.NewReader(strings.NewReplacer(provision.State, dir+"/state", "/run/ami-factory-userdata.reboot", dir+"/reboot", "/etc/apt", dir+"/apt").Replace(out.Script))
			said, err := cmd.CombinedOutput()
			if tc.ok {
				require.NoError(t, err, "%s", said)
				assert.FileExists(t, dir+"/apt/keyrings/example.asc")
				assert.Contains(t, read(t, dir+"/apt/sources.list.d/example.sources"), "Signed-By: /etc/apt/keyrings/example.asc\n")
				return
			}
			require.Error(t, err, "%s", said)
			assert.NoDirExists(t, dir+"/apt", "neither key nor source is where apt looks")
			assert.Contains(t, string(said), `step "repository example" failed`)
		})
	}
}

func TestARepositoryWhoseKeyIsAnotherIsNotRendered(t *testing.T) {
	s := parse(t, read(t, examples+"/web-service.yaml"))
	s.Repositories[0].Key = otherKey
	_, err := provision.Render(s, s.Target)
	assert.ErrorContains(t, err, "the key of repository example does not have the fingerprint 699A8B45A9768295A7A8832EE8DE369060CB80FD")
}

// stagedFiles are the files of a cloud-config that wait below the state folder.
func stagedFiles(t *testing.T, out provision.UserData) map[string]string {
	t.Helper()
	var config provision.CloudConfig
	require.NoError(t, yaml.Load([]byte(out.CloudConfig), &config))
	found := map[string]string{}
	for _, f := range config.WriteFiles {
		if strings.HasPrefix(f.Path, provision.State) {
			found[f.Path] = f.Content
		}
	}
	require.Len(t, found, 2)
	return found
}

// otherKey is a good key of somebody else.
const otherKey = `-----BEGIN PGP PUBLIC KEY BLOCK-----

mDMEawXbGRYJKwYBBAHaRw8BAQdA6SnzImURPnX/4EmokhOgaqckpHEL3qEThE6X
PF7B1wS0H1NvbWVvbmUgZWxzZSA8ZWxzZUBleGFtcGxlLmNvbT6IkAQTFggAOBYh
BApBiws4Q3Mk3mv2r+RLYzEHztpxBQJrBdsZAhsDBQsJCAcCBhUKCQgLAgQWAgMB
Ah4BAheAAAoJEORLYzEHztpxYXIA/1NFlmFXf0/HTQLtf33b8Q/NR1PKxFoVBkRU
i3Zt0itvAQC1i/EU3XIM5bra08yBbCD7NWI2ZIB2SSfPnXfufzCZDQ==
=s2oq
-----END PGP PUBLIC KEY BLOCK-----
`

// A volume's step is run on files in place of disks; what would touch the
// machine is in a folder of the test, or stands in.
func TestAVolumeIsFormattedOnlyWhenItIsEmpty(t *testing.T) {
	for _, tool := range []string{"bash", "blkid", "mkfs.ext4", "mkfs.ext2", "mkswap", "sfdisk", "lsblk"} {
		if _, err := exec.LookPath(tool); err != nil {
			if _, err := os.Stat("/usr/sbin/" + tool); err != nil {
				t.Skip("needs " + tool + ", which is not installed; make setup installs it on Debian")
			}
		}
	}
	for sentence, tc := range map[string]struct {
		prepare string // a command on $disk
		fails   string
		kept    bool
	}{
		"an empty disk is formatted and mounted":          {"true", "", false},
		"a file system that is there is kept and mounted": {"mkfs.ext4 -q -U 11111111-2222-3333-4444-555555555555 $disk", "", true},
		"a file system of another kind is left as it is":  {"mkfs.ext2 -q $disk", "holds ext2, not ext4", true},
		"a disk with partitions is left as it is":         {"echo ',32M' | sfdisk -q --label gpt $disk", "holds something that is no file system", true},
		"swap is left as it is":                           {"mkswap -q $disk", "holds swap, not ext4", true},
	} {
		t.Run(sentence, func(t *testing.T) {
			dir := t.TempDir()
			bin := filepath.Join(dir, "bin")
			require.NoError(t, os.Mkdir(bin, 0o750))
			// A file has no kernel's view of its partitions, so the one of the disk stands in.
			for name, body := range map[string]string{
				"systemctl": "echo \"$@\" >>" + dir + "/calls", "udevadm": "true",
				"lsblk": "echo disk; sfdisk --quiet --list \"${!#}\" 2>/dev/null | tail -n +2",
			} {
				require.NoError(t, os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/bash\n"+body+"\n"), 0o700)) // #nosec G306 -- a program
			}
			disk := filepath.Join(dir, "disk")
			prepare := exec.CommandContext(t.Context(), "bash", "-c", "truncate -s 64M "+disk+"; disk="+disk+"; "+tc.prepare)
			prepare.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
			said, err := prepare.CombinedOutput()
			require.NoError(t, err, "%s", said)
			require.NoError(t, os.WriteFile(filepath.Join(dir, "fstab"), []byte("# kept\nLABEL=root / ext4 rw 0 1\nUUID=old /mnt/archive ext4 rw 0 2\n"), 0o600))
			before := digestOf(t, disk)

			out := render(t, head+"mounts: {volumes: [{device: /dev/disk/by-id/the-disk, mountPoint: /mnt/archive, timeoutSeconds: 5, options: [noatime]}]}\n")
			cmd := exec.CommandContext(t.Context(), "bash", "-s")
			cmd.Stdin = strings.NewReader(strings.NewReplacer(provision.State, dir+"/state", "/run/ami-factory-userdata.reboot", dir+"/reboot",
				"/etc/fstab", dir+"/fstab", "export PATH=", "export PATH="+bin+":", "/dev/disk/by-id/the-disk", disk, `mkdir -p "$point"`, "true").Replace(out.Script))
			said, err = cmd.CombinedOutput()
			require.NoError(t, err, "a mount may fail: %s", said)
			fstab := read(t, dir+"/fstab")
			assert.Equal(t, tc.kept, before == digestOf(t, disk), "%s", said)
			if tc.fails != "" {
				assert.Contains(t, string(said), tc.fails)
				assert.Contains(t, fstab, "UUID=old /mnt/archive", "the old entry is left")
				return
			}
			assert.Regexp(t, `^# kept\nLABEL=root / ext4 rw 0 1\nUUID=[0-9a-f-]{36} /mnt/archive ext4 nodev,nosuid,nofail,x-systemd.device-timeout=5s,x-systemd.mount-timeout=5s,noatime 0 2\n$`, fstab)
			assert.Contains(t, read(t, dir+"/calls"), "start mnt-archive.mount")
		})
	}
}

func digestOf(t *testing.T, file string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "sha256sum", file).Output()
	require.NoError(t, err)
	return string(out)
}

// What the image says decides where settings go, and whether they can go at all.
func TestAContainersSettingsGoWhereTheImageHasItsServices(t *testing.T) {
	const image = "111122223333.dkr.ecr.eu-west-1.amazonaws.com/web@sha256:0f9188f13cb7b2c71f2a335e3a4fc328bf5cfb4bf4be6f7e8f6f3f1d4fd2b5a1"
	out := render(t, head+"containers: [{name: web, image: '"+image+"', env: {A: b}}]\n")
	for sentence, tc := range map[string]struct {
		without, start string // a file that the image lacks; what systemctl start does
		says           string
	}{
		"an image that renamed the roots":              {"", "exit 0", ""},
		"an image without the component filesystem":    {"etc/filesystem.env", "exit 0", "containers need a recipe with the component filesystem"},
		"an image that lost its program":               {"lib/service-create", "exit 0", "containers need a recipe with the component filesystem"},
		"a service that tells why it does not start":   {"", "echo not healthy >$0.d/web.reason; exit 1", "service@web.service did not start: not healthy"},
		"a service that does not tell why it does not": {"", "exit 1", "service@web.service did not start: see journalctl -u service@web.service"},
	} {
		t.Run(sentence, func(t *testing.T) {
			dir := t.TempDir()
			write := func(name, content string) {
				file := filepath.Join(dir, name)
				require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o750))
				require.NoError(t, os.WriteFile(file, []byte(content), 0o700)) // #nosec G306 -- programs among them
			}
			write("etc/filesystem.env", "SERVICES="+dir+"/apps\n")
			write("lib/service-create", "#!/bin/sh\nmkdir -p "+dir+"/apps/$1/conf\n")
			write("bin/systemctl", "#!/bin/sh\necho \"$@\" >>"+dir+"/calls\ncase $1 in start) "+tc.start+" ;; esac\n")
			require.NoError(t, os.Mkdir(dir+"/bin/systemctl.d", 0o750))
			var config provision.CloudConfig
			require.NoError(t, yaml.Load([]byte(out.CloudConfig), &config))
			for _, f := range config.WriteFiles {
				write(strings.Replace(f.Path, provision.State, "state", 1), f.Content)
			}
			if tc.without != "" {
				require.NoError(t, os.Remove(filepath.Join(dir, tc.without)))
			}
			cmd := exec.CommandContext(t.Context(), "bash", "-s")
			cmd.Stdin = strings.NewReader(strings.NewReplacer(provision.State, dir+"/state", "/run/ami-factory-userdata.reboot", dir+"/reboot",
				"/etc/ami-factory/", dir+"/etc/", "/usr/lib/ami-factory/", dir+"/lib/", "/run/ami-factory/services/", dir+"/bin/systemctl.d/",
				"export PATH=", "export PATH="+dir+"/bin:", "-o root -g root ", "").Replace(out.Script))
			said, err := cmd.CombinedOutput()
			if tc.says != "" {
				require.Error(t, err, "%s", said)
				assert.Contains(t, string(said), tc.says)
				return
			}
			require.NoError(t, err, "%s", said)
			assert.Equal(t, "A=b\n", read(t, dir+"/apps/web/conf/container.env"))
			assert.Contains(t, read(t, dir+"/apps/web/conf/service.env"), "IMAGE="+image+"\n")
			assert.Equal(t, "enable service@web.service\nstart service@web.service\n", read(t, dir+"/calls"))
		})
	}
}
