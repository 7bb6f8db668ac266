#!/bin/sh
# Turns a freshly installed tree into a base image: mmdebstrap's customize hook.
#   customize.sh ROOT OVERLAY
# ROOT is the tree, OVERLAY a directory whose files are laid over it. Runs as
# root, or as the root of a user namespace; nothing of the host is touched.
set -eu
root=$1
overlay=$2

# The only apt sources are those of the overlay, so that what the tree was
# installed from and what it updates from are said in one place.
rm -f "$root/etc/apt/sources.list" "$root"/etc/apt/sources.list.d/*
# mmdebstrap keeps its own options in the tree; the host's proxies are among
# them, and dpkg would go on without waiting for its writes to reach the disk.
rm -f "$root/etc/apt/apt.conf.d/99mmdebstrap" "$root/etc/dpkg/dpkg.cfg.d/99mmdebstrap"

cp -r "$overlay/." "$root/"

# GRUB's files where grub-install puts them. core.img carries every driver it
# needs to find the file system labelled root, so it does not depend on where
# its disk is attached; boot.img and core.img are written into the disk later.
grub=$root/boot/grub/i386-pc
mkdir -p "$grub"
cp "$root"/usr/lib/grub/i386-pc/*.mod "$root"/usr/lib/grub/i386-pc/*.lst "$root"/usr/lib/grub/i386-pc/boot.img "$grub/"
# shellcheck disable=SC2016 # GRUB's variable, not this shell's
printf 'search.fs_label root root hd0,gpt1\nset prefix=($root)/boot/grub\n' >"$grub/load.cfg"
chroot "$root" grub-mkimage --format i386-pc --directory /usr/lib/grub/i386-pc \
	--prefix /boot/grub --config /boot/grub/i386-pc/load.cfg --output /boot/grub/i386-pc/core.img \
	biosdisk part_gpt part_msdos ext2 search search_label search_fs_uuid \
	normal configfile linux echo test serial terminal minicmd
chmod 0600 "$root/boot/grub/grub.cfg"

# Everything that must be the instance's own, not the image's.
rm -f "$root"/etc/ssh/ssh_host_* "$root/etc/hostname" "$root/var/lib/dbus/machine-id" \
	"$root/var/lib/systemd/random-seed" "$root/var/lib/systemd/credential.secret"
ln -sf ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
# Empty, as in Debian's images: systemd then makes an id at boot, without the
# presets of a first boot that the word "uninitialized" would apply.
: >"$root/etc/machine-id"
chmod 0444 "$root/etc/machine-id"

# The package list, by which the image's digest is computed.
# shellcheck disable=SC2016 # dpkg-query's variables
chroot "$root" dpkg-query --show --showformat '${binary:Package}\t${Version}\t${Architecture}\n' \
	>"$root/usr/share/doc/base-image-packages.txt"

find "$root/var/log" -type f -delete
rm -rf "$root"/var/cache/apt/*.bin "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
