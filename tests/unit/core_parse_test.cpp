// SPDX-License-Identifier: Apache-2.0
// The parser: fields, lies, truncation at every length, extension chains. Packets are also given in two parts, so that
// what is not linear at first is pulled and never read past.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include "core_packet.hpp"
#include "packet_check.hpp"

namespace ctd::test {
namespace {

struct Parsed {
  int reason;
  packet pkt;
};

Parsed parse(const Packet& p, std::uint32_t linear = kAllLinear) {
  NativePacket n = to_native(p, linear);
  Parsed out{};
  out.pkt.l2_len = p.ethernet ? 14 : 0;
  out.reason = native_parse(n.get(), &out.pkt);
  return out;
}

std::string src_of(const packet& p) { return address_text(p.tuple.src, p.tuple.family == CTD_IPV6); }
std::string dst_of(const packet& p) { return address_text(p.tuple.dst, p.tuple.family == CTD_IPV6); }

// What a row expects; flags without PACKET_L2_MULTICAST.
struct Row {
  const char* name;
  Packet in;
  int reason = CTD_DROP_NONE;
  unsigned flags = 0;
  unsigned proto = 0;
  unsigned sport = 0;
  unsigned dport = 0;  // ICMP: type * 256 + code
  unsigned frag = CTD_FRAG_NO;
  unsigned l4_off = 0;
};

class ParseRow : public testing::TestWithParam<Row> {};

TEST_P(ParseRow, Fields) {
  const Row& row = GetParam();
  for (std::uint32_t linear : {kAllLinear, 14u, 20u, 0u}) {
    SCOPED_TRACE(testing::Message() << "linear " << linear);
    auto [reason, pkt] = parse(row.in, linear);
    ASSERT_STREQ(drop_name(reason), drop_name(row.reason));
    if (reason) continue;
    EXPECT_EQ(pkt.flags & ~PACKET_L2_MULTICAST, row.flags);
    EXPECT_EQ(pkt.tuple.proto, row.proto);
    EXPECT_EQ(ntohs(pkt.tuple.sport), row.sport);
    EXPECT_EQ(ntohs(pkt.tuple.dport), row.dport);
    EXPECT_EQ(pkt.frag, row.frag);
    EXPECT_EQ(pkt.len, row.in.bytes.size());
    if (row.l4_off) {
      EXPECT_EQ(pkt.l4_off, row.l4_off);
    }
  }
}

constexpr unsigned kIp4 = PACKET_IP | PACKET_DF, kIp6 = PACKET_IP | PACKET_DF;
constexpr unsigned kOpt = PACKET_OPTIONS, kL4 = PACKET_L4, kBad = PACKET_UNTRACKABLE;

std::vector<Row> sound_rows() {
  return {
      {.name = "Tcp4",
       .in = frame().ipv4().tcp().build(),
       .flags = kIp4 | kL4,
       .proto = 6,
       .sport = 40000,
       .dport = 80,
       .l4_off = 34},
      {.name = "Udp4",
       .in = frame().ipv4().udp().payload(9).build(),
       .flags = kIp4 | kL4,
       .proto = 17,
       .sport = 40000,
       .dport = 53},
      {.name = "Udp4NoDf",
       .in = frame().ipv4({.df = false}).udp().build(),
       .flags = PACKET_IP | kL4,
       .proto = 17,
       .sport = 40000,
       .dport = 53},
      {.name = "Echo4",
       .in = frame().ipv4().icmp().payload(56).build(),
       .flags = kIp4 | kL4,
       .proto = 1,
       .sport = 77,
       .dport = 0x800},
      {.name = "Timestamp4",
       .in = frame().ipv4().icmp({.type = 13}).payload(12).build(),
       .flags = kIp4 | kL4,
       .proto = 1,
       .sport = 77,
       .dport = 0x0d00},
      {.name = "Unreachable4",
       .in = icmp_error(frame().ipv4().udp().build(), {.from = "10.0.2.2"}),
       .flags = kIp4 | kL4 | PACKET_ICMP_ERROR,
       .proto = 1,
       .dport = 0x301},
      {.name = "UnknownIcmp4",
       .in = frame().ipv4().icmp({.type = 9}).build(),
       .flags = kIp4 | kBad,
       .proto = 1,
       .dport = 0x900},
      {.name = "Gre4", .in = frame().ipv4({.proto = 47}).payload(20).build(), .flags = kIp4, .proto = 47},
      {.name = "Options4",
       .in = frame().ipv4({.option_words = 10}).tcp().build(),
       .flags = kIp4 | kL4 | kOpt,
       .proto = 6,
       .sport = 40000,
       .dport = 80,
       .l4_off = 74},
      {.name = "TcpOptions",
       .in = frame().ipv4().tcp({.option_words = 10}).build(),
       .flags = kIp4 | kL4,
       .proto = 6,
       .sport = 40000,
       .dport = 80},
      {.name = "FirstFragment4",
       .in = frame().ipv4({.df = false, .more = true}).tcp().payload(8).build(),
       .flags = PACKET_IP | kL4,
       .proto = 6,
       .sport = 40000,
       .dport = 80,
       .frag = CTD_FRAG_FIRST},
      {.name = "LaterFragment4",
       .in = frame().ipv4({.df = false, .fragment = 64, .proto = 6}).payload(40).build(),
       .flags = PACKET_IP,
       .proto = 6,
       .frag = CTD_FRAG_LATER},
      {.name = "LaterFragment4OneBit",
       .in = frame().ipv4({.df = false, .fragment = 8, .proto = 6}).payload(40).build(),
       .flags = PACKET_IP,
       .proto = 6,
       .frag = CTD_FRAG_LATER},
      {.name = "LaterFragment4HighBits",
       .in = frame().ipv4({.df = false, .fragment = 0x800 * 8, .proto = 6}).payload(40).build(),
       .flags = PACKET_IP,
       .proto = 6,
       .frag = CTD_FRAG_LATER},
      {.name = "EthernetPadding",
       .in = frame().ipv4({.total_len = 28}).udp({.length = 8}).payload(18).build(),
       .flags = kIp4 | kL4,
       .proto = 17,
       .sport = 40000,
       .dport = 53},
      {.name = "Vlan4",
       .in = frame().vlan(5).ipv4().tcp().build(),
       .flags = kIp4 | kL4,
       .proto = 6,
       .sport = 40000,
       .dport = 80,
       .l4_off = 38},
      {.name = "Tcp6",
       .in = frame().ipv6().tcp().build(),
       .flags = kIp6 | kL4,
       .proto = 6,
       .sport = 40000,
       .dport = 80,
       .l4_off = 54},
      {.name = "Udp6",
       .in = frame().ipv6().udp().payload(1).build(),
       .flags = kIp6 | kL4,
       .proto = 17,
       .sport = 40000,
       .dport = 53},
      {.name = "Echo6",
       .in = frame().ipv6().icmp({.type = 128}).build(),
       .flags = kIp6 | kL4,
       .proto = 58,
       .sport = 77,
       .dport = 0x8000},
      {.name = "TooBig6",
       .in = icmp_error(frame().ipv6().udp().build(), {.from = "2001:db8:2::b1", .type = 2, .code = 0, .quote = 48}),
       .flags = kIp6 | kL4 | PACKET_ICMP_ERROR,
       .proto = 58,
       .dport = 0x200},
      {.name = "NeighbourSolicitation",
       .in = frame().ipv6().icmp({.type = 135}).payload(16).build(),
       .flags = kIp6 | kBad,
       .proto = 58,
       .dport = 0x8700},
      {.name = "IcmpOverIpv6IsNoIcmpv6",
       .in = frame().ipv6({.proto = 1}).payload(8).build(),
       .flags = kIp6 | kBad,
       .proto = 1},
      {.name = "NoNextHeader", .in = frame().ipv6().build(), .flags = kIp6, .proto = 59},
  };
}

std::vector<Row> extension_rows() {
  auto chain = [](int n) {
    PacketBuilder b = frame().ipv6();
    for (int i = 0; i < n; i++) b.extension({.type = 60});
    return b.udp().build();
  };
  return {
      {.name = "HopByHop",
       .in = frame().ipv6().extension({.type = 0}).tcp().build(),
       .flags = kIp6 | kL4 | kOpt,
       .proto = 6,
       .sport = 40000,
       .dport = 80,
       .l4_off = 62},
      {.name = "Routing",
       .in = frame().ipv6().extension({.type = 43, .body = Bytes(22)}).tcp().build(),
       .flags = kIp6 | kL4 | kOpt,
       .proto = 6,
       .sport = 40000,
       .dport = 80,
       .l4_off = 78},
      {.name = "Authentication",
       .in = frame().ipv6().extension({.type = 51, .body = Bytes(18)}).udp().build(),
       .flags = kIp6 | kL4 | kOpt,
       .proto = 17,
       .sport = 40000,
       .dport = 53,
       .l4_off = 74},
      {.name = "AllFive",
       .in = frame()
                 .ipv6()
                 .extension({.type = 0})
                 .extension({.type = 60})
                 .extension({.type = 43})
                 .extension({.type = 44})
                 .extension({.type = 51, .body = Bytes(10)})
                 .udp()
                 .build(),
       .flags = kIp6 | kL4 | kOpt,
       .proto = 17,
       .sport = 40000,
       .dport = 53,
       .l4_off = 98},
      {.name = "SixOfSix", .in = chain(6), .flags = kIp6 | kL4 | kOpt, .proto = 17, .sport = 40000, .dport = 53},
      {.name = "SevenAreTooMany", .in = chain(7), .flags = kIp6 | kBad | kOpt, .proto = 60},
      {.name = "AtomicFragment",
       .in = frame().ipv6().extension({.type = 44}).udp().build(),
       .flags = kIp6 | kL4 | kOpt,
       .proto = 17,
       .sport = 40000,
       .dport = 53,
       .frag = CTD_FRAG_NO},
      {.name = "FirstFragment6",
       .in = frame().ipv6().extension({.type = 44, .body = {0, 1, 0, 0, 0, 9}}).udp().payload(8).build(),
       .flags = kIp6 | kL4 | kOpt,
       .proto = 17,
       .sport = 40000,
       .dport = 53,
       .frag = CTD_FRAG_FIRST},
      {.name = "LaterFragment6",
       .in = frame().ipv6().extension({.type = 44, .body = {0, 8, 0, 0, 0, 9}}).payload(16).build(),
       .flags = kIp6 | kOpt,
       .proto = 59,
       .frag = CTD_FRAG_LATER},
      {.name = "ExtensionLongerThanPacket",
       .in = frame().ipv6().extension({.type = 0, .length = 9}).udp().build(),
       .reason = CTD_DROP_BAD_HEADER},
      {.name = "ExtensionMissing", .in = frame().ipv6({.proto = 0}).build(), .reason = CTD_DROP_TRUNCATED},
  };
}

std::vector<Row> lying_rows() {
  return {
      {.name = "Version", .in = frame().ipv4({.version = 5}).tcp().build(), .reason = CTD_DROP_BAD_HEADER},
      {.name = "Version6In4", .in = frame().ipv4({.version = 6}).tcp().build(), .reason = CTD_DROP_BAD_HEADER},
      {.name = "Version6", .in = frame().ipv6({.version = 4}).tcp().build(), .reason = CTD_DROP_BAD_HEADER},
      {.name = "IhlShort", .in = frame().ipv4({.ihl = 4}).tcp().build(), .reason = CTD_DROP_BAD_HEADER},
      {.name = "IhlZero", .in = frame().ipv4({.ihl = 0}).tcp().build(), .reason = CTD_DROP_BAD_HEADER},
      {.name = "IhlBeyondLength", .in = frame().ipv4({.ihl = 15}).udp().build(), .reason = CTD_DROP_BAD_HEADER},
      {.name = "IhlEatsTcp", .in = frame().ipv4({.ihl = 10}).tcp().build(), .flags = kIp4 | kBad | kOpt, .proto = 6},
      {.name = "TotalBelowHeader", .in = frame().ipv4({.total_len = 19}).tcp().build(), .reason = CTD_DROP_BAD_HEADER},
      {.name = "TotalZeroWithoutGso",
       .in = frame().ipv4({.total_len = 0}).tcp().build(),
       .reason = CTD_DROP_BAD_HEADER},
      {.name = "TotalBeyondPacket", .in = frame().ipv4({.total_len = 60}).tcp().build(), .reason = CTD_DROP_TRUNCATED},
      {.name = "TotalCutsTcp", .in = frame().ipv4({.total_len = 39}).tcp().build(), .flags = kIp4 | kBad, .proto = 6},
      {.name = "PayloadBeyondPacket6",
       .in = frame().ipv6({.payload_len = 30}).tcp().build(),
       .reason = CTD_DROP_TRUNCATED},
      {.name = "PayloadCutsTcp6",
       .in = frame().ipv6({.payload_len = 19}).tcp().build(),
       .flags = kIp6 | kBad,
       .proto = 6},
      {.name = "TcpOffsetShort", .in = frame().ipv4().tcp({.doff = 4}).build(), .flags = kIp4 | kBad, .proto = 6},
      {.name = "TcpOffsetLong", .in = frame().ipv4().tcp({.doff = 6}).build(), .flags = kIp4 | kBad, .proto = 6},
      {.name = "UdpLengthShort", .in = frame().ipv4().udp({.length = 7}).build(), .flags = kIp4 | kBad, .proto = 17},
      {.name = "UdpLengthZero", .in = frame().ipv4().udp({.length = 0}).build(), .flags = kIp4 | kBad, .proto = 17},
      {.name = "UdpLengthLong", .in = frame().ipv4().udp({.length = 9}).build(), .flags = kIp4 | kBad, .proto = 17},
      {.name = "IcmpShort", .in = frame().ipv4({.proto = 1}).payload(7).build(), .flags = kIp4 | kBad, .proto = 1},
      {.name = "FirstFragmentCutsTcp",
       .in = frame().ipv4({.df = false, .more = true, .proto = 6}).payload(16).build(),
       .flags = PACKET_IP | kBad,
       .proto = 6,
       .frag = CTD_FRAG_FIRST},
  };
}

std::string row_name(const testing::TestParamInfo<Row>& info) { return info.param.name; }
INSTANTIATE_TEST_SUITE_P(Sound, ParseRow, testing::ValuesIn(sound_rows()), row_name);
INSTANTIATE_TEST_SUITE_P(Extensions, ParseRow, testing::ValuesIn(extension_rows()), row_name);
INSTANTIATE_TEST_SUITE_P(Lying, ParseRow, testing::ValuesIn(lying_rows()), row_name);

TEST(Parse, HeaderFields) {
  auto [reason, pkt] = parse(frame()
                                 .ipv4({.src = "192.0.2.1", .dst = "198.51.100.7", .ttl = 9, .tos = 0xb8})
                                 .tcp({.flags = kSyn | kAck, .seq = 0x01020304, .ack = 0x0a0b0c0d})
                                 .payload(5)
                                 .build());
  ASSERT_EQ(reason, CTD_DROP_NONE);
  EXPECT_EQ(src_of(pkt), "192.0.2.1");
  EXPECT_EQ(dst_of(pkt), "198.51.100.7");
  EXPECT_EQ(pkt.ttl, 9);
  EXPECT_EQ(pkt.tos, 0xb8);
  EXPECT_EQ(pkt.tcp_flags, kSyn | kAck);
  EXPECT_EQ(pkt.tcp_seq, 0x01020304u);
  EXPECT_EQ(pkt.tcp_ack, 0x0a0b0c0du);
  EXPECT_EQ(pkt.l3_len, 45u);
  EXPECT_EQ(ntohs(pkt.eth_type), 0x0800);
}

TEST(Parse, HeaderFields6) {
  auto [reason, pkt] = parse(
      frame().ipv6({.src = "2001:db8::1", .hop_limit = 3, .traffic_class = 0xb8, .label = 0xabcde}).udp().build());
  ASSERT_EQ(reason, CTD_DROP_NONE);
  EXPECT_EQ(src_of(pkt), "2001:db8::1");
  EXPECT_EQ(dst_of(pkt), "2001:db8:2::2");
  EXPECT_EQ(pkt.ttl, 3);
  EXPECT_EQ(pkt.tos, 0xb8);
  EXPECT_EQ(ntohl(pkt.ipv6_label), 0xabcdeu);
  EXPECT_EQ(pkt.l3_len, 48u);
}

TEST(Parse, AcceleratedAndInlineTagsAreTheSame) {
  auto [reason, inline_tag] = parse(frame().vlan(0x6005).ipv4().tcp().build());
  ASSERT_EQ(reason, CTD_DROP_NONE);
  NativePacket n = to_native(frame().ipv4().tcp().build());
  n->vlan_present = true;
  n->vlan_tci = 0x6005;
  n->vlan_tpid = htons(0x8100);
  packet accelerated{};
  accelerated.l2_len = 14;
  ASSERT_EQ(native_parse(n.get(), &accelerated), CTD_DROP_NONE);
  EXPECT_EQ(ntohs(inline_tag.vlan_tci), 0x7005);
  EXPECT_EQ(accelerated.vlan_tci, inline_tag.vlan_tci);
  EXPECT_EQ(accelerated.vlan_tpid, inline_tag.vlan_tpid);
  EXPECT_EQ(accelerated.eth_type, inline_tag.eth_type);
}

TEST(Parse, DevicesWithoutEthernet) {
  auto [reason, pkt] = parse(PacketBuilder().ipv6().tcp().build());
  ASSERT_EQ(reason, CTD_DROP_NONE);
  EXPECT_EQ(pkt.l3_off, 0);
  EXPECT_EQ(pkt.l4_off, 40);
  EXPECT_EQ(ntohs(pkt.tuple.dport), 80);
}

TEST(Parse, GsoMayBeLongerThanItsLengthFieldCanSay) {
  Packet p = frame().ipv4({.total_len = 0}).tcp({.flags = kAck}).payload(70000).gso(1448).build();
  auto [reason, pkt] = parse(p, 128);
  ASSERT_EQ(reason, CTD_DROP_NONE);
  EXPECT_EQ(pkt.l3_len, 70040u);
  EXPECT_EQ(pkt.flags, kIp4 | kL4);
}

// All usual headers are in the first 128 bytes; what lies behind them is looked at only where it is linear already.
TEST(Parse, HeadersBehindTheFirst128Bytes) {
  Packet p = frame().ipv6().extension({.type = 0, .body = Bytes(118)}).tcp().build();
  auto [reason, linear] = parse(p);
  ASSERT_EQ(reason, CTD_DROP_NONE);
  EXPECT_EQ(linear.flags, kIp6 | kL4 | kOpt);
  EXPECT_EQ(linear.l4_off, 174);
  auto [reason2, in_parts] = parse(p, 14);
  ASSERT_EQ(reason2, CTD_DROP_NONE);
  EXPECT_EQ(in_parts.flags, kIp6 | kBad | kOpt);
}

TEST(Parse, OtherProtocolsPassUnparsed) {
  Bytes arp(28, 1);
  auto [reason, pkt] =
      parse(PacketBuilder().eth("ff:ff:ff:ff:ff:ff", "02:00:00:00:00:09", 0x0806).payload(arp).build());
  ASSERT_EQ(reason, CTD_DROP_NONE);
  EXPECT_EQ(pkt.flags, PACKET_L2_MULTICAST);
  EXPECT_EQ(ntohs(pkt.eth_type), 0x0806);
  EXPECT_EQ(pkt.tuple.family, 0);
}

// A packet cut anywhere is dropped by name, or what is left of layer 4 is not trusted.
TEST(Parse, TruncatedAtEveryLength) {
  const Packet whole[] = {
      frame().ipv4({.option_words = 3}).tcp({.option_words = 2}).payload(4).build(),
      frame().vlan(7).ipv4().udp().payload(4).build(),
      frame().ipv4().icmp().build(),
      frame().ipv6().extension({.type = 0}).extension({.type = 43}).tcp().build(),
      icmp_error(frame().ipv6().tcp().build(), {.from = "2001:db8:2::b1", .type = 1, .code = 0, .quote = 60}),
  };
  for (const Packet& p : whole) {
    SCOPED_TRACE(line_of(p));
    ASSERT_EQ(parse(p).reason, CTD_DROP_NONE);
    for (std::size_t n = 0; n < p.bytes.size(); n++) {
      Packet cut = p;
      cut.bytes.resize(n);
      for (std::uint32_t linear : {kAllLinear, 0u})
        EXPECT_EQ(parse(cut, linear).reason, CTD_DROP_TRUNCATED) << n << " of " << p.bytes.size() << " bytes";
    }
  }
}

// As above, but the IP header says so too: sound up to layer 3, and layer 4 is untrackable until its header is whole.
TEST(Parse, ShortenedAtEveryLength) {
  struct {
    unsigned proto;
    std::size_t header;
  } const cases[] = {{IPPROTO_TCP, 20}, {IPPROTO_UDP, 8}, {IPPROTO_ICMP, 8}};
  for (auto [proto, header] : cases) {
    Bytes l4 = frame().ipv4().tcp().build().bytes;
    l4.erase(l4.begin(), l4.begin() + 34);
    if (proto == IPPROTO_ICMP) l4[0] = 8;
    for (std::size_t n = 0; n <= 20; n++) {
      Bytes part(l4.begin(), l4.begin() + static_cast<std::ptrdiff_t>(n));
      if (proto == IPPROTO_UDP && n >= 6) part[4] = 0, part[5] = static_cast<std::uint8_t>(n);
      auto [reason, pkt] = parse(frame().ipv4({.proto = static_cast<std::uint8_t>(proto)}).payload(part).build());
      ASSERT_EQ(reason, CTD_DROP_NONE);
      EXPECT_EQ(!!(pkt.flags & PACKET_UNTRACKABLE), n < header) << "protocol " << proto << ", " << n << " bytes";
      EXPECT_EQ(!!(pkt.flags & PACKET_L4), n >= header);
    }
  }
}

// The builder is trusted by all other tests: its packets are right by the independent check.
TEST(PacketBuilder, BuildsWhatTheCheckerAccepts) {
  const Packet built[] = {
      frame().ipv4().tcp().payload(1).build(),
      frame().ipv4({.option_words = 2}).udp().payload(33).build(),
      frame().ipv4().udp({.no_checksum = true}).build(),
      frame().ipv4().tcp().payload(3000).partial().gso(1448).build(),
      frame().ipv6().udp().payload(3).partial().build(),
      frame().ipv6().extension({.type = 60}).icmp({.type = 128}).payload(5).build(),
      frame().vlan(3).ipv6().tcp().build(),
      icmp_error(frame().ipv4().tcp().payload(7).build(), {.from = "10.0.2.2", .quote = 500}),
  };
  for (const Packet& p : built) {
    EXPECT_EQ(wrong_with(p), "") << line_of(p);
    Packet spoilt = p;
    spoilt.bytes.back() ^= 0x10;
    if (line_of(p).find(":53") == std::string::npos || p.bytes.back()) continue;
    EXPECT_NE(wrong_with(spoilt), "") << line_of(p);
  }
}

TEST(PacketBuilder, TheCheckerFindsOneWrongBit) {
  const Packet p = frame().ipv4().tcp().payload(10).build();
  for (std::size_t i = 14; i < p.bytes.size(); i++) {
    Packet spoilt = p;
    spoilt.bytes[i] ^= 1;
    EXPECT_NE(wrong_with(spoilt), "") << "byte " << i;
  }
}

}  // namespace
}  // namespace ctd::test
