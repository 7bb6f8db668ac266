#!/bin/bash
# Makes a builder ready to be sealed: checks that it was provisioned well, stops
# what writes, and installs at-shutdown.sh, which cleans when every process is
# gone. Exit code 0 and one line of JSON say that the next power-off seals.
# It may be run again.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
provision=/var/lib/ami-factory/provision.json
hook=/usr/lib/systemd/system-shutdown/ami-factory-seal
record=/etc/ami-factory

fail() {
	printf 'seal: not armed: %s\n' "$*" >&2
	exit 1
}

# stop_auditd does it without systemctl, which auditd refuses: its unit has
# RefuseManualStop. Where the package brings no action for service(8), as in
# newer releases of the rpm families, auditctl tells the daemon itself.
stop_auditd() {
	if command -v service >/dev/null && service auditd stop >/dev/null 2>&1; then return; fi
	auditctl --signal stop >/dev/null 2>&1 || systemctl kill --kill-whom=main auditd.service
}

((EUID == 0)) || fail "this must run as root"
[[ -s $provision ]] || fail "$provision is missing: the components have not been run to their end"
grep -q '^{"status":"ok",' "$provision" || fail "$provision does not say ok: $(head -c 1000 "$provision")"

if command -v cloud-init >/dev/null; then
	status=$(cloud-init status 2>/dev/null) || true # its exit code differs between versions, its word does not
	[[ $status == *"status: done"* ]] || fail "cloud-init says '${status:-nothing}', not 'status: done'"
fi

# Containers of a component's own tests would keep layers and processes alive.
if systemctl is-active --quiet docker.service; then
	mapfile -t containers < <(docker ps --all --quiet)
	if ((${#containers[@]} > 0)); then
		docker rm --force --volumes "${containers[@]}" >/dev/null
	fi
	# Of the images only those stay that the recipe names, by digest. (A prune
	# would take them too: they have no tag.)
	if [[ -s $record/kept-images ]]; then
		while read -r id digest; do
			if ! grep -qF -- "@$digest" "$record/kept-images"; then docker rmi --force "$id" >/dev/null; fi
		done < <(docker image ls --digests --no-trunc --format '{{.ID}} {{.Digest}}')
	fi
fi
# A socket or path unit would start its service again.
stopped=()
for unit in docker.service docker.socket containerd.service auditd.service rsyslog.service \
	cron.service crond.service atd.service snapd.socket snapd.service unattended-upgrades.service \
	apt-daily.timer apt-daily-upgrade.timer dnf-makecache.timer dnf-automatic.timer dnf-automatic-install.timer \
	update-motd.timer motd-news.timer ua-timer.timer newrelic-infra.service amazon-cloudwatch-agent.service; do
	if systemctl is-active --quiet "$unit"; then
		if [[ $unit == auditd.service ]]; then stop_auditd; else systemctl stop "$unit"; fi
		stopped+=("\"$unit\"")
	fi
done

# The bulk goes now, because the hook has 90 seconds, which are few for a busy
# or emulated machine. It looks at these places again.
if command -v apt-get >/dev/null; then apt-get clean; fi
if command -v dnf >/dev/null; then dnf --quiet clean all >/dev/null; fi
dirs=(/var/lib/apt/lists /var/cache/dnf /var/cache/libdnf5 /var/cache/yum /var/lib/containerd)
if [[ ! -s $record/kept-images ]]; then dirs+=(/var/lib/docker); fi
for dir in "${dirs[@]}"; do
	if [[ -d $dir ]]; then find "$dir" -xdev -mindepth 1 -depth -delete; fi
done
if ! systemd-detect-virt --container --quiet && ! fstrim / 2>/dev/null; then
	printf 'seal: the volume does not support trim\n' >&2
fi

# What the verifier compares itself with: digests only, for nothing of the
# builder's identity may be in the image.
digest() { sha256sum | cut -d' ' -f1; }
install -d -m 755 "$record"
rm -f "$record/sealed.json" # of a parent image
{
	printf 'machineIdSha256=%s\n' "$(tr -d '\n' </etc/machine-id | digest)"
	for key in /etc/ssh/ssh_host_*_key.pub; do
		if [[ -e $key ]]; then printf 'hostKeySha256=%s\n' "$(cut -d' ' -f1,2 "$key" | tr -d '\n' | digest)"; fi
	done
	if [[ -s /var/lib/cloud/data/instance-id ]]; then
		printf 'instanceIdSha256=%s\n' "$(tr -d '\n' </var/lib/cloud/data/instance-id | digest)"
	fi
} >"$record/seal.pending"
chmod 600 "$record/seal.pending"

# The EFI system partition is no longer mounted when the hook runs.
rm -f /boot/efi/loader/random-seed /efi/loader/random-seed

install -D -m 755 -o root -g root "$here/at-shutdown.sh" "$hook"
# Where SELinux enforces, systemd-shutdown may run only what has the label of its folder.
if command -v restorecon >/dev/null; then restorecon "$hook" || true; fi
sync
stopped_list=$(
	IFS=,
	printf '%s' "${stopped[*]-}"
)
printf '{"armed":true,"hook":"%s","stopped":[%s]}\n' "$hook" "$stopped_list"
