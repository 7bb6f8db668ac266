#!/bin/bash
# Adds New Relic's repository. What keeps the agent from starting, and its
# settings, are there before the package.
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
summary
