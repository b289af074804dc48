#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=dash
#
# /init of the initramfs: mounts the host's file system, read-only under a tmpfs, and continues there.

PATH=/bin
export PATH
fail() {
  echo "ctd-vm: initramfs: $*" > /dev/console
  busybox poweroff -f
}
try() {
  "$@" || fail "failed: $*"
}

try busybox mount -t devtmpfs dev /dev
while read -r module; do
  try busybox insmod "/modules/$module"
done < /modules/order
try busybox mount -t virtiofs -o ro host /lower
try busybox mount -t tmpfs tmpfs /rw
try busybox mkdir /rw/upper /rw/work
try busybox mount -t overlay -o lowerdir=/lower,upperdir=/rw/upper,workdir=/rw/work overlay /newroot
busybox umount /dev
exec busybox switch_root /newroot /bin/bash "$@"
