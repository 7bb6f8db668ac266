// Package compliance holds the controls an image must prove, runs no network
// call, and turns what a check engine said into normalised results and a
// verdict of the gate.
package compliance

// Control is one security control that the image must prove.
type Control struct {
	ID        string   `json:"id" yaml:"id"` // such as SYS-02; stable, unlike CIS numbers
	Title     string   `json:"title" yaml:"title"`
	Severity  string   `json:"severity" yaml:"severity"`
	Component string   `json:"component" yaml:"-"`
	CIS       []string `json:"cis,omitempty" yaml:"cis,omitempty"`
}
