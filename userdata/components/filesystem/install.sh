#!/bin/bash
# Lays down the reference architecture of services. A second run changes nothing.
set -euo pipefail
. "$AMI_FACTORY_LIB/lib.sh"

user=${AMI_FACTORY_PARAM_USER:-svc}
group=${AMI_FACTORY_PARAM_GROUP:-svc}
uid=${AMI_FACTORY_PARAM_UID:-950}
services=${AMI_FACTORY_PARAM_SERVICES:-/opt/services}
logs=${AMI_FACTORY_PARAM_LOGS:-/var/log/services}
state=${AMI_FACTORY_PARAM_STATE:-/var/lib/services}
read -ra registries <<<"${AMI_FACTORY_PARAM_REGISTRIES:-}"

refuse_parameters() {
	local name value
	for name in user group; do
		value=${!name}
		[[ $value =~ ^[a-z][a-z0-9-]{0,30}$ && $value != root ]] || fail "parameter $name is '$value'; allowed: lower-case letters, digits and hyphens, beginning with a letter, and not root"
	done
	[[ $uid =~ ^[1-9][0-9]{2,4}$ ]] || fail "parameter uid is '$uid'; allowed: 100 to 99999"
	for name in services logs state; do
		value=${!name}
		[[ $value =~ ^(/[a-z0-9][a-z0-9_-]*){2,}$ ]] || fail "parameter $name is '$value'; allowed: an absolute path of at least two names in lower-case letters, digits, _ and -"
	done
	for value in "${registries[@]}"; do
		[[ $value =~ ^[a-z0-9.-]+(:[0-9]+)?(/[a-z0-9._-]+)*$ ]] || fail "parameter registries has '$value'; allowed: a host with or without port and the beginning of a path"
	done
}

accounts() {
	local other
	if ! getent group "$group" >/dev/null; then
		groupadd --system --gid "$uid" "$group"
		changed "group $group"
	fi
	other=$(getent passwd "$uid" | cut -d: -f1) || other=""
	[[ -z $other || $other == "$user" ]] || fail "the number $uid of parameter uid is that of the user $other"
	if ! getent passwd "$user" >/dev/null; then
		useradd --system --uid "$uid" --gid "$group" --home-dir /nonexistent --no-create-home --shell "$(command -v nologin)" "$user"
		changed "user $user"
	fi
}

# rendered FILE prints it with the parameters put in.
rendered() {
	sed -e "s|@USER@|$user|g" -e "s|@GROUP@|$group|g" -e "s|@SERVICES@|$services|g" -e "s|@LOGS@|$logs|g" -e "s|@STATE@|$state|g" \
		-e "s|@REGISTRIES@|${registries[*]}|g" "$1"
}

logrotate_accepts() { logrotate --debug "$1" >/dev/null 2>&1; }

refuse_parameters
accounts
directory 755 root:root "$services"
directory 755 root:root "$logs"
directory 755 root:root "$state"
rendered files/filesystem.env | put 644 /dev/stdin /etc/ami-factory/filesystem.env
put 755 files/service-run.sh /usr/lib/ami-factory/service-run
put 755 files/service-create.sh /usr/lib/ami-factory/service-create
before=$changes
rendered files/service@.service | put 644 /dev/stdin /etc/systemd/system/service@.service
if booted && ((changes > before)); then systemctl daemon-reload; fi
rendered files/logrotate | put 644 /dev/stdin /etc/logrotate.d/services logrotate_accepts
summary
