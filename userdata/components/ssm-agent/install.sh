#!/bin/bash
# Makes sure of what the first part of the user data did, and that instances start
# the agent. What identity the agent got in the builder, the seal removes. A second
# run changes nothing.
set -euo pipefail
. "$AMI_FACTORY_LIB/lib.sh"

bash bootstrap.sh
if command -v snap >/dev/null && snap list amazon-ssm-agent >/dev/null 2>&1; then
	unit=snap.amazon-ssm-agent.amazon-ssm-agent.service
	have=$(snap list amazon-ssm-agent | awk 'NR == 2 { print $2 }')
else
	unit=amazon-ssm-agent.service
	have=$(installed_version amazon-ssm-agent)
fi
before=$changes
put 644 files/logs.conf "/etc/systemd/system/$unit.d/ami-factory.conf"
# The running agent, which may be carrying out this command, is left alone.
if booted && ((changes > before)); then systemctl daemon-reload; fi
enable "$unit"
put 644 /dev/stdin /usr/lib/ami-factory/ssm-agent.json <<<"{\"unit\": \"$unit\", \"version\": \"$have\", \"minimum\": \"$AMI_FACTORY_PARAM_MINIMUM\"}"
summary
