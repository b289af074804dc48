// SPDX-License-Identifier: Apache-2.0
// remove_dead_pins(): which network namespaces are certainly gone.
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <optional>
#include <set>

#include <unistd.h>

#include "daemon/attach.hpp"
#include "daemon/instance_lock.hpp"
#include "daemon/pins.hpp"

namespace ctd {
namespace {

namespace fs = std::filesystem;

// The inode of the initial process namespace is fixed. From another one we do not see all processes.
constexpr char kInitialPidNamespace[] = "pid:[4026531836]";

// Network namespaces that a task is in, that are mounted somewhere, or that somebody holds open.
class LivingNamespaces {
 public:
  LivingNamespaces() { complete_ = scan(); }
  // False: some process could not be looked at; a namespace that was not seen may live.
  bool is_complete() const { return complete_; }
  bool has(u64 inode) const { return inodes_.contains(inode); }

 private:
  bool scan() {
    std::error_code error;
    bool complete = fs::read_symlink("/proc/self/ns/pid", error) == kInitialPidNamespace;
    const bool listed = for_each("/proc", [&](const fs::path& process) {
      const bool is_process = process.filename().string().find_first_not_of("0123456789") == std::string::npos;
      if (is_process && !scan_process(process)) complete = false;
      return true;
    });
    return complete && listed;
  }

  // A process that ends while we look has no namespace any more.
  static bool is_gone(const std::error_code& error) {
    return error == std::errc::no_such_file_or_directory || error == std::errc::no_such_process;
  }

  // Takes the N of a "net:[N]" anywhere in the text.
  void take(const std::string& text) {
    constexpr std::string_view kPrefix = "net:[";
    const std::size_t at = text.find(kPrefix);
    if (at == std::string::npos) return;
    u64 inode = 0;
    const char* begin = text.data() + at + kPrefix.size();
    if (std::from_chars(begin, text.data() + text.size(), inode).ec == std::errc()) inodes_.insert(inode);
  }

  bool take_link(const fs::path& link) {
    std::error_code error;
    const fs::path target = fs::read_symlink(link, error);
    if (!error) take(target);
    return !error || is_gone(error);
  }

  template <typename Visit>
  static bool for_each(const fs::path& folder, const Visit& visit) {
    std::error_code error;
    for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error))
      if (!visit(entry->path())) return false;
    return !error || is_gone(error);
  }

  bool take_mounts(const fs::path& process) {
    std::ifstream mounts(process / "mountinfo");
    if (!mounts) return !fs::exists(process);
    for (std::string line; std::getline(mounts, line);)
      if (line.find(" - nsfs ") != std::string::npos) take(line);
    return true;
  }

  bool scan_process(const fs::path& process) {
    // Each thread can be in a namespace of its own.
    return for_each(process / "task", [this](const fs::path& task) { return take_link(task / "ns/net"); }) &&
           for_each(process / "fd", [this](const fs::path& file) { return take_link(file); }) && take_mounts(process);
  }

  std::set<u64> inodes_;
  bool complete_ = false;
};

// What the pinned TCX links say: on a device, or all of them left behind by devices that are gone.
enum class Links { none, live, dead };

Result<Links> links_in(const std::string& folder) {
  Links links = Links::none;
  std::error_code error;
  for (fs::recursive_directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    if (entry->is_directory()) continue;
    const std::optional<u32> device = CTD_TRY(pinned_link_device(entry->path()));
    if (device && *device != 0) return Links::live;
    if (device) links = Links::dead;
  }
  if (error) return fail_errno(error.value(), "folder {}", folder);
  return links;
}

// Our own lock counts for our namespace, which lives.
Result<bool> is_locked(const std::string& rundir, const std::string& instance) {
  const pid_t holder = CTD_TRY(InstanceLock::holder(rundir, instance));
  return holder != 0 && holder != getpid();
}

Result<bool> is_dead(const PinnedInstance& pinned, const LivingNamespaces& living, const std::string& rundir) {
  if (living.has(pinned.netns) || CTD_TRY(is_locked(rundir, pinned.instance))) return false;
  switch (CTD_TRY(links_in(pinned.folder))) {
    case Links::live:  // held by something that the scan does not see
      return false;
    case Links::dead:
      return true;
    case Links::none:
      return living.is_complete();
  }
  return false;
}

}  // namespace

Result<std::vector<PinnedInstance>> remove_dead_pins(const std::string& bpffs, const std::string& rundir) {
  std::vector<PinnedInstance> removed;
  // Listed before the scan: a namespace that is made in between has no pins in the list.
  const std::vector<PinnedInstance> pinned = CTD_TRY(list_pinned_instances(bpffs));
  if (pinned.empty()) return removed;
  const LivingNamespaces living;
  for (const PinnedInstance& candidate : pinned) {
    if (!CTD_TRY(is_dead(candidate, living, rundir))) continue;
    CTD_TRY(remove_pin_folder(candidate.folder));
    removed.push_back(candidate);
  }
  return removed;
}

}  // namespace ctd
