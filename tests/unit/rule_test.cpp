// SPDX-License-Identifier: Apache-2.0
#include "daemon/rule.hpp"

#include <algorithm>
#include <random>
#include <string>

#include <arpa/inet.h>
#include <ctd/abi/ct.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace ctd {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

PortNames test_ports() {
  PortNames ports;
  for (const auto& [number, name] :
       std::initializer_list<std::pair<u32, const char*>>{{1, "lan0"}, {2, "wan0"}, {3, "7"}, {4, "a,b\"c(d"}})
    EXPECT_TRUE(ports.add(number, name));
  return ports;
}

const PortNames ports = test_ports();
const PolicyNames policies{{"quick", u16{1}}, {"slow", u16{2}}};

Rule rule_of(std::string_view text) {
  Result<Rule> rule = parse_rule(text, ports, policies);
  EXPECT_TRUE(rule) << rule.error().message();
  return rule ? *rule : Rule{};
}

std::string error_of(std::string_view text) {
  const Result<Rule> rule = parse_rule(text, ports, policies);
  if (rule) return "no error: " + format_rule(*rule, ports);
  const std::string before = "rule \"" + std::string(text) + "\": ";
  EXPECT_EQ(rule.error().message().substr(0, before.size()), before);
  return rule.error().message().substr(before.size());
}

// --- ports

TEST(PortNames, NumbersAndNamesOnce) {
  PortNames names;
  EXPECT_TRUE(names.add(1, "a"));
  EXPECT_EQ(names.add(1, "b").error().message(), "port 1 is \"a\" already");
  EXPECT_EQ(names.add(2, "a").error().message(), "port 2: port 1 is \"a\" already");
  EXPECT_EQ(names.add(0, "c").error().message(), "port 0: numbers are 1 to 255");
  EXPECT_EQ(names.add(256, "c").error().message(), "port 256: numbers are 1 to 255");
}

TEST(PortNames, WhatCouldBeSomethingElseIsQuoted) {
  EXPECT_EQ(ports.text(1), "lan0");
  EXPECT_EQ(ports.text(3), "\"7\"");
  EXPECT_EQ(ports.text(4), "\"a,b\\\"c(d\"");
  EXPECT_EQ(ports.text(9), "9");
  EXPECT_EQ(ports.text(CTD_PORT_LOCAL), "LOCAL");
  for (const u32 number : {1u, 3u, 4u, 9u, CTD_PORT_LOCAL}) EXPECT_EQ(ports.parse(ports.text(number)).value(), number);
  EXPECT_EQ(ports.parse("7").value(), 7u) << "a bare number is a number";
}

// --- what a text means

TEST(Rule, FieldsStandInTheKey) {
  const Rule rule = rule_of(
      "table=3,priority=7,cookie=0x1234,tcp,in_port=lan0,out_port=LOCAL,nw_src=10.1.2.3/8,nw_dst=192.0.2.1,"
      "tp_dst=80,dl_dst=02:00:00:00:00:01,ct_state=+trk-new,ct_zone=5,ct_mark=0x10/0xf0,pkt_mark=9,actions=drop");
  EXPECT_EQ(rule.table, 3);
  EXPECT_EQ(rule.priority, 7);
  EXPECT_EQ(rule.cookie, 0x1234u);
  EXPECT_TRUE(rule.actions.empty());
  const ctd_flow_key& value = rule.match.value.key;
  const ctd_flow_key& mask = rule.match.mask.key;
  EXPECT_EQ(value.eth_type, htons(0x0800));
  EXPECT_EQ(mask.eth_type, 0xffff);
  EXPECT_EQ(value.ip_proto, 6);
  EXPECT_EQ(value.in_port, 1u);
  EXPECT_EQ(value.out_port, CTD_PORT_LOCAL);
  EXPECT_EQ(value.ip_src.v4, inet_addr("10.0.0.0")) << "no bits outside of the mask";
  EXPECT_EQ(mask.ip_src.v4, inet_addr("255.0.0.0"));
  EXPECT_EQ(mask.ip_src.w[1], 0u);
  EXPECT_EQ(value.ip_dst.v4, inet_addr("192.0.2.1"));
  EXPECT_EQ(value.dport, htons(80));
  EXPECT_EQ(mask.dport, 0xffff);
  EXPECT_EQ(mask.sport, 0);
  EXPECT_EQ(value.eth_dst[0], 2);
  EXPECT_EQ(value.eth_dst[5], 1);
  EXPECT_EQ(value.ct_state, CTD_CS_TRK);
  EXPECT_EQ(mask.ct_state, CTD_CS_TRK | CTD_CS_NEW);
  EXPECT_EQ(value.ct_zone, 5);
  EXPECT_EQ(value.ct_mark, 0x10u);
  EXPECT_EQ(mask.ct_mark, 0xf0u);
  EXPECT_EQ(value.pkt_mark, 9u);
}

TEST(Rule, DefaultsAreThoseOfOpenFlow) {
  const Rule rule = rule_of("actions=stack");
  EXPECT_EQ(rule.table, 0);
  EXPECT_EQ(rule.priority, 32768);
  EXPECT_EQ(rule.cookie, 0u);
  EXPECT_EQ(rule.match, Match{});
}

TEST(Rule, IcmpTypeStandsInThePorts) {
  const Rule rule = rule_of("icmp6,icmp_type=135,icmp_code=0 actions=stack");
  EXPECT_EQ(rule.match.value.key.sport, htons(135));
  EXPECT_EQ(rule.match.mask.key.sport, 0xffff);
  EXPECT_EQ(rule.match.mask.key.dport, 0xffff);
  EXPECT_EQ(rule, rule_of("icmp6,icmpv6_type=135,icmpv6_code=0 actions=stack"));
}

// As the kernel counts the bits of labels, and as a dump of connections shows them.
TEST(Rule, LabelsHaveTheLeastSignificantByteFirst) {
  const Rule rule = rule_of("ct_label=0x102/0xffff actions=drop");
  EXPECT_EQ(rule.match.value.key.ct_label[1], 1);
  EXPECT_EQ(rule.match.value.key.ct_label[0], 2);
  EXPECT_EQ(rule.match.mask.key.ct_label[2], 0);
}

TEST(Rule, DropIsTheEmptyList) { EXPECT_TRUE(rule_of("actions=drop").actions.empty()); }

TEST(Rule, CtArguments) {
  const Rule rule = rule_of(
      "ip actions=ct(commit,force,table=4,zone=9,nat(src=192.0.2.1-192.0.2.9:1024-2047,random),"
      "exec(set_field:0x1/0x3->ct_mark,set_field:0x7->ct_label))");
  ASSERT_EQ(rule.actions.size(), 1u);
  const auto& ct = std::get<action::Ct>(rule.actions[0]);
  EXPECT_TRUE(ct.commit && ct.force && ct.nat);
  EXPECT_EQ(ct.table, std::optional<u8>(4));
  EXPECT_EQ(ct.zone, 9);
  ASSERT_TRUE(ct.mapping && ct.mark && ct.label);
  EXPECT_EQ(ct.mapping->args.flags, CTD_NAT_SRC | CTD_NAT_ADDR | CTD_NAT_PORTS | CTD_NAT_RANDOM);
  EXPECT_EQ(ct.mapping->args.family, CTD_IPV4);
  EXPECT_EQ(ct.mapping->args.min_addr.v4, inet_addr("192.0.2.1"));
  EXPECT_EQ(ct.mapping->args.max_addr.v4, inet_addr("192.0.2.9"));
  EXPECT_EQ(ct.mapping->args.min_port, 1024);
  EXPECT_EQ(ct.mapping->args.max_port, 2047);
  EXPECT_EQ(ct.mark->value, 1u);
  EXPECT_EQ(ct.mark->mask, 3u);
  EXPECT_EQ(ct.label->args.value[0], 7);
  EXPECT_EQ(ct.label->args.mask[15], 0xff);
}

action::Ct ct_of(const std::string& arguments) {
  return std::get<action::Ct>(rule_of("actions=ct(" + arguments + ")").actions.at(0));
}

TEST(Rule, ZoneFromAField) {
  const auto offset = [](const std::string& zone) {
    const action::Ct ct = ct_of("zone=" + zone);
    EXPECT_TRUE(ct.zone_field) << zone;
    return ct.zone;
  };
  EXPECT_EQ(offset("NXM_NX_CT_ZONE[]"), offsetof(ctd_flow_key, ct_zone));
  EXPECT_EQ(offset("NXM_NX_CT_MARK[0..15]"), offsetof(ctd_flow_key, ct_mark));
  EXPECT_EQ(offset("ct_mark[16..31]"), offsetof(ctd_flow_key, ct_mark) + 2);
  EXPECT_EQ(offset("NXM_NX_CT_LABEL[112..127]"), offsetof(ctd_flow_key, ct_label) + 14);
  EXPECT_EQ(offset("NXM_OF_IN_PORT[]"), offsetof(ctd_flow_key, in_port));
  EXPECT_FALSE(ct_of("zone=7").zone_field);
}

TEST(Rule, ExecSettingsAddUp) {
  const action::Ct ct = ct_of(
      "commit,exec(set_field:0x1/0xf->ct_mark,load:0xab->NXM_NX_CT_MARK[8..15],load:1->NXM_NX_CT_LABEL[64..127],"
      "load:1->ct_label[3])");
  EXPECT_EQ(ct.mark->value, 0xab01u);
  EXPECT_EQ(ct.mark->mask, 0xff0fu);
  EXPECT_EQ(ct.label->args.value[8], 1);
  EXPECT_EQ(ct.label->args.mask[15], 0xff);
  EXPECT_EQ(ct.label->args.value[0], 8);
  EXPECT_EQ(ct.label->args.mask[0], 8);
  EXPECT_EQ(ct_of("commit,exec(load:5->NXM_NX_CT_MARK[])").mark, (MarkSetting{5, ~u32{0}}));
}

TEST(Rule, LaterSettingsWin) {
  EXPECT_EQ(ct_of("commit,exec(set_field:0xff->ct_mark,set_field:0/0xf->ct_mark)").mark, (MarkSetting{0xf0, ~u32{0}}));
}

TEST(Rule, TheOriginalTupleStandsInItsOwnFields) {
  const Rule rule = rule_of(
      "ip,ct_state=+trk+est,ct_nw_src=10.1.0.0/16,ct_nw_dst=10.0.2.2,ct_nw_proto=6,ct_tp_src=0x400/0xfc00,ct_tp_dst=80 "
      "actions=drop");
  EXPECT_EQ(rule.match.value.key.ct_orig_src.v4, inet_addr("10.1.0.0"));
  EXPECT_EQ(rule.match.mask.key.ct_orig_src.v4, inet_addr("255.255.0.0"));
  EXPECT_EQ(rule.match.value.key.ct_orig_dst.v4, inet_addr("10.0.2.2"));
  EXPECT_EQ(rule.match.value.key.ct_orig_proto, 6);
  EXPECT_EQ(rule.match.mask.key.ct_orig_sport, htons(0xfc00));
  EXPECT_EQ(rule.match.value.key.ct_orig_dport, htons(80));
}

TEST(Rule, MasqueradeAndNullNat) {
  const auto args = [](const char* nat) {
    const Rule rule = rule_of(std::string("ip actions=ct(commit,nat(") + nat + ")),route");
    return std::get<action::Ct>(rule.actions.at(0)).mapping->args;
  };
  EXPECT_EQ(args("src=masquerade").flags, CTD_NAT_SRC | CTD_NAT_MASQUERADE);
  EXPECT_EQ(args("null").flags, CTD_NAT_SRC | CTD_NAT_NULL);
  EXPECT_EQ(args("dst=[2001:db8::1]:80").family, CTD_IPV6);
  EXPECT_EQ(args("dst=[2001:db8::1]:80").min_port, 80);
  EXPECT_EQ(args("src=2001:db8::1-2001:db8::2").max_addr.b[15], 2);
}

// --- text -> rule -> text -> rule

struct Form {
  const char* written;
  const char* shown;
};
void PrintTo(const Form& form, std::ostream* out) { *out << form.written; }

class RuleText : public ::testing::TestWithParam<Form> {};

TEST_P(RuleText, HasOneForm) {
  const Rule rule = rule_of(GetParam().written);
  EXPECT_EQ(format_rule(rule, ports), GetParam().shown);
  EXPECT_EQ(rule_of(GetParam().shown), rule);
}

constexpr Form forms[] = {
    {"actions=drop", "table=0,priority=32768 actions=drop"},
    {"table=1, priority=5 ip actions= route", "table=1,priority=5,ip actions=route"},
    {"ip,tcp,priority=1,actions=stack", "table=0,priority=1,tcp actions=stack"},
    {"dl_type=0x0800,nw_proto=6,tcp_dst=80,actions=drop", "table=0,priority=32768,tcp,tp_dst=80 actions=drop"},
    {"dl_type=0x86dd,ip_proto=58,icmp_type=135 actions=drop",
     "table=0,priority=32768,icmp6,icmp_type=135 actions=drop"},
    {"ip,nw_proto=47 actions=drop", "table=0,priority=32768,ip,nw_proto=47 actions=drop"},
    {"eth_type=0x88cc actions=stack", "table=0,priority=32768,dl_type=0x88cc actions=stack"},
    {"tp_dst=80,tcp6 actions=drop", "table=0,priority=32768,tcp6,tp_dst=80 actions=drop"},
    {"ip,ip_src=10.1.2.3/255.255.0.0 actions=drop", "table=0,priority=32768,ip,nw_src=10.1.0.0/16 actions=drop"},
    {"ip,nw_dst=10.0.0.1/255.0.0.255 actions=drop",
     "table=0,priority=32768,ip,nw_dst=10.0.0.1/255.0.0.255 actions=drop"},
    {"ip,nw_dst=1.2.3.4/0 actions=drop", "table=0,priority=32768,ip actions=drop"},
    {"ipv6,ipv6_dst=2001:DB8:0::1/33 actions=drop", "table=0,priority=32768,ipv6,ipv6_dst=2001:db8::/33 actions=drop"},
    {"ipv6,ipv6_src=::1/::ff actions=drop", "table=0,priority=32768,ipv6,ipv6_src=::1/::ff actions=drop"},
    {"eth_dst=FF:ff:ff:ff:ff:ff,dl_src=01:00:00:00:00:00/01:00:00:00:00:00 actions=1",
     "table=0,priority=32768,dl_src=01:00:00:00:00:00/01:00:00:00:00:00,dl_dst=ff:ff:ff:ff:ff:ff actions=output:lan0"},
    {"vlan_tci=0x1000/0x1000 actions=stack", "table=0,priority=32768,vlan_tci=0x1000/0x1000 actions=stack"},
    {"vlan_tci=0 actions=stack", "table=0,priority=32768,vlan_tci=0x0 actions=stack"},
    {"ct_state=trk|new actions=drop",
     "table=0,priority=32768,ct_state=+new-est-rel-rpl-inv+trk-snat-dnat actions=drop"},
    {"ct_state=0x21/0x31 actions=drop", "table=0,priority=32768,ct_state=+new-inv+trk actions=drop"},
    {"ct_label=0x00f0/0xff0 actions=drop", "table=0,priority=32768,ct_label=0xf0/0xff0 actions=drop"},
    {"ct_mark=16,pkt_mark=0x1/0x1 actions=drop", "table=0,priority=32768,pkt_mark=0x1/0x1,ct_mark=0x10 actions=drop"},
    {"udp,tp_src=0x400/0xfc00 actions=drop", "table=0,priority=32768,udp,tp_src=0x400/0xfc00 actions=drop"},
    {"ip,ip_dscp=46,nw_ecn=1 actions=drop", "table=0,priority=32768,ip,nw_tos=184,nw_ecn=1 actions=drop"},
    {"ip,nw_ttl=1,ip_frag=later actions=drop", "table=0,priority=32768,ip,nw_ttl=1,ip_frag=later actions=drop"},
    {"ip,ip_frag=not_later actions=drop", "table=0,priority=32768,ip,ip_frag=not_later actions=drop"},
    {"ip,ip_frag=yes actions=drop", "table=0,priority=32768,ip,ip_frag=yes actions=drop"},
    {"tcp,tcp_flags=+syn-ack actions=drop", "table=0,priority=32768,tcp,tcp_flags=+syn-ack actions=drop"},
    {"tcp,tcp_flags=0x2/0x12 actions=drop", "table=0,priority=32768,tcp,tcp_flags=+syn-ack actions=drop"},
    {"tcp,tcp_flags=syn actions=drop", "table=0,priority=32768,tcp,tcp_flags=0x002/0xfff actions=drop"},
    {"in_port=65534 actions=LOCAL", "table=0,priority=32768,in_port=LOCAL actions=output:LOCAL"},
    {"in_port=\"7\" actions=\"7\",\"a,b\\\"c(d\",7",
     "table=0,priority=32768,in_port=\"7\" actions=output:\"7\",output:\"a,b\\\"c(d\",output:7"},
    {"actions=in_port,output:wan0", "table=0,priority=32768 actions=in_port,output:wan0"},
    {"cookie=10 actions=resubmit(,2),resubmit(, 3),goto_table:4",
     "cookie=0xa,table=0,priority=32768 actions=resubmit(,2),resubmit(,3),goto_table:4"},
    {"actions=ct_clear,route(table=3)", "table=0,priority=32768 actions=ct_clear,route(table=3)"},
    {"actions=ct()", "table=0,priority=32768 actions=ct(zone=0)"},
    {"actions=ct", "table=0,priority=32768 actions=ct(zone=0)"},
    {"actions=ct(nat,table=1)", "table=0,priority=32768 actions=ct(table=1,zone=0,nat)"},
    {"actions=ct(zone=7,force,commit,nat(src=10.0.0.1:5))",
     "table=0,priority=32768 actions=ct(commit,force,zone=7,nat(src=10.0.0.1:5))"},
    {"actions=ct(commit,nat(dst=[fd00::1]-[fd00::9]:1-2,persistent,hash))",
     "table=0,priority=32768 actions=ct(commit,zone=0,nat(dst=[fd00::1]-[fd00::9]:1-2,persistent,hash))"},
    {"actions=ct(commit,nat(src=[fd00::1]))", "table=0,priority=32768 actions=ct(commit,zone=0,nat(src=fd00::1))"},
    {"actions=ct(commit,nat(src=masquerade:1024-2047))",
     "table=0,priority=32768 actions=ct(commit,zone=0,nat(src=masquerade:1024-2047))"},
    {"actions=ct(commit,nat(null))", "table=0,priority=32768 actions=ct(commit,zone=0,nat(null))"},
    {"actions=ct(commit,exec(set_field:1->ct_mark,set_field:0x2/0xf->ct_label))",
     "table=0,priority=32768 actions=ct(commit,zone=0,exec(set_field:0x1->ct_mark,set_field:0x2/0xf->ct_label))"},
    {"actions=ct(zone=ct_mark[0..15])", "table=0,priority=32768 actions=ct(zone=NXM_NX_CT_MARK[0..15])"},
    {"actions=ct(table=1,zone=NXM_OF_IN_PORT[])", "table=0,priority=32768 actions=ct(table=1,zone=NXM_OF_IN_PORT[])"},
    {"actions=ct(timeout=quick,commit,nat)", "table=0,priority=32768 actions=ct(commit,zone=0,timeout=quick,nat)"},
    {"actions=ct(commit,exec(load:3->NXM_NX_CT_MARK[4..7]))",
     "table=0,priority=32768 actions=ct(commit,zone=0,exec(set_field:0x30/0xf0->ct_mark))"},
    {"ct_tp_dst=80,ct_nw_proto=17,ct_nw_src=10.0.0.0/8,ip,ct_state=-inv+trk actions=drop",
     "table=0,priority=32768,ip,ct_state=-inv+trk,ct_nw_src=10.0.0.0/8,ct_nw_proto=17,ct_tp_dst=80 actions=drop"},
    {"ipv6,ct_state=+rpl+trk,ct_ipv6_dst=2001:db8::/32,ct_ipv6_src=::1 actions=drop",
     "table=0,priority=32768,ipv6,ct_state=+rpl+trk,ct_ipv6_src=::1,ct_ipv6_dst=2001:db8::/32 actions=drop"},
    {" cookie=0x1, duration=3.2s, table=0, n_packets=5, n_bytes=412, idle_age=1, priority=9,arp actions=stack",
     "cookie=0x1,table=0,priority=9,arp actions=stack"},
};
INSTANTIATE_TEST_SUITE_P(, RuleText, ::testing::ValuesIn(forms));

// Random texts, each field and action from a list of forms.
class RandomRule {
 public:
  explicit RandomRule(unsigned seed) : random_(seed) {}

  std::string text() {
    std::string rule = "table=" + std::to_string(below(5)) + ",priority=" + std::to_string(below(65536));
    const Family& family = families[below(std::size(families))];
    for (const char* field : common) maybe(rule, field, 5);
    if (*family.name) rule += std::string(",") + family.name;
    for (const char* field : family.fields) {
      if (field) maybe(rule, field, 3);
    }
    rule += " actions=";
    if (one_in(5)) return rule + "drop";
    const std::size_t count = 1 + below(4);
    for (std::size_t i = 0; i < count; ++i) rule += (i ? "," : "") + std::string(actions[below(std::size(actions))]);
    return one_in(4) ? rule + ",goto_table:9" : rule;
  }

 private:
  struct Family {
    const char* name;
    const char* fields[8];
  };
  static constexpr const char* common[] = {"in_port=lan0",
                                           "out_port=LOCAL",
                                           "pkt_mark=0x10/0xff",
                                           "ct_state=+trk+est-inv",
                                           "ct_zone=77",
                                           "ct_mark=0x5",
                                           "ct_label=0xabc/0xfff",
                                           "vlan_tci=0x1005/0x1fff",
                                           "dl_src=02:00:00:00:00:07",
                                           "dl_dst=33:33:00:00:00:00/ff:ff:00:00:00:00"};
  static constexpr Family families[] = {
      {"", {"dl_type=0x88cc"}},
      {"arp", {}},
      {"ip",
       {"nw_src=10.0.0.0/9", "nw_dst=192.0.2.7", "nw_tos=8", "nw_ttl=64", "ip_frag=first", "nw_proto=89",
        "ct_state=+trk+est-inv,ct_nw_src=10.0.0.0/8,ct_tp_src=7"}},
      {"ipv6", {"ipv6_src=fe80::/10", "ipv6_dst=2001:db8::1", "ip_ecn=2", "ip_frag=no"}},
      {"tcp", {"nw_src=10.1.0.0/16", "tcp_src=1024/0xfc00", "tp_dst=443", "tcp_flags=+syn-ack"}},
      {"udp6", {"ipv6_src=::/1", "udp_src=53", "udp_dst=53"}},
      {"icmp", {"icmp_type=8", "icmp_code=0"}},
      {"icmp6", {"icmp_type=136"}},
      {"sctp", {"sctp_dst=9"}},
  };
  static constexpr const char* actions[] = {"output:wan0",
                                            "in_port",
                                            "LOCAL",
                                            "ct(commit,zone=3,nat(src=masquerade))",
                                            "ct(table=2,nat)",
                                            "ct_clear",
                                            "ct(zone=NXM_NX_CT_MARK[16..31])",
                                            "ct(commit,timeout=slow,exec(load:1->NXM_NX_CT_LABEL[5..9]))",
                                            "route",
                                            "route(table=3)",
                                            "stack",
                                            "resubmit(,1)",
                                            "ct(commit,nat(dst=10.0.0.1-10.0.0.3:80),force)",
                                            "ct(commit,zone=65535,nat(null),exec(set_field:0x1/0x1->ct_mark))"};

  std::size_t below(std::size_t n) { return random_() % n; }
  bool one_in(std::size_t n) { return below(n) == 0; }
  void maybe(std::string& rule, const char* field, std::size_t n) {
    if (one_in(n)) rule += std::string(",") + field;
  }

  std::mt19937 random_;
};

TEST(RuleTexts, RandomRulesSurviveTheirText) {
  RandomRule random(20261123);
  for (int i = 0; i < 5000; ++i) {
    const std::string text = random.text();
    const Result<Rule> rule = parse_rule(text, ports, policies);
    ASSERT_TRUE(rule) << rule.error().message();
    const std::string shown = format_rule(*rule, ports);
    const Result<Rule> again = parse_rule(shown, ports, policies);
    ASSERT_TRUE(again) << again.error().message();
    ASSERT_EQ(*again, *rule) << text << "\n" << shown;
    ASSERT_EQ(format_rule(*again, ports), shown);
  }
}

// Whatever bytes come: an error or a rule, and a rule's text reads back.
TEST(RuleTexts, BrokenTextsAreRefusedOrRead) {
  RandomRule random(7);
  std::mt19937 noise(8);
  int refused = 0;
  for (int i = 0; i < 20000; ++i) {
    std::string text = random.text();
    for (auto edits = 1 + noise() % 3; edits > 0; --edits) {
      const std::size_t at = noise() % text.size();
      switch (noise() % 3) {
        case 0:
          text[at] = "=,:()/+-|\"\\ 0x9a\xff"[noise() % 16];
          break;
        case 1:
          text.erase(at, 1 + noise() % 4);
          break;
        default:
          text.insert(at, 1, text[noise() % text.size()]);
      }
      if (text.empty()) text = "x";
    }
    const Result<Rule> rule = parse_rule(text, ports, policies);
    if (!rule) {
      ++refused;
      continue;
    }
    const Result<Rule> again = parse_rule(format_rule(*rule, ports), ports, policies);
    ASSERT_TRUE(again) << text << "\n" << again.error().message();
    ASSERT_EQ(*again, *rule) << text;
  }
  EXPECT_GT(refused, 1000);
}

// --- errors

class RuleError : public ::testing::TestWithParam<Form> {};

TEST_P(RuleError, NamesFieldValueAndWhatIsRight) { EXPECT_EQ(error_of(GetParam().written), GetParam().shown); }

constexpr Form errors[] = {
    {"ip,tp_dst=80 actions=drop",
     R"(tp_dst: has a meaning only for some packets; add "tcp", "udp" or "sctp" (for IPv6 "tcp6", "udp6" or "sctp6"))"},
    {"udp,tcp_dst=80 actions=drop", R"(tcp_dst: has a meaning only for some packets; add "tcp" or "tcp6")"},
    {"nw_src=10.0.0.1 actions=drop", R"(nw_src: has a meaning only for some packets; add "ip")"},
    {"ip,ipv6_src=::1 actions=drop", R"(ipv6_src: has a meaning only for some packets; add "ipv6")"},
    {"icmp_type=8 actions=drop", R"(icmp_type: has a meaning only for some packets; add "icmp" or "icmp6")"},
    {"udp,tcp_flags=+syn actions=drop", R"(tcp_flags: has a meaning only for some packets; add "tcp" or "tcp6")"},
    {"arp,nw_tos=4 actions=drop", R"(nw_tos: has a meaning only for some packets; add "ip" or "ipv6")"},
    {"ip,nw_dst=10.0.0.0/33 actions=drop",
     "nw_dst=10.0.0.0/33: must be an IPv4 address, with a prefix length (0 to 32) or a mask if any"},
    {"ip,nw_dst=10.0.0 actions=drop",
     "nw_dst=10.0.0: must be an IPv4 address, with a prefix length (0 to 32) or a mask if any"},
    {"ipv6,ipv6_dst=10.0.0.1 actions=drop",
     "ipv6_dst=10.0.0.1: must be an IPv6 address, with a prefix length (0 to 128) or a mask if any"},
    {"tcp,tp_dst=65536 actions=drop",
     "tp_dst=65536: must be a number from 0 to 65535, with a mask (VALUE/MASK) if any"},
    {"tcp,tp_dst=http actions=drop", "tp_dst=http: must be a number from 0 to 65535, with a mask (VALUE/MASK) if any"},
    {"ip,nw_tos=3 actions=drop", "nw_tos=3: must be a multiple of 4 from 0 to 252, without a mask"},
    {"ip,nw_ttl=1/1 actions=drop", "nw_ttl=1/1: must be a number from 0 to 255, without a mask"},
    {"ip,ip_frag=maybe actions=drop", "ip_frag=maybe: must be no, first, later, yes or not_later"},
    {"dl_dst=02:00:00:00:00 actions=drop",
     "dl_dst=02:00:00:00:00: must be a MAC address (02:00:00:00:00:01), with a mask of that form if any"},
    {"ct_state=+foo actions=drop",
     "ct_state=+foo: must be flags with + or - (+new-est), or a number and mask up to 0xff; flags are new est rel rpl "
     "inv trk snat dnat"},
    {"ct_state=+new-trk actions=drop",
     "ct_state=+new-trk: must be something a packet can be: without trk no flag is set"},
    {"ct_state=+new+est actions=drop", "ct_state=+new+est: must be something a packet can be: new or est"},
    {"ct_label=5 actions=drop",
     "ct_label=5: must be up to 32 hexadecimal digits after 0x, with a mask of that form if any"},
    {"in_port=wan9 actions=drop", R"(in_port=wan9: no such port (there are: lan0, wan0, "7", "a,b\"c(d", LOCAL))"},
    {"in_port=0 actions=drop", "in_port=0: port numbers are 1 to 255, or 65534 for LOCAL"},
    {"tdp_dst=80 actions=drop", R"(tdp_dst: unknown field; did you mean "tp_dst"?)"},
    {"recirc_id=1 actions=drop", "recirc_id: not in rules; recirculation ids are the datapath's own"},
    {"ip,nw_src= actions=drop", "nw_src: lacks a value (nw_src=VALUE)"},
    {"ip=4 actions=drop", "ip=4: ip takes no value"},
    {"tcp,udp actions=drop", R"(udp: contradicts "tcp"; leave one of them out)"},
    {"ip,nw_dst=1.1.1.1,nw_dst=1.1.1.2 actions=drop", "nw_dst: given twice, with different values"},
    {"table=255 actions=drop", "table=255: must be a number from 0 to 254"},
    {"priority=70000 actions=drop", "priority=70000: must be a number from 0 to 65535"},
    {"ip", "no actions: a rule must end with actions=… (actions=drop to drop)"},
    {"ip actions=", "actions=: empty; a rule must end with actions=… (actions=drop to drop)"},
    {"actions=drop,route", "actions: drop must stand alone"},
    {"actions=rout",
     R"(actions: "rout": neither an action nor a port; did you mean "route"? (actions are: drop, output, ct, ct_clear, )"
     "route, stack, resubmit, goto_table)"},
    {"actions=output:9x", R"(actions: output:9x: no such port (there are: lan0, wan0, "7", "a,b\"c(d", LOCAL))"},
    {"actions=ct(commit", "actions: ct(commit: \"(\" without \")\""},
    {"actions=ct(nat(src=10.0.0.1))",
     "actions: ct: nat(src=10.0.0.1): makes a new mapping, only with commit; without it write nat"},
    {"actions=ct(force)", "actions: ct: force: only with commit"},
    {"actions=ct(zone=65536)",
     "actions: ct: zone=65536: must be a number from 0 to 65535, or 16 bits of a field (NXM_NX_CT_MARK[0..15]) of "
     "NXM_NX_CT_ZONE, NXM_NX_CT_MARK, NXM_NX_CT_LABEL, NXM_NX_PKT_MARK, NXM_OF_IN_PORT"},
    {"actions=ct(tabel=1)",
     R"(actions: ct: "tabel=1": unknown argument; did you mean "table"? (there are: commit, force, table, zone, nat, )"
     "exec, timeout, alg)"},
    {"actions=ct(commit,nat(src=10.0.0.9-10.0.0.1))",
     R"(actions: ct: nat(src=10.0.0.9-10.0.0.1): "10.0.0.9-10.0.0.1": the first address must not be above the last)"},
    {"actions=ct(commit,nat(src=10.0.0.1:0))",
     R"(actions: ct: nat(src=10.0.0.1:0): "0" must be a port or a range PORT-PORT, from 1 to 65535)"},
    {"actions=ct(commit,nat(dst=masquerade))",
     "actions: ct: nat(dst=masquerade): dst=masquerade: only a source can be masqueraded"},
    {"actions=ct(commit,exec(set_field:1->reg0))",
     R"(actions: ct: exec: "set_field:1->reg0" sets reg0, but must be set_field:VALUE[/MASK]->ct_mark or ct_label, )"
     "or load:VALUE->NXM_NX_CT_MARK[…] or NXM_NX_CT_LABEL[…]"},
    {"actions=ct(commit,exec(load:1->NXM_NX_CT_ZONE[]))",
     R"(actions: ct: exec: "load:1->NXM_NX_CT_ZONE[]" sets NXM_NX_CT_ZONE[], but must be )"
     "set_field:VALUE[/MASK]->ct_mark or ct_label, or load:VALUE->NXM_NX_CT_MARK[…] or NXM_NX_CT_LABEL[…]"},
    {"actions=ct(commit,exec(load:16->NXM_NX_CT_MARK[0..3]))",
     "actions: ct: exec: load:16: must be a number of 4 bits at most"},
    {"actions=ct(commit,exec(set_field:1->ct_mark[0..3]))",
     R"(actions: ct: exec: "set_field:1->ct_mark[0..3]": set_field sets whole fields; use a mask, or load)"},
    {"actions=ct(zone=NXM_NX_CT_MARK[])",
     "actions: ct: zone=NXM_NX_CT_MARK[]: must be a number from 0 to 65535, or 16 bits of a field "
     "(NXM_NX_CT_MARK[0..15]) of NXM_NX_CT_ZONE, NXM_NX_CT_MARK, NXM_NX_CT_LABEL, NXM_NX_PKT_MARK, NXM_OF_IN_PORT"},
    {"actions=ct(zone=NXM_NX_REG0[0..15])",
     "actions: ct: zone=NXM_NX_REG0[0..15]: must be a number from 0 to 65535, or 16 bits of a field "
     "(NXM_NX_CT_MARK[0..15]) of NXM_NX_CT_ZONE, NXM_NX_CT_MARK, NXM_NX_CT_LABEL, NXM_NX_PKT_MARK, NXM_OF_IN_PORT"},
    {"actions=ct(commit,timeout=quik)",
     R"(actions: ct: timeout=quik: no such policy; did you mean "quick"? (there are: quick, slow))"},
    {"actions=ct(timeout=quick)", "actions: ct: timeout=quick: only with commit"},
    {"actions=ct(commit,alg=ftp)", "actions: ct: alg=ftp: this version has no helpers"},
    {"ip,ct_nw_src=10.0.0.1 actions=drop",
     "ct_nw_src: has a meaning only for some packets; add \"ip\" and a ct_state that implies a connection (+new, +est, "
     "+rel, +trk-inv …)"},
    {"ct_state=+trk+inv,ct_nw_proto=6 actions=drop",
     "ct_nw_proto: has a meaning only for some packets; add a ct_state that implies a connection (+new, +est, +rel, "
     "+trk-inv …)"},
    {"actions=resubmit(1,2)", "actions: resubmit(1,2): must be resubmit(,TABLE); the input port cannot be changed"},
    {"table=3 actions=goto_table:3",
     "actions: goto_table:3: must be a later table than 3, the rule's own (or use resubmit)"},
    {"actions=goto_table:1,drop", "actions: drop must stand alone"},
    {"actions=goto_table:1,route", "actions: \"route\" follows goto_table, which must be the last (or use resubmit)"},
    {"actions=route(5)", "actions: route(5): must be route or route(table=NUMBER)"},
};
INSTANTIATE_TEST_SUITE_P(, RuleError, ::testing::ValuesIn(errors));

// --- the set

TEST(RuleSet, OrdersByPriorityThenByAge) {
  RuleSet rules;
  for (const char* text : {"priority=5,ip actions=stack", "priority=9,ipv6 actions=stack",
                           "priority=5,arp actions=stack", "table=2,priority=1 actions=route"})
    rules.add(rule_of(text));
  std::vector<std::string> shown;
  for (const RuleRef& entry : rules.all()) shown.push_back(format_rule(entry->rule, ports));
  EXPECT_THAT(shown, ElementsAre("table=0,priority=9,ipv6 actions=stack", "table=0,priority=5,ip actions=stack",
                                 "table=0,priority=5,arp actions=stack", "table=2,priority=1 actions=route"));
  EXPECT_EQ(rules.table(0).size(), 3u);
  EXPECT_EQ(rules.table(1).size(), 0u);
  EXPECT_EQ(rules.table(254).size(), 0u);
}

TEST(RuleSet, ReplacesWhatHasTheSameMatchAndPriority) {
  RuleSet rules;
  rules.add(rule_of("priority=5,ip actions=stack"));
  const RuleRef old = rules.table(0)[0];
  old->packets += 7;
  rules.add(rule_of("priority=5,ip actions=drop"));
  rules.add(rule_of("priority=6,ip actions=route"));
  ASSERT_EQ(rules.table(0).size(), 2u);
  EXPECT_TRUE(rules.table(0)[1]->rule.actions.empty());
  EXPECT_EQ(rules.table(0)[1]->packets, 0u);
  EXPECT_EQ(old->packets, 7u) << "flows keep what they refer to";
}

TEST(Match, CoversIsContainment) {
  const auto match = [](const char* text) { return rule_of(std::string(text) + " actions=drop").match; };
  EXPECT_TRUE(match("ip").covers(match("ip,nw_dst=10.0.0.0/8")));
  EXPECT_TRUE(match("ip,nw_dst=10.0.0.0/8").covers(match("tcp,nw_dst=10.1.0.0/16")));
  EXPECT_FALSE(match("ip,nw_dst=10.0.0.0/8").covers(match("ip")));
  EXPECT_FALSE(match("ip,nw_dst=10.0.0.0/8").covers(match("ip,nw_dst=11.0.0.0/16")));
}

}  // namespace
}  // namespace ctd
