#!/bin/bash
# First boot of @@NAME@@, made by ami-factory from its user-data spec.
# The steps at the end run in order, each in a subshell of its own. One that fails
# stops those that need it, and no others. What happened, step by step, is in
# @@STATE@@/result.json.
set -euo pipefail
umask 022
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# A unit's environment has neither a home nor a user.
export HOME=/root USER=root LOGNAME=root SHELL=/bin/bash LANG=C.UTF-8 LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive

state=@@STATE@@
reboot=@@REBOOT@@
export state

kinds=() names=() rules=() functions=() needs=()
verdicts=() seconds=() details=()
status=running

say() { printf 'ami-factory userdata: %s\n' "$*"; }

# fail MESSAGE ends a step, with the line that found fault.
fail() {
	noted "${BASH_LINENO[0]}" "$*"
	printf 'ami-factory userdata: %s\n' "$*" >&2
	exit 1
}

# queued MESSAGE says that a step has asked for something that happens after the
# last step, and why.
queued() {
	printf 'ami-factory userdata: %s\n' "$*"
	printf '%s' "$*" >"$state/queued"
}

# plan KIND NAME must|may FUNCTION [NEEDED]... adds a step, which must or may
# succeed, and the functions of the steps that it needs.
plan() {
	kinds+=("$1") names+=("$2") rules+=("$3") functions+=("$4") needs+=("${*:5}")
	verdicts+=("not run") seconds+=(0) details+=('')
}

# quoted TEXT prints it as a string of JSON.
quoted() {
	local text=$1
	text=${text//\\/\\\\}
	text=${text//\"/\\\"}
	text=${text//$'\n'/\\n}
	text=${text//$'\t'/\\t}
	text=${text//[[:cntrl:]]/ }
	printf '"%s"' "$text"
}

# result writes what is known so far, whole or not at all.
result() {
	local i separator=''
	{
		printf '{"schema":1,"name":%s,"status":"%s","reboot":%s,"seconds":%d,"steps":[' \
			"$(quoted '@@NAME@@')" "$status" "$([[ -e $reboot ]] && echo true || echo false)" "$SECONDS"
		for i in "${!names[@]}"; do
			printf '%s\n{"kind":"%s","name":%s,"status":"%s","seconds":%d%s}' "$separator" \
				"${kinds[i]}" "$(quoted "${names[i]}")" "${verdicts[i]}" "${seconds[i]}" "${details[i]}"
			separator=,
		done
		printf '\n]}\n'
	} >"$state/result.json.new"
	mv -f "$state/result.json.new" "$state/result.json"
}

# noted LINE COMMAND keeps what failed last, for the result.
noted() { printf '%s\n%s\n' "$1" "$2" >"$state/failed"; }
export -f noted

# run FUNCTION runs one step; its output is kept apart, because a service that
# it starts may hold it open.
run() {
	(
		set -eE
		trap 'noted "$LINENO" "$BASH_COMMAND"' ERR
		"$1"
	) >"$state/step.log" 2>&1 </dev/null
}

# describe CODE prints where and why the step failed, as members of JSON.
describe() {
	local line=0 command=unknown
	if [[ -s $state/failed ]]; then
		line=$(head -n 1 "$state/failed")
		command=$(tail -n +2 "$state/failed")
	fi
	printf ',"exit":%d,"line":%d,"command":%s,"message":%s' "$1" "$line" "$(quoted "$command")" \
		"$(quoted "$(tail -c 2000 "$state/step.log" | tail -n 5 | LC_ALL=C tr -cd '\11\12\40-\176')")"
}

# unmet STEP prints the name of a step that it needs and that did not succeed.
unmet() {
	local i
	for i in "${!functions[@]}"; do
		if [[ " ${needs[$1]} " == *" ${functions[i]} "* && ${verdicts[i]} != ok ]]; then
			printf '%s' "${names[i]}"
			return
		fi
	done
}

main() {
	local i code began missing broken=''
	result
	for i in "${!names[@]}"; do
		say "step $((i + 1)) of ${#names[@]}: ${names[i]}"
		missing=$(unmet "$i")
		if [[ -n $missing ]]; then
			say "${names[i]} is not run: it needs \"$missing\", which did not succeed"
			details[i]=$(printf ',"message":%s' "$(quoted "it needs \"$missing\", which did not succeed")")
			result
			continue
		fi
		rm -f "$state/failed" "$state/queued"
		began=$SECONDS code=0
		set +e
		run "${functions[i]}"
		code=$?
		set -e
		seconds[i]=$((SECONDS - began))
		cat "$state/step.log"
		if ((code == 0)); then
			verdicts[i]=ok
			if [[ -e $state/queued ]]; then
				verdicts[i]=queued
				details[i]=$(printf ',"message":%s' "$(quoted "$(cat "$state/queued")")")
			fi
		else
			verdicts[i]=failed
			details[i]=$(describe "$code")
			# Nothing was noted where the shell itself gave up.
			printf 'ami-factory userdata: step "%s" failed with exit code %d at line %s: %s\n' "${names[i]}" "$code" \
				"$(head -n 1 "$state/failed" 2>/dev/null || echo '?')" "$(tail -n +2 "$state/failed" 2>/dev/null || true)" >&2
			broken=${broken:-degraded}
			if [[ ${rules[i]} == must ]]; then broken=failed; fi
		fi
		result
	done
	status=${broken:-ok}
	rm -f "$state/failed" "$state/queued" "$state/step.log"
	# What went wrong is looked at before anything changes again.
	if [[ $status == failed ]]; then rm -f "$reboot"; fi
	result
	say "$status after $SECONDS s"
	[[ $status != failed ]]
}

in_container() { systemd-detect-virt --container --quiet; }

umask 077
mkdir -p "$state"
umask 022
