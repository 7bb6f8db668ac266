#!/bin/bash
# Sets up the New Relic infrastructure agent, whose package is installed, without
# running it. The configuration file in the image is a placeholder: the license key
# comes by the environment, at boot. A second run changes nothing.
set -euo pipefail
. "$AMI_FACTORY_LIB/lib.sh"
. "$AMI_FACTORY_LIB/agents/agents.sh"

agent_ready newrelic-infra newrelic-infra.service newrelic-infra \
	"COLLECTOR_URL=${AMI_FACTORY_PARAM_COLLECTOR_URL:-}" "LOG_LEVEL=${AMI_FACTORY_PARAM_LOG_LEVEL:-info}"
summary
