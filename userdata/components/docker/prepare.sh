#!/bin/bash
# Adds Docker's own repository for the engine docker-ce.
set -euo pipefail
. "$AMI_FACTORY_LIB/lib.sh"

if [[ ${AMI_FACTORY_PARAM_ENGINE:-distribution} != docker-ce ]]; then exit 0; fi
case $AMI_FACTORY_FAMILY in
debian-12) suite=bookworm ;;
debian-13) suite=trixie ;;
ubuntu-22.04) suite=jammy ;;
ubuntu-24.04) suite=noble ;;
*) fail "Docker has no packages of docker-ce for $AMI_FACTORY_FAMILY; allowed there: engine distribution" ;;
esac
for name in VERSION CONTAINERD_VERSION; do
	variable=AMI_FACTORY_PARAM_$name
	[[ -n ${!variable:-} ]] || fail "engine docker-ce needs the parameters version and containerdVersion, so that no newer release is installed unnoticed"
done
repository=${AMI_FACTORY_PARAM_REPOSITORY%/}/${AMI_FACTORY_FAMILY%%-*}
repository docker "$repository" "$suite" stable "${AMI_FACTORY_PARAM_KEY_URL:-$repository/gpg}" \
	"$AMI_FACTORY_PARAM_KEY_FINGERPRINT" docker-ce docker-ce-cli containerd.io docker-compose-plugin
summary
