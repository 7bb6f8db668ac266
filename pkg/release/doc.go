// Package release decides what consumers get. It copies a finished image to
// other regions, shares it, moves the pointers that consumers follow (all of
// them or none), gives them back when that fails, and removes images that
// nobody uses any more.
package release
