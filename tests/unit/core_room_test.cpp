// SPDX-License-Identifier: Apache-2.0
// A table that fills up: shares of sources, quotas by family, what makes room for whom, shortened timeouts, refusal;
// and ageing exact to a second.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include <algorithm>
#include <random>
#include <set>

#include "core_world.hpp"

namespace ctd::test {
namespace {

std::string host(unsigned n) { return fmt::format("10.1.{}.{}", n / 250, 2 + n % 250); }

Packet udp(std::string_view src, unsigned sport) {
  return frame().ipv4({.src = src, .dst = "10.0.2.2"}).udp({.sport = static_cast<u16>(sport), .dport = 53}).build();
}
Packet udp6(std::string_view src, unsigned sport) {
  return frame()
      .ipv6({.src = src, .dst = "2001:db8:2::2"})
      .udp({.sport = static_cast<u16>(sport), .dport = 53})
      .build();
}
// The answer to what left by wan0, whatever it was translated to.
Packet answer(const ctd_conn& c) {
  return frame()
      .ipv4({.src = "10.0.2.2", .dst = "10.0.2.1"})
      .udp({.sport = ntohs(c.reply.sport), .dport = ntohs(c.reply.dport)})
      .build();
}

std::size_t of_source(const World& w, std::string_view address) {
  const auto all = w.connections();
  const u32 wanted = test::address(address).v4;
  return static_cast<std::size_t>(
      std::count_if(all.begin(), all.end(), [&](const ctd_conn* c) { return c->orig.src.v4 == wanted; }));
}

// One TCP connection up to ESTABLISHED, assured. What became of its SYN.
std::string handshake(World& w, u16 port) {
  std::string where = w.from(kLan, frame().ipv4().tcp({.sport = port}).build()).where;
  w.from(kWan, frame()
                   .ipv4({.src = "10.0.2.2", .dst = "10.0.2.1"})
                   .tcp({.sport = 80, .dport = port, .flags = kSyn | kAck})
                   .build());
  w.from(kLan, frame().ipv4().tcp({.sport = port, .flags = kAck}).build());
  return where;
}

// The sweep as its timer drives it: a tick each ten milliseconds, two and a half jiffies.
void run_sweep(World& w, unsigned ticks) {
  for (unsigned i = 0; i < ticks; i++) {
    native_advance(i % 2 ? 3 : 2);
    native_sweep_tick();
  }
  w.rt().daemon_beat = static_cast<u32>(native_jiffies());
}

TEST(Share, OneSourceCannotPushOutTheOthers) {
  World w({.native = {.conn_capacity = 256, .unanswered_quota = 64, .source_share = 8}});
  for (unsigned n = 0; n < 32; n++) w.from(kLan, udp(host(n), 40000));
  for (unsigned i = 0; i < 3000; i++) w.from(kLan, udp("10.1.9.9", 1024 + i));
  for (unsigned n = 0; n < 32; n++) EXPECT_EQ(of_source(w, host(n)), 1u) << n;
  EXPECT_EQ(of_source(w, "10.1.9.9"), 32u) << "what nobody else wants is its own";
  EXPECT_EQ(w.classes.find(CTD_CLASS_UNANSWERED)->live, 64);
  EXPECT_EQ(w.broken(), "");
  // Others want it: the greedy one gives way down to its share.
  for (unsigned n = 32; n < 56; n++) w.from(kLan, udp(host(n), 40000));
  EXPECT_EQ(of_source(w, "10.1.9.9"), 8u);
  for (unsigned n = 0; n < 56; n++) EXPECT_EQ(of_source(w, host(n)), 1u) << n;
  EXPECT_EQ(w.broken(), "");
}

TEST(Share, ItsOwnOldestMakesRoom) {
  World w({.native = {.conn_capacity = 64, .unanswered_quota = 16, .source_share = 4}});
  for (unsigned i = 0; i < 20; i++) w.from(kLan, udp("10.1.9.9", 2000 + i));
  unsigned oldest = 65535;
  for (const ctd_conn* c : w.connections()) oldest = std::min<unsigned>(oldest, ntohs(c->orig.sport));
  EXPECT_EQ(oldest, 2004u);
}

// Behind a flood from everywhere no source has more than its share, and it is plainly the oldest that go.
TEST(Share, AFloodFromEverywhereIsBoundByTheQuota) {
  World w({.native = {.conn_capacity = 256, .unanswered_quota = 64, .source_share = 8}});
  for (unsigned n = 0; n < 2000; n++) w.from(kLan, udp(host(n), 40000));
  EXPECT_EQ(w.classes.find(CTD_CLASS_UNANSWERED)->live, 64);
  EXPECT_EQ(w.counter(CTD_COUNT_CT_EVICTED), 2000u - 64u);
  EXPECT_EQ(of_source(w, host(1999)), 1u);
  EXPECT_EQ(of_source(w, host(1935)), 0u);
  EXPECT_EQ(w.broken(), "");
}

TEST(Share, ASourceOfIpv6IsItsPrefixOf64) {
  World w({.native = {.conn_capacity = 256, .unanswered_quota = 64, .source_share = 8}});
  for (unsigned n = 0; n < 32; n++) w.from(kLan, udp6(fmt::format("2001:db8:a:{:x}::2", n), 40000));
  for (unsigned i = 0; i < 1000; i++) w.from(kLan, udp6(fmt::format("2001:db8:ffff::{:x}", i + 1), 40000));
  const auto all = w.connections();
  EXPECT_EQ(std::count_if(all.begin(), all.end(), [](const ctd_conn* c) { return c->orig.src.b[5] == 0x0a; }), 32);
  EXPECT_EQ(w.broken(), "");
}

TEST(Share, AlsoAmongTheAnswered) {
  World w({.native = {.conn_capacity = 512, .unanswered_quota = 64, .answered_quota = 64, .source_share = 8}});
  const auto exchange = [&w](std::string_view src, unsigned port) {
    w.from(kLan, udp(src, port));
    for (const ctd_conn* c : w.connections())
      if (!(c->status & CTD_STATUS_SEEN_REPLY)) w.from(kWan, answer(*c));
  };
  for (unsigned n = 0; n < 32; n++) exchange(host(n), 40000);
  for (unsigned i = 0; i < 1000; i++) {
    exchange("10.1.9.9", 1024 + i);
    ASSERT_LE(w.classes.find(CTD_CLASS_ANSWERED)->live, 64) << i;
  }
  for (unsigned n = 0; n < 32; n++) EXPECT_EQ(of_source(w, host(n)), 1u) << n;
  EXPECT_EQ(w.broken(), "");
}

TEST(Share, ZonesAreApart) {
  World w;
  ctd_tuple t{};
  t.src.v4 = test::address("10.1.0.2").v4;
  std::set<u32> seen;
  for (u16 zone = 0; zone < 16; zone++) {
    t.zone = zone;
    const u32 slot = native_source_of(&t);
    EXPECT_GE(slot, 1u);
    EXPECT_LE(slot, CTD_SOURCES);
    seen.insert(slot);
  }
  EXPECT_GE(seen.size(), 15u) << "in 16,384 places";
}

TEST(Family, OneFullFamilyLeavesTheOtherAlone) {
  World w({.native = {.conn_capacity = 256, .unanswered_quota = 64, .capacity6 = 32}});
  for (unsigned i = 0; i < 100; i++) EXPECT_EQ(w.from(kLan, udp6("2001:db8:1::2", 1024 + i)).where.substr(0, 3), "wan");
  EXPECT_EQ(w.tuple6.size(), 2u * 32);
  for (unsigned i = 0; i < 50; i++) w.from(kLan, udp("10.1.0.2", 1024 + i));
  EXPECT_EQ(w.tuple4.size(), 2u * 50);
  EXPECT_EQ(w.broken(), "");
}

// The quotas of all classes and families are more than the table: who cannot be answered makes room for a newcomer.
TEST(Family, AFullTableOfOneMakesRoomForTheOther) {
  World w({.native = {.conn_capacity = 64, .unanswered_quota = 64, .answered_quota = 64}});
  for (unsigned i = 0; i < 100; i++) w.from(kLan, udp("10.1.0.2", 1024 + i));
  EXPECT_EQ(w.rt().conns, 64);
  EXPECT_EQ(w.from(kLan, udp6("2001:db8:1::2", 1024)).where.substr(0, 3), "wan");
  EXPECT_EQ(w.rt().conns, 64);
  EXPECT_EQ(w.tuple6.size(), 2u);
  EXPECT_EQ(w.drops(CTD_DROP_CT_FULL), 0u);
  EXPECT_EQ(w.broken(), "");
}

TEST(Full, UnansweredThenAnsweredMakeRoomAndAssuredNever) {
  World w({.native = {.conn_capacity = 32, .unanswered_quota = 32, .answered_quota = 32}});
  for (u16 i = 0; i < 30; i++) handshake(w, static_cast<u16>(3000 + i));
  w.from(kLan, udp("10.1.0.2", 5000));
  for (const ctd_conn* c : w.connections())
    if (c->orig.proto == IPPROTO_UDP) w.from(kWan, answer(*c));
  w.from(kLan, udp("10.1.0.2", 5001));
  ASSERT_EQ(w.rt().conns, 32);
  EXPECT_EQ(handshake(w, 4000), "wan via 10.0.2.2") << "in the place of the unanswered one";
  EXPECT_EQ(handshake(w, 4001), "wan via 10.0.2.2") << "in the place of the answered one";
  EXPECT_EQ(handshake(w, 4002), "drop ct_full");
  EXPECT_EQ(w.classes.find(CTD_CLASS_ASSURED)->live, 32);
  EXPECT_EQ(w.drops(CTD_DROP_CT_FULL), 2u) << "its ACK, which could have been of a connection in mid-stream, as well";
  EXPECT_EQ(w.broken(), "");
}

TEST(Ids, OneCpuDoesNotKeepThemFromTheOthers) {
  World w({.native = {.conn_capacity = 64, .unanswered_quota = 64}});
  std::vector<u32> ids;
  while (const u32 id = native_id_alloc()) ids.push_back(id);
  ASSERT_EQ(ids.size(), 64u);
  for (const u32 id : ids) native_id_free(id);
  native_set_cpu(1);
  unsigned found = 0;
  while (native_id_alloc()) found++;
  native_set_cpu(0);
  EXPECT_GE(found, 60u) << "all but a sixteenth";
}

TEST(Adaptive, TimeoutsShrinkAsAssuredConnectionsFillTheTable) {
  World w({.native = {.conn_capacity = 100, .adaptive_start = 800, .adaptive_end = 1100}});
  for (u16 i = 0; i < 80; i++) handshake(w, static_cast<u16>(3000 + i));
  native_sweep_tick();
  EXPECT_EQ(w.rt().timeout_scale[0], CTD_SCALE_FULL);
  for (u16 i = 80; i < 95; i++) handshake(w, static_cast<u16>(3000 + i));
  native_sweep_tick();
  EXPECT_EQ(w.rt().timeout_scale[0], CTD_SCALE_FULL / 2);
  w.advance(7440 / 2 - 5);
  w.sweep();
  EXPECT_EQ(w.connections().size(), 95u);
  for (int turn = 0; turn < 8; turn++) {
    for (u16 i = 0; i < 60; i++) {
      const auto port = static_cast<u16>(3000 + i);
      // Both talk: the same segment of one side again and again would be a retransmission.
      w.from(kWan, frame()
                       .ipv4({.src = "10.0.2.2", .dst = "10.0.2.1"})
                       .tcp({.sport = 80, .dport = port, .flags = kAck})
                       .build());
      EXPECT_EQ(w.from(kLan, frame().ipv4().tcp({.sport = port, .flags = kAck}).build()).where, "wan via 10.0.2.2");
    }
    w.advance(460);
    w.sweep();
  }
  EXPECT_EQ(w.connections().size(), 60u) << "the idle are gone, who talks is never broken";
  for (const ctd_conn* c : w.connections()) EXPECT_LT(ntohs(c->orig.sport), 3060);
  EXPECT_EQ(w.broken(), "");
}

TEST(Adaptive, AFullTableLeavesThirdOfATimeout) {
  World w({.native = {.conn_capacity = 90, .adaptive_start = 800, .adaptive_end = 1100}});
  for (u16 i = 0; i < 90; i++) handshake(w, static_cast<u16>(3000 + i));
  native_sweep_tick();
  EXPECT_EQ(w.rt().timeout_scale[0], CTD_SCALE_FULL / 3);
  w.advance(7440 / 3 - 5);
  w.sweep();
  EXPECT_EQ(w.connections().size(), 90u);
}

// A flood fills rings, not the table: it must not shorten anybody's life.
TEST(Adaptive, FloodsShortenNothing) {
  World w({.native = {.conn_capacity = 128,
                      .unanswered_quota = 128,
                      .answered_quota = 128,
                      .adaptive_start = 500,
                      .adaptive_end = 1100}});
  handshake(w, 3000);
  for (unsigned i = 0; i < 500; i++) w.from(kLan, udp("10.1.0.2", 1024 + i));
  EXPECT_EQ(w.rt().conns, 128);
  native_sweep_tick();
  EXPECT_EQ(w.rt().timeout_scale[0], CTD_SCALE_FULL);
  EXPECT_EQ(w.rt().timeout_scale[1], CTD_SCALE_FULL);
}

TEST(Adaptive, ByFamily) {
  World w({.native = {.conn_capacity = 1000, .capacity4 = 20, .adaptive_start = 500, .adaptive_end = 1500}});
  for (u16 i = 0; i < 20; i++) handshake(w, static_cast<u16>(3000 + i));
  native_sweep_tick();
  EXPECT_EQ(w.rt().timeout_scale[0], CTD_SCALE_FULL / 2);
  EXPECT_EQ(w.rt().timeout_scale[1], CTD_SCALE_FULL);
}

// With the timer's own rhythm, in small and large tables: never before its time, never a second after it.
class Exact : public testing::TestWithParam<unsigned> {};

TEST_P(Exact, ToOneSecond) {
  const unsigned others = GetParam();
  World w({.native = {.conn_capacity = 2048, .unanswered_quota = 2048}});
  for (unsigned i = 0; i < others; i++) w.from(kLan, udp(host(i), 40000));
  std::mt19937 rng(others);
  for (int turn = 0; turn < 20; turn++) {
    run_sweep(w, rng() % 100);  // anywhere in a round
    const u64 born = native_jiffies();
    w.from(kLan, udp("10.1.9.9", 1024));
    run_sweep(w, 11900);
    ASSERT_EQ(of_source(w, "10.1.9.9"), 1u);
    while (of_source(w, "10.1.9.9")) run_sweep(w, 1);
    const u64 lived = native_jiffies() - born;
    EXPECT_GE(lived, 120u * kHz);
    EXPECT_LE(lived, 121u * kHz);
  }
}
INSTANTIATE_TEST_SUITE_P(Beside, Exact, testing::Values(0u, 1u, 79u, 1000u));

// Packets that the fast path carried count as well, though it tells of them once a second only.
TEST(Ageing, ExactAfterTheFastPath) {
  World w({.fast = true});
  w.from(kLan, udp("10.1.0.2", 40000));
  w.from(kWan, answer(w.only()));
  for (int i = 0; i < 40; i++) {
    w.advance(0.1);
    w.from(kLan, udp("10.1.0.2", 40000));
    w.from(kWan, answer(w.only()));
  }
  ASSERT_GT(w.counter(CTD_COUNT_FAST_HIT), 20u);
  const u64 last = native_jiffies();
  run_sweep(w, 11800);
  ASSERT_EQ(w.connections().size(), 1u);
  while (!w.connections().empty() && native_jiffies() - last < 300 * kHz) run_sweep(w, 1);
  EXPECT_GE(native_jiffies() - last, 119u * kHz);
  EXPECT_LE(native_jiffies() - last, 121u * kHz);
}

// All of a table is due at once: ticks stay short, come often, and leave nothing behind.
TEST(Sweep, CatchesUpWithWhatIsDueAtOnce) {
  World w({.native = {.conn_capacity = 16384, .unanswered_quota = 16384}});
  for (unsigned i = 0; i < 16000; i++) w.from(kLan, udp(host(i), 40000));
  w.advance(121);
  unsigned busy = 0, ticks = 0;
  for (; w.rt().conns && ticks < 1000; ticks++) {
    const s64 before = w.rt().conns;
    const u64 next = native_sweep_tick();
    EXPECT_LE(before - w.rt().conns, 100);
    busy += next < 1'000'000;
    if (ticks % 4 == 3) native_advance(1);
  }
  EXPECT_EQ(w.rt().conns, 0);
  EXPECT_GE(busy, 300u) << "100 a tick, each twice";
  EXPECT_LE(ticks, 400u);
  EXPECT_EQ(w.broken(), "");
}

// Storms from few and many sources, both families, answered and not, through small classes: everything adds up.
class FullTableStorm : public testing::TestWithParam<u32> {};

TEST_P(FullTableStorm, EverythingAddsUp) {
  const u32 seed = GetParam();
  World w({.native = {.conn_capacity = 128,
                      .unanswered_quota = 48,
                      .answered_quota = 40,
                      .source_share = 6,
                      .capacity4 = seed % 2 ? 96u : 0u,
                      .capacity6 = seed % 3 ? 64u : 0u,
                      .adaptive_start = seed % 2 ? 100u : 0u,
                      .adaptive_end = seed % 2 ? 900u : 0u,
                      .seed = seed}});
  std::mt19937 rng(seed);
  for (int i = 0; i < 4000; i++) {
    native_set_cpu(rng() % 2);
    if (seed % 4 == 1) native_map_fail_randomly(rng() % 8 ? 0 : 100);
    const unsigned source = rng() % 4 ? rng() % 3 : rng() % 400, port = 2000 + rng() % 400;
    const auto all = w.connections();
    switch (rng() % 8) {
      case 0:
      case 1:
        w.from(kLan, udp6(fmt::format("2001:db8:1:{:x}::2", source), port));
        break;
      case 2:
        handshake(w, static_cast<u16>(port));
        break;
      case 3:
      case 4:
        if (!all.empty() && all[rng() % all.size()]->orig.family == CTD_IPV4) {
          const ctd_conn& c = *all[rng() % all.size()];
          if (c.orig.family == CTD_IPV4 && c.orig.proto == IPPROTO_UDP) w.from(kWan, answer(c));
        }
        break;
      default:
        w.from(kLan, udp(host(source), port));
    }
    if (rng() % 64 == 0) w.advance(rng() % 2 ? 3 : 121);
    if (rng() % 32 == 0) w.sweep(1);
    native_map_fail_randomly(0);
    if (i % 16 == 0 && seed % 4 != 1) {
      ASSERT_EQ(w.broken(), "") << "after step " << i;
      for (const u32 index :
           {CTD_CLASS_INDEX(CTD_CLASS_ANSWERED, CTD_IPV4), CTD_CLASS_INDEX(CTD_CLASS_ANSWERED, CTD_IPV6)})
        ASSERT_LE(w.classes.find(index)->live, 40);
    }
  }
  native_flush();
  w.sweep(6);
  EXPECT_EQ(w.rt().conns, 0);
  EXPECT_EQ(w.tuple4.size() + w.tuple6.size(), 0u);
  EXPECT_EQ(w.broken(), "");
}
INSTANTIATE_TEST_SUITE_P(Seeds, FullTableStorm, testing::Range(1u, 13u));

}  // namespace
}  // namespace ctd::test
