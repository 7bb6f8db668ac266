package spec_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/userdata/spec"
)

// Texts that people write are not refused for words in them that look like a
// secret, and what is a secret stays refused.
func TestSecretsAreToldFromWhatNamesThem(t *testing.T) {
	for sentence, tc := range map[string]struct{ text, says string }{
		"a variable as the password of an address":      {`url=postgres://app:${DB_PASSWORD}@db:5432/app`, ""},
		"a variable without braces":                     {`url=postgres://app:$DB_PASSWORD@db/app`, ""},
		"a variable that must be set":                   {`url=postgres://app:${DB_PASSWORD:?is not set}@db/app`, ""},
		"the output of a command":                       {`url=postgres://app:$(cat /run/secrets/db)@db/app`, ""},
		"a field of a template":                         {`url: amqp://app:{{password}}@mq/`, ""},
		"a field of a format":                           {`f"mysql+pymysql://{user}:{password}@{host}/x"`, ""},
		"a place for a password in a page":              {`see https://USER:<password>@example.com/`, ""},
		"a masked password":                             {`redis://:****@cache/0`, ""},
		"an address without a password":                 {`https://example.com:8443/a@b`, ""},
		"a password of an address":                      {`url=postgres://app:hunter2@db/app`, "an address with a password"},
		"a password without a user":                     {`redis://:hunter2@cache/0`, "an address with a password"},
		"a password as the default of a variable":       {`url=postgres://app:${DB_PASSWORD:-hunter2}@db/app`, "an address with a password"},
		"a password beside a variable":                  {`url=postgres://app:${PREFIX}hunter2@db/app`, "an address with a password"},
		"a variable as a value":                         {`DB_PASSWORD="${DB_PASSWORD}"`, ""},
		"a command as a value":                          {`db_password=$(/usr/lib/ami-factory/read-secret --secret-id web/db --output /run/x)`, ""},
		"a file as a value":                             {`password = /run/secrets/db/password`, ""},
		"a lookup in a program":                         {`password = os.environ["DB_PASSWORD"]`, ""},
		"another lookup in a program":                   {`apiKey: process.env.EXAMPLE_API_KEY`, ""},
		"the ARN of a secret":                           {`db_password: arn:aws:secretsmanager:eu-west-1:111122223333:secret:db-AbCdEf`, ""},
		"a setting whose name has password in it":       {`password_encryption = scram-sha-256`, ""},
		"a value that is a password":                    {`db_password = hunter2hunter2`, "a password or key"},
		"a password in quotes":                          {`"auth_token": "d41d8cd98f00b204"`, "a password or key"},
		"a default that must be set, told why":          {`mysql -p"${DB_PASSWORD:?is_not_set_in_the_environment}"`, ""},
		"a default that is a password, in a call":       {`mysql -p"${DB_PASSWORD:-hunter2hunter2}"`, "a password or key"},
		"a default that is a password":                  {`DB_PASSWORD=${DB_PASSWORD:-hunter2hunter2}`, "a password or key"},
		"a password with a variable after it":           {`password=hunter2hunter2$SUFFIX`, "a password or key"},
		"a token, whatever is around it":                {`https://${USER}:ghp_abcdefghijklmnopqrstuvwxyz0123456789@github.com`, "a token"},
		"who has an account is read":                    {`getent passwd deploy`, ""},
		"who has an account is read, after a condition": {`if ! getent passwd deploy >/dev/null; then echo none; fi`, ""},
		"the file of accounts is read":                  {`grep ^deploy: /etc/passwd root`, ""},
		"a group is given, and something else has -p":   {`usermod -aG web deploy; mkdir -p /srv/web`, ""},
		"somebody is given a password":                  {`echo x | passwd --stdin deploy`, "a password: nobody has a password"},
		"somebody is given one with sudo":               {`sudo -n passwd deploy`, "a password: nobody has a password"},
		"somebody is given one in a condition":          {`if true; then passwd deploy; fi`, "a password: nobody has a password"},
		"somebody is given one by another shell":        {`bash -c 'passwd deploy'`, "a password: nobody has a password"},
		"somebody is given one by its path":             {`/usr/bin/passwd -q deploy`, "a password: nobody has a password"},
		"somebody is given one by usermod":              {`true && usermod -p x deploy`, "a password: nobody has a password"},
	} {
		t.Run(sentence, func(t *testing.T) {
			text := head + "commands:\n  - name: a\n    script: |\n      " + tc.text + "\n"
			_, problems := parse(t, text)
			if tc.says == "" {
				assert.Empty(t, problems)
				return
			}
			require.NotEmpty(t, problems)
			assert.Contains(t, problems[0].Message, tc.says)
		})
	}
}

func TestNamesOfWordsAreNoSecrets(t *testing.T) {
	for value, secret := range map[string]bool{
		"production-web-service-frontend-eu-west-1":          false,
		"/etc/amazon/cloudwatch/production/configuration/v2": false,
		"0123456789abcdef0123456789abcdef01234567":           true,
		"d9428888-122b-11e1-b85c-61cd3cbb3210":               true,
		"abcdefghijklmnopqrstuvwxyzabcdefghijkl":             true,
		"QWxhZGRpbjpvcGVuIHNlc2FtZQQWxhZGRpbjpvcGVu==":       true,
	} {
		_, problems := parse(t, head+"agents: {newrelic-infra: {DISPLAY_NAME: "+value+"}}\n")
		if secret {
			require.Len(t, problems, 1, value)
			assert.Contains(t, problems[0].Message, "looks like a secret in clear")
		} else {
			assert.Empty(t, problems, value)
		}
	}
}

func TestASudoRuleThatAsksForAPasswordIsRefused(t *testing.T) {
	for rule, allowed := range map[string]string{
		"ALL=(root) /usr/bin/systemctl restart web": "ALL=(root) NOPASSWD: /usr/bin/systemctl restart web",
		"ALL=(ALL) ALL":                                              "ALL=(ALL) NOPASSWD: ALL",
		"ALL=(root) PASSWD: /usr/bin/id":                             "ALL=(root) NOPASSWD: /usr/bin/id",
		"ALL=(root) NOPASSWD: PASSWD: /usr/bin/id":                   "ALL=(root) NOPASSWD: /usr/bin/id",
		"ALL=(root) NOEXEC: /usr/bin/id, /usr/bin/uptime":            "ALL=(root) NOPASSWD: NOEXEC: /usr/bin/id, /usr/bin/uptime",
		"ALL=(root) NOPASSWD: /usr/bin/id":                           "",
		"ALL=(jane.doe:web) NOEXEC: NOPASSWD: /usr/bin/id":           "",
		"ALL=(root) PASSWD: NOPASSWD: /usr/bin/id, /usr/bin/uptime1": "",
	} {
		text := head + "users:\n  - name: jane.doe\n    sudo: [{rule: '" + rule + "'}]\n"
		_, problems := parse(t, text)
		if allowed == "" {
			assert.Empty(t, problems, rule)
			continue
		}
		found(t, text, problems, []what{{"'" + rule, "sudo would ask user jane.doe for a password, and no user has one"}})
		assert.Contains(t, problems[0].Allowed, strings.TrimSpace(allowed), rule)
	}
}

// The kubelet's own list: https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#noderestriction
func TestLabelsThatTheKubeletRefusesAreRefused(t *testing.T) {
	node := func(label string) string {
		return "kind: UserData\nname: node\ntarget: bottlerocket\nbottlerocket:\n  kubernetes: {clusterName: a, apiServer: https://a, clusterCertificate: YWFhYWFhYWFhYWFh, nodeLabels: {" + label + ": x}}\n"
	}
	for _, label := range []string{
		"node-role.kubernetes.io/worker", "kubernetes.io/role", "k8s.io/x", "node-restriction.kubernetes.io/x", "autoscaling.k8s.io/x",
		"kubernetes.io/Os", "topology.kubernetes.io/rack", "example.node-restriction.kubernetes.io/x",
	} {
		_, problems := parse(t, node(label))
		found(t, node(label), problems, []what{{label, "the kubelet refuses label " + label}})
	}
	for _, label := range []string{
		"role", "example.com/role", "eks.amazonaws.com/nodegroup", "karpenter.sh/x", "mykubernetes.io/x",
		"kubernetes.io/hostname", "kubernetes.io/os", "topology.kubernetes.io/zone", "node.kubernetes.io/instance-type", "node.kubernetes.io/role",
		"kubelet.kubernetes.io/x", "team.node.kubernetes.io/x", "beta.kubernetes.io/arch",
	} {
		_, problems := parse(t, node(label))
		assert.Empty(t, problems, label)
	}
}

// somebodyElse is a good key of another organisation.
const somebodyElse = `-----BEGIN PGP PUBLIC KEY BLOCK-----

mDMEawXbGRYJKwYBBAHaRw8BAQdA6SnzImURPnX/4EmokhOgaqckpHEL3qEThE6X
PF7B1wS0H1NvbWVvbmUgZWxzZSA8ZWxzZUBleGFtcGxlLmNvbT6IkAQTFggAOBYh
BApBiws4Q3Mk3mv2r+RLYzEHztpxBQJrBdsZAhsDBQsJCAcCBhUKCQgLAgQWAgMB
Ah4BAheAAAoJEORLYzEHztpxYXIA/1NFlmFXf0/HTQLtf33b8Q/NR1PKxFoVBkRU
i3Zt0itvAQC1i/EU3XIM5bra08yBbCD7NWI2ZIB2SSfPnXfufzCZDQ==
=s2oq
-----END PGP PUBLIC KEY BLOCK-----
`

const (
	packagesKey = "699A8B45A9768295A7A8832EE8DE369060CB80FD"
	elsesKey    = "0A418B0B38437324DE6BF6AFE44B633107CEDA71"
)

func TestARepositoryMayHaveSeveralKeysWhenAllAreListed(t *testing.T) {
	good := example(t, "web-service.yaml")
	const last = "      =9LNL\n      -----END PGP PUBLIC KEY BLOCK-----\n"
	require.Contains(t, good, last)
	two := strings.Replace(good, last, last+indented(somebodyElse), 1)
	listed := func(list string) string {
		return strings.Replace(two, "fingerprint: "+packagesKey, list, 1)
	}
	for sentence, tc := range map[string]struct {
		text string
		says string
	}{
		"both are listed":                   {listed("fingerprints: [" + packagesKey + ", " + elsesKey + "]"), ""},
		"both are listed in another order":  {listed("fingerprints: [" + elsesKey + ", " + packagesKey + "]"), ""},
		"a list of one key":                 {strings.Replace(good, "fingerprint: "+packagesKey, "fingerprints: ["+packagesKey+"]", 1), ""},
		"one is not listed":                 {two, elsesKey + " is not listed"},
		"the other is not listed":           {listed("fingerprint: " + elsesKey), packagesKey + " is not listed"},
		"one that is listed is not there":   {strings.Replace(good, "fingerprint: "+packagesKey, "fingerprints: ["+packagesKey+", "+elsesKey+"]", 1), "has another fingerprint"},
		"one is listed twice":               {listed("fingerprints: [" + packagesKey + ", " + elsesKey + ", " + elsesKey + "]"), "listed twice"},
		"both fields":                       {listed("fingerprint: " + packagesKey + "\n    fingerprints: [" + packagesKey + ", " + elsesKey + "]"), "needs either fingerprint or fingerprints"},
		"text between the blocks":           {strings.Replace(listed("fingerprints: ["+packagesKey+", "+elsesKey+"]"), last, last+"      and\n", 1), "text that is not another block"},
		"a first line with a space after":   {strings.Replace(listed("fingerprints: ["+packagesKey+", "+elsesKey+"]"), last+"      "+beginKey, last+"      "+beginKey+" ", 1), "text that is not another block"},
		"a last line with something after":  {strings.Replace(good, last, "      =9LNL\n      -----END PGP PUBLIC KEY BLOCK----- x\n", 1), "there is more text in the line"},
		"a block that begins in another":    {strings.Replace(good, "      =9LNL\n", "      =9LNL\n      "+beginKey+"\n", 1), "a block begins inside another one"},
		"a second key within the one block": {listed("fingerprints: [" + packagesKey + "]"), "is not listed"},
	} {
		t.Run(sentence, func(t *testing.T) {
			s, problems := parse(t, tc.text)
			if tc.says != "" {
				require.NotEmpty(t, problems)
				assert.Contains(t, problems[0].Message, tc.says)
				return
			}
			require.Empty(t, problems)
			keys, err := s.Repositories[0].Keys()
			require.NoError(t, err)
			assert.Equal(t, len(s.Repositories[0].Fingerprints), len(keys.Fingerprints))
		})
	}
}

const beginKey = "-----BEGIN PGP PUBLIC KEY BLOCK-----"

func indented(text string) string {
	return "      " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n      ") + "\n"
}

// What a first boot is given is read by gpg, which must find the same keys.
func TestGPGFindsTheSameKeysInWhatIsWritten(t *testing.T) {
	gpg, err := exec.LookPath("gpg")
	if err != nil {
		t.Skip("gpg is not installed (Debian package gpg)")
	}
	web := example(t, "web-service.yaml")
	s, _ := parse(t, web)
	keys, err := spec.ReadKeys(s.Repositories[0].Key + somebodyElse)
	require.NoError(t, err)
	assert.Equal(t, []string{packagesKey, elsesKey}, keys.Fingerprints)
	assert.Equal(t, 1, strings.Count(keys.Armoured, beginKey), "apt reads the first block only")
	command := exec.CommandContext(t.Context(), gpg, "--batch", "--no-default-keyring", "--show-keys", "--with-colons")
	command.Env = append(os.Environ(), "GNUPGHOME="+t.TempDir())
	command.Stdin = strings.NewReader(keys.Armoured)
	output, err := command.Output()
	require.NoError(t, err)
	var found []string
	for line := range strings.Lines(string(output)) {
		if fields := strings.Split(line, ":"); fields[0] == "fpr" {
			found = append(found, fields[9])
		}
	}
	assert.Equal(t, keys.Fingerprints, found)
}

func TestNamesThatEveryDistributionTakes(t *testing.T) {
	for _, name := range []string{"jane.doe", "j", "_svc", "a-b_c.d1"} {
		_, problems := parse(t, head+"users: [{name: "+name+", groups: [team.web]}]\nfiles: [{path: /srv/x, content: x, owner: '"+name+":team.web'}]\n")
		assert.Empty(t, problems, name)
	}
	for _, name := range []string{"jane.", ".jane", "-jane", "JANE", "Jane", "1jane", "jane doe", "jane:x", "'42'"} {
		text := head + "users: [{name: " + name + "}]\n"
		_, problems := parse(t, text)
		require.NotEmpty(t, problems, name)
		assert.Contains(t, problems[0].Message, "does not have the required form", name)
	}
}
