#!/bin/bash
# Removes the builder's identity and traces (controls HYG-01 to HYG-14) as the
# very last thing before power-off: systemd-shutdown runs this when every other
# process is gone and the root file system is read-only. It has 90 seconds.
# /etc/ami-factory/sealed.json is written last, so that its absence in an image
# tells that something here went wrong.
# shellcheck disable=SC2317 # step calls the functions by name
set -uo pipefail
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C

# systemd-shutdown names the verb; a reboot of an armed builder is no seal.
case ${1:-} in
poweroff | halt) ;;
*) exit 0 ;;
esac

# A file system cannot be made read-only while a removed file of it is open, and
# one that stays writable has a journal that the next boot replays: what a look at
# the snapshot reads would not be what boots. This script removes itself, so it
# goes on as a copy in memory.
hook=${AMI_FACTORY_SEAL_HOOK:-}
if [[ -z $hook ]]; then
	if copy=$(mktemp /run/ami-factory-seal.XXXXXX) && cp "$0" "$copy"; then
		AMI_FACTORY_SEAL_HOOK=$0 exec bash "$copy" "$@"
	fi
	hook=$0
fi

record=/etc/ami-factory
pending=$record/seal.pending
failures=0

say() { printf 'ami-factory: seal: %s\r\n' "$*" >/dev/console 2>/dev/null; }

# step CONTROL COMMAND… runs one control's cleaning; one that fails does not
# keep the others from being done.
step() {
	local control=$1
	shift
	if ! "$@"; then
		failures=$((failures + 1))
		say "$control FAILED"
	fi
}

# homes prints every home directory, root's among them.
homes() {
	local home
	cut -d: -f6 /etc/passwd | sort -u | while IFS= read -r home; do
		case $home in
		/root | /home/?* | /var/lib/?*) if [[ -d $home ]]; then printf '%s\n' "$home"; fi ;;
		esac
	done
}

# empty removes what is in directories, but not the directories.
empty() {
	local dir result=0
	for dir in "$@"; do
		if [[ -d $dir && ! -L $dir ]]; then
			find "$dir" -xdev -mindepth 1 -delete || result=1
		fi
	done
	return "$result"
}

# overwrite puts zeros into the files that are named on standard input, each
# ended by NUL. What is only removed stays readable in the blocks of a snapshot:
# a trim gives back whole units of the volume, and EBS has none. Callers leave
# out files of several names: one of them may be the system's.
overwrite() { xargs -0 -r shred --iterations=0 --zero --; }

# wipe removes what is in directories, unreadably, but not the directories.
wipe() {
	local dir result=0
	for dir in "$@"; do
		if [[ -d $dir && ! -L $dir ]]; then
			find "$dir" -xdev -type f -links 1 -size +0 -print0 | overwrite || result=1
		fi
	done
	empty "$@" || result=1
	return "$result"
}

# wipe_files removes files and directories, unreadably; what is not there is fine.
wipe_files() {
	local path there=()
	for path in "$@"; do
		if [[ -e $path || -L $path ]]; then there+=("$path"); fi
	done
	if ((${#there[@]} == 0)); then return; fi
	find "${there[@]}" -xdev -type f -links 1 -size +0 -print0 | overwrite || return 1
	rm -rf "${there[@]}"
}

host_keys() { wipe_files /etc/ssh/ssh_host_*; } # HYG-01

login_keys() { # HYG-02
	local home result=0
	while IFS= read -r home; do
		wipe_files "$home"/.ssh/{authorized_keys*,known_hosts*,id_*,*.pem,environment} || result=1
		# grep ends with 1 where it finds nothing.
		find "$home" -xdev -type f -size -64k \
			-exec sh -c 'grep -lIZ -e "-----BEGIN .*PRIVATE KEY-----" "$@"; [ $? -le 1 ]' sh {} + |
			xargs -0 -r shred --iterations=0 --zero --remove=unlink -- || result=1
	done < <(homes)
	return "$result"
}

# An empty machine-id, not a missing one: without the file systemd would take
# the next boot for the first and apply its presets to every unit.
machine_id() { # HYG-03
	: >/etc/machine-id && chmod 444 /etc/machine-id || return 1
	if [[ -e /var/lib/dbus/machine-id || -L /var/lib/dbus/machine-id ]]; then
		ln -sfn /etc/machine-id /var/lib/dbus/machine-id
	fi
}

cloud_init() { # HYG-04
	wipe /var/lib/cloud || return 1
	rm -f /etc/netplan/50-cloud-init.yaml /etc/network/interfaces.d/50-cloud-init* \
		/etc/systemd/network/10-cloud-init-*.network /etc/sysconfig/network-scripts/ifcfg-eth0 \
		/etc/NetworkManager/system-connections/cloud-init-* \
		/etc/ssh/sshd_config.d/50-cloud-init.conf /etc/sudoers.d/90-cloud-init-users \
		/etc/apt/apt.conf.d/90cloud-init-aptproxy /etc/apt/apt.conf.d/94cloud-init-aptproxy
}

logs() { # HYG-05
	find /var/log -xdev -type f -links 1 -size +0 -print0 | overwrite || return 1
	empty /var/log/journal /run/log/journal /var/log/ami-factory /var/log/amazon /var/log/installer \
		/var/lib/systemd/coredump /var/lib/systemd/pstore /var/lib/wtmpdb /var/crash || return 1
	rm -rf /var/log/ami-factory
	find /var/log -xdev -type f \( -name '*.gz' -o -name '*.xz' -o -name '*.old' -o -name '*.[0-9]' \
		-o -name '*-[0-9]*' -o -name 'cloud-init*' \) -delete || return 1
	find /var/log -xdev -type f -size +0 -exec truncate -s 0 {} +
}

histories() { # HYG-06
	local home result=0
	while IFS= read -r home; do
		wipe_files "$home"/.*_history "$home"/.*hist "$home"/.{lesshst,viminfo,wget-hsts,Xauthority,sudo_as_admin_successful,cache,local/share/recently-used.xbel} || result=1
	done < <(homes)
	return "$result"
}

seeds() { # HYG-07, and systemd's credential key, which is a host secret too
	wipe_files /var/lib/systemd/random-seed /var/lib/systemd/credential.secret /var/lib/urandom/random-seed \
		/var/lib/misc/random-seed /var/lib/random-seed /loader/random-seed /boot/loader/random-seed
}

credentials() { # HYG-08
	local home result=0
	while IFS= read -r home; do
		wipe_files "$home"/.{aws,azure,netrc,git-credentials,pgpass,docker/config.json,config/gcloud,kube,gnupg} || result=1
	done < <(homes)
	# Ubuntu Pro's token of this machine, and the passwords to its repositories. An
	# image that attaches by itself does so again.
	wipe_files /etc/apt/auth.conf.d/90ubuntu-advantage /etc/apt/auth.conf.d/90ubuntu-pro || result=1
	wipe /var/lib/ubuntu-advantage/private /var/lib/ubuntu-pro/private || result=1
	return "$result"
}

# Ubuntu's agent is a snap: of class classic, so that its state is in the same
# place, but its package has folders of its own.
ssm_agent() { # HYG-09
	local result=0 folder
	wipe /var/lib/amazon/ssm /var/log/amazon/ssm || result=1
	for folder in /var/snap/amazon-ssm-agent/*; do
		if [[ ! -L $folder ]]; then wipe "$folder" || result=1; fi
	done
	return "$result"
}

# snap_device makes snapd forget the key and the serial number by which the store
# knows the builder; it asks for new ones where it has none.
snap_device() { # HYG-14
	local state=/var/lib/snapd/state.json
	wipe /var/lib/snapd/device/private-keys-v1 /var/lib/snapd/assertions/asserts-v0/serial || return 1
	if [[ ! -s $state ]]; then return; fi
	python3 -I - "$state" <<-'PYTHON'
		import json, os, sys
		path = sys.argv[1]
		with open(path, encoding="utf-8") as file:
		    state = json.load(file)
		device = ((state.get("data") or {}).get("auth") or {}).get("device") or {}
		if any([device.pop(key, None) for key in ("serial", "key-id", "session-macaroon")]):
		    data = json.dumps(state).encode()
		    with open(path, "r+b") as file:  # in place, so that no block keeps the old text
		        old = file.seek(0, os.SEEK_END)
		        file.seek(0)
		        file.write(data.ljust(old, b" "))
	PYTHON
}

agents() { # HYG-10
	# Settings of the builder's own user data, and what names its node.
	wipe_files /etc/chef/*.pem /etc/cinc/*.pem /etc/chef/ami-factory-node /etc/cinc/ami-factory-node
	wipe /etc/ami-factory/agents /etc/chef/nodes /etc/cinc/nodes /etc/chef/ohai /etc/cinc/ohai /var/chef /var/cinc \
		/var/db/newrelic-infra/data /var/log/newrelic-infra /opt/appdynamics/machine-agent/logs \
		/opt/appdynamics/machine-agent/var /opt/aws/amazon-cloudwatch-agent/logs \
		/opt/aws/amazon-cloudwatch-agent/var /opt/aws/amazon-cloudwatch-agent/etc/amazon-cloudwatch-agent.d
}

containers() { # HYG-11
	wipe_files /etc/docker/key.json || return 1
	# Layers and their index stay for images that the recipe names; arm.sh has
	# removed all others.
	if [[ -s $record/kept-images && -d /var/lib/docker ]]; then
		find /var/lib/docker -mindepth 1 -maxdepth 1 ! -name image ! -name overlay2 ! -name vfs -exec rm -rf {} + || return 1
	else
		empty /var/lib/docker || return 1
	fi
	empty /var/lib/containerd
}

leftovers() { # HYG-12
	wipe /tmp /var/tmp || return 1
	empty /var/lib/dhcp /var/lib/dhclient /var/lib/dhcpcd /var/lib/NetworkManager /var/lib/apt/lists /var/cache/apt \
		/var/cache/dnf /var/cache/libdnf5 /var/cache/yum /var/cache/PackageKit /var/cache/pollinate || return 1
	# By these dnf counts the weeks of an installation.
	find /var/lib/dnf/repos -xdev -type f -name countme -delete 2>/dev/null
	# These two apt does not make again by itself everywhere.
	mkdir -p /var/lib/apt/lists/partial /var/cache/apt/archives/partial
	chmod 700 /var/lib/apt/lists/partial /var/cache/apt/archives/partial
	if id _apt >/dev/null 2>&1; then
		chown _apt:root /var/lib/apt/lists/partial /var/cache/apt/archives/partial
	fi
	rm -f /etc/udev/rules.d/70-persistent-net.rules /var/lib/systemd/timers/stamp-* /var/lib/rsyslog/imjournal.state \
		/var/cache/debconf/*-old /var/lib/dpkg/*-old
	if [[ -e /etc/hostname ]]; then : >/etc/hostname; fi
	if [[ -f /etc/resolv.conf && ! -L /etc/resolv.conf ]] && ! mountpoint -q /etc/resolv.conf; then : >/etc/resolv.conf; fi
}

# What storage servers know a machine by, and whom sudo has lectured. Packages
# make the names when they are installed.
names() { # HYG-14
	local name=/etc/iscsi/initiatorname.iscsi
	wipe_files /etc/nvme/hostid /etc/nvme/hostnqn || return 1
	wipe /var/lib/sudo/lectured /var/lib/sudo/ts /var/db/sudo/lectured /var/db/sudo/ts || return 1
	if [[ ! -e $name ]]; then return; fi
	wipe_files "$name" || return 1
	# Elsewhere a unit makes a name where there is no file; Debian's iscsid does not
	# start without the file, and makes a name where this line asks for one.
	if [[ -e /usr/lib/open-iscsi/startup-checks.sh || -e /lib/open-iscsi/startup-checks.sh ]]; then
		printf 'GenerateName=yes\n' >"$name" && chmod 600 "$name"
	fi
}

# factory removes what the factory itself brought.
factory() { wipe_files /var/lib/ami-factory; }

# trim gives freed blocks back, so that a snapshot does not carry the bulk of
# what was removed. EBS volumes do not support it.
trim() { # HYG-13
	if [[ $container == yes ]]; then
		trimmed='not applicable: container'
	elif trimmed=$(fstrim --verbose / 2>&1); then
		trimmed=${trimmed##*: }
	else
		trimmed='not supported by the volume'
	fi
}

# seal_record prints sealed.json of what arm.sh noted.
seal_record() {
	local key value ids='' keys=''
	while IFS='=' read -r key value; do
		case $key in
		hostKeySha256) keys+="${keys:+,}\"$value\"" ;;
		*) ids+=",\"$key\":\"$value\"" ;;
		esac
	done <"$1"
	printf '{"schema":1,"sealedAt":"%s","container":%s%s,"hostKeySha256":[%s],"trim":"%s"}\n' \
		"$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$([[ $container == yes ]] && echo true || echo false)" "$ids" "$keys" "$trimmed"
}

if [[ ! -s $pending ]]; then
	say "FAILED: $pending is missing, the builder was not armed"
	exit 1
fi

container=no
if systemd-detect-virt --container --quiet; then
	container=yes
elif ! mount -o remount,rw /; then
	say "FAILED: the root file system cannot be made writable"
	exit 1
fi

step HYG-01 host_keys
step HYG-02 login_keys
step HYG-03 machine_id
step HYG-04 cloud_init
step HYG-05 logs
step HYG-06 histories
step HYG-07 seeds
step HYG-08 credentials
step HYG-09 ssm_agent
step HYG-10 agents
step HYG-11 containers
step HYG-12 leftovers
step HYG-14 names
step HYG-14 snap_device
step factory factory
rm -f "$hook"
sync
trimmed=''
step HYG-13 trim

if ((failures == 0)); then
	seal_record "$pending" >"$record/sealed.json"
	chmod 644 "$record/sealed.json"
	if command -v restorecon >/dev/null; then restorecon -R "$record" /etc/machine-id /etc/hostname >/dev/null 2>&1; fi
	say "done, trim: $trimmed"
else
	say "FAILED: $failures controls; the image has no seal"
fi
rm -f "$pending"
sync
if [[ $container == no ]] && ! mount -o remount,ro /; then
	say "FAILED: the root file system stays writable, so that its snapshot cannot be judged"
	failures=$((failures + 1))
fi
exit "$((failures > 0))"
