// SPDX-License-Identifier: Apache-2.0
#include "lib/rundir.hpp"

#include <cstdlib>

#include <sys/un.h>

namespace ctd {

std::string default_rundir() {
  const char* dir = std::getenv("CTD_RUNDIR");
  return dir && *dir ? dir : "/run/ctd";
}

Result<> check_instance_name(const std::string& name) {
  constexpr char kAllowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
  if (name.empty() || name.size() > 32 || name.front() == '.' || name.find_first_not_of(kAllowed) != std::string::npos)
    return fail("instance \"{}\": expected 1 to 32 letters, digits, '-', '_' or '.', not beginning with '.'", name);
  return {};
}

Result<std::string> control_socket_path(const std::string& rundir, const std::string& instance) {
  CTD_TRY(check_instance_name(instance));
  std::string path = fmt::format("{}/{}/ctd.sock", rundir, instance);
  constexpr std::size_t kLongest = sizeof(sockaddr_un::sun_path) - 1;
  if (path.size() > kLongest)
    return fail("socket {}: a Unix socket's path has at most {} characters, this one has {}", path, kLongest,
                path.size());
  return path;
}

}  // namespace ctd
