#!/usr/bin/env bash
# What is too long for `make test`; docs/soak.md says what each part shows. Each part is bounded; the
# first failure does not stop the others, and the exit status says whether any failed.
#
#   scripts/soak.sh [PART...]     of fuzz, asan, tsan, simulation, serving, clients, neon; all where none is named
#
#   SOAK_SECONDS=1800   time of the longest part, a thousand streams; the others go by it
#   FUZZ_SECONDS        of each fuzzer (SOAK_SECONDS / 30)
#   LOAD_SECONDS        of each way of serving under ThreadSanitizer (SOAK_SECONDS / 90)
#   SEEDS               worlds of the scheduler's simulation, 12,000 steps each (SOAK_SECONDS, never less than 200)
#   REQUESTS            malformed ones (10,000 with 1,800 s, never less than 1,500)
#   JOBS                compilers and tests at once
set -euo pipefail
cd "$(dirname "$0")/.."

all=(fuzz asan tsan simulation serving clients neon)
parts=("$@")
((${#parts[@]})) || parts=("${all[@]}")
for part in "${parts[@]}"; do
  [[ " ${all[*]} " == *" $part "* ]] || { echo "soak: there is no part \"$part\"; there are: ${all[*]}" >&2; exit 2; }
done

at_least() { (($1 > $2)) && echo "$1" || echo "$2"; }
seconds=${SOAK_SECONDS:-1800}
fuzz_seconds=${FUZZ_SECONDS:-$(at_least $((seconds / 30)) 1)}
load_seconds=${LOAD_SECONDS:-$(at_least $((seconds / 90)) 2)}
requests=${REQUESTS:-$(at_least $((seconds * 10000 / 1800)) 1500)}
seeds=${SEEDS:-$(at_least "$seconds" 200)}
jobs=${JOBS:-$(nproc)}
failed=()
took=()

wanted() { [[ " ${parts[*]} " == *" $1 "* ]]; }

run() {  # run NAME command...: remembers a failure, goes on
  local name=$1 begin=$SECONDS
  shift
  echo "soak: $name"
  "$@" || failed+=("$name")
  took+=("$((SECONDS - begin)) s  $name")
}

build() {  # build PRESET [target...]
  cmake --preset "$1" >/dev/null && cmake --build --preset "$1" -j "$jobs" ${2:+--target "${@:2}"}
}

# New inputs that reach new code go to a work folder under build/; the seeds in the tree are read
# only. A crash leaves its input beside them, and its name in the output. Several at once, one a job.
fuzz_one() {
  local name=$1
  local work=build/fuzz/corpus/$name log=build/fuzz/$name.log
  local seeds=()
  mkdir -p "$work"
  [[ -d fuzz/seeds/$name ]] && seeds=("fuzz/seeds/$name")
  [[ $name == chat_template_fuzz ]] && seeds+=(tests/data/chat)
  if "build/fuzz/fuzz/$name" -max_total_time="$fuzz_seconds" -timeout=20 -rss_limit_mb=2048 \
    -print_final_stats=1 -artifact_prefix="build/fuzz/$name-" "$work" "${seeds[@]}" >"$log" 2>&1; then
    echo "$name: $(awk '/stat::number_of_executed_units/ {print $2}' "$log") inputs, nothing found"
  else
    echo "$name: FAILED"
    tail -n 60 "$log"
    return 1
  fi
}

fuzz_all() {
  local name status=0
  local -A running=()
  for source in fuzz/*_fuzz.cc; do
    name=$(basename "$source" .cc)
    if ((${#running[@]} >= jobs)); then
      local pid
      wait -n -p pid "${!running[@]}" || status=1
      unset "running[$pid]"
    fi
    fuzz_one "$name" &
    running[$!]=$name
  done
  for pid in "${!running[@]}"; do wait "$pid" || status=1; done
  return $status
}

if wanted fuzz; then
  run "fuzz: build" build fuzz fuzzers
  run "fuzz: $fuzz_seconds s each" fuzz_all
fi

# Unit tests of all rooms, and what drives the program over sockets and files. The rest measures speed or memory,
# which sanitizers change.
if wanted asan; then
  run "asan: build" build asan
  run "asan: tests" env ASAN_OPTIONS="${ASAN_OPTIONS:-detect_leaks=1}" ctest --test-dir build/asan -j "$jobs" --output-on-failure --no-tests=error \
    -E '^program\.(chat|cli_eval|completions|docs|guides|install|memory|page|peers|plan|rooms|scripts|under_load)$|^include_rule$'
fi

# What has threads (the scheduler has none): the rooms below the server, then the server as it is used: every way of serving in bursts, with
# disconnects, preemption, guesses and embeddings (tests/under_load_test.py), and the same bytes for one request.
tsan_tests='^(base|cache|memory|loadtest)\.|^engine\.(Service|Turns|Spill|Stream|Specul|Embed|Expert|Sparse|Window)'
tsan_programs='^program\.(determinism|disk_failure|loadtest|metrics|server|server_doors|server_embeddings|server_tools|serving|speculation|timings|under_load)$'
if wanted tsan; then
  run "tsan: build" build tsan venturi failing_disk venturi_{base,cache,memory,engine,loadtest}_test
  run "tsan: tests, and the server under load" env LOAD_SECONDS="$load_seconds" TSAN_OPTIONS="${TSAN_OPTIONS:-history_size=4 second_deadlock_stack=1}" \
    ctest --test-dir build/tsan -j "$jobs" --output-on-failure --no-tests=error -R "$tsan_tests|$tsan_programs"
fi

# Millions of steps of the scheduler: arrivals, cancels, preemption, faults; what must hold of every step, and what bounds a wait.
if wanted simulation; then
  run "simulation: build" build release venturi_scheduler_test
  run "simulation: $seeds worlds, 12,000 steps each" env VENTURI_SIMULATION_SEEDS="$seeds" \
    build/release/src/scheduler/venturi_scheduler_test --gtest_filter='Simulation.*'
fi

# A thousand streams beside readers that stall; malformed requests, slow ones and disconnects beside a running stream.
if wanted serving; then
  run "serving: build" build release venturi
  run "serving: a thousand streams for $seconds s, $requests malformed requests" env SERVING_SECONDS="$seconds" SERVING_REQUESTS="$requests" \
    python3 -B tests/serving_test.py --build build/release
fi

# Other people's clients, and the page in a browser; in `make test`, too, where Node and Chromium are. Here a skip is a failure.
if wanted clients; then
  run "clients: build" build release venturi
  for test in server_clients page; do run "clients: $test" env VENTURI_MUST_RUN=1 python3 -B "tests/${test}_test.py" --build build/release; done
fi

if wanted neon; then
  run "neon: kernels under qemu" scripts/test-neon.sh
fi

echo "soak: took"
printf '  %s\n' "${took[@]}"
if ((${#failed[@]})); then
  printf 'soak: FAILED: %s\n' "${failed[@]}" >&2
  exit 1
fi
echo "soak: all of ${parts[*]} passed in $SECONDS s."
