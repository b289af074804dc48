// SPDX-License-Identifier: Apache-2.0
#include "daemon/api_events.hpp"

#include <thread>
#include <utility>

#include <nlohmann/json.hpp>

#include "lib/event_json.hpp"

namespace ctd {
namespace {

using namespace std::chrono_literals;

// How long a stream without events takes to notice that its reader has gone, or that ctd stops.
constexpr auto kPatience = 200ms;
// The kernel's clock and the wall's drift apart, a few milliseconds in this time.
constexpr auto kClockAge = 60s;
constexpr auto kGoodbye = 2s;

void append_losses(fmt::memory_buffer& out, const EventHub::Losses& losses) {
  if (losses.datapath) append_lost_json(out, losses.datapath, "datapath");
  if (losses.reader) append_lost_json(out, losses.reader, "reader");
}

}  // namespace

void EventStreams::stop() {
  stopping_ = true;
  const auto until = std::chrono::steady_clock::now() + kGoodbye;
  while (running_ > 0 && std::chrono::steady_clock::now() < until) std::this_thread::sleep_for(5ms);
}

EventStream::EventStream(EventStreams& streams, std::shared_ptr<EventHub::Subscription> subscription, KernelClock now,
                         Clock clock, Origin origin)
    : streams_(streams),
      subscription_(std::move(subscription)),
      now_(now),
      clock_(std::move(clock)),
      origin_(std::move(origin)) {
  ++streams_.running_;
}

EventStream::~EventStream() { --streams_.running_; }

bool EventStream::next(fmt::memory_buffer& out) {
  if (!std::exchange(begun_, true)) {
    append_header(out);
    return true;  // at once: the reader knows from then on that it misses nothing
  }
  const bool last = streams_.stopping_;
  const EventHub::Batch batch = subscription_->take(last ? 0ms : kPatience);
  if (std::chrono::steady_clock::now() - asked_ > kClockAge) {
    if (const auto now = clock_()) now_ = *now;
    asked_ = std::chrono::steady_clock::now();
  }
  for (const EventHub::Entry& entry : batch.entries) {
    append_losses(out, entry.before);
    append_event_json(out, entry.event, now_);
  }
  append_losses(out, batch.after);
  if (last) fmt::format_to(fmt::appender(out), "{{\"event\":\"end\",\"reason\":\"ctd stops\"}}\n");
  return !last;
}

void EventStream::append_header(fmt::memory_buffer& out) const {
  const nlohmann::ordered_json header{
      {"schema", kEventSchema}, {"host", origin_.host}, {"instance", origin_.instance}, {"time", utc_text(now_.wall)}};
  const std::string line = header.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  out.append(line.data(), line.data() + line.size());
}

}  // namespace ctd
