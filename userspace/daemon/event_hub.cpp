// SPDX-License-Identifier: Apache-2.0
#include "daemon/event_hub.hpp"

#include <algorithm>
#include <utility>

namespace ctd {

EventHub::Batch EventHub::Subscription::take(std::chrono::milliseconds patience) {
  std::unique_lock lock(mutex_);
  come_.wait_for(lock, patience, [this] { return !queue_.empty() || pending_.datapath || pending_.reader; });
  return {.entries = std::exchange(queue_, {}), .after = std::exchange(pending_, {})};
}

bool EventHub::Subscription::wants(const ctd_event& event) const {
  return event.what & wanted_ && (!filter_ || filter_(event));
}

void EventHub::Subscription::push(std::span<const ctd_event> events) {
  const std::lock_guard lock(mutex_);
  for (const ctd_event& event : events) {
    if (!wants(event)) continue;
    if (queue_.size() >= kQueue) {
      ++pending_.reader;
      continue;
    }
    queue_.push_back({.before = std::exchange(pending_, {}), .event = event});
  }
  come_.notify_one();
}

void EventHub::Subscription::lose(uint64_t count) {
  const std::lock_guard lock(mutex_);
  pending_.datapath += count;
  come_.notify_one();
}

void EventHub::set_source(std::function<void(uint16_t)> interest) {
  const std::lock_guard lock(mutex_);
  interest_ = std::move(interest);
  tell_source();
}

Result<std::shared_ptr<EventHub::Subscription>> EventHub::subscribe(uint16_t wanted, Filter filter) {
  const std::lock_guard lock(mutex_);
  if (subscriptions_.size() >= kMaxSubscribers)
    return fail("{} readers of events are there already, which is as many as may be", kMaxSubscribers);
  auto subscription = std::make_shared<Subscription>(*this, wanted, std::move(filter));
  subscriptions_.push_back(subscription.get());
  tell_source();
  return subscription;
}

void EventHub::unsubscribe(const Subscription& subscription) {
  const std::lock_guard lock(mutex_);
  std::erase(subscriptions_, &subscription);
  tell_source();
}

void EventHub::publish(std::span<const ctd_event> events) {
  const std::lock_guard lock(mutex_);
  for (Subscription* subscription : subscriptions_) subscription->push(events);
}

void EventHub::lose(uint64_t count) {
  const std::lock_guard lock(mutex_);
  for (Subscription* subscription : subscriptions_) subscription->lose(count);
}

void EventHub::tell_source() const {
  uint16_t wanted = 0;
  for (const Subscription* subscription : subscriptions_) wanted |= subscription->wanted_;
  if (interest_) interest_(wanted);
}

}  // namespace ctd
