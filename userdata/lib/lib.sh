#!/bin/bash
# What components share: files that are laid down so that a second run changes
# nothing, and the package managers of all families behind one set of calls. A
# component's install.sh begins with
#
#	set -euo pipefail
#	. "$AMI_FACTORY_LIB/lib.sh"
#
# and ends with `summary`. AMI_FACTORY_FAMILY tells the family.

# So that what is put at the end of a pipe is counted.
shopt -s lastpipe

changes=0

# changed notes one change; a second run of a component must not come here.
changed() {
	changes=$((changes + 1))
	printf 'changed: %s\n' "$*"
}

# fail says why, for the log and for the runner's result: its trap reads the reason.
fail() {
	# shellcheck disable=SC2034 # read by the trap that run.sh sets
	AMI_FACTORY_REASON=$*
	printf '%s: %s\n' "${AMI_FACTORY_COMPONENT:-component}" "$*" >&2
	return 1
}

# summary is a component's last line.
summary() { printf '%s: %d changes\n' "${AMI_FACTORY_COMPONENT:-component}" "$changes"; }

in_container() { systemd-detect-virt --container --quiet; }

# booted says whether systemd runs, so that units can be told to act at once.
booted() { [[ -d /run/systemd/system ]]; }

# put MODE SOURCE TARGET [CHECK] lays a root-owned file down when content, mode
# or owner differ; SOURCE may be /dev/stdin. CHECK is called with the finished
# file beside its target; the target changes only when it agrees.
put() {
	local mode=$1 source=$2 target=$3 check=${4:-true} staged
	mkdir -p "$(dirname "$target")"
	staged=$target.ami-factory-new
	install -m "$mode" -o root -g root /dev/null "$staged"
	cat "$source" >"$staged"
	if [[ -f $target && ! -L $target ]] && cmp -s "$staged" "$target" && [[ $(stat -c '%a %u:%g' "$target") == "$((10#$mode)) 0:0" ]]; then
		rm -f "$staged"
		return
	fi
	if ! "$check" "$staged"; then
		rm -f "$staged"
		fail "$target is left as it was: the new content does not pass '$check'"
	fi
	mv -fT "$staged" "$target"
	changed "$target"
}

# directory MODE USER:GROUP PATH makes a directory, or corrects one.
directory() {
	local mode=$1 owner=$2 path=$3
	if [[ ! -d $path ]]; then
		install -d -m "$mode" -o "${owner%:*}" -g "${owner#*:}" "$path"
		changed "$path"
	fi
	own "$mode" "$owner" "$path"
}

# own MODE USER:GROUP PATH sets mode and owner of something that exists.
own() {
	local mode=$1 owner=$2 path=$3
	if [[ $(stat -c '%a %U:%G' "$path") != "$((10#$mode)) $owner" ]]; then
		chown "$owner" "$path"
		chmod "$mode" "$path"
		changed "$path is $mode $owner"
	fi
}

# replace TARGET CONTENT changes a file that has no drop-in directory, keeping
# its mode.
replace() {
	local target=$1 content=$2
	if [[ $content != "$(cat "$target")" ]]; then
		printf '%s\n' "$content" >"$target.ami-factory-new"
		chmod --reference="$target" "$target.ami-factory-new"
		chown --reference="$target" "$target.ami-factory-new"
		mv -f "$target.ami-factory-new" "$target"
		changed "$target"
	fi
}

# mask stops and masks units. systemd itself learns of it at its next start or
# daemon-reload: each call that tells it makes it read every unit again.
mask() {
	local unit todo=()
	for unit in "$@"; do
		if [[ $(readlink "/etc/systemd/system/$unit") != /dev/null ]]; then todo+=("$unit"); fi
	done
	if ((${#todo[@]} == 0)); then return; fi
	if booted; then
		for unit in "${todo[@]}"; do
			if systemctl is-active --quiet "$unit"; then systemctl stop "$unit"; fi
		done
	fi
	SYSTEMD_OFFLINE=1 systemctl mask --quiet "${todo[@]}"
	changed "masked: ${todo[*]}"
}

# enable makes units start at boot, without starting them now and, as mask, without
# making systemd read every unit again.
enable() {
	local unit
	for unit in "$@"; do
		if [[ $(SYSTEMD_OFFLINE=1 systemctl is-enabled "$unit" 2>/dev/null) != enabled ]]; then
			SYSTEMD_OFFLINE=1 systemctl enable --quiet "$unit"
			changed "$unit is enabled"
		fi
	done
}

# The package manager's calls. Families differ in names, not in what is asked:
#
#	package_installed NAME      whether it is installed
#	packages_install NAME...    each NAME or NAME=VERSION; what is there is left alone
#	packages_purge NAME...      those that are installed go, with their settings
#	packages_refresh [SOURCES]  reads the repositories again, or those of one file
#	packages_refresh_old        only when what is known of them is a day old or gone
#
# None of them starts, stops or restarts a service. Packages that component.yaml
# lists are there before the first install.sh runs.

# apt or dnf
package_manager() {
	case ${AMI_FACTORY_FAMILY:?} in
	debian-* | ubuntu-*) echo apt ;;
	al2023) echo dnf ;;
	*) fail "family '$AMI_FACTORY_FAMILY' has no package manager here; allowed: debian-12, debian-13, ubuntu-22.04, ubuntu-24.04, al2023" ;;
	esac
}

# patiently COMMAND... tries again where a mirror is slow to answer or in the
# middle of an update.
patiently() {
	local try
	for try in 1 2 3; do
		if "$@"; then return; fi
		printf '%s: attempt %d of 3 failed\n' "$*" "$try" >&2
		if ((try < 3)); then sleep $((try * 5)); fi
	done
	return 1
}

# quietly COMMAND... runs a package manager so that what it installs starts,
# stops and restarts nothing: the image's own boot does that, and a component
# that needs a service before starts it itself. SYSTEMD_OFFLINE makes systemctl
# refrain from talking to systemd (its ENVIRONMENT.md), whoever calls it;
# needrestart and apt-listchanges have switches of their own.
quietly() {
	SYSTEMD_OFFLINE=1 NEEDRESTART_SUSPEND=1 APT_LISTCHANGES_FRONTEND=none DEBIAN_FRONTEND=noninteractive "$@"
}

# apt_get ARGUMENTS... asks nothing, keeps settings that are there, and does not
# wait for the disk after each file: the builder is shut down cleanly before its
# snapshot, or thrown away. DPkg::Path is that of maintainer scripts, where run.sh
# has its own update-initramfs and update-grub in front.
apt_get() {
	quietly apt-get -q -o Acquire::Retries=3 -o Acquire::Languages=none -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 \
		-o DPkg::Path="$PATH" -o Dpkg::Options::=--force-confold -o Dpkg::Options::=--force-unsafe-io "$@"
}

dnf_() { quietly dnf --quiet --assumeyes --setopt=install_weak_deps=False "$@"; }

# installed_version NAME prints the version of an installed package, or nothing.
installed_version() {
	case $(package_manager) in
	apt) dpkg-query -W -f '${db:Status-Abbrev}${Version}\n' "$1" 2>/dev/null | sed -n 's/^ii *//p' || true ;;
	dnf)
		# rpm says on standard output that a package is not installed.
		if rpm -q "$1" >/dev/null 2>&1; then rpm -q --qf '%{VERSION}-%{RELEASE}\n' "$1"; fi
		;;
	esac
}

package_installed() { [[ -n $(installed_version "$1") ]]; }

# lists_are_fresh says whether apt's lists are of this bake, or of the last day.
lists_are_fresh() {
	[[ -n $(find /var/lib/apt/lists -maxdepth 1 -name '*Packages*' -mtime -1 -print -quit 2>/dev/null) ]]
}

packages_refresh() {
	case $(package_manager) in
	apt)
		# To read the distribution's lists again takes an emulated machine a minute.
		if [[ -n ${1:-} ]] && lists_are_fresh; then
			patiently apt_get -o Dir::Etc::sourcelist="$1" -o Dir::Etc::sourceparts=- -o APT::Get::List-Cleanup=0 update
		else
			patiently apt_get update
		fi
		;;
	dnf) patiently dnf_ makecache ;;
	esac
}

packages_refresh_old() {
	# dnf knows by itself when its metadata expire.
	if [[ $(package_manager) == apt ]] && ! lists_are_fresh; then packages_refresh; fi
}

packages_install() {
	local package name version have manager todo=()
	manager=$(package_manager)
	for package in "$@"; do
		name=${package%%=*} version=
		if [[ $package == *=* ]]; then version=${package#*=}; fi
		have=$(installed_version "$name")
		# A version without a release is any release of it, as dnf takes it.
		if [[ -z $have || -n $version && $have != "$version" && ($manager == apt || ${have%-*} != "$version") ]]; then todo+=("$package"); fi
	done
	if ((${#todo[@]} == 0)); then return; fi
	case $manager in
	apt)
		packages_refresh_old
		packages_transaction apt_get -y --no-install-recommends install "${todo[@]}"
		;;
	dnf) packages_transaction dnf_ install "${todo[@]/=/-}" ;;
	esac
	# Scripts of packages could not: see quietly.
	if booted; then systemctl daemon-reload; fi
	changed "packages: ${todo[*]}"
}

# packages_transaction COMMAND... installs packages, and names the one that failed.
packages_transaction() {
	local said why
	said=$(mktemp)
	if { patiently "$@" 2>&1 | tee "$said"; }; then
		rm -f "$said"
		return
	fi
	why=$(package_trouble <"$said")
	rm -f "$said"
	fail "${why:-packages could not be installed; the log above says why}"
}

# package_trouble reads what apt or dnf printed and says which package could not be
# installed, in their own words.
package_trouble() {
	local line name='' words=''
	while IFS= read -r line; do
		case $line in
		'E: Unable to locate package '*) name=${line##* } ;;
		"E: Version '"*"' for '"*"' was not found"*) name=${line#*"' for '"} && name=${name%%"'"*} ;;
		"E: Package '"*"' has no installation candidate"*) name=${line#*"'"} && name=${name%%"'"*} ;;
		'dpkg: error processing package '* | 'dpkg: error processing archive '*) name=${line#dpkg: error processing * } && name=${name%% (*} ;;
		'E: Failed to fetch '*) name=${line#E: Failed to fetch } && name=${name%%[[:space:]]*} && name=${name##*/} ;;
		'E: Sub-process '*) continue ;; # dpkg has said which package
		'E: '*) ;;
		'No match for argument: '*) name=${line##*: } ;;
		'Error: Unable to find a match: '*) name=${line##*: } ;;
		*'nothing provides '*) name=${line#*nothing provides } && name=${name%% *} ;;
		'Error: '*) ;;
		*) continue ;;
		esac
		words=$line
		if [[ -n $name ]]; then break; fi
	done
	if [[ -n $name ]]; then
		printf 'package %s cannot be installed: %s\n' "${name##*/}" "$words"
	elif [[ -n $words ]]; then
		printf 'packages cannot be installed: %s\n' "$words"
	fi
}

packages_purge() {
	local name todo=()
	for name in "$@"; do
		if package_installed "$name"; then todo+=("$name"); fi
	done
	if ((${#todo[@]} == 0)); then return; fi
	case $(package_manager) in
	apt) apt_get -y purge "${todo[@]}" ;;
	dnf) dnf_ remove "${todo[@]}" ;;
	esac
	changed "packages purged: ${todo[*]}"
}

# fetch URL FILE SHA256 downloads a file that has exactly this digest; an empty
# digest is for what is checked otherwise, by its signature.
fetch() {
	local url=$1 file=$2 sha256=$3
	[[ $url == https://* || $url == http://* ]] || fail "cannot fetch '$url'; allowed: an http or https URL"
	patiently curl --fail --silent --show-error --location --proto '=http,https' --connect-timeout 10 --max-time 300 \
		--output "$file" "$url" || fail "cannot download ${url%%\?*}"
	if [[ -n $sha256 && $(sha256sum "$file" | cut -d' ' -f1) != "$sha256" ]]; then
		fail "${url%%\?*} has SHA-256 $(sha256sum "$file" | cut -d' ' -f1), expected $sha256"
	fi
}

# key_fingerprints FILE prints the fingerprints of all primary keys in a file of
# OpenPGP keys, armoured or not.
key_fingerprints() { python3 -I "$AMI_FACTORY_LIB/key-fingerprints.py" "$1"; }

# unpinned FOUND PINNED prints the fingerprints of the first list that are not in the
# second. While a vendor changes its key, its file holds the old key, both keys, or
# the new one: each key in the file must be pinned, but not each pinned key is there.
unpinned() { comm -23 <(tr -s ' \n' '\n' <<<"$1" | sort -u) <(tr -s ' \n' '\n' <<<"$2" | sort -u); }

# repository NAME URI SUITE COMPONENTS KEY_URL FINGERPRINTS PACKAGE... adds a
# vendor's repository. The keys are trusted only if each has one of the pinned
# fingerprints (several are separated by spaces), and the repository may deliver the
# named packages (which may be globs) and nothing else: a decoy of another package's
# name is not taken from it. SUITE and COMPONENTS matter to apt only.
repository() {
	local name=$1 uri=$2 suite=$3 components=$4 key_url=$5 pinned=$6 key found host keyring
	shift 6
	[[ $pinned =~ ^[0-9A-F]{40}(\ +[0-9A-F]{40})*$ ]] || fail "the fingerprint '$pinned' of repository $name is not 40 hexadecimal digits in capitals, or several separated by spaces"
	key=$(mktemp)
	fetch "$key_url" "$key" ''
	found=$(key_fingerprints "$key") || fail "${key_url%%\?*} is not an OpenPGP key"
	if [[ -n $(unpinned "$found" "$pinned") ]]; then
		rm -f "$key"
		fail "the key of repository $name has the fingerprint ${found//$'\n'/ and }, expected ${pinned// / or }; it is not trusted"
	fi
	local before=$changes
	case $(package_manager) in
	apt)
		host=$(sed -E 's|^[a-z]+://([^/@]*@)?([^/:]+).*|\2|' <<<"$uri")
		# The distribution's own packages would not be taken from there either.
		if grep -rqsE "^[^#]*://([^/@ ]*@)?${host//./\\.}([:/[:space:]]|$)" /etc/apt/sources.list /etc/apt/sources.list.d --exclude='ami-factory-*'; then
			fail "repository $name is on $host, where the distribution's packages come from too; apt can tell repositories apart by their host only: serve it under a host name of its own"
		fi
		# Named by its keys, because apt refuses one repository with two keyrings,
		# and several components may have the same repository. Without armour,
		# because apt goes by the file's ending.
		keyring=/etc/apt/keyrings/ami-factory-${found//$'\n'/-}.gpg
		python3 -I "$AMI_FACTORY_LIB/key-fingerprints.py" --dearmour "$key" >"$key.gpg"
		put 644 "$key.gpg" "$keyring"
		put 644 /dev/stdin "/etc/apt/preferences.d/ami-factory-$name" <<-PREFERENCES
			Package: *
			Pin: origin "$host"
			Pin-Priority: -1

			Package: $*
			Pin: origin "$host"
			Pin-Priority: 500
		PREFERENCES
		put 644 /dev/stdin "/etc/apt/sources.list.d/ami-factory-$name.sources" <<-SOURCES
			Types: deb
			URIs: $uri
			Suites: $suite
			Components: $components
			Signed-By: $keyring
		SOURCES
		;;
	dnf)
		# The verified keys in one block of our own: rpm reads no other text.
		python3 -I "$AMI_FACTORY_LIB/key-fingerprints.py" --armour "$key" >"$key.asc"
		put 644 "$key.asc" "/etc/pki/rpm-gpg/ami-factory-$name.asc"
		put 644 /dev/stdin "/etc/yum.repos.d/ami-factory-$name.repo" <<-REPO
			[ami-factory-$name]
			name=$name
			baseurl=$uri
			enabled=1
			gpgcheck=1
			gpgkey=file:///etc/pki/rpm-gpg/ami-factory-$name.asc
			includepkgs=$*
		REPO
		;;
	esac
	rm -f "$key" "$key.gpg" "$key.asc"
	if [[ -n ${AMI_FACTORY_JOIN:-} ]]; then
		# In prepare.sh: the run that installs all packages reads the repository.
		printf '%s|%s|%s\n' "$AMI_FACTORY_COMPONENT" "$name" "$uri" >>"$AMI_FACTORY_JOIN/repositories"
	elif ((changes > before)); then
		packages_refresh "/etc/apt/sources.list.d/ami-factory-$name.sources"
	fi
}
