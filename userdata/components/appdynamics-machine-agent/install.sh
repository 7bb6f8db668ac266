#!/bin/bash
# Sets up the AppDynamics machine agent, whose package is installed, without running it. Its
# controller-info.xml stays as the package brings it, without a key: variables of
# the environment, written at boot, come before it. A second run changes nothing.
set -euo pipefail
. "$AMI_FACTORY_LIB/lib.sh"
. "$AMI_FACTORY_LIB/agents/agents.sh"

name=appdynamics-machine-agent
agent_ready $name $name.service $name "CONTROLLER_HOST=${AMI_FACTORY_PARAM_CONTROLLER_HOST:-}" \
	"CONTROLLER_PORT=${AMI_FACTORY_PARAM_CONTROLLER_PORT:-443}" "ACCOUNT=${AMI_FACTORY_PARAM_ACCOUNT:-}"
summary
