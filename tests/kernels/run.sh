#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The kernels tier: what was built, on Debian's kernels, in a virtual machine.

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

usage() {
  cat <<'END'
usage: run.sh --bin DIR [--kernel 6.1|6.12] [--net]

  --bin     the binaries of a build, such as build/dev/bin; its BPF objects are looked for in DIR/../gen
  --kernel  series of Debian's kernels (default 6.1)
  --net     traffic through ctd as well, not only the loading of every BPF object

The last line is "kernels: N passed, N failed"; the exit status is 0 if there was no failure.
END
}

die() {
  echo "run.sh: $*" >&2
  exit 2
}

bin='' series=6.1 net=false
while [ $# -gt 0 ]; do
  case $1 in
    --bin | --kernel)
      [ $# -ge 2 ] || die "$1 needs a value"
      case $1 in
        --bin) bin=$2 ;;
        --kernel) series=$2 ;;
      esac
      shift 2
      ;;
    --net) net=true; shift ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; die "unknown argument \"$1\"" ;;
  esac
done
[ -n "$bin" ] || { usage >&2; die "--bin is missing"; }
bin=$(cd "$bin" && pwd) || die "--bin: no folder \"$bin\""

passed=0 failed=0

# in_vm NAMES_EXPECTED COMMAND...
# Runs a guest script, shows its lines "ok NAME…" and "not ok NAME…", and counts them. A name of which nothing
# was heard has failed: the virtual machine may have hung or died before it.
in_vm() {
  local expected=$1 output status=0 name
  shift
  output=$(mktemp)
  "$here/vm.sh" --kernel "$series" --timeout 300 -- "$@" | tee "$output" || status=$?
  for name in $expected; do
    if grep -q "^ok $name\b" "$output" && ! grep -q "^not ok $name\b" "$output"; then
      passed=$((passed + 1))
    else
      grep -q "^not ok $name\b" "$output" || echo "not ok $name: no result from the virtual machine (status $status)"
      failed=$((failed + 1))
    fi
  done
  rm -f "$output"
}

# The names of prog_tests' load tests, if it has been built and has any.
load_tests() {
  [ ! -x "$bin/prog_tests" ] || "$bin/prog_tests" --gtest_list_tests --gtest_filter='*Load*'
}

test_load() {
  local subjects
  mapfile -t subjects < <(find "$(dirname "$bin")/gen" -maxdepth 1 -name '*.bpf.o' 2> /dev/null | sort)
  [ ${#subjects[@]} -gt 0 ] || die "no BPF objects in $(dirname "$bin")/gen: has it been built?"
  [ -z "$(load_tests)" ] || subjects+=("$bin/prog_tests")
  in_vm "$(basename -a "${subjects[@]}")" "$here/guest_load.sh" "${subjects[@]}"
}

echo "kernels: Debian's $series"
test_load
$net && in_vm "$("$here/guest_net.sh" --list)" "$here/guest_net.sh" "$bin"
echo "kernels: $passed passed, $failed failed"
[ "$failed" = 0 ]
