// SPDX-License-Identifier: Apache-2.0
#include "daemon/api_socket.hpp"

#include <cerrno>
#include <cstring>
#include <filesystem>

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

namespace ctd {
namespace {

// 0, or the errno of connect().
Result<int> try_connect(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) return fail("socket {}: the path is too long", path);
  std::memcpy(address.sun_path, path.data(), path.size());
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return fail_errno(errno, "socket {}", path);
  const int rc = connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  const int error = rc == 0 ? 0 : errno;
  close(fd);
  return error;
}

}  // namespace

Result<> make_private_folder(const std::string& folder) {
  std::error_code error;
  std::filesystem::create_directories(std::filesystem::path(folder).parent_path(), error);
  if (error) return fail_errno(error.value(), "folder {}", folder);
  if (mkdir(folder.c_str(), 0700) == 0) return {};
  if (errno != EEXIST) return fail_errno(errno, "folder {}", folder);

  struct stat st{};
  if (lstat(folder.c_str(), &st) != 0) return fail_errno(errno, "folder {}", folder);
  if (!S_ISDIR(st.st_mode)) return fail("folder {}: it exists and is not a folder", folder);
  if (st.st_uid != geteuid())
    return fail("folder {}: it belongs to user {}, expected {}: others could replace the socket", folder, st.st_uid,
                geteuid());
  if ((st.st_mode & 07777) != 0700 && chmod(folder.c_str(), 0700) != 0)
    return fail_errno(errno, "folder {}: chmod 0700", folder);
  return {};
}

Result<> remove_stale_socket(const std::string& path) {
  struct stat st{};
  if (lstat(path.c_str(), &st) != 0) {
    if (errno == ENOENT) return {};
    return fail_errno(errno, "socket {}", path);
  }
  if (!S_ISSOCK(st.st_mode)) return fail("socket {}: a file that is not a socket is in the way; remove it", path);

  const int error = CTD_TRY(try_connect(path));
  if (error == 0 || error == EAGAIN)  // EAGAIN: somebody listens, and is busy
    return Error(fmt::format("socket {}: another ctd answers on it", path), EADDRINUSE);
  if (error != ECONNREFUSED) return fail_errno(error, "socket {}: connect", path);
  if (unlink(path.c_str()) != 0 && errno != ENOENT) return fail_errno(errno, "socket {}: remove the stale one", path);
  return {};
}

}  // namespace ctd
