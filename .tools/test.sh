#!/usr/bin/env bash
# Runs every test, with real guests where the machine can, and ends with what failed and
# what was skipped. In continuous integration (CI is set) a skip that test/skips.yaml
# does not name is a failure.
set -euo pipefail
cd "$(dirname "$0")/.."
readonly first='^TestAnImageBakedInContainersHasWhatItPromises$'
readonly virtual='^TestAnImageBakedInVirtualMachinesIsPublished$'
readonly events=build/test-vm.json
export AMI_FACTORY_GUEST_TESTS=1
export AMI_FACTORY_CACHE=${AMI_FACTORY_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ami-factory}

# What a machine cannot have makes tests skip; a registry that fails ends this.
.tools/programs.sh || [[ $? -eq 3 ]]
PATH=$PWD/build/programs:$PATH
mkdir -p build/tools
go build -o build/tools/summary ./test/summary
summary=(build/tools/summary -skips test/skips.yaml)
if [[ -n ${CI:-} ]]; then
	summary+=(-strict)
fi

# newest prints the folder that was written last, and nothing where there is none.
newest() {
	local folder found=
	for folder in "$@"; do
		if [[ -d $folder && (-z $found || $folder -nt $found) ]]; then
			found=$folder
		fi
	done
	echo "$found"
}

# tests prints the events of all tests.
tests() {
	local code=0 vm
	# A whole bake in containers first: it builds the base that other tests boot.
	go test -json -timeout 20m -run "$first" ./test
	# Without a base, the tests that boot it skip and say what they lack.
	AMI_FACTORY_CONTAINER_BASE=$(newest "$AMI_FACTORY_CACHE"/base/debian-12-*/container)
	export AMI_FACTORY_CONTAINER_BASE
	# The bake in virtual machines takes longest, of which most is one emulated
	# processor's; the other tests run beside it. It is a process group of its own, so
	# that it ends with what it started when this ends.
	set -m
	go test -json -timeout 50m -run "$virtual" ./test >"$events" 2>&1 &
	vm=$!
	set +m
	# shellcheck disable=SC2064 # the process is known now
	trap "kill -- -$vm 2>/dev/null || true" EXIT
	go test -json -timeout 50m -p 2 -skip "$first|$virtual" ./... || code=$?
	echo "test: waiting for the bake in virtual machines" >&2
	wait "$vm" || code=$?
	trap - EXIT
	cat "$events"
	return "$code"
}

tests | "${summary[@]}"
