// SPDX-License-Identifier: Apache-2.0
// Events of the connection table as newline-delimited JSON. The format is docs/event.schema.json.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <ctd/abi/event.h>
#include <fmt/format.h>

#include "lib/result.hpp"
#include "lib/time.hpp"

namespace ctd {

inline constexpr char kEventSchema[] = "ctd.event/1";

// "new,destroy" as bits of ctd_event.what. Names: "new" (connections of an expectation included), "update" (any
// change), "destroy", and those of the single changes.
Result<uint16_t> parse_events(std::string_view names);

// Each appends one line. clock: any moment not long ago, for dates.
void append_event_json(fmt::memory_buffer& out, const ctd_event& event, const KernelClock& clock);

// Events that are missing at this place. by: "datapath" (its ring was full, every reader misses them) or "reader" (this
// one was too slow for its queue).
void append_lost_json(fmt::memory_buffer& out, uint64_t count, std::string_view by);

}  // namespace ctd
