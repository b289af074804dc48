// SPDX-License-Identifier: Apache-2.0
// Packets through the gateway: connections from the first packet on, and what must not pass. World::run() checks every
// packet that leaves.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core_world.hpp"
#include "packet_check.hpp"

namespace ctd::test {
namespace {

using testing::StartsWith;

Packet udp(std::string_view src, unsigned sport, std::string_view dst, unsigned dport, std::size_t payload = 10) {
  PacketBuilder b = frame();
  if (src.find(':') == src.npos)
    b.ipv4({.src = src, .dst = dst});
  else
    b.ipv6({.src = src, .dst = dst});
  return b.udp({.sport = static_cast<std::uint16_t>(sport), .dport = static_cast<std::uint16_t>(dport)})
      .payload(payload)
      .build();
}

TEST(CoreGateway, UdpOutAndBack) {
  World w;
  Out out = w.from(kLan, udp("10.1.0.2", 40000, "10.0.2.2", 53));
  EXPECT_EQ(out.where, "wan via 10.0.2.2");
  EXPECT_EQ(out.line, "udp 10.0.2.1:40000 > 10.0.2.2:53");
  EXPECT_EQ(out.packet.bytes.at(14 + 8), 63) << "TTL";
  EXPECT_EQ(w.status_of(w.only()), "CONFIRMED SRC_NAT");

  out = w.from(kWan, udp("10.0.2.2", 53, "10.0.2.1", 40000));
  EXPECT_EQ(out.where, "lan via 10.1.0.2");
  EXPECT_EQ(out.line, "udp 10.0.2.2:53 > 10.1.0.2:40000");
  const ctd_conn& c = w.only();
  EXPECT_EQ(w.status_of(c), "SEEN_REPLY CONFIRMED SRC_NAT");
  EXPECT_EQ(c.count[0].packets, 1u);
  EXPECT_EQ(c.count[0].bytes, 38u);
  EXPECT_EQ(c.count[1].packets, 1u);
  EXPECT_EQ(w.broken(), "");
}

TEST(CoreGateway, PingOutAndBack) {
  World w;
  Out out = w.from(kLan, frame().ipv4().icmp({.id = 77}).payload(56).build());
  EXPECT_EQ(out.line, "icmp 8/0 id 77 10.0.2.1 > 10.0.2.2");
  out = w.from(kLan, frame().ipv4({.src = "10.1.0.3"}).icmp({.id = 77}).payload(56).build());
  ASSERT_THAT(out.line, StartsWith("icmp 8/0 id "));
  EXPECT_EQ(out.line.find("id 77 "), std::string::npos) << "the identifier is taken";
  out = w.from(kWan,
               frame().ipv4({.src = "10.0.2.2", .dst = "10.0.2.1"}).icmp({.type = 0, .id = 77}).payload(56).build());
  EXPECT_EQ(out.where, "lan via 10.1.0.2");
  EXPECT_EQ(out.line, "icmp 0/0 id 77 10.0.2.2 > 10.1.0.2");
}

TEST(CoreGateway, Ipv6PassesUntranslatedAndStatefully) {
  World w;
  EXPECT_EQ(w.from(kWan, udp("2001:db8:2::2", 53, "2001:db8:1::2", 40000)).where, "drop policy");
  Out out = w.from(kLan, udp("2001:db8:1::2", 40000, "2001:db8:2::2", 53));
  EXPECT_EQ(out.where, "wan via 2001:db8:2::2");
  EXPECT_EQ(out.line, "udp 2001:db8:1::2.40000 > 2001:db8:2::2.53");
  out = w.from(kWan, udp("2001:db8:2::2", 53, "2001:db8:1::2", 40000));
  EXPECT_EQ(out.where, "lan via 2001:db8:1::2");
  EXPECT_EQ(w.status_of(w.only()), "SEEN_REPLY CONFIRMED");
}

TEST(CoreGateway, PortsAreKeptAndOnlyThenChanged) {
  World w;
  EXPECT_EQ(w.from(kLan, udp("10.1.0.2", 40000, "10.0.2.2", 53)).line, "udp 10.0.2.1:40000 > 10.0.2.2:53");
  EXPECT_EQ(w.from(kLan, udp("10.1.0.3", 40000, "10.0.2.3", 53)).line, "udp 10.0.2.1:40000 > 10.0.2.3:53")
      << "another destination: the same port is free";
  Out out = w.from(kLan, udp("10.1.0.3", 40000, "10.0.2.2", 53));
  ASSERT_EQ(out.where, "wan via 10.0.2.2");
  EXPECT_NE(out.line, "udp 10.0.2.1:40000 > 10.0.2.2:53");
  EXPECT_EQ(w.from(kLan, udp("10.1.0.3", 40000, "10.0.2.2", 53)).line, out.line) << "and it stays";
  out = w.from(kLan, udp("10.1.0.4", 500, "10.0.2.2", 500));
  EXPECT_EQ(out.line, "udp 10.0.2.1:500 > 10.0.2.2:500");
}

TEST(CoreGateway, TheHostsOwnPortsAreNotGivenAway) {
  World w;
  EXPECT_EQ(w.from_host(kWan, udp("10.0.2.1", 40000, "10.0.2.2", 53)).where, "on");
  Out out = w.from(kLan, udp("10.1.0.2", 40000, "10.0.2.2", 53));
  EXPECT_NE(out.line, "udp 10.0.2.1:40000 > 10.0.2.2:53");
  EXPECT_EQ(w.from(kWan, udp("10.0.2.2", 53, "10.0.2.1", 40000)).where, "stack") << "the host's answer is the host's";
}

TEST(CoreGateway, AFullRangeOfPortsIsAnError) {
  World w({.native = {.conn_capacity = 64, .unanswered_quota = 64}});
  ctd_nat_args few{
      .flags = CTD_NAT_SRC | CTD_NAT_ADDR | CTD_NAT_PORTS, .family = CTD_IPV4, .min_port = 6000, .max_port = 6003};
  few.min_addr = few.max_addr = address("10.0.2.1");
  w.nat_args.set(kNatMasquerade, few);
  for (unsigned i = 0; i < 4; i++)
    EXPECT_EQ(w.from(kLan, udp("10.1.0.2", 40000 + i, "10.0.2.2", 53)).where, "wan via 10.0.2.2") << i;
  EXPECT_EQ(w.from(kLan, udp("10.1.0.2", 50000, "10.0.2.2", 53)).where, "drop nat_exhausted");
  EXPECT_EQ(w.from(kLan, udp("10.1.0.2", 50000, "10.0.2.3", 53)).where, "wan via 10.0.2.3");
  EXPECT_EQ(w.broken(), "");
}

TEST(CoreGateway, MasqueradeNeedsAnAddress) {
  World w;
  w.port(kWan).addr4 = 0;
  EXPECT_EQ(w.from(kLan, udp("10.1.0.2", 40000, "10.0.2.2", 53)).where, "drop nat_no_address");
  EXPECT_EQ(w.broken(), "");
}

// Single packets: what comes in by a port, and where it goes.
struct Row {
  const char* name;
  std::uint32_t port;
  Packet in;
  const char* where;
  const char* line = nullptr;
};

class GatewayRow : public testing::TestWithParam<Row> {};

TEST_P(GatewayRow, Single) {
  const Row& row = GetParam();
  World w;
  w.check_output = wrong_with(row.in).empty();
  Out out = w.from(row.port, row.in);
  EXPECT_EQ(out.where, row.where);
  if (row.line) {
    EXPECT_EQ(out.line, row.line);
  }
  EXPECT_EQ(w.broken(), "");
}

std::vector<Row> rows() {
  Packet other_mac = udp("10.1.0.2", 1000, "10.0.2.2", 53);
  Packet arp = PacketBuilder().eth("ff:ff:ff:ff:ff:ff", "02:00:00:00:00:22", 0x0806).payload(28).build();
  Packet broadcast = PacketBuilder()
                         .eth("ff:ff:ff:ff:ff:ff")
                         .ipv4({.src = "0.0.0.0", .dst = "255.255.255.255"})
                         .udp({.sport = 68, .dport = 67})
                         .payload(240)
                         .build();
  auto from = [](std::string_view src) { return udp(src, 1000, "10.0.2.2", 53); };
  auto to = [](std::string_view dst) { return udp("10.1.0.2", 1000, dst, 53); };
  return {
      {"LanToInternet", kLan, to("192.0.2.7"), "wan via 10.0.2.254", "udp 10.0.2.1:1000 > 192.0.2.7:53"},
      {"LanToDmzIsPlain", kLan, to("10.3.0.9"), "dmz via 10.3.0.9", "udp 10.1.0.2:1000 > 10.3.0.9:53"},
      {"LanToHost", kLan, to("10.1.0.1"), "stack", "udp 10.1.0.2:1000 > 10.1.0.1:53"},
      {"LanToHostsOuterAddress", kLan, to("10.0.2.1"), "stack"},
      {"WanToHost", kWan, udp("10.0.2.2", 9, "10.0.2.1", 22), "stack"},
      {"WanToLan", kWan, udp("10.0.2.2", 9, "10.1.0.2", 22), "drop policy"},
      {"WanToWan", kWan, udp("10.0.2.2", 9, "192.0.2.1", 22), "drop policy"},
      {"Arp", kLan, arp, "stack"},
      {"FragmentOfADatagram", kLan, frame().ipv4({.df = false, .more = true}).udp().payload(24).build(),
       "drop fragment"},
      {"LaterFragment", kLan, frame().ipv4({.df = false, .fragment = 64, .proto = 17}).payload(24).build(),
       "drop fragment"},
      {"Untrackable", kLan, frame().ipv4().udp({.length = 3}).payload(24).build(), "drop policy"},
      {"Truncated", kLan, frame().ipv4({.total_len = 900}).udp().build(), "drop truncated"},
      {"AnswerWithoutQuestion", kWan, frame().ipv4({.src = "10.0.2.2", .dst = "10.0.2.1"}).icmp({.type = 0}).build(),
       "drop policy"},
      {"ErrorAboutNothing", kWan, icmp_error(udp("10.0.2.1", 1000, "10.0.2.2", 53), {.from = "10.0.2.2"}),
       "drop policy"},
      {"SourceLoopback", kLan, from("127.0.0.1"), "drop martian"},
      {"SourceZero", kLan, from("0.0.0.0"), "drop martian"},
      {"SourceLinkLocal", kLan, from("169.254.1.1"), "drop martian"},
      {"SourceMulticast", kLan, from("224.0.0.9"), "drop martian"},
      {"SourceClassE", kLan, from("240.0.0.1"), "drop martian"},
      {"ToMulticastByUnicastMac", kLan, to("224.0.0.9"), "drop martian"},
      {"ToBroadcastByUnicastMac", kLan, to("255.255.255.255"), "drop martian"},
      {"ToLinkLocal6", kLan, udp("2001:db8:1::2", 1, "fe80::1", 2), "drop martian"},
      {"SourceLinkLocal6", kLan, udp("fe80::2", 1, "2001:db8:2::2", 2), "drop martian"},
      {"SourceUnspecified6", kLan, udp("::", 1, "2001:db8:2::2", 2), "drop martian"},
      {"SourceLoopback6", kLan, udp("::1", 1, "2001:db8:2::2", 2), "drop martian"},
      {"LastHop", kLan, frame().ipv4({.ttl = 1}).udp().build(), "lan (drop ttl_exceeded)",
       "icmp 11/0 10.1.0.1 > 10.1.0.2 [udp 10.1.0.2:40000 > 10.0.2.2:53]"},
      {"LastHop6", kLan, frame().ipv6({.hop_limit = 1}).udp().build(), "lan (drop ttl_exceeded)",
       "icmp 3/0 2001:db8:1::1 > 2001:db8:1::2 [udp 2001:db8:1::2.40000 > 2001:db8:2::2.53]"},
      {"LastHopToTheHost", kLan, frame().ipv4({.dst = "10.1.0.1", .ttl = 1}).udp().build(), "stack"},
      {"TooBig", kLan, frame().ipv4().udp().payload(1473).build(), "lan (drop too_big)",
       "icmp 3/4 10.1.0.1 > 10.1.0.2 [udp 10.1.0.2:40000 > 10.0.2.2:53]"},
      {"TooBig6", kLan, frame().ipv6().udp().payload(1453).build(), "lan (drop too_big)",
       "icmp 2/0 2001:db8:1::1 > 2001:db8:1::2 [udp 2001:db8:1::2.40000 > 2001:db8:2::2.53]"},
      {"JustFits", kLan, frame().ipv4().udp().payload(1472).build(), "wan via 10.0.2.2"},
      {"WouldNeedFragments", kLan, frame().ipv4({.df = false}).udp().payload(1473).build(), "drop needs_fragmentation"},
      {"GsoFits", kLan, frame().ipv4().tcp({.option_words = 3}).payload(30000).partial().gso(1448).build(),
       "wan via 10.0.2.2"},
      {"GsoSegmentTooBig", kLan, frame().ipv4().tcp({.option_words = 3}).payload(30000).partial().gso(1449).build(),
       "lan (drop too_big)", "icmp 3/4 10.1.0.1 > 10.1.0.2 [tcp 10.1.0.2:40000 > 10.0.2.2:80]"},
      {"OtherProtocol", kLan, frame().ipv4({.proto = 47}).payload(30).build(), "wan via 10.0.2.2",
       "ip 47 10.0.2.1 > 10.0.2.2"},
      {"IpOptions", kLan, frame().ipv4({.option_words = 2}).udp().payload(3).build(), "wan via 10.0.2.2",
       "udp 10.0.2.1:40000 > 10.0.2.2:53"},
      {"UdpWithoutChecksum", kLan, frame().ipv4().udp({.no_checksum = true}).payload(3).build(), "wan via 10.0.2.2"},
  };
}
INSTANTIATE_TEST_SUITE_P(All, GatewayRow, testing::ValuesIn(rows()), [](const auto& row) { return row.param.name; });

TEST(CoreGateway, BroadcastGoesToTheStackOrNowhere) {
  World w;
  Match m;
  m.key.in_port = kLan;
  m.key.eth_type = __builtin_bswap16(0x0800);
  w.remove_flows();
  w.add_flow(m, {act_stack()});
  Packet dhcp = PacketBuilder()
                    .eth("ff:ff:ff:ff:ff:ff")
                    .ipv4({.src = "0.0.0.0", .dst = "255.255.255.255"})
                    .udp({.sport = 68, .dport = 67})
                    .payload(240)
                    .build();
  EXPECT_EQ(w.from(kLan, dhcp).where, "stack");
  EXPECT_EQ(w.from(kLan, udp("10.1.0.2", 1, "10.1.0.1", 2)).where, "stack");
  EXPECT_EQ(w.from(kLan, udp("10.1.0.2", 1, "10.0.2.2", 2)).where, "drop not_local") << "the stack would forward it";
}

TEST(CoreGateway, SomebodyElsesMacIsLeftAlone) {
  World w;
  NativePacket n = to_native(udp("10.1.0.2", 1000, "10.0.2.2", 53));
  n->ifindex = n->ingress_ifindex = kIfindexOf + kLan;
  EXPECT_EQ(w.run(std::move(n), NATIVE_INGRESS).where, "stack");
  EXPECT_EQ(w.connections().size(), 0u);
}

TEST(CoreGateway, WhatTheStackForwardsIsDropped) {
  World w;
  NativePacket n = to_native(udp("10.1.0.2", 1000, "10.0.2.2", 53));
  n->ifindex = kIfindexOf + kWan;
  n->ingress_ifindex = kIfindexOf + kLan;
  EXPECT_EQ(w.run(std::move(n), NATIVE_EGRESS).where, "drop stack_forward");
}

TEST(CoreGateway, OurOwnPacketsPassTheHooksOnce) {
  World w;
  Out out = w.from(kLan, udp("10.1.0.2", 1000, "10.0.2.2", 53));
  out.skb->ifindex = kIfindexOf + kWan;  // the redirect brings it to the other device's egress hook
  Out again = w.run(std::move(out.skb), NATIVE_EGRESS);
  EXPECT_EQ(again.where, "on");
  EXPECT_EQ(again.line, "udp 10.0.2.1:1000 > 10.0.2.2:53");
  EXPECT_EQ(w.only().count[0].packets, 1u);
}

TEST(CoreGateway, TheHostsInvalidPacketsPass) {
  World w;
  EXPECT_EQ(w.from_host(kWan, frame().ipv4({.src = "10.0.2.1"}).tcp({.flags = kRst}).build()).where, "on");
}

TEST(CoreGateway, UnknownDevice) {
  World w;
  NativePacket n = to_native(udp("10.1.0.2", 1000, "10.0.2.2", 53));
  n->ifindex = 65536 + kIfindexOf + kLan;  // the same low bits
  EXPECT_EQ(w.run(std::move(n), NATIVE_INGRESS).where, "drop unknown_port");
}

TEST(CoreGateway, RoutesThatRefuse) {
  struct {
    int result;
    const char* where;
    const char* line;
  } const cases[] = {
      {BPF_FIB_LKUP_RET_BLACKHOLE, "drop no_route", ""},
      {BPF_FIB_LKUP_RET_UNREACHABLE, "lan (drop no_route)",
       "icmp 3/0 10.1.0.1 > 10.1.0.2 [udp 10.1.0.2:1000 > 198.51.100.9:53]"},
      {BPF_FIB_LKUP_RET_PROHIBIT, "lan (drop no_route)",
       "icmp 3/13 10.1.0.1 > 10.1.0.2 [udp 10.1.0.2:1000 > 198.51.100.9:53]"},
      {BPF_FIB_LKUP_RET_FWD_DISABLED, "drop forwarding_off", ""},
  };
  for (const auto& c : cases) {
    World w;
    native_route r{.family = CTD_IPV4, .prefix = 24, .dst = address("198.51.100.0"), .result = c.result};
    native_route_add(&r);
    Out out = w.from(kLan, udp("10.1.0.2", 1000, "198.51.100.9", 53));
    EXPECT_EQ(out.where, c.where);
    EXPECT_EQ(out.line, c.line);
    EXPECT_EQ(w.connections().size(), 0u);
  }
}

TEST(CoreGateway, ReversePathFilter) {
  World w;
  w.port(kLan).flags |= CTD_PORT_RPF_STRICT;
  EXPECT_EQ(w.from(kLan, udp("10.0.2.9", 1, "10.0.2.2", 2)).where, "drop rpfilter");
  EXPECT_EQ(w.from(kLan, udp("10.1.0.9", 1, "10.0.2.2", 2)).where, "wan via 10.0.2.2");
  w.port(kLan).flags ^= CTD_PORT_RPF_STRICT | CTD_PORT_RPF_LOOSE;
  EXPECT_EQ(w.from(kLan, udp("10.0.2.9", 1, "10.0.2.2", 2)).where, "wan via 10.0.2.2");
}

// Strict filtering of what comes back: by the header as it came in, not as translated.
TEST(CoreGateway, ReversePathFilterLetsAnswersIn) {
  World w;
  w.port(kWan).flags |= CTD_PORT_RPF_STRICT;
  w.port(kLan).flags |= CTD_PORT_RPF_STRICT;
  w.from(kLan, udp("10.1.0.2", 1000, "192.0.2.7", 53));
  EXPECT_EQ(w.from(kWan, udp("192.0.2.7", 53, "10.0.2.1", 1000)).where, "lan via 10.1.0.2");
}

TEST(CoreGateway, ErrorsAreRateLimited) {
  World w;
  ctd_config.icmp_rate = 3;
  w.advance(2);
  std::string got;
  for (int i = 0; i < 5; i++) got += w.from(kLan, frame().ipv4({.ttl = 1}).udp().build()).where + "\n";
  EXPECT_EQ(got,
            "lan (drop ttl_exceeded)\nlan (drop ttl_exceeded)\nlan (drop ttl_exceeded)\ndrop ttl_exceeded\ndrop "
            "ttl_exceeded\n");
  EXPECT_EQ(w.counter(CTD_COUNT_ICMP_LIMITED), 2u);
}

TEST(CoreGateway, NoErrorAboutAnError) {
  World w;
  w.from(kLan, udp("10.1.0.2", 1000, "10.0.2.2", 53));
  Packet error = icmp_error(udp("10.0.2.1", 1000, "10.0.2.2", 53), {.from = "10.0.2.2"});
  error.bytes.at(14 + 8) = 1;  // its TTL
  std::uint32_t check = (error.bytes.at(24) << 8 | error.bytes.at(25)) + (63u << 8);
  check = (check & 0xffff) + (check >> 16);
  error.bytes.at(24) = static_cast<std::uint8_t>(check >> 8);
  error.bytes.at(25) = static_cast<std::uint8_t>(check);
  ASSERT_EQ(wrong_with(error), "");
  EXPECT_EQ(w.from(kWan, error).where, "drop ttl_exceeded");
}

// A stage that is missing, or a budget that is spent: nothing is forwarded past the rules, the host keeps its own.
TEST(FailPolicy, MissingStage) {
  for (u32 stage : {STAGE_LOOKUP, STAGE_CT, STAGE_ROUTE}) {
    World w;
    native_stage_missing(stage, true);
    EXPECT_EQ(w.from(kLan, udp("10.1.0.2", 1000, "10.0.2.2", 53)).where, "drop tail_call");
    EXPECT_EQ(w.from(kLan, udp("10.1.0.2", 1000, "10.1.0.1", 53)).where, "stack (drop tail_call)");
    EXPECT_EQ(w.from_host(kWan, udp("10.0.2.1", 1000, "10.0.2.2", 53)).where, "on (drop tail_call)");
  }
}

TEST(FailPolicy, EndlessRecirculation) {
  World w;
  w.remove_flows();
  Match m;
  m.key.in_port = kLan;
  m.key.eth_type = __builtin_bswap16(0x0800);
  for (u32 id = 0; id < 2; id++) {
    m.key.recirc_id = id;
    w.add_flow(m, {act_recirc(1)});
  }
  EXPECT_EQ(w.from(kLan, udp("10.1.0.2", 1000, "10.0.2.2", 53)).where, "drop recirc_limit");
}

TEST(FailPolicy, EightRecirculationsWithCommitsFit) {
  World w;
  w.remove_flows();
  Match m;
  m.key.in_port = kLan;
  m.key.eth_type = __builtin_bswap16(0x0800);
  for (u32 id = 0; id < 8; id++) {
    m.key.recirc_id = id;
    w.add_flow(m, {act_ct({.recirc = id + 1, .flags = CTD_CTF_COMMIT, .zone = static_cast<u16>(id + 1)})});
  }
  m.key.recirc_id = 8;
  w.add_flow(m, {act_route()});
  EXPECT_EQ(w.from(kLan, udp("10.1.0.2", 1000, "10.0.2.2", 53)).where, "wan via 10.0.2.2");
  EXPECT_EQ(w.connections().size(), 8u) << "a connection in each zone";
  EXPECT_LE(native_tail_calls(), static_cast<u32>(NATIVE_TAIL_CALLS));
  EXPECT_EQ(w.broken(), "");
}

TEST(Actions, Single) {
  struct {
    ctd_action action;
    const char* where;
  } const cases[] = {
      {act_output(kWan), "wan"},
      {act_output(99), "drop unknown_port"},
      {act_drop(), "drop policy"},
      {act_output(CTD_PORT_LOCAL), "drop not_local"},
      {{.type = CTD_ACT_SAMPLE}, "drop unsupported_action"},
      {{.type = 999}, "drop unsupported_action"},
      {act_ct_clear(), "drop policy"},
  };
  for (const auto& c : cases) {
    World w;
    w.remove_flows();
    Match m;
    m.key.in_port = kLan;
    m.key.eth_type = __builtin_bswap16(0x0800);
    w.add_flow(m, {c.action});
    EXPECT_EQ(w.from(kLan, udp("10.1.0.2", 1000, "10.0.2.2", 53)).where, c.where) << c.action.type;
  }
}

}  // namespace
}  // namespace ctd::test
