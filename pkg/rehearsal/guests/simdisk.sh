#!/usr/bin/env bash
# Makes simdisk.ext4.gz, the disk of simulated images: what the components' rules
# for snapshots demand (checks.yaml, snapshot: present), and nothing else. The same
# bytes come out each time; e2fsprogs 1.47 made the ones in the repository.
#
#	pkg/rehearsal/guests/simdisk.sh >pkg/rehearsal/guests/simdisk.ext4.gz
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
printf 'root:x:0:0:root:/root:/bin/bash\n' >passwd
printf 'root:x:0:\n' >group
: >machine-id
printf '{"schema":1,"simulated":true,"note":"simulated guests have no disk: this one is the same for all"}\n' >sealed.json
export E2FSPROGS_FAKE_TIME=1700000000
readonly uuid=00000000-0000-4000-8000-000000000000
mke2fs -q -t ext4 -b 1024 -N 64 -I 256 -O '^has_journal,^resize_inode,^metadata_csum' -E "hash_seed=$uuid,root_owner=0:0,lazy_itable_init=0" -U "$uuid" -L simulated disk 512K >mke2fs.log
# debugfs takes its time from the environment, which mke2fs -d does not.
debugfs -w -f /dev/stdin disk >/dev/null 2>debugfs.log <<'COMMANDS'
mkdir /etc
mkdir /etc/ami-factory
mkdir /etc/ssh
mkdir /etc/systemd
mkdir /etc/systemd/system
mkdir /etc/systemd/system/multi-user.target.wants
mkdir /home
mkdir /root
mkdir /var
mkdir /var/lib
mkdir /var/log
write passwd /etc/passwd
write group /etc/group
write machine-id /etc/machine-id
write sealed.json /etc/ami-factory/sealed.json
symlink /etc/systemd/system/multi-user.target.wants/amazon-ssm-agent.service /usr/lib/systemd/system/amazon-ssm-agent.service
COMMANDS
e2fsck -fn disk >e2fsck.log 2>&1 || {
	cat debugfs.log e2fsck.log >&2
	exit 1
}
gzip --no-name --best --stdout disk
