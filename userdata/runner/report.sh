#!/bin/bash
# Reports how a builder is provisioned, by upload to the addresses in
# /var/lib/ami-factory/uploads: a JSON text with one address a line, for the
# verdict and for the steps, then the size that an upload must have, because the
# addresses sign it. Without that file it does nothing: the factory then
# asks over SSM, which is also what it does when an upload fails. An upload
# therefore never fails the provisioning, and this script ends with 0.
#
#   report.sh steps    uploads steps.json, which run.sh writes
#   report.sh start    starts "report.sh verdict" as a unit of its own
#   report.sh verdict  uploads the verdict: at once when a component failed,
#                      otherwise when cloud-init has ended
#
# AMI_FACTORY_STATE_DIR moves the directory.
set -uo pipefail
umask 077

self=$(cd "$(dirname "$0")" && pwd)/report.sh
state=${AMI_FACTORY_STATE_DIR:-/var/lib/ami-factory}
# cloud-init runs what is here at every boot but the one that put it there. The
# seal removes it with the rest of /var/lib/cloud.
each_boot=${AMI_FACTORY_BOOT_SCRIPTS:-/var/lib/cloud/scripts/per-boot}/ami-factory-report
tries=${AMI_FACTORY_REPORT_TRIES:-6}

[[ -s $state/uploads ]] || exit 0
{
	IFS= read -r verdict_url
	IFS= read -r steps_url
	IFS= read -r size
} <"$state/uploads"

# send ADDRESS FILE ONCE SECONDS uploads a file once and prints the HTTP status.
# The address is a credential: no process list and no log has it.
send() {
	local once=()
	if command -v curl >/dev/null; then
		if [[ $3 == once ]]; then once=(--header 'If-None-Match: *'); fi
		printf 'url = "%s"\n' "$1" | curl --config - --silent --connect-timeout 5 --max-time "$4" "${once[@]}" \
			--upload-file "$2" --output /dev/null --write-out '%{http_code}'
		return
	fi
	printf '%s' "$1" | python3 -I -c '
import sys, urllib.error, urllib.request
path, once, seconds = sys.argv[1:]
with open(path, "rb") as file:
    request = urllib.request.Request(sys.stdin.read(), data=file.read(), method="PUT")
request.add_header("Content-Type", "")
if once == "once":
    request.add_header("If-None-Match", "*")
try:
    with urllib.request.urlopen(request, timeout=float(seconds)) as answer:
        print(answer.status)
except urllib.error.HTTPError as error:
    print(error.code)
' "$2" "$3" "$4" 2>/dev/null
}

# put ADDRESS FILE ONCE SECONDS TRIES fills a JSON text up with spaces and tries again
# what may pass: no network, a busy service. Another refusal, such as that of an
# expired signature, is final.
put() {
	local try status
	LC_ALL=C printf "%-${size}s" "$(<"$2")" >"$2.upload" # %s counts bytes in the locale C
	if (($(wc -c <"$2.upload") > size)); then
		printf 'ami-factory: report: %s has more than %d bytes and is not uploaded; the factory asks over SSM instead\n' "${2##*/}" "$size" >&2
		return 1
	fi
	for ((try = 1; try <= $5; try++)); do
		status=$(send "$1" "$2.upload" "$3" "$4")
		case $status in
		# 412: there is a verdict already, this script's own whose answer was lost.
		2?? | 412) return 0 ;;
		408 | 409 | 429 | 5?? | 000 | '') if ((try < $5)); then sleep "$((try * 2))"; fi ;;
		*) break ;;
		esac
	done
	printf 'ami-factory: report: the upload of %s failed: HTTP %s; the factory asks over SSM instead\n' "${2##*/}" "${status:-none}" >&2
	return 1
}

# object prints a file that holds a JSON object, and null for any other.
object() {
	if [[ $(head -c 1 "$1" 2>/dev/null) == '{' ]]; then cat "$1"; else printf null; fi
}

steps() {
	after_restart
	# Runs wait for each other and then upload what is newest, so that no older
	# state of the steps is the last one.
	exec 8>"$state/steps.lock"
	flock 8
	if [[ -s $state/steps.json ]]; then put "$steps_url" "$state/steps.json" always 10 2; fi
}

# after_restart has a restart of the builder not lose the report.
after_restart() {
	if [[ -e $each_boot ]]; then return; fi
	install -d -m 755 "${each_boot%/*}" && printf '#!/bin/bash\nexec bash %q start\n' "$self" >"$each_boot" && chmod 700 "$each_boot"
}

start() {
	after_restart
	if command -v systemd-run >/dev/null && [[ -d /run/systemd/system ]]; then
		systemd-run --quiet --collect --no-block --unit=ami-factory-report \
			--setenv=AMI_FACTORY_STATE_DIR="$state" bash "$self" verdict && return
	fi
	setsid bash "$self" verdict </dev/null >/dev/null 2>&1 &
}

# restarting says whether the machine goes down before the verdict counts. The
# process of cloud-init's power_state waits for cloud-init's end as this script does.
restarting() {
	if grep -qs '^power_state:' "${AMI_FACTORY_CLOUD_CONFIG:-/var/lib/cloud/instance/cloud-config.txt}"; then sleep 10; fi
	[[ -e /run/systemd/shutdown/scheduled || $(systemctl is-system-running 2>/dev/null) == stopping ]]
}

verdict() {
	local units
	if grep -qs '^{"status":"failed"' "$state/provision.json"; then
		printf null >"$state/cloud-init.json"
	else
		cloud-init status --wait --format json 2>/dev/null >"$state/cloud-init.json"
		# The next boot reports: the factory stops a builder that it takes for ready.
		if restarting; then return; fi
	fi
	units=$(systemctl list-units --state=failed --plain --no-legend --no-pager 2>/dev/null | awk '{ print $1 }' | sed 's/\\/\\\\/g' | tr '\n' ' ') # JSON: names of mounts have backslashes
	printf '{"schema":1,"cloudInit":%s,"provision":%s,"system":{"systemState":"%s","failedUnits":"%s","finished":%s}}\n' \
		"$(object "$state/cloud-init.json")" "$(object "$state/provision.json")" "$(systemctl is-system-running 2>/dev/null)" "$units" "$(date +%s)" >"$state/verdict.json"
	put "$verdict_url" "$state/verdict.json" once 20 "$tries"
	rm -f "$each_boot"
}

case ${1:-} in
steps) steps ;;
start) start ;;
verdict) verdict ;;
*)
	printf 'usage: report.sh steps | start | verdict\n' >&2
	exit 2
	;;
esac
exit 0
