package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/rehearsal"
)

// lookInto runs lines of standard input in the guests of a failed bake, one guest
// after the other, and then ends them.
func (a *app) lookInto(ctx context.Context, kept []rehearsal.Kept) error {
	input := bufio.NewScanner(a.in)
	var errs []error
	for _, k := range kept {
		_, _ = fmt.Fprintf(a.err, "the %s %s is still running: each line that you type runs in it as root; \"exit\" ends it\n", k.Role, k.InstanceID)
		errs = append(errs, a.converse(ctx, input, k), k.End())
	}
	return errors.Join(errs...)
}

// converse runs one line after the other in a guest.
func (a *app) converse(ctx context.Context, input *bufio.Scanner, k rehearsal.Kept) error {
	lines, ended := make(chan string), make(chan struct{})
	defer close(ended)
	for {
		_, _ = fmt.Fprintf(a.err, "%s# ", k.Role)
		go func() { // Scan cannot be interrupted, and Ctrl-C must work
			if input.Scan() {
				select {
				case lines <- input.Text():
				case <-ended:
				}
				return
			}
			select {
			case lines <- "exit":
			case <-ended:
			}
		}()
		var line string
		select {
		case <-ctx.Done():
			return nil // the caller ends the guest
		case line = <-lines:
		}
		switch line = strings.TrimSpace(line); line {
		case "":
			continue
		case "exit":
			return nil
		}
		result, err := k.Run(ctx, line)
		if err != nil {
			_, _ = fmt.Fprintf(a.err, "not run: %v\n", err)
			continue
		}
		_, _ = a.err.Write(result.Stdout) // stdout has the summary
		_, _ = a.err.Write(result.Stderr)
		if result.ExitCode != 0 {
			_, _ = fmt.Fprintf(a.err, "exit code %d\n", result.ExitCode)
		}
	}
}
