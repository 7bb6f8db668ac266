package sts

import (
	"crypto/sha256"
	"encoding/base32"
)

// digest shortens s to 17 characters of the alphabet of IAM's unique ids.
func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return base32.StdEncoding.EncodeToString(sum[:])[:17]
}
