#!/usr/bin/env bash
# Makes what the engine openscap needs, from the packages of Debian:
#   .tools/openscap.sh DIRECTORY
# DIRECTORY/openscap-VERSION-ARCHITECTURE.tar.gz  the program for verifiers that have none: oscap of this machine's
#   release with its libraries and schemas. Make it on Debian 12 for images of Debian 12.
# DIRECTORY/ssg-debian12-ds.xml                   the data stream of ComplianceAsCode, from package ssg-debian of
#   Debian unstable: the one of Debian 12 itself (0.1.65) has no content for Debian 12.
# Both come from the mirror of this machine's own apt configuration, whose signatures apt verifies, and are only
# unpacked: nothing is installed, and no list of apt is changed. Prints the digests for a recipe.
# Exits 3 when this machine is not Debian.
set -euo pipefail
[[ $# -eq 1 ]] || {
	echo "usage: $0 DIRECTORY" >&2
	exit 2
}
mkdir -p "$1"
out=$(cd "$1" && pwd)
id=$(sed -n 's/^ID=//p' /etc/os-release)
if [[ $id != debian ]]; then
	echo "openscap: this machine is $id; the packages are Debian's" >&2
	exit 3
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{packages,root,lists/partial,archives/partial,sources,program/lib,stream}
chmod 755 "$work" "$work/packages" "$work/stream"

# download runs in a directory and shows apt's words only when it fails.
download() {
	local into=$1
	shift
	(cd "$into" && apt-get -q "$@") >"$work/log" 2>&1 || {
		cat "$work/log" >&2
		return 1
	}
}

# What every Debian has stays out: the C library, which fits the kernel's loader there, and no programs.
mapfile -t packages < <(
	apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances openscap-scanner |
		grep -E '^(lib|openscap|zlib)' | grep -vxE 'libc6|libc-bin' | sort -u
)
download "$work/packages" download "${packages[@]}"
for package in "$work"/packages/*.deb; do
	dpkg-deb -x "$package" "$work/root"
done
libraries=$(find "$work/root" -name '*.so.*' -printf '%h\n' | sort -u | paste -sd :)
# grep ends with 1 when nothing is missing, which is what is wanted.
missing=$(LD_LIBRARY_PATH=$libraries ldd "$work/root/usr/bin/oscap" | grep 'not found' || true)
if [[ -n $missing ]]; then
	printf 'openscap: libraries are missing:\n%s\n' "$missing" >&2
	exit 1
fi
LD_LIBRARY_PATH=$libraries ldd "$work/root/usr/bin/oscap" | awk -v root="$work/root/" 'index($3, root) == 1 { print $3 }' |
	xargs cp -L -t "$work/program/lib"
cp "$work/root/usr/bin/oscap" "$work/program/oscap.bin"
cp -r "$work/root/usr/share/openscap" "$work/program/share"
cat >"$work/program/oscap" <<'PROGRAM'
#!/bin/sh
here=$(cd "$(dirname "$0")" && pwd)
export LD_LIBRARY_PATH="$here/lib" OSCAP_SCHEMA_PATH="$here/share/schemas" OSCAP_XSLT_PATH="$here/share/xsl" OSCAP_CPE_PATH="$here/share/cpe"
exec "$here/oscap.bin" "$@"
PROGRAM
chmod 755 "$work/program/oscap"
version=$("$work/program/oscap" --version | sed -n '1s/.* //p')
program=$out/openscap-$version-$(dpkg --print-architecture).tar.gz
tar -C "$work/program" --owner=0 --group=0 --numeric-owner --sort=name --mtime=@0 -cf - . | gzip -9n >"$program"

# shellcheck disable=SC2016 # the format is apt's
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Component: main' 'Label: Debian' | head -n 1)
printf 'Types: deb\nURIs: %s\nSuites: sid\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n' "$mirror" >"$work/sources/sid.sources"
unstable=(
	-o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$work/sources"
	-o Dir::State::lists="$work/lists" -o Dir::Cache="$work"
)
download "$work/stream" "${unstable[@]}" update
download "$work/stream" "${unstable[@]}" download ssg-debian
dpkg-deb -x "$work"/stream/ssg-debian_*.deb "$work/stream"
cp "$work/stream/usr/share/xml/scap/ssg/content/ssg-debian12-ds.xml" "$out/"

basename "$work"/stream/ssg-debian_*.deb
cd "$out" && sha256sum ssg-debian12-ds.xml "$(basename "$program")"
