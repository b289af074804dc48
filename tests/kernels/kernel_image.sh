#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# kernel_image.sh SERIES CACHE_FOLDER
# Prints the folder with vmlinuz, initramfs and lib/modules of Debian's newest kernel of a series (6.1, 6.12).
# What is not in the cache is downloaded and unpacked, never installed.

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# The newest package of a series that apt's lists name, such as linux-image-6.1.0-56-cloud-amd64.
newest_kernel_package() {
  local series=$1
  apt-cache search --names-only "^linux-image-${series//./\\.}\\.[0-9].*-cloud-amd64\$" |
    cut -d ' ' -f 1 | sort -V | tail -n 1
}

# Modules in the order in which they must be inserted: each after what it needs.
# modules.dep lists a module and then what it needs, the first needed last.
module_order() {
  local tree=$1 module
  shift
  for module; do
    if grep -q "/$module\.ko:" "$tree/modules.dep"; then
      grep "/$module\.ko:" "$tree/modules.dep" | tr -d ':' | tr ' ' '\n' | tac
    elif ! grep -q "/$module\.ko\$" "$tree/modules.builtin"; then
      echo "the kernel has no module $module" >&2
      return 1
    fi
  done | awk 'NF && !seen[$0]++'
}

# An initramfs that knows just enough to reach this machine's file system.
# make_initramfs MODULES_TREE OUTPUT, with a work folder to build in
make_initramfs() {
  local modules_tree=$1 output=$2 root=$work/initramfs module
  mkdir -p "$root"/{bin,dev,lower,rw,newroot,modules}
  cp "$(command -v busybox)" "$root/bin/busybox"
  module_order "$modules_tree" virtio_pci virtiofs overlay > "$work/order"
  while read -r module; do
    cp "$modules_tree/$module" "$root/modules/"
    basename "$module"
  done < "$work/order" > "$root/modules/order"
  cp "$here/initramfs_init.sh" "$root/init"
  chmod 755 "$root/init"
  (cd "$root" && find . | busybox cpio -o -H newc 2> /dev/null | gzip -1) > "$work/initramfs.gz"
  mv "$work/initramfs.gz" "$output"
}

# Sets package to the newest of the series, and downloads it into the work folder unless the cache has it.
obtain() {
  package=$(newest_kernel_package "$series")
  [ -n "$package" ] || return 1
  [ -e "$cache/$package" ] || {
    echo "fetching $package" >&2
    (cd "$work" && apt-get -q download "$package" >> apt.log 2>&1)
  }
}

# Unpacked aside and moved to its place whole, so that two runs do not meet half of it.
unpack_kernel() {
  local package=$1 dir=$2 version=${1#linux-image-} part=$work/kernel
  mkdir "$part"
  dpkg-deb -x "$work"/*.deb "$work/package"
  mv "$work/package/boot/vmlinuz-$version" "$part/vmlinuz"
  mv "$work/package/lib" "$part/lib"
  find "$part/lib/modules" -name '*.ko.xz' -exec busybox unxz {} +
  busybox depmod -b "$part" "$version"
  make_initramfs "$part/lib/modules/$version" "$part/initramfs"
  [ -e "$dir" ] || mv -T "$part" "$dir"
}

[ $# = 2 ] || { echo "usage: kernel_image.sh SERIES CACHE_FOLDER" >&2; exit 1; }
series=$1 cache=$2
[[ $series =~ ^[0-9]+\.[0-9]+$ ]] || { echo "\"$series\" is no kernel series such as 6.1" >&2; exit 1; }
mkdir -p "$cache"
work=$(mktemp -d "$cache/tmp.XXXXXX")
trap 'rm -rf "$work"' EXIT

if ! obtain; then
  echo "refreshing apt's package lists" >&2
  apt-get -q update >> "$work/apt.log" 2>&1 || true
  if ! obtain; then
    cat "$work/apt.log" >&2
    if [ -n "$package" ]; then
      echo "$package could not be downloaded" >&2
    else
      echo "Debian's kernel $series cannot be had from the configured apt sources:" \
        "they have no linux-image-$series.*-cloud-amd64" >&2
    fi
    exit 1
  fi
fi

dir=$cache/$package
if [ ! -e "$dir" ]; then
  unpack_kernel "$package" "$dir"
elif [ "$here/initramfs_init.sh" -nt "$dir/initramfs" ] || [ "$here/kernel_image.sh" -nt "$dir/initramfs" ]; then
  make_initramfs "$dir/lib/modules/${package#linux-image-}" "$dir/initramfs"
fi
echo "$dir"
