# A thin front to CMake, CTest and the scripts. `make run` and `make test` each work alone from a
# fresh clone on Debian 12; `make help` lists the rest.

export PROMPT ?= It was the best of times, and the old gentleman
TOKENS ?= 96
export MODEL ?=
# The embedded model has a budget to show itself against; a model of yours gets one if you give it.
export MEMORY ?= $(if $(MODEL),,64M)
export FILTER ?= .
JOBS ?= $(shell nproc)
export SOAK_SECONDS ?= 1800
PARTS ?=

VENTURI = build/release/venturi

# MODEL and MEMORY, if given; the shell expands them, so any file name will do.
MODEL_FLAGS = $${MODEL:+-m "$$MODEL"} $${MEMORY:+--memory "$$MEMORY"}

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help run build test soak bench bench-kernels fuzz format clean deps

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@echo "Variables: PROMPT, TOKENS, MEMORY (run), MODEL (run, bench), FILTER (bench-kernels),"
	@echo "  SOAK_SECONDS, PARTS, FUZZ_SECONDS (soak, fuzz; see docs/soak.md), JOBS."

run: deps build  ## install what is missing, build, generate text with the embedded model
	$(VENTURI) run $(MODEL_FLAGS) -p "$$PROMPT" -n $(TOKENS)

test: deps build  ## install what is missing, build, run all tests
	ctest --test-dir build/release -j2 --output-on-failure --no-tests=error

build:  ## only build
	cmake --preset release
	cmake --build --preset release -j $(JOBS)

bench: build  ## measure this machine, then prefill and decode of MODEL, each beside its bound
	$(VENTURI) probe
	$(VENTURI) bench $${MODEL:+-m "$$MODEL"}

# The three left out take model files.
bench-kernels: deps  ## kernels alone, each beside its bound; FILTER: those whose names match
	cmake --preset release -DVENTURI_BENCHMARKS=ON
	cmake --build --preset release -j $(JOBS) --target kernel_benchmarks
	for program in build/release/benchmarks/*_bench; do \
	  case $$program in */state_bench|*/turns_bench|*/coupling_bench) continue;; esac; \
	  $$program --benchmark_filter="$$FILTER" || exit 1; done

fuzz: PARTS = fuzz
fuzz: soak  ## build the fuzzers with clang and run each for a minute (FUZZ_SECONDS)

soak:  ## what is too long for `make test`: fuzzers, sanitizers, the server for 30 min, NEON under qemu
	scripts/install-deps.sh --soak
	JOBS=$(JOBS) scripts/soak.sh $(PARTS)

format:  ## clang-format every C++ file
	git ls-files '*.cc' '*.h' | xargs clang-format -i

clean:  ## delete what was built
	rm -rf build

deps:
	@scripts/install-deps.sh
