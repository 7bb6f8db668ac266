// Package scope keeps the state of a service apart by account and region, and
// holds the few helpers that every service of the embedded AWS needs.
package scope

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/partition"
)

// Key is one account in one region. As a map key in JSON it reads
// "111122223333/eu-west-1".
type Key struct {
	Account string
	Region  string
}

// KeyOf is the key that a caller's requests work on.
func KeyOf(c wire.Caller) Key { return Key{Account: c.Account, Region: c.Region} }

// MarshalText implements encoding.TextMarshaler.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.Account + "/" + k.Region), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (k *Key) UnmarshalText(text []byte) error {
	account, region, ok := strings.Cut(string(text), "/")
	if !ok {
		return fmt.Errorf("%q is not account/region", text)
	}
	k.Account, k.Region = account, region
	return nil
}

// Caller is the caller of ctx; what it leaves open comes from fallback.
func Caller(ctx context.Context, fallback wire.Caller) wire.Caller {
	c, ok := wire.CallerFrom(ctx)
	if !ok {
		return fallback
	}
	if c.Account == "" {
		c.Account = fallback.Account
	}
	if c.Region == "" {
		c.Region = fallback.Region
	}
	return c
}

// CallerIn is the caller of ctx in the region that a call's options name. region
// points to the region in options of type O, which the SDK has for each service.
func CallerIn[O any](ctx context.Context, fallback wire.Caller, optFns []func(*O), region func(*O) *string) wire.Caller {
	c := Caller(ctx, fallback)
	var options O
	named := region(&options)
	*named = c.Region
	for _, f := range optFns {
		f(&options)
	}
	if *named != "" {
		c.Region = *named
	}
	return c
}

// Optional is s, or nil when s is empty: AWS leaves out what is not set.
func Optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// Hex returns n random hexadecimal digits, as AWS ids use them.
func Hex(n int) string {
	b := make([]byte, (n+1)/2)
	_, _ = rand.Read(b) // never fails: see crypto/rand
	return hex.EncodeToString(b)[:n]
}

// Page cuts one page out of items. token is what the previous page returned
// (empty for the first); the returned token is empty on the last page.
func Page[T any](items []T, token string, limit int) (page []T, next string, err error) {
	start := 0
	if token != "" {
		raw, decodeErr := base64.RawURLEncoding.DecodeString(token)
		if decodeErr == nil {
			start, decodeErr = strconv.Atoi(string(raw))
		}
		if decodeErr != nil || start < 0 {
			return nil, "", wire.Errorf("InvalidNextToken", "The specified token is not valid.")
		}
	}
	start = min(start, len(items))
	end := len(items)
	if limit > 0 {
		end = min(start+limit, len(items))
	}
	if end < len(items) {
		next = base64.RawURLEncoding.EncodeToString([]byte(strconv.Itoa(end)))
	}
	return items[start:end], next, nil
}

// UniqueID is the id of an entity of IAM: the prefix of its kind and 17 letters
// and digits, the same for the same ARN.
func UniqueID(prefix, arn string) string {
	sum := sha256.Sum256([]byte(arn))
	return prefix + base32.StdEncoding.EncodeToString(sum[:])[:17]
}

// QueueURL is the address of the queue of an ARN, and whose it is. The embedded
// SQS goes by the end of an address.
func QueueURL(arn string) (url string, of Key, err error) {
	parts := strings.Split(arn, ":")
	if len(parts) != 6 || parts[0] != "arn" || parts[2] != "sqs" {
		return "", Key{}, fmt.Errorf("%q is not the ARN of a queue: arn:<partition>:sqs:<region>:<account>:<name> is expected", arn)
	}
	return "https://" + partition.Host("sqs", parts[3]) + "/" + parts[4] + "/" + parts[5], Key{Account: parts[4], Region: parts[3]}, nil
}
