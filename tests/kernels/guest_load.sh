#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# guest_load.sh OBJECT-OR-PROG_TESTS...
# Inside the virtual machine: every program of every BPF object (*.bpf.o) must pass this kernel's verifier, as it is in
# the file; then as userspace configures it, by the tests of prog_tests with "Load" in their names.
# One line of result for each argument, with the end of its output after a failure.

set -u
pins=/sys/fs/bpf/load_test
log=$(mktemp)
failed=0

load_object() {
  bpftool prog loadall "$1" "$pins" || return
  echo "$(find "$pins" -type f | wc -l) programs" > "$log.summary"
  # An object without a program would prove nothing.
  [ -n "$(ls "$pins")" ]
}

run_load_tests() {
  "$1" --gtest_filter='*Load*' --gtest_color=no || return
  # With nothing but skipped tests gtest is content; we are not.
  grep -E '^\[  PASSED  \] [1-9][0-9]* tests?' "$log" | sed 's/^\[  PASSED  \] //; s/\.$//' > "$log.summary"
  [ -s "$log.summary" ] && ! grep -q '^\[  SKIPPED \]' "$log"
}

for argument; do
  : > "$log.summary"
  case $argument in
    *.bpf.o) load_object "$argument" ;;
    *) run_load_tests "$argument" ;;
  esac > "$log" 2>&1
  status=$?
  if [ "$status" = 0 ]; then
    echo "ok $(basename "$argument"): $(cat "$log.summary")"
  else
    failed=1
    echo "not ok $(basename "$argument")"
    tail -n 60 "$log" | sed 's/^/    /'
  fi
  rm -rf "$pins"
done
exit "$failed"
