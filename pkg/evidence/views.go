package evidence

import "time"

// Diff is what differs from the image that the recipe had published before.
type Diff struct {
	ImageID   string `json:"imageId,omitempty"` // of the image before, in the home region; empty: there is none to compare with
	Execution string `json:"execution,omitempty"`
	Reason    string `json:"reason,omitempty"` // why there is none
	// OnlyPackageUpgrades says that there is nothing but upgrades of packages and what
	// follows from them.
	OnlyPackageUpgrades bool        `json:"onlyPackageUpgrades"`
	Groups              []DiffGroup `json:"groups"`
}

// DiffGroup is one kind of difference, such as packages.
type DiffGroup struct {
	Title   string   `json:"title"`
	Changes []Change `json:"changes"`
	More    int      `json:"more,omitempty"` // that are not listed
}

// Change is one difference.
type Change struct {
	What   string `json:"what"` // added, removed, upgraded, downgraded, changed
	Name   string `json:"name"`
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
	Grave  bool   `json:"grave,omitempty"` // somebody should look at it
}

// Approvals are the decisions of people on the image.
type Approvals struct {
	Needed    int        `json:"needed"`
	Requester string     `json:"requester,omitempty"`
	Decisions []Approval `json:"decisions"`
}

// Decisions of people.
const (
	DecisionApproved = "approved"
	DecisionRejected = "rejected"
)

// Approval is one person's decision.
type Approval struct {
	Person   string    `json:"person"`
	Role     string    `json:"role,omitempty"` // in whose session the person answered
	Decision string    `json:"decision"`       // DecisionApproved or DecisionRejected
	Reason   string    `json:"reason,omitempty"`
	At       time.Time `json:"at"`
}

// Bundle is the signed evidence of the image.
type Bundle struct {
	SHA256 string `json:"sha256"` // of manifest.json
	Key    string `json:"key"`    // ARN of the signing key
}
