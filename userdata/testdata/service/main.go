// Program service is what the tests run as a container: a server that tells how
// it was started, whose health can be taken away, and that notes how it ends.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "service:", err)
		os.Exit(1)
	}
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	mux := http.NewServeMux()
	mux.HandleFunc("/health", func(w http.ResponseWriter, _ *http.Request) {
		if os.Getenv("HEALTH") == "bad" {
			http.Error(w, "the database is away", http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("/probe", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(probe())
	})
	server := &http.Server{Addr: ":8080", Handler: mux, ReadHeaderTimeout: time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	fmt.Println("service: listening")
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	// What is under way is finished before the end.
	time.Sleep(3 * time.Second)
	fmt.Println("service: ended in peace")
	return nil
}

// probe tells what the container may do.
func probe() map[string]any {
	out := map[string]any{"uid": os.Getuid(), "gid": os.Getgid(), "greeting": os.Getenv("GREETING")}
	for name, file := range map[string]string{"root": "/written", "tmp": "/tmp/written", "state": "/var/lib/service/written", "log": "/var/log/service/written.log"} {
		out[name] = "writable"
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			out[name] = err.Error()
		}
	}
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		if name == "NoNewPrivs" || name == "CapEff" || name == "CapBnd" {
			out[name] = strings.TrimSpace(value)
		}
	}
	return out
}
