#!/bin/sh
# Runs the engines that check an image beside goss, and uploads what each printed.
# It is sent before run-checks.sh, which calls run_engines; fail, digest, fetch and
# upload are those of run-checks.sh.
#
# Needs CHECKS_SECONDS, and for each engine that is to run:
#   SCRIPT_COUNT, SCRIPT_URL_n and SCRIPT_SHA256_n from 0, SCRIPT_CONTROLS, SCRIPT_RESULTS_PUT_URL
#   OPENSCAP_STREAM_URL, OPENSCAP_STREAM_SHA256, OPENSCAP_PROFILE, OPENSCAP_RESULTS_PUT_URL,
#     and OPENSCAP_PROGRAM_URL, OPENSCAP_PROGRAM_SHA256 unless the image has oscap
#   BOTTLEROCKET_REPORT, BOTTLEROCKET_LEVEL, BOTTLEROCKET_RESULTS_PUT_URL

# limited FILE BYTES PROGRAM ARGUMENT... runs a program for a limited time, and keeps
# the beginning of its output in FILE, of its errors in FILE.errors, and its exit code
# in FILE.exit.
limited() {
	limited_to=$1 limited_bytes=$2
	shift 2
	{
		limited_code=0
		(
			cd /
			HOME=/root
			PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
			umask 022
			export HOME PATH
			exec timeout -k 5 "$CHECKS_SECONDS" "$@"
		) </dev/null 2>"$limited_to.all" || limited_code=$?
		echo "$limited_code" >"$limited_to.exit"
	} | head -c "$limited_bytes" >"$limited_to"
	head -c 4000 "$limited_to.all" >"$limited_to.errors"
}

# keep ENGINE FILE URL packs and uploads what an engine printed, and announces its digest.
keep() {
	gzip -9 --no-name "$2"
	upload "$2.gz" "$3"
	announced="$announced${announced:+,}\"$1\":\"$(digest "$2.gz")\""
}

engine_script() {
	out=$1/scripts
	echo ami-factory-script/1 >"$out"
	n=0
	while [ "$n" -lt "$SCRIPT_COUNT" ]; do
		eval "fetch \"\$SCRIPT_URL_$n\" \"\$SCRIPT_SHA256_$n\" \"\$1/script$n\""
		chmod 700 "$1/script$n"
		AMI_FACTORY_CONTROLS=${SCRIPT_CONTROLS:-}
		export AMI_FACTORY_CONTROLS
		limited "$1/out$n" 1048577 "$1/script$n"
		{
			printf 'file %d %d %d %d\n' "$n" "$(cat "$1/out$n.exit")" "$(wc -c <"$1/out$n")" "$(wc -c <"$1/out$n.errors")"
			cat "$1/out$n" "$1/out$n.errors"
			echo
		} >>"$out"
		n=$((n + 1))
	done
	echo end >>"$out"
	keep script "$out" "$SCRIPT_RESULTS_PUT_URL"
}

engine_openscap() {
	oscap=oscap
	if [ -n "${OPENSCAP_PROGRAM_URL:-}" ]; then
		fetch "$OPENSCAP_PROGRAM_URL" "$OPENSCAP_PROGRAM_SHA256" "$1/oscap.tar.gz"
		mkdir "$1/oscap"
		tar -xzf "$1/oscap.tar.gz" -C "$1/oscap" || fail "openscap: the program cannot be unpacked"
		oscap=$1/oscap/oscap
	fi
	oscap=$(command -v "$oscap") || fail "openscap: there is no program oscap; the recipe names none, and the image has none"
	fetch "$OPENSCAP_STREAM_URL" "$OPENSCAP_STREAM_SHA256" "$1/stream.xml"
	# The exit code says too little: 2 is a failed rule or an unknown result.
	limited "$1/log" 65536 "$oscap" xccdf eval --profile "$OPENSCAP_PROFILE" --results-arf "$1/arf.xml" "$1/stream.xml"
	[ -s "$1/arf.xml" ] ||
		fail "openscap: oscap wrote no results (exit code $(cat "$1/log.exit")): $(cat "$1/log.errors" "$1/log" | head -c 1500)"
	keep openscap "$1/arf.xml" "$OPENSCAP_RESULTS_PUT_URL"
}

engine_bottlerocket() {
	apiclient=$(command -v apiclient) || fail "bottlerocket: there is no program apiclient"
	if [ "$BOTTLEROCKET_REPORT" = fips ]; then
		limited "$1/report" 4194305 "$apiclient" report fips --format json
	else
		limited "$1/report" 4194305 "$apiclient" report "$BOTTLEROCKET_REPORT" --level "$BOTTLEROCKET_LEVEL" --format json
	fi
	[ -s "$1/report" ] ||
		fail "bottlerocket: apiclient printed no report (exit code $(cat "$1/report.exit")): $(head -c 1500 "$1/report.errors")"
	keep bottlerocket "$1/report" "$BOTTLEROCKET_RESULTS_PUT_URL"
}

# run_engines DIR runs the engines and sets announced to their digests, as members of a
# JSON object.
run_engines() {
	announced=''
	[ -z "${SCRIPT_COUNT:-}" ] || engine_script "$1"
	[ -z "${OPENSCAP_PROFILE:-}" ] || engine_openscap "$1"
	[ -z "${BOTTLEROCKET_REPORT:-}" ] || engine_bottlerocket "$1"
}
