// SPDX-License-Identifier: Apache-2.0
// Events from the real programs, through the ring and the daemon's reader, to a subscriber.
#include <chrono>
#include <condition_variable>
#include <mutex>

#include <gtest/gtest.h>

#include "daemon/event_hub.hpp"
#include "daemon/event_reader.hpp"
#include "prog/gateway.hpp"

namespace ctd::test {
namespace {

using namespace std::chrono_literals;

class EventsTest : public GatewayTest {
 protected:
  void TearDown() override {
    subscription.reset();
    reader.reset();
    GatewayTest::TearDown();
  }
  void listen(u16 wanted = CTD_EVENT_ALL) {
    reader = EventReader::start(dp().map("ct_events"), dp().rt(), hub).value();
    subscription = hub.subscribe(wanted).value();
  }
  Out out(u16 sport = 40000) { return from("lan0", udp({.sport = sport})); }
  Out back() { return from("wan0", udp({.src = "10.0.2.2", .dst = "10.0.2.1", .sport = 53, .dport = 40000})); }

  // The next `count` events.
  std::vector<ctd_event> take(std::size_t count) {
    std::vector<ctd_event> events;
    const auto until = std::chrono::steady_clock::now() + 10s;
    while (events.size() < count && std::chrono::steady_clock::now() < until) {
      const EventHub::Batch batch = subscription->take(100ms);
      for (const auto& entry : batch.entries) {
        lost += entry.before.datapath;
        events.push_back(entry.event);
      }
      lost += batch.after.datapath;
    }
    EXPECT_EQ(events.size(), count);
    return events;
  }

  EventHub hub;
  std::unique_ptr<EventReader> reader;
  std::shared_ptr<EventHub::Subscription> subscription;
  u64 lost = 0;
};

TEST_F(EventsTest, TheLifeOfAConnectionWithWhatTheFastPathCounted) {
  start();
  listen();
  u64 sent = 0;
  const u64 before = count(CTD_COUNT_FAST_HIT);
  for (; sent < 50 && count(CTD_COUNT_FAST_HIT) < before + 4; sent++) {
    EXPECT_EQ(out().where, "wan0");
    EXPECT_EQ(back().where, "lan0");
  }
  ASSERT_GE(count(CTD_COUNT_FAST_HIT), before + 4);
  ASSERT_TRUE(dp().flush());
  const auto events = take(3);
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(events[0].what, CTD_EVENT_NEW);
  EXPECT_EQ(events[1].what, CTD_EVENT_REPLY | CTD_EVENT_STATE);
  EXPECT_EQ(events[2].what, CTD_EVENT_DESTROY) << "by the sweep, in a timer's callback";
  EXPECT_EQ(events[2].reason, CTD_END_FLUSHED);
  EXPECT_EQ(events[2].conn.count[0].packets, sent);
  EXPECT_EQ(events[2].conn.count[1].packets, sent);
  EXPECT_GE(events[2].time, events[2].conn.start);
  EXPECT_EQ(lost, 0u);
}

TEST_F(EventsTest, NothingIsWrittenOrReadWithoutASubscriber) {
  start();
  listen();
  out(40001);
  take(1);
  subscription.reset();
  EXPECT_EQ(dp().rt()->event_mask, 0u);
  out(40002);
  EXPECT_EQ(dp().rt()->event_seq, 1u);
  subscription = hub.subscribe(CTD_EVENT_NEW).value();
  out(40003);
  const auto events = take(1);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].seq, 1u);
}

constexpr u32 kRoom = CTD_EVENT_RING_BYTES / (sizeof(ctd_event) + 8);  // events that the ring holds

// Holds up the reader in a subscriber's filter, as a busy machine would, until it is opened.
class Gate {
 public:
  bool operator()() {
    std::unique_lock lock(mutex_);
    reached_ = true;
    changed_.notify_all();
    changed_.wait(lock, [this] { return open_; });
    return true;
  }
  void wait_for_reader() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return reached_; });
  }
  void open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool reached_ = false, open_ = false;
};

// A subscriber listens, but the reader does not come round while the ring fills.
TEST_F(EventsTest, WhatTheRingCannotTakeIsTold) {
  constexpr u32 kTooMany = 50;
  start();
  Gate gate;
  reader = EventReader::start(dp().map("ct_events"), dp().rt(), hub).value();
  subscription = hub.subscribe(CTD_EVENT_NEW, [&](const ctd_event&) { return gate(); }).value();
  out(1000);
  gate.wait_for_reader();  // with this one event; its place in the ring is free again
  for (u32 i = 0; i < kRoom + kTooMany; i++) out(static_cast<u16>(1024 + i));
  EXPECT_EQ(dp().rt()->event_seq, 1 + kRoom + kTooMany);
  EXPECT_EQ(dp().rt()->events_lost, kTooMany);
  gate.open();

  u64 told = 0, slow = 0, come = 0;
  const auto until = std::chrono::steady_clock::now() + 30s;
  while (told + slow + come < 1 + kRoom + kTooMany && std::chrono::steady_clock::now() < until) {
    const EventHub::Batch batch = subscription->take(100ms);
    come += batch.entries.size();
    const auto add = [&](const EventHub::Losses& losses) {
      told += losses.datapath;
      slow += losses.reader;
    };
    for (const auto& entry : batch.entries) add(entry.before);
    add(batch.after);
  }
  EXPECT_EQ(told, kTooMany);
  EXPECT_EQ(come + slow, 1 + kRoom) << "every event has come, or its loss was told";
}

TEST_F(EventsTest, WhatAnEarlierReaderLeftIsNoNews) {
  start();
  dp().rt()->event_mask = CTD_EVENT_NEW;
  for (u32 i = 0; i < kRoom + 5; i++) out(static_cast<u16>(1024 + i));
  ASSERT_EQ(dp().rt()->events_lost, 5u);
  listen(CTD_EVENT_NEW);
  out(1000);
  const auto events = take(1);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].seq, kRoom + 5) << "the first that is read is the first after it listened";
  EXPECT_EQ(lost, 0u);
}

}  // namespace
}  // namespace ctd::test
