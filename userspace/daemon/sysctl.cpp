// SPDX-License-Identifier: Apache-2.0
#include "daemon/sysctl.hpp"

#include <cerrno>

#include <fcntl.h>
#include <unistd.h>

#include "daemon/fd.hpp"

namespace ctd {
namespace {

std::string forwarding_name(const std::string& device, ctd_family family) {
  return fmt::format("net/ipv{}/conf/{}/forwarding", family == CTD_IPV6 ? '6' : '4', device);
}

Result<bool> read_flag(const std::string& name) {
  const Result<std::string> value = read_sysctl(name);
  if (!value && value.error().code() == ENOENT) return false;
  if (!value) return value.error();
  return *value != "0";
}

}  // namespace

Result<std::string> read_sysctl(const std::string& name) {
  const std::string path = "/proc/sys/" + name;
  const Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return fail_errno(errno, "{}", path);
  std::string value(4096, '\0');
  const ssize_t size = read(fd.get(), value.data(), value.size());
  if (size < 0) return fail_errno(errno, "read {}", path);
  value.resize(static_cast<std::size_t>(size));
  while (!value.empty() && value.back() == '\n') value.pop_back();
  return value;
}

Result<> write_sysctl(const std::string& name, const std::string& value) {
  const std::string path = "/proc/sys/" + name;
  const Fd fd(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd) return fail_errno(errno, "{}", path);
  if (write(fd.get(), value.data(), value.size()) != static_cast<ssize_t>(value.size()))
    return fail_errno(errno, "write \"{}\" to {}", value, path);
  return {};
}

Result<bool> global_forwarding(ctd_family family) {
  return family == CTD_IPV6 ? read_flag(forwarding_name("all", family)) : read_flag("net/ipv4/ip_forward");
}

Result<bool> get_forwarding(const std::string& device, ctd_family family) {
  return read_flag(forwarding_name(device, family));
}

Result<> set_forwarding(const std::string& device, ctd_family family, bool on) {
  Result<> written = write_sysctl(forwarding_name(device, family), on ? "1" : "0");
  if (!written && !on && written.error().code() == ENOENT) return {};
  return written;
}

}  // namespace ctd
