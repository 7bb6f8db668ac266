#: apt
# install_packages NAME... installs by the family's package manager.
install_packages() {
	apt-get -q -o Acquire::Retries=3 update
	apt-get -q -y -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 \
		-o Dpkg::Options::=--force-confold --no-install-recommends install "$@"
}

#: dnf
# install_packages NAME... installs by the family's package manager.
install_packages() {
	dnf --quiet --assumeyes --setopt=retries=3 --setopt=install_weak_deps=False install "$@"
}

#: repository
# repository NAME FINGERPRINT TARGET KEY takes a repository into use whose key
# is the one that was reviewed.
repository() {
	local name=$1 fingerprint=$2 target=$3 key=$4 home found
	if ! command -v gpg >/dev/null; then install_packages gnupg; fi
	home=$(mktemp -d)
	found=$(gpg --homedir "$home" --batch --quiet --with-colons --show-keys "$state/repositories/$name.asc" |
		awk -F: '$1 == "pub" { primary = 1 } $1 == "fpr" && primary { print $10; primary = 0 }')
	rm -rf "$home"
	if [[ $found != "$fingerprint" ]]; then
		fail "the key of repository $name has the fingerprint ${found:-of nothing}, not $fingerprint"
	fi
	install -D -m 644 "$state/repositories/$name.asc" "$key"
	install -D -m 644 "$state/repositories/$name.conf" "$target"
}

#: mount
# entry POINT LINE puts a line for a mount point into /etc/fstab, in place of an
# older one.
entry() {
	local point=$1 line=$2 staged
	mkdir -p "$point"
	staged=$(mktemp /etc/fstab.XXXXXX)
	awk -v point="$point" '$1 ~ /^#/ || $2 != point' /etc/fstab >"$staged"
	printf '%s\n' "$line" >>"$staged"
	chmod 644 "$staged"
	mv -f "$staged" /etc/fstab
	systemctl daemon-reload
}

# attach POINT SECONDS KIND starts the unit that systemd made of the entry; it
# has its own limit, and this is the limit of that.
attach() {
	local unit
	unit=$(systemd-escape --path --suffix="$3" "$1")
	if ! timeout --kill-after=5 "$(($2 + 10))" systemctl start "$unit"; then
		systemctl status --no-pager --lines=5 "$unit" || true
		systemctl reset-failed "$unit" || true
		fail "$1 is not mounted"
	fi
}

#: efs-utils
# efs_utils makes sure of the mount helper, which only Amazon Linux packages.
efs_utils() {
	if command -v mount.efs >/dev/null; then return; fi
	if command -v dnf >/dev/null; then
		install_packages amazon-efs-utils
	else
		fail 'mount.efs is missing: the image needs amazon-efs-utils, or the spec a repository with it'
	fi
}

#: nfs4
# nfs_client makes sure of an NFS client.
nfs_client() {
	if command -v mount.nfs4 >/dev/null; then return; fi
	if command -v dnf >/dev/null; then install_packages nfs-utils; else install_packages nfs-common; fi
}

#: volume
# await SECONDS COMMAND... prints what the command prints, once it prints anything.
await() {
	local limit=$((SECONDS + $1)) found
	shift
	while true; do
		found=$("$@" || true)
		if [[ -n $found ]]; then
			readlink -f "$found"
			return
		fi
		if ((SECONDS >= limit)); then break; fi
		sleep 1
	done
	fail "there is no such device: $*"
}

by_path() { if [[ -e $1 ]]; then echo "$1"; fi; }

by_label() { if [[ -e /dev/disk/by-label/$1 ]]; then echo "/dev/disk/by-label/$1"; fi; }

by_volume() {
	local name=/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_${1/-/}
	if [[ -e $name ]]; then echo "$name"; fi
}

# by_device finds a volume under the name it was attached with, which on Nitro
# only the volume itself still knows.
by_device() {
	local name disk
	for name in "$1" "${1/\/dev\/sd//dev/xvd}" "${1/\/dev\/xvd//dev/sd}"; do
		if [[ -e $name ]]; then
			echo "$name"
			return
		fi
	done
	if command -v ebsnvme-id >/dev/null; then
		for disk in /dev/nvme*n1; do
			name=$(ebsnvme-id --block-dev "$disk" 2>/dev/null || true)
			if [[ -n $name && /dev/${name#/dev/} == "$1" ]]; then
				echo "$disk"
				return
			fi
		done
	fi
}

# by_store finds the disk of a number among those of the instance store.
by_store() {
	find /dev/disk/by-id -name 'nvme-Amazon_EC2_NVMe_Instance_Storage_*' ! -name '*-part*' ! -name '*-ns-*' ! -name '*_[0-9]' 2>/dev/null |
		LC_ALL=C sort | sed -n "$1p"
}

# volume POINT SECONDS DEVICE FILESYSTEM OPTIONS mounts a device, whose file
# system is made when, and only when, there is nothing at all on it.
volume() {
	local point=$1 limit=$2 device=$3 kind=$4 options=$5 found uuid probe=0
	found=$(blkid --probe --output value --match-tag TYPE "$device") || probe=$?
	if ((probe == 2)) && [[ $(lsblk --noheadings --output NAME "$device" | wc -l) == 1 ]]; then
		say "$device is empty: making $kind on it"
		"mkfs.$kind" "$device"
		udevadm settle --timeout=10
	elif [[ $found != "$kind" ]]; then
		fail "$device holds ${found:-something that is no file system}, not $kind, and is left as it is"
	fi
	uuid=$(blkid --probe --output value --match-tag UUID "$device")
	entry "$point" "UUID=$uuid $point $kind $options 0 2"
	attach "$point" "$limit" mount
}

#: command
# limited SECONDS COMMAND... runs a program that has so much time.
limited() {
	local limit=$1 code=0
	shift
	timeout --kill-after=10 "$limit" "$@" || code=$?
	if ((code == 124 || code == 137)); then
		noted "${BASH_LINENO[0]}" "$*"
		printf 'it was killed after %d s\n' "$limit" >&2
		exit 124
	fi
	if ((code != 0)); then
		noted "${BASH_LINENO[0]}" "$*"
		exit "$code"
	fi
}

# script SECONDS FILE runs a script of the spec; line and command that fail are
# those of the script.
script() {
	local limit=$1 file=$2 code=0
	# shellcheck disable=SC2016 # the inner shell expands it
	timeout --kill-after=10 "$limit" bash -c 'set -eEuo pipefail
trap '\''noted "$LINENO" "$BASH_COMMAND"'\'' ERR
source "$1"' bash "$file" || code=$?
	if ((code == 124 || code == 137)); then
		noted 0 "$file"
		printf 'it was killed after %d s\n' "$limit" >&2
	fi
	if ((code != 0)); then exit "$code"; fi
}
