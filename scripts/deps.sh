#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The one list of Debian packages that ctd is built and tested with. Installs what is missing; says
# nothing when nothing is.
#
#   scripts/deps.sh            to build, test and demonstrate
#   scripts/deps.sh kernels    and to run other kernels in a virtual machine (tests/kernels)
set -euo pipefail

build=(
  build-essential git pkg-config cmake ninja-build ccache
  clang-19 llvm-19 libclang-rt-19-dev clang-format-19 clang-tidy-19
  libbpf-dev bpftool
  nlohmann-json3-dev libcli11-dev libfmt-dev libspdlog-dev libcpp-httplib-dev libvalijson-dev
  libnl-3-dev libnl-route-3-dev libsystemd-dev prometheus-cpp-dev
  libgtest-dev libgmock-dev libbenchmark-dev
)
# What the demonstration and the tests in namespaces run.
traffic=(
  iproute2 procps util-linux ethtool nftables conntrack tcpdump
  iperf3 curl netcat-openbsd iputils-ping iputils-tracepath traceroute
  jq python3 python3-scapy python3-jsonschema
)
kernels=(qemu-system-x86 qemu-system-common busybox-static)

wanted=("${build[@]}" "${traffic[@]}")
for group in "$@"; do
  case $group in
    kernels) wanted+=("${kernels[@]}") ;;
    -h | --help) sed -n '3,8s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "deps.sh: unknown group \"$group\"; the only one is \"kernels\"" >&2; exit 2 ;;
  esac
done

# dpkg-query fails for packages that dpkg has never heard of; those are missing like any other.
installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "${wanted[@]}" 2> /dev/null || true)
missing=()
for package in "${wanted[@]}"; do
  grep -qx "installed $package" <<< "$installed" || missing+=("$package")
done
# The runner of the kernels tier asks apt for a kernel: an image without package lists needs them first.
need_lists=false
if [[ " $* " == *" kernels "* ]] && ! compgen -G '/var/lib/apt/lists/*_Packages*' > /dev/null; then
  need_lists=true
fi
if [ ${#missing[@]} = 0 ] && ! $need_lists; then
  exit 0
fi

if [ "$(id -u)" != 0 ]; then
  echo "deps.sh: root is needed to install: ${missing[*]:-the package lists}" >&2
  echo "deps.sh: run \"sudo scripts/deps.sh${*:+ $*}\" first" >&2
  exit 1
fi

export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT

apt() {
  apt-get -q -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@" >> "$log" 2>&1 < /dev/null
}
die() {
  cat "$log" >&2
  echo "deps.sh: $*" >&2
  exit 1
}
refresh() {
  echo "deps: refreshing the package lists"
  apt update || die "apt-get update failed"
}
install_missing() {
  [ ${#missing[@]} = 0 ] || apt install -y --no-install-recommends "${missing[@]}"
}

if $need_lists; then refresh; fi
if [ ${#missing[@]} -gt 0 ]; then
  echo "deps: installing ${missing[*]}"
fi
# The lists are refreshed only where they are too old (or absent) to have these packages.
if ! install_missing; then
  refresh
  install_missing || die "apt-get could not install: ${missing[*]}"
fi
