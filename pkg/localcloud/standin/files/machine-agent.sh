#!/bin/sh
# Stand-in for the AppDynamics machine agent: it starts only with a controller
# and an access key, keeps its identity, notes that it started, and waits.
# Variables come before controller-info.xml.
set -eu
home=${MACHINE_AGENT_HOME:-/opt/appdynamics/machine-agent}
setting() { sed -n "s,.*<$1>\\(.*\\)</$1>.*,\\1,p" "$home/conf/controller-info.xml"; }
controller=${APPDYNAMICS_CONTROLLER_HOST_NAME:-$(setting controller-host)}
account=${APPDYNAMICS_AGENT_ACCOUNT_NAME:-$(setting account-name)}
key=${APPDYNAMICS_AGENT_ACCOUNT_ACCESS_KEY:-$(setting account-access-key)}
identity=${APPDYNAMICS_AGENT_UNIQUE_HOST_ID:-$(setting unique-host-id)}
if [ -z "$controller" ] || [ -z "$account" ] || [ -z "$key" ]; then
	echo 'machine-agent (stand-in): controller-host, account-name and account-access-key are needed' >&2
	exit 1
fi
identity=${identity:-$(cat /etc/machine-id)}
data=$home/data
mkdir -p "$data"
printf '%s\n' "$identity" >"$data/identity"
# The digest tells which key it was, and does not tell the key.
printf '{"agent":"appdynamics-machine-agent","version":"@VERSION@","identity":"%s","controller":"%s","keySHA256":"%s","started":"%s"}\n' \
	"$identity" "$controller" "$(printf %s "$key" | sha256sum | cut -d' ' -f1)" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" >>"$data/started.jsonl"
echo "machine-agent (stand-in): started as $identity"
unset key APPDYNAMICS_AGENT_ACCOUNT_ACCESS_KEY
exec sleep infinity
