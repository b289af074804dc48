#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the release and measures what a packet costs through ctd, through the kernel's own
# forwarding and NAT, and at the least. In namespaces of its own, which it removes; takes root and a
# quiet machine. Writes build/bench/path.json and bench/RESULTS.md.
#
#   scripts/bench.sh                the whole of it, about six minutes
#   scripts/bench.sh --quick        a smoke test of a minute or two; RESULTS.md stays as it is
#   scripts/bench.sh --only LIST    of drop,redirect,kernel,nft,ctd and udp,opening,tcp,siege; RESULTS.md stays
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

case " $* " in
  *" -h "* | *" --help "*) sed -n '3,9s/^# \{0,1\}//p' "$0"; exit 0 ;;
esac
if [ "$(id -u)" != 0 ]; then
  echo "bench.sh: needs root (it makes network namespaces): sudo scripts/bench.sh${*:+ $*}" >&2
  exit 1
fi

scripts/build.sh release
echo "bench: measuring"
PYTHONDONTWRITEBYTECODE=1 exec /usr/bin/python3 bench/path/run.py "$@"
