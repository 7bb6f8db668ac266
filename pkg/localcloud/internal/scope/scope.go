// Package scope separates the state of a service by account and region, and has
// the few helpers that every service of the embedded AWS needs.
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

// KeyOf returns the key of a caller's requests.
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

// Caller returns the caller in ctx. Missing parts come from fallback.
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

// CallerIn returns the caller in ctx, in the region of a call's options. region
// returns a pointer to the region in options of type O, which the SDK has for
// each service.
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

// Optional returns s, or nil if s is empty, because AWS leaves out values that
// are not set.
func Optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// Hex returns n random hexadecimal digits, as AWS ids use them.
func Hex(n int) string {
	b := make([]byte, (n+1)/2)
	_, _ = rand.Read(b) // never fails, see crypto/rand
	return hex.EncodeToString(b)[:n]
}

// Page returns one page of items. token comes from the previous page (empty for
// the first); the returned token is empty on the last page.
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

// UniqueID returns the id of an entity of IAM: the prefix of its kind and 17
// letters and digits, always the same for the same ARN.
func UniqueID(prefix, arn string) string {
	sum := sha256.Sum256([]byte(arn))
	return prefix + base32.StdEncoding.EncodeToString(sum[:])[:17]
}

// QueueURL returns the URL of the queue with an ARN, and its account and region.
// The embedded SQS only uses the end of a URL.
func QueueURL(arn string) (url string, of Key, err error) {
	parts := strings.Split(arn, ":")
	if len(parts) != 6 || parts[0] != "arn" || parts[2] != "sqs" {
		return "", Key{}, fmt.Errorf("%q is not the ARN of a queue: arn:<partition>:sqs:<region>:<account>:<name> is expected", arn)
	}
	return "https://" + partition.Host("sqs", parts[3]) + "/" + parts[4] + "/" + parts[5], Key{Account: parts[4], Region: parts[3]}, nil
}
