package secret

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// The keys of this file are made of parts, so that scanners of the repository find none.
func TestSecretsInFilesOfAnyKind(t *testing.T) {
	body := strings.Repeat("MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcw", 3)
	begin := "-----BEGIN "
	for sentence, tc := range map[string]struct{ text, want string }{
		"nothing":                             {"a text", ""},
		"a private key":                       {begin + "PRIVATE KEY-----\n" + body, "a private key"},
		"a private key of OpenSSH":            {begin + "OPENSSH PRIVATE KEY-----\n" + body, "a private key"},
		"a private key with Windows' lines":   {begin + "RSA PRIVATE KEY-----\r\n" + body, "a private key"},
		"an encrypted private key":            {begin + "RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n" + body, "a private key"},
		"a private key in JSON":               {`{"private_key":"` + begin + `PRIVATE KEY-----\n` + body + `"}`, "a private key"},
		"a private key of OpenPGP":            {begin + "PGP PRIVATE KEY BLOCK-----\n\n" + body, "a private key"},
		"a private key within a program":      {"\x7fELF\x00\x00" + begin + "EC PRIVATE KEY-----\n" + body + "\x00", "a private key"},
		"the first line of one, in a program": {"\x7fELF\x00" + begin + "PRIVATE KEY-----\x00-----END", ""},
		"a manual's example":                  {begin + "PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----", ""},
		"a certificate":                       {begin + "CERTIFICATE-----\n" + body, ""},
		"an access key":                       {"key = AKIA" + "IOSFODNN7EXAMPLE", "an AWS access key"},
		"a token":                             {"url = https://ghp_" + strings.Repeat("a1", 18) + "@example.com", "a token"},
		"a secret key":                        {"aws_secret_access_key = " + strings.Repeat("wJalrXUtnF", 4), "an AWS secret key"},
		"a key's name without a key":          {"aws_secret_access_key = ", ""},
	} {
		t.Run(sentence, func(t *testing.T) { assert.Equal(t, tc.want, InBytes([]byte(tc.text))) })
	}
}
