package imds

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"net/http"
	"strconv"
	"time"
)

// Names of the IMDSv2 session protocol.
const (
	tokenPath    = "/latest/api/token"                    // #nosec G101 -- a path
	tokenHeader  = "X-Aws-Ec2-Metadata-Token"             // #nosec G101 -- a header's name
	ttlHeader    = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds" // #nosec G101 -- a header's name
	maxTTL       = 21600                                  // seconds, six hours
	expiryLength = 8                                      // bytes of a token that hold its end, Unix seconds
)

// tokens issues and checks session tokens. A token is its own expiry time and
// a MAC over it under a key that only this instance's service has, so nothing
// needs to be kept.
type tokens struct {
	key []byte
	now func() time.Time
}

func newTokens(now func() time.Time) *tokens {
	key := make([]byte, sha256.Size)
	_, _ = rand.Read(key) // never fails: crypto/rand.Read ends the process instead
	return &tokens{key: key, now: now}
}

func (t *tokens) issue(ttl time.Duration) string {
	token := binary.BigEndian.AppendUint64(nil, uint64(t.now().Add(ttl).Unix()))
	return base64.StdEncoding.EncodeToString(t.sign(token))
}

func (t *tokens) sign(expiry []byte) []byte {
	mac := hmac.New(sha256.New, t.key)
	mac.Write(expiry)
	return mac.Sum(expiry[:expiryLength:expiryLength])
}

func (t *tokens) valid(token string) bool {
	raw, err := base64.StdEncoding.DecodeString(token)
	if err != nil || len(raw) != expiryLength+sha256.Size {
		return false
	}
	if !hmac.Equal(raw, t.sign(raw[:expiryLength])) {
		return false
	}
	return t.now().Unix() < int64(binary.BigEndian.Uint64(raw))
}

// serve answers PUT /latest/api/token. It refuses a request that came through a
// proxy (X-Forwarded-For), as a protection against open proxies.
func (t *tokens) serve(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPut {
		w.Header().Set("Allow", "OPTIONS, PUT")
		refuse(w, http.StatusMethodNotAllowed)
		return
	}
	if len(r.Header.Values("X-Forwarded-For")) > 0 {
		refuse(w, http.StatusForbidden)
		return
	}
	ttl, err := strconv.Atoi(r.Header.Get(ttlHeader))
	if err != nil || ttl < 1 || ttl > maxTTL {
		refuse(w, http.StatusBadRequest)
		return
	}
	w.Header().Set(ttlHeader, strconv.Itoa(ttl))
	_, _ = w.Write([]byte(t.issue(time.Duration(ttl) * time.Second)))
}
