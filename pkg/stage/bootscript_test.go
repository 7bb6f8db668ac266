package stage

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The script runs for real, with a systemctl whose queue of jobs is another one each
// time it is asked.
func TestTheBootIsAwaitedButForWorkInTheBackground(t *testing.T) {
	for _, tool := range []string{"sh", "awk", "grep", "sort", "tr"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed, and the script needs it", tool)
		}
	}
	const (
		docker = "81 docker.service start running"
		aide   = "82 aide-init.service start running"
		target = "1 multi-user.target start waiting"
		after  = "83 after-aide.service start waiting"
		quick  = "84 quick.service start running" // oneshot, but not in the background
		nice   = "85 nice.service start running"  // in the background, but it stays
	)
	for sentence, c := range map[string]struct {
		queues [][]string // the last one stays
		asked  int
	}{
		"nothing is queued":                             {[][]string{{}}, 1},
		"a daemon starts":                               {[][]string{{docker, target}, {docker, target}, {}}, 3},
		"work in the background is not waited for":      {[][]string{{aide}}, 1},
		"nor is a target that waits for it":             {[][]string{{aide, target}}, 1},
		"a service that waits for it is":                {[][]string{{aide, after, target}, {"83 after-aide.service start running"}, {}}, 3},
		"a daemon beside it is":                         {[][]string{{aide, docker, target}, {aide, target}}, 2},
		"work of the boot itself is":                    {[][]string{{quick}, {}}, 2},
		"a daemon of low priority is":                   {[][]string{{nice}, {}}, 2},
		"a target that is reached in this moment is":    {[][]string{{"1 multi-user.target start running"}, {}}, 2},
		"a mount is":                                    {[][]string{{"86 srv.mount start running"}, {}}, 2},
		"a systemctl that says that there are none":     {[][]string{{"No jobs running."}}, 1},
		"a unit that is stopped by the boot is as well": {[][]string{{"87 ssh.service restart running"}, {}}, 2},
	} {
		t.Run(sentence, func(t *testing.T) {
			dir := t.TempDir()
			for i, queue := range c.queues {
				require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("queue.%d", i+1)), []byte(strings.Join(append(queue, ""), "\n")), 0o600))
			}
			standIn(t, dir, "cloud-init", `echo '{"status":"done","errors":[]}'`)
			standIn(t, dir, "sleep", "")
			standIn(t, dir, "systemctl", `
case "$1 $*" in
list-jobs*)
	n=$(($(cat "`+dir+`/asked" 2>/dev/null || echo 0) + 1)); echo "$n" >"`+dir+`/asked"
	while [ ! -e "`+dir+`/queue.$n" ]; do n=$((n - 1)); done
	cat "`+dir+`/queue.$n" ;;
show*aide-init.service) printf 'Type=oneshot\nNice=19\n' ;;
show*quick.service) printf 'Type=oneshot\nNice=0\n' ;;
show*nice.service) printf 'Type=simple\nNice=19\n' ;;
show*) printf 'Type=notify\nNice=0\n' ;;
is-system-running*--wait*) echo 'this would wait for all jobs' >&2; exit 1 ;;
is-system-running*) echo starting; exit 1 ;;
list-units*) printf '%s\n' 'a.service loaded failed failed A' 'mnt-my\x2ddata.mount loaded failed failed B' ;;
esac`)
			command := exec.CommandContext(t.Context(), "sh", "-c", bootScript)
			command.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
			output, err := command.Output()
			require.NoError(t, err)
			report, err := parseBoot(string(output))
			require.NoError(t, err)
			assert.Equal(t, "starting", report.System.SystemState)
			assert.Equal(t, []string{"a.service", `mnt-my\x2ddata.mount`}, report.System.units())
			asked, err := os.ReadFile(filepath.Join(dir, "asked"))
			require.NoError(t, err)
			assert.Equal(t, fmt.Sprintln(c.asked), string(asked), "how often the queue was read")
		})
	}
}

// standIn puts a shell script into a folder of programs.
func standIn(t *testing.T, dir, name, script string) {
	t.Helper()
	file := filepath.Join(dir, name)
	require.NoError(t, os.WriteFile(file, []byte("#!/bin/sh\n"+script+"\n"), 0o600))
	require.NoError(t, os.Chmod(file, 0o700))
}
