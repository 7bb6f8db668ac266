#!/bin/sh
# Stand-in for the New Relic infrastructure agent: it starts only with a license
# key, keeps its identity, notes that it started, and waits.
set -eu
if [ "${1:-}" = -version ] || [ "${1:-}" = --version ]; then
	echo "New Relic Infrastructure Agent version: @VERSION@ (stand-in)"
	exit 0
fi
key=${NRIA_LICENSE_KEY:-}
if [ -z "$key" ] && [ -r /etc/newrelic-infra.yml ]; then
	key=$(sed -n 's/^license_key:[[:space:]]*//p' /etc/newrelic-infra.yml | tr -d "\"'")
fi
if [ -z "$key" ]; then
	echo 'newrelic-infra (stand-in): no license key, please add it to the configuration' >&2
	exit 1
fi
identity=${NRIA_OVERRIDE_HOSTNAME:-${NRIA_DISPLAY_NAME:-$(cat /etc/machine-id)}}
data=/var/db/newrelic-infra
mkdir -p $data /var/log/newrelic-infra
printf '%s\n' "$identity" >$data/identity
# The digest tells which key it was, and does not tell the key.
printf '{"agent":"newrelic-infra","version":"@VERSION@","identity":"%s","keySHA256":"%s","started":"%s"}\n' \
	"$identity" "$(printf %s "$key" | sha256sum | cut -d' ' -f1)" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" >>$data/started.jsonl
echo "newrelic-infra (stand-in): started as $identity"
unset key NRIA_LICENSE_KEY
exec sleep infinity
