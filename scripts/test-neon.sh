#!/bin/bash
# Cross-compiles the vector wrapper, the kernels and their tests for AArch64 and runs them under
# qemu-user. Wants g++-aarch64-linux-gnu, qemu-user and the headers of libfmt-dev, libspdlog-dev,
# nlohmann-json3-dev and libgtest-dev (whose sources are compiled here: Debian's libraries are for
# this machine only).
#
#   scripts/test-neon.sh [GTEST FLAGS]      e.g. --gtest_filter='*neon*'
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
out=$root/build/neon
jobs=${JOBS:-$(nproc)}
cxx=aarch64-linux-gnu-g++
qemu=$(command -v qemu-aarch64 || command -v qemu-aarch64-static || true)
googletest=/usr/src/googletest

for need in "$cxx" "${qemu:-qemu-aarch64}"; do
  command -v "$need" >/dev/null || { echo "$0: $need is missing; install g++-aarch64-linux-gnu and qemu-user" >&2; exit 1; }
done
[ -d "$googletest" ] || { echo "$0: $googletest is missing; install libgtest-dev" >&2; exit 1; }

# Only these header-only libraries may come from this machine's /usr/include: a folder of links,
# so that its C library does not come along.
mkdir -p "$out/include" "$out/obj"
for library in fmt spdlog nlohmann; do ln -sfn "/usr/include/$library" "$out/include/$library"; done

flags=(-std=c++20 -O2 -ffp-contract=off -fno-math-errno -Wall -Wextra -Wno-unused-parameter
  -DFMT_HEADER_ONLY -DSPDLOG_FMT_EXTERNAL "-DVENTURI_SOURCE_DIR=\"$root\""
  -I "$root/src" -isystem "$out/include" -isystem "$googletest/googletest/include"
  -I "$googletest/googletest")
launcher=$(command -v ccache || true)

compile() {
  local object=$1 source=$2
  [ "$object" -nt "$source" ] && [ -n "${KEEP_OBJECTS:-}" ] && return
  $launcher "$cxx" "${flags[@]}" -c "$source" -o "$object"
}

objects=()
declare -A running=()
failed=0
wait_below() {  # until fewer than $1 compilers run
  while [ "${#running[@]}" -ge "$1" ]; do
    local pid
    wait -n -p pid || failed=1
    unset "running[$pid]"
  done
}
while read -r source; do
  object=$out/obj/$(echo "${source#"$root"/}" | tr / _).o
  objects+=("$object")
  wait_below "$jobs"
  compile "$object" "$source" &
  running[$!]=1
done < <(find "$root/src/base" "$root/src/simd" "$root/src/kernels" -name '*.cc' ! -path '*/base/*_test.cc' | sort
  echo "$googletest/googletest/src/gtest-all.cc"
  echo "$googletest/googletest/src/gtest_main.cc")
wait_below 1
[ "$failed" = 0 ] || { echo "$0: compiling failed" >&2; exit 1; }

"$cxx" -static -o "$out/kernel_tests" "${objects[@]}" -pthread
"$qemu" "$out/kernel_tests" --gtest_brief=1 "$@"
