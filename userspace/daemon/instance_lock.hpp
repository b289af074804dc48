// SPDX-License-Identifier: Apache-2.0
// The lock that lets one daemon at a time run an instance.
#pragma once

#include <string>

#include <sys/types.h>

#include "daemon/fd.hpp"
#include "lib/result.hpp"

namespace ctd {

// RUNDIR/INSTANCE/lock, held as long as this lives, or the process.
class InstanceLock {
 public:
  // Errors: another process holds it (code EBUSY); the message names its pid.
  static Result<InstanceLock> take(const std::string& rundir, const std::string& instance);

  // Process that holds the lock, 0 if nobody does, -1 if it has not said which it is. Does not disturb a take()
  // elsewhere.
  static Result<pid_t> holder(const std::string& rundir, const std::string& instance);

  // Removes the lock file, and its folder if empty: at shutdown, as the last thing there. The lock stays held.
  Result<> remove_file();
  const std::string& path() const { return path_; }

 private:
  InstanceLock(Fd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}
  Fd fd_;
  std::string path_;
};

}  // namespace ctd
