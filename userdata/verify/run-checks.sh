#!/bin/sh
# Runs the compiled checks in a verifier and leaves nothing behind. Exit code 0
# says that the checks could be run; their verdict is in the result, which goes
# to S3 because Run Command cuts long output. Run Command hands scripts to sh,
# so this one is plain POSIX shell.
#
# Needs: GOSS_URL GOSS_SHA256 CHECKS_URL CHECKS_SHA256 RESULTS_PUT_URL,
# INVENTORY_PUT_URL and INVENTORY_SCRIPT, the text of inventory.sh.
# AMI_FACTORY_CHECKS_DIR moves the directory it works in from /var/lib.
set -eu
umask 077

fail() {
	printf 'run-checks: %s\n' "$*" >&2
	exit 1
}

# digest FILE
digest() {
	sha256sum "$1" | cut -d' ' -f1
}

# transfer runs curl with patience for a network that is still coming up.
transfer() {
	curl --fail --silent --show-error --location --retry 5 --retry-all-errors --retry-delay 2 \
		--connect-timeout 10 --max-time 300 "$@"
}

# upload FILE URL sends a file to an address that takes one upload. HTTP 412 says that
# there is one already: this script's own, whose answer was lost, or a stranger's,
# which the printed digest exposes.
upload() {
	status=$(curl --silent --show-error --location --retry 5 --retry-all-errors --retry-delay 2 \
		--connect-timeout 10 --max-time 300 --header 'If-None-Match: *' --upload-file "$1" \
		--output /dev/null --write-out '%{http_code}' "$2") ||
		fail "cannot upload ${1##*/} to ${2%%\?*}"
	case $status in
	200 | 412) ;;
	*) fail "cannot upload ${1##*/} to ${2%%\?*}: HTTP $status" ;;
	esac
}

# fetch URL SHA256 FILE
fetch() {
	transfer --output "$3" "$1" || fail "cannot download ${3##*/} from ${1%%\?*}"
	[ "$(digest "$3")" = "$2" ] || fail "${3##*/} has SHA-256 $(digest "$3"), expected $2"
}

: "${GOSS_URL:?is not set}" "${GOSS_SHA256:?is not set}"
: "${CHECKS_URL:?is not set}" "${CHECKS_SHA256:?is not set}" "${RESULTS_PUT_URL:?is not set}"
: "${INVENTORY_PUT_URL:?is not set}" "${INVENTORY_SCRIPT:?is not set}" "${INVENTORY_SECONDS:?is not set}"

# The inventory may be this large when it is packed.
inventory_limit=8388608

# Not /tmp or /run: a hardened image may mount them noexec.
dir=$(mktemp -d "${AMI_FACTORY_CHECKS_DIR:-/var/lib}/ami-factory-checks.XXXXXXXX")
listing=
clean() {
	# timeout passes the signal on to what it runs.
	if [ "$listing" ]; then
		kill "$listing" 2>/dev/null || true # it may have ended by itself
		wait "$listing" || true             # its exit code was read before, or an error is under way
	fi
	rm -rf "$dir"
}
trap clean EXIT
trap 'exit 1' HUP INT TERM

# The inventory is taken while the checks run.
mkdir "$dir/inventory"
printf '%s\n' "$INVENTORY_SCRIPT" >"$dir/inventory.sh"
unset INVENTORY_SCRIPT
INVENTORY_DIR=$dir/inventory nice timeout -k 10 "$INVENTORY_SECONDS" sh "$dir/inventory.sh" \
	>"$dir/inventory.txt" 2>"$dir/inventory.errors" </dev/null &
listing=$!

fetch "$GOSS_URL" "$GOSS_SHA256" "$dir/goss"
fetch "$CHECKS_URL" "$CHECKS_SHA256" "$dir/checks.yaml"
chmod 700 "$dir/goss"

# Two for each processor, and at least four: checks mostly wait for programs that they
# start. More would let a check time out because no processor is free, a false alarm.
atonce=$(($(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1) * 2))
[ "$atonce" -ge 4 ] || atonce=4
code=0
(
	cd /
	HOME=/root
	PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
	umask 022
	export HOME PATH
	exec "$dir/goss" --gossfile "$dir/checks.yaml" validate --format json --no-color --max-concurrent "$atonce"
) >"$dir/results.json" 2>"$dir/errors" </dev/null || code=$?

# goss ends with 0 when all is well and 1 when a check failed, but with 1 too
# when it could not read its file: only the summary tells.
if [ "$code" -gt 1 ] || ! grep -q '"summary"' "$dir/results.json"; then
	fail "goss did not run the checks (exit code $code): $(cat "$dir/errors" "$dir/results.json" | head -c 2000)"
fi

gzip -9 --no-name "$dir/results.json"
upload "$dir/results.json.gz" "$RESULTS_PUT_URL"

listed=0
wait "$listing" || listed=$?
[ "$listed" != 124 ] || fail "the inventory took longer than $INVENTORY_SECONDS s"
[ "$listed" = 0 ] || fail "the inventory was not taken (exit code $listed): $(head -c 2000 "$dir/inventory.errors")"
gzip -6 --no-name "$dir/inventory.txt"
size=$(wc -c <"$dir/inventory.txt.gz")
[ "$size" -le "$inventory_limit" ] || fail "the inventory has $size bytes packed, $inventory_limit are allowed"
upload "$dir/inventory.txt.gz" "$INVENTORY_PUT_URL"

# Engines beside goss are in engines.sh, which comes before this script if a recipe has any.
announced=''
if command -v run_engines >/dev/null; then run_engines "$dir"; fi

printf '{"sha256":"%s","bytes":%d,"gossExit":%d,"inventory":{"sha256":"%s","bytes":%d},"engines":{%s}}\n' \
	"$(digest "$dir/results.json.gz")" "$(wc -c <"$dir/results.json.gz")" "$code" \
	"$(digest "$dir/inventory.txt.gz")" "$size" "$announced"
