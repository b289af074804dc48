#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds ctd into build/<preset>/, packages and all.
#
#   scripts/build.sh [PRESET [TARGET...]]
#
# PRESET: release (default), dev, asan, tsan or fuzz. The binaries are in build/<preset>/bin/.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

preset=${1:-release}
shift || true
case $preset in
  release | dev | asan | tsan | fuzz) ;;
  -h | --help) sed -n '3,7s/^# \{0,1\}//p' scripts/build.sh; exit 0 ;;
  *) echo "build.sh: no preset \"$preset\"; there are release, dev, asan, tsan and fuzz" >&2; exit 2 ;;
esac

scripts/deps.sh

# The presets tsan and fuzz have default targets of their own.
targets=()
[ $# = 0 ] || targets=(--target "$@")

log=build/$preset/build.log
mkdir -p "build/$preset"
start=$SECONDS
run() {
  if ! "$@" >> "$log" 2>&1; then
    cat "$log" >&2
    echo "build: failed in preset $preset: $*" >&2
    exit 1
  fi
}

echo "build: $preset${*:+ ($*)}"
: > "$log"
run cmake --preset "$preset"
run cmake --build --preset "$preset" "${targets[@]}"
echo "build: $preset done in $((SECONDS - start)) s, in build/$preset/bin/"
