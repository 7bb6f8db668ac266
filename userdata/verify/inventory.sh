#!/bin/sh
# Prints what is installed and configured in a verifier, one fact a line: the kind
# of fact and its fields, separated by tabs. Each section ends with a line
# "section NAME STATUS LINES ERRORS", where STATUS is an exit code or "absent", and
# the last line says "end": a list that is cut off is recognised. Nothing in the
# guest is changed. pkg/evidence/inventory reads it and trusts none of it.
#
# Needs: INVENTORY_DIR, a private directory for temporary files, and INVENTORY_SECONDS,
# the time in which the whole list is to be there. INVENTORY_DISKS may name the one
# directory in which privileged files are looked for, in place of all disks.
set -u
umask 077
LC_ALL=C
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL PATH
dir=${INVENTORY_DIR:?is not set}
tab=$(printf '\t')
# One program that hangs leaves time for the other sections. An emulated processor is
# thirty times slower than a real one, so there is no shorter limit for any of them.
each=$((${INVENTORY_SECONDS:?is not set} / 4))

has() { command -v "$1" >/dev/null 2>&1; }

# section NAME COMMAND... prints the lines of COMMAND after NAME and a tab.
section() {
	name=$1 code=0
	shift
	"$@" >"$dir/$name.out" 2>"$dir/$name.err" </dev/null || code=$?
	sed "s/^/$name$tab/" "$dir/$name.out"
	printf 'section\t%s\t%d\t%d\t%s\n' "$name" "$code" "$(wc -l <"$dir/$name.out")" \
		"$(head -c 500 "$dir/$name.err" | tr -s '[:cntrl:]' ' ')"
}

absent() { printf 'section\t%s\tabsent\t0\t\n' "$1"; }

system() {
	sed -n 's/^\(ID\|VERSION_ID\|VERSION_CODENAME\|PRETTY_NAME\)=/\1\t/p' /etc/os-release | tr -d "\"'"
	printf 'MACHINE\t%s\n' "$(uname -m)"
}

kernel() {
	printf 'running\t%s\n' "$(uname -r)"
	for image in /boot/vmlinuz-* /lib/modules/*/vmlinuz; do
		[ -e "$image" ] || continue
		version=${image#/boot/vmlinuz-} version=${version#/lib/modules/}
		printf 'installed\t%s\n' "${version%/vmlinuz}"
	done | sort -u
	default=
	if has grubby; then
		default=$(timeout "$each" grubby --default-kernel 2>/dev/null)
	else
		for config in /boot/grub/grub.cfg /boot/grub2/grub.cfg; do
			[ -r "$config" ] || continue
			default=$(sed -n 's/^[[:space:]]*linux[a-z0-9]*[[:space:]]\{1,\}\([^[:space:]]*vmlinuz[^[:space:]]*\).*/\1/p' "$config" | head -n 1)
			break
		done
	fi
	[ -z "$default" ] || printf 'default\t%s\n' "${default##*vmlinuz-}"
}

dpkg_packages() {
	dpkg-query -W -f='${db:Status-Status}\t${binary:Package}\t${Version}\t${Architecture}\t${source:Package}\t${source:Version}\n'
}

rpm_packages() {
	rpm -qa --qf '%{NAME}\t%{EPOCHNUM}\t%{VERSION}-%{RELEASE}\t%{ARCH}\t%{SOURCERPM}\n'
}

# disks prints where the file systems of disks are mounted: / and others.
disks() {
	if [ "${INVENTORY_DISKS:-}" ]; then
		printf '%s\n' "$INVENTORY_DISKS"
		return
	fi
	echo /
	awk '$3 ~ /^(ext[234]|xfs|btrfs|f2fs|vfat)$/ && $2 != "/" { print $2 }' /proc/self/mounts | sort -u
}

# privileged prints the files with the bit setuid or setgid and the package that
# owns each, or "-". The layers of container images are left out: they are listed
# as images.
privileged() {
	disks | while read -r mount; do
		timeout "$each" find "$mount" -xdev \( -path /var/lib/docker -o -path /var/lib/containerd -o -path /var/lib/containers \) -prune -o \
			-type f -perm /6000 -printf '%m\t%u\t%g\t%p\0' || exit
	done | tr '\n\0' '?\n' | sort -u >"$dir/privileged"
	cut -f 4- "$dir/privileged" >"$dir/paths"
	[ -s "$dir/paths" ] || return 0
	if has dpkg-query; then
		# A package may name a file by the link /bin to /usr/bin.
		sed -n 'p; s|^/usr\(/s\{0,1\}bin/\)|\1|p; s|^/usr\(/lib[^/]*/\)|\1|p' "$dir/paths" | tr '\n' '\0' |
			xargs -0 dpkg-query -S 2>/dev/null | awk -F ': ' '{
				owner = $1; path = substr($0, length(owner) + 3)
				sub(/,.*/, "", owner); sub(/:.*/, "", owner); print path "\t" owner
			}' >"$dir/owners"
	else
		while read -r path; do
			owner=$(rpm -qf --qf '%{NAME}\n' "$path" 2>/dev/null | head -n 1) || continue
			case $owner in '' | *' '*) ;; *) printf '%s\t%s\n' "$path" "$owner" ;; esac
		done <"$dir/paths" >"$dir/owners"
	fi
	awk -F '\t' -v OFS='\t' 'FILENAME == ARGV[1] { owner[$1] = $2; next }
		{ short = $4; sub("^/usr", "", short)
		  print $1, $2, $3, $4 in owner ? owner[$4] : short in owner ? owner[short] : "-", $4 }' "$dir/owners" "$dir/privileged"
}

units() {
	timeout "$each" systemctl list-unit-files --no-legend --no-pager --plain --full --state=enabled,enabled-runtime |
		awk '{ print $1 "\t" $2 }'
}

# sockets prints protocol, local address and process of each.
sockets() {
	ss -H -n -l -t -u -p | awk -v OFS='\t' '{
		process = "-"; if (match($0, /users:\(\("[^"]*"/)) process = substr($0, RSTART + 9, RLENGTH - 10)
		print $1, $5, process }'
	cat /proc/sys/net/ipv4/ip_local_port_range
}

accounts() {
	cut -d : -f 1,3,4,6,7 /etc/passwd | tr '\t:' '?\t' | sed 's/^/user\t/'
	tr '\t' '?' </etc/group | awk -F : -v OFS='\t' '$4 != "" { print "group", $1, $3, $4 }'
	[ ! -r /etc/shadow ] || tr '\t' '?' </etc/shadow | awk -F : -v OFS='\t' '{ print "password", $1, $2 == "" ? "empty" : $2 ~ /^[!*]/ ? "locked" : "set" }'
}

# settings prints the kernel's value of each parameter that a file of sysctl.d sets.
settings() {
	cat /usr/lib/sysctl.d/*.conf /usr/local/lib/sysctl.d/*.conf /etc/sysctl.d/*.conf /etc/sysctl.conf 2>/dev/null |
		sed -n 's/^[[:space:]]*-\{0,1\}\([a-zA-Z0-9_./-]\{1,\}\)[[:space:]]*=.*/\1/p' | tr / . | sort -u |
		while read -r parameter; do
			file=/proc/sys/$(printf '%s' "$parameter" | tr . /)
			[ ! -r "$file" ] || printf '%s\t%s\n' "$parameter" "$(head -n 1 "$file" | tr '\t' ' ')"
		done
}

# repositories prints the lines of the files that name repositories, without
# credentials.
repositories() {
	for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources /etc/yum.repos.d/*.repo; do
		[ -s "$file" ] || continue
		tr '\t' ' ' <"$file" | sed -e '/^[[:space:]]*[#;]/d' -e 's|://[^/@[:space:]]*@|://|g' -e "s|^|$file$tab|"
	done
}

# keys prints the files of keys that the package manager may trust, in base64.
keys() {
	{
		find -L /etc/apt/trusted.gpg /etc/apt/trusted.gpg.d /etc/apt/keyrings /etc/pki/rpm-gpg -maxdepth 1 -type f -size -1024k 2>/dev/null
		# In /usr are many keys; those count that a repository names.
		sed -n -e 's/^Signed-By:[[:space:]]*//p' -e 's/.*signed-by=\([^],[:space:]]*\).*/\1/p' \
			/etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null | tr ' ' '\n' | grep '^/'
	} | sort -u | while read -r file; do
		if ! [ -f "$file" ] || [ "$(wc -c <"$file")" -gt 1048576 ]; then continue; fi
		printf '%s\t%s\n' "$file" "$(base64 -w 0 "$file")"
	done
	if has rpm && ! has dpkg-query; then
		rpm -q gpg-pubkey --qf '%{VERSION}-%{RELEASE}\n' 2>/dev/null | grep -v ' ' | sort -u | while read -r key; do
			printf 'rpm:%s\t%s\n' "$key" "$(rpm -q "gpg-pubkey-$key" --qf '%{DESCRIPTION}\n' | base64 -w 0)"
		done
	fi
}

docker_images() {
	timeout "$each" docker image ls --no-trunc --digests --format '{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}'
}

podman_images() {
	timeout "$each" podman image ls --no-trunc --digests --format '{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}'
}

containerd_images() {
	timeout "$each" ctr namespaces ls -q >"$dir/namespaces" || return
	while read -r space; do
		timeout "$each" ctr -n "$space" images ls | awk -v OFS='\t' 'NR > 1 { print $1, "<none>", $3, $3 }' || return
	done <"$dir/namespaces"
}

# pending_apt prints the security updates that apt would install: package, installed
# version, version of the update and its archive. An image is sealed without lists of
# packages, so those of the security archives are fetched, into a private directory.
pending_apt() {
	mkdir -p "$dir/lists/partial" "$dir/sources.d" "$dir/archives/partial" || return
	for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
		[ ! -s "$file" ] || sed -n '/^[[:space:]]*deb[[:space:]].*-security/p' "$file" >>"$dir/sources.list"
	done
	for file in /etc/apt/sources.list.d/*.sources; do
		[ ! -s "$file" ] || awk -v RS= -v ORS='\n\n' '/(^|\n)Suites:[^\n]*-security/' "$file" |
			awk '/^Suites:/ { line = "Suites:"; for (i = 2; i <= NF; i++) if ($i ~ /-security/) line = line " " $i; print line; next } { print }' \
				>"$dir/sources.d/$(basename "$file")"
	done
	find "$dir/sources.d" -type f -size 0 -delete
	touch "$dir/sources.list"
	if [ ! -s "$dir/sources.list" ] && [ -z "$(ls "$dir/sources.d")" ]; then
		echo "no repository of security updates is configured" >&2
		return 3
	fi
	set -- -o Dir::Etc::sourcelist="$dir/sources.list" -o Dir::Etc::sourceparts="$dir/sources.d" \
		-o Dir::State::Lists="$dir/lists" -o Dir::Cache="$dir/archives" -o APT::Sandbox::User=root \
		-o Acquire::Languages=none -o Acquire::Retries=1 -o Acquire::http::Timeout=10 -o Acquire::https::Timeout=10 \
		-o APT::Update::Error-Mode=any -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false \
		-o APT::Update::Post-Invoke-Success::= -o APT::Update::Post-Invoke::= -o Debug::NoLocking=1
	timeout "$each" apt-get -q "$@" update >/dev/null || return
	timeout "$each" apt-get -q -s "$@" --with-new-pkgs upgrade >"$dir/simulated" || return
	# Inst openssl [3.0.11-1] (3.0.15-1~deb12u1 Debian-Security:12/stable-security [amd64])
	sed -n 's/^Inst \([^ ]*\) \[\([^]]*\)\] (\([^ ]*\) \([^)]*\)).*/\1\t\2\t\3\t\4/p' "$dir/simulated"
}

pending_dnf() {
	set --
	if grep -q '^ID="\{0,1\}amzn' /etc/os-release; then set -- --releasever=latest; fi
	timeout "$each" dnf -q "$@" updateinfo list --security --updates | awk -v OFS='\t' 'NF >= 3 { print $3, "", $1, $2 }'
}

# The network's answer takes longest, so it is asked for first.
if has apt-get && has dpkg-query; then
	section pending-apt pending_apt >"$dir/updates" &
elif has dnf; then
	section pending-dnf pending_dnf >"$dir/updates" &
else
	absent pending-apt >"$dir/updates"
fi

printf 'ami-factory-inventory\t1\n'
section system system
section kernel kernel
if has dpkg-query; then section deb dpkg_packages; else absent deb; fi
if has rpm && [ -n "$(rpm -qa 2>/dev/null | head -n 1)" ]; then section rpm rpm_packages; else absent rpm; fi
section file privileged
if has systemctl; then section unit units; else absent unit; fi
if has ss; then section socket sockets; else absent socket; fi
section account accounts
section sysctl settings
section repository repositories
section key keys
if has docker; then section docker docker_images; else absent docker; fi
if has podman; then section podman podman_images; else absent podman; fi
if has ctr; then section containerd containerd_images; else absent containerd; fi
wait
cat "$dir/updates"
printf 'end\n'
