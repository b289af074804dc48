// SPDX-License-Identifier: Apache-2.0
// A connection from its JSON: the reverse of lib/conn_json.hpp.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include <ctd/abi/ct.h>

#include "lib/result.hpp"
#include "lib/time.hpp"

namespace ctd {

struct ParsedConn {
  ctd_conn conn{};  // times on our clock; id, master, policy and what the table keeps itself are not set
  ctd_conn_class cls = CTD_CLASS_UNANSWERED;
  std::string policy;               // the name of its timeout policy; empty: the default
  std::optional<ctd_tuple> master;  // the original tuple of the connection that expected it
};

// line: an object of a dump or of the saved form; the least is proto, orig and timeout_s, and the state of a protocol
// that has its own. A missing `reply` is the original inverted. Members that have no meaning here are passed over.
// Errors name the member: "orig.sport: expected a number from 0 to 65535".
Result<ParsedConn> parse_conn_json(std::string_view line, const KernelClock& now);

// The tuple of the packets that answer; nothing for an ICMP message that nobody answers.
std::optional<ctd_tuple> inverted(const ctd_tuple& tuple);

}  // namespace ctd
