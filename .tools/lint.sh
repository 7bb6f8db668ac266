#!/usr/bin/env bash
# Checks the sources: formatting, vet, staticcheck, errorlint, gosec, shellcheck.
# The Go tools are built from .tools/go.mod into build/tools. All checks run,
# whatever an earlier one found; exits 1 when any found something.
set -euo pipefail
cd "$(dirname "$0")/.."
readonly bin=build/tools
mkdir -p "$bin"
# As in the Makefile, so that what was compiled for one serves the other.
export CGO_ENABLED=0 GOFLAGS=${GOFLAGS:--trimpath -buildvcs=false}
GOARCH='' go -C .tools build -o "../$bin/" tool

# infra holds the CDK, which is larger than all the rest by far: vet has to do there.
mapfile -t packages < <(go list ./... | grep -Ev '/infra(/|$)')
mapfile -t scripts < <(find . -name '*.sh' -not -path './build/*' -not -path '*/testdata/*' -not -path '*/node_modules/*' | sort)
scripts+=(.ci/run)
mapfile -t sources < <(find . -name '*.go' -not -path './build/*' -not -path './cdk.out/*' -not -path '*/node_modules/*' | sort)

failed=()
check() {
	local name=$1
	shift
	echo "lint: $name" >&2
	"$@" || failed+=("$name")
}
# clean fails when a command that lists ill-formed files lists any.
clean() {
	local found
	found=$("$@") || return 1
	if [[ -n $found ]]; then
		echo "$found"
		return 1
	fi
}

check gofmt clean gofmt -l "${sources[@]}"
check shfmt "$bin/shfmt" -d "${scripts[@]}"
check shellcheck shellcheck "${scripts[@]}"
check vet go vet ./...
check staticcheck "$bin/staticcheck" "${packages[@]}"
check errorlint "$bin/go-errorlint" "${packages[@]}"
# Not asked: programs and files named by variables (G204, G304) and files that
# others may read (G301, G302, G306) are what a tool that builds images is about;
# unchecked errors (G104) are staticcheck's and reviewers'.
check gosec "$bin/gosec" -quiet -fmt=golint -exclude=G104,G204,G301,G302,G304,G306 -exclude-dir=infra -exclude-dir=build ./...

if [[ ${#failed[@]} -gt 0 ]]; then
	echo "lint: found something: ${failed[*]}" >&2
	exit 1
fi
