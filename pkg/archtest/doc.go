// Package archtest holds no code: its tests keep the repository in the shape
// that its design lays down. They read the sources and need no build.
package archtest
