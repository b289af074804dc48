// SPDX-License-Identifier: Apache-2.0
// The kernel's jiffies as time: the datapath stamps in jiffies, people and JSON want seconds and dates.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <fmt/format.h>

namespace ctd {

// One moment on both clocks.
struct KernelClock {
  uint64_t jiffies;  // get_jiffies_64()
  uint32_t hz;       // jiffies a second, not 0
  std::chrono::system_clock::time_point wall;

  // When the kernel's clock stood at `then`.
  std::chrono::system_clock::time_point wall_at(uint64_t then) const;
};

// Jiffies since `stamp`, both low words. A stamp that is a little later than `now` was written after `now` was read: 0.
inline uint32_t jiffies_since(uint32_t now, uint32_t stamp) {
  constexpr uint32_t kAhead = 1u << 20;  // minutes; what is further "ahead" is old
  return stamp - now < kAhead ? 0 : now - stamp;
}

// "2026-11-22T19:00:00.000Z"
void append_utc(fmt::memory_buffer& out, std::chrono::system_clock::time_point when);
std::string utc_text(std::chrono::system_clock::time_point when);
// The reverse; nothing if it is not written so.
std::optional<std::chrono::system_clock::time_point> parse_utc(std::string_view text);

// For people, short: "12s", "4m05s", "2h03m", "5d10h".
std::string duration_text(uint64_t seconds);

}  // namespace ctd
