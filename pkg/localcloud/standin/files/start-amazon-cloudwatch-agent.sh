#!/bin/sh
# Stand-in for the Amazon CloudWatch agent: it starts only with the configuration
# that its ctl program has fetched, keeps its identity, notes that it started,
# and waits.
set -eu
home=/opt/aws/amazon-cloudwatch-agent
if [ ! -s $home/etc/amazon-cloudwatch-agent.toml ]; then
	echo 'amazon-cloudwatch-agent (stand-in): no configuration; amazon-cloudwatch-agent-ctl -a fetch-config makes one' >&2
	exit 1
fi
imds() {
	command -v curl >/dev/null || return 1
	token=$(curl -sf -m 5 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://169.254.169.254/latest/api/token) || return 1
	curl -sf -m 5 -H "X-aws-ec2-metadata-token: $token" http://169.254.169.254/latest/meta-data/instance-id
}
identity=$(imds || cat /var/lib/cloud/data/instance-id 2>/dev/null || cat /etc/machine-id)
data=$home/var
mkdir -p $data $home/logs
printf '%s\n' "$identity" >$data/identity
printf '{"agent":"amazon-cloudwatch-agent","version":"@VERSION@","identity":"%s","configSHA256":"%s","started":"%s"}\n' \
	"$identity" "$(sha256sum <$home/etc/amazon-cloudwatch-agent.toml | cut -d' ' -f1)" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" >>$data/started.jsonl
echo "amazon-cloudwatch-agent (stand-in): started as $identity"
exec sleep infinity
