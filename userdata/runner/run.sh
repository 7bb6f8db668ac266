#!/bin/bash
# Runs the components of the bundle it lies in, one after the other, and writes
# what became of them to /var/lib/ami-factory/provision.json. It may be run
# again: components are idempotent, and the result is written again.
#
# AMI_FACTORY_STATE_DIR and AMI_FACTORY_LOG_DIR move its two directories.
set -uo pipefail
umask 022

bundle=$(cd "$(dirname "$0")" && pwd)
state=${AMI_FACTORY_STATE_DIR:-/var/lib/ami-factory}
logs=${AMI_FACTORY_LOG_DIR:-/var/log/ami-factory}
result=$state/provision.json
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export DEBIAN_FRONTEND=noninteractive

# say prints a progress line. cloud-init's output already goes to the console;
# anybody else's does not.
say() {
	printf 'ami-factory: %s\n' "$*"
	if ! grep -q cloud-final /proc/self/cgroup && [[ -w /dev/console ]]; then
		{ printf 'ami-factory: %s\r\n' "$*" >/dev/console; } 2>/dev/null
	fi
}

# json prints a JSON string.
json() {
	local text=$1 out='' char code i
	for ((i = 0; i < ${#text}; i++)); do
		char=${text:i:1}
		case $char in
		\" | \\) out+="\\$char" ;;
		[[:cntrl:]])
			printf -v code '\\u%04x' "'$char"
			out+=$code
			;;
		*) out+=$char ;;
		esac
	done
	printf '"%s"' "$out"
}

# joined prints its arguments with commas between them.
joined() {
	local IFS=,
	printf '%s' "$*"
}

# report runs report.sh, which uploads. What it starts keeps neither the lock of
# this run nor the pipe that cloud-init reads.
report() {
	if [[ -f $bundle/report.sh ]]; then bash "$bundle/report.sh" "$1" </dev/null >/dev/null 2>&1 9>&- & fi
}

# progress notes the steps so far, and the one that runs if one is named.
progress() {
	local steps=("${done_components[@]}")
	if [[ ${1:-} ]]; then steps+=("{\"name\":$(json "$1"),\"status\":\"running\"}"); fi
	printf '{"schema":1,"steps":[%s]}\n' "$(joined "${steps[@]}")" >"$state/steps.json.new"
	mv -f "$state/steps.json.new" "$state/steps.json"
	report steps
}

# finish writes the result and ends this script.
finish() {
	local status=$1 failed=$2
	printf '{"status":"%s","components":[%s]%s}\n' "$status" "$(joined "${done_components[@]}")" "${failed:+,\"failed\":$failed}" >"$result.new"
	mv -f "$result.new" "$result"
	progress
	report start
	sync
	[[ $status == ok ]] || exit 1
	exit 0
}

# give_up ends with a failure that is the runner's own.
give_up() {
	say "$2"
	finish failed "{\"component\":$(json "$1"),\"exit\":1,\"line\":0,\"command\":$(json "$2"),\"logTail\":\"\"}"
}

# plan prints, all ended by NUL: the family; then, per component, its name, the
# number of its parameters and they as NAME=value, the number of its packages
# and they, the number of its services and they.
plan() {
	python3 - "$bundle/manifest.json" <<'PYTHON'
import json, re, sys

with open(sys.argv[1], encoding="utf-8") as file:
    manifest = json.load(file)

def snake(name):
    return re.sub(r"[^A-Z0-9]", "_", re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).upper())

fields = [manifest.get("family", "")]
for component in manifest["components"]:
    parameters = component.get("parameters") or {}
    fields += [component["name"], str(len(parameters))]
    for name in sorted(parameters):
        value = parameters[name]
        if isinstance(value, bool):
            value = str(value).lower()
        fields.append(f"AMI_FACTORY_PARAM_{snake(name)}={value}")
    for key in ("packages", "services"):
        names = component.get(key) or []
        fields += [str(len(names)), *names]
sys.stdout.write("".join(field + "\0" for field in fields))
PYTHON
}

# run_component installs a component's packages and runs its install.sh. What
# they print goes to its log and to standard output; the shell that runs them
# notes line and text of a command that makes it fail, by the trap in
# on-error.sh.
run_component() {
	local name=$1 family=$2
	shift 2
	rm -f "$trace"
	(
		cd "$bundle/components/$name" || exit 1
		export AMI_FACTORY_COMPONENT=$name AMI_FACTORY_FAMILY=$family AMI_FACTORY_TRACE=$trace \
			AMI_FACTORY_LIB=$bundle/lib BASH_ENV=$on_error
		if ((${#packages[@]} > 0)); then bash "$AMI_FACTORY_LIB/packages.sh" "${packages[@]}" || exit; fi
		exec env "$@" bash install.sh
	) </dev/null 2>&1 | tee "$logs/$name.log"
	return "${PIPESTATUS[0]}"
}

# enable_services enables the units that a component has for the first boot.
enable_services() {
	local name=$1 unit
	shift
	for unit in "$@"; do
		if ! systemctl enable --quiet "$unit" 2>&1 | tee -a "$logs/$name.log"; then
			printf '0\nsystemctl enable %s\n' "$unit" >"$trace"
			return 1
		fi
	done
}

# failure prints the "failed" object of a component that ended with a code.
failure() {
	local name=$1 code=$2 line=0 command=''
	if [[ -s $trace ]]; then
		{
			IFS= read -r line
			IFS= read -r -d '' command
		} <"$trace"
		command=${command%$'\n'}
	else
		# No command failed that a trap could see: the shell itself gave up, as
		# on an unset variable or a syntax error, and named the line.
		local message
		message=$(grep -aE '^install\.sh: line [0-9]+: ' "$logs/$name.log" | tail -n 1)
		if [[ $message =~ ^install\.sh:\ line\ ([0-9]+):\ (.*)$ ]]; then
			line=${BASH_REMATCH[1]}
			command=${BASH_REMATCH[2]}
		fi
	fi
	[[ $line =~ ^[0-9]+$ ]] || line=0
	printf '{"component":%s,"exit":%d,"line":%d,"command":%s,"logTail":"%s"}' \
		"$(json "$name")" "$code" "$line" "$(json "${command:0:500}")" \
		"$(tail -c 4096 "$logs/$name.log" | base64 -w 0)"
}

done_components=()
mkdir -p "$state"
install -d -m 700 "$logs"

exec 9>"$state/run.lock"
if ! flock -n 9; then
	say "another run of the components is under way; this one does nothing"
	exit 1
fi
rm -f "$result"

scratch=$(mktemp -d "$state/run.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
trace=$scratch/trace
on_error=$scratch/on-error.sh
# In the component's shell only: unset first, or every bash below would have it.
# A command that fails in a subshell is noted by the command that holds the
# subshell, if that matters to the script at all.
cat >"$on_error" <<'TRAP'
unset BASH_ENV
set -E
ami_factory_note() {
	local line=$1 command=$2 i
	# So ends `fail` of lib.sh, which has said why.
	if [[ $command == 'return 1' && -n ${AMI_FACTORY_REASON:-} ]]; then command=$AMI_FACTORY_REASON; fi
	# A line of what components share helps nobody: the line of install.sh that led
	# there does. Without one it was the packages of the component's description.
	if [[ ${BASH_SOURCE[1]-} != install.sh ]]; then
		line=0
		for ((i = 2; i < ${#BASH_SOURCE[@]}; i++)); do
			if [[ ${BASH_SOURCE[i]} == install.sh ]]; then
				line=${BASH_LINENO[i - 1]}
				break
			fi
		done
	fi
	printf '%s\n%s\n' "$line" "$command" >"$AMI_FACTORY_TRACE"
}
trap 'if ((BASH_SUBSHELL == 0)); then ami_factory_note "$LINENO" "$BASH_COMMAND"; fi' ERR
TRAP

plan >"$scratch/plan" || give_up "" "the bundle's manifest.json cannot be read"
mapfile -d '' -t fields <"$scratch/plan"
family=${fields[0]}

next=1
while ((next < ${#fields[@]})); do
	name=${fields[next]}
	count=${fields[next + 1]}
	parameters=("${fields[@]:next+2:count}")
	next=$((next + 2 + count))
	count=${fields[next]}
	packages=("${fields[@]:next+1:count}")
	next=$((next + 1 + count))
	count=${fields[next]}
	services=("${fields[@]:next+1:count}")
	next=$((next + 1 + count))

	if [[ ! -f $bundle/components/$name/install.sh ]]; then
		give_up "$name" "the bundle has no components/$name/install.sh"
	fi
	say "component $name: started"
	progress "$name"
	started=$SECONDS
	code=0
	run_component "$name" "$family" "${parameters[@]}" && enable_services "$name" "${services[@]}" || code=$?
	seconds=$((SECONDS - started))
	if ((code != 0)); then
		done_components+=("{\"name\":$(json "$name"),\"status\":\"failed\",\"seconds\":$seconds,\"exit\":$code}")
		say "component $name: failed with exit code $code after ${seconds}s"
		finish failed "$(failure "$name" "$code")"
	fi
	done_components+=("{\"name\":$(json "$name"),\"status\":\"ok\",\"seconds\":$seconds,\"exit\":0}")
	say "component $name: ok after ${seconds}s"
done

say "all components are installed"
finish ok ""
