// SPDX-License-Identifier: Apache-2.0
#include "daemon/pins.hpp"

#include <cerrno>
#include <charconv>
#include <filesystem>
#include <optional>

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "daemon/fd.hpp"

namespace ctd {
namespace {

namespace fs = std::filesystem;

// Beside the instances of a namespace: an empty folder +cookie_N with the namespace's cookie, which the kernel never
// gives again, unlike the inode. No instance's name begins with '+'.
constexpr std::string_view kCookiePrefix = "+cookie_";

Result<u64> netns_cookie() {
  const Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  u64 cookie = 0;
  socklen_t size = sizeof(cookie);
  if (!socket || getsockopt(socket.get(), SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &size) != 0)
    return fail_errno(errno, "cookie of the network namespace");
  return cookie;
}

Result<> make_folder(const std::string& folder) {
  if (mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) return fail_errno(errno, "folder {}", folder);
  return {};
}

Result<> remove_all(const std::string& folder) {
  std::error_code error;
  fs::remove_all(folder, error);
  if (error) return fail_errno(error.value(), "remove {}", folder);
  return {};
}

Result<std::vector<std::string>> entries(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error))
    names.push_back(entry->path().filename());
  if (error && error != std::errc::no_such_file_or_directory) return fail_errno(error.value(), "folder {}", folder);
  return names;
}

std::optional<u64> parse_number(std::string_view text) {
  u64 number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

// The reverse of pin_name().
std::string unescape(std::string_view name) {
  std::string text;
  for (std::size_t i = 0; i < name.size(); i++) {
    const std::string_view code = name.substr(i, 3);
    const bool escaped = code == "+2e" || code == "+2b";
    text += escaped ? (code == "+2e" ? '.' : '+') : name[i];
    if (escaped) i += 2;
  }
  return text;
}

// Removes the namespace's folder if it was another namespace's with the same inode; marks it as ours.
Result<> claim_netns_folder(const std::string& folder) {
  const std::string mine = fmt::format("{}{}", kCookiePrefix, CTD_TRY(netns_cookie()));
  for (const std::string& name : CTD_TRY(entries(folder))) {
    if (!name.starts_with(kCookiePrefix) || name == mine) continue;
    CTD_TRY(remove_all(folder).context("pins of a network namespace that is gone"));
    break;
  }
  CTD_TRY(make_folder(folder));
  return make_folder(folder + "/" + mine);
}

Result<> remove_if_empty(const std::string& folder) {
  if (rmdir(folder.c_str()) == 0 || errno == ENOENT || errno == ENOTEMPTY) return {};
  return fail_errno(errno, "remove {}", folder);
}

}  // namespace

std::string pin_name(std::string_view name) {
  std::string escaped;
  for (const char c : name) {
    if (c == '.' || c == '+')
      escaped += c == '.' ? "+2e" : "+2b";
    else
      escaped += c;
  }
  return escaped;
}

Result<u64> netns_inode() {
  constexpr char kPath[] = "/proc/thread-self/ns/net";
  struct stat st{};
  if (stat(kPath, &st) != 0) return fail_errno(errno, "{}", kPath);
  return u64{st.st_ino};
}

Result<> check_bpffs(const std::string& bpffs) {
  struct statfs fs{};
  if (statfs(bpffs.c_str(), &fs) != 0) return fail_errno(errno, "bpffs {}", bpffs);
  if (fs.f_type == BPF_FS_MAGIC) return {};
  return fail(
      "bpffs {}: no BPF file system is mounted here (mount -t bpf bpf {}); from within \"ip netns exec\" it is "
      "hidden: enter the namespace with nsenter --net=/run/netns/NAME",
      bpffs, bpffs);
}

std::string pin_folder(const std::string& bpffs, u64 netns, const std::string& instance) {
  return fmt::format("{}/ctd/{}/{}", bpffs, netns, pin_name(instance));
}

Result<std::string> make_pin_folder(const std::string& bpffs, const std::string& instance) {
  CTD_TRY(check_bpffs(bpffs));
  std::string folder = pin_folder(bpffs, CTD_TRY(netns_inode()), instance);
  const fs::path netns_folder = fs::path(folder).parent_path();
  CTD_TRY(make_folder(netns_folder.parent_path()));
  CTD_TRY(claim_netns_folder(netns_folder));
  CTD_TRY(make_folder(folder));
  return folder;
}

Result<> remove_pin_folder(const std::string& folder) {
  CTD_TRY(remove_all(folder));
  const std::string netns_folder = fs::path(folder).parent_path();
  const std::vector<std::string> rest = CTD_TRY(entries(netns_folder));
  for (const std::string& name : rest)
    if (!name.starts_with(kCookiePrefix)) return {};
  for (const std::string& name : rest) CTD_TRY(remove_if_empty(netns_folder + "/" + name));
  CTD_TRY(remove_if_empty(netns_folder));
  return remove_if_empty(fs::path(netns_folder).parent_path());
}

Result<std::vector<PinnedInstance>> list_pinned_instances(const std::string& bpffs) {
  std::vector<PinnedInstance> found;
  const std::string root = bpffs + "/ctd";
  for (const std::string& netns : CTD_TRY(entries(root))) {
    const std::optional<u64> inode = parse_number(netns);
    if (!inode) continue;
    for (const std::string& name : CTD_TRY(entries(fmt::format("{}/{}", root, netns)))) {
      if (name.starts_with(kCookiePrefix)) continue;
      found.push_back({*inode, unescape(name), fmt::format("{}/{}/{}", root, netns, name)});
    }
  }
  return found;
}

}  // namespace ctd
