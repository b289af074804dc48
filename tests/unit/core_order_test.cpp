// SPDX-License-Identifier: Apache-2.0
// Orders over single connections (bpf/ct/order.h), on the native core.
#include <arpa/inet.h>
#include <ctd/abi/control.h>

#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "core_world.hpp"

namespace ctd::test {
namespace {

class OrderTest : public testing::Test {
 protected:
  void SetUp() override { make({}); }
  void TearDown() override { EXPECT_EQ(world->broken(), ""); }
  void make(const WorldOptions& options) {
    world = std::make_unique<World>(options);
    order = Map<u32, ctd_order>("ct_order").find(0);
  }

  ctd_request& request(u32 i) { return *Map<u32, ctd_request>("ct_requests").find(i); }
  void about(u32 i, const ctd_conn& conn) {
    request(i).id = conn.id;
    request(i).seq = CTD_CTL_SEQ(conn.ctl);
  }
  void run(ctd_order_kind kind, u32 count) {
    order->kind = kind;
    order->count = count;
    order->number++;
    native_order();
    EXPECT_EQ(order->done, order->number);
  }
  u32 insert(const ctd_conn& conn, ctd_conn_class cls = CTD_CLASS_UNANSWERED) {
    request(0).conn = conn;
    request(0).cls = cls;
    run(CTD_ORDER_INSERT, 1);
    return request(0).result;
  }
  Out udp(std::uint16_t sport = 40000) {
    return world->from(kLan, frame().ipv4({.src = "10.1.0.2", .dst = "10.0.2.2"}).udp({sport, 53}).payload(4).build());
  }

  std::unique_ptr<World> world;
  ctd_order* order = nullptr;
};

TEST_F(OrderTest, Delete) {
  udp(1);
  udp(2);
  const ctd_conn first = *world->connections().at(0);
  order->reason = CTD_END_DELETED;
  about(0, first);
  about(1, first);
  run(CTD_ORDER_DELETE, 2);
  EXPECT_EQ(request(0).result, CTD_REQUEST_DONE);
  EXPECT_EQ(request(1).result, CTD_REQUEST_GONE) << "once";
  ASSERT_EQ(world->connections().size(), 1u);
  EXPECT_EQ(world->tuple4.size(), 2u) << "the tuples are free at once";
  EXPECT_EQ(world->rt().conns, 1);
  EXPECT_EQ(world->conn(first.id)->end_reason, CTD_END_DELETED);
}

TEST_F(OrderTest, AnotherConnectionOfTheSlotIsLeftAlone) {
  udp();
  about(0, world->only());
  request(0).seq++;
  run(CTD_ORDER_DELETE, 1);
  EXPECT_EQ(request(0).result, CTD_REQUEST_GONE);
  run(CTD_ORDER_UPDATE, 1);
  EXPECT_EQ(request(0).result, CTD_REQUEST_GONE);
  EXPECT_EQ(world->connections().size(), 1u);
  request(0).id = 0xffffffff;
  run(CTD_ORDER_DELETE, 1);
  EXPECT_EQ(request(0).result, CTD_REQUEST_GONE) << "no such record";
}

TEST_F(OrderTest, ADeletionThatCannotFreeATupleNowIsTheSweeps) {
  udp();
  about(0, world->only());
  native_map_fail(world->tuple4.raw(), NATIVE_ON_DELETE, EBUSY, 0, 1);
  run(CTD_ORDER_DELETE, 1);
  EXPECT_EQ(request(0).result, CTD_REQUEST_DYING);
  EXPECT_TRUE(world->connections().empty());
  world->sweep();
  EXPECT_EQ(world->tuple4.size(), 0u);
  EXPECT_EQ(world->rt().conns, 0);
}

TEST_F(OrderTest, ADeadConnectionIsTakenApartWhenItIsAskedAgain) {
  udp();
  about(0, world->only());
  native_map_fail(world->tuple4.raw(), NATIVE_ON_DELETE, EBUSY, 0, 2);
  for (const u32 result : {CTD_REQUEST_DYING, CTD_REQUEST_DYING, CTD_REQUEST_DONE, CTD_REQUEST_GONE}) {
    run(CTD_ORDER_DELETE, 1);
    EXPECT_EQ(request(0).result, result);
  }
  EXPECT_EQ(world->tuple4.size(), 0u) << "without the sweep";
  EXPECT_EQ(world->rt().conns, 0);
}

// Otherwise a packet under way could revive it behind the deletion's back.
TEST_F(OrderTest, OneThatDiesOfItsTimeoutIsDeletedToo) {
  udp();
  ctd_conn& conn = *world->conn(world->only().id);
  about(0, conn);
  conn.ctl = CTD_CTL(CTD_CTL_SEQ(conn.ctl), CTD_CTL_CLASS(conn.ctl), CTD_CONN_DEAD);
  run(CTD_ORDER_DELETE, 1);
  EXPECT_EQ(request(0).result, CTD_REQUEST_DONE);
  EXPECT_EQ(world->tuple4.size(), 0u);
}

TEST_F(OrderTest, OneThatAnotherCpuTakesApartIsBusy) {
  udp();
  ctd_conn& conn = *world->conn(world->only().id);
  const u32 ctl = conn.ctl;
  about(0, conn);
  conn.ctl = CTD_CTL(CTD_CTL_SEQ(ctl), CTD_CTL_CLASS(ctl), CTD_CONN_BUSY);
  run(CTD_ORDER_DELETE, 1);
  EXPECT_EQ(request(0).result, CTD_REQUEST_BUSY);
  conn.ctl = ctl;
}

TEST_F(OrderTest, UpdateChangesTheMaskedBitsAlone) {
  udp();
  ctd_conn& conn = *world->conn(world->only().id);
  conn.mark = 0xff00ff00;
  std::memset(conn.label, 0xaa, sizeof(conn.label));
  about(0, conn);
  order->update = CTD_UPDATE_MARK | CTD_UPDATE_LABEL;
  order->mark = 0x12345678;
  order->mark_mask = 0x0000ffff;
  std::memset(order->label, 0, sizeof(order->label));
  std::memset(order->label_mask, 0, sizeof(order->label_mask));
  order->label_mask[15] = 0x0f;
  run(CTD_ORDER_UPDATE, 1);
  EXPECT_EQ(request(0).result, CTD_REQUEST_DONE);
  EXPECT_EQ(conn.mark, 0xff005678u);
  EXPECT_EQ(conn.label[0], 0xaa);
  EXPECT_EQ(conn.label[15], 0xa0);
}

TEST_F(OrderTest, ATimeoutIsFromNow) {
  udp();
  ctd_conn& conn = *world->conn(world->only().id);
  world->advance(10);
  about(0, conn);
  order->update = CTD_UPDATE_TIMEOUT;
  order->timeout = 5 * kHz;
  run(CTD_ORDER_UPDATE, 1);
  world->advance(4.5);
  world->sweep();
  EXPECT_EQ(world->connections().size(), 1u);
  world->advance(1);
  world->sweep();
  EXPECT_EQ(world->connections().size(), 0u);
}

TEST_F(OrderTest, APacketBringsTheStatesTimeoutBack) {
  udp();
  ctd_conn& conn = *world->conn(world->only().id);
  for (const u32 seconds : {5u, 500u}) {
    world->advance(10);
    about(0, conn);
    order->update = CTD_UPDATE_TIMEOUT;
    order->timeout = seconds * kHz;
    run(CTD_ORDER_UPDATE, 1);
    EXPECT_EQ(native_jiffies_left(&conn), seconds * kHz);
    world->advance(1);
    udp();
    EXPECT_EQ(native_jiffies_left(&conn), 120 * kHz);
  }
}

TEST_F(OrderTest, NoTimeoutIsAnEnd) {
  udp();
  about(0, *world->conn(world->only().id));
  order->update = CTD_UPDATE_TIMEOUT;
  order->timeout = 0;
  run(CTD_ORDER_UPDATE, 1);
  world->sweep();
  EXPECT_EQ(world->connections().size(), 0u);
  EXPECT_EQ(world->ended(CTD_END_TIMEOUT), 1u);
}

TEST_F(OrderTest, ALockedRecordIsToldAndNotTouched) {
  udp();
  ctd_conn& conn = *world->conn(world->only().id);
  about(0, conn);
  order->update = CTD_UPDATE_MARK;
  order->mark = order->mark_mask = 1;
  conn.lock = 1;
  run(CTD_ORDER_UPDATE, 1);
  conn.lock = 0;
  EXPECT_EQ(request(0).result, CTD_REQUEST_BUSY);
  EXPECT_EQ(conn.mark, 0u);
}

class CreditTest : public OrderTest, public testing::WithParamInterface<bool> {
 protected:
  // A packet of the talk with this port.
  void packet(bool reply, std::uint16_t port) {
    PacketBuilder b = frame();
    if (GetParam())
      b.ipv6({.src = reply ? "2001:db8:2::2" : "2001:db8:1::2", .dst = reply ? "2001:db8:2::b1" : "2001:db8:2::2"});
    else
      b.ipv4({.src = reply ? "10.0.2.2" : "10.1.0.2", .dst = reply ? "10.0.2.1" : "10.0.2.2"});
    b.udp(reply ? Udp{53, port} : Udp{port, 53}).payload(4);
    world->from(reply ? kWan : kLan, b.build());
  }
  void talk(std::uint16_t port, int packets) {
    for (int i = 0; i < packets; ++i) {
      packet(false, port);
      packet(true, port);
    }
  }
  u32 verdicts() const { return GetParam() ? world->cache6.size() : world->cache4.size(); }
};

TEST_P(CreditTest, OfOneConnectionAndItsVerdictsStay) {
  make({.masquerade6 = true, .fast = true});
  talk(40000, 20);
  talk(41000, 20);
  ASSERT_EQ(verdicts(), 4u);
  const ctd_conn *first = world->connections().at(0), *second = world->connections().at(1);
  ASSERT_LT(first->count[0].packets, 20u);
  const u64 others = second->count[0].packets;
  about(0, *first);
  run(CTD_ORDER_CREDIT, 1);
  EXPECT_EQ(request(0).result, CTD_REQUEST_DONE);
  for (const ctd_dir dir : {CTD_DIR_ORIG, CTD_DIR_REPLY}) EXPECT_EQ(first->count[dir].packets, 20u);
  EXPECT_EQ(second->count[0].packets, others) << "nobody asked for it";
  EXPECT_EQ(verdicts(), 4u);
  run(CTD_ORDER_CREDIT, 1);
  EXPECT_EQ(first->count[0].packets, 20u) << "once";
  request(0).seq++;
  run(CTD_ORDER_CREDIT, 1);
  EXPECT_EQ(request(0).result, CTD_REQUEST_GONE);
}
INSTANTIATE_TEST_SUITE_P(Families, CreditTest, testing::Bool(),
                         [](const auto& tested) { return tested.param ? "Ipv6" : "Ipv4"; });

TEST_F(OrderTest, ADeletedConnectionsCopyComesBackAsItWas) {
  udp();
  world->from(kWan, frame().ipv4({.src = "10.0.2.2", .dst = "10.0.2.1"}).udp({53, 40000}).payload(4).build());
  const ctd_conn before = world->only();
  ASSERT_EQ(CTD_CTL_CLASS(before.ctl), CTD_CLASS_ANSWERED);
  about(0, before);
  run(CTD_ORDER_DELETE, 1);
  ASSERT_EQ(request(0).result, CTD_REQUEST_DONE);
  EXPECT_EQ(insert(before, CTD_CLASS_ANSWERED), CTD_REQUEST_DONE);
  const ctd_conn after = world->only();
  EXPECT_EQ(after.id, request(0).id);
  EXPECT_EQ(CTD_CTL_CLASS(after.ctl), CTD_CLASS_ANSWERED);
  EXPECT_EQ(after.status, before.status);
  EXPECT_EQ(std::memcmp(&after.orig, &before.orig, 2 * sizeof(ctd_tuple)), 0);
  EXPECT_EQ(std::memcmp(after.count, before.count, sizeof(after.count)), 0);
  EXPECT_EQ(after.start, before.start);
  EXPECT_EQ(after.timeout, before.timeout);
  EXPECT_EQ(udp().line, "udp 10.0.2.1:40000 > 10.0.2.2:53") << "with its translation";
  EXPECT_EQ(world->connections().size(), 1u);
}

TEST_F(OrderTest, AnInsertedConnectionExpiresByItsLastPacket) {
  udp();
  ctd_conn conn = world->only();
  about(0, conn);
  run(CTD_ORDER_DELETE, 1);
  conn.timeout = 10 * kHz;
  conn.last_seen[0] -= 8 * kHz;
  ASSERT_EQ(insert(conn), CTD_REQUEST_DONE);
  world->advance(2.5);
  world->sweep();
  EXPECT_EQ(world->connections().size(), 0u);
}

TEST_F(OrderTest, ATakenTupleIsToldAndNothingLeaks) {
  udp();
  ctd_conn conn = world->only();
  EXPECT_EQ(insert(conn), CTD_REQUEST_EXISTS) << "both tuples";
  conn.orig.sport ^= 0xffff;
  EXPECT_EQ(insert(conn), CTD_REQUEST_EXISTS) << "the reply's";
  conn = world->only();
  conn.reply.dport ^= 0xffff;
  EXPECT_EQ(insert(conn), CTD_REQUEST_EXISTS) << "the original's";
  EXPECT_EQ(world->tuple4.size(), 2u);
  EXPECT_EQ(world->connections().size(), 1u);
  EXPECT_EQ(world->rt().conns, 1);
}

TEST_F(OrderTest, AnInsertionThatFailsGivesEverythingBack) {
  udp();
  ctd_conn conn = world->only();
  about(0, conn);
  run(CTD_ORDER_DELETE, 1);
  for (const u32 skip : {0u, 1u}) {
    native_map_fail(world->tuple4.raw(), NATIVE_ON_UPDATE, E2BIG, skip, 1);
    EXPECT_EQ(insert(conn), CTD_REQUEST_FULL);
    EXPECT_EQ(world->tuple4.size(), 0u);
    EXPECT_EQ(world->rt().conns, 0);
    EXPECT_EQ(world->broken(), "");
  }
  EXPECT_EQ(insert(conn), CTD_REQUEST_DONE);
}

TEST_F(OrderTest, AFullTableRefuses) {
  make({.native = {.conn_capacity = 8, .unanswered_quota = 8, .answered_quota = 8}});
  udp();
  ctd_conn conn = world->only();
  conn.status |= CTD_STATUS_SEEN_REPLY | CTD_STATUS_ASSURED;
  u32 refused = 0;
  const u64 counted = world->drops(CTD_DROP_CT_FULL);
  for (u32 i = 0; i < 64; ++i) {
    conn.orig.sport = htons(static_cast<u16>(1000 + i));
    conn.reply.dport = htons(static_cast<u16>(1000 + i));
    refused += insert(conn, CTD_CLASS_ASSURED) == CTD_REQUEST_FULL;
  }
  EXPECT_GE(refused, 64u - 8);
  EXPECT_EQ(world->drops(CTD_DROP_CT_FULL) - counted, refused) << "as a packet that found no room";
  EXPECT_LE(world->connections().size(), 8u);
  EXPECT_EQ(world->broken(), "");
}

TEST_F(OrderTest, AZoneAtItsLimitRefuses) {
  udp();
  ctd_conn conn = world->only();
  conn.orig.zone = conn.reply.zone = 9;
  Map<u32, ctd_zone>("ct_zones").find(9)->limit = 1;
  EXPECT_EQ(insert(conn), CTD_REQUEST_DONE);
  conn.orig.sport = conn.reply.dport = htons(7);
  EXPECT_EQ(insert(conn), CTD_REQUEST_LIMIT);
  EXPECT_EQ(world->drops(CTD_DROP_CT_LIMIT), 1u);
  EXPECT_EQ(world->drops(CTD_DROP_CT_FULL), 0u);
}

TEST_F(OrderTest, ABatchIsBounded) {
  udp();
  for (u32 i = 0; i < CTD_MAX_REQUESTS; ++i) about(i, world->only());
  run(CTD_ORDER_DELETE, 1'000'000);
  EXPECT_TRUE(world->connections().empty());
}

}  // namespace
}  // namespace ctd::test
