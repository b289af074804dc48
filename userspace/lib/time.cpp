// SPDX-License-Identifier: Apache-2.0
#include "lib/time.hpp"

#include <array>

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

std::optional<system_clock::time_point> parse_utc(std::string_view text) {
  constexpr std::string_view kShape = "dddd-dd-ddTdd:dd:dd.dddZ";
  if (text.size() != kShape.size()) return std::nullopt;
  std::array<int, 7> parts{};  // year, month, day, hour, minute, second, millisecond
  std::size_t part = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool digit = text[i] >= '0' && text[i] <= '9';
    if (digit != (kShape[i] == 'd') || (!digit && text[i] != kShape[i])) return std::nullopt;
    if (digit)
      parts[part] = parts[part] * 10 + (text[i] - '0');
    else
      ++part;
  }
  const std::chrono::year_month_day date{std::chrono::year(parts[0]),
                                         std::chrono::month(static_cast<unsigned>(parts[1])),
                                         std::chrono::day(static_cast<unsigned>(parts[2]))};
  if (!date.ok() || parts[3] > 23 || parts[4] > 59 || parts[5] > 59) return std::nullopt;
  return std::chrono::sys_days(date) + std::chrono::hours(parts[3]) + std::chrono::minutes(parts[4]) +
         std::chrono::seconds(parts[5]) + milliseconds(parts[6]);
}

std::string duration_text(uint64_t seconds) {
  constexpr uint64_t kMinute = 60, kHour = 60 * kMinute, kDay = 24 * kHour;
  if (seconds < kMinute) return fmt::format("{}s", seconds);
  if (seconds < kHour) return fmt::format("{}m{:02}s", seconds / kMinute, seconds % kMinute);
  if (seconds < kDay) return fmt::format("{}h{:02}m", seconds / kHour, seconds % kHour / kMinute);
  return fmt::format("{}d{:02}h", seconds / kDay, seconds % kDay / kHour);
}

}  // namespace ctd
