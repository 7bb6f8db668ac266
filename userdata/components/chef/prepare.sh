#!/bin/bash
# Adds the repository with the Chef Infra or Cinc client. What keeps the client
# from starting is there before the package.
set -euo pipefail
. "$AMI_FACTORY_LIB/lib.sh"
. "$AMI_FACTORY_LIB/agents/agents.sh"

distribution=${AMI_FACTORY_PARAM_DISTRIBUTION:-chef}
case $distribution in
chef)
	uri=https://packages.chef.io/repos/apt/stable
	if [[ $AMI_FACTORY_FAMILY == al2023 ]]; then
		# shellcheck disable=SC2016 # dnf replaces it
		uri='https://packages.chef.io/repos/yum/stable/amazon/2023/$basearch'
	fi
	[[ ${AMI_FACTORY_PARAM_ACCEPT_CHEF_LICENSE:-false} == true ]] ||
		fail "the distribution chef needs acceptChefLicense: true; cinc needs no licence"
	;;
cinc) uri='' ;;
*) fail "parameter distribution is '$distribution'; allowed: chef, cinc" ;;
esac

sed "s/@DISTRIBUTION@/$distribution/g" files/ami-factory-chef.service | put 644 /dev/stdin /etc/systemd/system/ami-factory-chef.service
put 644 files/ami-factory-chef.timer /etc/systemd/system/ami-factory-chef.timer
drop_in ami-factory-agent@chef.service 50-ami-factory-converge.conf files/converge.conf
agent_lock chef ami-factory-chef.service
agent_repository chef "$uri" "$distribution"
summary
