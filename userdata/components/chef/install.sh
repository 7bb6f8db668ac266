#!/bin/bash
# Sets up the Chef Infra or Cinc client, whose package is installed, without
# registering it. It has no unit of
# its own: ami-factory-chef.service runs the client once, ami-factory-chef.timer
# every half hour, with a splay that is each instance's own. A second run changes
# nothing.
set -euo pipefail
. "$AMI_FACTORY_LIB/lib.sh"
. "$AMI_FACTORY_LIB/agents/agents.sh"

distribution=${AMI_FACTORY_PARAM_DISTRIBUTION:-chef}
directory 755 root:root "/etc/$distribution"
agent_ready chef ami-factory-chef.service "$distribution" "DISTRIBUTION=$distribution" \
	"SERVER_URL=${AMI_FACTORY_PARAM_SERVER_URL:-}" "ORGANISATION=${AMI_FACTORY_PARAM_ORGANISATION:-}" \
	"POLICY_NAME=${AMI_FACTORY_PARAM_POLICY_NAME:-}" "POLICY_GROUP=${AMI_FACTORY_PARAM_POLICY_GROUP:-}"
summary
