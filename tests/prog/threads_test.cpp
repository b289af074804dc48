// SPDX-License-Identifier: Apache-2.0
// The rules of concurrency on the kernel itself: packets of the same connections on two CPUs at once.
#include <atomic>
#include <thread>

#include <gmock/gmock.h>
#include <linux/pkt_cls.h>
#include <sched.h>

#include "prog/gateway.hpp"

namespace ctd::test {
namespace {

class ThreadsTest : public GatewayTest {
 protected:
  // Runs step(cpu, i) for every i below `steps` on two CPUs, where there are two; both begin each step together.
  static void on_two_cpus(unsigned steps, const std::function<void(unsigned cpu, unsigned i)>& step) {
    std::atomic<unsigned> arrived = 0;
    const auto work = [&](unsigned cpu) {
      cpu_set_t set;
      CPU_ZERO(&set);
      CPU_SET(cpu % std::max(1u, std::thread::hardware_concurrency()), &set);
      EXPECT_EQ(sched_setaffinity(0, sizeof(set), &set), 0);
      for (unsigned i = 0; i < steps; i++) {
        arrived++;
        while (arrived < 2 * (i + 1)) std::this_thread::yield();
        step(cpu, i);
      }
    };
    std::thread other(work, 1), one(work, 0);
    one.join();
    other.join();
  }
  // The flows that the packets below need.
  void make_flows() {
    ASSERT_EQ(from("lan0", udp({.sport = 1})).where, "wan0");
    ASSERT_EQ(from("wan0", udp({.src = "10.0.2.2", .dst = "10.0.2.1", .sport = 53, .dport = 1})).where, "lan0");
    ASSERT_EQ(from("lan0", udp({.sport = 1})).where, "wan0");
  }
  static Datagram back(std::uint16_t port) {
    return {.src = "10.0.2.2", .dst = "10.0.2.1", .sport = 53, .dport = port};
  }
};

TEST_F(ThreadsTest, FirstPacketsOfTheSameConnection) {
  constexpr unsigned kConnections = 2000;
  start({.conn_capacity = 8192});
  make_flows();
  std::atomic<unsigned> lost = 0;
  on_two_cpus(kConnections, [&](unsigned, unsigned i) {
    lost += verdict("lan0", udp({.sport = static_cast<std::uint16_t>(2000 + i)})) != TC_ACT_REDIRECT;
  });
  EXPECT_EQ(lost, 0u) << "the loser waits for the winner";
  EXPECT_EQ(connections().size(), kConnections + 1);
  u64 packets = 0;
  unsigned changed = 0;
  for (const ctd_conn& conn : connections()) {
    packets += conn.count[CTD_DIR_ORIG].packets;
    changed += conn.orig.sport != conn.reply.dport;
  }
  EXPECT_EQ(packets, 2 + 2 * kConnections);
  EXPECT_LE(changed, kConnections / 100) << "the port is kept, but for a race between the two tuples";
}

// Two clients want the same port of the same server at once: each gets its own.
TEST_F(ThreadsTest, FirstPacketsThatWantTheSameMapping) {
  constexpr unsigned kPorts = 2000;
  start({.conn_capacity = 16384});
  make_flows();
  std::atomic<unsigned> lost = 0;
  on_two_cpus(kPorts, [&](unsigned cpu, unsigned i) {
    const Datagram first{.src = cpu ? "10.1.0.3" : "10.1.0.2", .sport = static_cast<std::uint16_t>(2000 + i)};
    lost += verdict("lan0", udp(first)) != TC_ACT_REDIRECT;
  });
  EXPECT_EQ(lost, 0u);
  EXPECT_EQ(connections().size(), 2 * kPorts + 1);
  unsigned kept = 0;
  for (const ctd_conn& conn : connections()) kept += conn.orig.sport == conn.reply.dport;
  // One of each pair keeps its port, unless another's changed port had just taken it.
  EXPECT_GE(kept, kPorts * 9 / 10);
  EXPECT_LT(kept, kPorts * 11 / 10);
}

TEST_F(ThreadsTest, NoPacketIsCountedTwiceOrNever) {
  constexpr unsigned kPackets = 5000;
  start();
  make_flows();
  const ctd_conn before = only();
  const Packet there = udp({.sport = 1}), and_back = udp(back(1));
  std::atomic<unsigned> lost = 0;
  on_two_cpus(kPackets, [&](unsigned, unsigned) {
    lost += verdict("lan0", there) != TC_ACT_REDIRECT;
    lost += verdict("wan0", and_back) != TC_ACT_REDIRECT;
  });
  EXPECT_EQ(lost, 0u);
  EXPECT_GT(count(CTD_COUNT_FAST_HIT), kPackets) << "most of them by the fast path";
  ASSERT_TRUE(dp().credit());
  for (const u8 dir : {CTD_DIR_ORIG, CTD_DIR_REPLY}) {
    EXPECT_EQ(only().count[dir].packets - before.count[dir].packets, 2 * kPackets) << unsigned{dir};
    EXPECT_EQ(only().count[dir].bytes - before.count[dir].bytes, 2 * kPackets * 38) << unsigned{dir};
  }
}

// A flood on both CPUs, over its quota all the time, beside a connection in use.
TEST_F(ThreadsTest, FloodBesideAConnection) {
  constexpr unsigned kPackets = 8000;
  start({.conn_capacity = 1024});
  make_flows();
  std::atomic<unsigned> lost = 0, refused = 0;
  on_two_cpus(kPackets, [&](unsigned cpu, unsigned i) {
    refused +=
        verdict("lan0", udp({.src = cpu ? "10.1.0.3" : "10.1.0.4", .sport = static_cast<std::uint16_t>(2000 + i)})) !=
        TC_ACT_REDIRECT;
    if (i % 16 == 0) lost += verdict("wan0", udp(back(1))) != TC_ACT_REDIRECT;
  });
  EXPECT_EQ(lost, 0u);
  EXPECT_EQ(refused, 0u);
  EXPECT_LE(connections().size(), 512u + 1 + 1);
  EXPECT_GE(connections().size(), 500u);
  EXPECT_EQ(count(CTD_COUNT_CT_NEW) - count(CTD_COUNT_CT_EVICTED), connections().size());
}

// Packets while everything is flushed again and again: nothing dangles (TearDown looks), nothing hangs.
TEST_F(ThreadsTest, FlushUnderTraffic) {
  start({.conn_capacity = 4096});
  make_flows();
  std::atomic<bool> done = false;
  std::thread traffic([&] {
    for (unsigned i = 0; !done; i++) {
      const auto port = static_cast<std::uint16_t>(2000 + i % 500);
      EXPECT_EQ(verdict("lan0", udp({.sport = port})), TC_ACT_REDIRECT);
      EXPECT_NE(verdict("wan0", udp(back(port))), TC_ACT_SHOT);
    }
  });
  for (int i = 0; i < 3; i++) {
    const Result<u64> flushed = dp().flush();
    EXPECT_TRUE(flushed) << flushed.error().message();
  }
  done = true;
  traffic.join();
  EXPECT_GT(count(CTD_COUNT_CT_NEW), 500u);
}

}  // namespace
}  // namespace ctd::test
