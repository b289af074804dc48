// SPDX-License-Identifier: Apache-2.0
// Events: which, in which order, with what in them; who asked for them; what a full ring loses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <set>

#include "core_events.hpp"
#include "core_world.hpp"

namespace ctd::test {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using Texts = std::vector<std::string>;

class Events : public testing::Test {
 protected:
  explicit Events(const WorldOptions& options = {}) : w(options) { w.rt().event_mask = CTD_EVENT_ALL; }

  Texts udp(unsigned sport = 40000) {
    w.from(kLan, frame().ipv4().udp({.sport = static_cast<std::uint16_t>(sport), .dport = 53}).payload(4).build());
    return take_event_texts();
  }
  Texts udp_reply(unsigned port = 40000) {
    w.from(kWan, frame()
                     .ipv4({.src = "10.0.2.2", .dst = "10.0.2.1"})
                     .udp({.sport = 53, .dport = static_cast<std::uint16_t>(port)})
                     .payload(4)
                     .build());
    return take_event_texts();
  }
  Texts client(std::uint8_t flags, u32 seq, u32 ack = 0) {
    w.from(kLan, frame().ipv4().tcp({.flags = flags, .seq = seq, .ack = ack}).build());
    return take_event_texts();
  }
  Texts server(std::uint8_t flags, u32 seq, u32 ack) {
    w.from(kWan, frame()
                     .ipv4({.src = "10.0.2.2", .dst = "10.0.2.1"})
                     .tcp({.sport = 80, .dport = 40000, .flags = flags, .seq = seq, .ack = ack})
                     .build());
    return take_event_texts();
  }

  World w;
};

TEST_F(Events, NobodyListensNothingIsWritten) {
  w.rt().event_mask = 0;
  EXPECT_THAT(udp(), IsEmpty());
  EXPECT_THAT(udp_reply(), IsEmpty());
  native_flush();
  w.sweep();
  EXPECT_THAT(take_event_texts(), IsEmpty());
  EXPECT_EQ(w.rt().event_seq, 0u);
}

TEST_F(Events, TheLifeOfATcpConnection) {
  EXPECT_THAT(client(kSyn, 1000), ElementsAre("new"));
  EXPECT_THAT(server(kSyn | kAck, 5000, 1001), ElementsAre("reply state"));
  EXPECT_THAT(client(kAck, 1001, 5001), ElementsAre("assured state"));
  EXPECT_THAT(client(kAck, 1001, 5001), IsEmpty()) << "what changes nothing is no event";
  EXPECT_THAT(client(kFin | kAck, 1001, 5001), ElementsAre("state"));
  EXPECT_THAT(server(kFin | kAck, 5001, 1002), ElementsAre("state"));
  EXPECT_THAT(client(kAck, 1002, 5002), ElementsAre("state"));
  w.advance(241);
  w.sweep();
  EXPECT_THAT(take_event_texts(), ElementsAre("destroy timeout"));
}

TEST_F(Events, TheLifeOfAUdpConnection) {
  EXPECT_THAT(udp(), ElementsAre("new"));
  EXPECT_THAT(udp(), IsEmpty());
  EXPECT_THAT(udp_reply(), ElementsAre("reply state"));
  w.advance(3);
  EXPECT_THAT(udp(), ElementsAre("assured"));
  EXPECT_EQ(native_flush(), 1u);
  w.sweep();
  EXPECT_THAT(take_event_texts(), ElementsAre("destroy flushed"));
}

TEST_F(Events, TheCopyIsTheRecordAsItWasThen) {
  w.from(kLan, frame().ipv4().udp({.dport = 53}).payload(4).build());
  const u64 begun = native_jiffies();
  w.advance(1);
  w.from(kWan, frame().ipv4({.src = "10.0.2.2", .dst = "10.0.2.1"}).udp({.sport = 53, .dport = 40000}).build());
  const ctd_conn& conn = w.only();
  const auto events = take_events();
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0].seq, 0u);
  EXPECT_EQ(events[0].time, begun);
  EXPECT_EQ(events[0].conn.id, conn.id);
  EXPECT_EQ(CTD_CTL_SEQ(events[0].conn.ctl), CTD_CTL_SEQ(conn.ctl)) << "the id in events is that of the dump";
  EXPECT_EQ(events[0].conn.status, u32{CTD_STATUS_CONFIRMED | CTD_STATUS_SRC_NAT});
  EXPECT_EQ(events[0].conn.count[0].packets, 1u);
  EXPECT_EQ(events[1].seq, 1u);
  EXPECT_EQ(events[1].time, begun + kHz);
  EXPECT_EQ(events[1].conn.state, CTD_OTHER_REPLIED);
  EXPECT_EQ(events[1].conn.count[1].packets, 1u);
  EXPECT_EQ(events[1].reason, CTD_END_NONE);
}

TEST_F(Events, TheEndSaysWhy) {
  client(kSyn, 1000);
  client(kRst, 1001);
  EXPECT_THAT(client(kSyn, 9000), ElementsAre("destroy refused", "new"));
}

TEST_F(Events, OnlyWhatIsAskedFor) {
  w.rt().event_mask = CTD_EVENT_DESTROY | CTD_EVENT_ASSURED;
  EXPECT_THAT(udp(), IsEmpty());
  EXPECT_THAT(udp_reply(), IsEmpty());
  w.advance(3);
  EXPECT_THAT(udp(), ElementsAre("assured"));
  EXPECT_EQ(w.rt().event_seq, 1u);
}

TEST_F(Events, AConnectionCanBeSilent) {
  udp();
  w.conn(w.only().id)->event_mask = CTD_EVENT_DESTROY;
  EXPECT_THAT(udp_reply(), IsEmpty());
  native_flush();
  w.sweep();
  EXPECT_THAT(take_event_texts(), ElementsAre("destroy flushed"));
  udp();
  w.conn(w.only().id)->event_mask = CTD_EVENT_SILENT;
  native_flush();
  w.sweep();
  EXPECT_THAT(take_event_texts(), IsEmpty());
}

TEST_F(Events, WhatAFullRingLosesIsCounted) {
  const u32 room = CTD_EVENT_RING_BYTES / (sizeof(ctd_event) + 8);
  u32 sent = 0;
  udp();
  // Each flush and each packet afterwards is an event.
  while (sent < room + 100) {
    w.from(kLan, frame().ipv4().udp({.dport = 53}).build());
    native_flush();
    w.sweep(2);
    sent += 2;
  }
  EXPECT_EQ(w.rt().events_lost, w.rt().event_seq - room - 1);
  EXPECT_GE(w.rt().events_lost, 99u);
  const auto events = take_events();
  EXPECT_EQ(events.size(), room);
  std::set<u64> numbers;
  for (const ctd_event& event : events) numbers.insert(event.seq);
  EXPECT_EQ(numbers.size(), room) << "each has a number of its own";
  udp();
  EXPECT_EQ(w.broken(), "");
}

// A first packet whose mapping cannot be made leaves a record that nobody has seen.
TEST_F(Events, WhatWasNeverBegunDoesNotEnd) {
  native_map_fail(w.tuple4.raw(), NATIVE_ON_UPDATE, ENOMEM, 1, 1);
  EXPECT_THAT(udp(), IsEmpty());
  native_map_fail(w.tuple4.raw(), NATIVE_ON_UPDATE, ENOMEM, 1, 1);
  native_map_fail(w.tuple4.raw(), NATIVE_ON_UPDATE | NATIVE_ON_DELETE, EBUSY, 1, 2);
  EXPECT_THAT(udp(), IsEmpty());
  w.sweep();
  EXPECT_THAT(take_event_texts(), IsEmpty());
  EXPECT_EQ(w.connections().size(), 0u);
  EXPECT_EQ(w.broken(), "");
}

class FastEvents : public Events {
 protected:
  FastEvents() : Events({.fast = true}) {}
};

TEST_F(FastEvents, TheEndHasWhatTheFastPathCounted) {
  for (int i = 0; i < 20; i++) {
    udp();
    udp_reply();
  }
  ASSERT_GT(w.counter(CTD_COUNT_FAST_HIT), 0u);
  EXPECT_LT(w.only().count[0].packets, 20u) << "not credited yet";
  native_flush();
  w.sweep();
  const auto events = take_events();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].conn.count[0].packets, 20u);
  EXPECT_EQ(events[0].conn.count[0].bytes, 20u * (20 + 8 + 4));
  EXPECT_EQ(events[0].conn.count[1].packets, 20u);
}

TEST(CrowdedEvents, TheOldestMakesRoom) {
  World w({.native = {.conn_capacity = 16, .unanswered_quota = 4}});
  w.rt().event_mask = CTD_EVENT_DESTROY;
  for (unsigned i = 0; i < 6; i++)
    w.from(kLan, frame().ipv4().udp({.sport = static_cast<std::uint16_t>(41000 + i)}).build());
  EXPECT_THAT(take_event_texts(), ElementsAre("destroy evicted", "destroy evicted"));
}

}  // namespace
}  // namespace ctd::test
