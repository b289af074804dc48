// SPDX-License-Identifier: Apache-2.0
// Names of what the ABI numbers: protocols, states, status bits, drop reasons, counters. All lists come from the
// X-macros of <ctd/abi/*.h>, so a name exists as soon as the ABI has the thing.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include <ctd/abi/ct.h>
#include <ctd/abi/drop.h>

namespace ctd {

// What the ports of a tuple mean for a protocol.
enum class PortUse {
  kNone,   // no ports: both are zero
  kPorts,  // sport and dport are ports
  kIcmp,   // sport is the identifier, dport is type * 256 + code
  kGre,    // PPTP's call ids, never translated; zero in other versions of GRE
};

PortUse port_use(uint8_t proto);  // proto: IPPROTO_*

// "tcp", "icmpv6" …; an empty view if it has no name here.
std::string_view protocol_name(uint8_t proto);
// As above, or the number in decimal.
std::string protocol_text(uint8_t proto);

// "ESTABLISHED", "REPLIED" …; "UNKNOWN" for a number that the ABI does not have.
std::string_view conn_state_name(uint8_t proto, uint8_t state);

struct StatusBit {
  uint32_t bit;
  std::string_view name;  // "SEEN_REPLY"
};
std::span<const StatusBit> status_bits();

std::string_view conn_class_name(ctd_conn_class cls);  // "unanswered"

struct NameAndText {
  std::string_view name;  // "ct_full"
  std::string_view text;  // one line for people
};
std::span<const NameAndText> drop_reasons();     // index: enum ctd_drop_reason
std::span<const NameAndText> counters();         // index: enum ctd_counter
std::span<const NameAndText> end_reasons();      // index: enum ctd_end_reason
std::span<const NameAndText> invalid_reasons();  // index: enum ctd_invalid_reason
std::span<const NameAndText> expect_counters();  // index: enum ctd_expect_counter

}  // namespace ctd
