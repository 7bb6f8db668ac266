#!/bin/bash
# Makes initramfs and boot loader's configuration once, however many packages and
# components ask for it. run.sh puts programs that call this before the real ones.
#
#	boot-files.sh note PROGRAM ARGUMENTS...   update-initramfs or update-grub is asked for
#	boot-files.sh run                         carries out what was asked for
#
# AMI_FACTORY_BOOT_FILES is the file of notes; it outlives a restart of the builder.
set -euo pipefail
notes=${AMI_FACTORY_BOOT_FILES:?}
root=${AMI_FACTORY_BOOT_ROOT:-}

# note PROGRAM ARGUMENTS... writes down what is asked for; what cannot wait, as the
# removal of an old kernel's initramfs, is done at once.
note() {
	local program=$1 mode='' version='' flag wait=yes
	shift
	if [[ $program == update-initramfs ]]; then
		local arguments=("$@") OPTIND=1 OPTARG
		while getopts 'k:b:cudvth' flag "$@"; do
			case $flag in
			c | u) mode=$flag ;;
			k) version=$OPTARG ;;
			b) if [[ ${OPTARG%/} != /boot ]]; then wait=no; fi ;;
			v | t) ;;
			*) wait=no ;;
			esac
		done
		if [[ $wait == no || -z $mode ]]; then exec "$root/usr/sbin/update-initramfs" "${arguments[@]}"; fi
		printf '%s: noted, made at the end of provisioning\n' "$program" >&2
		printf 'update-initramfs %s\n' "${version:-newest}" >>"$notes"
		return
	fi
	printf '%s: noted, made at the end of provisioning\n' "$program" >&2
	printf 'update-grub\n' >>"$notes"
}

# kernels prints the versions whose kernels are installed, the newest last.
kernels() {
	local file
	for file in "$root"/boot/vmlinuz-*; do
		if [[ -e $file ]]; then printf '%s\n' "${file#"$root/boot/vmlinuz-"}"; fi
	done | sort -V
}

# initramfs makes that of each kernel that was asked for.
initramfs() {
	local version file
	local -A todo=()
	while read -r version; do
		case $version in
		newest) version=$(kernels | tail -n 1) ;;
		all)
			while read -r file; do todo[$file]=1; done < <(kernels)
			continue
			;;
		esac
		if [[ $version && -e $root/boot/vmlinuz-$version ]]; then todo[$version]=1; fi
	done < <(sed -n 's/^update-initramfs //p' "$notes")
	if ((${#todo[@]} == 0)) || [[ ! -x $root/usr/sbin/update-initramfs ]]; then return; fi
	while read -r version; do
		if [[ -e $root/boot/initrd.img-$version ]]; then
			"$root/usr/sbin/update-initramfs" -u -k "$version"
		else
			"$root/usr/sbin/update-initramfs" -c -k "$version"
		fi
	done < <(printf '%s\n' "${!todo[@]}" | sort -V)
}

# boot_loader makes grub.cfg, which keeps its mode: update-grub leaves it readable
# for all. In a container nothing is known of the disk.
boot_loader() {
	local config=$root/boot/grub/grub.cfg mode
	if ! grep -q '^update-grub$' "$notes" || [[ ! -e $config || ! -x $root/usr/sbin/update-grub ]]; then return; fi
	if systemd-detect-virt --container --quiet; then return; fi
	mode=$(stat -c %a "$config")
	"$root/usr/sbin/update-grub"
	chmod "$mode" "$config"
}

case $1 in
note)
	shift
	note "$@"
	;;
run)
	initramfs
	boot_loader
	rm -f "$notes"
	;;
esac
