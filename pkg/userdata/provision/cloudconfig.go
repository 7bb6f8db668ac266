package provision

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v4"
)

// CloudConfig is the part for cloud-init's own modules. It has only those keys of
// cloud-init's schema (22.4 and later) that are used.
type CloudConfig struct {
	SSHPwauth  bool        `yaml:"ssh_pwauth"`
	Groups     []string    `yaml:"groups,omitempty,flow"` // created before all users
	Users      []any       `yaml:"users,omitempty"`       // "default" and CloudUser
	Timezone   string      `yaml:"timezone,omitempty"`
	WriteFiles []CloudFile `yaml:"write_files,omitempty"`
	PowerState *PowerState `yaml:"power_state,omitempty"`
}

// CloudUser is an entry of users.
type CloudUser struct {
	Name         string   `yaml:"name"`
	UID          int      `yaml:"uid,omitempty"`
	PrimaryGroup string   `yaml:"primary_group,omitempty"`
	Groups       []string `yaml:"groups,omitempty,flow"`
	Shell        string   `yaml:"shell"`
	System       bool     `yaml:"system,omitempty"`
	NoCreateHome bool     `yaml:"no_create_home,omitempty"`
	LockPasswd   bool     `yaml:"lock_passwd"`
	Sudo         string   `yaml:"sudo,omitempty"` // the schema has no list before 23.1
	Keys         []string `yaml:"ssh_authorized_keys,omitempty"`
}

// CloudFile is an entry of write_files.
type CloudFile struct {
	Path        string `yaml:"path"`
	Permissions string `yaml:"permissions"`
	Owner       string `yaml:"owner,omitempty"`
	Encoding    string `yaml:"encoding,omitempty"`
	Content     string `yaml:"content"`
}

// PowerState reboots the instance when everything else is done.
type PowerState struct {
	Mode      string   `yaml:"mode"`
	Delay     string   `yaml:"delay"`
	Message   string   `yaml:"message"`
	Timeout   int      `yaml:"timeout"`
	Condition []string `yaml:"condition,flow"`
}

const cloudConfigLine = "#cloud-config\n"

func (c CloudConfig) text() (string, error) {
	var b bytes.Buffer
	dump, err := yaml.NewDumper(&b, yaml.WithIndent(2), yaml.WithLineWidth(-1))
	if err != nil {
		return "", fmt.Errorf("write the cloud-config: %w", err)
	}
	if err := dump.Dump(c); err != nil {
		return "", fmt.Errorf("write the cloud-config: %w", err)
	}
	if err := dump.Close(); err != nil {
		return "", fmt.Errorf("write the cloud-config: %w", err)
	}
	return cloudConfigLine + b.String(), nil
}

// CheckCloudConfig reads a cloud-config strictly: it allows only the keys of CloudConfig,
// with their types. This check needs no cloud-init.
func CheckCloudConfig(text string) error {
	body, ok := strings.CutPrefix(text, cloudConfigLine)
	if !ok {
		return fmt.Errorf("it does not begin with the line #cloud-config")
	}
	var config CloudConfig
	if err := yaml.Load([]byte(body), &config, yaml.WithKnownFields()); err != nil {
		return err
	}
	if config.SSHPwauth {
		return fmt.Errorf("ssh_pwauth is true")
	}
	for i, user := range config.Users {
		if user == "default" {
			continue
		}
		entry, err := yaml.Dump(user)
		if err != nil {
			return err
		}
		var read CloudUser
		if err := yaml.Load(entry, &read, yaml.WithKnownFields()); err != nil {
			return fmt.Errorf("users[%d]: %w", i, err)
		}
		if !read.LockPasswd {
			return fmt.Errorf("users[%d]: lock_passwd is not true", i)
		}
	}
	return nil
}

// file returns an entry of write_files. Content that is not plain text is in base64.
func file(path, mode, content string) CloudFile {
	out := CloudFile{Path: path, Permissions: mode, Content: content}
	if strings.ContainsFunc(content, func(r rune) bool { return r > '~' || r < ' ' && r != '\n' && r != '\t' }) {
		out.Encoding, out.Content = "b64", base64.StdEncoding.EncodeToString([]byte(content))
	}
	return out
}
