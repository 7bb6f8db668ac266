#!/usr/bin/env bash
# Sees to the programs that the factory's guests and tests need:
#   .tools/setup.sh vm | container | lint | test ...
# As root on a system with apt it installs what is missing and says what; else
# it says what to install. Exits 0 when everything is there, 3 when this machine or
# user cannot have it, 1 when apt-get failed.
set -euo pipefail
cd "$(dirname "$0")/.."

# program (or module of Python), the Debian package that has it, what it is for
readonly needs='
qemu-system-x86_64 qemu-system-x86   vm
qemu-img           qemu-utils        vm
mke2fs             e2fsprogs         vm,container,test
debugfs            e2fsprogs         vm,test
mkfs.xfs           xfsprogs          test
mmdebstrap         mmdebstrap        vm,container
newuidmap          uidmap            rootless
systemd-nspawn     systemd-container container
ip                 iproute2          container
shellcheck         shellcheck        lint
curl               curl              test
python3            python3           test
python3:ensurepip  python3-venv      test
gpg                gpg               test
gpgv               gpgv              test
openssl            openssl           test
jq                 jq                test
sfdisk             fdisk             test
skopeo             skopeo            test
'
PATH=$PATH:/usr/sbin:/sbin

# present says whether a program, or PROGRAM:MODULE of Python, is there.
present() {
	if [[ $1 == *:* ]]; then
		"${1%:*}" -c "import ${1#*:}" 2>/dev/null
	else
		command -v "$1" >/dev/null
	fi
}

# missing prints the packages of absent programs for the given purposes.
missing() {
	local program package purposes wanted
	while read -r program package purposes; do
		[[ -n $program ]] || continue
		for wanted in "$@"; do
			if [[ ,$purposes, == *,$wanted,* ]] && ! present "$program"; then
				echo "$package"
			fi
		done
	done <<<"$needs" | sort -u | paste -sd ' '
}

if ! command -v go >/dev/null; then
	echo "setup: Go is not installed: the factory is built with Go 1.26 or later; install it and put its bin folder into PATH" >&2
	exit 1
fi

# An ordinary user makes a base in a user namespace, which root needs none of.
if [[ $EUID -ne 0 && " $* " == *' vm '* ]]; then
	set -- "$@" rootless
fi
packages=$(missing "$@")
if [[ -z $packages ]]; then
	exit 0
fi
if ! command -v apt-get >/dev/null; then
	echo "setup: this system has no apt-get; real guests need the programs of these Debian packages: $packages" >&2
	exit 3
fi
if [[ $EUID -ne 0 ]]; then
	echo "setup: missing: $packages. Install with: sudo apt-get install --no-install-recommends $packages" >&2
	exit 3
fi

mkdir -p build
readonly log=build/setup.log
echo "setup: installing with apt-get: $packages (log: $log)" >&2
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 # one word a package
if ! { apt-get -q update && apt-get -q install --yes --no-install-recommends $packages; } >"$log" 2>&1 </dev/null; then
	tail -n 5 "$log" >&2
	echo "setup: apt-get could not install $packages; see $log, and check the network and apt's sources" >&2
	exit 1
fi
packages=$(missing "$@")
if [[ -n $packages ]]; then
	echo "setup: after installing, the programs of $packages are still not in PATH" >&2
	exit 3
fi
