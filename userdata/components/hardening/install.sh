#!/bin/bash
# Hardens Debian 12. Every setting is a file of its own under files/, which is
# laid over the root; what has no drop-in directory is edited in place. A second
# run changes nothing and says so.
set -euo pipefail

variant=${AMI_FACTORY_PARAM_VARIANT:-docker}
changes=0

changed() {
	changes=$((changes + 1))
	printf 'changed: %s\n' "$*"
}

fail() {
	printf 'hardening: %s\n' "$*" >&2
	return 1
}

in_container() { systemd-detect-virt --container --quiet; }

# booted says whether systemd runs, so that units can be told to act at once.
booted() { [[ -d /run/systemd/system ]]; }

# put MODE SOURCE TARGET [CHECK] lays a root-owned file down when content, mode
# or owner differ. CHECK is called with the finished file beside its target; the
# target changes only when it agrees.
put() {
	local mode=$1 source=$2 target=$3 check=${4:-true} staged
	if [[ -f $target ]] && cmp -s "$source" "$target" && [[ $(stat -c '%a %u:%g' "$target") == "$mode 0:0" ]]; then
		return
	fi
	mkdir -p "$(dirname "$target")"
	staged=$target.ami-factory-new
	install -m "$mode" -o root -g root "$source" "$staged"
	if ! "$check" "$staged"; then
		rm -f "$staged"
		fail "$target is left as it was: the new content does not pass '$check'"
	fi
	mv -f "$staged" "$target"
	changed "$target"
}

# own MODE USER:GROUP PATH sets mode and owner of something that exists.
own() {
	local mode=$1 owner=$2 path=$3
	if [[ $(stat -c '%a %U:%G' "$path") != "$mode $owner" ]]; then
		chown "$owner" "$path"
		chmod "$mode" "$path"
		changed "$path is $mode $owner"
	fi
}

# replace TARGET CONTENT changes a file that has no drop-in directory, keeping
# its mode.
replace() {
	local target=$1 content=$2
	if [[ $content != "$(cat "$target")" ]]; then
		printf '%s\n' "$content" >"$target.ami-factory-new"
		chmod --reference="$target" "$target.ami-factory-new"
		mv -f "$target.ami-factory-new" "$target"
		changed "$target"
	fi
}

# mask stops and masks units, all by one call: each call of systemctl makes
# systemd read every unit again.
mask() {
	local unit todo=()
	for unit in "$@"; do
		if [[ $(readlink "/etc/systemd/system/$unit") != /dev/null ]]; then todo+=("$unit"); fi
	done
	if ((${#todo[@]} == 0)); then return; fi
	if booted; then
		for unit in "${todo[@]}"; do
			if systemctl is-active --quiet "$unit"; then systemctl stop "$unit"; fi
		done
	fi
	systemctl mask --quiet "${todo[@]}"
	changed "masked: ${todo[*]}"
}

sudoers_are_valid() { visudo --check --quiet --file="$1"; }

# sshd_accepts tests a drop-in alone, with a host key of its own, because an
# image under construction may have none.
sshd_accepts() {
	local key
	mkdir -p /run/sshd
	key=$(mktemp -d)
	ssh-keygen -q -t ed25519 -N '' -f "$key/host"
	local result=0
	/usr/sbin/sshd -t -f "$1" -h "$key/host" || result=$?
	rm -rf "$key"
	return "$result"
}

install_apparmor() {
	if dpkg-query -W -f '${db:Status-Status}' apparmor 2>/dev/null | grep -qx installed; then
		return
	fi
	export DEBIAN_FRONTEND=noninteractive
	apt-get -o Acquire::Retries=5 -q update
	apt-get -o Acquire::Retries=5 -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 -qy --no-install-recommends install apparmor
	changed "package apparmor"
}

# settings lays down files/common and files/<variant>.
settings() {
	local tree source target mode check
	for tree in files/common "files/$variant"; do
		while IFS= read -r source; do
			target=${source#"$tree"}
			mode=644 check=true
			case $target in
			/etc/ssh/sshd_config.d/*) mode=600 check=sshd_accepts ;;
			/etc/sudoers.d/*) mode=440 check=sudoers_are_valid ;;
			/etc/kernel/postinst.d/*) mode=755 ;;
			esac
			put "$mode" "$source" "$target" "$check"
		done < <(find "$tree" -type f | LC_ALL=C sort)
	done
}

# apply makes the settings effective in the running builder as far as it lets
# them; the image takes them up at its own boot.
apply() {
	local module
	if ! in_container; then
		for module in cramfs freevxfs hfs hfsplus jffs2 udf usb_storage dccp sctp rds tipc bluetooth; do
			if [[ -d /sys/module/$module && -e /sys/module/$module/refcnt ]]; then
				modprobe -r "$module"
			fi
		done
		if [[ $variant == docker ]]; then
			modprobe -a overlay br_netfilter
		fi
	fi
	/usr/lib/systemd/systemd-sysctl
	if booted; then
		systemctl daemon-reload
		if systemctl is-active --quiet ssh.service; then
			systemctl reload ssh.service
		fi
	fi
}

shared_memory() { # MNT-02
	local line='tmpfs /dev/shm tmpfs defaults,nosuid,nodev,noexec 0 0'
	[[ -e /etc/fstab ]] || install -m 644 /dev/null /etc/fstab
	replace /etc/fstab "$(
		awk '!/^[[:space:]]*#/ && $2 == "/dev/shm" { next } { print }' /etc/fstab
		printf '%s\n' "$line"
	)"
	if findmnt -no OPTIONS /dev/shm | grep -qv noexec; then
		mount -o remount,nosuid,nodev,noexec /dev/shm
	fi
}

cron_access() { # CRON-02, CRON-03
	local dir list group=root
	for dir in cron.hourly cron.daily cron.weekly cron.monthly cron.d; do
		[[ -d /etc/$dir ]] || install -d -m 700 "/etc/$dir"
		own 700 root:root "/etc/$dir"
	done
	if [[ -e /etc/crontab ]]; then own 600 root:root /etc/crontab; fi
	if getent group crontab >/dev/null; then group='crontab'; fi
	for list in cron at; do
		[[ -e /etc/$list.allow ]] || install -m 640 /dev/null "/etc/$list.allow"
		own 640 "root:$group" "/etc/$list.allow"
		if [[ -e /etc/$list.deny ]]; then
			rm "/etc/$list.deny"
			changed "/etc/$list.deny is gone"
		fi
	done
}

accounts() { # ACC-03, ACC-04, ACC-06, ACC-08
	local name home
	replace /etc/login.defs "$(sed -E 's/^[#[:space:]]*UMASK[[:space:]].*/UMASK\t\t027/' /etc/login.defs)"
	grep -qE '^UMASK[[:space:]]+027$' /etc/login.defs || fail "/etc/login.defs has no UMASK line to set"

	# /bin/sync and its like are programs, not shells, and stay.
	while IFS= read -r name; do
		usermod -s /usr/sbin/nologin "$name"
		changed "$name has no login shell"
	done < <(awk -F: 'FILENAME == "/etc/shells" { shell[$0]; next }
		$3 > 0 && $3 < 1000 && $7 in shell { print $1 }' /etc/shells /etc/passwd)
	while IFS= read -r name; do
		passwd -q -l "$name"
		changed "$name is locked"
	done < <(awk -F: 'FILENAME == "/etc/passwd" { if ($3 < 1000) low[$1]; next }
		$1 in low && $2 !~ /^[!*]/ { print $1 }' /etc/passwd /etc/shadow)
	while IFS= read -r home; do
		if [[ ! -d $home ]]; then continue; fi
		if [[ -n $(find "$home" -maxdepth 0 -perm /027) ]]; then
			chmod g-w,o-rwx "$home"
			changed "$home is private"
		fi
		rm -f "$home/.rhosts" "$home/.netrc" "$home/.forward"
	done < <(awk -F: '$3 >= 1000 && $3 < 65534 { print $6 }' /etc/passwd)
}

file_modes() { # SSH-01, FILE-01, FILE-02, BOOT-01
	local path
	own 600 root:root /etc/ssh/sshd_config
	for path in /etc/ssh/sshd_config.d/*; do
		if [[ -f $path ]]; then own 600 root:root "$path"; fi
	done
	for path in /etc/passwd /etc/passwd- /etc/group /etc/group- /etc/shells; do
		if [[ -e $path ]]; then own 644 root:root "$path"; fi
	done
	for path in /etc/shadow /etc/shadow- /etc/gshadow /etc/gshadow-; do
		if [[ -e $path ]]; then own 640 root:shadow "$path"; fi
	done
	[[ -e /etc/security/opasswd ]] || install -m 600 /dev/null /etc/security/opasswd
	own 600 root:root /etc/security/opasswd
	if [[ -e /boot/grub/grub.cfg ]]; then own 600 root:root /boot/grub/grub.cfg; fi
}

banners() { # BANR-01: the dynamic part would tell the kernel's version
	local part
	for part in /etc/update-motd.d/*; do
		if [[ -x $part ]]; then
			chmod a-x "$part"
			changed "$part is off"
		fi
	done
	rm -f /run/motd.dynamic
}

# strangers finds files that anyone may write and shared directories in which
# anyone may delete.
strangers() { # FILE-03
	local kind path
	while IFS=' ' read -r -d '' kind path; do
		case $kind in
		d) chmod +t "$path" ;;
		*) chmod o-w "$path" ;;
		esac
		changed "$path is not everybody's"
	done < <(find / -xdev \( -path /proc -o -path /sys -o -path /var/lib/docker -o -path /var/lib/containerd \) -prune \
		-o \( -type f -perm -0002 -o -type d -perm -0002 ! -perm -1000 \) -printf '%y %p\0')
}

packages() { # PKG-06, SVC-01, SVC-02, SVC-03, SVC-05, SVC-07
	local unwanted
	mapfile -t unwanted < <(grep -Fx -f <(grep -v '^#' files/packages-absent) \
		<(dpkg-query -W -f '${db:Status-Abbrev}${Package}\n' | sed -n 's/^ii *//p'))
	if ((${#unwanted[@]} > 0)); then
		DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 -qy purge "${unwanted[@]}"
		changed "packages purged: ${unwanted[*]}"
	fi
}

services() { # PKG-05, SVC-04, KMOD-07, LOG-02
	mask apt-daily.timer apt-daily-upgrade.timer rpcbind.service rpcbind.socket nfs-server.service bluetooth.service
	if systemctl is-enabled --quiet rsyslog.service 2>/dev/null; then
		systemctl disable --now rsyslog.service
		changed "rsyslog.service is disabled, the journal is kept"
	fi
	if ! systemctl is-enabled --quiet apparmor.service; then
		systemctl enable apparmor.service
		changed "apparmor.service is enabled"
	fi
}

[[ -d files/$variant ]] || fail "parameter variant is '$variant'; allowed: base, docker"
packages
install_apparmor
settings
shared_memory
cron_access
accounts
file_modes
banners
services
strangers
apply
printf 'hardening: variant %s, %d changes\n' "$variant" "$changes"
