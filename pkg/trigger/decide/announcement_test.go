package decide_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/trigger/decide"
)

const topic = "arn:aws:sns:us-east-1:137112412989:amazon-linux-2023-ami-updates"

// signer is SNS of a region.
func signer(t *testing.T) (*rsa.PrivateKey, []byte) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "sns.amazonaws.com"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	return key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// announcement is as SNS invokes a function with it, signed as its documents
// say: the canonical text is written out here, not taken from the code.
func announcement(t *testing.T, key *rsa.PrivateKey) decide.Announcement {
	t.Helper()
	return announcementOf(t, key, "2", crypto.SHA256)
}

func announcementOf(t *testing.T, key *rsa.PrivateKey, version string, hash crypto.Hash) decide.Announcement {
	t.Helper()
	text := "Message\n{\"v1\":{}}\nMessageId\n95df01b4-ee98-5cb9-9903-4c221d41eb5e\nSubject\nnew AMI\nTimestamp\n2026-11-24T12:00:00.000Z\n" +
		"TopicArn\n" + topic + "\nType\nNotification\n"
	h := hash.New()
	h.Write([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, hash, h.Sum(nil))
	require.NoError(t, err)
	var a decide.Announcement
	require.NoError(t, json.Unmarshal([]byte(`{"Type":"Notification","MessageId":"95df01b4-ee98-5cb9-9903-4c221d41eb5e","TopicArn":"`+topic+`",
		"Subject":"new AMI","Message":"{\"v1\":{}}","Timestamp":"2026-11-24T12:00:00.000Z","SignatureVersion":"`+version+`",
		"Signature":"`+base64.StdEncoding.EncodeToString(signature)+`",
		"SigningCertUrl":"https://sns.us-east-1.amazonaws.com/SimpleNotificationService-0123456789abcdef.pem",
		"UnsubscribeUrl":"https://sns.us-east-1.amazonaws.com/","MessageAttributes":{}}`), &a))
	return a
}

func TestAGenuineAnnouncementIsBelieved(t *testing.T) {
	key, certificate := signer(t)
	a := announcement(t, key)
	require.NoError(t, a.Check([]string{"another", topic}, ""))
	require.NoError(t, a.Verify(certificate))
}

func TestAnAnnouncementIsVerifiedByTheVersionOfItsSignature(t *testing.T) {
	key, certificate := signer(t)
	for sentence, tc := range map[string]struct {
		version string
		hash    crypto.Hash
		good    bool
	}{
		"version 1, by SHA-1":      {"1", crypto.SHA1, true},
		"version 2, by SHA-256":    {"2", crypto.SHA256, true},
		"SHA-1 called version 2":   {"2", crypto.SHA1, false},
		"SHA-256 called version 1": {"1", crypto.SHA256, false},
	} {
		t.Run(sentence, func(t *testing.T) {
			a := announcementOf(t, key, tc.version, tc.hash)
			require.NoError(t, a.Check([]string{topic}, ""))
			assert.Equal(t, tc.good, a.Verify(certificate) == nil)
			a.Message = "another"
			assert.ErrorContains(t, a.Verify(certificate), "not that of this message")
		})
	}
}

func TestAForgedAnnouncementIsNot(t *testing.T) {
	key, certificate := signer(t)
	_, anotherCertificate := signer(t)
	for sentence, tc := range map[string]struct {
		change      func(*decide.Announcement)
		certificate []byte
		says        string
	}{
		"another topic": {func(a *decide.Announcement) { a.TopicARN += "x" }, nil, "none of those that are listened to"},
		"a topic of the name in a region": {func(a *decide.Announcement) {
			a.TopicARN = "arn:aws:sns:us-east-1:666666666666:amazon-linux-2023-ami-updates"
		}, nil, "none of those"},
		"not a notification":                     {func(a *decide.Announcement) { a.Type = "SubscriptionConfirmation" }, nil, "not a Notification"},
		"no id of a message":                     {func(a *decide.Announcement) { a.MessageID = "../recipes/x" }, nil, "no id of a message"},
		"a signature of version 3":               {func(a *decide.Announcement) { a.SignatureVersion = "3" }, nil, "(allowed: 1, 2)"},
		"no signature":                           {func(a *decide.Announcement) { a.SignatureVersion = "" }, nil, "(allowed: 1, 2)"},
		"a signature of SHA-256 that says SHA-1": {func(a *decide.Announcement) { a.SignatureVersion = "1" }, certificate, "not that of this message"},
		"a certificate without TLS":              {func(a *decide.Announcement) { a.SigningCertURL = "http" + a.SigningCertURL[5:] }, nil, "not where SNS keeps"},
		"a certificate of anybody": {func(a *decide.Announcement) {
			a.SigningCertURL = "https://sns.us-east-1.amazonaws.com.example.org/SimpleNotificationService-0.pem"
		}, nil, "not where SNS keeps"},
		"a certificate in somebody's bucket": {func(a *decide.Announcement) {
			a.SigningCertURL = "https://s3.us-east-1.amazonaws.com/SimpleNotificationService-0.pem"
		}, nil, "not where SNS keeps"},
		"a user in the address": {func(a *decide.Announcement) {
			a.SigningCertURL = "https://x@sns.us-east-1.amazonaws.com/SimpleNotificationService-0.pem"
		}, nil, "not where SNS keeps"},
		"another path": {func(a *decide.Announcement) { a.SigningCertURL = "https://sns.us-east-1.amazonaws.com/?Action=x" }, nil, "not where SNS keeps"},
		"SNS of another region": {func(a *decide.Announcement) {
			a.SigningCertURL = "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0.pem"
		}, nil, "SNS in eu-west-1"},
		"SNS of another partition": {func(a *decide.Announcement) {
			a.SigningCertURL = "https://sns.us-east-1.amazonaws.com.cn/SimpleNotificationService-0.pem"
		}, nil, "not where SNS keeps"},
		"a region that does not exist": {func(a *decide.Announcement) {
			a.SigningCertURL = "https://sns.us-nowhere-1.amazonaws.com/SimpleNotificationService-0.pem"
		}, nil, "not where SNS keeps"},
		"another message":              {func(a *decide.Announcement) { a.Message = "x" }, certificate, "not that of this message"},
		"another time":                 {func(a *decide.Announcement) { a.Timestamp = "2027-01-01T00:00:00.000Z" }, certificate, "not that of this message"},
		"the subject taken away":       {func(a *decide.Announcement) { a.Subject = "" }, certificate, "not that of this message"},
		"signed by somebody else":      {func(*decide.Announcement) {}, anotherCertificate, "not that of this message"},
		"a signature that is not one":  {func(a *decide.Announcement) { a.Signature = "%" }, certificate, "not base64"},
		"a certificate that is no one": {func(*decide.Announcement) {}, []byte("<html>"), "no certificate"},
	} {
		t.Run(sentence, func(t *testing.T) {
			a := announcement(t, key)
			tc.change(&a)
			err := a.Check([]string{topic}, "")
			if tc.certificate != nil {
				require.NoError(t, err)
				err = a.Verify(tc.certificate)
			}
			assert.ErrorContains(t, err, tc.says)
		})
	}
}

func TestACertificateIsOfTheTopicsPartition(t *testing.T) {
	key, _ := signer(t)
	for topic, host := range map[string]string{
		"arn:aws-cn:sns:cn-north-1:137112412989:t":        "sns.cn-north-1.amazonaws.com.cn",
		"arn:aws-us-gov:sns:us-gov-west-1:137112412989:t": "sns.us-gov-west-1.amazonaws.com",
		"arn:aws-eusc:sns:eusc-de-east-1:137112412989:t":  "sns.eusc-de-east-1.amazonaws.eu",
		"arn:aws-iso:sns:us-iso-east-1:137112412989:t":    "sns.us-iso-east-1.c2s.ic.gov",
	} {
		t.Run(topic, func(t *testing.T) {
			a := announcement(t, key)
			a.TopicARN, a.SigningCertURL = topic, "https://"+host+"/SimpleNotificationService-0123456789abcdef.pem"
			require.NoError(t, a.Check([]string{topic}, ""))
			a.SigningCertURL = "https://sns." + strings.Split(topic, ":")[3] + ".amazonaws.example/SimpleNotificationService-0.pem"
			require.ErrorContains(t, a.Check([]string{topic}, ""), "not where SNS keeps")
		})
	}
}

func TestWhereACertificateMayLieFollowsFromTheEndpoint(t *testing.T) {
	const aws = "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-0123456789abcdef.pem"
	key, _ := signer(t)
	for sentence, tc := range map[string]struct {
		endpoint, certificate string
		believed              bool
	}{
		"on AWS, that of SNS":                               {"", aws, true},
		"on AWS, none of this machine":                      {"", "http://127.0.0.1:4566/SimpleNotificationService-0123456789abcdef.pem", false},
		"in a rehearsal, that of the embedded SNS":          {"http://127.0.0.1:4566", "http://127.0.0.1:4566/SimpleNotificationService-0123456789abcdef.pem", true},
		"in a rehearsal, not that of another port":          {"http://127.0.0.1:4566", "http://127.0.0.1:4567/SimpleNotificationService-0123456789abcdef.pem", false},
		"in a rehearsal, not another thing of it":           {"http://127.0.0.1:4566", "http://127.0.0.1:4566/bucket/SimpleNotificationService-0.pem", false},
		"in a rehearsal, not AWS's own":                     {"http://127.0.0.1:4566", aws, false},
		"with an endpoint of a VPC, that of SNS":            {"https://vpce-1.sns.us-east-1.vpce.amazonaws.com", aws, true},
		"with an endpoint of a VPC, none of that endpoint":  {"https://vpce-1.sns.us-east-1.vpce.amazonaws.com", "https://vpce-1.sns.us-east-1.vpce.amazonaws.com/SimpleNotificationService-0.pem", false},
		"with an endpoint that only looks as if it is here": {"http://127.0.0.1.example.org", "http://127.0.0.1.example.org/SimpleNotificationService-0.pem", false},
	} {
		t.Run(sentence, func(t *testing.T) {
			a := announcement(t, key)
			a.SigningCertURL = tc.certificate
			err := a.Check([]string{topic}, tc.endpoint)
			if tc.believed {
				require.NoError(t, err)
				return
			}
			assert.ErrorContains(t, err, "not where SNS keeps")
		})
	}
}
