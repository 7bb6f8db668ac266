//go:build linux

package userdata_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The programs of families that no guest here has, and of an engine that cannot
// be reached: they note their calls, and remember what was installed.
var stand = map[string]string{
	"apt-get": `echo "apt-get $*" >>/calls; if [[ $* == *" install "* ]]; then for p in ${*#* install }; do echo "$p" >>/installed; done; fi`,
	"dpkg-query": `name=${!#}; line=$(grep -E "^$name(=|$)" /installed) || exit 1
version=${line#*=}; [[ $line == *=* ]] || version=1; printf 'ii %s\n' "$version"`,
	"dnf": `echo "dnf $*" >>/calls; if [[ $* == *" install "* ]]; then for p in ${*#* install }; do echo "$p" >>/installed; done; fi`,
	"rpm": `name=${!#}; if grep -qx "$name" /installed; then echo 1-1; else echo "package $name is not installed"; exit 1; fi`,
	"systemctl": `case $1 in is-active | is-enabled) exit 0 ;; esac
echo "systemctl $*" >>/calls`,
	"docker": `case $1 in info) echo "docker: engine 0, storage ${STAND_STORE:-none}" ;; *) echo "docker $*" >>/calls ;; esac`,
	"curl":   `cat /etc/apt/trusted.gpg.d/debian-archive-bookworm-stable.asc >"${@:$#-1:1}"; echo "curl ${!#}" >>/calls`,
}

func TestDockerOfFamiliesWithoutAGuest(t *testing.T) {
	g := bootGuest(t)
	g.install(t, "  - {name: docker}\n")
	for name, body := range stand {
		g.write(t, "/stand/"+name, 0o755, []byte("#!/bin/bash\n"+body+"\n"))
	}
	fingerprint := g.output(t, "python3 -I /var/lib/ami-factory/bundle/lib/key-fingerprints.py /etc/apt/trusted.gpg.d/debian-archive-bookworm-stable.asc")
	// run sets up with the programs above in front of the guest's own.
	run := func(t *testing.T, family, parameters string) (string, int) {
		t.Helper()
		return g.run(t, "cd /var/lib/ami-factory/bundle/components/docker && export PATH=/stand:$PATH AMI_FACTORY_COMPONENT=docker AMI_FACTORY_FAMILY="+family+
			" AMI_FACTORY_LIB=/var/lib/ami-factory/bundle/lib "+parameters+" && bash prepare.sh && bash install.sh")
	}
	const ce = "AMI_FACTORY_PARAM_ENGINE=docker-ce AMI_FACTORY_PARAM_VERSION=5:28.5.1-1 AMI_FACTORY_PARAM_CONTAINERD_VERSION=1.7.28-1 " +
		"AMI_FACTORY_PARAM_REPOSITORY=https://mirror.example.com/linux "
	cases := map[string]struct {
		family, parameters string
		want               []string // calls
	}{
		"Amazon Linux 2023": {
			"al2023", "AMI_FACTORY_PARAM_ECR_REGISTRIES=123456789012.dkr.ecr.eu-west-1.amazonaws.com",
			[]string{"systemctl start docker.service"},
		},
		"docker-ce, from a repository with a pinned key": {
			"ubuntu-22.04", ce + "AMI_FACTORY_PARAM_KEY_FINGERPRINT=" + fingerprint,
			[]string{
				"curl https://mirror.example.com/linux/ubuntu/gpg",
				"apt-get -o Dir::Etc::sourcelist=/etc/apt/sources.list.d/ami-factory-docker.sources -o Dir::Etc::sourceparts=- -o APT::Get::List-Cleanup=0 update",
				"systemctl start docker.service",
			},
		},
	}
	for sentence, c := range cases {
		t.Run(sentence, func(t *testing.T) {
			g.output(t, "rm -f /calls /etc/docker/*.json; : >/installed")
			text, code := run(t, c.family, c.parameters)
			require.Zero(t, code, text)
			calls := g.output(t, `sed -E 's/^apt-get .* -o Dir::Etc::sourcelist/apt-get -o Dir::Etc::sourcelist/' /calls`)
			assert.Equal(t, withRestart(c.want), strings.Split(calls, "\n"), text)
			g.output(t, "python3 -m json.tool /etc/docker/daemon.json")
			if strings.Contains(c.parameters, "ECR") {
				assert.Equal(t, `{"credHelpers": {"123456789012.dkr.ecr.eu-west-1.amazonaws.com": "ecr-login"}}`,
					g.output(t, "python3 -c 'import json; print(json.dumps(json.load(open(\"/etc/docker/config.json\"))))'"))
			}
			text, code = run(t, c.family, c.parameters)
			require.Zero(t, code, text)
			assert.NotRegexp(t, "[1-9][0-9]* changes", text, "a second run")
		})
	}
	t.Run("user namespaces and a mirror, as JSON that the daemon reads", func(t *testing.T) {
		text, code := run(t, "al2023", "AMI_FACTORY_PARAM_USERNS_REMAP=true AMI_FACTORY_PARAM_REGISTRY_MIRROR=https://mirror.example.com")
		require.Zero(t, code, text)
		assert.Equal(t, "default ['https://mirror.example.com'] False", g.output(t,
			`python3 -c 'import json; d = json.load(open("/etc/docker/daemon.json")); print(d["userns-remap"], d["registry-mirrors"], d["icc"])'`))
	})
	t.Run("networks of the bridge and of pools, as JSON that the daemon reads", func(t *testing.T) {
		text, code := run(t, "al2023", "AMI_FACTORY_PARAM_BIP=172.26.0.1/24 AMI_FACTORY_PARAM_ADDRESS_POOLS='10.210.0.0/16:24 10.211.0.0/20:28'")
		require.Zero(t, code, text)
		assert.Equal(t, "172.26.0.1/24 [('10.210.0.0/16', 24), ('10.211.0.0/20', 28)]", g.output(t,
			`python3 -c 'import json; d = json.load(open("/etc/docker/daemon.json")); print(d["bip"], [(p["base"], p["size"]) for p in d["default-address-pools"]])'`))
	})
	t.Run("networks in the engine itself", func(t *testing.T) {
		g.install(t, "  - name: docker\n    parameters: {bip: 172.26.0.1/24, addressPools: \"10.210.0.0/16:24\"}\n")
		assert.Equal(t, "172.26.0.0/24", g.output(t, "docker network inspect --format '{{range .IPAM.Config}}{{.Subnet}}{{end}}' bridge"))
		assert.Equal(t, "10.210.0.0/24", g.output(t, "docker network create test >/dev/null && docker network inspect --format '{{range .IPAM.Config}}{{.Subnet}}{{end}}' test; docker network rm test >/dev/null"))
	})
	t.Run("images that the seal would remove are refused", func(t *testing.T) {
		images := "AMI_FACTORY_PARAM_IMAGES=nginx@sha256:" + strings.Repeat("0", 64)
		text, code := run(t, "debian-12", images)
		require.Zero(t, code, text)
		g.output(t, "rm /etc/ami-factory/kept-images")
		text, code = run(t, "debian-12", "STAND_STORE=io.containerd.snapshotter.v1 "+images)
		assert.NotZero(t, code, text)
		assert.Contains(t, text, "which the seal empties")
	})
	refusals := map[string]struct{ family, parameters, reason string }{
		"a key of another fingerprint":               {"debian-12", ce + "AMI_FACTORY_PARAM_KEY_FINGERPRINT=9DC858229FC7DD38854AE2D88D81803C0EBFCD88", "it is not trusted"},
		"docker-ce without a version":                {"debian-12", "AMI_FACTORY_PARAM_ENGINE=docker-ce", "needs the parameters version and containerdVersion"},
		"docker-ce on Amazon Linux":                  {"al2023", ce, "no packages of docker-ce for al2023"},
		"an image by tag":                            {"debian-12", "AMI_FACTORY_PARAM_IMAGES=nginx:1", "a tag may name another image tomorrow"},
		"images with user namespaces":                {"debian-12", "AMI_FACTORY_PARAM_USERNS_REMAP=true AMI_FACTORY_PARAM_IMAGES=nginx@sha256:" + strings.Repeat("0", 64), "cannot go with usernsRemap"},
		"a registry that is not ECR":                 {"debian-12", "AMI_FACTORY_PARAM_ECR_REGISTRIES=evil.example.com", "parameter ecrRegistries has 'evil.example.com'"},
		"a bridge in the metadata service's network": {"debian-12", "AMI_FACTORY_PARAM_BIP=169.254.170.1/24", "overlaps the link-local addresses"},
		"a bridge that is its network's own address": {"debian-12", "AMI_FACTORY_PARAM_BIP=172.26.0.0/24", "network's own address"},
		"a bridge in a pool":                         {"debian-12", "AMI_FACTORY_PARAM_BIP=10.210.3.1/24 AMI_FACTORY_PARAM_ADDRESS_POOLS=10.210.0.0/16:24", "overlaps bip"},
		"a pool that hides metadata":                 {"debian-12", "AMI_FACTORY_PARAM_ADDRESS_POOLS=160.0.0.0/4:24", "overlaps the link-local addresses"},
		"a mirror that would end a string":           {"debian-12", `AMI_FACTORY_PARAM_REGISTRY_MIRROR='https://x/"'`, "parameter registryMirror is"},
	}
	for sentence, c := range refusals {
		t.Run("refused is "+sentence, func(t *testing.T) {
			g.output(t, "rm -f /calls; : >/installed")
			text, code := run(t, c.family, c.parameters)
			assert.NotZero(t, code, text)
			assert.Contains(t, text, c.reason)
			assert.NotContains(t, g.output(t, "cat /calls 2>/dev/null || true"), "install")
		})
	}
}

// withRestart: the guest has dockerd already, so changed settings restart it.
func withRestart(calls []string) []string {
	last := len(calls) - 1
	return append(append([]string{}, calls[:last]...), "systemctl restart docker.service", calls[last])
}
