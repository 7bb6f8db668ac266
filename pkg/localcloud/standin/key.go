package standin

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// key signs a repository.
type key struct{ entity *openpgp.Entity }

// slack is how long before now keys and signatures become valid, because a
// guest's clock may be a little behind.
const slack = time.Hour

// newKey makes a key that is valid from a time, for lifetime; 0 means without
// end.
func newKey(vendor string, from time.Time, lifetime time.Duration) (key, error) {
	entity, err := openpgp.NewEntity("Stand-in for "+vendor, "not the vendor", vendor+"@standin.invalid", &packet.Config{
		Algorithm: packet.PubKeyAlgoEdDSA, Time: func() time.Time { return from }, KeyLifetimeSecs: uint32(lifetime / time.Second),
	})
	if err != nil {
		return key{}, fmt.Errorf("make the key of %s: %w", vendor, err)
	}
	entity.Subkeys = nil // of encryption, which is not used
	return key{entity}, nil
}

// keptKey returns the key in a file, which is created if it does not exist. Only
// its owner may read the file.
func keptKey(vendor, file string, now time.Time) (key, error) {
	raw, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return makeKey(vendor, file, now)
	}
	if err != nil {
		return key{}, fmt.Errorf("read the key of %s: %w", vendor, err)
	}
	entity, err := openpgp.ReadEntity(packet.NewReader(bytes.NewReader(raw)))
	if err != nil || entity.PrivateKey == nil {
		return key{}, fmt.Errorf("%s holds no key (%v): remove it, and a new one is made", file, err)
	}
	return key{entity}, nil
}

func makeKey(vendor, file string, now time.Time) (key, error) {
	k, err := newKey(vendor, now.Add(-slack), 0)
	if err != nil {
		return k, err
	}
	var raw bytes.Buffer
	if err := k.entity.SerializePrivateWithoutSigning(&raw, nil); err != nil {
		return k, fmt.Errorf("keep the key of %s: %w", vendor, err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return k, fmt.Errorf("keep the key of %s: %w", vendor, err)
	}
	// Write the file completely or not at all; of two concurrent writers the first
	// one wins.
	draft, err := os.CreateTemp(filepath.Dir(file), ".key-*")
	if err != nil {
		return k, fmt.Errorf("keep the key of %s: %w", vendor, err)
	}
	defer func() { _ = os.Remove(draft.Name()) }()
	_, err = draft.Write(raw.Bytes())
	if err = errors.Join(err, draft.Close()); err != nil {
		return k, fmt.Errorf("keep the key of %s: %w", vendor, err)
	}
	if err := os.Link(draft.Name(), file); errors.Is(err, fs.ErrExist) {
		return keptKey(vendor, file, now)
	} else if err != nil {
		return k, fmt.Errorf("keep the key of %s: %w", vendor, err)
	}
	return k, nil
}

// fingerprint returns the key's fingerprint, 40 hexadecimal digits in capitals.
func (k key) fingerprint() string {
	return strings.ToUpper(hex.EncodeToString(k.entity.PrimaryKey.Fingerprint))
}

// public returns the armoured public key.
func (k key) public() ([]byte, error) {
	var out bytes.Buffer
	w, err := armor.Encode(&out, openpgp.PublicKeyType, nil)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(k.entity.Serialize(w), w.Close()); err != nil {
		return nil, err
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

func config(at time.Time) *packet.Config { return &packet.Config{Time: func() time.Time { return at }} }

// clearSign returns a clear-signed text.
func (k key) clearSign(text []byte, at time.Time) ([]byte, error) {
	var out bytes.Buffer
	w, err := clearsign.Encode(&out, k.entity.PrivateKey, config(at))
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(text); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

// detachedSign returns the detached signature of text. Unlike openpgp.DetachSign
// it does not check whether the key is still valid; verifiers must.
func (k key) detachedSign(text []byte, at time.Time) ([]byte, error) {
	signature := &packet.Signature{
		Version: k.entity.PrivateKey.Version, SigType: packet.SigTypeBinary, PubKeyAlgo: k.entity.PrivateKey.PubKeyAlgo,
		Hash: config(at).Hash(), CreationTime: at, IssuerKeyId: &k.entity.PrivateKey.KeyId, IssuerFingerprint: k.entity.PrivateKey.Fingerprint,
	}
	digest := signature.Hash.New()
	digest.Write(text)
	if err := signature.Sign(digest, k.entity.PrivateKey, config(at)); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	w, err := armor.Encode(&out, openpgp.SignatureType, nil)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(signature.Serialize(w), w.Close()); err != nil {
		return nil, err
	}
	_, err = io.WriteString(&out, "\n")
	return out.Bytes(), err
}
