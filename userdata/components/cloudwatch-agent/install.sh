#!/bin/bash
# Sets up the Amazon CloudWatch agent, whose package is installed, without running
# it. A second run changes nothing.
set -euo pipefail
. "$AMI_FACTORY_LIB/lib.sh"
. "$AMI_FACTORY_LIB/agents/agents.sh"

package=amazon-cloudwatch-agent
signed_by="the distribution's key"
if [[ -n ${AMI_FACTORY_PARAM_REPOSITORY:-} ]]; then
	signed_by=${AMI_FACTORY_PARAM_KEY_FINGERPRINT:-}
elif [[ $AMI_FACTORY_FAMILY != al2023 ]]; then
	signed_by=$(needed KEY_FINGERPRINT "$fingerprints")
fi
agent_ready cloudwatch-agent $package.service $package "CONFIG_PARAMETER=${AMI_FACTORY_PARAM_CONFIG_PARAMETER:-}" "SIGNED_BY=$signed_by"
summary
