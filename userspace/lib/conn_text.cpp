// SPDX-License-Identifier: Apache-2.0
#include "lib/conn_text.hpp"

#include <arpa/inet.h>
#include <fmt/compile.h>
#include <netinet/in.h>

#include "lib/addr.hpp"
#include "lib/conn_table.hpp"
#include "lib/conn_track_fields.hpp"
#include "lib/conn_values.hpp"
#include "lib/names.hpp"

namespace ctd {
namespace {

using Out = fmt::appender;

void append_address(fmt::memory_buffer& out, const ctd_addr& address, uint8_t family) {
  char text[kMaxAddressText];
  out.append(text, write_address(text, address, family == CTD_IPV6 ? CTD_IPV6 : CTD_IPV4));
}

void append(fmt::memory_buffer& out, std::string_view text) { out.append(text.data(), text.data() + text.size()); }

// conntrack: "src=10.1.0.2 dst=10.0.2.2 sport=40312 dport=80 packets=6 bytes=412 "
void append_direction(fmt::memory_buffer& out, const ctd_tuple& tuple, const ctd_dir_count& count) {
  append(out, "src=");
  append_address(out, tuple.src, tuple.family);
  append(out, " dst=");
  append_address(out, tuple.dst, tuple.family);
  const unsigned sport = ntohs(tuple.sport), dport = ntohs(tuple.dport);
  if (port_use(tuple.proto) == PortUse::kPorts)
    fmt::format_to(Out(out), FMT_COMPILE(" sport={} dport={}"), sport, dport);
  else if (port_use(tuple.proto) == PortUse::kIcmp)
    fmt::format_to(Out(out), FMT_COMPILE(" type={} code={} id={}"), dport >> 8, dport & 0xff, sport);
  fmt::format_to(Out(out), FMT_COMPILE(" packets={} bytes={} "), count.packets, count.bytes);
}

// dpctl: "src=10.1.0.2,dst=10.0.2.2,sport=40312,dport=80"
void append_tuple(fmt::memory_buffer& out, const ctd_tuple& tuple) {
  append(out, "src=");
  append_address(out, tuple.src, tuple.family);
  append(out, ",dst=");
  append_address(out, tuple.dst, tuple.family);
  const unsigned sport = ntohs(tuple.sport), dport = ntohs(tuple.dport);
  if (port_use(tuple.proto) == PortUse::kPorts)
    fmt::format_to(Out(out), FMT_COMPILE(",sport={},dport={}"), sport, dport);
  else if (port_use(tuple.proto) == PortUse::kIcmp)
    fmt::format_to(Out(out), FMT_COMPILE(",id={},type={},code={}"), sport, dport >> 8, dport & 0xff);
}

bool has_states(uint8_t proto) { return !track_fields(proto).fields.empty(); }

// Open vSwitch has a numbering of its own, with other names.
std::string_view ovs_tcp_state(uint8_t state) {
  switch (state) {
    case CTD_TCP_NONE:
      return "CLOSED";
    case CTD_TCP_SYN_SENT2:
      return "SYN_SENT";
    case CTD_TCP_FIN_WAIT:
      return "FIN_WAIT_1";
    case CTD_TCP_CLOSE:
      return "CLOSING";
    default:
      return conn_state_name(IPPROTO_TCP, state);
  }
}

}  // namespace

void append_conn_conntrack(fmt::memory_buffer& out, const ctd_conn& conn, const KernelClock& clock) {
  const uint8_t proto = conn.orig.proto;
  const std::string_view name = protocol_name(proto);
  fmt::format_to(Out(out), FMT_COMPILE("{:<8} {} {} "), name.empty() ? "unknown" : name, proto,
                 jiffies_left(conn, clock.jiffies) / clock.hz);
  if (has_states(proto)) fmt::format_to(Out(out), FMT_COMPILE("{} "), conn_state_name(proto, conn.state));
  append_direction(out, conn.orig, conn.count[CTD_DIR_ORIG]);
  if (!(conn.status & CTD_STATUS_SEEN_REPLY)) append(out, "[UNREPLIED] ");
  append_direction(out, conn.reply, conn.count[CTD_DIR_REPLY]);
  if (conn.status & CTD_STATUS_ASSURED) append(out, "[ASSURED] ");
  fmt::format_to(Out(out), FMT_COMPILE("mark={} "), conn.mark);
  if (conn.orig.zone) fmt::format_to(Out(out), FMT_COMPILE("zone={} "), conn.orig.zone);
  append(out, "use=1");
}

void append_conn_dpctl(fmt::memory_buffer& out, const ctd_conn& conn) {
  const uint8_t proto = conn.orig.proto;
  const std::string_view name = protocol_name(proto);
  if (name.empty())
    fmt::format_to(Out(out), FMT_COMPILE("{}"), proto);
  else
    append(out, name);
  append(out, ",orig=(");
  append_tuple(out, conn.orig);
  append(out, "),reply=(");
  append_tuple(out, conn.reply);
  append(out, ")");
  if (conn.orig.zone) fmt::format_to(Out(out), FMT_COMPILE(",zone={}"), conn.orig.zone);
  if (conn.mark) fmt::format_to(Out(out), FMT_COMPILE(",mark={}"), conn.mark);
  if (const Wide label = label_of(conn); label.high)
    fmt::format_to(Out(out), FMT_COMPILE(",labels={:#x}{:016x}"), label.high, label.low);
  else if (label.low)
    fmt::format_to(Out(out), FMT_COMPILE(",labels={:#x}"), label.low);
  if (has_states(proto))
    fmt::format_to(Out(out), FMT_COMPILE(",protoinfo=(state={})"),
                   proto == IPPROTO_TCP ? ovs_tcp_state(conn.state) : conn_state_name(proto, conn.state));
}

}  // namespace ctd
