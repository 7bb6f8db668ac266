#!/bin/bash
# What Amazon Linux 2023 has that others do not. Sourced by install.sh.
# shellcheck disable=SC2034,SC2154 # the variables are install.sh's

shadow_group=root
ssh_unit=sshd.service
grub_configs=(/boot/grub2/grub.cfg /boot/efi/EFI/amzn/grub.cfg)
chrony_conf=/etc/chrony.conf
bashrc=/etc/bashrc
# SSH-09: the system-wide crypto policy chooses the algorithms.
sshd_algorithms=/dev/null
timers=(dnf-automatic.timer dnf-automatic-install.timer)

# installed_packages prints the names of all of them.
installed_packages() { rpm -qa --qf '%{NAME}\n'; }

# pending_upgrades counts packages that have a newer version, without those that a
# component wants in an exact version.
pending_upgrades() {
	{ dnf --quiet check-update || (($? == 100)); } | awk -v pinned=" ${AMI_FACTORY_PINNED:-} " \
		'NF { name = $1; sub(/\.[^.]*$/, "", name); if (!index(pinned, " " name " ")) n++ } END { print n + 0 }'
}

strip_suid() { chmod 755 "$1"; }

pam_stack() { # PAM-01 to PAM-04
	local profile=/etc/authselect/custom/ami-factory file
	if [[ ! -d $profile ]]; then
		authselect create-profile ami-factory --base-on minimal
		for file in system-auth password-auth; do
			sed -i -E '/^account .*pam_unix\.so/s/$/ no_pass_expiry/' "$profile/$file"
		done
		changed "$profile"
	fi
	if [[ $(authselect current --raw 2>/dev/null) != 'custom/ami-factory with-faillock with-pwhistory without-nullok' ]]; then
		authselect select custom/ami-factory with-faillock with-pwhistory without-nullok --force --quiet
		changed "PAM stack"
	fi
}

boot_arguments() { # AUD-01, BOOT-03
	if ! command -v grubby >/dev/null || in_container; then return; fi
	if grubby --info=ALL | grep '^args=' | grep -qv 'audit=1'; then
		grubby --update-kernel=ALL --args='audit=1 audit_backlog_limit=8192'
		changed "boot arguments"
	fi
	if grubby --info=ALL | grep '^args=' | grep -qE '(selinux|enforcing)=0'; then
		grubby --update-kernel=ALL --remove-args='selinux enforcing'
		changed "boot arguments"
	fi
}

mandatory_access_control() { # BOOT-03, CRYP-01
	replace /etc/selinux/config "$(sed -E 's/^SELINUX=.*/SELINUX=enforcing/; s/^SELINUXTYPE=.*/SELINUXTYPE=targeted/' /etc/selinux/config)"
	if [[ $(update-crypto-policies --show) == LEGACY* ]]; then
		update-crypto-policies --set DEFAULT
		changed "crypto policy"
	fi
	replace /etc/dnf/dnf.conf "$(sed -E 's/^gpgcheck=.*/gpgcheck=1/' /etc/dnf/dnf.conf)" # PKG-01
}
