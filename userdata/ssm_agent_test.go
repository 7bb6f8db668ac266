//go:build linux

package userdata_test

import (
	"encoding/hex"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/component"
	"github.com/ami-factory/ami-factory/pkg/localcloud/standin"
	"github.com/ami-factory/ami-factory/test/breaks"
	"github.com/ami-factory/ami-factory/userdata"
)

func TestTheSSMAgentsKeyIsTheOneWhoseFingerprintIsPinned(t *testing.T) {
	script, err := fs.ReadFile(userdata.FS, "components/ssm-agent/bootstrap.sh")
	require.NoError(t, err)
	_, key, found := strings.Cut(string(script), "<<'KEY'\n")
	require.True(t, found)
	key, _, found = strings.Cut(key, "KEY\n}")
	require.True(t, found)
	keys, err := openpgp.ReadArmoredKeyRing(strings.NewReader(key))
	require.NoError(t, err)
	require.Len(t, keys, 1)
	c, problems, err := component.Load(userdata.FS, "ssm-agent")
	require.NoError(t, err)
	require.Empty(t, problems)
	assert.Equal(t, string(*c.Parameters["keyFingerprint"].Default), strings.ToUpper(hex.EncodeToString(keys[0].PrimaryKey.Fingerprint)))
	assert.Contains(t, keys[0].Identities, "SSM Agent <ssm-agent-signer@amazon.com>")
}

// ssmAgent carries out the component's bootstrap.sh as the user data does.
func (g *guest) ssmAgent(t *testing.T, environment ...string) (string, int) {
	t.Helper()
	return g.run(t, "cd /root/ssm-agent && AMI_FACTORY_COMPONENT=ssm-agent AMI_FACTORY_PARAM_KEY_URL= "+strings.Join(environment, " ")+" bash bootstrap.sh")
}

// unpack puts the component and lib into the guest.
func (g *guest) unpack(t *testing.T) {
	t.Helper()
	for from, to := range map[string]string{"components/ssm-agent": "/root/ssm-agent", "lib": "/root/lib"} {
		require.NoError(t, fs.WalkDir(userdata.FS, from, func(name string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			content, err := fs.ReadFile(userdata.FS, name)
			g.write(t, to+strings.TrimPrefix(name, from), 0o755, content)
			return err
		}))
	}
}

func TestTheSSMAgentIsInstalledOnlyFromASignedPackageOfItsVersion(t *testing.T) {
	faults := map[string]standin.Fault{
		"tampered": standin.TamperedPackage, "wrongsignature": standin.BadSignature, "otherkey": standin.OtherKey,
		"expired": standin.ExpiredKey, "old": standin.OldPackage, "good": "",
	}
	hosts, vendors := map[string]http.Handler{}, map[string]standin.Vendor{}
	for name, fault := range faults {
		r, err := standin.New(standin.Options{Faults: map[string]standin.Fault{standin.SSMAgent: fault}})
		require.NoError(t, err)
		hosts[name+".localcloud.internal"] = r
		vendors[name] = r.SSMAgent
	}
	// A vendor that changes its key publishes two blocks of armour for a while.
	hosts["changing.localcloud.internal"] = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, name := range []string{"expired", "good"} {
			key := httptest.NewRecorder()
			hosts[name+".localcloud.internal"].ServeHTTP(key, r)
			_, _ = w.Write(append(key.Body.Bytes(), '\n'))
		}
	})
	g := bootGuestBeside(t, hosts)
	g.unpack(t)
	from := func(name string, more ...string) []string {
		v := vendors[name]
		host := "http://" + name + ".localcloud.internal"
		return append([]string{
			"AMI_FACTORY_FAMILY=debian-12", "AMI_FACTORY_PARAM_VERSION=" + v.Version, "AMI_FACTORY_PARAM_MINIMUM=3.3.40.0",
			"AMI_FACTORY_PARAM_MIRROR=" + host + v.RepositoryPath, "AMI_FACTORY_PARAM_KEY_URL=" + host + v.KeyPath,
			"AMI_FACTORY_PARAM_KEY_FINGERPRINT=" + v.KeyFingerprint,
		}, more...)
	}
	refused := map[string]struct {
		environment []string
		says        string
	}{
		"a package that was tampered with":            {from("tampered"), "has no good signature of the key"},
		"a signature of something else":               {from("wrongsignature"), "has no good signature of the key"},
		"a signature of another key":                  {from("otherkey"), "has no good signature of the key"},
		"a signature of neither of two pinned keys":   {from("good", "AMI_FACTORY_PARAM_KEY_FINGERPRINT='"+strings.Repeat("0A", 20)+" "+strings.Repeat("0B", 20)+"'"), "has no good signature of the key " + strings.Repeat("0A", 20) + " or " + strings.Repeat("0B", 20)},
		"two fingerprints with a comma":               {from("good", "AMI_FACTORY_PARAM_KEY_FINGERPRINT="+vendors["good"].KeyFingerprint+","+vendors["expired"].KeyFingerprint), "parameter keyFingerprint is"},
		"a key that has expired":                      {from("expired"), "has no good signature of the key"},
		"a good key that is not the pinned one":       {from("good", "AMI_FACTORY_PARAM_KEY_FINGERPRINT="+strings.Repeat("0A", 20)), "has no good signature of the key " + strings.Repeat("0A", 20)},
		"AWS's own key, which did not sign this":      {from("good", "AMI_FACTORY_PARAM_KEY_URL=", "AMI_FACTORY_PARAM_KEY_FINGERPRINT=1C5B395CBE5E74E2F1CA21592784DBF388D19D46"), "has no good signature of the key 1C5B395CBE5E74E2F1CA21592784DBF388D19D46"},
		"an old package that its vendor signed":       {from("old"), "holds amazon-ssm-agent 3.2.2303.0+standin"},
		"a version that does not exist":               {from("good", "AMI_FACTORY_PARAM_VERSION=3.3.9999.0"), "cannot fetch http://good.localcloud.internal/bucket/ssm-agent/3.3.9999.0/debian_amd64/amazon-ssm-agent.deb"},
		"a version below the minimum":                 {from("good", "AMI_FACTORY_PARAM_VERSION=3.2.2303.0"), "version 3.2.2303.0 is older than the minimum 3.3.40.0"},
		"a version that would leave the folder":       {from("good", "AMI_FACTORY_PARAM_VERSION=../3.3.4851.0"), "parameters version and minimum are"},
		"a fingerprint that is only the key's id":     {from("good", "AMI_FACTORY_PARAM_KEY_FINGERPRINT=2784DBF388D19D46"), "parameter keyFingerprint is"},
		"a family that has no package of it":          {from("good", "AMI_FACTORY_FAMILY=plan9"), "family 'plan9' has no package of the agent"},
		"an address that nothing answers, by default": {from("good", "AMI_FACTORY_PARAM_MIRROR="), "cannot fetch https://amazon-ssm-eu-west-1.s3.eu-west-1.amazonaws.com/"},
	}
	for sentence, c := range refused {
		t.Run("refused is "+sentence, func(t *testing.T) {
			text, code := g.ssmAgent(t, c.environment...)
			assert.NotZero(t, code, text)
			assert.Contains(t, text, c.says)
			_, code = g.run(t, "dpkg-query -W amazon-ssm-agent || test -e /usr/bin/amazon-ssm-agent")
			assert.NotZero(t, code, "nothing is installed")
		})
	}
	require.False(t, t.Failed())

	v := vendors["good"]
	both := vendors["expired"].KeyFingerprint + " " + v.KeyFingerprint
	text, code := g.ssmAgent(t, from("good", "AMI_FACTORY_PARAM_KEY_URL=http://changing.localcloud.internal"+v.KeyPath, "AMI_FACTORY_PARAM_KEY_FINGERPRINT='"+both+"'")...)
	require.Zero(t, code, text)
	assert.Contains(t, text, "installed version "+v.Version+", signed by "+v.KeyFingerprint)
	assert.Equal(t, "enabled\nactive", g.output(t, "systemctl is-enabled amazon-ssm-agent.service; systemctl is-active amazon-ssm-agent.service"))
	text, code = g.ssmAgent(t, from("good")...)
	require.Zero(t, code, text)
	assert.Equal(t, "ami-factory: ssm-agent: the image has version "+v.Version+", which is kept", text, "a second run fetches nothing")
	text, code = g.ssmAgent(t, from("good", "AMI_FACTORY_PARAM_MINIMUM=3.3.5000.0", "AMI_FACTORY_PARAM_VERSION="+v.Versions[2])...)
	require.Zero(t, code, text)
	assert.Contains(t, text, "installed version "+v.Versions[2], "one that is too old is upgraded")

	component := "cd /root/ssm-agent && AMI_FACTORY_COMPONENT=ssm-agent AMI_FACTORY_LIB=/root/lib " + strings.Join(from("good"), " ") + " bash install.sh"
	g.output(t, component)
	assert.Contains(t, g.output(t, component), "ssm-agent: 0 changes", "a second run")

	t.Run("the first part of the user data reports to the factory, and powers off", func(t *testing.T) {
		text, code := g.ssmAgent(t, from("tampered", "AMI_FACTORY_FIRST_PART=1", "AMI_FACTORY_PARAM_MINIMUM=3.3.9000.0", "AMI_FACTORY_PARAM_VERSION=3.3.9999.0")...)
		assert.NotZero(t, code, text)
		assert.Contains(t, g.output(t, "cat /run/systemd/shutdown/scheduled; shutdown -c"), "MODE=poweroff")
		var verdict struct {
			Status string
			Failed struct{ Component, Command string }
		}
		g.json(t, "/var/lib/ami-factory/provision.json", &verdict)
		assert.Equal(t, "failed", verdict.Status)
		assert.Equal(t, "ssm-agent", verdict.Failed.Component)
		assert.Contains(t, verdict.Failed.Command, "cannot fetch http://tampered.localcloud.internal")
		g.output(t, "test -e /var/lib/ami-factory/stopped && rm /var/lib/ami-factory/stopped /var/lib/ami-factory/provision.json")
	})

	t.Run("controls hold on the next boot and fail when broken", func(t *testing.T) {
		g.output(t, "mkdir -p /etc/ami-factory && find /var/lib/amazon/ssm /var/log/amazon -mindepth 1 -delete && echo '{}' >/etc/ami-factory/sealed.json")
		g.reboot(t)
		var ids []string
		for _, c := range g.checker(t, "ssm-agent") {
			ids = append(ids, c.ID)
		}
		assert.Equal(t, len(ids), breaks.Each(t, ids, g.run, g.failing))
	})
}
