#!/bin/bash
# Prepares the boots of instances. A second run changes nothing.
set -euo pipefail
. "$AMI_FACTORY_LIB/lib.sh"

wait=${AMI_FACTORY_PARAM_WAIT:-300}
device_timeout=${AMI_FACTORY_PARAM_DEVICE_TIMEOUT:-30}
store=${AMI_FACTORY_PARAM_INSTANCE_STORE:-}
read -ra volumes <<<"${AMI_FACTORY_PARAM_DATA_VOLUMES:-}"
IFS=';' read -ra services <<<"${AMI_FACTORY_PARAM_SERVICES:-}"
units=/etc/systemd/system
volume_pattern='^([A-Za-z0-9_-]{1,16})=((/[A-Za-z0-9_-]+)+):(ext4|xfs)$'

# trimmed TEXT prints it without spaces around.
trimmed() { sed -E 's/^ +| +$//g' <<<"$1"; }

refuse_parameters() {
	local volume service
	[[ $wait =~ ^[1-9][0-9]{0,3}$ ]] || fail "parameter wait is '$wait'; allowed: 1 to 9999 seconds"
	[[ $device_timeout =~ ^[1-9][0-9]{0,2}$ ]] || fail "parameter deviceTimeout is '$device_timeout'; allowed: 1 to 999 seconds"
	[[ -z $store || $store =~ ^(/[A-Za-z0-9_-]+)+$ ]] || fail "parameter instanceStore is '$store'; allowed: an absolute path"
	for volume in "${volumes[@]}"; do
		[[ $volume =~ $volume_pattern ]] || fail "parameter dataVolumes has '$volume'; allowed: LABEL=/MOUNTPOINT:FILESYSTEM with ext4 or xfs, such as data=/srv/data:xfs"
	done
	for service in "${services[@]}"; do
		service=$(trimmed "$service")
		[[ ${service%%=*} =~ ^[A-Za-z0-9][A-Za-z0-9_.-]*(@[A-Za-z0-9_.-]+)?\.service$ ]] ||
			fail "parameter services has '$service'; allowed: UNIT.service or UNIT.service=COMMAND, separated by semicolons"
	done
}

# cloud_config prints cloud-init's settings: where user data may come from, and
# what it may do. What is left out would fetch keys and programs from elsewhere,
# tell others of this instance, or serves other clouds.
cloud_config() {
	local sources='[Ec2]' snap='' grub='' yum=''
	if [[ ${AMI_FACTORY_PARAM_NO_CLOUD:-false} == true ]]; then sources='[Ec2, NoCloud]'; fi
	case $AMI_FACTORY_FAMILY in
	debian-*) grub=grub_dpkg ;;
	ubuntu-*) grub=grub_dpkg snap='snap' ;;
	al2023) yum=yum_add_repo ;;
	esac
	sed -e "s/@SOURCES@/$sources/" \
		-e "/@SNAP@/{s/@SNAP@/$snap/;/- *$/d}" -e "/@GRUB@/{s/@GRUB@/$grub/;/- *$/d}" -e "/@YUM@/{s/@YUM@/$yum/;/- *$/d}" files/cloud.cfg
}

# release prints the record of what the image is made of: facts of the plan, and
# the bundle's manifest. Nothing of it is secret: recipes are not.
release() {
	python3 -I - "$AMI_FACTORY_LIB/../manifest.json" <<'PYTHON'
import json, os, sys

with open(sys.argv[1], encoding="utf-8") as file:
    manifest = json.load(file)
fact = lambda name: os.environ.get("AMI_FACTORY_" + name, "unknown")
json.dump({
    "schema": "ami-factory/release/1",
    "recipe": fact("RECIPE"),
    "fingerprint": fact("FINGERPRINT"),
    "image": fact("IMAGE_NAME"),
    "source": fact("SOURCE_AMI"),
    "factoryVersion": fact("VERSION"),
    "baked": fact("BAKED"),
    "family": manifest["family"],
    "components": [
        {"name": c["name"], "version": c.get("sha256", "unknown"), "parameters": c["parameters"] or {}}
        for c in manifest["components"]
    ],
}, sys.stdout, indent=2)
print()
PYTHON
}

# expectations prints what boot-report waits for.
expectations() {
	local service
	for service in "${services[@]}"; do trimmed "$service"; done | python3 -I -c '
import json, sys
services = []
for line in sys.stdin.read().splitlines():
    unit, _, command = line.partition("=")
    services.append({"unit": unit, "health": command})
json.dump({"wait": int(sys.argv[1]), "services": services}, sys.stdout, indent=2)
print()' "$wait"
}

# data_volume SPEC lays a mount that a boot does not hang on: the device has its
# time, and nothing requires the mount.
data_volume() {
	local label point type device mount
	[[ $1 =~ $volume_pattern ]]
	label=${BASH_REMATCH[1]} point=${BASH_REMATCH[2]} type=${BASH_REMATCH[4]}
	device=$(systemd-escape --path --suffix=device "/dev/disk/by-label/$label")
	mount=$(systemd-escape --path --suffix=mount "$point")
	put 644 /dev/stdin "$units/$device.d/ami-factory.conf" <<-DEVICE
		[Unit]
		JobRunningTimeoutSec=${device_timeout}s
	DEVICE
	put 644 /dev/stdin "$units/$mount" <<-MOUNT
		# ami-factory: a data volume by its label.
		[Unit]
		Description=Data volume $label
		After=systemd-fsck@${device%.device}.service
		Wants=systemd-fsck@${device%.device}.service

		[Mount]
		What=/dev/disk/by-label/$label
		Where=$point
		Type=$type
		Options=nofail,nodev,nosuid

		[Install]
		WantedBy=multi-user.target
	MOUNT
	if booted && ((changes > before)); then systemctl daemon-reload; fi
	enable "$mount"
}

refuse_parameters
cloud_config | put 644 /dev/stdin /etc/cloud/cloud.cfg.d/98-ami-factory-boot.cfg
release | put 644 /dev/stdin /etc/ami-factory/release.json
expectations | put 644 /dev/stdin /etc/ami-factory/boot.json
put 755 files/boot-report.py /usr/lib/ami-factory/boot-report
before=$changes
sed "s/@TIMEOUT@/$((wait + 60))/" files/ami-factory-boot.service | put 644 /dev/stdin "$units/ami-factory-boot.service"
if [[ $store ]]; then
	put 755 files/instance-store.sh /usr/lib/ami-factory/instance-store
	sed "s|@STORE@|$store|" files/ami-factory-instance-store.service | put 644 /dev/stdin "$units/ami-factory-instance-store.service"
fi
if booted && ((changes > before)); then systemctl daemon-reload; fi
if [[ $store ]]; then enable ami-factory-instance-store.service; fi
for volume in "${volumes[@]}"; do data_volume "$volume"; done
for service in "${services[@]}"; do
	service=$(trimmed "$service")
	enable "${service%%=*}"
done
summary
