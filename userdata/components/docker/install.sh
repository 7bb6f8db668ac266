#!/bin/bash
# Installs Docker Engine from the distribution with the daemon's settings in
# place before it starts for the first time. A second run changes nothing.
set -euo pipefail

mirror=${AMI_FACTORY_PARAM_REGISTRY_MIRROR:-}
log_size=${AMI_FACTORY_PARAM_LOG_MAX_SIZE:-10m}
log_files=${AMI_FACTORY_PARAM_LOG_MAX_FILES:-3}

fail() {
	printf 'docker: %s\n' "$*" >&2
	return 1
}

# daemon_json prints /etc/docker/daemon.json.
daemon_json() {
	local mirrors='[]'
	if [[ -n $mirror ]]; then mirrors="[\"$mirror\"]"; fi
	sed -e "s|@MIRRORS@|$mirrors|" -e "s|@LOG_SIZE@|$log_size|" -e "s|@LOG_FILES@|$log_files|" files/daemon.json
}

# apt_get tries again where a mirror is slow to answer or in the middle of an
# update.
apt_get() {
	local try
	for try in 1 2 3; do
		if DEBIAN_FRONTEND=noninteractive apt-get -q -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@"; then
			return
		fi
		printf 'docker: apt-get %s: attempt %d of 3 failed\n' "$1" "$try" >&2
		sleep $((try * 5))
	done
	return 1
}

[[ $log_size =~ ^[1-9][0-9]*[kmg]$ ]] || fail "parameter logMaxSize is '$log_size'; allowed: a number with k, m or g, such as 10m"
[[ $log_files =~ ^[1-9][0-9]*$ ]] || fail "parameter logMaxFiles is '$log_files'; allowed: a number above 0"
[[ -z $mirror || $mirror =~ ^https?://[A-Za-z0-9./:_-]+$ ]] || fail "parameter registryMirror is '$mirror'; allowed: an http or https URL"

restart=no
install -d -m 755 /etc/docker
if ! daemon_json | cmp -s - /etc/docker/daemon.json; then
	daemon_json >/etc/docker/daemon.json.new
	chmod 644 /etc/docker/daemon.json.new
	mv /etc/docker/daemon.json.new /etc/docker/daemon.json
	restart=yes
	echo 'changed: /etc/docker/daemon.json'
fi

if [[ $(dpkg-query -W -f '${db:Status-Status}' docker.io 2>/dev/null) != installed ]]; then
	apt_get update
	apt_get -y --no-install-recommends install docker.io
	restart=no # it has just started, with these settings
	echo 'changed: package docker.io'
fi

if [[ $restart == yes ]]; then
	systemctl restart docker.service
fi

# The daemon is asked now, because a setting it refuses is cheaper to hear of
# here than in the verifier.
systemctl start docker.service
for _ in {1..60}; do
	if docker info --format 'docker: engine {{.ServerVersion}}, storage {{.Driver}}' 2>/dev/null; then
		exit 0
	fi
	sleep 2
done
journalctl --no-pager -u docker.service -n 20 >&2
fail "the daemon does not answer two minutes after its start; its last messages are above"
