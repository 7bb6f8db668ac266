#!/bin/bash
# instance-store MOUNTPOINT formats the instance-store disks that are empty and
# mounts them all; those that hold anything are never formatted.
# AMI_FACTORY_DISKS moves the directory of disks by id.
set -euo pipefail

point=$1
number=0
declare -A seen=()
for disk in "${AMI_FACTORY_DISKS:-/dev/disk/by-id}"/nvme-Amazon_EC2_NVMe_Instance_Storage*; do
	# A disk has several names here, with and without its namespace, and its partitions have more.
	if [[ ! -e $disk || $disk == *-part* ]]; then continue; fi
	device=$(readlink -f "$disk")
	if [[ ${seen[$device]:-} ]]; then continue; fi
	seen[$device]=yes
	number=$((number + 1))
	target=$point
	if ((number > 1)); then target=$point-$number; fi
	if mountpoint --quiet "$target"; then continue; fi
	# blkid ends with 2 where it finds nothing, and only then the disk is empty.
	found=0
	type=$(blkid --probe --output value --match-tag TYPE "$disk") || found=$?
	if ((found == 2)) && [[ -z $(wipefs --noheadings "$disk") ]]; then
		mkfs.ext4 -q -E nodiscard -L "instance-store$number" "$disk"
		type=ext4
	fi
	if [[ -z $type ]]; then
		printf 'instance-store: %s holds something that is no file system; it is left alone\n' "$disk" >&2
		continue
	fi
	mkdir -p "$target"
	mount -t "$type" -o nodev,nosuid,noatime "$disk" "$target"
	printf 'instance-store: %s is at %s\n' "$disk" "$target"
done
printf 'instance-store: %d disks\n' "$number"
