// SPDX-License-Identifier: Apache-2.0
// Translation: what leaves, with right checksums in every layer (from() looks at all of them), and mappings that clash.
#include <arpa/inet.h>
#include <gmock/gmock.h>

#include "prog/gateway.hpp"
#include "unit/packet_check.hpp"

namespace ctd::test {
namespace {

using testing::StartsWith;

constexpr std::string_view kClient6 = "2001:db8:1::2", kServer6 = "2001:db8:2::2", kGateway6 = "2001:db8:2::b1";

using NatTest = GatewayTest;

// A layer 4 checksum field, big-endian.
unsigned be16_at(const Packet& p, std::size_t at) { return unsigned{p.bytes.at(at)} << 8 | p.bytes.at(at + 1); }

struct Row {
  const char* name;
  Packet in;
  std::string line;
};

void PrintTo(const Row& row, std::ostream* out) { *out << row.name; }

class NatRow : public NatTest, public testing::WithParamInterface<Row> {};

TEST_P(NatRow, LeavesWithRightChecksums) {
  const Row& row = GetParam();
  start({.masquerade6 = true});
  for (const char* way : {"after misses", "by flows"}) {
    const Out out = from("lan0", row.in);
    EXPECT_EQ(out.where, "wan0") << way;
    EXPECT_EQ(out.line, row.line) << way;
    EXPECT_EQ(out.packet.bytes.size(), row.in.bytes.size()) << way;
  }
}

std::vector<Row> rows() {
  const std::string udp4 = "udp 10.0.2.1:40000 > 10.0.2.2:53", udp6 = "udp 2001:db8:2::b1.40000 > 2001:db8:2::2.53";
  const std::string tcp4 = "tcp 10.0.2.1:40000 > 10.0.2.2:80", tcp6 = "tcp 2001:db8:2::b1.40000 > 2001:db8:2::2.80";
  return {
      {.name = "Udp4", .in = udp({}), .line = udp4},
      {.name = "Udp4Empty", .in = udp({.payload = 0}), .line = udp4},
      {.name = "Udp4Odd", .in = udp({.payload = 13}), .line = udp4},
      {.name = "Udp4Large", .in = udp({.payload = 1472}), .line = udp4},
      {.name = "Udp4NoChecksum", .in = udp({.no_checksum = true}), .line = udp4},
      {.name = "Udp4Options", .in = frame().ipv4({.option_words = 3}).udp().payload(9).build(), .line = udp4},
      {.name = "Udp4Tos", .in = frame().ipv4({.tos = 0xb8}).udp().payload(9).build(), .line = udp4},
      {.name = "Tcp4", .in = tcp({}), .line = tcp4},
      {.name = "Tcp4Options", .in = frame().ipv4().tcp({.option_words = 10}).build(), .line = tcp4},
      {.name = "Tcp4Payload", .in = tcp({.payload = 1459}), .line = tcp4},
      {.name = "Tcp4IpOptions", .in = frame().ipv4({.option_words = 10}).tcp().payload(5).build(), .line = tcp4},
      {.name = "Ping4", .in = ping({}), .line = "icmp 8/0 id 77 10.0.2.1 > 10.0.2.2"},
      {.name = "Ping4Odd", .in = ping({.payload = 55}), .line = "icmp 8/0 id 77 10.0.2.1 > 10.0.2.2"},
      {.name = "Timestamp4",
       .in = frame().ipv4().icmp({.type = 13}).payload(12).build(),
       .line = "icmp 13/0 id 77 10.0.2.1 > 10.0.2.2"},
      {.name = "Udp6", .in = udp({.src = kClient6, .dst = kServer6}), .line = udp6},
      {.name = "Udp6Odd", .in = udp({.src = kClient6, .dst = kServer6, .payload = 13}), .line = udp6},
      {.name = "Udp6Extension", .in = frame().ipv6().extension({.type = 60}).udp().payload(9).build(), .line = udp6},
      {.name = "Tcp6", .in = tcp({.src = kClient6, .dst = kServer6}), .line = tcp6},
      {.name = "Tcp6Payload", .in = tcp({.src = kClient6, .dst = kServer6, .payload = 1439}), .line = tcp6},
      {.name = "Ping6",
       .in = ping({.src = kClient6, .dst = kServer6}),
       .line = "icmp 128/0 id 77 2001:db8:2::b1 > 2001:db8:2::2"},
      {.name = "Gre4", .in = frame().ipv4({.proto = 47}).payload(20).build(), .line = "ip 47 10.0.2.1 > 10.0.2.2"},
  };
}

INSTANTIATE_TEST_SUITE_P(Packets, NatRow, testing::ValuesIn(rows()),
                         [](const auto& tested) { return tested.param.name; });

TEST_F(NatTest, ZeroUdpChecksumStaysZero) {
  start();
  for (int i = 0; i < 2; i++) EXPECT_EQ(be16_at(from("lan0", udp({.no_checksum = true})).packet, 14 + 20 + 6), 0u);
}

// A sum that comes out as zero must leave as 0xffff: zero says that there is none.
TEST_F(NatTest, UdpChecksumNeverBecomesZero) {
  start();
  // Found by search: the payload for which the checksum, after translation, is the one that has two forms.
  Packet wanted;
  for (unsigned word = 0; word <= 0xffff && wanted.bytes.empty(); word++) {
    const Bytes payload{static_cast<u8>(word >> 8), static_cast<u8>(word)};
    const Packet after = frame().ipv4({.src = "10.0.2.1"}).udp().payload(payload).build();
    if (be16_at(after, 14 + 20 + 6) == 0xffff) wanted = frame().ipv4().udp().payload(payload).build();
  }
  ASSERT_FALSE(wanted.bytes.empty());
  for (int i = 0; i < 2; i++) {
    const Out out = from("lan0", wanted);
    EXPECT_EQ(out.line, "udp 10.0.2.1:40000 > 10.0.2.2:53");
    EXPECT_EQ(be16_at(out.packet, 14 + 20 + 6), 0xffffu);
  }
}

TEST_F(NatTest, PortsAreKeptAndOnlyThenChanged) {
  start();
  EXPECT_EQ(from("lan0", udp({})).line, "udp 10.0.2.1:40000 > 10.0.2.2:53");
  EXPECT_EQ(from("lan0", udp({.src = "10.1.0.3", .dst = "10.0.2.3"})).line, "udp 10.0.2.1:40000 > 10.0.2.3:53")
      << "free for another destination";
  const Out clash = from("lan0", udp({.src = "10.1.0.3"}));
  EXPECT_EQ(clash.where, "wan0");
  EXPECT_NE(clash.line, "udp 10.0.2.1:40000 > 10.0.2.2:53");
  EXPECT_EQ(from("lan0", udp({.src = "10.1.0.3"})).line, clash.line) << "and it stays";
  // The answer to the other port finds the second client.
  for (const ctd_conn& conn : connections()) {
    if (conn.orig.src.v4 != address("10.1.0.3").v4 || conn.orig.dst.v4 != address("10.0.2.2").v4) continue;
    EXPECT_GE(ntohs(conn.reply.dport), 1024) << "of the same kind";
    EXPECT_EQ(
        from("wan0", udp({.src = "10.0.2.2", .dst = "10.0.2.1", .sport = 53, .dport = ntohs(conn.reply.dport)})).line,
        "udp 10.0.2.2:53 > 10.1.0.3:40000");
  }
  EXPECT_EQ(from("wan0", udp({.src = "10.0.2.2", .dst = "10.0.2.1", .sport = 53, .dport = 40000})).line,
            "udp 10.0.2.2:53 > 10.1.0.2:40000");
}

TEST_F(NatTest, PrivilegedPortsStayPrivileged) {
  start();
  EXPECT_EQ(from("lan0", udp({.sport = 500, .dport = 500})).line, "udp 10.0.2.1:500 > 10.0.2.2:500");
  from("lan0", udp({.src = "10.1.0.3", .sport = 500, .dport = 500}));
  for (const ctd_conn& conn : connections()) EXPECT_LT(ntohs(conn.reply.dport), 512);
}

TEST_F(NatTest, IcmpIdentifiersClashToo) {
  start();
  EXPECT_EQ(from("lan0", ping({})).line, "icmp 8/0 id 77 10.0.2.1 > 10.0.2.2");
  const Out out = from("lan0", ping({.src = "10.1.0.3"}));
  EXPECT_THAT(out.line, StartsWith("icmp 8/0 id "));
  EXPECT_NE(out.line, "icmp 8/0 id 77 10.0.2.1 > 10.0.2.2");
  const auto id = static_cast<std::uint16_t>(be16_at(out.packet, 14 + 20 + 4));
  EXPECT_EQ(from("wan0", ping({.src = "10.0.2.2", .dst = "10.0.2.1", .id = id, .reply = true})).line,
            "icmp 0/0 id 77 10.0.2.2 > 10.1.0.3");
}

TEST_F(NatTest, TheHostsOwnPortsAreNotGivenAway) {
  start();
  EXPECT_EQ(from_host("wan0", udp({.src = "10.0.2.1"})).where, "wan0");
  EXPECT_NE(from("lan0", udp({})).line, "udp 10.0.2.1:40000 > 10.0.2.2:53");
  EXPECT_EQ(from("wan0", udp({.src = "10.0.2.2", .dst = "10.0.2.1", .sport = 53, .dport = 40000})).where, "into wan0");
}

TEST_F(NatTest, ExhaustedRangeIsANamedDrop) {
  start({.rules = {"table=3,priority=200,udp,out_port=wan0 "
                   "actions=ct(commit,zone=0,nat(src=10.0.2.77:6000-6000)),route"}});
  EXPECT_EQ(from("lan0", udp({})).line, "udp 10.0.2.77:6000 > 10.0.2.2:53");
  EXPECT_EQ(from("lan0", udp({.sport = 40001})).where, "drop nat_exhausted");
  EXPECT_EQ(from("lan0", udp({.sport = 6000})).where, "drop nat_exhausted") << "also where the port could be kept";
  EXPECT_EQ(from("lan0", udp({.sport = 40001, .dport = 54})).line, "udp 10.0.2.77:6000 > 10.0.2.2:54");
  EXPECT_EQ(connections().size(), 2u);
  EXPECT_EQ(from("lan0", tcp({})).line, "tcp 10.0.2.1:40000 > 10.0.2.2:80") << "the rule is for UDP";
}

TEST_F(NatTest, EveryPortOfARangeIsFound) {
  start({.rules = {"table=3,priority=200,udp,out_port=wan0 "
                   "actions=ct(commit,zone=0,nat(src=10.0.2.77:6000-6019)),route"}});
  for (std::uint16_t i = 0; i < 20; i++) {
    const Out out = from("lan0", udp({.sport = static_cast<std::uint16_t>(40000 + i)}));
    EXPECT_THAT(out.line, StartsWith("udp 10.0.2.77:60")) << i;
  }
  EXPECT_EQ(connections().size(), 20u);
  EXPECT_EQ(from("lan0", udp({.sport = 50000})).where, "drop nat_exhausted");
}

TEST_F(NatTest, MasqueradeNeedsAnAddress) {
  start();
  sh("ip address flush dev wan0 && ip route add 10.0.2.0/24 dev wan0");
  sync();
  EXPECT_EQ(from("lan0", udp({})).where, "drop nat_no_address");
  EXPECT_TRUE(connections().empty());
}

// ICMP errors about a translated connection: outer and quoted header are translated, all checksums follow.
struct Related {
  const char* name;
  Packet out;                  // opens the connection
  std::optional<Packet> back;  // its answer, for errors about that
  std::string port;            // where the error comes in
  Error error;
  std::string where, line;
};

void PrintTo(const Related& row, std::ostream* out) { *out << row.name; }

class NatError : public NatTest, public testing::WithParamInterface<Related> {};

TEST_P(NatError, IsTranslatedWithWhatItQuotes) {
  const Related& row = GetParam();
  start({.masquerade6 = true});
  const Out out = from("lan0", row.out);
  ASSERT_EQ(out.where, "wan0");
  Packet about = out.packet;
  if (row.back) {
    const Out delivered = from("wan0", *row.back);
    ASSERT_EQ(delivered.where, "lan0");
    about = delivered.packet;
  }
  const std::string before = only_text();
  for (const char* way : {"after misses", "by flows"}) {
    const Out error = from(row.port, icmp_error(about, row.error));
    EXPECT_EQ(error.where, row.where) << way;
    EXPECT_EQ(error.line, row.line) << way;
  }
  EXPECT_EQ(only_text(), before) << "an error never changes the connection";
}

std::vector<Related> errors() {
  const Packet back4 = udp({.src = "10.0.2.2", .dst = "10.0.2.1", .sport = 53, .dport = 40000, .payload = 40});
  const Packet back6 = udp({.src = kServer6, .dst = kGateway6, .sport = 53, .dport = 40000, .payload = 40});
  return {
      {.name = "PortUnreachable4",
       .out = udp({}),
       .port = "wan0",
       .error = {.from = "10.0.2.2", .code = 3},
       .where = "lan0",
       .line = "icmp 3/3 10.0.2.2 > 10.1.0.2 [udp 10.1.0.2:40000 > 10.0.2.2:53]"},
      {.name = "FromARouter4",
       .out = udp({}),
       .port = "wan0",
       .error = {.from = "10.9.9.9", .code = 1},
       .where = "lan0",
       .line = "icmp 3/1 10.9.9.9 > 10.1.0.2 [udp 10.1.0.2:40000 > 10.0.2.2:53]"},
      {.name = "TimeExceeded4",
       .out = udp({}),
       .port = "wan0",
       .error = {.from = "10.9.9.9", .type = 11, .code = 0},
       .where = "lan0",
       .line = "icmp 11/0 10.9.9.9 > 10.1.0.2 [udp 10.1.0.2:40000 > 10.0.2.2:53]"},
      {.name = "WholeUdp4",
       .out = udp({.payload = 30}),
       .port = "wan0",
       .error = {.from = "10.0.2.2", .code = 3, .quote = 500},
       .where = "lan0",
       .line = "icmp 3/3 10.0.2.2 > 10.1.0.2 [udp 10.1.0.2:40000 > 10.0.2.2:53]"},
      {.name = "WholeUdp4NoChecksum",
       .out = udp({.payload = 30, .no_checksum = true}),
       .port = "wan0",
       .error = {.from = "10.0.2.2", .code = 3, .quote = 500},
       .where = "lan0",
       .line = "icmp 3/3 10.0.2.2 > 10.1.0.2 [udp 10.1.0.2:40000 > 10.0.2.2:53]"},
      {.name = "FragmentationNeeded4",
       .out = tcp({.payload = 1000}),
       .port = "wan0",
       .error = {.from = "10.9.9.9", .code = 4, .mtu = 1400},
       .where = "lan0",
       .line = "icmp 3/4 10.9.9.9 > 10.1.0.2 [tcp 10.1.0.2:40000 > 10.0.2.2:80]"},
      {.name = "WholeTcp4",
       .out = tcp({.payload = 100}),
       .port = "wan0",
       .error = {.from = "10.9.9.9", .code = 1, .quote = 500},
       .where = "lan0",
       .line = "icmp 3/1 10.9.9.9 > 10.1.0.2 [tcp 10.1.0.2:40000 > 10.0.2.2:80]"},
      {.name = "Ping4",
       .out = ping({}),
       .port = "wan0",
       .error = {.from = "10.9.9.9", .code = 1, .quote = 500},
       .where = "lan0",
       .line = "icmp 3/1 10.9.9.9 > 10.1.0.2 [icmp 8/0 id 77 10.1.0.2 > 10.0.2.2]"},
      {.name = "AboutTheAnswer4",
       .out = udp({}),
       .back = back4,
       .port = "lan0",
       .error = {.from = "10.1.0.2", .code = 3},
       .where = "wan0",
       .line = "icmp 3/3 10.0.2.1 > 10.0.2.2 [udp 10.0.2.2:53 > 10.0.2.1:40000]"},
      {.name = "AboutTheAnswer4Whole",
       .out = udp({}),
       .back = back4,
       .port = "lan0",
       .error = {.from = "10.1.0.2", .code = 3, .quote = 500},
       .where = "wan0",
       .line = "icmp 3/3 10.0.2.1 > 10.0.2.2 [udp 10.0.2.2:53 > 10.0.2.1:40000]"},
      {.name = "ByAnInsideRouter4",
       .out = udp({}),
       .back = back4,
       .port = "lan0",
       .error = {.from = "10.1.0.99", .code = 1},
       .where = "wan0",
       .line = "icmp 3/1 10.0.2.1 > 10.0.2.2 [udp 10.0.2.2:53 > 10.0.2.1:40000]"},
      {.name = "PortUnreachable6",
       .out = udp({.src = kClient6, .dst = kServer6}),
       .port = "wan0",
       .error = {.from = kServer6, .type = 1, .code = 4, .quote = 500},
       .where = "lan0",
       .line = "icmp 1/4 2001:db8:2::2 > 2001:db8:1::2 [udp 2001:db8:1::2.40000 > 2001:db8:2::2.53]"},
      {.name = "TooBig6",
       .out = tcp({.src = kClient6, .dst = kServer6, .payload = 1000}),
       .port = "wan0",
       .error = {.from = "2001:db8:9::9", .type = 2, .code = 0, .mtu = 1400, .quote = 500},
       .where = "lan0",
       .line = "icmp 2/0 2001:db8:9::9 > 2001:db8:1::2 [tcp 2001:db8:1::2.40000 > 2001:db8:2::2.80]"},
      {.name = "Ping6",
       .out = ping({.src = kClient6, .dst = kServer6}),
       .port = "wan0",
       .error = {.from = "2001:db8:9::9", .type = 3, .code = 0, .quote = 500},
       .where = "lan0",
       .line = "icmp 3/0 2001:db8:9::9 > 2001:db8:1::2 [icmp 128/0 id 77 2001:db8:1::2 > 2001:db8:2::2]"},
      {.name = "AboutTheAnswer6",
       .out = udp({.src = kClient6, .dst = kServer6}),
       .back = back6,
       .port = "lan0",
       .error = {.from = kClient6, .type = 1, .code = 4, .quote = 500},
       .where = "wan0",
       .line = "icmp 1/4 2001:db8:2::b1 > 2001:db8:2::2 [udp 2001:db8:2::2.53 > 2001:db8:2::b1.40000]"},
  };
}

INSTANTIATE_TEST_SUITE_P(Errors, NatError, testing::ValuesIn(errors()),
                         [](const auto& tested) { return tested.param.name; });

TEST_F(NatTest, ErrorsAboutNothingAreDropped) {
  start();
  const Packet never = udp({.src = "10.0.2.1", .sport = 12345});
  EXPECT_EQ(from("wan0", icmp_error(never, {.from = "10.0.2.2"})).where, "drop policy");
  EXPECT_EQ(from("wan0", icmp_error(never, {.from = "10.0.2.2", .quote = 20})).where, "drop policy")
      << "no ports quoted";
  EXPECT_EQ(from("wan0", icmp_error(never, {.from = "10.0.2.2", .quote = 0})).where, "drop policy");
  const Packet error = icmp_error(never, {.from = "10.0.2.2"});
  EXPECT_EQ(from("wan0", icmp_error(error, {.from = "10.0.2.9", .quote = 100})).where, "drop policy")
      << "an error about an error";
  EXPECT_TRUE(connections().empty());
}

// What the quoted header claims beyond the packet's own length must not be read, nor written.
TEST_F(NatTest, ErrorsThatAreCutAtAnyLength) {
  start();
  const Out out = from("lan0", tcp({.payload = 100}));
  for (std::size_t quote = 0; quote <= 80; quote++) {
    const Out error = from("wan0", icmp_error(out.packet, {.from = "10.9.9.9", .quote = quote}));
    EXPECT_EQ(error.where, quote < 28 ? "drop policy" : "lan0") << quote;
  }
}

}  // namespace
}  // namespace ctd::test
