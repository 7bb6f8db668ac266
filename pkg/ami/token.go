package ami

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// ClientToken makes EC2's idempotency token of what identifies a creation:
// the same parts give the same token, of 40 characters (EC2 allows 64).
func ClientToken(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:20])
}

// LaunchToken is the client token of an instance that an execution launches: its
// first half is of the execution and its stage, its second of the place, so that
// whoever knows the execution can tell whose an instance is.
func LaunchToken(owner []string, place ...string) string {
	return ClientToken(owner...)[:launchOwner] + ClientToken(place...)[:launchOwner]
}

// launchOwner is the length of a token's half: 96 bits in hexadecimal.
const launchOwner = 24

// LaunchedBy says whether a client token is of an execution and stage.
func LaunchedBy(token string, owner ...string) bool {
	return len(token) == 2*launchOwner && token[:launchOwner] == ClientToken(owner...)[:launchOwner]
}
