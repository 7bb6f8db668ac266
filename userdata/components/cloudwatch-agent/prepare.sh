#!/bin/bash
# Readies the Amazon CloudWatch agent's package: on Debian and Ubuntu the .deb that
# AWS publishes with a detached signature, or a repository of your own; on Amazon
# Linux it is the distribution's, which its own key signs. What keeps the agent
# from starting is there before the package.
set -euo pipefail
. "$AMI_FACTORY_LIB/lib.sh"
. "$AMI_FACTORY_LIB/agents/agents.sh"

package=amazon-cloudwatch-agent
version=$(needed VERSION '[A-Za-z0-9.+:~_-]+')

# package_url prints where AWS has the .deb of a version, which its folder names
# without the packaging's revision.
package_url() {
	local folder=debian
	if [[ $AMI_FACTORY_FAMILY == ubuntu-* ]]; then folder=ubuntu; fi
	printf 'https://amazoncloudwatch-agent.s3.amazonaws.com/%s/%s/%s/%s.deb\n' \
		"$folder" "$(dpkg --print-architecture)" "${version%-*}" "$package"
}

agent_lock cloudwatch-agent $package.service
if [[ -n ${AMI_FACTORY_PARAM_REPOSITORY:-} ]]; then
	agent_repository cloudwatch-agent '' $package
elif [[ $AMI_FACTORY_FAMILY != al2023 ]]; then
	url=$(parameter PACKAGE_URL 'https?://[^ ]+')
	key=$(needed KEY_URL 'https?://[^ ]+')
	agent_signed_package $package "$version" "${url:-$(package_url)}" "$key" "$(needed KEY_FINGERPRINT "$fingerprints")"
fi
summary
