#!/bin/bash
# Installs the New Relic infrastructure agent without running it. Its package
# starts the service; the lock that agents.sh lays down first makes that start a
# step that is skipped. The configuration file in the image is a placeholder:
# the license key comes by the environment, at boot. A second run changes
# nothing.
set -euo pipefail
. "$AMI_FACTORY_LIB/lib.sh"
. "$AMI_FACTORY_LIB/agents/agents.sh"

uri=https://download.newrelic.com/infrastructure_agent/linux/apt
if [[ $AMI_FACTORY_FAMILY == al2023 ]]; then
	# shellcheck disable=SC2016 # dnf replaces it
	uri='https://download.newrelic.com/infrastructure_agent/linux/yum/amazonlinux/2023/$basearch'
fi

agent_lock newrelic-infra newrelic-infra.service
# Before the package, which then keeps it.
put 600 files/newrelic-infra.yml /etc/newrelic-infra.yml
agent_repository newrelic-infra "$uri" newrelic-infra
agent_ready newrelic-infra newrelic-infra.service newrelic-infra \
	"COLLECTOR_URL=${AMI_FACTORY_PARAM_COLLECTOR_URL:-}" "LOG_LEVEL=${AMI_FACTORY_PARAM_LOG_LEVEL:-info}"
summary
