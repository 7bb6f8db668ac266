#!/bin/bash
# Sets up Docker Engine, whose packages are installed, and starts it for the first
# time with the daemon's settings in place. A second run changes nothing.
set -euo pipefail
. "$AMI_FACTORY_LIB/lib.sh"

mirror=${AMI_FACTORY_PARAM_REGISTRY_MIRROR:-}
log_size=${AMI_FACTORY_PARAM_LOG_MAX_SIZE:-10m}
log_files=${AMI_FACTORY_PARAM_LOG_MAX_FILES:-3}
bip=${AMI_FACTORY_PARAM_BIP:-}
read -ra pools <<<"${AMI_FACTORY_PARAM_ADDRESS_POOLS:-}"
userns=${AMI_FACTORY_PARAM_USERNS_REMAP:-false}
read -ra registries <<<"${AMI_FACTORY_PARAM_ECR_REGISTRIES:-}"
read -ra images <<<"${AMI_FACTORY_PARAM_IMAGES:-}"
kept=/etc/ami-factory/kept-images
sha256='sha256:[0-9a-f]{64}'

# What the recipe may not say.
refuse_parameters() {
	local registry image
	[[ $log_size =~ ^[1-9][0-9]*[kmg]$ ]] || fail "parameter logMaxSize is '$log_size'; allowed: a number with k, m or g, such as 10m"
	[[ $log_files =~ ^[1-9][0-9]*$ ]] || fail "parameter logMaxFiles is '$log_files'; allowed: a number above 0"
	[[ -z $mirror || $mirror =~ ^https?://[A-Za-z0-9./:_-]+$ ]] || fail "parameter registryMirror is '$mirror'; allowed: an http or https URL"
	for registry in "${registries[@]}"; do
		[[ $registry =~ ^[0-9]{12}\.dkr\.ecr(-fips)?\.[a-z0-9-]+\.(amazonaws\.(com|com\.cn|eu)|c2s\.ic\.gov|sc2s\.sgov\.gov|cloud\.adc-e\.uk|csp\.hci\.ic\.gov)$|^public\.ecr\.aws$ ]] ||
			fail "parameter ecrRegistries has '$registry'; allowed: hosts such as 123456789012.dkr.ecr.eu-west-1.amazonaws.com"
	done
	for image in "${images[@]}"; do
		[[ $image =~ ^[a-z0-9][a-z0-9._:/-]*@$sha256$ ]] ||
			fail "parameter images has '$image'; allowed: REPOSITORY@sha256:DIGEST, because a tag may name another image tomorrow"
	done
	if [[ $userns == true ]] && ((${#images[@]} > 0)); then fail "parameter images cannot go with usernsRemap: the seal would not find their store"; fi
	networks >/dev/null || fail "parameters bip and addressPools do not fit together, see above"
}

# networks prints the pools as daemon.json has them, and refuses what the daemon
# would, and what it would not: networks that overlap, or that hide the link-local
# addresses of EC2 (metadata, time, credentials of tasks) or the host's own.
networks() {
	python3 -I - "$bip" "${pools[@]}" <<-'PYTHON'
		import ipaddress, json, sys

		def refuse(text):
		    sys.exit("docker: " + text)

		sys.excepthook = lambda kind, problem, _: print(f"docker: {problem}", file=sys.stderr)
		bip, *pools = sys.argv[1:]
		taken = [(ipaddress.ip_network("169.254.0.0/16"), "the link-local addresses of EC2's services"),
		         (ipaddress.ip_network("127.0.0.0/8"), "the loopback addresses"), (ipaddress.ip_network("224.0.0.0/3"), "multicast and reserved addresses"),
		         (ipaddress.ip_network("0.0.0.0/8"), "this network")]

		def take(network, name):
		    for other, of in taken:
		        if network.overlaps(other):
		            refuse(f"{name} {network} overlaps {of} ({other})")
		    taken.append((network, name))

		if bip:
		    address = ipaddress.IPv4Interface(bip)
		    if address.ip in (address.network.network_address, address.network.broadcast_address):
		        refuse(f"bip {bip} is the network's own address or its broadcast address, not one of the bridge")
		    if not 8 <= address.network.prefixlen <= 29:
		        refuse(f"bip {bip} has a prefix of {address.network.prefixlen}; allowed: 8 to 29")
		    take(address.network, "bip")
		out = []
		for pool in pools:
		    base, _, size = pool.partition(":")
		    network = ipaddress.IPv4Network(base)
		    if not network.prefixlen <= int(size) <= 29:
		        refuse(f"addressPools: {pool} has networks of prefix {size}; allowed: {network.prefixlen} to 29")
		    take(network, "addressPools")
		    out.append({"base": base, "size": int(size)})
		print(json.dumps(out))
	PYTHON
}

# daemon_json prints /etc/docker/daemon.json.
daemon_json() {
	local mirrors='[]' remap='/@USERNS_REMAP@/d' bridge='/@BIP@/d' nets='/@ADDRESS_POOLS@/d'
	if [[ -n $mirror ]]; then mirrors="[\"$mirror\"]"; fi
	if [[ $userns == true ]]; then remap='s|@USERNS_REMAP@|"userns-remap": "default",|'; fi
	if [[ $bip ]]; then bridge="s|@BIP@|\"bip\": \"$bip\",|"; fi
	if ((${#pools[@]} > 0)); then nets="s|@ADDRESS_POOLS@|\"default-address-pools\": $(networks),|"; fi
	sed -e "$remap" -e "$bridge" -e "$nets" -e "s|@MIRRORS@|$mirrors|" -e "s|@LOG_SIZE@|$log_size|" -e "s|@LOG_FILES@|$log_files|" files/daemon.json
}

# client_json prints /etc/docker/config.json. It names programs that ask for
# passwords, and holds none itself.
client_json() {
	local registry separator=''
	printf '{\n  "credHelpers": {'
	for registry in "${registries[@]}"; do
		printf '%s\n    "%s": "ecr-login"' "$separator" "$registry"
		separator=,
	done
	printf '\n  }\n}\n'
}

# audit_rules prints a watch for what of Docker is there: a rule on a directory
# that is missing keeps auditctl from loading those after it.
audit_rules() { # DOCK-13
	local path
	echo '# ami-factory: DOCK-13. Reads are left out: every start of a container would be logged.'
	for path in /usr/{bin,sbin}/{docker,dockerd,containerd,containerd-shim-runc-v2,runc}; do
		if [[ -e $path ]]; then printf -- '-w %s -p wxa -k docker\n' "$path"; fi
	done
	for path in /etc/docker /etc/default/docker /etc/sysconfig/docker /etc/containerd /var/lib/docker \
		/usr/lib/systemd/system/docker.service /usr/lib/systemd/system/docker.socket /usr/lib/systemd/system/containerd.service \
		/run/docker.sock /run/containerd; do
		if [[ -e $path || $path == /run/* ]]; then printf -- '-w %s -p wa -k docker\n' "$path"; fi
	done
}

# answers asks the daemon now, because a setting it refuses is cheaper to hear
# of here than in the verifier.
answers() {
	local try
	for try in {1..60}; do
		if docker info --format 'docker: engine {{.ServerVersion}}, storage {{.Driver}}' 2>/dev/null; then return; fi
		if ((try < 60)); then sleep 2; fi
	done
	journalctl --no-pager -u docker.service -n 20 >&2
	fail "the daemon does not answer two minutes after its start; its last messages are above"
}

# pull gets the images and notes for the seal that they stay.
pull() {
	local image
	if ((${#images[@]} == 0)); then
		if [[ -e $kept ]]; then
			rm "$kept"
			changed "$kept is gone"
		fi
		return
	fi
	# docker-ce 29 and later, where nothing is set: the seal empties that store.
	if [[ $(docker info --format '{{json .DriverStatus}}') == *io.containerd.snapshotter* ]]; then
		fail "parameter images cannot be used: this engine keeps images in containerd's store, which the seal empties; choose an older version"
	fi
	for image in "${images[@]}"; do
		if ! docker image inspect "$image" >/dev/null 2>&1; then
			patiently docker pull --quiet "$image" || fail "cannot pull $image"
			changed "image $image"
		fi
	done
	printf '%s\n' "${images[@]}" | LC_ALL=C sort -u | put 644 /dev/stdin "$kept"
}

refuse_parameters
export DOCKER_CONFIG=/etc/docker
directory 755 root:root /etc/docker
before=$changes
daemon_json | put 644 /dev/stdin /etc/docker/daemon.json
if ((${#registries[@]} > 0)); then
	client_json | put 644 /dev/stdin /etc/docker/config.json
elif [[ -e /etc/docker/config.json ]]; then
	rm /etc/docker/config.json
	changed '/etc/docker/config.json is gone'
fi
if ((changes > before)) && systemctl is-active --quiet docker.service; then systemctl restart docker.service; fi
systemctl start docker.service
answers
audit_rules | put 640 /dev/stdin /etc/audit/rules.d/30-docker.rules
pull
summary
