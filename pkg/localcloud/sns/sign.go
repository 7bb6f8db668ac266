package sns

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" // #nosec G505 -- signatures of version 1 use it
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// Certificates have the path of SNS's own, at the embedded AWS's address.
const (
	certificatePrefix = "/SimpleNotificationService-"
	certificateSuffix = ".pem"
)

// signer signs messages with a key of this process, which is made at its first
// use and never leaves the process. A message of another process cannot be
// verified.
type signer struct {
	once        sync.Once
	err         error
	key         *rsa.PrivateKey
	certificate []byte // PEM
	path        string
}

func (s *signer) ready() error {
	s.once.Do(func() { s.err = s.make() })
	return s.err
}

func (s *signer) make() error {
	var err error
	if s.key, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "sns." + wire.Host, Organization: []string{"the embedded AWS"}},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().AddDate(10, 0, 0), KeyUsage: x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &s.key.PublicKey, s.key)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(der)
	s.certificate = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	s.path = certificatePrefix + hex.EncodeToString(sum[:16]) + certificateSuffix
	return nil
}

// sign returns the signature of a notification and the path of the certificate
// (https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html).
func (s *signer) sign(n notification, version string) (signature, path string, err error) {
	if err := s.ready(); err != nil {
		return "", "", fmt.Errorf("signing: %w", err)
	}
	text := signedText(n)
	algorithm, digest := crypto.SHA1, func() []byte { sum := sha1.Sum(text); return sum[:] } // #nosec G401 -- see above
	if version == "2" {
		algorithm, digest = crypto.SHA256, func() []byte { sum := sha256.Sum256(text); return sum[:] }
	}
	raw, err := rsa.SignPKCS1v15(rand.Reader, s.key, algorithm, digest())
	if err != nil {
		return "", "", fmt.Errorf("signing: %w", err)
	}
	return base64.StdEncoding.EncodeToString(raw), s.path, nil
}

// signedText returns the signed members of a notification, sorted by name.
func signedText(n notification) []byte {
	var b strings.Builder
	add := func(name, value string) { b.WriteString(name + "\n" + value + "\n") }
	add("Message", n.Message)
	add("MessageId", n.MessageID)
	if n.Subject != nil {
		add("Subject", *n.Subject)
	}
	add("Timestamp", n.Timestamp)
	add("TopicArn", n.TopicArn)
	add("Type", n.Type)
	return []byte(b.String())
}

// IsCertificate reports whether a request is for a certificate of SNS. No bucket
// can have such a name.
func IsCertificate(r *http.Request) bool {
	return strings.HasPrefix(r.URL.Path, certificatePrefix) && strings.HasSuffix(r.URL.Path, certificateSuffix)
}

// ServeCertificate serves the certificate of the messages' signatures.
func (s *Service) ServeCertificate(w http.ResponseWriter, r *http.Request) {
	if err := s.sign.ready(); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if r.Method != http.MethodGet || r.URL.Path != s.sign.path {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/x-pem-file")
	_, _ = w.Write(s.sign.certificate) // an error means that the client has disconnected
}
