// SPDX-License-Identifier: Apache-2.0
// The verdict cache: made when a connection has settled, gives what the long way gives, and goes when it must.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cstring>
#include <map>
#include <random>

#include "core_world.hpp"
#include "packet_check.hpp"

namespace ctd::test {
namespace {

constexpr WorldOptions kFast{.masquerade6 = true, .fast = true};

class Talk {
 public:
  explicit Talk(const WorldOptions& options = kFast, bool tcp = false, bool v6 = false)
      : w(options), tcp_(tcp), v6_(v6) {}

  Packet packet(bool reply, std::uint8_t flags = kAck, std::size_t payload = 10, std::uint8_t tos = 0) const {
    PacketBuilder b = frame();
    std::string_view server = v6_ ? "2001:db8:2::2" : "10.0.2.2", client = v6_ ? "2001:db8:1::2" : "10.1.0.2",
                     gateway = v6_ ? "2001:db8:2::b1" : "10.0.2.1";
    if (v6_)
      b.ipv6({.src = reply ? server : client, .dst = reply ? gateway : server, .traffic_class = tos});
    else
      b.ipv4({.src = reply ? server : client, .dst = reply ? gateway : server, .tos = tos});
    std::uint16_t sport = reply ? 80 : 40000, dport = reply ? 40000 : 80;
    if (tcp_)
      b.tcp({.sport = sport, .dport = dport, .flags = flags});
    else
      b.udp({.sport = sport, .dport = dport});
    return b.payload(payload).build();
  }
  Out client(std::uint8_t flags = kAck, std::size_t payload = 10) {
    return w.from(kLan, packet(false, flags, payload));
  }
  Out server(std::uint8_t flags = kAck, std::size_t payload = 10) { return w.from(kWan, packet(true, flags, payload)); }

  void settle() {
    if (tcp_) {
      client(kSyn);
      server(kSyn | kAck);
    }
    for (int i = 0; i < 6; i++) {
      client();
      server();
    }
    hits_before_ = w.counter(CTD_COUNT_FAST_HIT);
  }
  std::uint64_t hits() const { return w.counter(CTD_COUNT_FAST_HIT) - hits_before_; }
  std::uint32_t verdicts() const { return v6_ ? w.cache6.size() : w.cache4.size(); }

  World w;

 private:
  bool tcp_, v6_;
  std::uint64_t hits_before_ = 0;
};

class FastTalk : public testing::TestWithParam<std::pair<bool, bool>> {};

TEST_P(FastTalk, GivesWhatTheLongWayGives) {
  auto [tcp, v6] = GetParam();
  Talk t(kFast, tcp, v6);
  Out slow_out = t.client(tcp ? kSyn : kAck);
  Out slow_in = t.server(tcp ? kSyn | kAck : kAck);
  EXPECT_EQ(t.verdicts(), 0u) << "short connections do not pay for it";
  t.settle();
  EXPECT_EQ(t.verdicts(), 2u);
  for (int i = 0; i < 5; i++) {
    Out out = t.client();
    EXPECT_EQ(out.where, "wan");
    EXPECT_EQ(out.line, slow_out.line);
    EXPECT_EQ(Bytes(out.packet.bytes.begin(), out.packet.bytes.begin() + 12),
              (Bytes{2, 0, 0, 0, 0, 0x22, 2, 0, 0, 0, 0, 0x12}))
        << "to the neighbour, from the port";
    EXPECT_EQ(out.packet.bytes.at(v6 ? 21 : 22), 63) << "TTL";
    Out in = t.server();
    EXPECT_EQ(in.where, "lan");
    EXPECT_EQ(in.line, slow_in.line);
  }
  EXPECT_EQ(t.hits(), 10u);
  EXPECT_EQ(t.w.broken(), "");
}
INSTANTIATE_TEST_SUITE_P(All, FastTalk,
                         testing::Values(std::pair{false, false}, std::pair{true, false}, std::pair{false, true},
                                         std::pair{true, true}),
                         [](const auto& row) {
                           return std::string(row.param.first ? "Tcp" : "Udp") + (row.param.second ? "6" : "4");
                         });

TEST(Fast, PartialChecksumsAndGso) {
  Talk t(kFast, true);
  t.settle();
  Out out =
      t.w.from(kLan, frame().ipv4().tcp({.dport = 80, .flags = kAck}).payload(30000).partial().gso(1400).build(), 66);
  EXPECT_EQ(out.where, "wan");
  EXPECT_EQ(t.hits(), 1u);
}

TEST(Fast, WhatCouldChangeAStateTakesTheLongWay) {
  struct {
    const char* name;
    Packet in;
  } const cases[] = {
      {"options", frame().ipv4({.option_words = 1}).tcp({.flags = kAck}).build()},
      {"fragment", frame().ipv4({.df = false, .more = true}).tcp({.flags = kAck}).payload(8).build()},
      {"ttl", frame().ipv4({.ttl = 1}).tcp({.flags = kAck}).build()},
      {"rst", frame().ipv4().tcp({.flags = kRst}).build()},
      {"fin", frame().ipv4().tcp({.flags = kFin | kAck}).build()},
      {"syn", frame().ipv4().tcp({.flags = kSyn}).build()},
      {"over the MTU", frame().ipv4().tcp({.flags = kAck}).payload(1461).build()},
      {"gso over the MTU", frame().ipv4().tcp({.flags = kAck}).payload(30000).partial().gso(1470).build()},
  };
  for (const auto& c : cases) {
    Talk t(kFast, true);
    t.settle();
    t.w.from(kLan, c.in);
    EXPECT_EQ(t.hits(), 0u) << c.name;
  }
}

TEST(Fast, AClosingConnectionLosesBothVerdicts) {
  Talk t(kFast, true);
  t.settle();
  t.client(kFin | kAck);
  EXPECT_EQ(t.verdicts(), 0u);
  t.server();
  EXPECT_EQ(t.hits(), 0u);
  EXPECT_EQ(t.w.only().state, CTD_TCP_CLOSE_WAIT);
}

// A verdict that was stored when its connection was gone already, under a record that has the same id again.
TEST(Fast, AVerdictOfAnEarlierLifeIsReplaced) {
  Talk t;
  t.settle();
  const u32 id = t.w.only().id;
  std::map<std::array<u8, sizeof(ctd_tuple4)>, ctd_verdict4> old;
  t.w.cache4.each([&](const ctd_tuple4& key, const ctd_verdict4& v) {
    old[std::bit_cast<std::array<u8, sizeof(ctd_tuple4)>>(key)] = v;
  });
  ASSERT_EQ(old.size(), 2u);
  native_flush();
  t.w.sweep();
  EXPECT_EQ(t.verdicts(), 0u);
  for (auto& [key, v] : old) {
    v.head.pending = CTD_PENDING(7, 700);
    t.w.cache4.set(std::bit_cast<ctd_tuple4>(key), v);
  }
  t.w.advance(2);  // beyond the second after which a verdict asks whether its connection lives
  t.settle();
  ASSERT_EQ(t.w.only().id, id);
  native_credit();
  EXPECT_EQ(t.w.only().count[0].packets, 6u) << "what the old one had is not the new one's";
  t.w.cache4.each(
      [&](const ctd_tuple4&, const ctd_verdict4& v) { EXPECT_EQ(v.tail.conn_seq, CTD_CTL_SEQ(t.w.only().ctl)); });
  t.client();
  t.server();
  EXPECT_EQ(t.hits(), 2u);
}

TEST(Fast, AnotherVersionVoidsAll) {
  Talk t;
  t.settle();
  t.w.raise_version();
  EXPECT_EQ(t.client().where, "wan via 10.0.2.2") << "the long way, which makes a new one";
  EXPECT_EQ(t.hits(), 0u);
  EXPECT_EQ(t.client().where, "wan");
  EXPECT_EQ(t.hits(), 1u);
}

TEST(Fast, AChangedRuleIsObeyedAtOnce) {
  Talk t;
  t.settle();
  t.w.remove_flows();
  Match m;
  m.key.in_port = kLan;
  m.key.eth_type = __builtin_bswap16(0x0800);
  t.w.add_flow(m, {act_drop()});
  t.w.raise_version();
  EXPECT_EQ(t.client().where, "drop policy");
  EXPECT_EQ(t.client().where, "drop policy");
}

TEST(Fast, GuardsAreCompared) {
  Talk t;
  t.settle();
  NativePacket n = to_native(t.packet(false));
  n->ifindex = n->ingress_ifindex = kIfindexOf + kLan;
  std::memcpy(n->head, t.w.port(kLan).mac, 6);
  n->vlan_present = true;
  n->vlan_tci = 5;
  n->vlan_tpid = __builtin_bswap16(0x8100);
  t.w.run(std::move(n), NATIVE_INGRESS);
  EXPECT_EQ(t.hits(), 0u) << "another VLAN";
  t.w.from(kDmz, t.packet(false));
  EXPECT_EQ(t.hits(), 0u) << "another port";
  t.client();
  EXPECT_EQ(t.hits(), 1u);
}

TEST(Fast, CountersAreCreditedExactly) {
  Talk t;
  t.settle();
  for (int i = 0; i < 100; i++) {
    t.client();
    if (i % 2) t.server();
    if (i % 10 == 0) t.w.advance(0.4);
  }
  EXPECT_GT(t.hits(), 140u);
  native_credit();
  EXPECT_EQ(t.w.only().count[0].packets, 106u);
  EXPECT_EQ(t.w.only().count[1].packets, 56u);
  EXPECT_EQ(t.w.only().count[0].bytes, 106u * 38);
}

TEST(Fast, KeepsTheConnectionAlive) {
  Talk t;
  t.settle();
  for (int i = 0; i < 50; i++) {
    t.w.advance(10);
    t.w.sweep(1);
    EXPECT_THAT(t.client().where, testing::StartsWith("wan"));
    EXPECT_THAT(t.client().where, testing::StartsWith("wan"));
    ASSERT_EQ(t.w.connections().size(), 1u) << i;
  }
  // Packets that were not credited yet count as seen when the sweep finds them: it may live one timeout longer.
  for (int i = 0; i < 2; i++) {
    t.w.advance(130);
    t.w.sweep(3);
  }
  EXPECT_EQ(t.w.connections().size(), 0u);
  EXPECT_EQ(t.verdicts(), 0u);
  EXPECT_EQ(t.w.broken(), "");
}

// Packets of the last second that only the verdict has seen count when the connection would die.
TEST(Fast, WhatIsNotCreditedYetKeepsItAliveToo) {
  Talk t;
  t.settle();
  u32 timeout = t.w.only().timeout;
  native_advance(timeout - 10);
  t.w.rt().daemon_beat = static_cast<u32>(native_jiffies());
  t.client();  // credited at once: a second has passed
  t.client();
  native_advance(timeout - 5);
  t.client();
  t.client();
  t.w.sweep(2);
  native_advance(10);
  t.w.sweep(2);
  EXPECT_EQ(t.w.connections().size(), 1u);
}

TEST(Fast, AFlushedConnectionIsForgottenInASecond) {
  Talk t;
  t.settle();
  native_flush();
  t.w.sweep(2);
  EXPECT_EQ(t.verdicts(), 0u);
  EXPECT_EQ(t.server().where, "stack") << "for the host, as nothing is known of it";
}

TEST(Fast, ANeighbourThatMovesIsNoticed) {
  Talk t;
  t.settle();
  native_route moved{.family = CTD_IPV4,
                     .prefix = 24,
                     .dst = address("10.0.2.0"),
                     .ifindex = kIfindexOf + kWan,
                     .mtu = 1500,
                     .neighbour = true,
                     .smac = {2, 0, 0, 0, 0, 0x12},
                     .dmac = {2, 9, 9, 9, 9, 9}};
  native_route_add(&moved);
  EXPECT_EQ(t.client().packet.bytes.at(1), 0) << "not yet known";
  t.w.advance(2.1);
  EXPECT_EQ(t.client().where, "wan via 10.0.2.2") << "every two seconds one packet checks";
  Out out = t.client();
  EXPECT_EQ(out.where, "wan");
  EXPECT_EQ(out.packet.bytes.at(1), 9);
}

TEST(Fast, ARouteThatMovesIsNoticed) {
  Talk t;
  t.settle();
  native_route moved{.family = CTD_IPV4,
                     .prefix = 32,
                     .dst = address("10.0.2.2"),
                     .gateway = address("10.3.0.7"),
                     .ifindex = kIfindexOf + kDmz,
                     .mtu = 1500,
                     .neighbour = true};
  native_route_add(&moved);
  t.w.advance(2.1);
  EXPECT_EQ(t.client().where, "dmz via 10.3.0.7");
  EXPECT_EQ(t.client().where, "dmz") << "and never again the old way";
  EXPECT_EQ(t.client().where, "dmz");
}

TEST(Fast, AnUnknownNeighbourKeepsTheLongWay) {
  Talk t;
  native_route unresolved{
      .family = CTD_IPV4, .prefix = 24, .dst = address("10.0.2.0"), .ifindex = kIfindexOf + kWan, .mtu = 1500};
  native_route_add(&unresolved);
  t.settle();
  EXPECT_EQ(t.client().where, "wan via 10.0.2.2");
  EXPECT_EQ(t.verdicts(), 1u) << "only towards the client";
}

TEST(Fast, EvictionCostsTimeAndNoConnection) {
  World w({.native = {.conn_capacity = 128, .unanswered_quota = 100, .answered_quota = 100, .cache_entries = 8},
           .fast = true});
  for (int round = 0; round < 10; round++)
    for (std::uint16_t i = 0; i < 40; i++) {
      auto port = static_cast<std::uint16_t>(3000 + i);
      EXPECT_THAT(w.from(kLan, frame().ipv4().udp({.sport = port}).build()).where, testing::StartsWith("wan"));
      EXPECT_THAT(
          w.from(kWan, frame().ipv4({.src = "10.0.2.2", .dst = "10.0.2.1"}).udp({.sport = 53, .dport = port}).build())
              .where,
          testing::StartsWith("lan"));
    }
  EXPECT_EQ(w.connections().size(), 40u);
  EXPECT_LE(w.cache4.size(), 8u);
  EXPECT_EQ(w.broken(), "");
}

// The same random traffic with and without the cache: the same packets leave, and the same is counted.
TEST(Fast, PropertySameAsWithoutIt) {
  for (u32 seed = 1; seed <= 6; seed++) {
    std::vector<std::string> left[2];
    std::uint64_t packets[2] = {}, bytes[2] = {}, hits[2] = {};
    for (bool fast : {false, true}) {
      World w({.native = {.seed = seed}, .masquerade6 = true, .fast = fast});
      std::mt19937 rng(seed);
      for (int i = 0; i < 1500; i++) {
        const bool back = rng() % 2, v6 = rng() % 3 == 0, tcp = rng() % 2;
        const auto port = static_cast<std::uint16_t>(2000 + rng() % 4);
        const std::uint8_t flags = i < 16 ? kSyn : rng() % 100 ? kAck : kFin | kAck;
        PacketBuilder b = frame();
        if (v6)
          back ? b.ipv6({.src = "2001:db8:2::2", .dst = "2001:db8:2::b1"}) : b.ipv6();
        else
          back ? b.ipv4({.src = "10.0.2.2", .dst = "10.0.2.1"}) : b.ipv4();
        if (tcp)
          b.tcp({.sport = back ? std::uint16_t{80} : port, .dport = back ? port : std::uint16_t{80}, .flags = flags});
        else
          b.udp({.sport = back ? std::uint16_t{53} : port, .dport = back ? port : std::uint16_t{53}});
        Out out = w.from(back ? kWan : kLan, b.payload(rng() % 100).build());
        left[fast].push_back(out.where.substr(0, out.where.find(" via")) + " " + out.line);
        if (rng() % 50 == 0) w.advance(rng() % 20);
        if (rng() % 50 == 0) w.sweep(1);
      }
      native_credit();
      for (const ctd_conn* c : w.connections())
        for (const auto& count : c->count) packets[fast] += count.packets, bytes[fast] += count.bytes;
      hits[fast] = w.counter(CTD_COUNT_FAST_HIT);
      EXPECT_EQ(w.broken(), "");
    }
    EXPECT_EQ(left[0], left[1]) << "seed " << seed;
    EXPECT_EQ(packets[0], packets[1]);
    EXPECT_EQ(bytes[0], bytes[1]);
    EXPECT_EQ(hits[0], 0u);
    EXPECT_GT(hits[1], 100u);
  }
}

}  // namespace
}  // namespace ctd::test
