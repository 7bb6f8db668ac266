#!/bin/bash
# What service@.service runs. A service is told by SERVICES/NAME/conf/service.env,
# a file of root's with one KEY=VALUE a line:
#
#	IMAGE        REGISTRY/REPOSITORY@sha256:DIGEST, of an allowed registry
#	PORTS        ports to publish, separated by spaces: [ADDRESS:]HOST:CONTAINER[/udp]
#	STOP_GRACE   seconds that the service has to end in, 1 to 600; 30
#	HEALTH_PORT  port of the container that answers when the service is healthy
#	HEALTH_PATH  path asked for there; /
#	HEALTH_WAIT  seconds that it may take to become healthy, 1 to 600; 60
#	MEMORY       limit, a number with k, m or g; 512m
#	CPUS         limit, such as 0.5; 1
#
# Beside it, container.env is the environment of the container. The container
# has no capability and cannot gain any, its root is read-only, and it writes to
# /tmp, /var/lib/service and /var/log/service.
#
#	service-run check FILE     says what is wrong with settings
#	service-run run NAME       checks, gets the image, runs until the container ends, and tells systemd when it is healthy
#	service-run remove NAME    stops what is left
set -euo pipefail
# shellcheck source=/dev/null
. "${AMI_FACTORY_FILESYSTEM:-/etc/ami-factory/filesystem.env}"
export DOCKER_CONFIG=/etc/docker

readonly digest='@sha256:[0-9a-f]{64}$'
readonly misconfigured=78 unhealthy=69
declare -A setting=([STOP_GRACE]=30 [HEALTH_PATH]=/ [HEALTH_WAIT]=60 [MEMORY]=512m [CPUS]=1)

# refuse ends with the reason in the journal, in the unit's status and in a file
# that outlives both.
refuse() {
	local code=$1
	shift
	printf 'service %s: %s\n' "$name" "$*" >&2
	if [[ -n ${NOTIFY_SOCKET:-} ]]; then systemd-notify --status "$*" || true; fi
	if [[ $reason ]]; then printf '%s\n' "$*" >"$reason"; fi
	exit "$code"
}

# read_settings FILE
read_settings() {
	local line key value number=0
	while IFS= read -r line || [[ -n $line ]]; do
		number=$((number + 1))
		if [[ -z $line || $line == \#* ]]; then continue; fi
		key=${line%%=*} value=${line#*=}
		case $line in
		IMAGE=* | PORTS=* | STOP_GRACE=* | HEALTH_PORT=* | HEALTH_PATH=* | HEALTH_WAIT=* | MEMORY=* | CPUS=*) setting[$key]=$value ;;
		*) refuse $misconfigured "$1:$number: unknown key '$key'; allowed: IMAGE, PORTS, STOP_GRACE, HEALTH_PORT, HEALTH_PATH, HEALTH_WAIT, MEMORY, CPUS" ;;
		esac
	done <"$1"
}

# allowed KEY PATTERN WHAT refuses a setting of another form.
allowed() {
	[[ ${setting[$1]} =~ $2 ]] || refuse $misconfigured "$1 is '${setting[$1]}'; allowed: $3"
}

seconds() {
	allowed "$1" '^[1-9][0-9]{0,2}$' '1 to 600'
	((setting[$1] <= 600)) || refuse $misconfigured "$1 is '${setting[$1]}'; allowed: 1 to 600"
}

# check FILE reads settings and refuses what cannot be run.
check() {
	local file=$1 port registry approved=no
	[[ -f $file ]] || refuse $misconfigured "$file is missing; it must say at least IMAGE="
	[[ $(stat -L -c %u "$file") == 0 && -z $(find -L "$file" -maxdepth 0 -perm /022) ]] ||
		refuse $misconfigured "$file must be root's, and nobody else's to write: it decides what runs"
	read_settings "$file"
	[[ -n ${setting[IMAGE]:-} ]] || refuse $misconfigured "$file has no IMAGE"
	[[ ${setting[IMAGE]} =~ $digest ]] ||
		refuse $misconfigured "IMAGE is '${setting[IMAGE]}', without a digest; allowed: REGISTRY/REPOSITORY@sha256:DIGEST, because a tag may name another image tomorrow"
	allowed IMAGE '^[a-z0-9.-]+(:[0-9]+)?(/[a-z0-9._-]+)+(:[A-Za-z0-9._-]+)?@' 'REGISTRY/REPOSITORY@sha256:DIGEST'
	for registry in $REGISTRIES; do
		if [[ ${setting[IMAGE]} == "$registry"/* ]]; then approved=yes; fi
	done
	[[ $approved == yes ]] ||
		refuse $misconfigured "IMAGE is '${setting[IMAGE]}', whose registry is not approved; approved: ${REGISTRIES:-none. The parameter registries of the component filesystem names them in the recipe}"
	seconds STOP_GRACE
	seconds HEALTH_WAIT
	allowed HEALTH_PATH '^/[A-Za-z0-9/._~%?=&-]*$' 'a path, such as /health'
	allowed MEMORY '^[1-9][0-9]*[kmg]$' 'a number with k, m or g, such as 512m'
	allowed CPUS '^[0-9]+(\.[0-9]+)?$' 'a number, such as 0.5'
	if [[ -n ${setting[HEALTH_PORT]:-} ]]; then allowed HEALTH_PORT '^[1-9][0-9]{0,4}$' 'a port'; fi
	for port in ${setting[PORTS]:-}; do
		[[ $port =~ ^([0-9.]+:)?[1-9][0-9]{0,4}:[1-9][0-9]{0,4}(/(tcp|udp))?$ ]] ||
			refuse $misconfigured "PORTS has '$port'; allowed: [ADDRESS:]HOST:CONTAINER[/udp]"
	done
}

# get has the image here; docker verifies its digest.
get() {
	local try
	if docker image inspect "${setting[IMAGE]}" >/dev/null 2>&1; then return; fi
	for try in 1 2 3; do
		systemd-notify --status "getting ${setting[IMAGE]}" || true
		if docker pull --quiet "${setting[IMAGE]}"; then return; fi
		if ((try < 3)); then sleep 5; fi
	done
	refuse $unhealthy "cannot get the image ${setting[IMAGE]}; what docker said is above"
}

stop() {
	# docker waits for the grace, and kills what is left.
	docker stop --time "${setting[STOP_GRACE]}" "$container" >/dev/null 2>&1 || true
}

state_of() { docker inspect --format "$1" "$container" 2>/dev/null; }

healthy() {
	local address
	[[ $(state_of '{{.State.Running}}') == true ]] || refuse $unhealthy "the container ended with exit code $(state_of '{{.State.ExitCode}}') before it was healthy: $(last_words)"
	address=$(state_of '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}')
	answer=$(curl --silent --show-error --noproxy '*' --max-time 3 --output /dev/null --write-out 'it answers with HTTP status %{http_code}' \
		"http://$address:${setting[HEALTH_PORT]}${setting[HEALTH_PATH]}" 2>&1) && [[ $answer =~ status\ [23] ]]
}

last_words() { docker logs --tail 3 "$container" 2>&1 | tr '\n' ' ' | head -c 300; }

# await_health returns when the container is healthy, or stops it and ends.
await_health() {
	local until answer=''
	until=$((SECONDS + setting[HEALTH_WAIT]))
	if [[ -z ${setting[HEALTH_PORT]:-} ]]; then
		sleep 2
		[[ $(state_of '{{.State.Running}}') == true ]] || refuse $unhealthy "the container ended with exit code $(state_of '{{.State.ExitCode}}') at once: $(last_words)"
		return
	fi
	until healthy; do
		if ((SECONDS >= until)); then
			stop
			refuse $unhealthy "not healthy ${setting[HEALTH_WAIT]} seconds after its start: port ${setting[HEALTH_PORT]}, path ${setting[HEALTH_PATH]}: $answer"
		fi
		sleep 1
	done
}

# follow waits for the end of the container. The daemon may be restarted
# meanwhile: containers live through that.
follow() {
	local code
	while :; do
		if code=$(docker wait "$container" 2>/dev/null); then
			((code == 0)) || refuse "$((code == misconfigured ? 1 : code))" "the container ended with exit code $code: $(last_words)"
			exit 0
		fi
		if docker info >/dev/null 2>&1 && [[ -z $(state_of '{{.State.Running}}') ]]; then
			refuse 1 "somebody removed the container"
		fi
		sleep 1
	done
}

run() {
	local port said options=()
	for port in ${setting[PORTS]:-}; do options+=(--publish "$port"); done
	if [[ -f $conf/container.env ]]; then options+=(--env-file "$conf/container.env"); fi
	docker rm --force "$container" >/dev/null 2>&1 || true
	said=$(docker run --detach --name "$container" --hostname "$name" \
		--label "ami-factory.service=$name" --label "ami-factory.image=${setting[IMAGE]}" \
		--user "$(id -u "$SERVICE_USER"):$(id -g "$SERVICE_USER")" \
		--read-only --tmpfs /tmp:rw,nosuid,nodev,noexec,size=64m \
		--security-opt no-new-privileges --cap-drop ALL \
		--memory "${setting[MEMORY]}" --cpus "${setting[CPUS]}" --pids-limit 512 \
		--stop-timeout "${setting[STOP_GRACE]}" --restart no --pull never \
		--mount "type=bind,source=$STATE/$name,target=/var/lib/service" \
		--mount "type=bind,source=$LOGS/$name,target=/var/log/service" \
		"${options[@]}" "${setting[IMAGE]}" 2>&1 >/dev/null) || refuse $unhealthy "docker cannot run the container: ${said:0:500}"
	# systemd's order to stop: the container has its grace.
	trap 'stop; printf "service %s: ended with exit code %s\n" "$name" "$(state_of "{{.State.ExitCode}}")"; exit 0' TERM
	await_health
	rm -f "$reason"
	systemd-notify --ready --status "healthy, ${setting[IMAGE]}"
	# In the background, for a signal to be heard meanwhile.
	follow &
	wait $!
}

remove() {
	if [[ -n $(state_of '{{.State.Running}}') ]]; then
		if [[ $(state_of '{{.State.Running}}') == true ]]; then docker stop "$container" >/dev/null || true; fi
		docker rm --force "$container" >/dev/null
	fi
}

command=${1:-} name=${2:-} reason=''
case $command in
check)
	check "$name"
	exit
	;;
run | remove) ;;
*)
	printf 'service-run: usage: service-run check FILE | run NAME | remove NAME\n' >&2
	exit 64
	;;
esac
[[ $name =~ ^[a-z][a-z0-9-]{0,39}$ ]] || refuse $misconfigured "this cannot be the name of a service; allowed: lower-case letters, digits and hyphens, beginning with a letter, at most 40"
container=service-$name
conf=$SERVICES/$name/conf
mkdir -p /run/ami-factory/services
reason=/run/ami-factory/services/$name.reason
if [[ $command == remove ]]; then
	remove
	exit
fi
rm -f "$reason"
check "$conf/service.env"
# User data writes settings, and nothing else of a service.
/usr/lib/ami-factory/service-create "$name"
get
run
