// SPDX-License-Identifier: Apache-2.0
// Ageing with a clock by hand, quotas, ids, and what fails in between. The clock starts shortly before its low word
// wraps.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include <array>
#include <cerrno>
#include <random>
#include <set>

#include "core_world.hpp"

namespace ctd::test {
namespace {

Packet udp(unsigned sport, std::string_view src = "10.1.0.2", unsigned dport = 53) {
  return frame()
      .ipv4({.src = src, .dst = "10.0.2.2"})
      .udp({.sport = static_cast<std::uint16_t>(sport), .dport = static_cast<std::uint16_t>(dport)})
      .payload(4)
      .build();
}
Packet udp_reply(unsigned port, unsigned sport = 53) {
  return frame()
      .ipv4({.src = "10.0.2.2", .dst = "10.0.2.1"})
      .udp({.sport = static_cast<std::uint16_t>(sport), .dport = static_cast<std::uint16_t>(port)})
      .payload(4)
      .build();
}
Packet syn(unsigned sport) { return frame().ipv4().tcp({.sport = static_cast<std::uint16_t>(sport)}).build(); }

TEST(Ageing, DiesWhenIdleAndNotBefore) {
  World w;
  w.from(kLan, udp(40000));
  w.advance(119);
  w.sweep();
  EXPECT_EQ(w.connections().size(), 1u);
  w.advance(2);
  w.sweep();
  EXPECT_EQ(w.connections().size(), 0u);
  EXPECT_EQ(w.tuple4.size(), 0u);
  EXPECT_EQ(w.broken(), "");
}

TEST(Ageing, EitherDirectionKeepsItAlive) {
  World w;
  w.from(kLan, udp(40000));
  for (int i = 0; i < 10; i++) {
    w.advance(100);
    w.sweep(1);
    EXPECT_EQ(w.from(kWan, udp_reply(40000)).where, "lan via 10.1.0.2") << i;
  }
  w.advance(121);
  w.sweep();
  EXPECT_EQ(w.connections().size(), 0u);
  EXPECT_EQ(w.broken(), "");
}

TEST(Ageing, AcrossTheWrapOfTheClock) {
  World w;
  w.from(kLan, udp(40000));
  native_set_jiffies(0xffffffffull - 10 * kHz);
  w.from(kLan, udp(40000));
  for (int i = 0; i < 12; i++) {
    w.advance(10);
    w.sweep(1);
    EXPECT_EQ(w.connections().size(), i < 11 ? 1u : 0u) << i;
  }
}

// Dying has two steps: a packet between them finds the connection dead and opens a new one.
TEST(Ageing, APacketForADeadConnectionOpensANewOne) {
  World w;
  w.from(kLan, udp(40000));
  u32 old = w.only().ctl;
  w.advance(121);
  w.sweep(1);
  EXPECT_EQ(w.connections().size(), 0u);
  EXPECT_EQ(w.tuple4.size(), 2u) << "it is dead, its tuples are still there";
  EXPECT_EQ(w.from(kLan, udp(40000)).where, "wan via 10.0.2.2");
  EXPECT_NE(w.only().ctl, old);
  EXPECT_EQ(w.only().count[0].packets, 1u);
  EXPECT_EQ(w.broken(), "");
}

// A sweep that lags behind must not give an idle connection its mapping back.
TEST(Ageing, AnIdleConnectionThatTheSweepHasNotSeenIsOver) {
  World w;
  w.from(kLan, udp(40000));
  w.advance(121);
  EXPECT_EQ(w.from(kWan, udp_reply(40000)).where, "stack") << "as what nobody inside has asked for";
  EXPECT_EQ(w.ended(CTD_END_TIMEOUT), 1u);
  EXPECT_EQ(w.from(kLan, udp(40000)).where, "wan via 10.0.2.2");
  EXPECT_EQ(w.broken(), "");
}

TEST(Ageing, AnErrorAboutAnIdleConnectionIsInvalid) {
  World w;
  const Out out = w.from(kLan, udp(40000));
  const Packet error = icmp_error(out.packet, {.from = "10.0.2.2", .code = 3});
  w.advance(119);
  EXPECT_EQ(w.from(kWan, error).where, "lan via 10.1.0.2");
  w.advance(2);
  EXPECT_THAT(w.from(kWan, error).where, testing::StartsWith("drop"));
  EXPECT_EQ(w.ended(CTD_END_TIMEOUT), 0u) << "it ends nothing either";
}

TEST(Ageing, FlushKillsAll) {
  World w;
  for (unsigned i = 0; i < 20; i++) w.from(kLan, udp(40000 + i));
  w.from(kLan, frame().ipv6().udp().build());
  EXPECT_EQ(native_flush(), 21u);
  w.sweep(2);
  EXPECT_EQ(w.connections().size(), 0u);
  EXPECT_EQ(w.tuple4.size() + w.tuple6.size(), 0u);
  EXPECT_EQ(w.broken(), "");
  EXPECT_EQ(w.from(kLan, udp(40000)).where, "wan via 10.0.2.2");
}

TEST(Quota, AFloodLivesAndDiesInTheFirstRing) {
  World w({.native = {.conn_capacity = 256, .unanswered_quota = 32, .answered_quota = 32}});
  w.from(kLan, udp(1024));
  w.from(kWan, udp_reply(1024));
  w.from(kLan, frame().ipv4().tcp({.sport = 2000}).build());
  w.from(kWan, frame()
                   .ipv4({.src = "10.0.2.2", .dst = "10.0.2.1"})
                   .tcp({.sport = 80, .dport = 2000, .flags = kSyn | kAck})
                   .build());
  w.from(kLan, frame().ipv4().tcp({.sport = 2000, .flags = kAck}).build());
  for (unsigned i = 0; i < 2000; i++) ASSERT_EQ(w.from(kLan, syn(10000 + i)).where, "wan via 10.0.2.2") << i;
  EXPECT_EQ(w.classes.find(CTD_CLASS_UNANSWERED)->live, 32);
  EXPECT_EQ(w.classes.find(CTD_CLASS_ANSWERED)->live, 1);
  EXPECT_EQ(w.classes.find(CTD_CLASS_ASSURED)->live, 1);
  EXPECT_EQ(w.counter(CTD_COUNT_CT_EVICTED), 2000u - 32u);
  EXPECT_EQ(w.broken(), "");
  EXPECT_EQ(w.from(kWan, udp_reply(1024)).where, "lan via 10.1.0.2") << "the answered one is still there";
  EXPECT_EQ(w.from(kLan, frame().ipv4().tcp({.sport = 2000, .flags = kAck}).build()).where, "wan via 10.0.2.2");
}

// Dead connections count until they are destroyed: who needs their places need not wait for the sweep.
TEST(Quota, DeadConnectionsMakeRoomAtOnce) {
  World w({.native = {.conn_capacity = 64, .unanswered_quota = 32}});
  for (unsigned i = 0; i < 32; i++) w.from(kLan, udp(40000 + i));
  EXPECT_EQ(native_flush(), 32u);
  for (unsigned i = 0; i < 32; i++) EXPECT_EQ(w.from(kLan, udp(50000 + i)).where, "wan via 10.0.2.2") << i;
  EXPECT_EQ(w.connections().size(), 32u);
  EXPECT_EQ(w.ended(CTD_END_FLUSHED), 32u);
  EXPECT_EQ(w.counter(CTD_COUNT_CT_EVICTED), 0u);
  EXPECT_EQ(w.broken(), "");
}

TEST(Quota, TheOldestMakesRoom) {
  World w({.native = {.unanswered_quota = 4}});
  for (unsigned i = 0; i < 6; i++) w.from(kLan, udp(40000 + i));
  std::set<unsigned> ports;
  for (const ctd_conn* c : w.connections()) ports.insert(ntohs(c->orig.sport));
  EXPECT_EQ(ports, (std::set<unsigned>{40002, 40003, 40004, 40005}));
}

TEST(Quota, AnsweredHaveTheirOwn) {
  World w({.native = {.unanswered_quota = 8, .answered_quota = 8}});
  for (unsigned i = 0; i < 50; i++) {
    w.from(kLan, udp(40000 + i));
    w.from(kWan, udp_reply(40000 + i));
    ASSERT_LE(w.classes.find(CTD_CLASS_ANSWERED)->live, 8);
  }
  EXPECT_EQ(w.broken(), "");
}

TEST(Full, AssuredConnectionsAreNeverBroken) {
  World w({.native = {.conn_capacity = 16, .unanswered_quota = 16, .answered_quota = 16}});
  auto handshake = [&w](std::uint16_t port) {
    std::string where = w.from(kLan, syn(port)).where;
    w.from(kWan, frame()
                     .ipv4({.src = "10.0.2.2", .dst = "10.0.2.1"})
                     .tcp({.sport = 80, .dport = port, .flags = kSyn | kAck})
                     .build());
    w.from(kLan, frame().ipv4().tcp({.sport = port, .flags = kAck}).build());
    return where;
  };
  for (std::uint16_t i = 0; i < 16; i++) EXPECT_EQ(handshake(static_cast<std::uint16_t>(3000 + i)), "wan via 10.0.2.2");
  EXPECT_EQ(w.classes.find(CTD_CLASS_ASSURED)->live, 16);
  EXPECT_EQ(handshake(4000), "drop ct_full");
  EXPECT_EQ(w.connections().size(), 16u);
  EXPECT_EQ(w.broken(), "");
  w.advance(7441);
  w.sweep();
  EXPECT_EQ(handshake(4000), "wan via 10.0.2.2");
}

TEST(Ids, FreeAndUsedAreAllThatWereHandedOut) {
  World w({.native = {.conn_capacity = 200}});
  std::mt19937 rng(7);
  std::vector<u32> used;
  std::set<u32> live;
  for (int i = 0; i < 20000; i++) {
    native_set_cpu(rng() % NATIVE_MAX_CPUS);
    if (rng() % 100 < 52 && used.size() < 200) {
      u32 id = native_id_alloc();
      if (!id) continue;
      ASSERT_TRUE(live.insert(id).second) << id << " was handed out twice";
      ASSERT_LE(id, 200u);
      used.push_back(id);
    } else if (!used.empty()) {
      std::swap(used[rng() % used.size()], used.back());
      native_id_free(used.back());
      live.erase(used.back());
      used.pop_back();
    }
  }
  native_set_cpu(0);
  for (u32 id : used) native_id_free(id);
  EXPECT_EQ(w.broken(), "");
}

// Whatever fails in the tables while a connection is made or unmade: a named drop, and nothing leaks.
struct Fault {
  const char* map;
  unsigned operations;
  int error;
  const char* where;
};

class Faults : public testing::TestWithParam<Fault> {};

TEST_P(Faults, NothingLeaks) {
  const Fault& f = GetParam();
  for (u32 skip : {0u, 1u}) {
    SCOPED_TRACE(testing::Message() << "after " << skip);
    World w;
    bool v6 = std::string_view(f.map).back() == '6';
    auto first = [&] { return w.from(kLan, v6 ? frame().ipv6().udp().build() : udp(40000)).where; };
    native_map_fail(native_map_find(f.map), f.operations, f.error, skip, 1);
    EXPECT_EQ(first(), f.where);
    EXPECT_EQ(w.connections().size(), 0u);
    EXPECT_EQ(w.broken(), "");
    EXPECT_THAT(first(), testing::StartsWith("wan via")) << "and then it works";
  }
}
INSTANTIATE_TEST_SUITE_P(Create, Faults,
                         testing::Values(Fault{"ct_tuple4", NATIVE_ON_UPDATE, E2BIG, "drop ct_full"},
                                         Fault{"ct_tuple4", NATIVE_ON_UPDATE, ENOMEM, "drop ct_full"},
                                         Fault{"ct_tuple4", NATIVE_ON_UPDATE, EBUSY, "drop ct_full"},
                                         Fault{"ct_tuple6", NATIVE_ON_UPDATE, ENOMEM, "drop ct_full"}),
                         [](const auto& row) { return fmt::format("{}_{}", row.param.map, row.param.error); });

// A tuple that could not be deleted must not stay for ever.
// A packet that found a connection alive may still write to its record when it is free already: the free list must not
// care.
TEST(Ids, ALateWriterDoesNoHarm) {
  World w({.native = {.conn_capacity = 256, .unanswered_quota = 256}});
  for (unsigned i = 0; i < 256; i++) w.from(kLan, udp(40000 + i));
  native_flush();
  w.sweep();
  ASSERT_EQ(w.connections().size(), 0u);
  for (u32 id = 1; id <= w.rt().high_water; id++) {
    ctd_conn& conn = *w.conn(id);
    conn.status |= CTD_STATUS_SEEN_REPLY | CTD_STATUS_ASSURED;
    conn.timeout = 30000;
    conn.state = CTD_OTHER_REPLIED;
    conn.last_seen[0] = conn.last_seen[1] = static_cast<u32>(native_jiffies());
    conn.count[1] = {.packets = 1, .bytes = 42};
  }
  EXPECT_EQ(w.broken(), "");
  for (unsigned i = 0; i < 200; i++) EXPECT_EQ(w.from(kLan, udp(50000 + i)).where, "wan via 10.0.2.2") << i;
  EXPECT_EQ(w.connections().size(), 200u);
  EXPECT_EQ(w.broken(), "");
}

TEST(Faults, ADeletionThatFailsIsMadeUpFor) {
  World w;
  w.from(kLan, udp(40000));
  w.advance(121);
  w.sweep(1);
  native_map_fail(native_map_find("ct_tuple4"), NATIVE_ON_DELETE, EBUSY, 0, 1);
  w.sweep(3);
  EXPECT_EQ(w.tuple4.size(), 0u);
  EXPECT_EQ(w.broken(), "");
  EXPECT_EQ(w.from(kLan, udp(40000)).where, "wan via 10.0.2.2");
}

// Random packets, clocks and failures on emulated CPUs; after each, every account must balance.
class Random : public testing::TestWithParam<u32> {};

TEST_P(Random, AccountsBalance) {
  const u32 seed = GetParam();
  World w(
      {.native = {.conn_capacity = 64, .unanswered_quota = 16, .answered_quota = 24, .cache_entries = 16, .seed = seed},
       .masquerade6 = seed % 2 != 0,
       .fast = seed % 3 == 0});
  std::mt19937 rng(seed);
  auto pick = [&rng](auto... v) { return std::array{v...}[rng() % sizeof...(v)]; };
  constexpr std::uint8_t kF[] = {kSyn, kSyn | kAck, kAck, kFin | kAck, kRst, kAck | kPsh, kSyn | kFin, 0};
  for (int i = 0; i < 3000; i++) {
    native_set_cpu(rng() % 2);
    if (seed % 4 == 1) native_map_fail_randomly(rng() % 4 ? 0 : 100);
    const bool back = rng() % 2, v6 = rng() % 4 == 0;
    const auto port = static_cast<std::uint16_t>(2000 + rng() % 24);
    PacketBuilder b = frame();
    if (v6)
      back ? b.ipv6({.src = "2001:db8:2::2",
                     .dst = w.connections().empty() || rng() % 2 ? "2001:db8:1::2" : "2001:db8:2::b1"})
           : b.ipv6();
    else
      back ? b.ipv4({.src = "10.0.2.2", .dst = "10.0.2.1"}) : b.ipv4();
    switch (rng() % 3) {
      case 0:
        b.tcp({.sport = back ? std::uint16_t{80} : port,
               .dport = back ? port : std::uint16_t{80},
               .flags = kF[rng() % 8]});
        break;
      case 1:
        b.udp({.sport = back ? std::uint16_t{53} : port, .dport = back ? port : std::uint16_t{53}});
        break;
      default:
        b.icmp({.type = static_cast<std::uint8_t>(v6 ? (back ? 129 : 128) : (back ? 0 : 8)), .id = port});
    }
    Packet p = b.payload(rng() % 64).build();
    if (rng() % 8 == 0)
      p = icmp_error(p, {.from = v6 ? "2001:db8:9::9" : "192.0.2.9",
                         .type = static_cast<std::uint8_t>(v6 ? 1 : 3),
                         .code = 0,
                         .quote = pick(28u, 48u, 200u)});
    rng() % 8 ? w.from(back ? kWan : kLan, p, pick(14u, 60u, kAllLinear)) : w.from_host(kWan, p);
    if (rng() % 16 == 0) w.advance(pick(0.1, 1.0, 30.0, 121.0));
    if (rng() % 16 == 0) w.sweep(1);
    if (rng() % 256 == 0) native_flush();
    native_map_fail_randomly(0);
    if (seed % 4 != 1) {
      ASSERT_EQ(w.broken(), "") << "after packet " << i;
    }
  }
  native_flush();
  w.sweep(3);
  EXPECT_EQ(w.connections().size(), 0u);
  EXPECT_EQ(w.tuple4.size() + w.tuple6.size(), 0u);
  EXPECT_EQ(w.broken(), "");
}
INSTANTIATE_TEST_SUITE_P(Seeds, Random, testing::Range(1u, 13u));

}  // namespace
}  // namespace ctd::test
