// SPDX-License-Identifier: Apache-2.0
// Expectations: which packets they announce, what the connection inherits, when they are void, who makes room.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include <cerrno>

#include "core_events.hpp"
#include "core_world.hpp"

namespace ctd::test {
namespace {

using testing::ElementsAre;

constexpr u32 kAfterCt = 1;  // of World::install_gateway()
// What comes to the gateway's own address is the host's, unless a connection says otherwise.
constexpr const char* kUnannounced = "stack";

class Expect : public testing::Test {
 protected:
  Expect() {
    // New and expected: committed, as the expectation says. The marker for established and related: to the third port.
    for (u32 in : {kLan, kWan}) {
      state_flow(in, CTD_CS_NEW | CTD_CS_REL, {act_ct({.flags = CTD_CTF_COMMIT | CTD_CTF_NAT}), act_route()});
      state_flow(in, CTD_CS_EST | CTD_CS_REL, {act_output(kDmz)});
    }
    w.from(kLan, frame().ipv4().tcp({.dport = 21}).build());
    master = w.only().id;
    w.conn(master)->mark = 0x77;
    w.conn(master)->label[3] = 9;
  }

  void state_flow(u32 in, u8 state, std::initializer_list<ctd_action> actions) {
    Match m;
    m.key.in_port = in;
    m.key.recirc_id = kAfterCt;
    m.key.eth_type = htons(0x0800);
    m.key.ct_state = state;
    m.mask.ct_state = CTD_CS_NEW | CTD_CS_EST | CTD_CS_REL | CTD_CS_INV;
    w.add_flow(m, actions);
  }

  static be32 ipv4(u8 a, u8 b, u8 c, u8 d) { return htonl(static_cast<u32>(a) << 24 | b << 16 | c << 8 | d); }

  // The server's data connection to the gateway's address, which is the client's: FTP in active mode.
  ctd_expect_order active(u16 port = 5000) const {
    ctd_expect_order order{};
    order.key.src.v4 = ipv4(10, 0, 2, 2);
    order.key.dst.v4 = ipv4(10, 0, 2, 1);
    order.key.dport = htons(port);
    order.key.proto = IPPROTO_TCP;
    order.key.family = CTD_IPV4;
    order.expect.master = master;
    order.expect.master_seq = CTD_CTL_SEQ(w.conn(master)->ctl);
    order.expect.flags = CTD_EXPECT_DNAT;
    order.expect.nat_dst.v4 = ipv4(10, 1, 0, 2);
    order.timeout = 60 * kHz;
    return order;
  }
  int add(ctd_expect_order order) {
    EXPECT_EQ(native_expect(NATIVE_EXPECT_ADD, &order), 0);
    removed = order.count;
    return order.error;
  }
  Out data(u16 port = 5000, u16 sport = 20, std::uint8_t flags = kSyn, std::string_view src = "10.0.2.2") {
    return w.from(
        kWan,
        frame().ipv4({.src = src, .dst = "10.0.2.1"}).tcp({.sport = sport, .dport = port, .flags = flags}).build());
  }
  const ctd_conn* expected() const {
    for (const ctd_conn* conn : w.connections())
      if (conn->status & CTD_STATUS_EXPECTED) return conn;
    return nullptr;
  }
  u32 left() const {
    EXPECT_EQ(w.rt().expects, static_cast<s32>(expects.size()));
    return expects.size();
  }
  static u64 counted(ctd_expect_counter what) {
    u64 sum = 0;
    for (u32 cpu = 0, zero = 0; cpu < NATIVE_MAX_CPUS; cpu++)
      sum += static_cast<ctd_ct_stats*>(native_map_lookup_cpu(native_map_find("ct_stats"), &zero, cpu))->expects[what];
    return sum;
  }
  void TearDown() override {
    // Every expectation that ever was is there, or its end was counted. (A permanent one can be used often.)
    if (!permanent) {
      u64 ended = 0;
      for (auto end : {CTD_EXPECT_USED, CTD_EXPECT_TIMEOUT, CTD_EXPECT_MASTER, CTD_EXPECT_DELETED, CTD_EXPECT_REPLACED,
                       CTD_EXPECT_EVICTED})
        ended += counted(end);
      EXPECT_EQ(counted(CTD_EXPECT_MADE), left() + ended);
    }
    left();
    EXPECT_EQ(w.broken(), "");
  }

  World w;
  Map<ctd_tuple, ctd_expect> expects{"ct_expects"};
  u32 master = 0;
  u32 removed = 0;
  bool permanent = false;
};

TEST_F(Expect, TheAnnouncedConnectionInheritsAndIsTranslated) {
  ASSERT_EQ(add(active()), 0);
  w.rt().event_mask = CTD_EVENT_ALL;
  const Out out = data();
  EXPECT_EQ(out.where, "lan via 10.1.0.2");
  EXPECT_THAT(out.line, testing::HasSubstr("10.1.0.2:5000"));
  const ctd_conn* conn = expected();
  ASSERT_NE(conn, nullptr);
  EXPECT_EQ(w.status_of(*conn), "EXPECTED CONFIRMED DST_NAT");
  EXPECT_EQ(conn->master, master);
  EXPECT_EQ(conn->master_seq, CTD_CTL_SEQ(w.conn(master)->ctl));
  EXPECT_EQ(conn->mark, 0x77u);
  EXPECT_EQ(conn->label[3], 9);
  EXPECT_EQ(left(), 0u) << "used up";
  EXPECT_THAT(take_event_texts(), ElementsAre("related"));
}

TEST_F(Expect, AllItsPacketsAreRelated) {
  add(active());
  data();
  EXPECT_EQ(data().where, "lan via 10.1.0.2") << "again, before the answer: rel alone";
  const Out answer = w.from(
      kLan, frame().ipv4().tcp({.sport = 5000, .dport = 20, .flags = kSyn | kAck, .seq = 7000, .ack = 1001}).build());
  EXPECT_EQ(answer.where, "dmz") << "est and rel";
  EXPECT_EQ(data(5000, 20, kAck).where, "dmz");
  w.conn(master)->ctl += 1 << 8;  // even when the master has gone
  EXPECT_EQ(data(5000, 20, kAck).where, "dmz");
  w.conn(master)->ctl -= 1 << 8;
}

TEST_F(Expect, WhatIsNotAnnouncedIsNotRelated) {
  add(active());
  EXPECT_EQ(data(5001).where, kUnannounced) << "another port";
  EXPECT_EQ(data(5000, 20, kSyn, "10.0.2.9").where, kUnannounced) << "another address";
  EXPECT_EQ(left(), 1u);
  EXPECT_EQ(data().where, "lan via 10.1.0.2");
  EXPECT_EQ(data(5000, 21).where, kUnannounced) << "one connection only";
}

TEST_F(Expect, TheSourceMayBeExactOrAny) {
  ctd_expect_order any = active(), exact = active();
  any.key.src = {};
  exact.key.sport = htons(20);
  exact.expect.nat_dport = htons(6000);
  add(any);
  add(exact);
  EXPECT_THAT(data().line, testing::HasSubstr("10.1.0.2:6000")) << "the more exact one first";
  EXPECT_EQ(left(), 1u);
  EXPECT_THAT(data(5000, 33, kSyn, "10.9.9.9").line, testing::HasSubstr("10.1.0.2:5000"));
  EXPECT_EQ(left(), 0u);
}

TEST_F(Expect, APermanentOneStays) {
  ctd_expect_order order = active();
  order.expect.flags |= CTD_EXPECT_PERMANENT;
  permanent = true;
  add(order);
  for (u16 sport : {20, 21, 22}) EXPECT_EQ(data(5000, sport).where, "lan via 10.1.0.2");
  EXPECT_EQ(left(), 1u);
}

TEST_F(Expect, TimeVoidsItAndTheSweepTakesIt) {
  add(active());
  add(active(5001));
  w.advance(59);
  EXPECT_EQ(data().where, "lan via 10.1.0.2");
  w.advance(1);
  EXPECT_EQ(data(5001).where, kUnannounced);
  EXPECT_EQ(left(), 1u);
  w.sweep(1);
  EXPECT_EQ(left(), 0u) << "without a daemon";
  EXPECT_EQ(counted(CTD_EXPECT_TIMEOUT), 1u);
}

TEST_F(Expect, WithoutItsMasterItIsVoid) {
  add(active());
  const ctd_expect_order late = active(5001);
  native_flush();
  w.sweep();
  EXPECT_EQ(add(late), -ENOENT);
  w.from(kLan, frame().ipv4().tcp({.sport = 40001, .dport = 21}).build());
  EXPECT_EQ(w.only().id, master) << "the same place, another connection";
  EXPECT_EQ(data().where, kUnannounced);
  EXPECT_EQ(add(active(5001)), 0);
  EXPECT_EQ(removed, 0u) << "the sweep has taken it";
  EXPECT_EQ(left(), 1u);
}

TEST_F(Expect, AMasterHasALimitAndTheOldestMakesRoom) {
  for (u16 port : {5000, 5001, 5002}) {
    ctd_expect_order order = active(port);
    order.limit = 2;
    EXPECT_EQ(add(order), 0);
    EXPECT_EQ(removed, port == 5002 ? 1u : 0u);
  }
  ctd_expect_order other = active(5003);
  other.limit = 2;
  other.expect.kind = 1;
  EXPECT_EQ(add(other), 0);
  EXPECT_EQ(removed, 0u) << "each kind has its own";
  EXPECT_EQ(left(), 3u);
  EXPECT_EQ(data(5000).where, kUnannounced);
  EXPECT_EQ(data(5001).where, "lan via 10.1.0.2");
}

TEST_F(Expect, ARepetitionReplacesAndAnotherMastersIsInTheWay) {
  add(active());
  ctd_expect_order again = active();
  again.expect.nat_dport = htons(6000);
  EXPECT_EQ(add(again), 0);
  EXPECT_EQ(left(), 1u);
  w.from(kLan, frame().ipv4().tcp({.sport = 40001, .dport = 21}).build());
  const u32 first = master;
  master = first + 1;
  ASSERT_EQ(CTD_CTL_LIFE(w.conn(master)->ctl), u32{CTD_CONN_VALID});
  EXPECT_EQ(add(active()), -EEXIST);
  master = first;
  EXPECT_THAT(data().line, testing::HasSubstr("10.1.0.2:6000"));
}

TEST_F(Expect, RemovedByItsKey) {
  add(active());
  ctd_expect_order order = active();
  native_expect(NATIVE_EXPECT_REMOVE, &order);
  EXPECT_EQ(order.error, 0);
  native_expect(NATIVE_EXPECT_REMOVE, &order);
  EXPECT_EQ(order.error, -ENOENT);
  EXPECT_EQ(data().where, kUnannounced);
}

TEST_F(Expect, AFullTableRefuses) {
  for (u32 i = 0; i < CTD_MAX_EXPECTS; i++) ASSERT_EQ(add(active(static_cast<u16>(1024 + i))), 0);
  EXPECT_EQ(add(active(60000)), -ENOSPC);
  EXPECT_EQ(left(), CTD_MAX_EXPECTS);
  w.advance(61);
  EXPECT_EQ(add(active(60000)), 0);
  EXPECT_EQ(removed, CTD_MAX_EXPECTS);
}

TEST_F(Expect, ACommitThatFailsLeavesItThere) {
  add(active());
  native_map_fail(w.tuple4.raw(), NATIVE_ON_UPDATE, ENOMEM, 0, 1);
  EXPECT_EQ(data().where, "drop ct_full");
  EXPECT_EQ(left(), 1u);
  EXPECT_EQ(data().where, "lan via 10.1.0.2");
}

TEST_F(Expect, WhoLosesTheRaceForItLooksAgain) {
  add(active());
  native_map_fail(expects.raw(), NATIVE_ON_DELETE, EBUSY, 0, 1);
  EXPECT_EQ(data().where, "lan via 10.1.0.2");
  EXPECT_EQ(left(), 0u);
}

// The client's data connection in passive mode is masqueraded like its master; its port is taken already.
TEST_F(Expect, ASourceMappingFindsAFreePort) {
  ctd_expect_order order = active();
  order.key.src.v4 = ipv4(10, 1, 0, 2);
  order.key.dst.v4 = ipv4(10, 0, 2, 2);
  order.key.dport = htons(7000);
  order.expect.flags = CTD_EXPECT_SNAT;
  order.expect.nat_src.v4 = ipv4(10, 0, 2, 1);
  w.from(kLan, frame().ipv4({.src = "10.1.0.3"}).tcp({.sport = 40005, .dport = 7000}).build());
  add(order);
  EXPECT_EQ(w.from(kLan, frame().ipv4().tcp({.sport = 40005, .dport = 7000}).build()).where, "wan via 10.0.2.2");
  const ctd_conn* conn = expected();
  ASSERT_NE(conn, nullptr);
  EXPECT_EQ(conn->reply.dst.v4, ipv4(10, 0, 2, 1));
  EXPECT_NE(conn->reply.dport, htons(40005));
  EXPECT_GE(ntohs(conn->reply.dport), 1024);
}

// What the flows of the first packet can match.
TEST_F(Expect, ItsFirstPacketShowsTheMastersMarkAndLabel) {
  Match m;
  m.key.in_port = kWan;
  m.key.recirc_id = kAfterCt;
  m.key.eth_type = htons(0x0800);
  m.key.ct_state = CTD_CS_TRK | CTD_CS_NEW | CTD_CS_REL;
  m.mask.ct_state = 0xff;
  m.key.ct_mark = 0x77;
  m.mask.ct_mark = ~0u;
  m.key.ct_label[3] = 9;
  m.mask.ct_label[3] = 0xff;
  w.remove_flows();
  Match admit;
  admit.key.in_port = kWan;
  admit.key.eth_type = htons(0x0800);
  w.add_flow(admit, {act_ct({.recirc = kAfterCt, .flags = CTD_CTF_NAT})});
  w.add_flow(m, {act_output(kDmz)});
  add(active());
  EXPECT_EQ(data().where, "dmz");
  w.conn(master)->mark = 0x78;
  EXPECT_NE(data().where, "dmz");
}

TEST_F(Expect, TheActionsMarkAndLabelComeAfterTheInherited) {
  ctd_label_args label{};
  label.value[4] = 5;
  label.mask[4] = 0xff;
  w.label_args.set(1, label);
  w.remove_flows();
  Match m;
  m.key.in_port = kWan;
  m.key.eth_type = htons(0x0800);
  constexpr u16 kFlags = CTD_CTF_COMMIT | CTD_CTF_NAT | CTD_CTF_MARK | CTD_CTF_LABEL;
  w.add_flow(m, {act_ct({.flags = kFlags, .mark = 0x4, .mark_mask = 0xf, .label_id = 1}), act_route()});
  add(active());
  EXPECT_EQ(data().where, "lan via 10.1.0.2");
  ASSERT_NE(expected(), nullptr);
  EXPECT_EQ(expected()->mark, 0x74u);
  EXPECT_EQ(expected()->label[3], 9);
  EXPECT_EQ(expected()->label[4], 5);
}

TEST_F(Expect, OfAnotherZoneIsNotMeant) {
  ctd_expect_order order = active();
  order.key.zone = 5;
  add(order);
  EXPECT_EQ(data().where, kUnannounced);
  EXPECT_EQ(left(), 1u);
}

TEST_F(Expect, NobodyLooksWhileThereAreNone) {
  add(active());
  w.rt().expects = 0;
  EXPECT_EQ(data().where, kUnannounced);
  w.rt().expects = 1;
  EXPECT_EQ(data(5000, 21).where, "lan via 10.1.0.2");
}

TEST_F(Expect, AForcedReplyEndsItAsAnyOther) {
  add(active());
  data();
  w.remove_flows();
  Match m;
  m.key.in_port = kLan;
  m.key.eth_type = htons(0x0800);
  w.add_flow(m, {act_ct({.flags = CTD_CTF_COMMIT | CTD_CTF_FORCE}), act_output(kWan)});
  w.from(kLan, frame().ipv4().tcp({.sport = 5000, .dport = 20, .flags = kAck, .seq = 7000, .ack = 1001}).build());
  EXPECT_EQ(w.ended(CTD_END_FORCED), 1u);
  EXPECT_EQ(expected(), nullptr);
}

TEST_F(Expect, AMasterThatWasRefusedExpectsNothing) {
  add(active());
  w.from(kWan, frame()
                   .ipv4({.src = "10.0.2.2", .dst = "10.0.2.1"})
                   .tcp({.sport = 21, .dport = 40000, .flags = kRst | kAck, .ack = 1001})
                   .build());
  ASSERT_EQ(w.conn(master)->timeout, 0u) << "over, but not swept yet";
  EXPECT_EQ(data().where, kUnannounced);
  w.sweep();
  EXPECT_EQ(counted(CTD_EXPECT_MASTER), 1u);
}

TEST_F(Expect, InIpv6) {
  ctd_expect_order order = active();
  order.key.family = CTD_IPV6;
  order.key.src = {};
  order.key.dst = address("2001:db8:1::2");
  order.expect.flags = 0;
  add(order);
  Match m;
  m.key.in_port = kWan;
  m.key.recirc_id = kAfterCt;
  m.key.eth_type = htons(0x86dd);
  m.key.ct_state = CTD_CS_NEW | CTD_CS_REL;
  m.mask.ct_state = CTD_CS_NEW | CTD_CS_EST | CTD_CS_REL | CTD_CS_INV;
  w.add_flow(m, {act_ct({.flags = CTD_CTF_COMMIT}), act_output(kDmz)});
  const Packet syn =
      frame().ipv6({.src = "2001:db8:2::2", .dst = "2001:db8:1::2"}).tcp({.sport = 20, .dport = 5000}).build();
  EXPECT_EQ(w.from(kWan, syn).where, "dmz");
  ASSERT_NE(expected(), nullptr);
  EXPECT_EQ(expected()->mark, 0x77u);
}

TEST_F(Expect, OnlyThisOneIsRemovedByItsId) {
  add(active());
  ctd_expect_order order = active();
  order.expect.id = 7;
  native_expect(NATIVE_EXPECT_REMOVE, &order);
  EXPECT_EQ(order.error, -ENOENT);
  order.expect.id = 1;
  native_expect(NATIVE_EXPECT_REMOVE, &order);
  EXPECT_EQ(order.error, 0);
}

}  // namespace
}  // namespace ctd::test
