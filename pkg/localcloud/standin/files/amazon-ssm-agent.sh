#!/bin/sh
# Stand-in for the SSM agent: it keeps an identity and a log, as the agent does,
# and waits. Commands come through the guest agent.
set -eu
if [ "${1:-}" = -version ]; then
	echo "SSM Agent version: @VERSION@"
	exit 0
fi
mkdir -p /var/lib/amazon/ssm/Vault/Store /var/log/amazon/ssm
printf '{"instance-id":"stand-in","machine":"%s"}\n' "$(cat /etc/machine-id)" >/var/lib/amazon/ssm/Vault/Store/EC2RegistrationKey
echo "$(date -u +%Y-%m-%dT%H:%M:%SZ) INFO amazon-ssm-agent (stand-in) v@VERSION@ started" >>/var/log/amazon/ssm/amazon-ssm-agent.log
exec sleep infinity
