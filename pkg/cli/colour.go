package cli

import (
	"io"
	"os"
	"regexp"

	"golang.org/x/term"
)

// Escape sequences of a terminal.
const (
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	plain  = "\x1b[0m"
)

// takesColour says whether w is a terminal whose user has not refused colour
// (https://no-color.org).
func takesColour(w io.Writer) bool {
	return os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && isTerminal(w)
}

func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) // a file descriptor fits
}

// marks are the words that get a colour, with what stands before and after them.
var marks = []struct {
	word   *regexp.Regexp
	colour string
}{
	{regexp.MustCompile(`(?m)^([^\n]*?: )(error)(: )`), red},
	{regexp.MustCompile(`(?m)^([^\n]*?: )(warning)(: )`), yellow},
	{regexp.MustCompile(`(?m)^(status +)(Published|UpToDate)( )`), green},
	{regexp.MustCompile(`(?m)^(status +)(Rejected|FailedClean|FailedDirty)( )`), red},
	{regexp.MustCompile(`(?m)^()(SIMULATED|STAND-IN AGENTS)(:)`), yellow},
	{regexp.MustCompile(`(?m)^([^\n]* )(failed after)( )`), red},
}

// painter colours known words of what is written to it. Each write holds whole
// lines.
type painter struct{ w io.Writer }

func (p painter) Write(b []byte) (int, error) {
	text := b
	for _, m := range marks {
		text = m.word.ReplaceAll(text, []byte("${1}"+m.colour+"${2}"+plain+"${3}"))
	}
	if _, err := p.w.Write(text); err != nil {
		return 0, err
	}
	return len(b), nil
}

// coloured is w, with colours where it is a terminal.
func (a *app) coloured(w io.Writer) io.Writer {
	if takesColour(w) {
		return painter{w}
	}
	return w
}
