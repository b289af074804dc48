// SPDX-License-Identifier: Apache-2.0
// A network namespace of its own for a test, and a folder in the bpffs.
#pragma once

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <thread>

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <net/if.h>
#include <sched.h>

#include "daemon/fd.hpp"
#include "daemon/pins.hpp"

namespace ctd {

// True as soon as `condition` holds; gives up after a generous while.
template <typename Condition>
bool wait_for(const Condition& condition) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

class NetnsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    before_ = Fd(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
    ASSERT_TRUE(before_);
    ASSERT_EQ(unshare(CLONE_NEWNET), 0) << "these tests need root";
    sh("ip link set lo up");
  }

  void TearDown() override {
    if (before_) {
      ASSERT_EQ(setns(before_.get(), CLONE_NEWNET), 0);
    }
    if (!scratch_.empty()) std::filesystem::remove_all(scratch_);
  }

  // In the test's namespace; the command must succeed.
  static void sh(const std::string& command) { ASSERT_EQ(std::system(command.c_str()), 0) << command; }
  static bool succeeds(const std::string& command) { return std::system(command.c_str()) == 0; }

  static u32 ifindex(const std::string& device) { return if_nametoindex(device.c_str()); }

  // An own, empty folder below the host's bpffs.
  std::string bpffs_folder() {
    if (scratch_.empty()) {
      EXPECT_TRUE(check_bpffs(kDefaultBpffs));
      scratch_ = fmt::format("{}/ctd-t-{}", kDefaultBpffs, getpid());
      EXPECT_TRUE(std::filesystem::create_directory(scratch_));
    }
    return scratch_;
  }

 private:
  Fd before_;
  std::string scratch_;
};

}  // namespace ctd
