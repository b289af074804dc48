// SPDX-License-Identifier: Apache-2.0
// The arguments of the ct() action, and the packet's connection: each sentence of the documentation, through the
// stages.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <netinet/in.h>

#include <cstring>

#include "core_world.hpp"
#include "packet_check.hpp"

namespace ctd::test {
namespace {

using testing::StartsWith;

constexpr u16 kCommit = CTD_CTF_COMMIT, kNat = CTD_CTF_NAT, kMark = CTD_CTF_MARK, kLabel = CTD_CTF_LABEL,
              kForce = CTD_CTF_FORCE, kZoneField = CTD_CTF_ZONE_FIELD;

// Where fields stand that a zone can be taken from.
constexpr u16 kMarkField = offsetof(ctd_flow_key, ct_mark), kInPort = offsetof(ctd_flow_key, in_port);

Packet udp_out() { return frame().ipv4({.src = "10.1.0.2", .dst = "10.0.2.2"}).udp().payload(10).build(); }
Packet udp_back(std::string_view to = "10.1.0.2") {
  return frame().ipv4({.src = "10.0.2.2", .dst = to}).udp({.sport = 53, .dport = 40000}).payload(10).build();
}

// Indices into ct_nat_args: the source becomes 10.0.2.1, and what a test makes of it.
constexpr u32 kSnat = kNatFree, kOther = kNatFree + 1;

ctd_nat_args source(std::string_view to) {
  return {.flags = CTD_NAT_SRC | CTD_NAT_ADDR, .family = CTD_IPV4, .min_addr = address(to), .max_addr = address(to)};
}

class CtAction : public testing::Test {
 protected:
  void SetUp() override { w.nat_args.set(kSnat, source("10.0.2.1")); }
  // What IPv4 packets of a port meet.
  void flow(u32 in, std::initializer_list<ctd_action> actions) { flow(in, 0, actions, {}); }
  void flow(u32 in, u32 recirc, std::initializer_list<ctd_action> actions, Match match) {
    match.key.in_port = in;
    match.key.recirc_id = recirc;
    match.key.eth_type = htons(0x0800);
    w.add_flow(match, actions);
  }
  // From both sides through ct(), then out at the other.
  void wire(const CtArgs& from_lan, const CtArgs& from_wan) {
    w.remove_flows();
    flow(kLan, {act_ct(from_lan), act_output(kWan)});
    flow(kWan, {act_ct(from_wan), act_output(kLan)});
  }
  static Match match(u8 state, u8 mask) {
    Match m;
    m.key.ct_state = state;
    m.mask.ct_state = mask;
    return m;
  }
  void label(u32 id, u8 first, u8 first_mask, u8 last, u8 last_mask) {
    ctd_label_args args{};
    args.value[0] = first;
    args.mask[0] = first_mask;
    args.value[15] = last;
    args.mask[15] = last_mask;
    w.label_args.set(id, args);
  }
  void TearDown() override { EXPECT_EQ(w.broken(), ""); }

  World w{{.install_flows = false}};
};

TEST_F(CtAction, CommitSetsMarkAndLabelUnderTheirMasks) {
  label(1, 0x5a, 0x0f, 0xc0, 0xff);
  wire({.flags = kCommit | kMark | kLabel, .mark = 0xabcd, .mark_mask = 0xff, .label_id = 1}, {});
  EXPECT_EQ(w.from(kLan, udp_out()).where, "wan");
  EXPECT_EQ(w.only().mark, 0xcdu);
  EXPECT_EQ(w.only().label[0], 0x0a);
  EXPECT_EQ(w.only().label[15], 0xc0);
}

TEST_F(CtAction, MarkAndLabelAreInTheKeyAfterwardsInBothDirections) {
  label(1, 0x12, 0xff, 0, 0);
  flow(kLan, {act_ct({.recirc = 1, .flags = kCommit | kMark | kLabel, .mark = 7, .mark_mask = ~0u, .label_id = 1})});
  flow(kWan, {act_ct({.recirc = 1})});
  Match known;
  known.key.ct_mark = 7;
  known.mask.ct_mark = ~0u;
  known.key.ct_label[0] = 0x12;
  std::memset(known.mask.ct_label, 0xff, sizeof(known.mask.ct_label));
  flow(kLan, 1, {act_output(kWan)}, known);
  flow(kWan, 1, {act_output(kLan)}, known);
  EXPECT_EQ(w.from(kLan, udp_out()).where, "wan");
  EXPECT_EQ(w.from(kWan, udp_back()).where, "lan");
}

TEST_F(CtAction, WithoutCommitNothingIsSet) {
  wire({.flags = kCommit}, {.flags = kMark, .mark = 7, .mark_mask = ~0u});
  w.from(kLan, udp_out());
  w.from(kWan, udp_back());
  EXPECT_EQ(w.only().mark, 0u);
}

TEST_F(CtAction, SecondCommitChangesMarkAndLabelOnly) {
  label(1, 0x01, 0x01, 0, 0);
  label(2, 0x80, 0x80, 0, 0);
  w.policies.find(3)->timeout_s[CTD_TIMEOUT_UDP] = 33;
  wire({.flags = kCommit | kMark | kLabel, .mark = 0x0100, .mark_mask = 0xff00, .label_id = 1, .timeout_policy = 3},
       {});
  w.from(kLan, udp_out());
  const ctd_conn before = w.only();
  EXPECT_EQ(before.timeout, 33 * kHz);

  wire({.flags = kCommit | kMark | kLabel | kNat,
        .nat_id = kSnat,
        .mark = 0x22,
        .mark_mask = 0xff,
        .label_id = 2,
        .timeout_policy = 4},
       {});
  EXPECT_EQ(w.from(kLan, udp_out()).line, "udp 10.1.0.2:40000 > 10.0.2.2:53") << "made without a mapping: it has none";
  const ctd_conn& after = w.only();
  EXPECT_EQ(after.mark, 0x0122u);
  EXPECT_EQ(after.label[0], 0x81);
  EXPECT_EQ(after.timeout_policy, 3);
  EXPECT_EQ(after.timeout, before.timeout);
  EXPECT_EQ(CTD_CTL_SEQ(after.ctl), CTD_CTL_SEQ(before.ctl));
}

TEST_F(CtAction, RepliesChangeMarkAndLabelToo) {
  wire({.flags = kCommit}, {.flags = kCommit | kMark, .mark = 9, .mark_mask = ~0u});
  w.from(kLan, udp_out());
  w.from(kWan, udp_back());
  EXPECT_EQ(w.only().mark, 9u);
  EXPECT_EQ(w.only().orig.sport, htons(40000)) << "and nothing else";
}

TEST_F(CtAction, NewMappingOnACommittedConnectionMeansItsOwn) {
  wire({.flags = kCommit | kNat, .nat_id = kSnat}, {.flags = kNat});
  EXPECT_EQ(w.from(kLan, udp_out()).line, "udp 10.0.2.1:40000 > 10.0.2.2:53");
  w.nat_args.set(kOther, source("10.0.2.9"));
  wire({.flags = kCommit | kNat, .nat_id = kOther}, {.flags = kNat});
  EXPECT_EQ(w.from(kLan, udp_out()).line, "udp 10.0.2.1:40000 > 10.0.2.2:53");
  EXPECT_EQ(w.connections().size(), 1u);
}

TEST_F(CtAction, ForceOnAReplyBeginsAnotherConnection) {
  wire({.flags = kCommit | kMark, .mark = 5, .mark_mask = ~0u}, {.flags = kCommit | kForce});
  w.from(kLan, udp_out());
  EXPECT_EQ(w.from(kWan, udp_back()).where, "lan");
  const ctd_conn& c = w.only();
  EXPECT_EQ(c.orig.sport, htons(53)) << "the reply is the original now";
  EXPECT_EQ(c.mark, 0u) << "a new connection has nothing of the old one";
  EXPECT_EQ(c.count[0].packets, 1u);
  EXPECT_EQ(c.count[1].packets, 0u);
  EXPECT_EQ(w.ended(CTD_END_FORCED), 1u);
}

TEST_F(CtAction, ForceOnAnOriginalPacketDoesNothing) {
  wire({.flags = kCommit | kForce}, {});
  w.from(kLan, udp_out());
  const u32 ctl = w.only().ctl;
  w.from(kLan, udp_out());
  EXPECT_EQ(w.only().ctl, ctl);
  EXPECT_EQ(w.only().count[0].packets, 2u);
  EXPECT_EQ(w.ended(CTD_END_FORCED), 0u);
}

// The reply has been translated back when the second ct() forces: what begins is a connection of that header.
TEST_F(CtAction, ForceTakesTheHeaderAsItIsNow) {
  flow(kLan, {act_ct({.flags = kCommit | kNat, .nat_id = kSnat}), act_output(kWan)});
  flow(kWan, {act_ct({.flags = kNat}), act_ct({.flags = kCommit | kForce}), act_output(kLan)});
  w.from(kLan, udp_out());
  EXPECT_EQ(w.from(kWan, udp_back("10.0.2.1")).line, "udp 10.0.2.2:53 > 10.1.0.2:40000");
  const ctd_conn& c = w.only();
  EXPECT_EQ(c.orig.dst.v4, address("10.1.0.2").v4);
  EXPECT_EQ(w.status_of(c), "CONFIRMED");
}

// A SYN+ACK opens no connection: the old one ends as asked, and the packet is invalid, as if it had come alone.
TEST_F(CtAction, ForceWithAPacketThatCannotOpenIsInvalid) {
  flow(kLan, {act_ct({.flags = kCommit}), act_output(kWan)});
  flow(kWan, {act_ct({.recirc = 1, .flags = kCommit | kForce})});
  flow(kWan, 1, {act_output(kLan)}, match(CTD_CS_TRK | CTD_CS_INV, 0xff));
  w.from(kLan, frame().ipv4({.src = "10.1.0.2", .dst = "10.0.2.2"}).tcp({.flags = kSyn}).build());
  const Out out = w.from(kWan, frame()
                                   .ipv4({.src = "10.0.2.2", .dst = "10.1.0.2"})
                                   .tcp({.sport = 80, .dport = 40000, .flags = kSyn | kAck})
                                   .build());
  EXPECT_EQ(out.where, "lan");
  EXPECT_EQ(w.connections().size(), 0u);
}

TEST_F(CtAction, IcmpErrorsForceNothing) {
  wire({.flags = kCommit}, {.flags = kCommit | kForce});
  const Packet first = udp_out();
  w.from(kLan, first);
  const Bytes quoted(first.bytes.begin() + 14, first.bytes.end());
  const Out out = w.from(
      kWan, frame().ipv4({.src = "10.0.2.2", .dst = "10.1.0.2"}).icmp({.type = 3, .code = 3}).payload(quoted).build());
  EXPECT_EQ(out.where, "lan");
  EXPECT_EQ(w.only().orig.sport, htons(40000));
  EXPECT_EQ(w.ended(CTD_END_FORCED), 0u);
}

TEST_F(CtAction, SameZoneReusesWhatItFound) {
  // After translation the header is nobody's tuple: another look-up would miss, and the packet be new.
  flow(kLan, {act_ct({.flags = kCommit | kNat, .nat_id = kSnat}), act_ct({.recirc = 1})});
  flow(kLan, 1, {act_output(kWan)}, match(CTD_CS_TRK | CTD_CS_EST | CTD_CS_SNAT, 0xff));
  flow(kLan, 1, {act_output(kWan)}, match(CTD_CS_TRK | CTD_CS_NEW | CTD_CS_SNAT, 0xff));
  flow(kWan, {act_ct({.flags = kNat}), act_output(kLan)});
  EXPECT_EQ(w.from(kLan, udp_out()).where, "wan");
  w.from(kWan, udp_back("10.0.2.1"));
  EXPECT_EQ(w.from(kLan, udp_out()).where, "wan");
  EXPECT_EQ(w.only().count[0].packets, 2u) << "counted once a packet";
}

TEST_F(CtAction, AnotherZoneLooksUpTheHeaderAsItIsNow) {
  flow(kLan, {act_ct({.flags = kCommit | kNat, .nat_id = kSnat, .zone = 1}), act_ct({.flags = kCommit, .zone = 2}),
              act_output(kWan)});
  EXPECT_EQ(w.from(kLan, udp_out()).line, "udp 10.0.2.1:40000 > 10.0.2.2:53");
  const auto all = w.connections();
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0]->orig.zone, 1);
  EXPECT_EQ(all[0]->orig.src.v4, address("10.1.0.2").v4);
  EXPECT_EQ(all[1]->orig.zone, 2);
  EXPECT_EQ(all[1]->orig.src.v4, address("10.0.2.1").v4) << "translated by then";
  EXPECT_EQ(w.status_of(*all[1]), "CONFIRMED");
}

TEST_F(CtAction, CtClearForgets) {
  Match nothing = match(0, 0xff);
  nothing.mask.ct_zone = 0xffff;
  nothing.mask.ct_mark = ~0u;
  nothing.mask.ct_orig_proto = 0xff;
  nothing.mask.ct_orig_sport = 0xffff;
  nothing.mask.ct_orig_src.v4 = ~0u;
  flow(kLan, {act_ct({.flags = kCommit | kNat | kMark, .nat_id = kSnat, .zone = 1, .mark = 7, .mark_mask = ~0u}),
              act_ct_clear(), act_recirc(1)});
  flow(kLan, 1, {act_ct({.recirc = 2, .zone = 1})}, nothing);
  flow(kLan, 2, {act_output(kWan)}, match(CTD_CS_TRK | CTD_CS_NEW, 0xff));
  EXPECT_EQ(w.from(kLan, udp_out()).where, "wan") << "the translated header is new to the zone";
}

TEST_F(CtAction, ZoneFromAField) {
  for (u16 half : {0, 2}) {
    w.remove_flows();
    flow(kLan,
         {act_ct({.flags = kCommit | kMark, .zone = 1, .mark = 0x50007, .mark_mask = ~0u}),
          act_ct({.flags = kCommit | kZoneField, .zone = static_cast<u16>(kMarkField + half)}), act_output(kWan)});
    EXPECT_EQ(w.from(kLan, udp_out()).where, "wan");
  }
  EXPECT_EQ(w.zones.find(1)->count, 1);
  EXPECT_EQ(w.zones.find(7)->count, 1) << "the low half of the mark";
  EXPECT_EQ(w.zones.find(5)->count, 1) << "the high half";
}

TEST_F(CtAction, ZoneFromTheInputPort) {
  wire({.flags = kCommit | kZoneField, .zone = kInPort}, {.flags = kCommit | kZoneField, .zone = kInPort});
  w.from(kLan, udp_out());
  w.from(kWan, udp_out());
  const auto all = w.connections();
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0]->orig.zone, kLan);
  EXPECT_EQ(all[1]->orig.zone, kWan);
}

TEST_F(CtAction, TheOriginalTupleIsInTheKeyOfEveryTrackedPacket) {
  flow(kLan, {act_ct({.recirc = 1})});
  flow(kWan, {act_ct({.recirc = 1})});
  Match orig;
  orig.key.ct_orig_src.v4 = address("10.1.0.2").v4;
  orig.key.ct_orig_dst.v4 = address("10.0.2.2").v4;
  orig.key.ct_orig_proto = IPPROTO_UDP;
  orig.key.ct_orig_sport = htons(40000);
  orig.key.ct_orig_dport = htons(53);
  std::memset(&orig.mask.ct_orig_src, 0xff, 32);
  orig.mask.ct_orig_proto = 0xff;
  orig.mask.ct_orig_sport = orig.mask.ct_orig_dport = 0xffff;
  flow(kLan, 1, {act_ct({.flags = kCommit | kNat, .nat_id = kSnat}), act_output(kWan)}, orig);
  flow(kWan, 1, {act_ct({.flags = kNat}), act_output(kLan)}, orig);
  EXPECT_EQ(w.from(kLan, udp_out()).where, "wan") << "of a new connection it is the packet's own";
  EXPECT_EQ(w.from(kWan, udp_back("10.0.2.1")).where, "lan") << "of a reply the original's, before translation";
}

TEST_F(CtAction, TheOriginalTupleOfAPingHasTypeAndCode) {
  flow(kLan, {act_ct({.recirc = 1, .flags = kCommit})});
  Match ping;
  ping.key.ct_orig_proto = IPPROTO_ICMP;
  ping.key.ct_orig_sport = htons(8);
  ping.mask.ct_orig_proto = 0xff;
  ping.mask.ct_orig_sport = ping.mask.ct_orig_dport = 0xffff;
  flow(kLan, 1, {act_output(kWan)}, ping);
  EXPECT_EQ(w.from(kLan, frame().ipv4().icmp({.id = 77}).build()).where, "wan");
}

TEST_F(CtAction, PolicyIsTheActionsElseTheZonesElseTheDefault) {
  for (u32 id : {1u, 2u}) w.policies.find(id)->timeout_s[CTD_TIMEOUT_UDP] = 10 * id;
  w.zones.find(5)->policy = 1;
  const auto timeout = [&](const CtArgs& args) {
    w.remove_flows();
    native_flush();
    w.sweep();
    flow(kLan, {act_ct(args), act_output(kWan)});
    w.from(kLan, udp_out());
    return w.only().timeout / kHz;
  };
  EXPECT_EQ(timeout({.flags = kCommit, .zone = 5, .timeout_policy = 2}), 20u);
  EXPECT_EQ(timeout({.flags = kCommit, .zone = 5}), 10u);
  EXPECT_EQ(timeout({.flags = kCommit, .zone = 6}), 120u);
}

// The zone lets a stream be picked up, the action's policy does not.
TEST_F(CtAction, TheActionsPolicySaysWhetherAStreamIsPickedUp) {
  w.policies.find(2)->flags = CTD_CTP_NO_PICKUP;
  flow(kLan, {act_ct({.flags = kCommit, .timeout_policy = 2}), act_output(kWan)});
  EXPECT_EQ(w.from(kLan, frame().ipv4().tcp({.flags = kAck}).build()).where, "drop ct_invalid");
  EXPECT_EQ(w.from(kLan, frame().ipv4().tcp({.flags = kSyn}).build()).where, "wan");
  EXPECT_EQ(w.only().state, CTD_TCP_SYN_SENT);
}

TEST_F(CtAction, WhatAPolicyDoesNotSayIsTheDefaults) {
  w.policies.find(2)->timeout_s[CTD_TIMEOUT_UDP] = 20;
  w.policies.find(0)->timeout_s[u32{CTD_TIMEOUT_UDP} + CTD_OTHER_REPLIED] = 77;
  wire({.flags = kCommit, .timeout_policy = 2}, {});
  w.from(kLan, udp_out());
  EXPECT_EQ(w.only().timeout, 20 * kHz);
  w.from(kWan, udp_back());
  EXPECT_EQ(w.only().timeout, 77 * kHz);
}

TEST_F(CtAction, HelperIsKeptAndAttachedLaterIfThereIsNone) {
  wire({.flags = kCommit}, {.flags = kCommit, .helper = 3});
  w.from(kLan, udp_out());
  EXPECT_EQ(w.only().helper, 0);
  w.from(kWan, udp_back());
  EXPECT_EQ(w.only().helper, 3);
  EXPECT_EQ(w.status_of(w.only()), "SEEN_REPLY CONFIRMED HELPER");
  wire({.flags = kCommit, .helper = 4}, {});
  w.from(kLan, udp_out());
  EXPECT_EQ(w.only().helper, 3) << "a helper that is there stays";
}

Packet udp_from(unsigned sport) {
  return frame()
      .ipv4({.src = "10.1.0.2", .dst = "10.0.2.2"})
      .udp({.sport = static_cast<std::uint16_t>(sport)})
      .payload(10)
      .build();
}

// While a packet was at the daemon its connection ended and the record became another's: whose mark must not be
// matched.
TEST_F(CtAction, AReusedRecordIsNotRead) {
  wire({.flags = kCommit}, {});
  w.from(kLan, udp_out());
  const u32 id = w.only().id;
  w.remove_flows();
  flow(kLan, {act_ct({.recirc = 1})});
  const Out up = w.from(kLan, udp_out());
  ASSERT_EQ(up.where, "tap");
  native_flush();
  w.sweep();
  wire({.flags = kCommit | kMark, .mark = 7, .mark_mask = ~0u}, {});
  w.from(kLan, udp_from(1));
  ASSERT_EQ(w.only().id, id);
  flow(kLan, 1, {act_ct({.recirc = 2})}, {});
  Match fresh = match(CTD_CS_TRK | CTD_CS_NEW, 0xff);
  fresh.mask.ct_mark = ~0u;
  flow(kLan, 2, {act_output(kWan)}, fresh);
  EXPECT_EQ(w.execute(up).where, "wan") << "looked up once more";
}

TEST_F(CtAction, LimitIsExactAndOnlyItsZones) {
  w.zones.find(5)->limit = 3;
  wire({.flags = kCommit, .zone = 5}, {.flags = kCommit, .zone = 6});
  for (unsigned i = 0; i < 3; i++) EXPECT_EQ(w.from(kLan, udp_from(40000 + i)).where, "wan");
  EXPECT_EQ(w.from(kLan, udp_from(40003)).where, "drop ct_limit");
  EXPECT_EQ(w.from(kLan, udp_from(40001)).where, "wan") << "the connections that are there go on";
  EXPECT_EQ(w.zones.find(5)->count, 3);
  for (unsigned i = 0; i < 5; i++) EXPECT_EQ(w.from(kWan, udp_from(41000 + i)).where, "lan");
  EXPECT_EQ(w.zones.find(6)->count, 5);
  w.zones.find(5)->limit = 4;
  EXPECT_EQ(w.from(kLan, udp_from(40003)).where, "wan");
}

TEST_F(CtAction, RoomOfAnEndedConnectionIsFree) {
  w.zones.find(5)->limit = 1;
  wire({.flags = kCommit, .zone = 5}, {});
  EXPECT_EQ(w.from(kLan, udp_from(1)).where, "wan");
  EXPECT_EQ(w.from(kLan, udp_from(2)).where, "drop ct_limit");
  w.advance(121);
  w.sweep();
  EXPECT_EQ(w.zones.find(5)->count, 0);
  EXPECT_EQ(w.from(kLan, udp_from(2)).where, "wan");
}

TEST_F(CtAction, AForcedConnectionTakesItsOwnPlace) {
  w.zones.find(0)->limit = 1;
  wire({.flags = kCommit}, {.flags = kCommit | kForce});
  w.from(kLan, udp_out());
  EXPECT_EQ(w.from(kWan, udp_back()).where, "lan");
  EXPECT_EQ(w.zones.find(0)->count, 1);
}

TEST_F(CtAction, AFailedCreationCountsNowhere) {
  ctd_nat_args two_ports = source("10.0.2.9");
  two_ports.flags |= CTD_NAT_PORTS;
  two_ports.min_port = 5000;
  two_ports.max_port = 5001;
  w.nat_args.set(kOther, two_ports);
  wire({.flags = kCommit | kNat, .nat_id = kOther, .zone = 5}, {});
  for (unsigned i = 0; i < 2; i++) EXPECT_EQ(w.from(kLan, udp_from(40000 + i)).where, "wan");
  for (unsigned i = 2; i < 9; i++) EXPECT_EQ(w.from(kLan, udp_from(40000 + i)).where, "drop nat_exhausted");
  EXPECT_EQ(w.zones.find(5)->count, 2);
}

TEST(CtZones, WhoMakesRoomIsCountedOut) {
  World w({.native = {.conn_capacity = 8, .unanswered_quota = 100}, .install_flows = false});
  Match m;
  m.key.in_port = kLan;
  m.key.eth_type = htons(0x0800);
  w.add_flow(m, {act_ct({.flags = kCommit, .zone = 5}), act_output(kWan)});
  for (unsigned i = 0; i < 8; i++) EXPECT_EQ(w.from(kLan, udp_from(40000 + i)).where, "wan");
  for (unsigned i = 8; i < 20; i++) EXPECT_EQ(w.from(kLan, udp_from(40000 + i)).where, "wan");
  EXPECT_EQ(w.zones.find(5)->count, 8);
  EXPECT_EQ(w.broken(), "");
}

// A gateway whose packets have met the verdict cache in both directions.
class CtVerdict : public testing::Test {
 protected:
  void SetUp() override {
    for (int i = 0; i < 8; i++) {
      w.from(kLan, udp_out());
      w.from(kWan, udp_back("10.0.2.1"));
    }
    ASSERT_EQ(w.cache4.size(), 2u);
  }
  // A first pass of the LAN's packets that does this instead.
  void instead(std::initializer_list<ctd_action> actions) {
    w.remove_flows();
    w.raise_version();
    Match m;
    m.key.in_port = kLan;
    m.key.eth_type = htons(0x0800);
    w.add_flow(m, actions);
  }

  World w{{.fast = true}};
};

TEST_F(CtVerdict, AChangedMarkDropsBothDirections) {
  instead({act_ct({.flags = kCommit | kNat | kMark, .mark = 1, .mark_mask = ~0u}), act_stack()});
  w.from(kLan, udp_out());
  EXPECT_EQ(w.only().mark, 1u);
  EXPECT_EQ(w.cache4.size(), 0u);
}

TEST_F(CtVerdict, AChangedLabelDropsBothDirections) {
  ctd_label_args args{};
  args.value[7] = args.mask[7] = 0x10;
  w.label_args.set(1, args);
  instead({act_ct({.flags = kCommit | kNat | kLabel, .label_id = 1}), act_stack()});
  w.from(kLan, udp_out());
  EXPECT_EQ(w.only().label[7], 0x10);
  EXPECT_EQ(w.cache4.size(), 0u);
}

TEST_F(CtVerdict, AHelperDropsBothDirections) {
  instead({act_ct({.flags = kCommit | kNat, .helper = 1}), act_stack()});
  w.from(kLan, udp_out());
  EXPECT_EQ(w.cache4.size(), 0u);
}

TEST_F(CtVerdict, ACommitThatChangesNothingKeepsThem) {
  instead({act_ct({.flags = kCommit | kNat | kMark, .mark = 0, .mark_mask = ~0u}), act_stack()});
  w.from(kLan, udp_out());
  EXPECT_EQ(w.cache4.size(), 2u);
}

// The second zone's header is not the one that arrives: a verdict under it would be found by other packets.
TEST_F(CtVerdict, NoneIsMadeOfASecondLookUp) {
  native_flush();
  w.sweep();
  ASSERT_EQ(w.cache4.size(), 0u);
  w.remove_flows();
  const auto flow = [&](u32 in, std::initializer_list<ctd_action> actions) {
    Match m;
    m.key.in_port = in;
    m.key.eth_type = htons(0x0800);
    w.add_flow(m, actions);
  };
  flow(kLan, {act_ct({.flags = kCommit, .zone = 1}), act_ct({.flags = kCommit, .zone = 0}), act_route()});
  flow(kWan, {act_ct({.zone = 1}), act_ct({.zone = 0}), act_route()});
  for (int i = 0; i < 8; i++) {
    EXPECT_THAT(w.from(kLan, udp_out()).where, StartsWith("wan"));
    EXPECT_THAT(w.from(kWan, udp_back()).where, StartsWith("lan"));
  }
  EXPECT_EQ(w.cache4.size(), 0u);
}

}  // namespace
}  // namespace ctd::test
