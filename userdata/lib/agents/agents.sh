#!/bin/bash
# What the components of vendors' agents share; sourced after lib.sh by their
# prepare.sh, which calls in this order
#
#	agent_lock NAME UNIT      before the package is installed
#	agent_repository … or agent_signed_package …
#
# and by their install.sh, which calls agent_ready NAME UNIT … after it.
#
# The package's scripts start the agent's service as they please. A mask would
# not keep them from it: these packages bring their unit in /etc/systemd/system,
# where they write over a mask, or fail on it. So a drop-in that is there before
# the package gives the unit a condition that is never true in a builder.
# shellcheck disable=SC2154 # lib.sh counts changes

agents_dir=/usr/lib/ami-factory

# fingerprints is what matches the parameter KEY_FINGERPRINT: one fingerprint, or
# several separated by spaces.
fingerprints='[0-9A-F]{40}( +[0-9A-F]{40})*'

# codename prints how a repository calls the family's release.
codename() {
	case ${AMI_FACTORY_FAMILY:?} in
	debian-12) echo bookworm ;;
	debian-13) echo trixie ;;
	ubuntu-22.04) echo jammy ;;
	ubuntu-24.04) echo noble ;;
	*) echo '' ;;
	esac
}

# parameter NAME [PATTERN] prints a parameter, which must match a pattern when it
# is not empty.
parameter() {
	local variable=AMI_FACTORY_PARAM_$1 value
	value=${!variable-}
	if [[ -n $value && -n ${2-} && ! $value =~ ^$2$ ]]; then
		fail "parameter $1 is '$value'; allowed: what matches $2" || return
	fi
	printf '%s\n' "$value"
}

# needed NAME PATTERN prints a parameter that must not be empty.
needed() {
	local value
	value=$(parameter "$@") || return
	if [[ -z $value ]]; then fail "parameter $1 has no value" || return; fi
	printf '%s\n' "$value"
}

# drop_in UNIT NAME SOURCE lays a drop-in of a unit down.
drop_in() { put 644 "$3" "/etc/systemd/system/$1.d/$2"; }

# agent_lock NAME UNIT puts what starts agents into the image, and keeps UNIT
# from being started by anything else.
agent_lock() {
	local name=$1 unit=$2 before=$changes
	put 755 "$AMI_FACTORY_LIB/agents/agent" $agents_dir/agent
	put 755 "$AMI_FACTORY_LIB/agents/read-secret" $agents_dir/read-secret
	put 644 "$AMI_FACTORY_LIB/agents/aws.py" $agents_dir/aws.py
	put 644 "$AMI_FACTORY_LIB/agents/ami-factory-agent@.service" /etc/systemd/system/ami-factory-agent@.service
	sed "s/@NAME@/$name/g" "$AMI_FACTORY_LIB/agents/lock.conf" | drop_in "$unit" 50-ami-factory-lock.conf /dev/stdin
	if [[ -e files/hardening.conf ]]; then drop_in "$unit" 60-ami-factory-hardening.conf files/hardening.conf; fi
	directory 700 root:root /etc/ami-factory/agents
	if ((changes > before)) && booted; then systemctl daemon-reload; fi
}

# agent_repository NAME URI PACKAGE adds the vendor's repository, which may deliver
# PACKAGE, by the parameters that all agents have.
agent_repository() {
	local name=$1 uri=$2 package=$3 suite pinned key
	uri=${AMI_FACTORY_PARAM_REPOSITORY:-$uri}
	[[ -n $uri ]] || fail "parameter repository has no value, and the vendor has no repository for $AMI_FACTORY_FAMILY that needs no login: name the URL of your own"
	suite=$(parameter SUITE '[A-Za-z0-9._/-]+')
	needed VERSION '[A-Za-z0-9.+:~_-]+' >/dev/null
	key=$(needed KEY_URL 'https?://[^ ]+')
	pinned=$(needed KEY_FINGERPRINT "$fingerprints")
	repository "$name" "$uri" "${suite:-$(codename)}" main "$key" "$pinned" "$package"
}

# signed FILE SIGNATURE KEY says whether a file has a detached signature of a key,
# by what apt itself checks with.
signed() {
	local file=$1 signature=$2 key=$3 ring result=0
	if command -v sqv >/dev/null; then
		sqv --keyring "$key" "$signature" "$file" >/dev/null
		return
	fi
	ring=$(mktemp)
	# gpgv takes no armoured keys.
	python3 -I "$AMI_FACTORY_LIB/key-fingerprints.py" --dearmour "$key" >"$ring" || return 1
	gpgv --quiet --keyring "$ring" "$signature" "$file" || result=1
	rm -f "$ring"
	return "$result"
}

# agent_signed_package PACKAGE VERSION URL KEY_URL FINGERPRINTS fetches a .deb that
# a vendor publishes without a repository, with a detached signature beside it
# (URL.sig), and hands it to the run that installs all packages. Its name and version must be those that are asked for, for the
# signature of an older or another package is as good.
agent_signed_package() {
	local package=$1 version=$2 url=$3 key_url=$4 pinned=$5 scratch found
	if [[ $(installed_version "$package") == "$version" ]]; then return; fi
	scratch=$(mktemp -d)
	chmod 755 "$scratch" # apt reads the package as another user
	fetch "$key_url" "$scratch/key" ''
	found=$(key_fingerprints "$scratch/key") || fail "${key_url%%\?*} is not an OpenPGP key"
	if [[ -n $(unpinned "$found" "$pinned") ]]; then
		rm -rf "$scratch"
		fail "the key of $package has the fingerprint ${found//$'\n'/ and }, expected ${pinned// / or }; it is not trusted"
	fi
	fetch "$url" "$scratch/package.deb" ''
	fetch "$url.sig" "$scratch/package.sig" ''
	if ! signed "$scratch/package.deb" "$scratch/package.sig" "$scratch/key"; then
		rm -rf "$scratch"
		fail "${url%%\?*} is not signed by the key ${pinned// / or }; it is not installed"
	fi
	found=$(dpkg-deb --field "$scratch/package.deb" Package)=$(dpkg-deb --field "$scratch/package.deb" Version)
	if [[ $found != "$package=$version" ]]; then
		rm -rf "$scratch"
		fail "${url%%\?*} holds $found, expected $package=$version; it is not installed"
	fi
	chmod 644 "$scratch/package.deb"
	mv "$scratch/package.deb" "${AMI_FACTORY_JOIN:?}/$package.deb"
	rm -rf "$scratch"
	printf '%s|%s|%s\n' "$AMI_FACTORY_COMPONENT" "$package" "$AMI_FACTORY_JOIN/$package.deb" >>"$AMI_FACTORY_JOIN/files"
}

# agent_ready NAME UNIT PACKAGE KEY=VALUE… notes for the first boot what the
# component was given, and takes the unit out of the boot. It fails when the
# agent runs or ever ran here. Values are what NAME.py calls settings.
agent_ready() {
	local name=$1 unit=$2 package=$3 version secret document
	shift 3
	version=$(installed_version "$package")
	secret=$(parameter SECRET '[A-Za-z0-9/_+=.@:!-]+')
	document=$(
		python3 -I - "$name" "$unit" "$package" "$version" "$secret" "${AMI_FACTORY_PARAM_START_WITHOUT_USER_DATA:-false}" "$@" <<-'PYTHON'
			import json, sys

			name, unit, package, version, secret, start, *pairs = sys.argv[1:]
			settings = dict(pair.split("=", 1) for pair in pairs)
			print(json.dumps({
			    "name": name, "unit": unit, "package": package, "version": version, "secret": secret,
			    "startWithoutUserData": start == "true", "settings": settings,
			}, indent=2))
		PYTHON
	)
	put 644 /dev/stdin "$agents_dir/agents/$name.json" <<<"$document"
	put 644 "files/$name.py" "$agents_dir/agents/$name.py"
	if [[ $(systemctl is-enabled "$unit" 2>/dev/null) == enabled ]]; then
		systemctl disable --quiet "$unit"
		changed "$unit is disabled"
	fi
	if booted; then
		systemctl daemon-reload
		if [[ $(systemctl show --value --property=ActiveEnterTimestampMonotonic "$unit") != 0 ]]; then
			fail "$unit has been running in this builder: whatever identity it made would be in every instance"
		fi
	fi
}
