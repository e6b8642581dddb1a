#!/usr/bin/env bash
# What is too long for `make test`. Each part is bounded; the first failure of a part does not stop
# the others, and the exit status says whether any failed.
#
#   scripts/soak.sh all|fuzz|asan|tsan|serving|neon [SECONDS_PER_FUZZER]
set -euo pipefail
cd "$(dirname "$0")/.."

part=${1:-all}
fuzz_seconds=${2:-60}
jobs=${JOBS:-$(nproc)}
failed=()

wanted() { [[ $part == all || $part == "$1" ]]; }

run() {  # run NAME command...: remembers a failure, goes on
  local name=$1
  shift
  echo "soak: $name"
  "$@" || failed+=("$name")
}

build() {  # build PRESET [target...]
  cmake --preset "$1" && cmake --build --preset "$1" -j "$jobs" ${2:+--target "${@:2}"}
}

# New inputs that reach new code go to a work folder under build/; the seeds in the tree are read
# only. A crash leaves its input beside them, and its name in the output.
fuzz_one() {
  local name=$1
  local work=build/fuzz/corpus/$name
  local seeds=()
  mkdir -p "$work"
  [[ -d fuzz/seeds/$name ]] && seeds=("fuzz/seeds/$name")
  "build/fuzz/fuzz/$name" -max_total_time="$fuzz_seconds" -timeout=20 -rss_limit_mb=2048 \
    -print_final_stats=1 -artifact_prefix="build/fuzz/$name-" "$work" "${seeds[@]}"
}

if wanted fuzz; then
  fuzzers=()
  for source in fuzz/*_fuzz.cc; do
    fuzzers+=("$(basename "$source" .cc)")
  done
  if build fuzz "${fuzzers[@]}"; then
    for name in "${fuzzers[@]}"; do
      run "fuzz $name, $fuzz_seconds s" fuzz_one "$name"
    done
  else
    failed+=("fuzz: build")
  fi
fi

for sanitizer in asan tsan; do
  wanted $sanitizer || continue
  if build $sanitizer; then
    run "tests under $sanitizer" ctest --test-dir build/$sanitizer -j2 --output-on-failure --no-tests=error
  else
    failed+=("$sanitizer: build")
  fi
done

# Thirty minutes of a thousand streams, ten thousand malformed requests.
if wanted serving; then
  if build release venturi; then
    run "the server, ${SERVING_MINUTES:-30} min" env SERVING_MINUTES="${SERVING_MINUTES:-30}" SERVING_REQUESTS="${SERVING_REQUESTS:-10000}" \
      python3 -B tests/serving_test.py --build build/release
  else
    failed+=("serving: build")
  fi
fi

if wanted neon; then
  if [[ -x scripts/test-neon.sh ]]; then
    run "NEON kernels under qemu" scripts/test-neon.sh
  else
    echo "soak: scripts/test-neon.sh is not there; the NEON kernels were not tested"
    [[ $part == neon ]] && failed+=("neon")
  fi
fi

if ((${#failed[@]})); then
  printf 'soak: FAILED: %s\n' "${failed[@]}" >&2
  exit 1
fi
echo "soak: all parts passed."
