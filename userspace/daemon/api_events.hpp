// SPDX-License-Identifier: Apache-2.0
// GET /v1/conntrack/events: a subscription as an endless answer.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include <fmt/format.h>

#include "daemon/event_hub.hpp"
#include "lib/result.hpp"
#include "lib/time.hpp"

namespace ctd {

// The streams of a server: when it stops, each ends with a line that says so.
class EventStreams {
 public:
  void stop();

 private:
  friend class EventStream;
  std::atomic<bool> stopping_{false};
  std::atomic<int> running_{0};
};

// The lines of one stream.
class EventStream {
 public:
  struct Origin {
    std::string host;
    std::string instance;
  };
  using Clock = std::function<Result<KernelClock>()>;

  // streams: must outlive it. clock: asked again from time to time.
  EventStream(EventStreams& streams, std::shared_ptr<EventHub::Subscription> subscription, KernelClock now, Clock clock,
              Origin origin);
  ~EventStream();
  EventStream(const EventStream&) = delete;
  EventStream& operator=(const EventStream&) = delete;

  // Appends the lines that have come, none after a fifth of a second without. False: that was the last.
  bool next(fmt::memory_buffer& out);

 private:
  void append_header(fmt::memory_buffer& out) const;

  EventStreams& streams_;
  const std::shared_ptr<EventHub::Subscription> subscription_;
  KernelClock now_;
  std::chrono::steady_clock::time_point asked_ = std::chrono::steady_clock::now();
  const Clock clock_;
  const Origin origin_;
  bool begun_ = false;
};

}  // namespace ctd
