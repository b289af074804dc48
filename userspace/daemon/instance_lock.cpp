// SPDX-License-Identifier: Apache-2.0
#include "daemon/instance_lock.hpp"

#include <cerrno>
#include <charconv>
#include <filesystem>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/api_socket.hpp"
#include "lib/rundir.hpp"

namespace ctd {
namespace {

// Open-file-description locks: they end with the process, and can be asked about without being taken.
constexpr struct flock kWholeFile{.l_type = F_WRLCK, .l_whence = SEEK_SET};

std::string lock_path(const std::string& rundir, const std::string& instance) {
  return fmt::format("{}/{}/lock", rundir, instance);
}

// The file is for people and messages; the lock itself is the kernel's. 0: the holder has not written it yet.
pid_t written_pid(int fd) {
  char text[16];
  pid_t pid = 0;
  const ssize_t size = pread(fd, text, sizeof(text), 0);
  if (size > 0) std::from_chars(text, text + size, pid);
  return pid;
}

Result<> write_pid(int fd) {
  const std::string text = fmt::format("{}\n", getpid());
  if (ftruncate(fd, 0) != 0 || pwrite(fd, text.data(), text.size(), 0) != static_cast<ssize_t>(text.size()))
    return fail_errno(errno, "write the process id");
  return {};
}

bool is_same_file(int fd, const std::string& path) {
  struct stat mine{};
  struct stat named{};
  return fstat(fd, &mine) == 0 && stat(path.c_str(), &named) == 0 && mine.st_dev == named.st_dev &&
         mine.st_ino == named.st_ino;
}

}  // namespace

Result<InstanceLock> InstanceLock::take(const std::string& rundir, const std::string& instance) {
  CTD_TRY(check_instance_name(instance));
  std::string path = lock_path(rundir, instance);
  constexpr int kAttempts = 10;
  for (int attempt = 0; attempt < kAttempts; attempt++) {
    CTD_TRY(make_private_folder(std::filesystem::path(path).parent_path()));
    Fd fd(open(path.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!fd && errno == ENOENT) continue;  // the folder went away: somebody else's shutdown
    if (!fd) return fail_errno(errno, "lock {}", path);
    struct flock lock = kWholeFile;
    if (fcntl(fd.get(), F_OFD_SETLK, &lock) != 0) {
      if (errno != EAGAIN && errno != EACCES) return fail_errno(errno, "lock {}", path);
      return Error(fmt::format("instance \"{}\" is already running as process {} (it holds {}): stop it, or choose "
                               "another name with --instance",
                               instance, written_pid(fd.get()), path),
                   EBUSY);
    }
    // Whoever held it before may have removed the file between our open and lock.
    if (!is_same_file(fd.get(), path)) continue;
    CTD_TRY(write_pid(fd.get()).context("lock {}", path));
    return InstanceLock(std::move(fd), std::move(path));
  }
  return fail("lock {}: it is removed again and again", path);
}

Result<pid_t> InstanceLock::holder(const std::string& rundir, const std::string& instance) {
  const std::string path = lock_path(rundir, instance);
  const Fd fd(open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd && errno == ENOENT) return 0;
  if (!fd) return fail_errno(errno, "lock {}", path);
  struct flock lock = kWholeFile;
  if (fcntl(fd.get(), F_OFD_GETLK, &lock) != 0) return fail_errno(errno, "lock {}", path);
  if (lock.l_type == F_UNLCK) return 0;
  const pid_t pid = written_pid(fd.get());
  return pid > 0 ? pid : -1;
}

Result<> InstanceLock::remove_file() {
  if (unlink(path_.c_str()) != 0 && errno != ENOENT) return fail_errno(errno, "remove {}", path_);
  const std::string folder = std::filesystem::path(path_).parent_path();
  if (rmdir(folder.c_str()) != 0 && errno != ENOENT && errno != ENOTEMPTY)
    return fail_errno(errno, "remove {}", folder);
  return {};
}

}  // namespace ctd
