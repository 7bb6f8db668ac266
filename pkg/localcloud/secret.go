package localcloud

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
)

// SecretName is the file in a state folder that holds the secret access key of the
// accounts' root users. Only its owner can read it.
const SecretName = "secret-access-key"

// secretForm is what a secret access key looks like: as long as AWS's.
var secretForm = regexp.MustCompile(`^[0-9a-f]{40}$`)

func newSecret() string { return scope.Hex(40) }

// ReadSecret reads the secret access key of a state folder. The key id is the id of
// any account.
func ReadSecret(dir string) (string, error) {
	path := filepath.Join(dir, SecretName)
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return "", fmt.Errorf("reading the secret access key of the embedded AWS: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("reading the secret access key of the embedded AWS: %w", err)
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("others may have read the secret access key in %s, whose mode is %s and not -rw-------: remove the file, and the next start makes a new one", path, info.Mode())
	}
	raw := make([]byte, 64)
	n, err := f.Read(raw)
	secret := strings.TrimSpace(string(raw[:n]))
	if err != nil || !secretForm.MatchString(secret) {
		return "", fmt.Errorf("%s does not hold a secret access key, 40 hexadecimal digits: remove the file, and the next start makes a new one", path)
	}
	return secret, nil
}

// secretOf reads the secret of a state folder, and makes one where there is none.
func secretOf(dir string) (string, error) {
	secret, err := ReadSecret(dir)
	if !errors.Is(err, fs.ErrNotExist) {
		return secret, err
	}
	secret = newSecret()
	// The folder's lock keeps others from doing the same. A temporary file has the
	// mode 0600.
	if err := replaceFile(filepath.Join(dir, SecretName), []byte(secret+"\n")); err != nil {
		return "", fmt.Errorf("keeping the secret access key of the embedded AWS: %w", err)
	}
	return secret, nil
}

// Credentials are those of the root user of an account: its id, and the secret
// that the accounts of one embedded AWS share.
func (c *Cloud) Credentials(account string) aws.Credentials {
	return aws.Credentials{AccessKeyID: account, SecretAccessKey: c.secret, Source: "localcloud"}
}
