#!/usr/bin/env bash
# Runs the CDK's command line in the version that this project is tested with:
#   .tools/cdk.sh deploy -c architecture=arm64
# npm installs it into its cache the first time. It reads cdk.json of the folder
# that it is started in.
set -euo pipefail
readonly version=2.1148.1

if ! command -v npx >/dev/null; then
	echo "cdk: Node.js with npm is not installed: install version 22 or later" >&2
	exit 3
fi
exec npx --yes "aws-cdk@$version" "$@"
