#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Process 1 of the virtual machine: prepares the system, runs the command, reports its exit status on the
# console and switches off. Arguments: the script to run, and the folder of the running kernel.

command_script=$1
kernel_dir=$2

power_off() {
  echo "ctd-vm: exit status $1" > /dev/console
  busybox poweroff -f
}
try() {
  "$@" || { echo "ctd-vm: failed: $*" > /dev/console; power_off 125; }
}

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
try mount -t proc proc /proc
try mount -t sysfs sys /sys
try mount -t devtmpfs dev /dev
try mkdir -p /dev/pts /dev/shm
try mount -t devpts devpts /dev/pts
try mount -t tmpfs tmpfs /dev/shm
try mount -t tmpfs -o mode=755 tmpfs /run
try mount -t bpf bpf /sys/fs/bpf
try mount -t cgroup2 cgroup2 /sys/fs/cgroup
ln -sf /proc/self/fd /dev/fd

# BusyBox's modprobe, for us and for the kernel's own requests: depmod was BusyBox's too.
try mkdir -p /run/vm-bin /lib/modules
try ln -s "$(command -v busybox)" /run/vm-bin/modprobe
try ln -sfn "$kernel_dir/lib/modules/$(uname -r)" "/lib/modules/$(uname -r)"
export PATH=/run/vm-bin:$PATH
echo /run/vm-bin/modprobe > /proc/sys/kernel/modprobe

# The rest is loaded when it is asked for; these also where a program has dropped the right to ask. What a kernel
# lacks or has built in is passed over: if it is missed, the test that needs it fails.
modprobe -a -q veth tun sch_ingress cls_bpf act_bpf nf_conntrack nf_conntrack_netlink 2> /dev/kmsg

ip link set lo up
stty -F /dev/ttyS1 raw -echo
bash "$command_script" < /dev/null > /dev/ttyS1 2>&1
status=$?
# The line buffers must be empty before the power goes.
stty -F /dev/ttyS1 > /dev/null
power_off "$status"
