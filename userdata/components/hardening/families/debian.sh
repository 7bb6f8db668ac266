#!/bin/bash
# What Debian and Ubuntu have that others do not. Sourced by install.sh.
# shellcheck disable=SC2034,SC2154 # the variables are install.sh's

shadow_group=shadow
ssh_unit=ssh.service
grub_configs=(/boot/grub/grub.cfg)
chrony_conf=/etc/chrony/chrony.conf
bashrc=/etc/bash.bashrc
sshd_algorithms=files/blocks/sshd_config-algorithms
timers=(apt-daily.timer apt-daily-upgrade.timer)

# installed_packages prints the names of all of them.
installed_packages() { dpkg-query -W -f '${db:Status-Abbrev}${Package}\n' | sed -n 's/^ii *//p'; }

# pending_upgrades counts packages that have a newer version, without those that a
# component wants in an exact version.
pending_upgrades() {
	apt-get -s upgrade | awk -v pinned=" ${AMI_FACTORY_PINNED:-} " '/^Inst/ && !index(pinned, " " $2 " ") { n++ } END { print n + 0 }'
}

# strip_suid takes the bits away so that upgrades of the package keep it.
strip_suid() { dpkg-statoverride --force-all --update --add root root 0755 "$1"; }

pam_stack() { # PAM-01 to PAM-04
	local before=$1 stack profile profiles=()
	for profile in /usr/share/pam-configs/ami-factory-*; do profiles+=("${profile##*/}"); done
	# pam-auth-update takes seconds, so it runs only when something is amiss.
	stack=$(cat /etc/pam.d/common-{auth,account,password})
	if ((changes > before)) || [[ $stack != *pam_faillock* || $stack != *pam_pwhistory* || $stack != *no_pass_expiry* || $stack == *nullok* ]]; then
		DEBIAN_FRONTEND=noninteractive pam-auth-update --package --enable "${profiles[@]}" </dev/null
		changed "PAM stack"
	fi
	if ! grep -q pam_faillock /etc/pam.d/common-auth || grep -q nullok /etc/pam.d/common-auth; then
		fail "pam-auth-update did not take up the profiles; /etc/pam.d/common-auth was edited by hand before"
	fi
}

boot_arguments() { # AUD-01, BOOT-04
	if [[ ! -e /boot/grub/grub.cfg ]] || ! command -v update-grub >/dev/null; then return; fi
	if grep -q '^[[:space:]]*linux.* audit=1 .*security=apparmor' /boot/grub/grub.cfg; then return; fi
	# In a container nothing is known of the disk; its image boots without GRUB.
	if in_container; then return; fi
	update-grub
	changed "boot arguments"
}

mandatory_access_control() { enable apparmor.service; } # BOOT-04
