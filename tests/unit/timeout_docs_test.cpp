// SPDX-License-Identifier: Apache-2.0
// The table of timeouts in docs/conntrack.md is what the code has.
#include <fstream>
#include <map>
#include <string>

#include <ctd/abi/policy_defaults.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "daemon/ct_config.hpp"

namespace ctd {
namespace {

std::string with_commas(u32 seconds) {
  return seconds < 1000 ? fmt::format("{}", seconds) : fmt::format("{},{:03}", seconds / 1000, seconds % 1000);
}

// The table's lines, as the documentation has them.
std::vector<std::string> documented() {
  std::ifstream file(CTD_SOURCE_DIR "/docs/conntrack.md");
  EXPECT_TRUE(file);
  std::vector<std::string> lines;
  bool table = false;
  for (std::string line; std::getline(file, line);) {
    if (table && !line.starts_with("| `")) break;
    if (table) lines.push_back(line);
    table = table || line == "|---|---|---|---|";
  }
  return lines;
}

TEST(Timeouts, TheDocumentedOnesAreTheDefaults) {
  ctd_ct_policy own{}, like_linux{};
  ctd_ct_policy_defaults(&own, 0);
  ctd_ct_policy_defaults(&like_linux, 1);
  std::vector<std::string> lines;
  for (const TimeoutPlace& place : timeout_places())
    lines.push_back(fmt::format("| `{}` | `{}` | {} | {} |", place.protocol, place.state,
                                with_commas(own.timeout_s[place.index]),
                                with_commas(like_linux.timeout_s[place.index])));
  EXPECT_THAT(documented(), testing::UnorderedElementsAreArray(lines));
}

}  // namespace
}  // namespace ctd
