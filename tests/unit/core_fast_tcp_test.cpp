// SPDX-License-Identifier: Apache-2.0
// TCP's windows on the fast path: kept right, and what does not fit takes the long way.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "core_tcp_talk.hpp"

namespace ctd::test {
namespace {

constexpr auto kOk = "counts", kPass = "passes";

struct Fast : TcpTalk {
  explicit Fast(std::uint32_t policy = 0, bool v6 = false) : TcpTalk({.fast = true, .v6 = v6, .policy_flags = policy}) {
    settle({.window = 60000, .sack_ok = true});
    before = hits();
  }
  std::uint64_t fresh() {
    std::uint64_t n = hits() - before;
    before = hits();
    return n;
  }
  std::uint64_t before = 0;
};

TEST(FastTcp, WindowsFollow) {
  for (bool v6 : {false, true}) {
    Fast t(0, v6);
    EXPECT_EQ(t.client({.len = 30000, .window = 60000}), kOk);
    EXPECT_EQ(t.fresh(), 1u);
    EXPECT_EQ(t.conn().win[0].end, 1000u + 30001);
    EXPECT_TRUE(t.conn().win[0].flags & CTD_TCPW_UNACKED);
    EXPECT_EQ(t.conn().timeout, 300 * kHz);
    EXPECT_EQ(t.server({.ack = 30001, .window = 60000}), kOk);
    EXPECT_EQ(t.fresh(), 1u);
    EXPECT_EQ(t.conn().win[0].max_end, 1000u + 30001 + 60000);
    EXPECT_EQ(t.conn().tcp_max_ack[1], 1000u + 30001);
    EXPECT_EQ(t.conn().timeout, 7440 * kHz);
    EXPECT_EQ(t.w.broken(), "");
  }
}

// A bulk transfer of many windows, all of it by the fast path; then each kind of end.
TEST(FastTcp, EndsAreJudgedByTheWindowsOfTheBulk) {
  for (int end = 0; end < 4; end++) {
    Fast t;
    std::uint32_t at = 1;
    for (int i = 0; i < 100; i++) {
      ASSERT_EQ(t.server({.seq = at, .len = 50000, .window = 60000}), kOk);
      at += 50000;
      ASSERT_EQ(t.client({.ack = at, .window = 60000}), kOk);
    }
    EXPECT_EQ(t.fresh(), 200u);
    switch (end) {
      case 0:
        EXPECT_EQ(t.server({.flags = kFin | kAck, .seq = at}), kOk);
        EXPECT_EQ(t.state(), "FIN_WAIT");
        break;
      case 1:
        EXPECT_EQ(t.server({.flags = kRst, .seq = at}), kOk);
        EXPECT_EQ(t.state(), "CLOSE");
        break;
      case 2:
        EXPECT_EQ(t.server({.flags = kRst, .seq = at - 1}), "tcp_rst");
        EXPECT_EQ(t.server({.flags = kRst, .seq = at + 9000000}), "tcp_window");
        EXPECT_EQ(t.state(), "ESTABLISHED");
        break;
      case 3:
        EXPECT_EQ(t.client({.flags = kFin | kAck, .seq = 1, .ack = at}), kOk);
        EXPECT_EQ(t.state(), "FIN_WAIT");
        break;
    }
    EXPECT_EQ(t.w.broken(), "");
  }
}

TEST(FastTcp, WhatDoesNotFitTakesTheLongWay) {
  Fast t;
  native_credit();
  const ctd_dir_count counted = t.conn().count[0];
  EXPECT_EQ(t.client({.seq = 9000000, .len = 10}), "tcp_window");
  EXPECT_EQ(t.client({.seq = 1, .ack = 2}), "tcp_window");
  EXPECT_EQ(t.client({.seq = 0u - 90000}), kPass) << "long ago";
  EXPECT_EQ(t.fresh(), 0u);
  native_credit();
  EXPECT_EQ(t.conn().count[0].packets, counted.packets) << "neither in the record nor pending";
}

TEST(FastTcp, Options) {
  Fast t;
  t.server({.len = 300, .window = 60000});
  t.fresh();
  EXPECT_EQ(t.client({.ack = 101, .window = 60000, .sack = {{201, 301}}}), kOk);
  EXPECT_EQ(t.client({.ack = 101, .window = 60000, .sack = {{201, 301}}, .timestamps = true}), kOk);
  EXPECT_EQ(t.client({.ack = 301, .window = 60000, .timestamps = true}), kOk);
  EXPECT_EQ(t.fresh(), 3u);
  EXPECT_EQ(t.client({.ack = 301, .window = 60000, .sack = {{401, 501}}}), "tcp_window");
  EXPECT_EQ(t.fresh(), 0u);
}

TEST(FastTcp, ABusyRecordIsForwardedByWhatIsKnown) {
  Fast t;
  t.conn().lock = 1;
  const auto busy = t.w.counter(CTD_COUNT_CT_BUSY);
  EXPECT_EQ(t.w.from(kLan, t.packet(false, {.len = 10})).where, "wan via 10.0.2.2");
  EXPECT_EQ(t.w.counter(CTD_COUNT_CT_BUSY), busy + 1);
  EXPECT_EQ(t.fresh(), 0u);
  t.conn().lock = 0;
  EXPECT_EQ(t.client({.len = 10, .window = 60000}), kOk);
  EXPECT_EQ(t.fresh(), 1u);
}

TEST(FastTcp, RetransmissionsAreSeen) {
  Fast t;
  t.client({.len = 10, .window = 60000});
  for (int i = 1; i <= 3; i++) {
    t.client({.len = 10, .window = 60000});
    EXPECT_EQ(t.conn().tcp_retrans, i);
  }
  EXPECT_EQ(t.fresh(), 4u);
}

TEST(FastTcp, AVerdictOfARecordThatWasReusedIsNone) {
  Fast t;
  ctd_conn& c = t.conn();
  c.ctl = CTD_CTL(CTD_CTL_SEQ(c.ctl) + 1, CTD_CTL_CLASS(c.ctl), CTD_CONN_VALID);
  t.w.from(kLan, t.packet(false, {.len = 10}));
  EXPECT_EQ(t.fresh(), 0u);
}

TEST(FastTcp, LiberalConnectionsLeaveTheRecordAlone) {
  Fast t(CTD_CTP_LIBERAL);
  const ctd_tcp_window was = t.conn().win[0];
  EXPECT_EQ(t.client({.len = 1000}), kOk);
  EXPECT_EQ(t.client({.seq = 5000000, .len = 1000}), kOk);
  EXPECT_EQ(t.fresh(), 2u);
  EXPECT_EQ(t.conn().win[0].end, was.end);
  EXPECT_EQ(t.conn().timeout, 7440 * kHz);
  EXPECT_EQ(t.client({.flags = kFin | kAck, .seq = 5001001}), kOk);
  EXPECT_EQ(t.state(), "FIN_WAIT");
}

TEST(FastTcp, APickedUpConnectionKeepsItsWindows) {
  TcpTalk t({.fast = true});
  for (int i = 0; i < 6; i++) {
    t.client({.seq = 100000, .ack = 200000});
    t.server({.seq = 200000, .ack = 100000});
  }
  const auto before = t.hits();
  EXPECT_EQ(t.server({.seq = 200000, .ack = 100000, .len = 900}), kOk);
  EXPECT_EQ(t.client({.seq = 100000, .ack = 200900}), kOk);
  EXPECT_EQ(t.hits(), before + 2);
  EXPECT_EQ(t.server({.flags = kRst, .seq = 200900}), kOk);
  EXPECT_EQ(t.state(), "CLOSE");
}

// The same random segments with and without the cache: the same outcome for each, and the same windows in the end.
TEST(FastTcp, PropertySameAsWithoutIt) {
  for (u32 seed = 1; seed <= 10; seed++) {
    std::vector<std::string> fared[2];
    std::vector<ctd_tcp_window> windows[2];
    std::uint64_t hits = 0;
    for (bool fast : {false, true}) {
      std::mt19937 rng(seed);
      TcpTalk t({.client_isn = 0xfffff000u, .fast = fast});
      t.settle({.window = 30000, .sack_ok = true});
      std::uint32_t next[2] = {1, 1}, acked[2] = {1, 1};
      for (int i = 0; i < 600; i++) {
        const bool s = rng() % 2;
        Segment seg{.seq = next[s], .ack = next[!s], .len = rng() % 1400, .window = 30000};
        switch (rng() % 12) {
          case 0:
            seg.seq = acked[s];
            break;  // again
          case 1:
            seg.seq += rng() % 200000;
            seg.len = 0;
            break;  // anywhere
          case 2:
            seg.ack += rng() % 3;
            break;  // perhaps too much
          case 3:
            seg.sack = {{next[!s] - 1, next[!s] + rng() % 2}};
            break;  // perhaps too much
          case 4:
            seg.ack -= rng() % 100000;
            break;
          default:
            next[s] += static_cast<std::uint32_t>(seg.len);
            acked[!s] = seg.ack;
        }
        fared[fast].push_back(t.send(s, seg));
      }
      windows[fast] = {t.conn().win[0], t.conn().win[1]};
      if (fast) hits = t.hits();
      EXPECT_EQ(t.w.broken(), "");
    }
    EXPECT_EQ(fared[0], fared[1]) << "seed " << seed;
    EXPECT_GT(hits, 100u);
    for (unsigned dir : {0u, 1u})
      EXPECT_EQ(std::memcmp(&windows[0][dir], &windows[1][dir], sizeof(ctd_tcp_window)), 0) << "seed " << seed;
  }
}

}  // namespace
}  // namespace ctd::test
