// SPDX-License-Identifier: Apache-2.0
// EventReader: takes events out of the datapath's ring, in a thread of its own, while somebody listens.
#pragma once

#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include <ctd/abi/event.h>
#include <ctd/abi/meta.h>

#include "daemon/event_hub.hpp"
#include "daemon/fd.hpp"
#include "lib/result.hpp"

struct ring_buffer;

namespace ctd {

class EventReader {
 public:
  // ring_fd: the map `ct_events`. All must outlive the reader. Nothing is read, and the datapath writes nothing, until
  // the hub has a subscriber.
  static Result<std::unique_ptr<EventReader>> start(int ring_fd, ctd_rt* rt, EventHub& hub);
  ~EventReader();

  EventReader(const EventReader&) = delete;
  EventReader& operator=(const EventReader&) = delete;

 private:
  EventReader(ctd_rt* rt, EventHub& hub) : rt_(rt), hub_(hub) {}
  void listen(uint16_t wanted);
  void run();
  bool wait_for_events() const;
  bool pass_on();
  uint64_t lost() const;
  static int take(void* reader, void* event, std::size_t size);

  ctd_rt* const rt_;
  EventHub& hub_;
  ring_buffer* ring_ = nullptr;
  Fd stop_;  // eventfd
  std::mutex mutex_;
  std::vector<ctd_event> batch_;
  uint64_t lost_ = 0;  // of ctd_rt.events_lost: what has been told
  std::thread thread_;
};

}  // namespace ctd
