# SPDX-License-Identifier: Apache-2.0
#
# The front door. Each target sets up what it needs: packages (scripts/setup), build directory (scripts/configure).
# The build itself is Meson's: see meson.build.

PREFIX ?= /usr/local
DESTDIR ?=
FUZZ_SECONDS ?= 60
BENCH ?=
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
MESON ?= $(if $(wildcard /usr/bin/meson),/usr/bin/meson,meson)
export MESON

.PHONY: build demo test bench install docs package format lint fuzz clean help

build: ## build the library and the cohort binary into build/
	@scripts/setup build
	@scripts/configure build
	@ninja -C build -j $(JOBS)

demo: build ## start a small cluster on this machine and show it at work; then one with a node of 2014
	@build/cli/cohort demo
	@scripts/demo-2014

test: ## run all tests; each part has a time budget (PARTS="unit net" for some of them)
	@scripts/setup build test fuzz
	@scripts/test $(PARTS)

bench: ## run the benchmarks against the peers to beat; BENCH="--quick --rows REGEX" for less
	@scripts/setup build bench
	@scripts/configure build-release --prefix=$(PREFIX) -Dbench=true
	@ninja -C build-release -j $(JOBS)
	@bench/run.py --bin build-release/bench $(BENCH)

install: ## install a release build; PREFIX=/usr/local DESTDIR=
	@scripts/setup build
	@scripts/configure build-release --prefix=$(PREFIX)
	@ninja -C build-release -j $(JOBS)
	@$(MESON) install -C build-release --no-rebuild $(if $(DESTDIR),--destdir $(abspath $(DESTDIR)))

docs: ## make the API reference in build-docs/html; a warning is an error
	@scripts/setup build test
	@COHORT_VERSION=$$(cat VERSION) COHORT_DOCS=build-docs doxygen docs/Doxyfile
	@echo "build-docs/html/index.html"

package: ## build the Debian packages into build-package/
	@scripts/setup build test
	@scripts/package

format: ## format the C sources in place
	@scripts/setup lint
	@scripts/format

lint: build ## check the format, then run clang-tidy
	@scripts/setup lint
	@scripts/format --check
	@scripts/lint

fuzz: ## run each fuzz target for FUZZ_SECONDS (60), from the recorded inputs on
	@scripts/setup build fuzz
	@scripts/configure build-fuzz
	@ninja -C build-fuzz -j $(JOBS)
	@scripts/fuzz build-fuzz $(FUZZ_SECONDS)

clean: ## remove all build directories
	rm -rf build build-asan build-tsan build-release build-fuzz build-package build-docs

help: ## this list
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 18
