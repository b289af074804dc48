#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The tests in network namespaces: real programs through ctd as a gateway.
#
#   tests/net/run.sh --bin DIR [FILTER...]
#
# DIR has ctd and ctctl. A FILTER is a part of a test's name (test_path.PathTest.test_traceroute); without one all
# tests run. --list names them. The last line is "net: N passed, N failed"; the exit status is 0 if none has failed.
set -euo pipefail
# Not "python3": the packages are those of the distribution's own interpreter.
exec /usr/bin/python3 -B "$(dirname "${BASH_SOURCE[0]}")/runner.py" "$@"
