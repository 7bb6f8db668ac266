#!/bin/bash
# Runs the components of the bundle it lies in and writes their results to
# /var/lib/ami-factory/provision.json:
#
#	prepare.sh	of each component that has one: repositories, settings of packages
#	packages	of all components, in one run of the package manager
#	install.sh	of each component
#	boot-files	initramfs and boot loader, once, if anything asked for them
#
# It may be run again: components are idempotent, and the result is written again.
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

# plan LIST prints, all ended by NUL: the family; the component that has the image's
# packages upgraded; then, per component, its name, the number of its parameters
# and they as NAME=value, the number of its services and they. It writes the
# packages of all to LIST, for packages.sh.
plan() {
	python3 - "$bundle/manifest.json" "$1" <<'PYTHON'
import json, re, sys

with open(sys.argv[1], encoding="utf-8") as file:
    manifest = json.load(file)

def snake(name):
    return re.sub(r"[^A-Z0-9]", "_", re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).upper())

upgrade = [c["name"] for c in manifest["components"] if c.get("upgrade")]
fields = [manifest.get("family", ""), upgrade[0] if upgrade else ""]
packages = []
for component in manifest["components"]:
    parameters = component.get("parameters") or {}
    fields += [component["name"], str(len(parameters))]
    for name in sorted(parameters):
        value = parameters[name]
        if isinstance(value, bool):
            value = str(value).lower()
        fields.append(f"AMI_FACTORY_PARAM_{snake(name)}={value}")
    names = component.get("services") or []
    fields += [str(len(names)), *names]
    for p in component.get("packages") or []:
        packages.append("|".join([component["name"], p["name"], p.get("version", ""), str(int(p.get("early", False))), p["at"]]) + "\n")
with open(sys.argv[2], "w", encoding="utf-8") as file:
    file.writelines(packages)
sys.stdout.write("".join(field + "\0" for field in fields))
PYTHON
}

# logged NAME COMMAND... runs a command whose output goes to the log of a step and
# to standard output; the shell that it runs notes line and text of a command that
# makes it fail, by the trap in on-error.sh.
logged() {
	local name=$1
	shift
	rm -f "$trace"
	(
		export AMI_FACTORY_TRACE=$trace AMI_FACTORY_LIB=$bundle/lib AMI_FACTORY_FAMILY=$family BASH_ENV=$on_error
		exec env "$@"
	) </dev/null 2>&1 | tee -a "$logs/$name.log"
	return "${PIPESTATUS[0]}"
}

# run_script NUMBER SCRIPT runs a script of a component with its parameters.
run_script() {
	local name=${names[$1]} script=$2 parameters=("${fields[@]:first_parameter[$1]:parameter_count[$1]}")
	logged "$name" -C "$bundle/components/$name" AMI_FACTORY_COMPONENT="$name" AMI_FACTORY_SCRIPT="$script" \
		AMI_FACTORY_JOIN="$([[ $script == prepare.sh ]] && printf '%s' "$joined")" "${parameters[@]}" bash "$script"
}

# run_packages STAGE installs packages of all components; see packages.sh.
run_packages() {
	logged packages AMI_FACTORY_COMPONENT=packages AMI_FACTORY_SCRIPT=packages.sh bash "$bundle/lib/packages.sh" "$1" "$list" "$joined" "$upgrade"
}

# enable_services enables the units that a component has for the first boot.
enable_services() {
	local name=$1 unit
	shift
	for unit in "$@"; do
		if [[ $(SYSTEMD_OFFLINE=1 systemctl is-enabled "$unit" 2>/dev/null) == enabled ]]; then continue; fi
		if ! SYSTEMD_OFFLINE=1 systemctl enable --quiet "$unit" 2>&1 | tee -a "$logs/$name.log"; then
			printf '0\nsystemctl enable %s\n' "$unit" >"$trace"
			return 1
		fi
	done
}

# failure NAME CODE SCRIPT STEP prints the "failed" object of a component whose
# script ended with a code, in a step with a log.
failure() {
	local name=$1 code=$2 script=$3 step=$4 line=0 command=''
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
		message=$(grep -aE "^$script: line [0-9]+: " "$logs/$step.log" | tail -n 1)
		if [[ $message =~ ^[a-z.]+:\ line\ ([0-9]+):\ (.*)$ ]]; then
			line=${BASH_REMATCH[1]}
			command=${BASH_REMATCH[2]}
		fi
	fi
	[[ $line =~ ^[0-9]+$ ]] || line=0
	printf '{"component":%s,"script":"%s","exit":%d,"line":%d,"command":%s,"logTail":"%s"}' \
		"$(json "$name")" "$script" "$code" "$line" "$(json "${command:0:500}")" \
		"$(tail -c 4096 "$logs/$step.log" | base64 -w 0)"
}

# step_ok NAME SECONDS and step_failed NAME CODE SECONDS FAILED note how a step
# ended; the second ends this script.
step_ok() {
	done_components+=("{\"name\":$(json "$1"),\"status\":\"ok\",\"seconds\":$2,\"exit\":0}")
	say "$(label "$1"): ok after ${2}s"
}

step_failed() {
	done_components+=("{\"name\":$(json "$1"),\"status\":\"failed\",\"seconds\":$3,\"exit\":$2}")
	say "$(label "$1"): failed with exit code $2 after ${3}s"
	finish failed "$4"
}

# label is how progress lines call a step.
label() {
	case $1 in
	packages | boot-files) printf '%s' "$1" ;;
	*) printf 'component %s' "$1" ;;
	esac
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
	# A line of what components share helps nobody: the line of the component's
	# script that led there does.
	if [[ ${BASH_SOURCE[1]-} != "$AMI_FACTORY_SCRIPT" ]]; then
		line=0
		for ((i = 2; i < ${#BASH_SOURCE[@]}; i++)); do
			if [[ ${BASH_SOURCE[i]} == "$AMI_FACTORY_SCRIPT" ]]; then
				line=${BASH_LINENO[i - 1]}
				break
			fi
		done
	fi
	printf '%s\n%s\n' "$line" "$command" >"$AMI_FACTORY_TRACE"
}
trap 'if ((BASH_SUBSHELL == 0)); then ami_factory_note "$LINENO" "$BASH_COMMAND"; fi' ERR
TRAP

# Packages and components that ask for a new initramfs or boot loader's
# configuration have it at the end.
export AMI_FACTORY_BOOT_FILES=$state/boot-files
mkdir "$scratch/bin" "$scratch/joined"
chmod 711 "$scratch" # apt reads package files as another user
for program in update-initramfs update-grub update-grub2; do
	printf '#!/bin/sh\nexec bash "%s/lib/boot-files.sh" note %s "$@"\n' "$bundle" "${program%2}" >"$scratch/bin/$program"
	chmod 755 "$scratch/bin/$program"
done
export PATH=$scratch/bin:$PATH

list=$scratch/packages joined=$scratch/joined
plan "$list" >"$scratch/plan" || give_up "" "the bundle's manifest.json cannot be read"
mapfile -d '' -t fields <"$scratch/plan"
family=${fields[0]} upgrade=${fields[1]}
AMI_FACTORY_PINNED=$(awk -F '|' '$3 { print $2 }' "$list" | LC_ALL=C sort -u | tr '\n' ' ')
export AMI_FACTORY_PINNED
names=() first_parameter=() parameter_count=() first_service=() service_count=() spent=()
next=2
while ((next < ${#fields[@]})); do
	names+=("${fields[next]}")
	parameter_count+=("${fields[next + 1]}")
	first_parameter+=("$((next + 2))")
	next=$((next + 2 + fields[next + 1]))
	service_count+=("${fields[next]}")
	first_service+=("$((next + 1))")
	next=$((next + 1 + fields[next]))
	spent+=(0)
done
for name in "${names[@]}"; do
	if [[ ! -f $bundle/components/$name/install.sh ]]; then
		give_up "$name" "the bundle has no components/$name/install.sh"
	fi
	: >"$logs/$name.log"
done

# packages STAGE is the step's part of a stage.
packages() {
	local started=$SECONDS code=0 blame=''
	if [[ ! $packages_said ]]; then
		say "packages: started"
		progress packages
		packages_said=yes
		: >"$logs/packages.log"
	fi
	run_packages "$1" || code=$?
	packages_spent=$((packages_spent + SECONDS - started))
	if ((code == 0)); then return; fi
	if [[ -s $joined/blame ]]; then blame=$(<"$joined/blame"); fi
	step_failed packages "$code" "$packages_spent" "$(failure "${blame:-packages}" "$code" packages.sh packages)"
}

packages_spent=0 packages_said=''
if grep -q '|1|[^|]*$' "$list"; then packages early; fi

for i in "${!names[@]}"; do
	name=${names[i]}
	if [[ ! -f $bundle/components/$name/prepare.sh ]]; then continue; fi
	started=$SECONDS
	code=0
	run_script "$i" prepare.sh || code=$?
	spent[i]=$((SECONDS - started))
	if ((code != 0)); then step_failed "$name" "$code" "${spent[i]}" "$(failure "$name" "$code" prepare.sh "$name")"; fi
done

if [[ -s $list || -s $joined/files || $upgrade ]]; then
	packages all
	step_ok packages "$packages_spent"
fi

for i in "${!names[@]}"; do
	name=${names[i]}
	say "component $name: started"
	progress "$name"
	started=$SECONDS
	code=0
	run_script "$i" install.sh && enable_services "$name" "${fields[@]:first_service[i]:service_count[i]}" || code=$?
	seconds=$((spent[i] + SECONDS - started))
	if ((code != 0)); then step_failed "$name" "$code" "$seconds" "$(failure "$name" "$code" install.sh "$name")"; fi
	step_ok "$name" "$seconds"
done

if [[ -s $AMI_FACTORY_BOOT_FILES ]]; then
	say "boot-files: started"
	progress boot-files
	started=$SECONDS
	code=0
	: >"$logs/boot-files.log"
	logged boot-files AMI_FACTORY_COMPONENT=boot-files AMI_FACTORY_SCRIPT=boot-files.sh bash "$bundle/lib/boot-files.sh" run || code=$?
	if ((code != 0)); then step_failed boot-files "$code" "$((SECONDS - started))" "$(failure boot-files "$code" boot-files.sh boot-files)"; fi
	step_ok boot-files "$((SECONDS - started))"
fi

say "all components are installed"
finish ok ""
