package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// terminalWith is a terminal at which somebody types a text.
func terminalWith(t *testing.T, typed string) *os.File {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no terminal can be opened here: %v", err)
	}
	t.Cleanup(func() { _ = keyboard.Close() })
	fd := int(keyboard.Fd()) // a file descriptor fits
	require.NoError(t, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	require.NoError(t, err)
	screen, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = screen.Close() })
	_, err = io.WriteString(keyboard, typed)
	require.NoError(t, err)
	return screen
}

func TestPeopleAtATerminalAreAskedBeforeTheirAnswerIsSent(t *testing.T) {
	withoutAWS(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	t.Setenv("AWS_REGION", "eu-west-1")
	digest := strings.Repeat("ab", 32)
	for sentence, tc := range map[string]struct {
		typed string
		flags []string
		code  int
		sent  int // the list of what waits, and the answer
	}{
		"yes sends it":                     {"yes\n", nil, exitOK, 2},
		"no sends nothing":                 {"n\n", nil, exitFailed, 1},
		"an empty line sends nothing":      {"\n", nil, exitFailed, 1},
		"--yes answers without a question": {"n\n", []string{"--yes"}, exitOK, 2},
		"a closed terminal sends nothing":  {"\x04", nil, exitFailed, 1},
	} {
		t.Run(sentence, func(t *testing.T) {
			var sent []string
			var out, errOut buffer
			a := &app{in: terminalWith(t, tc.typed), out: &out, err: &errOut}
			args := append([]string{"approve", "run-1", "--digest", digest, "--reason", "read it all", "--url", doorOf(t, &sent)}, tc.flags...)
			assert.Equal(t, tc.code, a.run(t.Context(), args), errOut.String())
			assert.Len(t, sent, tc.sent)
			asked := strings.Contains(errOut.String(), "approve the release run-1? [y/N] ")
			assert.Equal(t, len(tc.flags) == 0, asked, "asked, after what it is about was shown")
			assert.Less(t, strings.Index(errOut.String(), "61 controls passed"), len(errOut.String())-1)
		})
	}
}
