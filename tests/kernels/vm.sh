#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Boot one of Debian's kernels in a virtual machine and run one command in it.
# The command sees this machine's file system as it is; what it writes is gone afterwards.

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo=$(cd "$here/../.." && pwd)

usage() {
  cat <<'END'
usage: vm.sh [--kernel 6.1|6.12] [--timeout SECONDS] [--memory MIB] [--log FILE] -- COMMAND [ARGUMENT...]

  --kernel   series of Debian's kernels (default 6.1); the newest version apt knows is used
  --timeout  the virtual machine is ended after this time (default 120)
  --memory   of the virtual machine (default 2048)
  --log      keep the console's log here (default: kept only if the command fails, in build/kernels/)

The command's output is written to standard output, and its exit status is the script's:
124 if the time was up, 125 if the virtual machine ended before the command did.
END
}

die() {
  echo "vm.sh: $*" >&2
  exit 125
}

series=6.1 time_limit=120 memory=2048 log=''
while [ $# -gt 0 ]; do
  case $1 in
    --kernel | --timeout | --memory | --log)
      [ $# -ge 2 ] || die "$1 needs a value"
      case $1 in
        --kernel) series=$2 ;;
        --timeout) time_limit=$2 ;;
        --memory) memory=$2 ;;
        --log) log=$2 ;;
      esac
      shift 2
      ;;
    -h | --help) usage; exit 0 ;;
    --) shift; break ;;
    *) usage >&2; die "unknown argument \"$1\"" ;;
  esac
done
[ $# -gt 0 ] || { usage >&2; die "no command given"; }
[ "$(id -u)" = 0 ] || die "must run as root: the whole file system is shared with the virtual machine"

virtiofsd=/usr/lib/qemu/virtiofsd
for tool in qemu-system-x86_64 busybox "$virtiofsd"; do
  command -v "$tool" > /dev/null || die "$tool is missing: run scripts/deps.sh kernels"
done

run=$(mktemp -d "${TMPDIR:-/tmp}/ctd-vm-XXXXXX")
virtiofsd_pid='' qemu_pid=''
# shellcheck disable=SC2317  # called by the trap
cleanup() {
  [ -z "$qemu_pid" ] || kill "$qemu_pid" 2> /dev/null || true
  [ -z "$virtiofsd_pid" ] || kill "$virtiofsd_pid" 2> /dev/null || true
  wait
  # virtiofsd leaves a pid file behind, named after its socket.
  local socket=$run/fs.sock
  rm -f "/run/virtiofsd/${socket//\//.}.pid" "$run"/{fs.sock,command,console,qemu.log,virtiofsd.log}
  # Never recursive: everything of this machine was mounted below, if only in virtiofsd's own namespace.
  rmdir "$run"/{root,} 2> /dev/null || true
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Shares a read-only copy of the mount tree, so that not even root inside can write to this machine.
share_root() {
  mkdir "$run/root"
  # shellcheck disable=SC2016  # expanded by the inner shell
  unshare --mount --propagation private bash -c '
    set -e
    mount --rbind / "$1"
    for pseudo in proc sys dev; do umount -R -l "$1/$pseudo"; done
    findmnt -rno TARGET --submounts "$1" | while read -r target; do mount -o remount,bind,ro "$target"; done
    exec "$2" --socket-path="$3" -o source="$1" -o cache=always -o log_level=warn
  ' share_root "$run/root" "$virtiofsd" "$run/fs.sock" > "$run/virtiofsd.log" 2>&1 &
  virtiofsd_pid=$!
  local tries=0
  until [ -S "$run/fs.sock" ]; do
    if ! kill -0 "$virtiofsd_pid" 2> /dev/null || [ $((tries += 1)) -gt 100 ]; then
      die "sharing the file system failed: $(cat "$run/virtiofsd.log")"
    fi
    sleep 0.05
  done
}

# What the guest runs, as a script of its own: no quoting through the kernel's command line.
write_command() {
  {
    printf 'cd %q\n' "$PWD"
    printf 'exec'
    printf ' %q' "$@"
    printf '\n'
  } > "$run/command"
}

# thread=single: with thread=multi the emulator makes 6.12 panic when filters are detached under traffic.
# The first serial line is the console, the second carries the command's output and nothing else.
boot() {
  timeout --foreground --kill-after=5 "$time_limit" qemu-system-x86_64 \
    -accel tcg,thread=single -cpu max -M q35 -smp 2 -m "$memory" \
    -object memory-backend-memfd,id=ram,size="${memory}M",share=on -numa node,memdev=ram \
    -chardev socket,id=fs,path="$run/fs.sock" -device vhost-user-fs-pci,chardev=fs,tag=host \
    -nodefaults -no-user-config -display none -no-reboot \
    -serial file:"$run/console" -serial stdio \
    -kernel "$kernel_dir/vmlinuz" -initrd "$kernel_dir/initramfs" \
    -append "console=ttyS0 loglevel=5 panic=-1 oops=panic mitigations=off -- $here/guest_init.sh $run/command $kernel_dir" \
    < /dev/null 2> "$run/qemu.log" &
  qemu_pid=$!
  local status=0
  wait "$qemu_pid" || status=$?
  qemu_pid=''
  return "$status"
}

kernel_dir=$("$here/kernel_image.sh" "$series" "$repo/build/kernels") || exit 125
share_root
write_command "$@"
qemu_status=0
boot || qemu_status=$?

status=$(sed -n 's/^.*ctd-vm: exit status \([0-9]\+\)\r\?$/\1/p' "$run/console" 2> /dev/null | tail -n 1)
if [ -z "$status" ]; then
  status=125
  if [ "$qemu_status" = 124 ]; then
    status=124
    echo "vm.sh: ended after $time_limit s, the command had not finished" >&2
  else
    echo "vm.sh: the virtual machine ended (status $qemu_status) before the command did" >&2
  fi
  tail -n 20 "$run/console" >&2 || true
fi
if [ "$status" != 0 ] && [ -z "$log" ]; then
  log=$repo/build/kernels/console-$series-$$.log
  echo "vm.sh: console log kept in $log" >&2
fi
[ -z "$log" ] || tail -n +1 "$run"/{qemu.log,virtiofsd.log,console} > "$log"
exit "$status"
