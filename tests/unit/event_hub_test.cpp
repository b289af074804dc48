// SPDX-License-Identifier: Apache-2.0
// Subscribers of events: who gets what, what a slow one loses, what the source is told.
#include "daemon/event_hub.hpp"

#include <chrono>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace ctd {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::IsEmpty;

ctd_event event(uint64_t seq, uint16_t what = CTD_EVENT_NEW) {
  ctd_event result{};
  result.seq = seq;
  result.what = what;
  return result;
}

std::vector<uint64_t> numbers(const EventHub::Batch& batch) {
  std::vector<uint64_t> seqs;
  for (const auto& entry : batch.entries) seqs.push_back(entry.event.seq);
  return seqs;
}

TEST(EventHub, EachGetsWhatItWants) {
  EventHub hub;
  const auto all = hub.subscribe(CTD_EVENT_ALL).value();
  const auto ends = hub.subscribe(CTD_EVENT_DESTROY).value();
  const auto odd = hub.subscribe(CTD_EVENT_ALL, [](const ctd_event& e) { return e.seq % 2 == 1; }).value();
  hub.publish(std::vector{event(1), event(2, CTD_EVENT_DESTROY), event(3, CTD_EVENT_STATE)});
  EXPECT_THAT(numbers(all->take(0ms)), ElementsAre(1, 2, 3));
  EXPECT_THAT(numbers(ends->take(0ms)), ElementsAre(2));
  EXPECT_THAT(numbers(odd->take(0ms)), ElementsAre(1, 3));
  EXPECT_THAT(numbers(all->take(0ms)), IsEmpty());
}

TEST(EventHub, TheSourceKnowsWhoListens) {
  EventHub hub;
  std::vector<unsigned> told;
  hub.set_source([&](uint16_t wanted) { told.push_back(wanted); });
  {
    const auto first = hub.subscribe(CTD_EVENT_NEW).value();
    const auto second = hub.subscribe(CTD_EVENT_DESTROY).value();
  }
  EXPECT_THAT(told, ElementsAre(0, CTD_EVENT_NEW, CTD_EVENT_NEW | CTD_EVENT_DESTROY, CTD_EVENT_NEW, 0));
}

TEST(EventHub, ASlowReaderLosesItsOwnAndIsToldWhere) {
  EventHub hub;
  const auto slow = hub.subscribe(CTD_EVENT_ALL).value();
  const auto fast = hub.subscribe(CTD_EVENT_ALL).value();
  uint64_t seq = 0;
  for (std::size_t i = 0; i < EventHub::kQueue; ++i) hub.publish(std::vector{event(seq++)});
  EXPECT_EQ(fast->take(0ms).entries.size(), EventHub::kQueue);
  for (int i = 0; i < 5; ++i) hub.publish(std::vector{event(seq++)});

  const auto read = fast->take(0ms);
  EXPECT_EQ(read.entries.size(), 5u);
  EXPECT_EQ(read.after.reader, 0u);
  const auto late = slow->take(0ms);
  EXPECT_EQ(late.entries.size(), EventHub::kQueue);
  EXPECT_EQ(late.entries.back().event.seq, EventHub::kQueue - 1);
  EXPECT_EQ(late.after.reader, 5u);
  hub.publish(std::vector{event(seq++)});
  const auto next = slow->take(0ms);
  EXPECT_THAT(numbers(next), ElementsAre(seq - 1));
  EXPECT_EQ(next.entries[0].before.reader + next.after.reader, 0u) << "told once";
}

TEST(EventHub, WhatTheRingLostStandsWhereItIsMissing) {
  EventHub hub;
  const auto reader = hub.subscribe(CTD_EVENT_ALL).value();
  hub.publish(std::vector{event(1)});
  hub.lose(7);
  hub.publish(std::vector{event(9), event(10)});
  const auto batch = reader->take(0ms);
  EXPECT_THAT(numbers(batch), ElementsAre(1, 9, 10));
  EXPECT_EQ(batch.entries[0].before.datapath, 0u);
  EXPECT_EQ(batch.entries[1].before.datapath, 7u);
  EXPECT_EQ(batch.entries[2].before.datapath, 0u);
  hub.lose(2);
  EXPECT_EQ(reader->take(0ms).after.datapath, 2u) << "also when nothing follows";
}

TEST(EventHub, NotMoreReadersThanMayBe) {
  EventHub hub;
  std::vector<std::shared_ptr<EventHub::Subscription>> readers;
  for (std::size_t i = 0; i < EventHub::kMaxSubscribers; ++i) readers.push_back(hub.subscribe(CTD_EVENT_ALL).value());
  EXPECT_FALSE(hub.subscribe(CTD_EVENT_ALL));
  readers.pop_back();
  EXPECT_TRUE(hub.subscribe(CTD_EVENT_ALL));
}

}  // namespace
}  // namespace ctd
