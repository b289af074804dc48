// SPDX-License-Identifier: Apache-2.0
// The events that the native core has put into its ring.
#pragma once

#include <ctd/abi/event.h>

#include <string>
#include <vector>

#include "core_world.hpp"

namespace ctd::test {

// Takes all events out of the ring.
inline std::vector<ctd_event> take_events() {
  std::vector<ctd_event> events;
  native_ring* ring = native_ring_find("ct_events");
  ctd_event event;
  while (u32 size = native_ring_read(ring, &event, sizeof(event))) {
    if (size != sizeof(event)) World::complain("a record of another size");
    events.push_back(event);
  }
  return events;
}

// "new", "state reply", "destroy timeout"
inline std::string event_text(const ctd_event& event) {
  std::string text;
#define X(id, bit, name) \
  if (event.what & CTD_EVENT_##id) text += (text.empty() ? "" : " ") + std::string(#name);
  CTD_EVENTS(X)
#undef X
#define X(id, name, explained) \
  if (event.what & CTD_EVENT_DESTROY && event.reason == CTD_END_##id) text += " " #name;
  CTD_END_REASONS(X)
#undef X
  return text;
}

inline std::vector<std::string> take_event_texts() {
  std::vector<std::string> texts;
  for (const ctd_event& event : take_events()) texts.push_back(event_text(event));
  return texts;
}

}  // namespace ctd::test
