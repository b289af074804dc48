// SPDX-License-Identifier: Apache-2.0
#include "lib/time.hpp"

#include <fmt/compile.h>

namespace ctd {

using std::chrono::milliseconds;
using std::chrono::system_clock;

system_clock::time_point KernelClock::wall_at(uint64_t then) const {
  const auto since = static_cast<int64_t>(jiffies - then);
  return wall - milliseconds(since * 1000 / hz);
}

void append_utc(fmt::memory_buffer& out, system_clock::time_point when) {
  // gmtime_r() and strftime() would cost as much as the rest of a connection's JSON.
  const auto ms = std::chrono::floor<milliseconds>(when);
  const auto day = std::chrono::floor<std::chrono::days>(ms);
  const std::chrono::year_month_day date(day);
  const std::chrono::hh_mm_ss time(ms - day);
  fmt::format_to(fmt::appender(out), FMT_COMPILE("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z"),
                 static_cast<int>(date.year()), static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
                 time.hours().count(), time.minutes().count(), time.seconds().count(), time.subseconds().count());
}

std::string utc_text(system_clock::time_point when) {
  fmt::memory_buffer out;
  append_utc(out, when);
  return fmt::to_string(out);
}

std::string duration_text(uint64_t seconds) {
  constexpr uint64_t kMinute = 60, kHour = 60 * kMinute, kDay = 24 * kHour;
  if (seconds < kMinute) return fmt::format("{}s", seconds);
  if (seconds < kHour) return fmt::format("{}m{:02}s", seconds / kMinute, seconds % kMinute);
  if (seconds < kDay) return fmt::format("{}h{:02}m", seconds / kHour, seconds % kHour / kMinute);
  return fmt::format("{}d{:02}h", seconds / kDay, seconds % kDay / kHour);
}

}  // namespace ctd
