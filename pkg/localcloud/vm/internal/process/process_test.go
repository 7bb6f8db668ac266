package process_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/internal/process"
)

// asParent makes the test binary start a child, tell its pid and wait.
const asParent = "PROCESS_TEST_PARENT"

func TestMain(m *testing.M) {
	if os.Getenv(asParent) != "" {
		child, err := process.Start(exec.Command("sleep", "1000"))
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(child.PID())
		<-child.Done()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestProcessEnds(t *testing.T) {
	t.Run("by itself", func(t *testing.T) {
		p, err := process.Start(exec.Command("sh", "-c", "exit 3"))
		require.NoError(t, err)
		<-p.Done()
		var exit *exec.ExitError
		require.ErrorAs(t, p.Err(), &exit)
		assert.Equal(t, 3, exit.ExitCode())
		assert.NoError(t, p.Kill(), "killing it again does no harm")
	})
	t.Run("by Kill", func(t *testing.T) {
		p, err := process.Start(exec.Command("sleep", "1000"))
		require.NoError(t, err)
		require.NoError(t, p.Kill())
		assert.Error(t, p.Err())
	})
	t.Run("a program that does not exist never starts", func(t *testing.T) {
		_, err := process.Start(exec.Command("/no/such/program"))
		assert.ErrorIs(t, err, os.ErrNotExist)
	})
}

func TestProcessDiesWithItsKilledParent(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has a parent-death signal")
	}
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), asParent+"=1")
	out, err := parent.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, parent.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	child, err := strconv.Atoi(strings.TrimSpace(line))
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(child, 0), "the child lives")

	require.NoError(t, parent.Process.Kill())
	_ = parent.Wait() // killed
	// A zombie that nobody reaps still has its pid: it counts as gone.
	assert.Eventually(t, func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", child))
		return err != nil || strings.Contains(string(stat), ") Z ")
	}, 10*time.Second, 10*time.Millisecond)
}
