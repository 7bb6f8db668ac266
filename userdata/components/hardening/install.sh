#!/bin/bash
# Hardens an image. Every setting is a file of its own under files/: layout.sh
# says which are laid over the root, and files/blocks holds what goes into files
# that others own. What families do differently is in families/. A second run
# changes nothing and says so.
set -euo pipefail
. "$AMI_FACTORY_LIB/lib.sh"

variant=${AMI_FACTORY_PARAM_VARIANT:-docker}
aide=${AMI_FACTORY_PARAM_AIDE:-false}
case $(package_manager) in
apt) . families/debian.sh ;;
dnf) . families/al2023.sh ;;
esac

sudoers_are_valid() { visudo --check --quiet --file="$1"; }

# sshd_accepts tests a configuration with a host key of its own, because an
# image under construction may have none.
sshd_accepts() {
	local key result=0
	mkdir -p /run/sshd
	key=$(mktemp -d)
	ssh-keygen -q -t ed25519 -N '' -f "$key/host"
	/usr/sbin/sshd -t -f "$1" -h "$key/host" || result=$?
	rm -rf "$key"
	return "$result"
}

ruleset_is_valid() { nft --check --file "$1"; }

# settings lays down what layout.sh lists.
settings() {
	local list mode source target check
	list=$(bash layout.sh "$AMI_FACTORY_FAMILY" "$variant" "$(uname -m)")
	while read -r mode source target; do
		check=true
		case $target in
		/etc/sudoers.d/*) check=sudoers_are_valid ;;
		/etc/nftables.conf) continue ;; # has parameters: see firewall
		esac
		put "$mode" "$source" "$target" "$check"
	done <<<"$list"
	put 644 files/common/etc/systemd/journald.conf.d/50-ami-factory.conf /etc/systemd/journald.conf
	put 644 files/common/etc/security/pwquality.conf.d/50-ami-factory.conf /etc/security/pwquality.conf
	put 644 files/blocks/chrony.conf "$chrony_conf"
	put 640 files/blocks/auditd.conf /etc/audit/auditd.conf
	put 644 /dev/stdin /etc/ami-factory/listen <<<"${AMI_FACTORY_PARAM_LISTEN:-22}"                    # SVC-08
	grep -v '^#' files/suid-allowed | LC_ALL=C sort | put 644 /dev/stdin /etc/ami-factory/suid-allowed # FILE-05
	put 644 files/blocks/amazon-ssm-agent.json /etc/amazon/ssm/amazon-ssm-agent.json                   # AWS-08
}

# without_block FILE prints a file without the component's own lines.
without_block() { sed '/^# ami-factory begin$/,/^# ami-factory end$/d' "$1"; }

# block FILE... prints the component's own lines.
block() {
	printf '# ami-factory begin\n'
	cat "$@"
	printf '# ami-factory end\n'
}

sshd() { # SSH-01 to SSH-11: first in the main file, so that no drop-in comes before
	{
		block files/blocks/sshd_config "$sshd_algorithms"
		without_block /etc/ssh/sshd_config
	} | put 600 /dev/stdin /etc/ssh/sshd_config sshd_accepts
}

mounts() { # MNT-02, MNT-03
	[[ -e /etc/fstab ]] || install -m 644 /dev/null /etc/fstab
	replace /etc/fstab "$(
		awk '!/^[[:space:]]*#/ && ($2 == "/dev/shm" || $2 == "/var/tmp") { next } { print }' /etc/fstab
		printf '%s\n' 'tmpfs /dev/shm tmpfs defaults,nosuid,nodev,noexec 0 0' \
			'/var/tmp /var/tmp none bind,nosuid,nodev,noexec 0 0'
	)"
	if findmnt -no OPTIONS /dev/shm | grep -qv noexec; then
		mount -o remount,nosuid,nodev,noexec /dev/shm
	fi
	enable tmp.mount # MNT-01
}

cron_access() { # CRON-02, CRON-03
	local dir list group=root
	for dir in cron.hourly cron.daily cron.weekly cron.monthly cron.d; do
		directory 700 root:root "/etc/$dir"
	done
	if [[ -e /etc/crontab ]]; then own 600 root:root /etc/crontab; fi
	if getent group crontab >/dev/null; then group='crontab'; fi
	for list in cron at; do
		[[ -e /etc/$list.allow ]] || install -m 640 /dev/null "/etc/$list.allow"
		if [[ -e /etc/$list.deny ]]; then
			rm "/etc/$list.deny"
			changed "/etc/$list.deny is gone"
		fi
	done
	own 640 "root:$group" /etc/cron.allow
	own 640 root:root /etc/at.allow
}

accounts() { # ACC-01, ACC-03, ACC-04, ACC-06, ACC-08, SUDO-03
	local name home
	replace /etc/login.defs "$(awk 'NR == FNR { if ($0 !~ /^#/) wanted[$1] = $2; next }
		{ key = $1; sub(/^#/, "", key) }
		key in wanted && !(key in done) && $0 ~ /^#?[A-Z_]+[[:space:]]/ { print key "\t" wanted[key]; done[key]; next }
		$1 in wanted { next }
		{ print }
		END { for (key in wanted) if (!(key in done)) print key "\t" wanted[key] }' files/blocks/login.defs /etc/login.defs)"
	replace /etc/default/useradd "$(
		sed '/^INACTIVE=/d' /etc/default/useradd
		echo INACTIVE=30
	)"
	replace "$bashrc" "$(
		without_block "$bashrc"
		block files/blocks/bashrc
	)"

	# /bin/sync and its like are programs, not shells, and stay.
	while IFS= read -r name; do
		usermod -s /usr/sbin/nologin "$name"
		changed "$name has no login shell"
	done < <(awk -F: 'FILENAME == "/etc/shells" { shell[$0]; next }
		$3 > 0 && $3 < 1000 && $7 in shell { print $1 }' /etc/shells /etc/passwd)
	while IFS= read -r name; do
		passwd -l "$name" >/dev/null
		changed "$name is locked"
	done < <(awk -F: 'FILENAME == "/etc/passwd" { if ($3 < 1000) low[$1]; next }
		$1 in low && $2 !~ /^[!*]/ { print $1 }' /etc/passwd /etc/shadow)
	while IFS= read -r home; do
		if [[ ! -d $home ]]; then continue; fi
		while IFS= read -r name; do
			changed "$name is private"
		done < <(find "$home" -maxdepth 1 \( -type d -path "$home" -perm /027 -o -type f -name '.*' -perm /037 \) \
			-print -exec chmod g-w,o-rwx {} +)
		rm -f "$home/.rhosts" "$home/.netrc" "$home/.forward"
	done < <(awk -F: '$3 >= 1000 && $3 < 65534 { print $6 }' /etc/passwd)

	if ! getent group sugroup >/dev/null; then
		groupadd --system sugroup
		changed "group sugroup"
	fi
	if ! grep -q '^auth.*pam_wheel.so use_uid group=sugroup' /etc/pam.d/su; then
		replace /etc/pam.d/su "$(sed '0,/^auth.*pam_rootok\.so/s//&\nauth required pam_wheel.so use_uid group=sugroup/' /etc/pam.d/su)"
	fi
}

file_modes() { # SSH-01, FILE-01, FILE-02, BOOT-01, AUD-05
	local path
	for path in /etc/ssh/sshd_config.d/*; do
		if [[ -f $path ]]; then own 600 root:root "$path"; fi
	done
	for path in /etc/passwd /etc/passwd- /etc/group /etc/group- /etc/shells; do
		if [[ -e $path ]]; then own 644 root:root "$path"; fi
	done
	for path in /etc/shadow /etc/shadow- /etc/gshadow /etc/gshadow-; do
		if [[ -e $path ]]; then own 640 "root:$shadow_group" "$path"; fi
	done
	[[ -e /etc/security/opasswd ]] || install -m 600 /dev/null /etc/security/opasswd
	own 600 root:root /etc/security/opasswd
	for path in "${grub_configs[@]}"; do
		if [[ -e $path ]]; then own 600 root:root "$path"; fi
	done
	directory 700 root:root /var/log/audit
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

# strangers finds, in one walk over the disk, files that anyone may write,
# shared directories in which anyone may delete, and programs that run as
# somebody else.
strangers() { # FILE-03, FILE-05, AUD-02
	local kind path privileged=()
	while IFS=' ' read -r -d '' kind path; do
		case $kind in
		d)
			chmod +t "$path"
			changed "$path is not everybody's"
			;;
		f)
			chmod o-w "$path"
			changed "$path is not everybody's"
			;;
		s)
			if grep -qFx "$path" files/suid-stripped; then
				strip_suid "$path"
				changed "$path runs as its caller"
			else
				privileged+=("$path")
			fi
			;;
		esac
	done < <(find / -xdev \( -path /proc -o -path /sys -o -path /var/lib/docker -o -path /var/lib/containerd \) -prune \
		-o \( -type f -perm -0002 -printf 'f %p\0' , -type d -perm -0002 ! -perm -1000 -printf 'd %p\0' , -type f -perm /6000 -printf 's %p\0' \))
	{
		printf '# ami-factory hardening: AUD-02. The programs of this image that run as somebody else.\n'
		printf -- '-a always,exit -F path=%s -F perm=x -F auid>=1000 -F auid!=unset -k privileged\n' "${privileged[@]}" | LC_ALL=C sort
	} | put 640 /dev/stdin /etc/audit/rules.d/60-ami-factory-privileged.rules
}

packages() { # PKG-04, PKG-06 to PKG-08, SVC-01 to SVC-03, SVC-05, SVC-07, BOOT-05
	local unwanted pending compilers=none
	# Kernel modules built on the machine need their compiler.
	if package_installed dkms; then compilers='^(clang|gcc|make)$'; fi
	mapfile -t unwanted < <(installed_packages | grep -Fx -f <(grep -v '^#' files/packages-absent) | grep -Ev "$compilers")
	packages_purge "${unwanted[@]}"
	# The run that installed the packages of all components has upgraded the others.
	# Of lists that are missing or old nothing would be pending.
	packages_refresh_old
	pending=$(pending_upgrades)
	put 644 /dev/stdin /etc/ami-factory/upgraded <<<"pending: $pending"
}

services() { # PKG-05, SVC-04, SVC-05, KMOD-07, LOG-02, LOG-03
	mask "${timers[@]}" rpcbind.service rpcbind.socket nfs-server.service bluetooth.service rsync.service \
		systemd-journal-remote.socket systemd-journal-remote.service
	if systemctl is-enabled --quiet rsyslog.service 2>/dev/null; then
		systemctl disable --now rsyslog.service
		changed "rsyslog.service is disabled, the journal is kept"
	fi
	enable auditd.service
}

# firewall_ports PARAMETER prints a list of ports as nft reads it.
firewall_ports() {
	local port
	[[ $1 =~ ^[1-9][0-9]{0,4}(,[1-9][0-9]{0,4})*$ ]] || fail "'$1' is not a list of ports such as 22,443"
	for port in ${1//,/ }; do
		((port <= 65535)) || fail "'$1' has the port $port; allowed: 1 to 65535"
	done
	printf '%s' "${1//,/, }"
}

firewall() { # FWL-01
	local accepted reached tree=containers
	if [[ $variant == base ]]; then tree=base; fi
	accepted=$(firewall_ports "${AMI_FACTORY_PARAM_FIREWALL_IN:-22}")
	reached=$(firewall_ports "${AMI_FACTORY_PARAM_FIREWALL_OUT:-53,80,443,2049}")
	sed "s/@IN@/$accepted/; s/@OUT@/$reached/" "files/$tree/etc/nftables.conf" | put 600 /dev/stdin /etc/nftables.conf ruleset_is_valid
	if [[ -e /etc/sysconfig/nftables.conf ]]; then # where al2023's unit reads it
		put 600 /dev/stdin /etc/sysconfig/nftables.conf <<<'include "/etc/nftables.conf"'
	fi
	mask ufw.service iptables.service firewalld.service
	enable nftables.service
}

integrity() { # AIDE-01
	if [[ $aide != true ]]; then return; fi
	put 644 files/aide/ami-factory-aide-init.service /etc/systemd/system/ami-factory-aide-init.service
	put 644 files/aide/ami-factory-aide.service /etc/systemd/system/ami-factory-aide.service
	put 644 files/aide/ami-factory-aide.timer /etc/systemd/system/ami-factory-aide.timer
	put 600 files/aide/aide.conf /etc/ami-factory/aide.conf
	enable ami-factory-aide-init.service ami-factory-aide.timer
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
		if [[ $variant != base ]]; then
			modprobe -a overlay br_netfilter
		fi
	fi
	/usr/lib/systemd/systemd-sysctl
	if booted; then
		systemctl daemon-reload
		if systemctl is-active --quiet "$ssh_unit"; then
			systemctl reload "$ssh_unit"
		fi
	fi
}

packages
before=$changes
settings
pam_stack "$before"
sshd
mounts
cron_access
accounts
banners
services
firewall
integrity
mandatory_access_control
boot_arguments
file_modes
strangers
apply
summary
