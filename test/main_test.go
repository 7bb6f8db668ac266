package test

import (
	"os"
	"runtime/debug"
	"testing"
)

// Simulated bakes spend a fifth of their time collecting garbage at Go's default of 100:
// an embedded AWS allocates much and keeps little.
func TestMain(m *testing.M) {
	debug.SetGCPercent(400)
	os.Exit(m.Run())
}
