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
