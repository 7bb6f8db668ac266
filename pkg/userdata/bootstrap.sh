#!/bin/bash
# Fetches the component bundle of recipe @@RECIPE@@ by digest and runs it.
set -euo pipefail
umask 077
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

# What the image is made of, for the record that the component boot leaves in it.
export AMI_FACTORY_RECIPE='@@RECIPE@@'
export AMI_FACTORY_FINGERPRINT='@@FINGERPRINT@@'
export AMI_FACTORY_SOURCE_AMI='@@SOURCE_AMI@@'
export AMI_FACTORY_VERSION='@@VERSION@@'
export AMI_FACTORY_IMAGE_NAME='@@IMAGE_NAME@@'
export AMI_FACTORY_BAKED='@@BAKED@@'

# Addresses of the factory's bucket, signed with one session.
session='@@SESSION@@'
url='@@BUNDLE_URL@@'$session
verdict='@@VERDICT_URL@@'$session
steps='@@STEPS_URL@@'$session
# The size of what the last two take: it is signed as well.
upload='@@UPLOAD_BYTES@@'
sha256='@@BUNDLE_SHA256@@'
size='@@BUNDLE_SIZE@@'
state=/var/lib/ami-factory
archive=$state/bundle.tar.gz
log=$state/bootstrap.log

# report uploads the verdict of a failure before there is the bundle's report.sh. An
# upload that fails changes nothing: the factory then asks over SSM.
report() {
	LC_ALL=C printf "%-${upload}s" "{\"schema\":1,\"provision\":$(<"$state/provision.json")}" >"$state/verdict.json"
	printf 'url="%s"' "$verdict" | curl --config - --silent --fail --retry 4 --max-time 60 \
		--header 'If-None-Match: *' --upload-file "$state/verdict.json" || true
}

# give_up LINE MESSAGE writes the verdict that the factory waits for. Messages
# are fixed text, so that they need no escaping in JSON.
give_up() {
	printf 'ami-factory: bootstrap failed: %s\n' "$2" >&2
	printf '{"status":"failed","components":[],"failed":{"component":"bootstrap","exit":1,"line":%d,"command":"%s","logTail":"%s"}}\n' \
		"$1" "$2" "$(tail -c 4096 "$log" 2>/dev/null | base64 -w 0)" >"$state/provision.json.new"
	mv -f "$state/provision.json.new" "$state/provision.json"
	rm -f "$archive"
	report
	exit 1
}

mkdir -p "$state"
: >"$log"
if [[ -e $state/stopped ]]; then
	printf 'ami-factory: a first part of the user data failed; nothing else is done\n' >&2
	report
	exit 1
fi
printf '%s\n' "$verdict" "$steps" "$upload" >"$state/uploads"
printf 'ami-factory: fetching the component bundle\n'
curl --fail --silent --show-error --retry 8 --retry-all-errors --retry-delay 2 --retry-max-time 240 \
	--connect-timeout 10 --max-time 120 --max-filesize "$((size + 1))" \
	--output "$archive" "$url" 2>>"$log" ||
	give_up "$LINENO" "download the component bundle"
printf '%s  %s\n' "$sha256" "$archive" | sha256sum --check --status ||
	give_up "$LINENO" "verify the SHA-256 of the component bundle"
rm -rf "$state/bundle"
mkdir "$state/bundle"
tar --extract --gzip --file "$archive" --directory "$state/bundle" --no-same-owner --preserve-permissions --touch 2>>"$log" ||
	give_up "$LINENO" "unpack the component bundle"
rm -f "$archive"
cd "$state/bundle"
umask 022
exec bash run.sh
