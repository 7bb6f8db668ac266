#!/bin/bash
# service-create NAME makes the directories of a service, or corrects them:
#
#	SERVICES/NAME/bin, conf, releases, current -> releases/…
#	LOGS/NAME, STATE/NAME
set -euo pipefail
# shellcheck source=/dev/null
. "${AMI_FACTORY_FILESYSTEM:-/etc/ami-factory/filesystem.env}"

name=${1:-}
if [[ $# -ne 1 || ! $name =~ ^[a-z][a-z0-9-]{0,39}$ ]]; then
	printf "service-create: '%s' cannot be the name of a service; allowed: lower-case letters, digits and hyphens, beginning with a letter, at most 40\n" "$*" >&2
	exit 64
fi
home=$SERVICES/$name
install -d -m 755 -o root -g root "$home" "$home/bin" "$home/releases"
# Settings may hold what not everybody shall read.
install -d -m 750 -o root -g "$SERVICE_GROUP" "$home/conf"
install -d -m 750 -o "$SERVICE_USER" -g "$SERVICE_GROUP" "$LOGS/$name" "$STATE/$name"
if [[ ! -L $home/current ]]; then
	install -d -m 755 -o root -g root "$home/releases/none"
	ln -s releases/none "$home/current"
fi
