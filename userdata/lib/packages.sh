#!/bin/bash
# Installs the packages of all components in one run of the package manager.
#
#	packages.sh early|all LIST JOINED [COMPONENT]
#
# LIST has a line COMPONENT|NAME|VERSION|EARLY|PLACE per package, in the order of
# installation: VERSION is exact or empty, EARLY is 1 for what a prepare.sh needs,
# PLACE is where component.yaml declares it. JOINED is the directory in which
# prepare.sh notes repositories and package files. COMPONENT is the one that has
# all packages of the image upgraded in the same run.
#
# After a failure the file JOINED/blame holds the name of the component that wanted
# the package.
set -euo pipefail
. "$AMI_FACTORY_LIB/lib.sh"

stage=$1 list=$2 joined=$3 upgrade=${4:-} files=()
if [[ $stage == early ]]; then upgrade=''; fi
manager=$(package_manager)

# wanted prints the lines of LIST that this stage installs.
wanted() {
	if [[ $stage == early ]]; then awk -F '|' '$4 == 1' "$list"; else cat "$list"; fi
}

# versions NAME... prints NAME|VERSION of those that are installed. A name that is not
# makes both programs fail, which is no error here.
versions() {
	case $manager in
	apt) dpkg-query -W -f '${db:Status-Abbrev}|${Package}|${Version}\n' "$@" 2>/dev/null | sed -n 's/^.i *|//p' || true ;;
	dnf) rpm -q --qf '%{NAME}|%{VERSION}-%{RELEASE}\n' "$@" | grep '|' || true ;;
	esac
}

# missing prints what is not installed in its version: NAME or NAME=VERSION.
missing() {
	local component name version rest have names
	local -A installed=()
	mapfile -t names < <(wanted | cut -d '|' -f 2 | LC_ALL=C sort -u)
	if ((${#names[@]} == 0)); then return; fi
	while IFS='|' read -r name version; do installed[$name]=$version; done < <(versions "${names[@]}")
	# shellcheck disable=SC2034 # fields of the line
	while IFS='|' read -r component name version rest; do
		have=${installed[$name]:-}
		# A version without a release is any release of it, as dnf takes it.
		if [[ -z $have || -n $version && $have != "$version" && ($manager == apt || ${have%-*} != "$version") ]]; then
			printf '%s\n' "$name${version:+=$version}"
		fi
	done < <(wanted) | LC_ALL=C sort -u
}

# refresh reads the lists of all repositories when those of the distribution are
# old, otherwise those of the repositories that prepare.sh has added.
refresh() {
	local component name uri parts
	if [[ $manager == dnf ]]; then return; fi # it knows when its metadata expire
	if ! lists_are_fresh; then
		patiently apt_get update
		return
	fi
	if [[ ! -s $joined/repositories ]] || ((${#todo[@]} == 0)); then return; fi
	parts=$joined/sources.d
	mkdir -p "$parts"
	# shellcheck disable=SC2034 # fields of the line
	while IFS='|' read -r component name uri; do
		cp "/etc/apt/sources.list.d/ami-factory-$name.sources" "$parts/"
	done <"$joined/repositories"
	# apt reads only these, and keeps the lists of the others.
	patiently apt_get -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$parts" -o APT::Get::List-Cleanup=0 update
}

# repair ends what a restart of the builder interrupted.
repair() {
	if [[ $manager != apt ]]; then return; fi
	if [[ -z $(find /var/lib/dpkg/updates -type f -print -quit 2>/dev/null) ]] &&
		! dpkg-query -W -f '${db:Status-Status}\n' | grep -vxE 'installed|config-files|not-installed' >/dev/null; then
		return
	fi
	printf 'packages: the last run was interrupted; it is ended first\n'
	# What this cannot repair makes the run below fail, whose message is clearer.
	quietly dpkg --force-confold --configure -a || true
	apt_get -y --fix-broken --no-install-recommends install || true
}

# The index of manual pages is left out: `man` does not use it, and man-db.timer
# makes it on the first day of an instance. man-db's own switch is a file.
man_flag=/var/lib/man-db/auto-update
man_kept=${AMI_FACTORY_STATE_DIR:-/var/lib/ami-factory}/man-db-auto-update
man_off() { if [[ -e $man_flag ]]; then mv -f "$man_flag" "$man_kept"; fi; }
man_on() { if [[ -e $man_kept && -d ${man_flag%/*} ]]; then mv -f "$man_kept" "$man_flag"; fi; }
trap man_on EXIT

# transact runs the package manager once: it installs what is missing and the
# package files of prepare.sh, and upgrades the rest when a component asks for it.
# Packages of an exact version stay at it, also in a second run.
transact() {
	case $manager in
	apt)
		if [[ $upgrade ]]; then
			apt_get -y --no-install-recommends --allow-downgrades upgrade "${exact[@]}" "${todo[@]}" "${files[@]}"
		else
			apt_get -y --no-install-recommends --allow-downgrades install "${todo[@]}" "${files[@]}"
		fi
		;;
	dnf)
		# One command cannot do both here; mostly nothing is pending.
		if [[ $upgrade ]]; then dnf_ "${pinned[@]/#/--exclude=}" upgrade || return; fi
		if ((${#todo[@]} + ${#files[@]} > 0)); then dnf_ install "${todo[@]/=/-}" "${files[@]}"; fi
		;;
	esac
}

# fetching says whether a failure is the mirror's, so that another attempt may help.
fetching() {
	grep -qE '^E: (Failed to fetch|Unable to fetch|Some files failed|Could not get lock|Unable to acquire)|Hash Sum mismatch|Temporary failure|Cannot download|Curl error|Failed to download' "$1"
}

# declared NAME prints COMPONENT|PLACES of a package of LIST.
declared() {
	wanted | awk -F '|' -v name="$1" '$2 == name { if (!n++) first = $1; places = places (n > 1 ? " and " : "") $5 }
		END { if (n) print first "|" places }'
}

# closure NAME... prints the names of packages and of all that they depend on. It only
# explains a failure, so what cannot be found out is left out.
closure() {
	case $manager in
	apt) apt-cache depends --recurse --important "$@" 2>/dev/null | grep -v '^[ |<]' || true ;;
	dnf) dnf_ repoquery --requires --resolve --recursive --qf '%{name}' "$@" 2>/dev/null || true ;;
	esac
}

# blame FILE reads what the package manager printed, notes the component that
# wanted the package that failed, and says so.
blame() {
	local said=$1 trouble name='' found='' component package version early place uri rest who='' why
	trouble=$(package_trouble <"$said")
	if [[ $trouble =~ ^package\ ([^ ]+)\ cannot ]]; then
		name=${BASH_REMATCH[1]}
		name=${name%%_*} name=${name%%:*}
		found=$(declared "$name")
	fi
	if [[ $found ]]; then
		who=${found%%|*}
		why="package $name (${found#*|}) ${trouble#package * }"
	elif [[ -s $joined/files ]] && rest=$(grep -F "|$name|" "$joined/files"); then
		who=${rest%%|*}
		why=$trouble
	fi
	# shellcheck disable=SC2034 # fields of the line
	if [[ -z $who && $name ]]; then # a package that another one needs
		while IFS='|' read -r component package version early place; do
			if closure "$package" | grep -Fx "$name" >/dev/null; then
				who=$component
				why="package $name, which $package ($place) needs, ${trouble#package * }"
				break
			fi
		done < <(wanted)
	fi
	# shellcheck disable=SC2034 # fields of the line
	if [[ -z $who && -s $joined/repositories ]]; then
		while IFS='|' read -r component package uri; do
			uri=${uri#*://} uri=${uri%%/*}
			if grep -E '^(E|W|Err|Error)' "$said" | grep -F "$uri" >/dev/null; then
				who=$component
				why="repository $package: ${trouble:-it cannot be read}"
				break
			fi
		done <"$joined/repositories"
	fi
	# shellcheck disable=SC2034 # fields of the line
	if [[ -z $who && $manager == apt ]]; then # packages that do not go together
		while IFS='|' read -r component package version early place; do
			if ! apt-get -s --no-install-recommends install "$package${version:+=$version}" >/dev/null 2>&1; then
				who=$component
				why="package $package ($place) cannot be installed: $(grep -aE "^ *$package :|^E: " "$said" | head -n 1 | sed 's/^ *//')"
				break
			fi
		done < <(wanted)
	fi
	if [[ -z $who && $upgrade ]]; then
		who=$upgrade
		why="the image's packages cannot be upgraded: ${trouble:-the log says why}"
	fi
	printf '%s\n' "$who" >"$joined/blame"
	fail "${why:-${trouble:-packages cannot be installed; the log says why}}"
}

rm -f "$joined/blame"
man_on
repair
mapfile -t todo < <(missing)
mapfile -t pinned < <(awk -F '|' '$3 { print $2 }' "$list" | LC_ALL=C sort -u)
mapfile -t exact < <(awk -F '|' '$3 { print $2 "=" $3 }' "$list" | grep -vxFf <(printf '%s\n' "${todo[@]}") | LC_ALL=C sort -u)
if [[ $stage == all && -s $joined/files ]]; then mapfile -t files < <(cut -d '|' -f 3 "$joined/files"); fi
if ((${#todo[@]} + ${#files[@]} == 0)) && [[ -z $upgrade ]]; then exit; fi
said=$joined/said
if ! { refresh 2>&1 | tee "$said"; }; then blame "$said"; fi
man_off
for try in 1 2 3; do
	if { transact 2>&1 | tee "$said"; }; then
		if ((${#todo[@]} + ${#files[@]} > 0)); then changed "packages: ${todo[*]} ${files[*]##*/}"; fi
		break
	fi
	if ((try == 3)) || ! fetching "$said"; then blame "$said"; fi
	printf 'packages: attempt %d of 3 failed\n' "$try" >&2
	sleep $((try * 5))
	if [[ $manager == apt ]]; then apt_get update || true; fi # the next attempt reports what is still wrong
done
# Scripts of packages could not: see quietly.
if booted; then systemctl daemon-reload; fi
