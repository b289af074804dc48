// SPDX-License-Identifier: Apache-2.0
#include "lib/conn_table.hpp"

#include <atomic>
#include <thread>

#include <gtest/gtest.h>

#include "conn_fixture.hpp"

namespace ctd {
namespace {

using namespace test;

TEST(ConnTable, ReadsConfirmedConnectionsOnly) {
  FakeTable table;
  table.add(tcp_conn());
  for (const ctd_conn_life life : {CTD_CONN_FREE, CTD_CONN_BUSY, CTD_CONN_DEAD}) {
    ctd_conn conn = tcp_conn();
    conn.ctl = CTD_CTL(7, CTD_CLASS_ASSURED, life);
    table.add(conn);
  }
  const ConnTable view = table.view();
  EXPECT_EQ(view.last_id(), 4u);
  ctd_conn out;
  ASSERT_EQ(view.read(1, out), ConnTable::Read::kLive);
  EXPECT_EQ(out.id, 1u);
  EXPECT_EQ(out.count[CTD_DIR_REPLY].bytes, 1892u);
  for (uint32_t id = 2; id <= 4; ++id) EXPECT_EQ(view.read(id, out), ConnTable::Read::kNone) << id;
  EXPECT_EQ(view.count(), 1u);
}

TEST(ConnTable, ARefusedConnectionIsNone) {
  FakeTable table;
  table.add(tcp_conn()).timeout = 0;
  ctd_conn out;
  EXPECT_EQ(table.view().read(1, out), ConnTable::Read::kNone);
}

TEST(ConnTable, NeverReadsOutsideTheArray) {
  FakeTable table(4);
  table.rt().high_water = 1000;
  const ConnTable view = table.view();
  EXPECT_EQ(view.last_id(), 4u);
  ctd_conn out;
  EXPECT_EQ(view.read(0, out), ConnTable::Read::kNone);
  EXPECT_EQ(view.read(5, out), ConnTable::Read::kNone);
  const ctd_rt rt{.high_water = 3};
  EXPECT_EQ(ConnTable({}, &rt).last_id(), 0u);
}

TEST(ConnTable, CountsByClass) {
  FakeTable table;
  table.add(tcp_conn());
  table.add(tcp_conn());
  table.add(ping_conn());
  table.add(udp6_conn());
  const auto count = table.view().count_by_class();
  EXPECT_EQ(count[CTD_CLASS_ASSURED], 2u);
  EXPECT_EQ(count[CTD_CLASS_ANSWERED], 1u);
  EXPECT_EQ(count[CTD_CLASS_UNANSWERED], 1u);
  EXPECT_EQ(table.view().count(), 4u);
}

// Word by word with atomics, as the datapath's other CPUs would be seen.
void store(u32& where, u32 value) { __atomic_store_n(&where, value, __ATOMIC_RELEASE); }

TEST(ConnTable, NeverMixesTwoConnectionsOfOneSlot) {
  FakeTable table;
  ctd_conn& record = table.add(tcp_conn());
  record.ctl = CTD_CTL(0, 0, CTD_CONN_FREE);
  const ConnTable view = table.view();
  std::atomic<bool> done = false;
  std::thread writer([&] {
    for (u32 seq = 1; !done; seq = seq % 0xffffff + 1) {
      store(record.ctl, CTD_CTL(seq, 0, CTD_CONN_BUSY));
      __atomic_thread_fence(__ATOMIC_RELEASE);
      for (ctd_dir_count& count : record.count) {
        __atomic_store_n(&count.packets, seq, __ATOMIC_RELAXED);
        __atomic_store_n(&count.bytes, seq, __ATOMIC_RELAXED);
      }
      __atomic_store_n(&record.start, seq, __ATOMIC_RELAXED);
      store(record.ctl, CTD_CTL(seq, 0, CTD_CONN_VALID));
      if (seq % 64 == 0) std::this_thread::yield();
    }
  });
  uint64_t live = 0, mixed = 0;
  for (int attempt = 0; attempt < 50'000'000 && live < 300'000; ++attempt) {
    ctd_conn out;
    if (view.read(1, out) != ConnTable::Read::kLive) continue;
    ++live;
    const u64 seq = CTD_CTL_SEQ(out.ctl);
    mixed += out.start != seq || out.count[0].packets != seq || out.count[0].bytes != seq ||
             out.count[1].packets != seq || out.count[1].bytes != seq;
  }
  done = true;
  writer.join();
  EXPECT_EQ(live, 300'000u);
  EXPECT_EQ(mixed, 0u) << "of " << live;
}

TEST(ConnTable, UniqueIdChangesWithReuse) {
  EXPECT_EQ(unique_conn_id(7, 1), (7ull << 32) + 1);
  ctd_conn conn = tcp_conn();
  conn.id = 3;
  const uint64_t before = unique_conn_id(conn);
  conn.ctl = CTD_CTL(8, CTD_CLASS_ASSURED, CTD_CONN_VALID);
  EXPECT_NE(unique_conn_id(conn), before);
}

TEST(ConnTimeout, CountsFromTheLastPacketOfEitherDirection) {
  EXPECT_EQ(jiffies_left(tcp_conn(), kNow), (7440 - 9) * kHz);
}

TEST(ConnTimeout, ZeroInLastSeenMeansNever) {
  ctd_conn conn = tcp_conn();
  conn.last_seen[CTD_DIR_REPLY] = 0;
  EXPECT_EQ(jiffies_left(conn, kNow), (7440 - 12) * kHz);
  conn.last_seen[CTD_DIR_ORIG] = 0;
  EXPECT_EQ(jiffies_left(conn, kNow), (7440 - 60) * kHz) << "from the start";
}

TEST(ConnTimeout, WhatTheOperatorSetHoldsUntilAPacketComes) {
  ctd_conn conn = tcp_conn();
  conn.expires = static_cast<u32>(kNow + 5 * kHz);
  conn.expires_seen = static_cast<u32>(kNow - 9 * kHz);
  EXPECT_EQ(jiffies_left(conn, kNow), 5u * kHz);
  EXPECT_EQ(jiffies_left(conn, kNow + 6 * kHz), 0u);
  conn.last_seen[CTD_DIR_ORIG] = static_cast<u32>(kNow - 1 * kHz);
  EXPECT_EQ(jiffies_left(conn, kNow), (7440 - 1) * kHz);
}

TEST(ConnTimeout, AnOverdueConnectionHasNothingLeft) {
  ctd_conn conn = tcp_conn();
  conn.timeout = 9 * kHz;
  EXPECT_EQ(jiffies_left(conn, kNow), 0u);
  conn.timeout = 8 * kHz;
  EXPECT_EQ(jiffies_left(conn, kNow), 0u);
}

TEST(ConnTimeout, SurvivesTheWrapOfTheLowWord) {
  ctd_conn conn = tcp_conn();
  const uint64_t now = (1ull << 32) + 2 * kHz;
  conn.start = now - 3600 * kHz;
  conn.last_seen[CTD_DIR_ORIG] = static_cast<u32>(now - 10 * kHz);
  conn.last_seen[CTD_DIR_REPLY] = static_cast<u32>(now - 5 * kHz);
  EXPECT_EQ(jiffies_left(conn, now), (7440 - 5) * kHz);
}

TEST(ConnTimeout, APacketAfterTheClockWasReadLeavesTheWholeTimeout) {
  ctd_conn conn = tcp_conn();
  conn.last_seen[CTD_DIR_ORIG] = static_cast<u32>(kNow + 3);
  EXPECT_EQ(jiffies_left(conn, kNow), 7440 * kHz);
}

TEST(ConnTimeout, ADirectionThatIsSilentForWeeksIsNotTheFuture) {
  ctd_conn conn = tcp_conn();
  conn.start = kNow - 3'000'000'000;
  conn.last_seen[CTD_DIR_REPLY] = static_cast<u32>(kNow - 2'500'000'000);  // more than half the range ago
  EXPECT_EQ(jiffies_left(conn, kNow), (7440 - 12) * kHz);
}

}  // namespace
}  // namespace ctd
