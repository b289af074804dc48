// SPDX-License-Identifier: Apache-2.0
#include "daemon/translate.hpp"

#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "daemon/translate_fields.hpp"
#include "translate_packets.hpp"

namespace ctd {
namespace {

using test::ip_packet;
using test::Packet;
using test::words;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class Translation : public ::testing::Test {
 protected:
  Translation() {
    EXPECT_TRUE(ports.add(1, "lan0"));
    EXPECT_TRUE(ports.add(2, "wan0"));
  }

  RuleSet rules_of(std::initializer_list<const char*> texts) {
    RuleSet rules;
    for (const char* text : texts) {
      Result<Rule> rule = parse_rule(text, ports);
      EXPECT_TRUE(rule) << rule.error().message();
      if (rule) rules.add(*rule);
    }
    return rules;
  }

  Flow flow_of(const RuleSet& rules, const ctd_flow_key& key) {
    Result<Flow> flow = translate(rules, key, recirc, args);
    EXPECT_TRUE(flow) << flow.error().message();
    return flow ? *flow : Flow{};
  }

  static std::vector<u16> types_of(const Flow& flow) {
    std::vector<u16> types;
    for (const ctd_action& action : flow.actions) types.push_back(action.type);
    return types;
  }

  PortNames ports;
  RecircTable recirc;
  ArgsTable args = test::no_args();
};

TEST_F(Translation, AMissIsADrop) {
  const Flow flow = flow_of(rules_of({"arp actions=stack"}), ip_packet({}));
  EXPECT_TRUE(flow.actions.empty());
  EXPECT_TRUE(flow.rules.empty());
}

TEST_F(Translation, MatchesExactlyWhatItMust) {
  const Flow flow = flow_of(rules_of({}), ip_packet({}));
  const ctd_flow_key& mask = flow.mask.key;
  ctd_key_words expected{};
  expected.key.in_port = ~0u;
  expected.key.recirc_id = ~0u;
  expected.key.packet_type = 0xff;
  expected.key.eth_type = 0xffff;
  expected.key.vlan_tci = htons(0x1000);
  expected.key.frag = 0xff;
  EXPECT_EQ(std::memcmp(&mask, &expected, sizeof(mask)), 0);
  EXPECT_EQ(flow_of(rules_of({}), test::arp_packet(1)).mask.key.frag, 0) << "fragments are IP's";
}

TEST_F(Translation, PolicyAndZoneField) {
  const PolicyNames policies{{"quick", u16{3}}};
  RuleSet rules;
  rules.add(parse_rule("ip actions=ct(commit,timeout=quick,zone=NXM_NX_PKT_MARK[0..15])", ports, policies).value());
  EXPECT_EQ(translate(rules, ip_packet({}), recirc, args).error().message(), "ct(timeout=quick): no such policy");
  args.policies = policies;
  const Flow flow = flow_of(rules, ip_packet({}));
  ASSERT_EQ(flow.actions.size(), 1u);
  EXPECT_EQ(flow.actions[0].flags, CTD_CTF_COMMIT | CTD_CTF_ZONE_FIELD);
  EXPECT_EQ(flow.actions[0].ct.zone, offsetof(ctd_flow_key, pkt_mark));
  EXPECT_EQ(flow.actions[0].ct.timeout_policy, 3);
}

TEST_F(Translation, ActionsHaveTheirArguments) {
  const RuleSet rules =
      rules_of({"in_port=1,ip actions=ct(commit,force,zone=7,nat(src=masquerade),exec(set_field:0x1/0x3->ct_mark,"
                "set_field:0x5->ct_label)),output:2"});
  const Flow flow = flow_of(rules, ip_packet({}));
  ASSERT_EQ(flow.actions.size(), 2u);
  const ctd_action& ct = flow.actions[0];
  EXPECT_EQ(ct.type, CTD_ACT_CT);
  EXPECT_EQ(ct.flags, CTD_CTF_COMMIT | CTD_CTF_FORCE | CTD_CTF_NAT | CTD_CTF_MARK | CTD_CTF_LABEL);
  EXPECT_EQ(ct.ct.zone, 7);
  EXPECT_EQ(ct.ct.recirc_id, 0u);
  EXPECT_EQ(ct.ct.mark, 1u);
  EXPECT_EQ(ct.ct.mark_mask, 3u);
  ASSERT_NE(args.nat.find(ct.ct.nat_id), nullptr);
  EXPECT_EQ(args.nat.find(ct.ct.nat_id)->flags, CTD_NAT_SRC | CTD_NAT_MASQUERADE);
  ASSERT_NE(args.labels.find(ct.ct.label_id), nullptr);
  EXPECT_EQ(args.labels.find(ct.ct.label_id)->value[0], 5);
  EXPECT_EQ(flow.actions[1].type, CTD_ACT_OUTPUT);
  EXPECT_EQ(flow.actions[1].output.port, 2u);
  EXPECT_THAT(flow.rules, ElementsAre(rules.table(0)[0]));
}

TEST_F(Translation, BareNatMakesNoMapping) {
  const Flow flow = flow_of(rules_of({"ip actions=ct(table=1,zone=3,nat)"}), ip_packet({}));
  EXPECT_EQ(flow.actions.at(0).flags, CTD_CTF_NAT);
  EXPECT_EQ(flow.actions.at(0).ct.nat_id, 0u);
}

TEST_F(Translation, GoesOnWhereTheRecirculationSays) {
  const RuleSet rules = rules_of({"ip actions=ct(table=1)", "table=1,ct_state=+est+trk actions=route",
                                  "table=1,ct_state=+new+trk actions=route(table=2)", "table=2 actions=stack"});
  const Flow first = flow_of(rules, ip_packet({}));
  const u32 id = first.actions.at(0).ct.recirc_id;
  ASSERT_NE(recirc.find(id), nullptr);
  EXPECT_EQ(recirc.find(id)->table, 1u);
  EXPECT_THAT(recirc_ids(first.actions), ElementsAre(id));
  EXPECT_EQ(flow_of(rules, ip_packet({.recirc_id = id, .ct_state = 0x22})).actions.at(0).type, CTD_ACT_ROUTE);
  const Flow fresh = flow_of(rules, ip_packet({.recirc_id = id, .ct_state = 0x21}));
  const u32 next = fresh.actions.at(0).route.recirc_id;
  EXPECT_NE(next, id);
  EXPECT_EQ(flow_of(rules, ip_packet({.recirc_id = next, .ct_state = 0x21})).actions.at(0).type, CTD_ACT_STACK);
}

TEST_F(Translation, AnUnknownRecirculationIsAnError) {
  EXPECT_EQ(translate(rules_of({}), ip_packet({.recirc_id = 0x77}), recirc, args).error().message(),
            "recirculation id 0x77 names no state");
}

TEST_F(Translation, ResubmitComesBackAndGotoDoesNot) {
  const RuleSet rules = rules_of(
      {"actions=resubmit(,1),resubmit(,9),output:2,goto_table:2", "table=1 actions=ct_clear", "table=2 actions=stack"});
  const Flow flow = flow_of(rules, ip_packet({}));
  EXPECT_THAT(types_of(flow), ElementsAre(CTD_ACT_CT_CLEAR, CTD_ACT_CLONE, CTD_ACT_OUTPUT, CTD_ACT_STACK));
  EXPECT_EQ(flow.rules.size(), 3u) << "each table's rule is credited";
}

TEST_F(Translation, WhatCtClearEmptiedNeedsNoMatch) {
  const RuleSet rules = rules_of({"actions=ct_clear,goto_table:1", "table=1,ct_state=+trk actions=drop",
                                  "table=1,ct_state=-trk,ct_mark=0 actions=stack"});
  const Flow flow = flow_of(rules, ip_packet({.ct_state = 0x22}));
  EXPECT_EQ(flow.actions.back().type, CTD_ACT_STACK);
  EXPECT_EQ(flow.mask.key.ct_state, 0);
  EXPECT_EQ(flow.mask.key.ct_mark, 0u);
}

TEST_F(Translation, NothingGoesBackUnlessAsked) {
  const RuleSet rules = rules_of({"actions=output:1,output:2,in_port"});
  const auto outputs = [&](u32 in_port) {
    std::vector<u32> numbers;
    for (const ctd_action& action : flow_of(rules, ip_packet({.in_port = in_port})).actions) {
      if (action.type == CTD_ACT_OUTPUT) numbers.push_back(action.output.port);
    }
    return numbers;
  };
  EXPECT_THAT(outputs(1), ElementsAre(2u, 1u));
  EXPECT_THAT(outputs(2), ElementsAre(1u, 2u));
}

TEST_F(Translation, WhatTakesThePacketAwayBeforeOtherActionsGetsACopy) {
  const Flow flow = flow_of(rules_of({"actions=ct(table=1),route(table=2),ct(commit),stack,output:2"}), ip_packet({}));
  EXPECT_THAT(types_of(flow), ElementsAre(CTD_ACT_CLONE, CTD_ACT_CT, CTD_ACT_CLONE, CTD_ACT_ROUTE, CTD_ACT_CT,
                                          CTD_ACT_CLONE, CTD_ACT_STACK, CTD_ACT_OUTPUT));
  for (const ctd_action& action : flow.actions) EXPECT_EQ(action.arg, action.type == CTD_ACT_CLONE ? 1u : 0u);
}

TEST_F(Translation, TellsApartByTheFirstFieldThatDiffers) {
  const RuleSet rules =
      rules_of({"priority=9,tcp,nw_dst=10.0.0.0/8,tp_dst=22 actions=drop", "priority=1 actions=stack"});
  const ctd_flow_key web = ip_packet({.dst = "192.0.2.80", .dport = 80});
  const Flow by_address = flow_of(rules, web);
  EXPECT_EQ(by_address.mask.key.ip_dst.v4, htonl(0xff000000));
  EXPECT_EQ(by_address.mask.key.dport, 0);
  EXPECT_EQ(by_address.mask.key.ip_proto, 0);
  const Flow by_port = flow_of(rules, ip_packet({.dst = "10.9.9.9", .dport = 80}));
  EXPECT_EQ(by_port.mask.key.dport, 0xffff);
  EXPECT_EQ(by_port.mask.key.ip_proto, 0xff) << "a port means something only with its protocol";
  EXPECT_EQ(flow_of(rules, test::arp_packet(1)).mask.key.ip_dst.v4, 0u) << "eth_type is in the mask anyway";
}

TEST_F(Translation, LimitsAreErrors) {
  EXPECT_THAT(translate(rules_of({"actions=resubmit(,0)"}), ip_packet({}), recirc, args).error().message(),
              HasSubstr("nests more than 64 deep"));
  EXPECT_THAT(translate(rules_of({"actions=resubmit(,1)", "table=1 actions=resubmit(,1),resubmit(,1)"}), ip_packet({}),
                        recirc, args)
                  .error()
                  .message(),
              HasSubstr("nests more than 64 deep"));
  const RuleSet wide = rules_of(
      {"actions=resubmit(,1),resubmit(,1),resubmit(,1),resubmit(,1)", "table=1 actions=ct,ct,ct,ct,ct,ct,ct,ct"});
  EXPECT_EQ(flow_of(wide, ip_packet({})).actions.size(), 32u);
  const RuleSet wider = rules_of(
      {"actions=resubmit(,1),resubmit(,1),resubmit(,1),resubmit(,1),stack", "table=1 actions=ct,ct,ct,ct,ct,ct,ct,ct"});
  const RuleSet copying = rules_of({"actions=resubmit(,1),resubmit(,1),resubmit(,1)",
                                    "table=1 actions=output:1,output:2,output:LOCAL,stack,stack,stack"});
  EXPECT_EQ(translate(wider, ip_packet({}), recirc, args).error().message(), "more than 32 actions for one packet");
  EXPECT_THAT(types_of(flow_of(rules_of({"actions=stack"}), ip_packet({}))), ElementsAre(CTD_ACT_STACK));
  EXPECT_EQ(translate(copying, ip_packet({.in_port = 9}), recirc, args).error().message(),
            "more than 32 actions for one packet");
}

TEST_F(Translation, RunawayRulesEnd) {
  RuleSet rules = rules_of({});
  for (int table = 0; table < 40; ++table)
    rules.add(
        *parse_rule(fmt::format("table={} actions=resubmit(,{}),resubmit(,{})", table, table + 1, table + 1), ports));
  EXPECT_THAT(translate(rules, ip_packet({}), recirc, args).error().message(), HasSubstr("more than 4096 look-ups"));
}

// Every bit of the key that a rule could match belongs to a field that translation knows.
TEST(TranslationFields, CoverTheKey) {
  ctd_key_words known{};
  for (const KeyField& field : key_fields()) {
    u8* bytes = reinterpret_cast<u8*>(&known) + field.offset;
    for (u16 i = 0; i < field.size; ++i) {
      EXPECT_EQ(bytes[i], 0) << "fields overlap at " << field.offset + i;
      bytes[i] = 0xff;
    }
  }
  ctd_flow_key& key = known.key;
  key.pad0 = 0xff;
  key.pad1 = key.pad2 = key.pad3 = 0xffff;
  std::memset(key.reserved, 0xff, sizeof(key.reserved));
  for (unsigned i = 0; i < CTD_KEY_WORDS; ++i) EXPECT_EQ(known.w[i], ~u64{0}) << "word " << i;
}

// --- recirculation ids and side arguments

TEST(RecircTable, SameContentSameId) {
  RecircTable table;
  const u32 one = table.id_of({.table = 1}).value();
  const u32 two = table.id_of({.table = 2}).value();
  EXPECT_NE(one, 0u);
  EXPECT_NE(one, two);
  EXPECT_EQ(table.id_of({.table = 1}).value(), one);
  EXPECT_EQ(table.id_of({.table = 1, .flows = 9}).value(), one) << "the count of flows is not content";
  EXPECT_NE(table.id_of({.table = 1, .in_port = 3}).value(), one);
}

TEST(RecircTable, AdoptedIdsKeepTheirMeaning) {
  RecircTable table;
  ASSERT_TRUE(table.adopt(7, {.table = 1, .flows = 3}));
  ASSERT_TRUE(table.adopt(9, {.table = 2}));
  EXPECT_EQ(table.id_of({.table = 2}).value(), 9u);
  EXPECT_EQ(table.id_of({.table = 1}).value(), 7u);
  EXPECT_EQ(table.id_of({.table = 3}).value(), 10u);
  EXPECT_EQ(table.adopt(7, {.table = 5}).error().message(), "recirculation id 7 has another meaning");
  EXPECT_TRUE(table.adopt(7, {.table = 1})) << "saying it again is fine";
  EXPECT_EQ(table.adopt(0, {.table = 5}).error().message(), "recirculation id 0: ids are 1 to 4096");
  EXPECT_EQ(table.find(7)->table, 1u);
}

TEST(RecircTable, NewIdsPassOverAdoptedOnes) {
  RecircTable table;
  ASSERT_TRUE(table.adopt(4096, {.table = 1}));
  ASSERT_TRUE(table.adopt(1, {.table = 2}));
  EXPECT_EQ(table.id_of({.table = 3}).value(), 2u);
}

TEST(RecircTable, PublishesBeforeItGivesOut) {
  std::vector<std::pair<u32, u32>> published;
  bool broken = false;
  RecircTable table([&](u32 id, const ctd_frozen& state) -> Result<> {
    if (broken) return fail("map is full");
    published.emplace_back(id, state.table);
    return {};
  });
  ASSERT_TRUE(table.adopt(3, {.table = 9}));
  const u32 id = table.id_of({.table = 1}).value();
  EXPECT_EQ(table.id_of({.table = 1}).value(), id);
  EXPECT_THAT(published, ElementsAre(std::pair{id, 1u})) << "once, and what was adopted not at all";
  broken = true;
  EXPECT_EQ(table.id_of({.table = 2}).error().message(), "recirculation id 5: map is full");
  broken = false;
  EXPECT_EQ(table.id_of({.table = 2}).value(), 5u) << "a failure leaves nothing behind";
}

TEST(RecircTable, CountsFlows) {
  RecircTable table;
  const u32 id = table.id_of({.table = 1}).value();
  EXPECT_THAT(table.unused(), ElementsAre(id));
  table.ref(id);
  table.ref(id);
  EXPECT_EQ(table.refs(id), 2u);
  EXPECT_TRUE(table.unused().empty());
  table.unref(id);
  EXPECT_TRUE(table.unused().empty());
  table.unref(id);
  EXPECT_THAT(table.unused(), ElementsAre(id));
  table.erase(id);
  EXPECT_EQ(table.find(id), nullptr);
  EXPECT_NE(table.id_of({.table = 1}).value(), id) << "a freed id is not used again at once";
}

TEST(InternTable, IsBounded) {
  InternTable<u32> table("things", 2);
  EXPECT_EQ(table.intern(10).value(), 1u);
  EXPECT_EQ(table.intern(20).value(), 2u);
  EXPECT_EQ(table.intern(30).error().message(), "no things left: all 2 are in use");
  EXPECT_EQ(table.intern(10).value(), 1u);
  table.erase(1);
  EXPECT_EQ(table.intern(30).value(), 1u);
}

TEST(InternTable, TwoAdoptedIdsOfOneContentBothLive) {
  InternTable<u32> table("things", 9);
  ASSERT_TRUE(table.adopt(3, 10));
  ASSERT_TRUE(table.adopt(5, 10));
  EXPECT_EQ(table.intern(10).value(), 3u);
  table.erase(5);
  EXPECT_EQ(table.intern(10).value(), 3u);
  EXPECT_EQ(*table.find(3), 10u);
}

// --- fast_zone

class FastZone : public Translation {
 protected:
  std::optional<u16> zone(std::initializer_list<const char*> texts, u32 port = 1, ctd_family family = CTD_IPV4) {
    return fast_zone(rules_of(texts), port, family);
  }
};

TEST_F(FastZone, IsThatOfTheFirstCt) {
  EXPECT_EQ(zone({"ip actions=ct(table=1,zone=5,nat)"}), std::optional<u16>(5));
  EXPECT_EQ(zone({"ip actions=ct(zone=5),ct(zone=6)"}), std::optional<u16>(5));
  EXPECT_EQ(zone({"ip actions=ct(table=1,zone=5)"}, 1, CTD_IPV6), std::nullopt);
  EXPECT_EQ(zone({}), std::nullopt);
}

TEST_F(FastZone, OtherPortsProtocolsAndFramesDoNotMatter) {
  EXPECT_EQ(zone({"priority=9,in_port=2 actions=ct(zone=6)", "priority=9,vlan_tci=0x1000/0x1000 actions=ct(zone=7)",
                  "priority=9,arp actions=output:2", "priority=9,ip,ip_frag=yes actions=ct(zone=8)",
                  "priority=9,dl_dst=01:00:00:00:00:00/01:00:00:00:00:00 actions=ct(zone=9)",
                  "priority=8,tcp,tp_dst=22 actions=drop", "priority=7,ip actions=ct(table=1,zone=5)",
                  "priority=1 actions=ct(zone=10)"}),
            std::optional<u16>(5));
}

TEST_F(FastZone, DifferentZonesAreNone) {
  EXPECT_EQ(zone({"priority=9,tcp actions=ct(zone=6)", "priority=8,ip actions=ct(zone=5)"}), std::nullopt);
  EXPECT_EQ(zone({"priority=9,ip actions=ct(zone=5)", "priority=8,tcp actions=ct(zone=6)"}), std::optional<u16>(5))
      << "a rule that no packet reaches does not count";
}

TEST_F(FastZone, FollowsTables) {
  EXPECT_EQ(zone({"ip actions=goto_table:1", "table=1 actions=ct(zone=4)"}), std::optional<u16>(4));
  EXPECT_EQ(zone({"ip actions=resubmit(,1)", "table=1 actions=ct(zone=4)"}), std::optional<u16>(4));
  EXPECT_EQ(
      zone({"in_port=1 actions=goto_table:1", "table=1,in_port=2 actions=ct(zone=3)", "table=1 actions=ct(zone=4)"}),
      std::optional<u16>(4));
  EXPECT_EQ(zone({"actions=resubmit(,0)"}), std::nullopt);
}

TEST_F(FastZone, ActionsBeforeTheCtAreNone) {
  EXPECT_EQ(zone({"ip actions=output:2,ct(zone=5)"}), std::nullopt);
  EXPECT_EQ(zone({"ip actions=route(table=1)", "ipv6 actions=ct(zone=1)"}), std::nullopt);
  EXPECT_EQ(zone({"priority=9,udp actions=output:2,stack", "priority=8,ip actions=ct(zone=5)"}), std::optional<u16>(5));
}

}  // namespace
}  // namespace ctd
