#!/usr/bin/env bash
# Puts programs that the tests run and that are no plain packages of the system into
# build/programs, as links: cfn-lint in the version that the templates are held to, the
# AWS command line, and cloud-init's check of its own schema:
#   .tools/programs.sh [cfn-lint | aws | cloud-init] ...   (all of them)
# pip installs them into virtual environments in the cache, outside the repository.
# Installing the package cloud-init would configure this machine at its next boot, so it
# is only unpacked there. Exits 0 when all are there, 3 when this machine cannot have
# one, and 1 when a registry failed.
set -euo pipefail
cd "$(dirname "$0")"
readonly tools=${AMI_FACTORY_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ami-factory}/tools
readonly links=../build/programs
absent=0
if [[ $# -eq 0 ]]; then
	set -- cfn-lint aws cloud-init
fi

# version prints the version that a requirements file has of a package.
version() { sed -n "s/^$2==//p" "$1.txt"; }

# log runs a command and shows the end of what it printed only when it fails.
log() {
	local file=$1
	shift
	if ! "$@" >>"$file" 2>&1 </dev/null; then
		tail -n 5 "$file" >&2
		echo "programs: failed: $*; see $file" >&2
		return 1
	fi
}

# environment makes a virtual environment that has the packages of a requirements file,
# and sets home to it.
environment() {
	local requirements=$1.txt
	home=$tools/$1-$({ cat "$requirements" && python3 -VV; } | sha256sum | cut -c 1-12)
	if [[ -e $home/complete ]]; then
		return
	fi
	rm -rf "$home"
	mkdir -p "$home"
	echo "programs: installing $1 into $home" >&2
	log "$home/install.log" python3 -m venv "$home"
	log "$home/install.log" "$home/bin/pip" install --disable-pip-version-check -r "$requirements"
	if [[ $1 == cloud-init ]]; then
		unpack
	fi
	touch "$home/complete"
}

# unpack puts the files of the package cloud-init into home, without installing it.
unpack() {
	(
		cd "$home"
		if ! apt-get -q download cloud-init >>install.log 2>&1; then
			if [[ $EUID -eq 0 ]]; then # the lists may be old
				log install.log apt-get -q update
			fi
			log install.log apt-get -q download cloud-init
		fi
		log install.log dpkg-deb -x cloud-init_*.deb files
	)
	cat >"$home/cloud-init" <<EOF
#!/bin/sh
PYTHONPATH='$home/files/usr/lib/python3/dist-packages' exec '$home/bin/python3' -m cloudinit.cmd.main "\$@"
EOF
	chmod 755 "$home/cloud-init"
}

# lacks says why a program is not available here.
lacks() {
	echo "programs: $1, so tests that need $2 are skipped" >&2
	absent=3
}

mkdir -p "$links" "$tools"
exec 9>"$tools/lock"
if command -v flock >/dev/null; then
	flock 9
fi
for program in "$@"; do
	rm -f "$links/$program"
	case $program in
	cfn-lint) package=cfn-lint found=$(cfn-lint --version 2>/dev/null || true) ;;
	aws) package=awscli found= ;;
	cloud-init) package=cloud-init found= ;;
	*)
		echo "programs: unknown program $program; allowed: cfn-lint, aws, cloud-init" >&2
		exit 2
		;;
	esac
	if [[ $program == cfn-lint && $found != "cfn-lint $(version cfn-lint cfn-lint)" ]] || ! command -v "$program" >/dev/null; then
		if ! python3 -c 'import ensurepip' 2>/dev/null; then
			lacks "Python 3 with its module venv is not installed (Debian packages python3, python3-venv)" "$program"
		elif [[ $program == cloud-init ]] && ! command -v apt-get >/dev/null; then
			lacks "cloud-init is not installed, and without apt-get its package cannot be unpacked" "$program"
		else
			environment "$package"
			target=$home/bin/$program
			if [[ $program == cloud-init ]]; then
				target=$home/cloud-init
			fi
			ln -s "$target" "$links/$program"
		fi
	fi
done
exit $absent
