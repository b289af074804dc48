// SPDX-License-Identifier: Apache-2.0
// Where an instance keeps what outlives it: BPFFS/ctd/NETNS/INSTANCE/, with NETNS the inode of its network namespace.
//
// A bpffs refuses names with a dot: instances and devices are escaped (see pin_name).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <ctd/abi/types.h>

#include "lib/result.hpp"

namespace ctd {

inline constexpr char kDefaultBpffs[] = "/sys/fs/bpf";

// `name` as a file name of a bpffs: '.' becomes "+2e", '+' becomes "+2b".
std::string pin_name(std::string_view name);

// Inode of the calling thread's network namespace.
Result<u64> netns_inode();

// Errors: no bpffs is mounted there; says how to mount one.
Result<> check_bpffs(const std::string& bpffs);

// BPFFS/ctd/NETNS/INSTANCE, without looking whether it exists.
std::string pin_folder(const std::string& bpffs, u64 netns, const std::string& instance);

// Makes the folder of `instance` in this network namespace (0700), or takes the one that is there; returns its path.
// Pins of an earlier namespace whose inode number was given to this one are removed first.
Result<std::string> make_pin_folder(const std::string& bpffs, const std::string& instance);

// Removes a folder from pin_folder() with all in it, and the folders above it that are empty then, up to and
// including BPFFS/ctd. No such folder is success.
Result<> remove_pin_folder(const std::string& folder);

struct PinnedInstance {
  u64 netns = 0;
  std::string instance;
  std::string folder;
};
Result<std::vector<PinnedInstance>> list_pinned_instances(const std::string& bpffs);

// Removes the folders of network namespaces that no process is in or holds, and whose instance nobody has locked in
// `rundir`; returns what was removed. Pinned TCX links must be without their devices, too; where some process cannot
// be looked at (no CAP_SYS_PTRACE), only a folder with such links is certain to be dead.
Result<std::vector<PinnedInstance>> remove_dead_pins(const std::string& bpffs, const std::string& rundir);

}  // namespace ctd
