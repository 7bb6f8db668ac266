package ami

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// ClientToken returns an idempotency token for EC2. The parts identify what is
// created: the same parts give the same token, of 40 characters (EC2 allows 64).
func ClientToken(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:20])
}

// LaunchToken returns the client token of an instance that an execution
// launches. Its first half identifies the execution and its stage, its second
// the place, so that LaunchedBy can recognise the instances of an execution.
func LaunchToken(owner []string, place ...string) string {
	return ClientToken(owner...)[:launchOwner] + ClientToken(place...)[:launchOwner]
}

// launchOwner is the length of each half of a token: 96 bits in hexadecimal.
const launchOwner = 24

// LaunchedBy reports whether a client token belongs to an execution and stage.
func LaunchedBy(token string, owner ...string) bool {
	return len(token) == 2*launchOwner && token[:launchOwner] == ClientToken(owner...)[:launchOwner]
}
