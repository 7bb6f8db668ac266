package decide

import (
	"crypto"
	"crypto/rsa"
	_ "crypto/sha1" // #nosec G505 -- what signatures of version 1 are made of
	_ "crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/partition"
)

// Announcement is a message of an SNS topic as a Lambda function gets it
// (https://docs.aws.amazon.com/lambda/latest/dg/with-sns.html).
type Announcement struct {
	Type             string
	MessageID        string `json:"MessageId"`
	TopicARN         string `json:"TopicArn"`
	Subject          string
	Message          string
	Timestamp        string
	SignatureVersion string
	Signature        string
	SigningCertURL   string `json:"SigningCertUrl"`
}

var (
	certificatePath = regexp.MustCompile(`^/SimpleNotificationService-[0-9a-f]+\.pem$`)
	messageID       = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
)

// Check refuses what cannot be an announcement of one of the topics, before
// anything is fetched for it. endpoint is where all of AWS is called, if that is
// another AWS than Amazon's; empty on AWS.
func (a Announcement) Check(topics []string, endpoint string) error {
	switch {
	case !slices.Contains(topics, a.TopicARN):
		return fmt.Errorf("topic %q is none of those that are listened to", a.TopicARN)
	case a.Type != "Notification":
		return fmt.Errorf("it is of type %q, not a Notification", a.Type)
	case !messageID.MatchString(a.MessageID):
		return fmt.Errorf("%q is no id of a message", a.MessageID)
	case a.signatureHash() == 0:
		return fmt.Errorf("its signature is of version %q (allowed: 1, 2)", a.SignatureVersion)
	}
	u, err := url.Parse(a.SigningCertURL)
	if err != nil {
		return fmt.Errorf("its certificate has no address: %w", err)
	}
	if !certificatePath.MatchString(u.Path) || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return a.elsewhere()
	}
	if own := rehearsed(endpoint); own != nil {
		if u.Scheme != own.Scheme || u.Host != own.Host {
			return a.elsewhere()
		}
		return nil
	}
	parts := strings.Split(a.TopicARN, ":")
	if len(parts) < 6 {
		return fmt.Errorf("%q is not the ARN of a topic", a.TopicARN)
	}
	of, ok := partition.Of(parts[3])
	if u.Scheme != "https" || !ok || of.ID != parts[1] {
		return a.elsewhere()
	}
	if u.Host == partition.Host("sns", parts[3]) {
		return nil
	}
	region, ok := strings.CutPrefix(strings.TrimSuffix(u.Host, "."+of.DNSSuffix), "sns.")
	if ok && partition.Known(region) && u.Host == partition.Host("sns", region) {
		return fmt.Errorf("the certificate is of SNS in %s, and the topic is not", region)
	}
	return a.elsewhere()
}

func (a Announcement) elsewhere() error {
	return fmt.Errorf("%q is not where SNS keeps its certificates", a.SigningCertURL)
}

// rehearsed is the address of an AWS on this very machine; nil when the endpoint
// is anything else. There, SNS's certificates lie on that address and on no other:
// it is where the function gets all else that it believes. On AWS a function is
// alone on its machine and given no endpoint, and an endpoint elsewhere, such as
// one of a VPC, does not change where SNS keeps its certificates; so neither
// loosens what holds there.
func rehearsed(endpoint string) *url.URL {
	u, err := url.Parse(endpoint)
	if endpoint == "" || err != nil {
		return nil
	}
	if ip := net.ParseIP(u.Hostname()); u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil
	}
	return u
}

// signatureHash is what the signature's version signs: SHA-1 or SHA-256; 0 for an
// unknown one. A topic signs with version 1 unless its owner has changed it, so
// the owners of base images cannot be expected to use 2
// (https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html).
// To forge version 1 takes a second preimage of SHA-1 for a message that SNS has
// signed, which nobody can find; a collision takes influence on both messages,
// which the owner of a topic that is listened to has anyway. And an announcement
// only makes the factory look at the parameter itself.
func (a Announcement) signatureHash() crypto.Hash {
	switch a.SignatureVersion {
	case "1":
		return crypto.SHA1
	case "2":
		return crypto.SHA256
	}
	return 0
}

// Verify proves that the owner of an SNS certificate signed the message.
func (a Announcement) Verify(certificate []byte) error {
	block, _ := pem.Decode(certificate)
	if block == nil {
		return errors.New("what was fetched is no certificate")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return fmt.Errorf("what was fetched is no certificate: %w", err)
	}
	key, ok := cert.PublicKey.(*rsa.PublicKey)
	if !ok {
		return errors.New("the certificate's key is not of RSA")
	}
	signature, err := base64.StdEncoding.DecodeString(a.Signature)
	if err != nil {
		return fmt.Errorf("the signature is not base64: %w", err)
	}
	hash := a.signatureHash()
	if hash == 0 {
		return fmt.Errorf("its signature is of version %q (allowed: 1, 2)", a.SignatureVersion)
	}
	h := hash.New()
	_, _ = h.Write([]byte(a.signed())) // a hash takes everything
	if err := rsa.VerifyPKCS1v15(key, hash, h.Sum(nil), signature); err != nil {
		return errors.New("the signature is not that of this message")
	}
	return nil
}

// signed is the text that SNS signs
// (https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message-verify-message-signature.html).
func (a Announcement) signed() string {
	var b strings.Builder
	add := func(name, value string) { b.WriteString(name + "\n" + value + "\n") }
	add("Message", a.Message)
	add("MessageId", a.MessageID)
	if a.Subject != "" {
		add("Subject", a.Subject)
	}
	add("Timestamp", a.Timestamp)
	add("TopicArn", a.TopicARN)
	add("Type", a.Type)
	return b.String()
}
