# Everything here works as any user on any machine with Go; root on Debian can
# also run container guests and has missing packages installed.
SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# The recipe to bake, and flags for it: make bake BAKE_FLAGS=--force
RECIPE ?= debian-12-docker
BAKE_FLAGS ?=
# Of the functions, and of the checker in guests: this machine's, or what the CDK app
# asks for. Each architecture has a folder of its own, so that a deployment leaves
# what rehearsals run alone.
GOARCH ?= $(shell go env GOHOSTARCH)

# One set of flags for programs, tests and linters: Go keeps what it compiled per
# set, and the AWS SDK alone takes minutes.
export CGO_ENABLED := 0
export GOFLAGS := $(filter-out -trimpath -buildvcs=false,$(GOFLAGS)) -trimpath -buildvcs=false

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
FUNCTIONS := $(notdir $(patsubst %/,%,$(dir $(wildcard lambdas/*/main.go))))
# Base images and packages, which bakes and tests share and `clean` keeps.
CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/ami-factory
# The newest base image of a kind; empty without one, and the tests that boot it
# then skip and say what they lack.
newest = $$(ls -td "$(CACHE)"/base/debian-12-*/$(1) 2>/dev/null | head -n 1 || true)

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## install what real guests and the tests need (root on Debian), or say what is missing
	@.tools/setup.sh vm container lint test
	@AMI_FACTORY_CACHE="$(CACHE)" .tools/programs.sh

.PHONY: functions
functions: ## build the Lambda functions into build/lambda/<GOARCH>/<name>/bootstrap
	@mkdir -p build/bin/$(GOARCH)
	@GOARCH=$(GOARCH) GOOS=linux go build -ldflags "-s -w" -tags lambda.norpc -o build/bin/$(GOARCH)/ ./lambdas/...
	@for name in $(FUNCTIONS); do \
		mkdir -p "build/lambda/$(GOARCH)/$$name"; \
		ln -f "build/bin/$(GOARCH)/$$name" "build/lambda/$(GOARCH)/$$name/bootstrap"; \
	done
	@echo "$(VERSION)" >build/lambda/$(GOARCH)/version

.PHONY: goss
goss: ## build the checker that verifiers run, into build/goss/<GOARCH>
	@mkdir -p build/goss
	@GOARCH=$(GOARCH) GOOS=linux go build \
		-ldflags "-s -w -X github.com/goss-org/goss/util.Version=$$(go list -m -f '{{.Version}}' github.com/goss-org/goss)" \
		-o build/goss/$(GOARCH) github.com/goss-org/goss/cmd/goss

.PHONY: build
build: functions goss ## build everything; the command line is build/ami-factory
	@GOARCH= go build -tags lambda.norpc -ldflags "-s -w -X github.com/ami-factory/ami-factory/pkg/cli.Version=$(VERSION)" -o build/ami-factory ./cmd/ami-factory

.PHONY: bake
bake: ## build a verified image of RECIPE on real virtual machines
	@guests=(); \
	if ! .tools/setup.sh vm; then \
		echo "bake: real virtual machines are not possible here, so guests are SIMULATED: the result shows the workflow and is no image" >&2; \
		guests=(--guests simulated); \
	fi; \
	echo "bake: building the factory (the first time takes a few minutes)" >&2; \
	$(MAKE) build; \
	exec build/ami-factory bake --cache "$(CACHE)" "$${guests[@]}" $(RECIPE) $(BAKE_FLAGS)

.PHONY: test
test: ## run all checks and tests, with real guests where the machine can
	@.tools/setup.sh vm container lint test || { [[ $$? -eq 3 ]] && echo "test: tests that lack a program are skipped" >&2; }
	@if [[ $$EUID -ne 0 ]]; then echo "test: not root: tests with container guests are skipped" >&2; fi
	@$(MAKE) node build lint
	@AMI_FACTORY_CACHE="$(CACHE)" .tools/test.sh

.PHONY: test-vm
test-vm: build ## run the long tests of virtual machines as well: an hour under software emulation
	@.tools/setup.sh vm
	@export AMI_FACTORY_GUEST_TESTS=1 AMI_FACTORY_VM_TESTS=1 AMI_FACTORY_CACHE="$(CACHE)"; \
	go test -timeout 40m ./pkg/localcloud/baseimage; \
	AMI_FACTORY_BASE=$(call newest,vm) go test -timeout 60m ./pkg/localcloud/vm/qemu

.PHONY: test-debian-13
test-debian-13: build ## bake Debian 13 in containers as well (root): two minutes, and its base the first time
	@.tools/setup.sh container
	@export AMI_FACTORY_GUEST_TESTS=1 AMI_FACTORY_DEBIAN_13=1 AMI_FACTORY_CACHE="$(CACHE)"; \
	go test -count 1 -timeout 40m -run Debian13 -v ./test

.PHONY: test-openscap
test-openscap: build ## bake with a CIS benchmark of OpenSCAP as a gate, in containers (root, Debian 12): a quarter of an hour
	@.tools/setup.sh container
	@.tools/openscap.sh build/openscap
	@export AMI_FACTORY_GUEST_TESTS=1 AMI_FACTORY_OPENSCAP="$(CURDIR)/build/openscap" AMI_FACTORY_CACHE="$(CACHE)"; \
	go test -count 1 -timeout 60m -run TestGossAndOpenSCAPBothGateAnImage -v ./test

.PHONY: test-fast
test-fast: build ## run the tests that need neither real guests nor minutes
	@go test -short ./...

.PHONY: test-race
test-race: build ## run the tests under the race detector, without real guests
	@CGO_ENABLED=1 go test -race -timeout 25m $$(go list ./... | grep -Ev '/infra(/|$$)')

.PHONY: bench
bench: build ## run all benchmarks that need no real guests, and print one table
	@go run ./test/bench

.PHONY: bench-guests
bench-guests: build ## the same, with bakes in containers (root) and in virtual machines
	@.tools/setup.sh vm || echo "bench: without virtual machines only containers are measured" >&2
	@AMI_FACTORY_GUEST_TESTS=1 AMI_FACTORY_CACHE="$(CACHE)" go run ./test/bench -guests

.PHONY: lint
lint: ## check formatting, vet, staticcheck, errorlint, gosec and shell scripts
	@.tools/setup.sh lint || echo "lint: shellcheck is missing" >&2
	@.tools/lint.sh

.PHONY: lint-template
lint-template: node ## hold the CloudFormation templates to their schemas and to security rules
	@AMI_FACTORY_CACHE="$(CACHE)" .tools/programs.sh cfn-lint
	@PATH="$(CURDIR)/build/programs:$$PATH" go test -count 1 -run 'Lint' ./infra/factory

.PHONY: fmt
fmt: ## format Go and shell sources
	@gofmt -w $$(find . -name '*.go' -not -path './build/*' -not -path './cdk.out/*')
	@go -C .tools build -o ../build/tools/ tool
	@build/tools/shfmt -w $$(find . -name '*.sh' -not -path './build/*' -not -path '*/testdata/*') .ci/run

.PHONY: node
node:
	@major=$$(node --version 2>/dev/null | sed -E 's/^v([0-9]+).*/\1/'); \
	if [[ -z $$major || $$major -lt 20 ]]; then \
		found=$${major:+version $$major}; \
		echo "node: the CDK app in infra needs Node.js 20 or later, and this machine has $${found:-none}: install it, from your distribution if that is new enough" >&2; \
		exit 1; \
	fi

.PHONY: synth
synth: node ## synthesise the CloudFormation template for arm64 into cdk.out
	@mkdir -p cdk.out && CDK_OUTDIR=cdk.out go run ./infra

.PHONY: clean
clean: ## remove everything that was built, images included
	@rm -rf build cdk.out
