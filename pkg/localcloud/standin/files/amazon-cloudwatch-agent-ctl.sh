#!/bin/sh
# Stand-in for amazon-cloudwatch-agent-ctl: -a fetch-config, append-config,
# start, stop and status, with -m, -c file:PATH and -s, as the agent's
# documentation describes them.
set -eu
home=/opt/aws/amazon-cloudwatch-agent
unit=amazon-cloudwatch-agent.service
action='' location='' start=false
while [ $# -gt 0 ]; do
	case $1 in
	-a | -c | -m | -o)
		if [ $# -lt 2 ]; then
			echo "option $1 needs a value" >&2
			exit 1
		fi
		case $1 in
		-a) action=$2 ;;
		-c) location=$2 ;;
		esac
		shift
		;;
	-s) start=true ;;
	*)
		echo "unknown option $1" >&2
		exit 1
		;;
	esac
	shift
done

fetch() {
	file=${location#file:}
	if [ "$file" = "$location" ]; then
		echo "the stand-in takes -c file:PATH only, not '$location'" >&2
		exit 1
	fi
	if [ ! -r "$file" ] || [ "$(tr -d '[:space:]' <"$file" | cut -c1)" != '{' ]; then
		echo "no configuration in JSON in $file" >&2
		exit 1
	fi
	mkdir -p $home/etc/amazon-cloudwatch-agent.d
	if [ "$1" = replace ]; then rm -f $home/etc/amazon-cloudwatch-agent.d/*; fi
	cp "$file" "$home/etc/amazon-cloudwatch-agent.d/file_$(basename "$file")"
	{
		echo '# translated by a stand-in from'
		cat $home/etc/amazon-cloudwatch-agent.d/* | sed 's/^/# /'
	} >$home/etc/amazon-cloudwatch-agent.toml
	echo 'Configuration validation succeeded'
	if $start; then run; fi
}

run() {
	systemctl daemon-reload
	systemctl enable $unit
	systemctl restart $unit
}

case $action in
fetch-config) fetch replace ;;
append-config) fetch append ;;
start) run ;;
stop) systemctl stop $unit ;;
status)
	status=stopped
	if systemctl is-active --quiet $unit; then status=running; fi
	configured=not\ configured
	if [ -s $home/etc/amazon-cloudwatch-agent.toml ]; then configured=configured; fi
	printf '{\n  "status": "%s",\n  "configstatus": "%s",\n  "version": "@VERSION@"\n}\n' "$status" "$configured"
	;;
*)
	echo "the stand-in knows -a fetch-config, append-config, start, stop and status, not '$action'" >&2
	exit 1
	;;
esac
