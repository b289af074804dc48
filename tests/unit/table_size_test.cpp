// SPDX-License-Identifier: Apache-2.0
// Sizes of the connection table, its memory, and the report of refused connections.
#include <memory>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "daemon/datapath.hpp"
#include "daemon/table_size.hpp"
#include "daemon/table_stats.hpp"
#include "datapath.skel.h"

namespace ctd {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

TEST(TableSize, ClassesShareOneArrayOfRings) {
  for (const TableSize& size :
       {TableSize{1000, 1000, 1000}, TableSize{262144, 262144, 1000}, TableSize{16777216, 1000, 16777216}}) {
    const auto classes = make_classes(size);
    u64 next = 0;
    for (const ctd_class& c : classes) {
      if (!c.size) continue;
      EXPECT_EQ(c.base, next);
      EXPECT_EQ(c.size & (c.size - 1), 0u);
      EXPECT_GE(c.size, 2 * c.quota) << "as many stale entries as members";
      EXPECT_GE(c.share, 1u);
      EXPECT_LE(c.share, c.quota / 8);
      next += c.size;
    }
    EXPECT_EQ(classes[CTD_CLASS_INDEX(CTD_CLASS_ASSURED, CTD_IPV6)].quota, size.ipv6);
    EXPECT_EQ(classes[CTD_CLASS_INDEX(CTD_CLASS_UNANSWERED, CTD_IPV4)].quota, size.ipv4 / 2);
  }
}

// A settled connection of either family has a verdict in each direction.
TEST(TableSize, EveryDirectionHasRoomForItsVerdict) {
  const std::unique_ptr<datapath_bpf, void (*)(datapath_bpf*)> skeleton(datapath_bpf__open(), datapath_bpf__destroy);
  ASSERT_TRUE(skeleton);
  const auto entries = [&](const char* map) {
    return bpf_map__max_entries(bpf_object__find_map_by_name(skeleton->obj, map));
  };
  set_table_sizes(skeleton->obj, {.total = 100'000, .ipv4 = 20'000, .ipv6 = 90'000});
  for (const char* map : {"ct_tuple4", "ct_cache4"}) EXPECT_GE(entries(map), 2u * 20'000) << map;
  for (const char* map : {"ct_tuple6", "ct_cache6"}) EXPECT_GE(entries(map), 2u * 90'000) << map;
  // As docs/architecture.md has it, for the default; it leaves out what is small.
  set_table_sizes(skeleton->obj, {.total = 262'144, .ipv4 = 262'144, .ipv6 = 262'144});
  EXPECT_NEAR(static_cast<double>(memory_of_table(skeleton->obj)) / (1 << 20), 455.9, 4);
}

TEST(TableSize, MemoryIsCheckedByName) {
  EXPECT_EQ(*parse_available("MemTotal:  16 kB\nMemFree: 8 kB\nMemAvailable:    12 kB\n"), 12u * 1024);
  EXPECT_FALSE(parse_available("MemTotal: 16 kB\n"));
  EXPECT_TRUE(available_memory());
  const TableSize size{16777216, 16777216, 1000};
  EXPECT_TRUE(check_memory(1 << 20, 1 << 20, size));
  const auto refused = check_memory(u64{20} << 30, u64{4} << 30, size);
  ASSERT_FALSE(refused);
  for (const char* part : {"16777216 connections (16777216 of IPv4, 1000 of IPv6)", "takes 20481 MiB",
                           "has 4096 MiB available", "/conntrack/capacity"})
    EXPECT_THAT(refused.error().message(), HasSubstr(part));
}

TEST(RefusalReport, OnceAMinuteAndOnlyWhatIsNew) {
  RefusalReport report;
  TableStats table{.size = {1000, 1000, 1000}, .connections = 1000, .refused = 5};
  RefusalReport::Time now{};
  EXPECT_FALSE(report.note(table, now)) << "that was before our time";
  table.refused = 8;
  EXPECT_THAT(report.note(table, now += 1s).value_or(""), HasSubstr("3 new connections were refused (1000 of 1000"));
  table.refused = 100;
  EXPECT_FALSE(report.note(table, now += 59s));
  EXPECT_THAT(report.note(table, now += 1s).value_or(""), HasSubstr("92 new connections"));
  EXPECT_FALSE(report.note(table, now += 100s)) << "nothing new";
}

}  // namespace
}  // namespace ctd
