#!/usr/bin/env bash
# Prints the path of cfn-lint, in the version that the templates are held to.
# Where the system has another or none, pip installs it into a virtual environment in the
# cache, outside the repository. Exits 3, and says why, when that cannot be.
set -euo pipefail
cd "$(dirname "$0")"
readonly pinned=cfn-lint.txt
home=${AMI_FACTORY_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ami-factory}/tools/cfn-lint-$(sha256sum "$pinned" | cut -c 1-12)

version=$(sed -n 's/^cfn-lint==//p' "$pinned")
if [[ $(cfn-lint --version 2>/dev/null) == "cfn-lint $version" ]]; then
	command -v cfn-lint
	exit 0
fi
if [[ ! -e $home/complete ]]; then
	if ! command -v python3 >/dev/null; then
		echo "cfn-lint: Python 3 is not installed, so templates are not checked against CloudFormation's schemas" >&2
		exit 3
	fi
	rm -rf "$home"
	mkdir -p "$home"
	echo "cfn-lint: installing into $home" >&2
	if ! { python3 -m venv "$home" && "$home/bin/pip" install --quiet --disable-pip-version-check -r "$pinned"; } >"$home/install.log" 2>&1; then
		tail -n 5 "$home/install.log" >&2
		echo "cfn-lint: pip could not install $pinned; see $home/install.log (Debian's python3 needs the package python3-venv); templates are not checked against CloudFormation's schemas" >&2
		exit 3
	fi
	touch "$home/complete"
fi
echo "$home/bin/cfn-lint"
