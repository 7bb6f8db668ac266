#!/bin/bash
# Installs the Amazon CloudWatch agent without running it: on Debian and Ubuntu
# the .deb that AWS publishes with a detached signature, or a repository of your
# own; on Amazon Linux the distribution's package, which its own key signs. A
# second run changes nothing.
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

signed_by="the distribution's key"
agent_lock cloudwatch-agent $package.service
if [[ -n ${AMI_FACTORY_PARAM_REPOSITORY:-} ]]; then
	signed_by=${AMI_FACTORY_PARAM_KEY_FINGERPRINT:-}
	agent_repository cloudwatch-agent '' $package
elif [[ $AMI_FACTORY_FAMILY == al2023 ]]; then
	packages_install "$package=$version"
else
	url=$(parameter PACKAGE_URL 'https?://[^ ]+')
	key=$(needed KEY_URL 'https?://[^ ]+')
	signed_by=$(needed KEY_FINGERPRINT "$fingerprints")
	agent_signed_package $package "$version" "${url:-$(package_url)}" "$key" "$signed_by"
fi
agent_ready cloudwatch-agent $package.service $package "CONFIG_PARAMETER=${AMI_FACTORY_PARAM_CONFIG_PARAMETER:-}" "SIGNED_BY=$signed_by"
summary
