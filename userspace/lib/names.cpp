// SPDX-License-Identifier: Apache-2.0
#include "lib/names.hpp"

#include <array>

#include <netinet/in.h>

namespace ctd {
namespace {

struct Protocol {
  uint8_t number;
  std::string_view name;
  PortUse ports;
};

// The names are those of conntrack-tools.
constexpr std::array kProtocols{
    Protocol{IPPROTO_ICMP, "icmp", PortUse::kIcmp},  Protocol{IPPROTO_TCP, "tcp", PortUse::kPorts},
    Protocol{IPPROTO_UDP, "udp", PortUse::kPorts},   Protocol{IPPROTO_DCCP, "dccp", PortUse::kPorts},
    Protocol{IPPROTO_GRE, "gre", PortUse::kGre},     Protocol{IPPROTO_ICMPV6, "icmpv6", PortUse::kIcmp},
    Protocol{IPPROTO_SCTP, "sctp", PortUse::kPorts}, Protocol{IPPROTO_UDPLITE, "udplite", PortUse::kPorts},
    Protocol{IPPROTO_ESP, "esp", PortUse::kNone},    Protocol{IPPROTO_AH, "ah", PortUse::kNone},
    Protocol{IPPROTO_IPIP, "ipip", PortUse::kNone},  Protocol{IPPROTO_IPV6, "ipv6", PortUse::kNone},
    Protocol{IPPROTO_IGMP, "igmp", PortUse::kNone},
};

const Protocol* find_protocol(uint8_t proto) {
  for (const Protocol& p : kProtocols)
    if (p.number == proto) return &p;
  return nullptr;
}

#define X(name, ...) std::string_view(#name),
constexpr std::array kTcpStates{CTD_TCP_STATES(X)};
constexpr std::array kOtherStates{CTD_OTHER_STATES(X)};
constexpr std::array kSctpStates{CTD_SCTP_STATES(X)};
constexpr std::array kDccpStates{CTD_DCCP_STATES(X)};
#undef X

#define X(id, bit, name) StatusBit{bit, name},
constexpr std::array kStatusBits{CTD_STATUS(X)};
#undef X

#define X(id, name, text) NameAndText{#name, text},
constexpr std::array kDropReasons{CTD_DROP_REASONS(X)};
constexpr std::array kCounters{CTD_COUNTERS(X)};
constexpr std::array kEndReasons{CTD_END_REASONS(X)};
constexpr std::array kInvalidReasons{CTD_INVALID_REASONS(X)};
constexpr std::array kExpectCounters{CTD_EXPECT_COUNTERS(X)};
#undef X

static_assert(kTcpStates.size() == CTD_TCP_STATE_COUNT);
static_assert(kOtherStates.size() == CTD_OTHER_STATE_COUNT);
static_assert(kSctpStates.size() == CTD_SCTP_STATE_COUNT);
static_assert(kDccpStates.size() == CTD_DCCP_STATE_COUNT);
static_assert(kDropReasons.size() == CTD_DROP_COUNT);
static_assert(kCounters.size() == CTD_COUNT_COUNT);

}  // namespace

PortUse port_use(uint8_t proto) {
  const Protocol* p = find_protocol(proto);
  return p ? p->ports : PortUse::kNone;
}

std::string_view protocol_name(uint8_t proto) {
  const Protocol* p = find_protocol(proto);
  return p ? p->name : std::string_view();
}

std::string protocol_text(uint8_t proto) {
  const std::string_view name = protocol_name(proto);
  return name.empty() ? std::to_string(proto) : std::string(name);
}

std::string_view conn_state_name(uint8_t proto, uint8_t state) {
  std::span<const std::string_view> names = kOtherStates;
  if (proto == IPPROTO_TCP)
    names = kTcpStates;
  else if (proto == IPPROTO_SCTP)
    names = kSctpStates;
  else if (proto == IPPROTO_DCCP)
    names = kDccpStates;
  return state < names.size() ? names[state] : "UNKNOWN";
}

std::span<const StatusBit> status_bits() { return kStatusBits; }

std::string_view conn_class_name(ctd_conn_class cls) {
  switch (cls) {
    case CTD_CLASS_UNANSWERED:
      return "unanswered";
    case CTD_CLASS_ANSWERED:
      return "answered";
    case CTD_CLASS_ASSURED:
      return "assured";
    case CTD_CLASS_COUNT:
      break;
  }
  return "unknown";
}

std::span<const NameAndText> drop_reasons() { return kDropReasons; }

std::span<const NameAndText> counters() { return kCounters; }

std::span<const NameAndText> end_reasons() { return kEndReasons; }

std::span<const NameAndText> invalid_reasons() { return kInvalidReasons; }

std::span<const NameAndText> expect_counters() { return kExpectCounters; }

}  // namespace ctd
