// SPDX-License-Identifier: Apache-2.0
#include "lib/conn_json.hpp"

#include <cstring>
#include <optional>
#include <string_view>
#include <utility>

#include <arpa/inet.h>
#include <fmt/compile.h>
#include <nlohmann/json.hpp>

#include "lib/addr.hpp"
#include "lib/conn_text.hpp"
#include "lib/conn_track_fields.hpp"
#include "lib/names.hpp"

namespace ctd {
namespace {

// Written by hand: objects of a JSON library would take ten times as long. Only text that needs no escaping goes
// through here: numbers, addresses and names of the ABI. The tests parse the result and hold it to the schema.
class Writer {
 public:
  explicit Writer(fmt::memory_buffer& out) : out_(out) {}

  // Inlined, so that constant text becomes a few stores.
  [[gnu::always_inline]] void raw(std::string_view text) {
    const std::size_t end = out_.size();
    out_.resize(end + text.size());
    std::memcpy(out_.data() + end, text.data(), text.size());
  }
  void number(uint64_t value) {
    const fmt::format_int digits(value);
    raw({digits.data(), digits.size()});
  }
  void utc(std::chrono::system_clock::time_point when) { append_utc(out_, when); }

 private:
  fmt::memory_buffer& out_;
};

class AddressText {
 public:
  AddressText(const ctd_addr& address, ctd_family family)
      : length_(static_cast<std::size_t>(write_address(text_, address, family) - text_)) {}
  std::string_view view() const { return {text_, length_}; }

 private:
  char text_[kMaxAddressText];
  std::size_t length_;
};

// A connection's addresses as text. Without translation there are only two, and IPv6 text is what takes longest.
struct Addresses {
  explicit Addresses(const ctd_conn& conn)
      : family(conn.orig.family == CTD_IPV6 ? CTD_IPV6 : CTD_IPV4),
        src_same(same_address(conn.reply.dst, conn.orig.src)),
        dst_same(same_address(conn.reply.src, conn.orig.dst)),
        orig_src(conn.orig.src, family),
        orig_dst(conn.orig.dst, family),
        reply_src(dst_same ? orig_dst : AddressText(conn.reply.src, family)),
        reply_dst(src_same ? orig_src : AddressText(conn.reply.dst, family)) {}

  ctd_family family;
  bool src_same;  // the source is not translated
  bool dst_same;
  AddressText orig_src, orig_dst, reply_src, reply_dst;
};

void append_protocol(Writer& out, uint8_t proto) {
  out.raw(",\"proto\":\"");
  if (const std::string_view name = protocol_name(proto); !name.empty())
    out.raw(name);
  else
    out.number(proto);
  out.raw("\",\"protonum\":");
  out.number(proto);
}

void append_status(Writer& out, uint32_t status) {
  out.raw(",\"status\":[");
  bool first = true;
  for (const StatusBit& bit : status_bits()) {
    // Every connection of the table is confirmed: that would be noise.
    if (!(status & bit.bit) || bit.bit == CTD_STATUS_CONFIRMED) continue;
    out.raw(first ? "\"" : ",\"");
    out.raw(bit.name);
    out.raw("\"");
    first = false;
  }
  out.raw("]");
}

void append_tuple(Writer& out, const ctd_tuple& tuple, const AddressText& src, const AddressText& dst) {
  out.raw("\"src\":\"");
  out.raw(src.view());
  out.raw("\",\"dst\":\"");
  out.raw(dst.view());
  out.raw("\"");
  const uint16_t sport = ntohs(tuple.sport);
  const uint16_t dport = ntohs(tuple.dport);
  switch (port_use(tuple.proto)) {
    case PortUse::kPorts:
      out.raw(",\"sport\":");
      out.number(sport);
      out.raw(",\"dport\":");
      out.number(dport);
      break;
    case PortUse::kIcmp:
      out.raw(",\"id\":");
      out.number(sport);
      out.raw(",\"type\":");
      out.number(dport >> 8);
      out.raw(",\"code\":");
      out.number(dport & 0xff);
      break;
    case PortUse::kGre:
      out.raw(",\"srckey\":");
      out.number(sport);
      out.raw(",\"dstkey\":");
      out.number(dport);
      break;
    case PortUse::kNone:
      break;
  }
}

void append_direction(Writer& out, const ctd_tuple& tuple, const AddressText& src, const AddressText& dst,
                      const ctd_dir_count& count) {
  out.raw("{");
  append_tuple(out, tuple, src, dst);
  out.raw(",\"packets\":");
  out.number(count.packets);
  out.raw(",\"bytes\":");
  out.number(count.bytes);
  out.raw("}");
}

void append_endpoint(Writer& out, const AddressText& address, ctd_family family, std::optional<uint16_t> port) {
  const bool bracket = port && family == CTD_IPV6;
  out.raw(bracket ? "\"[" : "\"");
  out.raw(address.view());
  if (bracket) out.raw("]");
  if (port) {
    out.raw(":");
    out.number(*port);
  }
  out.raw("\"");
}

// What the other side sees instead: a reply does not go where the original came from, or comes from elsewhere.
void append_nat(Writer& out, const ctd_conn& conn, const Addresses& text) {
  const PortUse uses = port_use(conn.orig.proto), use = uses == PortUse::kGre ? PortUse::kNone : uses;
  // An ICMP query has one identifier, the same in both directions: it belongs to the source.
  const be16 reply_dport = use == PortUse::kIcmp ? conn.reply.sport : conn.reply.dport;
  const bool src = !text.src_same || (use != PortUse::kNone && reply_dport != conn.orig.sport);
  const bool dst = !text.dst_same || (use == PortUse::kPorts && conn.reply.sport != conn.orig.dport);
  if (!src && !dst) return;

  out.raw(",\"nat\":{");
  if (src) {
    out.raw("\"src\":");
    append_endpoint(out, text.reply_dst, text.family,
                    use == PortUse::kNone ? std::nullopt : std::optional(ntohs(reply_dport)));
  }
  if (dst) {
    out.raw(src ? ",\"dst\":" : "\"dst\":");
    append_endpoint(out, text.reply_src, text.family,
                    use == PortUse::kPorts ? std::optional(ntohs(conn.reply.sport)) : std::nullopt);
  }
  out.raw("}");
}

// A 128-bit number, the least significant byte first in the record.
void append_label(Writer& out, const u8 (&label)[16]) {
  int top = 15;
  while (top >= 0 && label[top] == 0) --top;
  if (top < 0) return;
  constexpr std::string_view kDigits = "0123456789abcdef";
  out.raw(",\"label\":\"0x");
  if (label[top] >= 0x10) out.raw(kDigits.substr(label[top] >> 4, 1));
  out.raw(kDigits.substr(label[top] & 0xf, 1));
  for (int i = top - 1; i >= 0; --i) {
    out.raw(kDigits.substr(label[i] >> 4, 1));
    out.raw(kDigits.substr(label[i] & 0xf, 1));
  }
  out.raw("\"");
}

// Without the closing brace.
void append_members(Writer& out, const ctd_conn& conn, const KernelClock& clock) {
  const Addresses text(conn);
  const uint8_t proto = conn.orig.proto;
  out.raw("{\"id\":\"");
  out.number(unique_conn_id(conn));
  out.raw("\",\"zone\":");
  out.number(conn.orig.zone);
  append_protocol(out, proto);
  out.raw(text.family == CTD_IPV6 ? ",\"family\":\"ipv6\",\"state\":\"" : ",\"family\":\"ipv4\",\"state\":\"");
  out.raw(conn_state_name(proto, conn.state));
  out.raw("\"");
  append_status(out, conn.status);
  out.raw(",\"orig\":");
  append_direction(out, conn.orig, text.orig_src, text.orig_dst, conn.count[CTD_DIR_ORIG]);
  out.raw(",\"reply\":");
  append_direction(out, conn.reply, text.reply_src, text.reply_dst, conn.count[CTD_DIR_REPLY]);
  append_nat(out, conn, text);
  out.raw(",\"mark\":");
  out.number(conn.mark);
  append_label(out, conn.label);
  out.raw(",\"timeout_s\":");
  out.number(jiffies_left(conn, clock.jiffies) / clock.hz);
  out.raw(",\"start\":\"");
  out.utc(clock.wall_at(conn.start));
  out.raw("\"");
  if (conn.helper) {
    out.raw(",\"helper\":\"");
    out.number(conn.helper);
    out.raw("\"");
  }
  if (conn.master != CTD_CONN_NONE) {
    out.raw(",\"master\":\"");
    out.number(unique_conn_id(conn.master_seq, conn.master));
    out.raw("\"");
  }
}

uint64_t milliseconds_of(uint64_t jiffies, const KernelClock& clock) {
  return (jiffies * 1000 + clock.hz / 2) / clock.hz;
}

void append_number(Writer& out, std::string_view name, uint64_t value) {
  out.raw(",\"");
  out.raw(name);
  out.raw("\":");
  out.number(value);
}

void append_fields(Writer& out, const ctd_conn& conn) {
  const TrackFields own = track_fields(conn.orig.proto);
  if (own.fields.empty()) return;
  out.raw(",\"");
  out.raw(own.name);
  out.raw("\":{");
  for (const TrackField& field : own.fields) {
    out.raw(&field == own.fields.data() ? "\"" : ",\"");
    out.raw(field.name);
    out.raw("\":");
    out.number(get(conn, field));
  }
  out.raw("}");
}

void append_master(Writer& out, const ctd_conn& master) {
  const Addresses text(master);
  out.raw(",\"master\":{\"zone\":");
  out.number(master.orig.zone);
  append_protocol(out, master.orig.proto);
  out.raw(",");
  append_tuple(out, master.orig, text.orig_src, text.orig_dst);
  out.raw("}");
}

void append_track(Writer& out, const ctd_conn& conn, const ctd_conn* master, const ConnPolicies& policies,
                  const KernelClock& clock) {
  out.raw(",\"track\":{\"class\":\"");
  out.raw(conn_class_name(static_cast<ctd_conn_class>(CTD_CTL_CLASS(conn.ctl))));
  out.raw("\"");
  append_number(out, "timeout_ms", milliseconds_of(conn.timeout, clock));
  if (timeout_is_set(conn, clock.jiffies))
    append_number(out, "set_timeout_ms", milliseconds_of(jiffies_left(conn, clock.jiffies), clock));
  const auto now = static_cast<uint32_t>(clock.jiffies);
  for (const auto& [name, seen] : {std::pair{"orig_idle_ms", conn.last_seen[CTD_DIR_ORIG]},
                                   std::pair{"reply_idle_ms", conn.last_seen[CTD_DIR_REPLY]}})
    if (seen) append_number(out, name, milliseconds_of(jiffies_since(now, seen), clock));
  if (conn.timeout_policy) {
    out.raw(",\"policy\":\"");
    out.raw(policies.name(conn.timeout_policy));  // the configuration's schema allows nothing that needs escaping
    out.raw("\"");
  }
  if (conn.event_mask) append_number(out, "event_mask", conn.event_mask);
  append_fields(out, conn);
  if (master) append_master(out, *master);
  out.raw("}");
}

}  // namespace

void append_conn_json(fmt::memory_buffer& buffer, const ctd_conn& conn, const KernelClock& clock) {
  Writer out(buffer);
  append_members(out, conn, clock);
  out.raw("}");
}

void append_saved_conn(fmt::memory_buffer& buffer, const ctd_conn& conn, const ctd_conn* master,
                       const ConnPolicies& policies, const KernelClock& clock) {
  Writer out(buffer);
  append_members(out, conn, clock);
  append_track(out, conn, master, policies, clock);
  out.raw("}");
}

void append_conn(fmt::memory_buffer& out, DumpForm form, const ctd_conn& conn, const ConnTable& table,
                 const ConnPolicies& policies, const KernelClock& clock) {
  switch (form) {
    case DumpForm::kJson:
      return append_conn_json(out, conn, clock);
    case DumpForm::kConntrack:
      return append_conn_conntrack(out, conn, clock);
    case DumpForm::kDpctl:
      return append_conn_dpctl(out, conn);
    case DumpForm::kSaved:
      break;
  }
  ctd_conn master;
  const bool lives = conn.master != CTD_CONN_NONE && table.read(conn.master, master) == ConnTable::Read::kLive &&
                     CTD_CTL_SEQ(master.ctl) == conn.master_seq;
  append_saved_conn(out, conn, lives ? &master : nullptr, policies, clock);
}

ConnDump::ConnDump(ConnWalk walk, const KernelClock& clock, Origin origin, DumpForm form, ConnPolicies policies)
    : walk_(std::move(walk)), clock_(clock), origin_(std::move(origin)), form_(form), policies_(std::move(policies)) {}

bool ConnDump::next(fmt::memory_buffer& out, std::size_t enough) {
  const std::size_t target = out.size() + enough;
  if (!std::exchange(begun_, true) && has_frame()) append_header(out);
  ctd_conn conn;
  while (out.size() < target) {
    if (!walk_.next(conn)) {
      if (has_frame()) append_trailer(out);
      return false;
    }
    append_conn(out, form_, conn, walk_.table(), policies_, clock_);
    out.push_back('\n');
    ++count_;
  }
  return true;
}

void ConnDump::append_header(fmt::memory_buffer& out) const {
  const nlohmann::ordered_json header{{"schema", kConntrackSchema},
                                      {"host", origin_.host},
                                      {"instance", origin_.instance},
                                      {"time", utc_text(clock_.wall)}};
  out.append(header.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  out.push_back('\n');
}

void ConnDump::append_trailer(fmt::memory_buffer& out) const {
  fmt::format_to(fmt::appender(out), "{{\"count\":{},\"complete\":{}}}\n", count_, walk_.complete());
}

}  // namespace ctd
