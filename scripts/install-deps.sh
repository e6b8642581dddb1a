#!/usr/bin/env bash
# Installs the Debian 12 (bookworm) packages that building and testing Venturi needs, and says why
# each is there. Quick and offline when nothing is missing. As root, or through sudo.
#
#   scripts/install-deps.sh            what `make run` and `make test` need
#   scripts/install-deps.sh --clients  also what the tests of npm clients and of the page need, which skip without
#   scripts/install-deps.sh --soak     also that, and what `make soak`, `make fuzz` and `make format` need
#   scripts/install-deps.sh --list     only print the packages and the reasons; install nothing
set -euo pipefail

# package, then why
build_packages="
g++               the compiler: GCC 12, C++20
cmake             configures the build (3.25 or later)
ninja-build       runs the build
pkg-config        finds PCRE2, utf8proc, libedit, liburing and prometheus-cpp
ccache            makes rebuilding quick; the build works without it
libfmt-dev        formatting of text and errors
libspdlog-dev     warnings and log lines on standard error
nlohmann-json3-dev  JSON: model configurations, --json output
libcli11-dev      the command line
libpcre2-dev      patterns that cut text into words before tokenizing
libutf8proc-dev   Unicode tables and normal forms
libedit-dev       line editing in venturi chat
liburing-dev      deep direct reads of what does not fit memory
libxxhash-dev     checksums of sessions, fingerprints of models (header only)
libboost1.81-dev  HTTP: Asio and Beast
libssl-dev        TLS of venturi serve (OpenSSL)
prometheus-cpp-dev  /metrics of venturi serve: histograms and their text form
libgtest-dev      unit tests (GoogleTest)
libgmock-dev      unit tests (matchers)
libbenchmark-dev  kernel benchmarks
python3           end-to-end tests, standard library only
curl              one of the clients that venturi serve is tested with
python3-jsonschema  checks output that was held to a JSON Schema
python3-prometheus-client  reads /metrics as Prometheus does
"
client_packages="
nodejs            runs the npm clients openai and @anthropic-ai/sdk against venturi serve
npm               fetches them
chromium          the web page in a browser
chromium-driver   drives it
python3-selenium  speaks to the driver
"
soak_packages="
clang             compiles the fuzzers
libclang-rt-14-dev  libFuzzer and the sanitizers' run time for clang
clang-format      make format
g++-aarch64-linux-gnu  compiles the NEON kernels
qemu-user         runs the NEON kernels on this machine
"

packages=$build_packages
for argument in "$@"; do
  case $argument in
    --clients) packages+=$client_packages ;;
    --soak) packages+=$client_packages$soak_packages ;;
    --list) list_only=1 ;;
    *)
      sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
      exit 2
      ;;
  esac
done

rows() { sed '/^[[:space:]]*$/d' <<<"$packages"; }

print_row() { printf '  %-22s %s\n' "$1" "${*:2}"; }

if [[ ${list_only:-} ]]; then
  rows | while read -r name why; do print_row "$name" "$why"; done
  exit 0
fi

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
  echo "install-deps: this is not Debian (no apt-get). Install the counterparts of these yourself:" >&2
  rows | while read -r name why; do print_row "$name" "$why"; done >&2
  exit 1
fi

# npm also comes within other builds of nodejs, which Debian's package would conflict with.
installed() {
  [[ $(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null) == installed ]] || { [[ $1 == npm ]] && command -v npm >/dev/null; }
}

missing=()
while read -r name why; do
  installed "$name" && continue
  ((${#missing[@]})) || echo "install-deps: installing from Debian:"
  print_row "$name" "$why"
  missing+=("$name")
done < <(rows)

if ((${#missing[@]} == 0)); then
  echo "install-deps: all $(rows | wc -l) packages are installed."
  exit 0
fi

as_root=()
if ((EUID != 0)); then
  if ! command -v sudo >/dev/null; then
    echo "install-deps: neither root nor sudo. As root, run: apt-get install ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi
apt() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q "$@"; }

known() {  # the package lists have a version of every missing package
  local name
  for name in "${missing[@]}"; do
    apt-cache show "$name" >/dev/null 2>&1 || return 1
  done
}

# Lists that are absent are fetched first; lists that are stale show by an install that fails.
updated=
update() { apt update && updated=1; }
known || update
if ! apt install -y --no-install-recommends "${missing[@]}"; then
  if [[ $updated ]]; then
    echo "install-deps: apt-get could not install: ${missing[*]}" >&2
    exit 1
  fi
  update
  apt install -y --no-install-recommends "${missing[@]}"
fi
