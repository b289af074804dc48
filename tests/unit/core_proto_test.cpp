// SPDX-License-Identifier: Apache-2.0
// Protocols without a state machine: UDP-Lite, GRE, ICMP queries, any other by its addresses; and what is no
// connection. World::run() looks at every checksum.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core_world.hpp"
#include "packet_check.hpp"

namespace ctd::test {
namespace {

using testing::StartsWith;

PacketBuilder ip(bool v6, std::string_view src, std::string_view dst) {
  PacketBuilder b = frame();
  return v6 ? b.ipv6({.src = src, .dst = dst}) : b.ipv4({.src = src, .dst = dst});
}

// Both families and all coverages; the second client's port is taken, so that ports change, too.
TEST(Udplite, TranslatedBothWays) {
  for (bool v6 : {false, true})
    for (std::uint16_t coverage : {0, 8, 9, 13, 58}) {
      SCOPED_TRACE(testing::Message() << (v6 ? "IPv6" : "IPv4") << " coverage " << coverage);
      World w({.masquerade6 = true});
      const std::string server = v6 ? "2001:db8:2::2" : "10.0.2.2", mine = v6 ? "2001:db8:2::b1" : "10.0.2.1";
      for (const char* client : {v6 ? "2001:db8:1::2" : "10.1.0.2", v6 ? "2001:db8:1::3" : "10.1.0.3"}) {
        Out out = w.from(kLan, ip(v6, client, server).udplite({.coverage = coverage}).payload(50).build());
        ASSERT_EQ(out.where, "wan via " + server);
        const ctd_conn& c = *w.connections().back();
        const std::uint16_t port = __builtin_bswap16(c.reply.dport);
        EXPECT_EQ(out.line,
                  fmt::format("udplite {}{}{} > {}{}2000", mine, v6 ? "." : ":", port, server, v6 ? "." : ":"));
        out = w.from(
            kWan,
            ip(v6, server, mine).udplite({.sport = 2000, .dport = port, .coverage = coverage}).payload(50).build());
        EXPECT_EQ(out.where, fmt::format("lan via {}", client));
        EXPECT_EQ(w.status_of(*w.connections().back()), "SEEN_REPLY CONFIRMED SRC_NAT");
      }
      EXPECT_EQ(w.connections().size(), 2u);
      EXPECT_NE(w.connections()[0]->reply.dport, w.connections()[1]->reply.dport);
      EXPECT_EQ(w.broken(), "");
    }
}

TEST(Udplite, IsAStreamAfterTwoSecondsAndTakesTheFastPath) {
  World w({.fast = true});
  auto out = [&] { return w.from(kLan, frame().ipv4().udplite().payload(20).build()).where; };
  auto back = [&] {
    return w
        .from(kWan, frame()
                        .ipv4({.src = "10.0.2.2", .dst = "10.0.2.1"})
                        .udplite({.sport = 2000, .dport = 40000})
                        .payload(20)
                        .build())
        .where;
  };
  out();
  back();
  EXPECT_EQ(w.status_of(w.only()), "SEEN_REPLY CONFIRMED SRC_NAT");
  w.advance(2.5);
  back();
  EXPECT_EQ(w.status_of(w.only()), "SEEN_REPLY ASSURED CONFIRMED SRC_NAT");
  for (int i = 0; i < 8; i++) out();
  EXPECT_GT(w.counter(CTD_COUNT_FAST_HIT), 0u);
  EXPECT_EQ(w.broken(), "");
}

struct Unsound {
  const char* name;
  Packet packet;
};
void PrintTo(const Unsound& row, std::ostream* out) { *out << row.name; }
class UnsoundHeader : public testing::TestWithParam<Unsound> {};

TEST_P(UnsoundHeader, IsInvalid) {
  World w;
  const u64 before = native_invalid(CTD_INVALID_UNTRACKABLE);
  EXPECT_EQ(w.from(kLan, GetParam().packet).where, "drop policy");
  EXPECT_EQ(native_invalid(CTD_INVALID_UNTRACKABLE), before + 1);
  EXPECT_EQ(w.connections().size(), 0u);
}

Packet raw(std::uint8_t proto, std::size_t size) { return frame().ipv4({.proto = proto}).payload(size).build(); }

std::vector<Unsound> unsound() {
  auto dccp = [](const Dccp& h) { return frame().ipv4().dccp(h).build(); };
  auto udplite = [](const UdpLite& h) { return frame().ipv4().udplite(h).payload(4).build(); };
  return {{"UdpliteWithoutChecksum", udplite({.no_checksum = true})},
          {"UdpliteCoversLessThanItsHeader", udplite({.coverage = 7})},
          {"UdpliteCoversMoreThanThereIs", udplite({.coverage = 13})},
          {"UdpliteCut", raw(136, 7)},
          {"SctpCut", raw(132, 11)},
          {"DccpCut", raw(33, 11)},
          {"DccpOffsetTooSmall", dccp({.doff = 4})},
          {"DccpOffsetBeyondTheEnd", dccp({.doff = 60})},
          {"DccpReservedType", dccp({.type = 10})},
          {"DccpCoversMoreThanThereIs", dccp({.coverage = 3})},
          {"DccpRequestWithShortNumbers", dccp({.short_seq = true})},
          {"GreCut", raw(47, 3)},
          {"PptpCut", frame().ipv4({.proto = 47}).payload({0x20, 1, 0x88, 0x0b, 0, 0, 0}).build()},
          {"PptpWithoutCallId", frame().ipv4({.proto = 47}).payload({0, 1, 0x88, 0x0b, 0, 0, 0, 0}).build()},
          {"PptpOfAnotherProtocol", frame().ipv4({.proto = 47}).payload({0x20, 1, 8, 0, 0, 0, 0, 0}).build()},
          {"Icmpv6OverIpv4", raw(58, 16)}};
}
INSTANTIATE_TEST_SUITE_P(All, UnsoundHeader, testing::ValuesIn(unsound()),
                         [](const auto& row) { return row.param.name; });

TEST(Dccp, TranslatedWithPartialCoverage) {
  for (std::uint8_t coverage : {0, 1, 3, 15}) {
    World w;
    for (const char* client : {"10.1.0.2", "10.1.0.3"}) {
      Out out = w.from(kLan, ip(false, client, "10.0.2.2").dccp({.coverage = coverage}).payload(80).build());
      EXPECT_EQ(out.where, "wan via 10.0.2.2");
      EXPECT_THAT(out.line, StartsWith("dccp 10.0.2.1:"));
    }
    EXPECT_EQ(w.connections().size(), 2u);
  }
}

// Version 0 goes by its addresses, whatever its key; only one inside host can talk to the same peer then.
TEST(Gre, GoesByItsAddresses) {
  World w;
  Out out = w.from(kLan, frame().ipv4().gre({.key = 7}).payload(20).build());
  EXPECT_EQ(out.line, "ip 47 10.0.2.1 > 10.0.2.2");
  EXPECT_EQ(w.from(kWan, frame().ipv4({.src = "10.0.2.2", .dst = "10.0.2.1"}).gre({.key = 9}).payload(20).build()).line,
            "ip 47 10.0.2.2 > 10.1.0.2");
  EXPECT_EQ(w.status_of(w.only()), "SEEN_REPLY CONFIRMED SRC_NAT");
  EXPECT_EQ(w.only().timeout, 180 * kHz);
  EXPECT_EQ(w.from(kLan, frame().ipv4({.src = "10.1.0.3"}).gre().payload(20).build()).where, "drop nat_exhausted");
  EXPECT_EQ(w.broken(), "");
}

// PPTP's calls stay apart, and their ids are not translated.
TEST(Gre, CallsStayApart) {
  World w;
  auto call = [](std::string_view src, std::uint16_t id) {
    return ip(false, src, "10.0.2.2").gre({.version = 1, .call_id = id}).payload(20).build();
  };
  EXPECT_EQ(w.from(kLan, call("10.1.0.2", 1)).where, "wan via 10.0.2.2");
  EXPECT_EQ(w.from(kLan, call("10.1.0.2", 2)).where, "wan via 10.0.2.2");
  EXPECT_EQ(w.from(kLan, call("10.1.0.3", 3)).where, "wan via 10.0.2.2");
  EXPECT_EQ(w.from(kLan, call("10.1.0.3", 2)).where, "drop nat_exhausted");
  ASSERT_EQ(w.connections().size(), 3u);
  EXPECT_EQ(w.connections()[1]->orig.dport, __builtin_bswap16(2));
  EXPECT_EQ(w.connections()[1]->orig.sport, 0);
}

struct Query {
  const char* name;
  bool v6;
  std::uint8_t type, answer, code;
};
void PrintTo(const Query& query, std::ostream* out) { *out << query.name; }
class IcmpQuery : public testing::TestWithParam<Query> {};

// The same identifier from two hosts stays apart, and the code is nobody's to change.
TEST_P(IcmpQuery, IsAnsweredByItsIdentifier) {
  const Query& q = GetParam();
  World w({.masquerade6 = true});
  const std::string server = q.v6 ? "2001:db8:2::2" : "10.0.2.2", mine = q.v6 ? "2001:db8:2::b1" : "10.0.2.1";
  for (const char* client : {q.v6 ? "2001:db8:1::2" : "10.1.0.2", q.v6 ? "2001:db8:1::3" : "10.1.0.3"}) {
    Out out = w.from(kLan, ip(q.v6, client, server).icmp({.type = q.type, .code = q.code}).payload(12).build());
    ASSERT_EQ(out.where, "wan via " + server);
    const unsigned id = __builtin_bswap16(w.connections().back()->reply.sport);
    EXPECT_EQ(out.line, fmt::format("icmp {}/{} id {} {} > {}", q.type, q.code, id, mine, server));
    out = w.from(kWan, ip(q.v6, server, mine)
                           .icmp({.type = q.answer, .code = q.code, .id = static_cast<std::uint16_t>(id)})
                           .payload(12)
                           .build());
    EXPECT_EQ(out.where, fmt::format("lan via {}", client));
    EXPECT_EQ(out.line, fmt::format("icmp {}/{} id 77 {} > {}", q.answer, q.code, server, client));
  }
  EXPECT_EQ(w.connections().size(), 2u);
  EXPECT_EQ(w.broken(), "");
}
INSTANTIATE_TEST_SUITE_P(All, IcmpQuery,
                         testing::Values(Query{"Echo", false, 8, 0, 0}, Query{"EchoWithCode", false, 8, 0, 9},
                                         Query{"Timestamp", false, 13, 14, 0}, Query{"Information", false, 15, 16, 0},
                                         Query{"AddressMask", false, 17, 18, 0}, Query{"Echo6", true, 128, 129, 0},
                                         Query{"Echo6WithCode", true, 128, 129, 3}),
                         [](const auto& row) { return row.param.name; });

// A node information query (RFC 4620) has no identifier: it is tracked, and nothing of it is translated.
TEST(IcmpQueries, NodeInformationHasNoIdentifier) {
  World w({.masquerade6 = true});
  auto query = [](std::string_view src) {
    return ip(true, src, "2001:db8:2::2").icmp({.type = 139, .id = 2}).payload(12).build();
  };
  EXPECT_EQ(w.from(kLan, query("2001:db8:1::2")).line, "icmp 139/0 id 2 2001:db8:2::b1 > 2001:db8:2::2");
  EXPECT_EQ(w.from(kLan, query("2001:db8:1::3")).where, "drop nat_exhausted");
}

TEST(Untracked, NeighbourDiscoveryAndMld) {
  World w;
  u64 seen = native_invalid(CTD_INVALID_UNTRACKED);
  for (std::uint8_t type : {130, 131, 132, 133, 134, 135, 136, 137, 143}) {
    EXPECT_EQ(w.from(kLan, ip(true, "2001:db8:1::2", "2001:db8:2::2").icmp({.type = type}).payload(16).build()).where,
              "drop policy");
    EXPECT_EQ(native_invalid(CTD_INVALID_UNTRACKED), ++seen) << unsigned{type};
  }
  EXPECT_EQ(w.connections().size(), 0u);
}

TEST(Untracked, MessagesThatAreNeitherQueryNorError) {
  for (std::uint8_t type : {9, 10, 30, 42}) {  // router messages of IPv4, traceroute, extended echo
    World w;
    EXPECT_EQ(w.from(kLan, frame().ipv4().icmp({.type = type}).payload(16).build()).where, "drop policy");
    EXPECT_EQ(w.connections().size(), 0u) << unsigned{type};
  }
}

}  // namespace
}  // namespace ctd::test
