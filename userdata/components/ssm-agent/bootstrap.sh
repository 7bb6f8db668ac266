#!/bin/bash
# Installs the SSM agent when the image has none, or one that is too old: the
# first part of a builder's user data runs this before anything else, because on
# AWS the factory has no other way into the builder. install.sh runs it again. A
# run that finds the agent changes nothing.
set -euo pipefail
umask 022
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C

version=${AMI_FACTORY_PARAM_VERSION:-}
minimum=${AMI_FACTORY_PARAM_MINIMUM:-}
mirror=${AMI_FACTORY_PARAM_MIRROR:-}
key_url=${AMI_FACTORY_PARAM_KEY_URL:-}
pinned=${AMI_FACTORY_PARAM_KEY_FINGERPRINT:-}
state=/var/lib/ami-factory
log=$state/ssm-agent.log
work=''

say() { printf 'ami-factory: ssm-agent: %s\n' "$*"; }

# stop LINE MESSAGE ends with a failure. In the first part of the user data it
# writes the verdict that the factory waits for, keeps the next part from running,
# and powers the builder off, because on AWS nothing can read the verdict without the
# agent: the console then shows the reason within minutes instead of a time-out. A
# rehearsal has read the verdict by then. Messages have no character that JSON escapes.
stop() {
	local message=${2//[\"\\]/}
	say "failed: $message"
	if [[ ${AMI_FACTORY_FIRST_PART:-} ]]; then
		printf '{"status":"failed","components":[],"failed":{"component":"ssm-agent","exit":1,"line":%d,"command":"%s","logTail":"%s"}}\n' \
			"$1" "$message" "$(tail -c 2048 "$log" 2>/dev/null | base64 -w 0)" >"$state/provision.json.new"
		mv -f "$state/provision.json.new" "$state/provision.json"
		: >"$state/stopped"
		shutdown -P +2 'ami-factory: the SSM agent cannot be installed' 2>/dev/null || true
	fi
	exit 1
}

# at_least VERSION MINIMUM compares versions of numbers.
at_least() { [[ $(printf '%s\n' "$2" "$1" | sort -V | head -n 1) == "$2" ]]; }

# snapped says whether the agent is a snap, as in Ubuntu's own images.
snapped() { command -v snap >/dev/null && snap list amazon-ssm-agent >/dev/null 2>&1; }

# installed prints the agent's version, without the packaging's revision, or nothing.
installed() {
	if snapped; then
		snap list amazon-ssm-agent | awk 'NR == 2 { print $2 }'
	elif [[ $kind == deb ]]; then
		dpkg-query -W -f '${db:Status-Abbrev}${Version}\n' amazon-ssm-agent 2>/dev/null | sed -n 's/^ii *//p' | sed 's/-[^-]*$//' || true
	elif rpm -q amazon-ssm-agent >/dev/null 2>&1; then
		rpm -q --qf '%{VERSION}\n' amazon-ssm-agent
	fi
}

# metadata PATH prints a value of the instance metadata service.
metadata() {
	local token
	token=$(curl --fail --silent --show-error --retry 5 --max-time 10 --noproxy '*' --request PUT \
		--header 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://169.254.169.254/latest/api/token) &&
		curl --fail --silent --show-error --retry 5 --max-time 10 --noproxy '*' \
			--header "X-aws-ec2-metadata-token: $token" "http://169.254.169.254/latest/meta-data/$1"
}

# fetch URL FILE gets at most 200 MB.
fetch() {
	curl --fail --silent --show-error --location --proto '=http,https' --proto-redir '=http,https' --retry 8 --retry-all-errors \
		--retry-delay 2 --retry-max-time 180 --connect-timeout 10 --max-time 300 --max-filesize 200000000 --output "$2" "$1" 2>>"$log"
}

# verifier has gpgv installed: Debian's apt brings it up to Debian 12 only. What
# apt verifies with since, sqv, refuses AWS's key for the SHA-1 in its self-signature.
verifier() {
	if command -v gpgv >/dev/null; then return; fi
	if [[ $kind == deb ]]; then
		export DEBIAN_FRONTEND=noninteractive
		{ apt-get -q -o Acquire::Retries=3 update && apt-get -q -y --no-install-recommends -o DPkg::Lock::Timeout=300 install gpgv; } >>"$log" 2>&1
	else
		dnf --quiet --assumeyes install gnupg2-minimal >>"$log" 2>&1
	fi
}

# keyring FILE writes the keys of an armoured or plain file as gpgv takes them.
keyring() {
	if grep -q '^-----BEGIN PGP PUBLIC KEY BLOCK-----' "$1"; then
		awk '/^-----BEGIN PGP PUBLIC KEY BLOCK-----/ { at = 1; next } /^(=|-----END)/ { at = 0 } at == 2; at == 1 && /^[[:space:]]*$/ { at = 2 }' "$1" |
			base64 -d >"$work/keys.gpg"
	else
		cp "$1" "$work/keys.gpg"
	fi
}

# signer prints the fingerprint of the key that signed.
signer() { awk '$2 == "VALIDSIG" { print $NF }' "$work/status"; }

# signed says whether the package has a good signature of a pinned key, by the
# status lines of gpgv (doc/DETAILS of GnuPG): its words and exit code also
# accept a subkey's or an expired key's.
signed() {
	gpgv --homedir "$work" --keyring "$work/keys.gpg" --status-fd 1 "$work/$file.sig" "$work/$file" >"$work/status" 2>>"$log" || true
	cat "$work/status" >>"$log"
	grep -q '^\[GNUPG:\] GOODSIG ' "$work/status" &&
		[[ $(grep -c '^\[GNUPG:\] VALIDSIG ' "$work/status") == 1 ]] &&
		[[ " $pinned " == *" $(signer) "* ]] &&
		! grep -qE '^\[GNUPG:\] (BADSIG|ERRSIG|EXPSIG|EXPKEYSIG|REVKEYSIG) ' "$work/status"
}

# contents prints name, version without revision, and architecture of the package.
contents() {
	if [[ $kind == deb ]]; then
		dpkg-deb --field "$work/$file" Package Version Architecture | sed -E 's/^[A-Za-z]+: *//' | sed -E '2s/-[^-]*$//' | tr '\n' ' '
	else
		rpm -qp --nosignature --qf '%{NAME} %{VERSION} %{ARCH} ' "$work/$file" 2>>"$log"
	fi
}

# put installs the package, and says that it keeps settings that are there.
put() {
	if [[ $kind == deb ]]; then
		DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends -o DPkg::Lock::Timeout=300 \
			-o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confold install "$work/$file"
	else
		# Its signature is checked already; rpm does not know the key.
		rpm --upgrade --quiet --nosignature "$work/$file"
	fi
}

# own_key prints the key of the component.
own_key() {
	cat <<'KEY'
-----BEGIN PGP PUBLIC KEY BLOCK-----

mQINBGohhG8BEACxNOk7TM1ywHjW0qrSyH9npRDUjpWAyCD8L1Yu7nLnxwEBtUOk
HgQIo1scTWuwogaBZpAzg22A25AloOrhX8BGTokh71Xm3LbQT8dDQUDT7WRTl4R5
p7786TN79p4DqD3/JyzjiD/keTYyhplBWdyk5BEcqlyVj9Pf/1O6CrOJgGD1oGYK
7lRqMtmXlf86/mKveWvjJTPAF26dkDJZecnrheyEA99XlONm8zAlK6h09JThHBmW
MgDPXDSsVeEyXilPUJFhZJ2HXVG2tS9ioVM309tMX6B3W5woT7w8SA6uV2Pf0jMm
oYmMuCmQMU8/7/vOLQSJm+6Wui5dZywArqtOqXcSledRf7xhmug3Qa5maqY2Ttcn
XqTaH3WaBLtJZYqDJcsUH99AXqdQkozsCHHL2NmxRiShyLCX4VBKzH8j5kDNGeSL
uiICbj1Tufh7LDuIwdOQnX9gvB6j/SF3YVqJl4DAjCs4ODYpwm+36RZjQkbwELzX
zXnDoNgjR5tXCiNdxJLuzemQy7FcDc90fEbpDX03rN7iceavBmZbZ5Tlu53fgpzd
kflD8OwfjnYa9AXh2zweC1G0ut2QU+cZcoOq5/QPtQELNqvgpAUsQtkCECTerz8S
ugriZD4Tnd4FJUgoqX+/iwCWesyWjGkotxi7aJluLtz+znNT9SgeMCoJmQARAQAB
tCdTU00gQWdlbnQgPHNzbS1hZ2VudC1zaWduZXJAYW1hem9uLmNvbT6JAj8EEwEC
ACkFAmohhG8CGy8FCQLGmIAHCwkIBwMCAQYVCAIJCgsEFgIDAQIeAQIXgAAKCRAn
hNvziNGdRnXVD/9bP0IX6aU+qur66fTWs8RLDs//6Vx93e8lH6p4W+RxL+wW7Ajc
/REB7PPgc5ohW80/LwxHP2g8cZiSK7fp9cRbXODqiVYl4mAWQNfxfGcWpBxcEsyo
UGF6oRjiibL1BcJLFJgVZ/H4pT0xNEDJNIJpRn7ZVXm0vrVVVUh4a4WFXUkspRXm
q37eIMm76p969L5SNjY+F8Ld6hjmRiRopg4f/+lf/+e6R+fofSOVE3Ip/YpPH1DR
plwQJrMk1XFjm+JTsdtqMTIKv38j7HANmUgDGLsuQNn8048n6ve8koVZLSrv9FAi
elSNsSIurLEpkLM0QPOFviagK7zB/d/zScpGquBU9dPFOoTq/sNFhnZr+PA7MAek
r4WOP8kasS3LWGn/rqqIOw/PDm2mmUaIwm4XenOe8lJFKUGp6ssUOj4PIQKwGaL/
S2xTex25ZaNQaKXv2JUmriGycpCjIaniEHz60bBN1kSgO0m0a5Yg3X9Qw+ezt51o
Pi6H6NdE0IwNzNcbJI2UvphwR9L92Br/J9ElYbHRdgmz26SZeRNTht/+zKPxk4iD
YibpQ804cPfA0mJBODwzqL5BBfVJ0/rLtQ2ymuHaqKbKEc0KuJ6vWMoH9qlMBlv5
YiZeUw5Ls2uuaxhKTUYrCE4LuUlAtNW63+/TP+ciBg1bq5H5aBn5tSCYVw==
=mK7s
-----END PGP PUBLIC KEY BLOCK-----
KEY
}

mkdir -p "$state"
case ${AMI_FACTORY_FAMILY:-} in
debian-* | ubuntu-*) kind=deb folder=debian file=amazon-ssm-agent.deb ;;
al2023) kind=rpm folder=linux file=amazon-ssm-agent.rpm ;;
*) stop "$LINENO" "family '${AMI_FACTORY_FAMILY:-}' has no package of the agent" ;;
esac
case $(uname -m) in
x86_64) arch=amd64 ;;
aarch64) arch=arm64 ;;
*) stop "$LINENO" "there is no agent for machines of type $(uname -m)" ;;
esac
number='^[0-9]+(\.[0-9]+)+(\+standin)?$'
[[ $version =~ $number && $minimum =~ $number ]] || stop "$LINENO" "parameters version and minimum are '$version' and '$minimum'; allowed: numbers such as 3.3.4851.0"
at_least "$version" "$minimum" || stop "$LINENO" "version $version is older than the minimum $minimum"
[[ $pinned =~ ^[0-9A-F]{40}(\ +[0-9A-F]{40})*$ ]] || stop "$LINENO" "parameter keyFingerprint is '$pinned'; allowed: 40 hexadecimal digits in capitals, several separated by spaces"

have=$(installed)
if [[ $have ]] && at_least "$have" "$minimum"; then
	say "the image has version $have, which is kept"
	exit 0
fi
if snapped; then stop "$LINENO" "the image's snap has version $have, older than $minimum; take a newer source image"; fi

work=$(mktemp -d)
chmod 755 "$work" # apt reads the package as another user
trap 'rm -rf "$work"' EXIT
: >"$log"
if [[ -z $mirror ]]; then
	if ! region=$(metadata placement/region 2>>"$log") || ! domain=$(metadata services/domain 2>>"$log"); then
		stop "$LINENO" "the metadata service does not return region and domain, which the address of the packages contains"
	fi
	mirror=https://amazon-ssm-$region.s3.$region.$domain
fi
url=${mirror%/}/$version/${folder}_$arch/$file
say "fetching ${url%%\?*}"
fetch "$url" "$work/$file" || stop "$LINENO" "cannot fetch ${url%%\?*}"
fetch "$url.sig" "$work/$file.sig" || stop "$LINENO" "cannot fetch the signature ${url%%\?*}.sig"
if [[ $key_url ]]; then
	fetch "$key_url" "$work/key" || stop "$LINENO" "cannot fetch the key ${key_url%%\?*}"
else
	own_key >"$work/key"
fi
keyring "$work/key" 2>>"$log" || stop "$LINENO" "the key is not an OpenPGP key"
verifier || stop "$LINENO" "gpgv cannot be installed, so no signature can be checked"
signed || stop "$LINENO" "${url%%\?*} has no good signature of the key ${pinned// / or }; it is not installed"
[[ $kind == deb ]] || arch=$(uname -m)
found=$(contents) || stop "$LINENO" "${url%%\?*} is not a package"
case $found in
"amazon-ssm-agent $version $arch " | "amazon-ssm-agent $version all " | "amazon-ssm-agent $version noarch ") ;;
*)
	stop "$LINENO" "${url%%\?*} holds $found, expected amazon-ssm-agent $version $arch; it is not installed"
	;;
esac
put >>"$log" 2>&1 || stop "$LINENO" "the package manager refuses $file"
[[ $(installed) == "$version" ]] || stop "$LINENO" "version $version is not installed"
systemctl enable --quiet --now amazon-ssm-agent.service 2>>"$log" || stop "$LINENO" "amazon-ssm-agent.service does not start"
say "installed version $version, signed by $(signer)"
