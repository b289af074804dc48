// SPDX-License-Identifier: Apache-2.0
#include "lib/event_json.hpp"

#include <array>

#include "lib/conn_json.hpp"
#include "lib/names.hpp"

namespace ctd {
namespace {

struct EventName {
  uint16_t bits;
  std::string_view name;
};

#define X(id, bit, name) EventName{1 << (bit), #name},
constexpr std::array kEvents{CTD_EVENTS(X)};
#undef X

// What the user asks for and what the stream calls it: RELATED is a new connection, too.
constexpr std::array kGroups{EventName{CTD_EVENT_BEGIN, "new"}, EventName{CTD_EVENT_UPDATE, "update"},
                             EventName{CTD_EVENT_DESTROY, "destroy"}};

uint16_t bits_of(std::string_view name) {
  for (const EventName& group : kGroups)
    if (group.name == name) return group.bits;
  for (const EventName& event : kEvents)
    if (event.name == name) return event.bits;
  return 0;
}

std::string all_names() {
  std::string names = "update";
  for (const EventName& event : kEvents) names += fmt::format(", {}", event.name);
  return names;
}

std::string_view group_name(uint16_t what) {
  for (const EventName& group : kGroups)
    if (what & group.bits) return group.name;
  return "unknown";
}

void append(fmt::memory_buffer& out, std::string_view text) { out.append(text.data(), text.data() + text.size()); }

void append_changes(fmt::memory_buffer& out, uint16_t what) {
  append(out, ",\"changed\":[");
  const char* separator = "";
  for (const EventName& event : kEvents) {
    if (!(what & event.bits)) continue;
    fmt::format_to(fmt::appender(out), "{}\"{}\"", separator, event.name);
    separator = ",";
  }
  append(out, "]");
}

void append_end(fmt::memory_buffer& out, const ctd_event& event, std::chrono::system_clock::time_point stop) {
  const auto reasons = end_reasons();
  append(out, ",\"reason\":\"");
  append(out, event.reason < reasons.size() ? reasons[event.reason].name : std::string_view("unknown"));
  append(out, "\",\"stop\":\"");
  append_utc(out, stop);
  append(out, "\"");
}

}  // namespace

Result<uint16_t> parse_events(std::string_view names) {
  uint16_t bits = 0;
  for (bool more = true; more;) {
    const std::size_t comma = names.find(',');
    const std::string_view name = names.substr(0, comma);
    const uint16_t found = bits_of(name);
    if (!found) return fail("\"{}\" is no event: there are {}", name, all_names());
    bits |= found;
    more = comma != std::string_view::npos;
    if (more) names.remove_prefix(comma + 1);
  }
  return bits;
}

void append_event_json(fmt::memory_buffer& out, const ctd_event& event, const KernelClock& clock) {
  // The connection as it was then: its timeout counts from the event.
  const KernelClock then{.jiffies = event.time, .hz = clock.hz, .wall = clock.wall_at(event.time)};
  fmt::format_to(fmt::appender(out), "{{\"event\":\"{}\",\"seq\":{},\"time\":\"", group_name(event.what), event.seq);
  append_utc(out, then.wall);
  append(out, "\"");
  if (event.what & CTD_EVENT_DESTROY)
    append_end(out, event, then.wall);
  else if (event.what & CTD_EVENT_UPDATE)
    append_changes(out, event.what);
  append(out, ",\"conn\":");
  append_conn_json(out, event.conn, then);
  append(out, "}\n");
}

void append_lost_json(fmt::memory_buffer& out, uint64_t count, std::string_view by) {
  fmt::format_to(fmt::appender(out), "{{\"event\":\"lost\",\"count\":{},\"by\":\"{}\"}}\n", count, by);
}

}  // namespace ctd
