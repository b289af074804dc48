// SPDX-License-Identifier: Apache-2.0
// EventHub: hands events of the connection table to whoever has subscribed. Each subscriber has a bounded queue: one
// that is slow loses its own events, is told how many and where, and holds up nobody.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include <ctd/abi/event.h>

#include "lib/result.hpp"

namespace ctd {

class EventHub {
 public:
  static constexpr std::size_t kMaxSubscribers = 8;
  static constexpr std::size_t kQueue = 8192;  // events that wait for one subscriber: 2.4 MB

  // Which of the events that are wanted; none: all of them.
  using Filter = std::function<bool(const ctd_event&)>;

  struct Losses {
    uint64_t datapath = 0;  // the ring was full
    uint64_t reader = 0;    // the subscriber's queue was
  };
  struct Entry {
    Losses before;  // what is missing between the entry before and this one
    ctd_event event;
  };
  struct Batch {
    std::vector<Entry> entries;
    Losses after;
  };

  class Subscription {
   public:
    Subscription(EventHub& hub, uint16_t wanted, Filter filter)
        : hub_(hub), wanted_(wanted), filter_(std::move(filter)) {}
    ~Subscription() { hub_.unsubscribe(*this); }
    Subscription(const Subscription&) = delete;
    Subscription& operator=(const Subscription&) = delete;

    // What has come since the last call; waits for it at most so long.
    Batch take(std::chrono::milliseconds patience);

   private:
    friend class EventHub;
    void push(std::span<const ctd_event> events);
    void lose(uint64_t count);

    EventHub& hub_;
    bool wants(const ctd_event& event) const;

    const uint16_t wanted_;
    const Filter filter_;
    std::mutex mutex_;
    std::condition_variable come_;
    std::vector<Entry> queue_;
    Losses pending_;  // since the last entry
  };

  // Must outlive its subscriptions.
  EventHub() = default;
  ~EventHub() = default;
  EventHub(const EventHub&) = delete;
  EventHub& operator=(const EventHub&) = delete;

  // interest: called with the events that any subscriber wants (0: nobody listens), now and whenever that changes.
  // None: there is no source of events.
  void set_source(std::function<void(uint16_t wanted)> interest);

  // wanted: enum ctd_event_bit. An error if there are too many subscribers.
  Result<std::shared_ptr<Subscription>> subscribe(uint16_t wanted, Filter filter = {});

  void publish(std::span<const ctd_event> events);
  // These were lost before anybody could read them.
  void lose(uint64_t count);

 private:
  void unsubscribe(const Subscription& subscription);
  void tell_source() const;

  std::mutex mutex_;  // taken before a subscription's
  std::vector<Subscription*> subscriptions_;
  std::function<void(uint16_t)> interest_;
};

}  // namespace ctd
