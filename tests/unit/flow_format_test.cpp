// SPDX-License-Identifier: Apache-2.0
#include "daemon/flow_format.hpp"

#include <cstring>
#include <string>

#include <gtest/gtest.h>

#include "translate_packets.hpp"

namespace ctd {
namespace {

using test::ip_packet;
using test::words;

class FlowFormat : public ::testing::Test {
 protected:
  FlowFormat() {
    EXPECT_TRUE(ports.add(1, "lan0"));
    EXPECT_TRUE(ports.add(2, "wan0"));
    mask.key.in_port = mask.key.recirc_id = ~0u;
    mask.key.eth_type = 0xffff;
    mask.key.vlan_tci = htons(0x1000);
    mask.key.packet_type = 0xff;
  }

  std::string key_text(const ctd_flow_key& key) { return format_key(words(key), mask, nullptr); }

  std::string actions_of(const char* text) {
    RuleSet rules;
    Result<Rule> rule = parse_rule(std::string("actions=") + text, ports);
    EXPECT_TRUE(rule) << rule.error().message();
    rules.add(*rule);
    return format_datapath_actions(translate(rules, ip_packet({}), recirc, args).value().actions, args, nullptr);
  }

  PortNames ports;
  RecircTable recirc;
  ArgsTable args = test::no_args();
  ctd_key_words mask{};
};

TEST_F(FlowFormat, WholeFlow) {
  mask.key.frag = 0xff;
  mask.key.ct_state = CTD_CS_TRK | CTD_CS_EST | CTD_CS_NEW;
  mask.key.ip_dst.v4 = htonl(0xff000000);
  mask.key.eth_dst[0] = 0x01;
  const ctd_flow_key key =
      ip_packet({.in_port = 1, .dst = "10.0.0.0", .recirc_id = 0x1a, .ct_state = 0x22, .dst_mac = 0});
  ctd_key_words masked = words(key);
  masked.key.eth_dst[5] = 0;
  ctd_action route{.type = CTD_ACT_ROUTE};
  EXPECT_EQ(
      format_flow(masked, mask, {&route, 1}, {.packets = 5, .bytes = 412, .used_ms = 120, .tcp_flags = 0x1a}, args),
      "recirc_id(0x1a),in_port(1),ct_state(-new+est+trk),eth(dst=00:00:00:00:00:00/01:00:00:00:00:00),"
      "eth_type(0x0800),ipv4(dst=10.0.0.0/255.0.0.0,frag=no), packets:5, bytes:412, used:0.120s, flags:SP., "
      "actions:route");
  EXPECT_EQ(format_flow(masked, mask, {}, {.used_ms = 61005}, args, &ports),
            "recirc_id(0x1a),in_port(lan0),ct_state(-new+est+trk),eth(dst=00:00:00:00:00:00/01:00:00:00:00:00),"
            "eth_type(0x0800),ipv4(dst=10.0.0.0/255.0.0.0,frag=no), packets:0, bytes:0, used:61.005s, actions:drop");
  EXPECT_NE(format_flow(masked, mask, {}, {}, args).find(" used:never, "), std::string::npos);
}

TEST_F(FlowFormat, TransportByProtocol) {
  mask.key.ip_proto = 0xff;
  mask.key.sport = htons(0xfc00);
  mask.key.dport = 0xffff;
  mask.key.tcp_flags = htons(0x12);
  EXPECT_EQ(key_text(ip_packet({.sport = 1024, .dport = 80})),
            "recirc_id(0),in_port(1),eth(),eth_type(0x0800),ipv4(proto=6),tcp(src=1024/0xfc00,dst=80),"
            "tcp_flags(-syn+ack)");
  mask.key.tcp_flags = 0;
  mask.key.sport = 0xffff;
  EXPECT_EQ(key_text(ip_packet({.proto = IPPROTO_ICMP, .sport = 8, .dport = 0})),
            "recirc_id(0),in_port(1),eth(),eth_type(0x0800),ipv4(proto=1),icmp(type=8,code=0)");
  mask.key.frag = 0xff;
  mask.key.ip_ttl = 0xff;
  mask.key.ip_tos = 0xfc;
  EXPECT_EQ(
      key_text(ip_packet({.src = "fe80::1", .dst = "fe80::2", .proto = IPPROTO_ICMPV6, .sport = 135, .dport = 0})),
      "recirc_id(0),in_port(1),eth(),eth_type(0x86dd),ipv6(proto=58,tclass=0/0xfc,hlimit=64,frag=no),"
      "icmpv6(type=135,code=0)");
}

TEST_F(FlowFormat, Ipv6AddressesAndMarks) {
  std::memset(mask.key.ip_src.b, 0xff, 16);
  mask.key.ip_dst.b[0] = 0xff;
  mask.key.pkt_mark = 0xf0;
  mask.key.ct_mark = ~0u;
  mask.key.ct_zone = 0xffff;
  mask.key.ct_label[0] = 0x0f;
  mask.key.out_port = ~0u;
  ctd_flow_key key = ip_packet({.src = "2001:db8::1", .dst = "ff00::", .out_port = CTD_PORT_LOCAL});
  key.pkt_mark = 0x10;
  key.ct_mark = 7;
  key.ct_zone = 9;
  key.ct_label[0] = 2;
  EXPECT_EQ(format_key(words(key), mask, &ports),
            "recirc_id(0),in_port(lan0),out_port(LOCAL),skb_mark(0x10/0xf0),ct_zone(9),ct_mark(0x7),ct_label(0x2/0xf),"
            "eth(),eth_type(0x86dd),ipv6(src=2001:db8::1,dst=ff00::/ff00::)");
}

TEST_F(FlowFormat, TagsWrapTheirPayload) {
  mask.key.frag = 0xff;
  EXPECT_EQ(key_text(ip_packet({.vlan_tci = 0x3005})),
            "recirc_id(0),in_port(1),eth(),eth_type(0x8100),vlan(),encap(eth_type(0x0800),ipv4(frag=no))");
  mask.key.vlan_tci = 0xffff;
  EXPECT_EQ(key_text(ip_packet({.vlan_tci = 0x3005})),
            "recirc_id(0),in_port(1),eth(),eth_type(0x8100),vlan(vid=5,pcp=1),encap(eth_type(0x0800),ipv4(frag=no))");
  EXPECT_EQ(key_text(ip_packet({})), "recirc_id(0),in_port(1),eth(),eth_type(0x0800),ipv4(frag=no)");
}

TEST_F(FlowFormat, ArpAndDevicesWithoutEthernet) {
  mask.key.ip_dst.v4 = ~0u;
  mask.key.ip_proto = 0xff;
  EXPECT_EQ(key_text(test::arp_packet(2)), "recirc_id(0),in_port(2),eth(),eth_type(0x0806),arp(tip=10.1.0.1,op=1)");
  ctd_flow_key key = ip_packet({.dst = "10.1.0.1"});
  key.packet_type = CTD_PT_L3;
  EXPECT_EQ(key_text(key),
            "recirc_id(0),in_port(1),packet_type(ns=1,id=0x800),eth_type(0x0800),ipv4(dst=10.1.0.1,proto=6)");
}

TEST_F(FlowFormat, Actions) {
  EXPECT_EQ(actions_of("drop"), "drop");
  EXPECT_EQ(actions_of("output:2"), "2");
  EXPECT_EQ(actions_of("LOCAL"), "65534");
  EXPECT_EQ(actions_of("stack"), "stack");
  EXPECT_EQ(actions_of("ct_clear,route"), "ct_clear,route");
  EXPECT_EQ(actions_of("ct(table=1,nat)"), "ct(zone=0,nat),recirc(0x1)");
  EXPECT_EQ(actions_of("route(table=1)"), "route,recirc(0x1)");
  EXPECT_EQ(actions_of("route(table=2)"), "route,recirc(0x2)");
  EXPECT_EQ(actions_of("ct(commit,zone=5,nat(src=10.0.0.1-10.0.0.9:1-99)),route"),
            "ct(commit,zone=5,nat(src=10.0.0.1-10.0.0.9:1-99)),route");
  EXPECT_EQ(actions_of("ct(commit,force,exec(set_field:1->ct_mark,set_field:0x2/0xf->ct_label))"),
            "ct(force_commit,zone=0,mark=0x1/0xffffffff,label=0x2/0xf)");
  EXPECT_EQ(actions_of("ct(commit,zone=ct_mark[0..15])"), "ct(commit,zone=NXM_NX_CT_MARK[0..15])");
  EXPECT_EQ(actions_of("ct(table=1),output:2,stack"), "clone(ct(zone=0),recirc(0x1)),clone(2),stack");
}

TEST_F(FlowFormat, UnknownThingsAreShownAsNumbersOrNames) {
  ctd_action ct{.type = CTD_ACT_CT, .flags = CTD_CTF_COMMIT | CTD_CTF_NAT | CTD_CTF_LABEL};
  ct.ct.nat_id = 7;
  ct.ct.label_id = 8;
  ct.ct.helper = 2;
  ct.ct.timeout_policy = 9;
  const ctd_action list[] = {ct, {.type = CTD_ACT_POP_VLAN}, {.type = 999}, {.type = CTD_ACT_CLONE, .arg = 100}};
  EXPECT_EQ(format_datapath_actions(list, args, &ports),
            "ct(commit,zone=0,label=id=8,helper=2,timeout=id=9,nat(id=7)),pop_vlan,unknown,clone()");
}

}  // namespace
}  // namespace ctd
