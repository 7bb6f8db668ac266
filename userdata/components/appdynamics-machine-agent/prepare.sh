#!/bin/bash
# Adds the repository with the AppDynamics machine agent. What keeps the agent
# from starting is there before the package.
set -euo pipefail
. "$AMI_FACTORY_LIB/lib.sh"
. "$AMI_FACTORY_LIB/agents/agents.sh"

name=appdynamics-machine-agent
agent_lock $name $name.service
agent_repository $name '' $name
summary
