#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds what the tests need and runs them.
#
#   sudo scripts/test.sh [TIER...]
#
#   unit     the native build of the BPF core and the libraries
#   asan     the same under the address and undefined-behaviour sanitizers
#   prog     the BPF objects through the verifier, packets by BPF_PROG_TEST_RUN (root)
#   net      namespaces with real clients and servers (root)
#   fuzz     each fuzzer for CTD_FUZZ_SECONDS (15)
#   kernels  Debian's kernels in a virtual machine (root)
#
# Without a tier: all of them; CTD_SKIP_KERNELS=1 leaves the last one out. A tier in which no test ran
# has failed. The last line has the totals.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

all_tiers=(unit asan prog net fuzz kernels)
tier_timeout=900 # seconds; a tier that hangs has failed
fuzz_seconds=${CTD_FUZZ_SECONDS:-15}

tiers=()
for arg in "$@"; do
  case $arg in
    -h | --help) sed -n '3,16s/^# \{0,1\}//p' scripts/test.sh; exit 0 ;;
    unit | asan | prog | net | fuzz | kernels) tiers+=("$arg") ;;
    *) echo "test.sh: no tier \"$arg\"; there are ${all_tiers[*]}" >&2; exit 2 ;;
  esac
done
if [ ${#tiers[@]} = 0 ]; then
  tiers=("${all_tiers[@]}")
  if [ "${CTD_SKIP_KERNELS:-0}" = 1 ]; then
    echo "test: CTD_SKIP_KERNELS=1: the tier kernels is left out"
    tiers=(unit asan prog net fuzz)
  fi
fi
for tier in "${tiers[@]}"; do
  case $tier in
    prog | net | kernels)
      if [ "$(id -u)" != 0 ]; then
        echo "test.sh: the tier $tier needs root: run \"sudo scripts/test.sh\", or name only tiers that do not" >&2
        exit 1
      fi
      ;;
  esac
done

logs=build/test-logs
mkdir -p "$logs" || exit 1

# A tier's function sets these.
passed=0 failed=0 skipped=0

fail() {
  echo "test: $*"
  failed=$((failed + 1))
}

# bounded SECONDS COMMAND...: in a process group of its own, so that a time-out or Ctrl-C ends all of it.
child=''
bounded() {
  local seconds=$1 status=0
  shift
  set -m # a background job of a shell without job control would ignore SIGINT, and so would all it starts
  timeout -k 30 "$seconds" "$@" < /dev/null &
  child=$!
  set +m
  wait "$child" || status=$?
  child=''
  [ "$status" != 124 ] || echo "test: stopped after $seconds s: $*"
  return "$status"
}
interrupted() {
  trap - INT TERM
  if [ -n "$child" ]; then
    kill -TERM "$child" # timeout passes it on
    wait "$child"
  fi
  exit 130
}
trap interrupted INT TERM

# run_gtest BINARY NAME: counts from gtest's own report, so that a crash cannot pass for success.
run_gtest() {
  local binary=$1 name=$2 status=0
  local report=$logs/$name.json
  rm -f "$report"
  bounded "$tier_timeout" "$binary" --gtest_brief=1 --gtest_output="json:$report" || status=$?
  if [ ! -s "$report" ]; then
    fail "$name ended with status $status and no report"
    return
  fi
  local cases='[.testsuites[].testsuite[]]'
  skipped=$(jq "$cases | map(select(.result == \"SKIPPED\")) | length" "$report")
  failed=$(jq .failures "$report")
  passed=$(($(jq "$cases | map(select(.result == \"COMPLETED\")) | length" "$report") - failed))
  if [ "$status" != 0 ] && [ "$failed" = 0 ]; then
    fail "$name ended with status $status"
  fi
}

# run_script SCRIPT NAME: a tier that is a script of its own, and says "NAME: N passed, N failed" at its end.
run_script() {
  local script=$1 name=$2 status=0 line
  local log=$logs/$name.log
  if [ ! -x "$script" ]; then
    fail "$script is not there or cannot be run"
    return
  fi
  bounded "$tier_timeout" "$script" --bin "$PWD/build/dev/bin" > >(tee -i "$log") 2>&1 || status=$?
  wait # for tee
  line=$(grep -E "^$name: [0-9]+ passed, [0-9]+ failed" "$log" | tail -n 1)
  if [ -z "$line" ]; then
    fail "$name ended with status $status and no count of its tests"
    return
  fi
  read -r _ passed _ failed _ <<< "$line"
  if [ "$status" != 0 ] && [ "$failed" = 0 ]; then
    fail "$name ended with status $status"
  fi
}

tier_unit() {
  scripts/build.sh dev || { fail "the build failed"; return; }
  run_gtest build/dev/bin/unit_tests unit
}

tier_asan() {
  scripts/build.sh asan unit_tests || { fail "the build failed"; return; }
  ASAN_OPTIONS=strict_string_checks=1:detect_stack_use_after_return=1 UBSAN_OPTIONS=print_stacktrace=1 \
    run_gtest build/asan/bin/unit_tests asan
}

tier_prog() {
  scripts/build.sh dev || { fail "the build failed"; return; }
  run_gtest build/dev/bin/prog_tests prog
}

tier_net() {
  scripts/build.sh dev || { fail "the build failed"; return; }
  run_script tests/net/run.sh net
}

tier_kernels() {
  scripts/deps.sh kernels || { fail "the virtual machine's packages could not be installed"; return; }
  scripts/build.sh dev || { fail "the build failed"; return; }
  run_script tests/kernels/run.sh kernels
}

# Finds are kept in build/fuzz/; the corpus in the tree is only read.
tier_fuzz() {
  scripts/build.sh fuzz || { fail "the build failed"; return; }
  local source name log runs
  for source in tests/fuzz/*_fuzz.cpp; do
    [ -e "$source" ] || break # no fuzzer at all: counted as a failure by the caller
    name=$(basename "$source" .cpp)
    log=$logs/$name.log
    local work=build/fuzz/work/$name
    local corpus=("$work/corpus")
    mkdir -p "$work/corpus"
    [ ! -d "tests/fuzz/corpus/${name%_fuzz}" ] || corpus+=("tests/fuzz/corpus/${name%_fuzz}")
    if bounded $((fuzz_seconds + 120)) "build/fuzz/bin/$name" -max_total_time="$fuzz_seconds" \
      -timeout=10 -print_final_stats=1 -artifact_prefix="$work/" "${corpus[@]}" > "$log" 2>&1; then
      runs=$(awk '/^stat::number_of_executed_units:/ { print $2 }' "$log")
      echo "fuzz: $name: ${runs:-0} inputs, nothing found"
      if [ "${runs:-0}" -gt 0 ]; then passed=$((passed + 1)); else fail "$name ran no input"; fi
    else
      tail -n 60 "$log"
      fail "$name found something; the input is in $work/"
    fi
  done
}

# jq reads the reports.
scripts/deps.sh || exit 1

rows=() total_passed=0 total_failed=0 total_skipped=0
for tier in "${tiers[@]}"; do
  echo "== $tier"
  passed=0 failed=0 skipped=0 start=$SECONDS
  "tier_$tier"
  [ $((passed + failed)) -gt 0 ] || fail "no test ran in the tier $tier"
  rows+=("$(printf '%-8s %7d %7d %8d %8d' "$tier" "$passed" "$failed" "$skipped" $((SECONDS - start)))")
  total_passed=$((total_passed + passed))
  total_failed=$((total_failed + failed))
  total_skipped=$((total_skipped + skipped))
done

echo
printf '%-8s %7s %7s %8s %8s\n' tier passed failed skipped seconds
printf '%s\n' "${rows[@]}"
echo
if [ "$total_skipped" -gt 0 ]; then
  echo "$total_passed passed, $total_failed failed, $total_skipped skipped"
else
  echo "$total_passed passed, $total_failed failed"
fi
[ "$total_failed" = 0 ]
