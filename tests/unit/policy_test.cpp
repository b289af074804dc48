// SPDX-License-Identifier: Apache-2.0
#include "daemon/policy.hpp"

#include <algorithm>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "daemon/flow_format.hpp"
#include "daemon/translate.hpp"
#include "translate_packets.hpp"

namespace ctd {
namespace {

using test::arp_packet;
using test::ip_packet;
using test::Packet;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::StartsWith;

constexpr u32 lan0 = 1, wan0 = 2, lan1 = 3, dmz0 = 4;
constexpr u8 fresh = CTD_CS_TRK | CTD_CS_NEW, established = CTD_CS_TRK | CTD_CS_EST, reply = established | CTD_CS_RPL,
             related = CTD_CS_TRK | CTD_CS_REL, invalid = CTD_CS_TRK | CTD_CS_INV;

TEST(Policy, GatewayRulesAreReadable) {
  const std::vector<std::string> texts = gateway_rules({.inside = {"lan0"}, .outside = "wan0", .masquerade = true});
  EXPECT_THAT(
      texts, ElementsAre("cookie=0x1,table=0,priority=200,vlan_tci=0x1000/0x1000 actions=stack",
                         "cookie=0x1,table=0,priority=190,arp actions=stack",
                         "cookie=0x1,table=0,priority=180,dl_dst=01:00:00:00:00:00/01:00:00:00:00:00 actions=stack",
                         "cookie=0x1,table=0,priority=170,ip,nw_dst=224.0.0.0/3 actions=stack",
                         "cookie=0x1,table=0,priority=170,ipv6,ipv6_dst=ff00::/8 actions=stack",
                         "cookie=0x1,table=0,priority=160,ipv6,ipv6_dst=fe80::/10 actions=stack",
                         "cookie=0x1,table=0,priority=160,ipv6,ipv6_src=fe80::/10 actions=stack",
                         "cookie=0x1,table=0,priority=150,icmp6,icmp_type=135 actions=stack",
                         "cookie=0x1,table=0,priority=150,icmp6,icmp_type=136 actions=stack",
                         "cookie=0x1,table=0,priority=100,ip actions=ct(table=1,zone=0,nat)",
                         "cookie=0x1,table=0,priority=100,ipv6 actions=ct(table=1,zone=0,nat)",
                         "cookie=0x1,table=0,priority=0 actions=stack",
                         "cookie=0x1,table=1,priority=110,ip,ct_state=+est+trk,in_port=lan0 actions=route(table=4)",
                         "cookie=0x1,table=1,priority=110,ip,ct_state=-new+rel+trk,in_port=lan0 actions=route(table=4)",
                         "cookie=0x1,table=1,priority=100,ct_state=+est+trk actions=route",
                         "cookie=0x1,table=1,priority=100,ct_state=-new+rel+trk actions=route",
                         "cookie=0x1,table=1,priority=95,ct_state=+inv+trk,in_port=LOCAL actions=route",
                         "cookie=0x1,table=1,priority=90,ct_state=+inv+trk actions=drop",
                         "cookie=0x1,table=1,priority=80,ct_state=+new+trk actions=route(table=2)",
                         "cookie=0x1,table=2,priority=100,in_port=lan0 actions=goto_table:3",
                         "cookie=0x1,table=2,priority=100,in_port=LOCAL actions=goto_table:3",
                         "cookie=0x1,table=2,priority=95,ct_state=+rel+trk actions=ct(commit,zone=0,nat(null)),route",
                         "cookie=0x1,table=2,priority=90,out_port=LOCAL actions=ct(commit,zone=0,nat(null)),route",
                         "cookie=0x1,table=2,priority=0 actions=drop",
                         "cookie=0x1,table=3,priority=110,ip,in_port=LOCAL,out_port=wan0 "
                         "actions=ct(commit,zone=0,nat(src=masquerade)),route",
                         "cookie=0x1,table=3,priority=100,ip,out_port=wan0 "
                         "actions=ct(commit,table=4,zone=0,nat(src=masquerade))",
                         "cookie=0x1,table=3,priority=100,ipv6,out_port=wan0 actions=ct(commit,zone=0,nat(null)),route",
                         "cookie=0x1,table=3,priority=90,out_port=lan0 actions=ct(commit,zone=0,nat(null)),route",
                         "cookie=0x1,table=3,priority=90,out_port=LOCAL actions=ct(commit,zone=0,nat(null)),route",
                         "cookie=0x1,table=3,priority=80,in_port=LOCAL actions=ct(commit,zone=0,nat(null)),route",
                         "cookie=0x1,table=3,priority=0 actions=drop",
                         "cookie=0x1,table=4,priority=100,ip,ct_state=-snat+trk,out_port=wan0 actions=drop",
                         "cookie=0x1,table=4,priority=0 actions=route"));
}

TEST(Policy, TheDocumentedRulesAreTheRules) {
  std::ifstream file(CTD_SOURCE_DIR "/docs/rules.md");
  ASSERT_TRUE(file);
  std::vector<std::string> documented;
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("table=")) documented.push_back("cookie=0x1," + line);
  }
  EXPECT_EQ(documented, gateway_rules({.inside = {"lan0"}, .outside = "wan0", .masquerade = true}));
}

// A gateway with two inside ports and one that has no part in it.
class Gateway : public ::testing::Test {
 protected:
  explicit Gateway(bool v4 = true, bool v6 = false) {
    for (const auto& [number, name] : std::initializer_list<std::pair<u32, const char*>>{
             {lan0, "lan0"}, {wan0, "wan0"}, {lan1, "lan1"}, {dmz0, "dmz0"}})
      EXPECT_TRUE(ports.add(number, name));
    Config config;
    config.ports = {"lan0", "wan0", "lan1", "dmz0"};
    config.gateway = {.inside = {"lan0", "lan1"}, .outside = "wan0", .masquerade = v4, .masquerade6 = v6};
    Result<RuleSet> compiled = compile_policies(config, ports);
    EXPECT_TRUE(compiled) << compiled.error().message();
    if (compiled) rules = *compiled;
  }

  std::string verdict(const ctd_flow_key& key) {
    Result<Flow> flow = translate(rules, key, recirc, args);
    if (!flow) return "error: " + flow.error().message();
    return format_datapath_actions(flow->actions, args, nullptr);
  }

  u32 table(u8 number) { return recirc.id_of({.table = number}).value(); }

  // A packet after ct() or, with an output port, after route(table=2).
  std::string tracked(Packet packet, u8 state) {
    packet.recirc_id = table(1);
    packet.ct_state = state;
    return verdict(ip_packet(packet));
  }
  std::string opening(u32 from, u32 to, const char* dst = "192.0.2.80") {
    return verdict(
        ip_packet({.in_port = from,
                   .src = std::string_view(dst).find(':') == std::string_view::npos ? "10.1.0.2" : "2001:db8:1::2",
                   .dst = dst,
                   .recirc_id = table(2),
                   .ct_state = fresh,
                   .out_port = to}));
  }

  PortNames ports;
  RuleSet rules;
  RecircTable recirc;
  ArgsTable args = test::no_args();

  const std::string track = fmt::format("ct(zone=0,nat),recirc({:#x})", table(1));
  const std::string choose = fmt::format("route,recirc({:#x})", table(2));
  const std::string keep = "ct(commit,zone=0,nat(null)),route";
  const std::string masquerade = "ct(commit,zone=0,nat(src=masquerade)),route";
  const std::string masquerade_guarded = fmt::format("ct(commit,zone=0,nat(src=masquerade)),recirc({:#x})", table(4));
};

// What has a connection without a mapping, from before masquerade was configured or from another route.
TEST_F(Gateway, NothingLeavesUntranslated) {
  const auto leaving = [&](u32 out, u8 state) {
    return verdict(ip_packet({.in_port = lan0, .recirc_id = table(4), .ct_state = state, .out_port = out}));
  };
  EXPECT_EQ(leaving(wan0, established), "drop");
  EXPECT_EQ(leaving(wan0, related), "drop");
  EXPECT_EQ(leaving(wan0, fresh), "drop");
  EXPECT_EQ(leaving(wan0, established | CTD_CS_SNAT), "route");
  EXPECT_EQ(leaving(lan1, established), "route");
  EXPECT_EQ(leaving(CTD_PORT_LOCAL, established), "route");
  // All of them pass that table.
  const std::string guard = fmt::format("route,recirc({:#x})", table(4));
  EXPECT_EQ(tracked({.in_port = lan0}, established), guard);
  EXPECT_EQ(tracked({.in_port = lan1}, reply), guard);
  EXPECT_EQ(tracked({.in_port = lan0}, related), guard);
}

TEST_F(Gateway, TracksUnicastIp) {
  for (const u32 port : {lan0, wan0, dmz0, CTD_PORT_LOCAL}) {
    EXPECT_EQ(verdict(ip_packet({.in_port = port})), track);
    EXPECT_EQ(verdict(ip_packet({.in_port = port, .proto = IPPROTO_ICMP, .sport = 8, .dport = 0})), track);
    EXPECT_EQ(verdict(ip_packet({.in_port = port, .src = "2001:db8:1::2", .dst = "2001:db8::80"})), track);
    EXPECT_EQ(verdict(ip_packet({.in_port = port,
                                 .src = "2001:db8:1::2",
                                 .dst = "2001:db8::80",
                                 .proto = IPPROTO_ICMPV6,
                                 .sport = 128,
                                 .dport = 0})),
              track);
  }
}

TEST_F(Gateway, LeavesTheLinksOwnTrafficToTheHost) {
  ctd_flow_key lldp{};
  lldp.eth_type = htons(0x88cc);
  for (const u32 port : {lan0, wan0, dmz0, CTD_PORT_LOCAL}) {
    lldp.in_port = port;
    EXPECT_EQ(verdict(lldp), "stack");
    EXPECT_EQ(verdict(arp_packet(port)), "stack");
    // DHCP, IGMP and mDNS, with and without an Ethernet header
    for (const u8 mac : {u8{0xff}, u8{0x00}}) {
      EXPECT_EQ(verdict(ip_packet({.in_port = port,
                                   .src = "0.0.0.0",
                                   .dst = "255.255.255.255",
                                   .proto = IPPROTO_UDP,
                                   .sport = 68,
                                   .dport = 67,
                                   .dst_mac = mac})),
                "stack");
    }
    EXPECT_EQ(verdict(ip_packet({.in_port = port, .dst = "224.0.0.22", .proto = 2, .dst_mac = 0x00})), "stack");
    EXPECT_EQ(verdict(ip_packet({.in_port = port, .dst = "10.1.0.255", .proto = IPPROTO_UDP, .dst_mac = 0xff})),
              "stack");
    EXPECT_EQ(verdict(ip_packet(
                  {.in_port = port, .src = "2001:db8::1", .dst = "ff02::fb", .proto = IPPROTO_UDP, .dst_mac = 0x00})),
              "stack");
    // neighbour and router discovery, DHCPv6
    for (const u16 type : std::initializer_list<u16>{133, 134, 135, 136, 137, 143})
      EXPECT_EQ(verdict(ip_packet({.in_port = port,
                                   .src = "fe80::2",
                                   .dst = "fe80::1",
                                   .proto = IPPROTO_ICMPV6,
                                   .sport = type,
                                   .dport = 0})),
                "stack");
    for (const u16 type : std::initializer_list<u16>{135, 136})
      EXPECT_EQ(verdict(ip_packet({.in_port = port,
                                   .src = "2001:db8::2",
                                   .dst = "2001:db8::1",
                                   .proto = IPPROTO_ICMPV6,
                                   .sport = type,
                                   .dport = 0})),
                "stack");
    EXPECT_EQ(verdict(ip_packet({.in_port = port, .src = "2001:db8::1", .dst = "fe80::1"})), "stack");
    EXPECT_EQ(verdict(ip_packet({.in_port = port, .src = "fe80::1", .dst = "2001:db8::1"})), "stack");
    // the host's VLAN devices, whatever is in the frame
    EXPECT_EQ(verdict(ip_packet({.in_port = port, .vlan_tci = 0x1005})), "stack");
  }
}

TEST_F(Gateway, DecidesByTheStateOfTheConnection) {
  for (const u32 port : {wan0, dmz0, CTD_PORT_LOCAL}) {
    EXPECT_EQ(tracked({.in_port = port}, established), "route");
    EXPECT_EQ(tracked({.in_port = port}, reply), "route");
    EXPECT_EQ(tracked({.in_port = port}, related), "route");
    EXPECT_EQ(tracked({.in_port = port}, related | CTD_CS_RPL), "route");
  }
  for (const u32 port : {lan0, wan0, dmz0}) {
    EXPECT_EQ(tracked({.in_port = port}, invalid), "drop");
    EXPECT_EQ(tracked({.in_port = port}, fresh), choose);
    EXPECT_EQ(tracked({.in_port = port}, fresh | CTD_CS_REL), choose) << "a new connection is decided as one";
    EXPECT_EQ(tracked({.in_port = port}, 0), "drop") << "nothing passes untracked";
  }
  EXPECT_EQ(tracked({.in_port = CTD_PORT_LOCAL}, invalid), "route");
  EXPECT_EQ(tracked({.in_port = CTD_PORT_LOCAL}, fresh), choose);
}

TEST_F(Gateway, ConnectionsOpenFromTheInside) {
  EXPECT_EQ(opening(lan0, wan0), masquerade_guarded);
  EXPECT_EQ(opening(lan1, wan0), masquerade_guarded);
  EXPECT_EQ(opening(lan0, lan1), keep);
  EXPECT_EQ(opening(lan0, lan0), keep);
  EXPECT_EQ(opening(lan0, CTD_PORT_LOCAL), keep);
  EXPECT_EQ(opening(lan0, dmz0), "drop");
}

TEST_F(Gateway, FromElsewhereOnlyToTheHost) {
  for (const u32 from : {wan0, dmz0}) {
    for (const u32 to : {lan0, lan1, wan0, dmz0}) EXPECT_EQ(opening(from, to), "drop") << from << " to " << to;
    EXPECT_EQ(opening(from, CTD_PORT_LOCAL), keep);
    EXPECT_EQ(opening(from, CTD_PORT_LOCAL, "2001:db8::1"), keep);
  }
}

TEST_F(Gateway, TheHostOpensAnything) {
  EXPECT_EQ(opening(CTD_PORT_LOCAL, wan0), masquerade) << "it may have bound an inside address";
  EXPECT_EQ(opening(CTD_PORT_LOCAL, wan0, "2001:db8::80"), keep);
  EXPECT_EQ(opening(CTD_PORT_LOCAL, lan0), keep);
  EXPECT_EQ(opening(CTD_PORT_LOCAL, dmz0), keep);
}

TEST_F(Gateway, Ipv6IsForwardedAsItIs) { EXPECT_EQ(opening(lan0, wan0, "2001:db8::80"), keep); }

class Gateway6 : public Gateway {
 protected:
  Gateway6() : Gateway(false, true) {}
};

TEST_F(Gateway6, MasqueradesByFamily) {
  EXPECT_EQ(opening(lan0, wan0), keep);
  EXPECT_EQ(opening(lan0, wan0, "2001:db8::80"), masquerade_guarded);
  EXPECT_EQ(opening(lan0, lan1, "2001:db8::80"), keep);
}

TEST_F(Gateway, HasOneFastZone) {
  for (const u32 port : {lan0, wan0, lan1, dmz0, CTD_PORT_LOCAL}) {
    EXPECT_EQ(fast_zone(rules, port, CTD_IPV4), std::optional<u16>(0));
    EXPECT_EQ(fast_zone(rules, port, CTD_IPV6), std::optional<u16>(0));
  }
}

TEST_F(Gateway, EveryRuleHasItsCookie) {
  for (const RuleRef& entry : rules.all()) EXPECT_EQ(entry->rule.cookie, static_cast<u64>(PolicyCookie::gateway));
}

// Packets must not decide how many masks the datapath searches.
TEST_F(Gateway, MasksAreFew) {
  test::RandomPackets random(1);
  std::set<std::string> masks;
  std::string most_common;
  for (int i = 0; i < 20000; ++i) {
    ctd_flow_key key = random.next(random.one_in(2) ? 0 : table(static_cast<u8>(random.below(3))));
    for (ctd_addr* address : {&key.ip_src, &key.ip_dst}) {
      if (key.eth_type == htons(0x0800) && random.one_in(2))
        address->v4 = htonl(static_cast<u32>(random.below(~u32{0})));
    }
    const Result<Flow> flow = translate(rules, key, recirc, args);
    ASSERT_TRUE(flow) << flow.error().message();
    masks.insert(std::string(reinterpret_cast<const char*>(&flow->mask), sizeof(flow->mask)));
  }
  EXPECT_LE(masks.size(), 24u);
  RecordProperty("masks", static_cast<int>(masks.size()));
}

// An established packet's flow matches nothing that differs from packet to packet of a port.
TEST_F(Gateway, FlowsAreWide) {
  const auto flow = [&](const Packet& packet) {
    const Flow result = translate(rules, ip_packet(packet), recirc, args).value();
    return format_key(result.masked(test::words(ip_packet(packet))), result.mask, &ports);
  };
  EXPECT_EQ(flow({}),
            "recirc_id(0),in_port(lan0),eth(dst=00:00:00:00:00:00/01:00:00:00:00:00),eth_type(0x0800),"
            "ipv4(dst=192.0.0.0/224.0.0.0,frag=no)");
  EXPECT_EQ(
      flow({.recirc_id = table(1), .ct_state = established}),
      fmt::format("recirc_id({:#x}),in_port(lan0),ct_state(+est+trk),eth(),eth_type(0x0800),ipv4(frag=no)", table(1)));
}

TEST(Policy, OddPortNamesAreQuoted) {
  PortNames ports;
  ASSERT_TRUE(ports.add(1, "5"));
  ASSERT_TRUE(ports.add(2, "a,b"));
  Config config;
  config.ports = {"5", "a,b"};
  config.gateway = {.inside = {"5"}, .outside = "a,b"};
  const Result<RuleSet> rules = compile_policies(config, ports);
  ASSERT_TRUE(rules) << rules.error().message();
  const auto table = rules->table(2);
  EXPECT_EQ(table[0]->rule.match.value.key.in_port, 1u);
}

TEST(Policy, AnUnknownPortIsAnError) {
  Config config;
  config.gateway = {.inside = {"lan0"}, .outside = "wan0"};
  EXPECT_THAT(compile_policies(config, PortNames()).error().message(),
              StartsWith("policy \"gateway\": rule \"cookie=0x1,table=2,priority=100,in_port=lan0"));
}

}  // namespace
}  // namespace ctd
