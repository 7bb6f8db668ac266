#!/bin/sh
# Stand-in for the Cinc client: with a configuration, it registers the node by
# the validation key where the node has no key yet, notes the run, and ends.
set -eu
config=/etc/cinc/client.rb
while [ $# -gt 0 ]; do
	case $1 in
	-v | --version)
		echo 'Cinc Client: @VERSION@ (stand-in)'
		exit 0
		;;
	-c | --config)
		config=${2:?}
		shift
		;;
	--config=*) config=${1#--config=} ;;
	esac
	shift
done
if [ ! -r "$config" ]; then
	echo "cinc-client (stand-in): no configuration $config" >&2
	exit 1
fi
setting() { sed -n "s/^$1[[:space:]]*[\"']\\(.*\\)[\"'].*/\\1/p" "$config" | tail -n 1; }
server=$(setting chef_server_url)
node=$(setting node_name)
key=$(setting client_key)
validation=$(setting validation_key)
key=${key:-/etc/cinc/client.pem}
if [ -z "$server" ] || [ -z "$node" ]; then
	echo "cinc-client (stand-in): chef_server_url and node_name are needed in $config" >&2
	exit 1
fi
data=/var/cinc
mkdir -p $data
if [ ! -s "$key" ]; then
	if [ -z "$validation" ] || ! grep -q 'PRIVATE KEY' "$validation" 2>/dev/null; then
		echo 'cinc-client (stand-in): the node has no key, and there is no validation key to register it with' >&2
		exit 1
	fi
	mkdir -p "$(dirname "$key")"
	(
		umask 077
		# Not a key that anything takes, but one that no other node has.
		printf -- '-----BEGIN STAND-IN PRIVATE KEY-----\n%s\n-----END STAND-IN PRIVATE KEY-----\n' "$(head -c 48 /dev/urandom | base64 -w 64)" >"$key"
	)
	printf '{"agent":"cinc","identity":"%s","validationSHA256":"%s","registered":"%s"}\n' \
		"$node" "$(sha256sum <"$validation" | cut -d' ' -f1)" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" >>$data/registered.jsonl
fi
printf '%s\n' "$node" >$data/identity
printf '{"agent":"cinc","version":"@VERSION@","identity":"%s","server":"%s","started":"%s"}\n' \
	"$node" "$server" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" >>$data/started.jsonl
echo "cinc-client (stand-in): converged as $node"
