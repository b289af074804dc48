// SPDX-License-Identifier: Apache-2.0
#include "lib/conn_parse.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <string>
#include <utility>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <nlohmann/json.hpp>

#include "lib/conn_track_fields.hpp"
#include "lib/conn_values.hpp"
#include "lib/json_reader.hpp"
#include "lib/names.hpp"

namespace ctd {
namespace {

using json = nlohmann::json;
using Reader = JsonReader;

constexpr uint32_t kMaxU32 = std::numeric_limits<uint32_t>::max();

Result<Address> address(const Reader& in, const char* name) {
  const std::string text = CTD_TRY(in.text(name, "an address"));
  const auto address = parse_address(text);
  if (!address) return fail("{}: \"{:.60}\": expected an address", in.path(name), text);
  return *address;
}

Result<uint16_t> number16(const Reader& in, const char* name, uint64_t max) {
  return static_cast<uint16_t>(CTD_TRY(in.number(name, max)));
}

Result<ctd_tuple> tuple(const Reader& in, uint8_t proto, uint16_t zone) {
  const Address src = CTD_TRY(address(in, "src")), dst = CTD_TRY(address(in, "dst"));
  if (src.family != dst.family) return fail("{}: expected an address of the same family as src", in.path("dst"));
  if ((proto == IPPROTO_ICMP && src.family != CTD_IPV4) || (proto == IPPROTO_ICMPV6 && src.family != CTD_IPV6))
    return fail("{}: {} does not run over this family", in.path("src"), protocol_name(proto));
  ctd_tuple tuple{};
  tuple.src = src.value;
  tuple.dst = dst.value;
  tuple.zone = zone;
  tuple.proto = proto;
  tuple.family = static_cast<u8>(src.family);
  if (port_use(proto) == PortUse::kPorts) {
    tuple.sport = htons(CTD_TRY(number16(in, "sport", 65535)));
    tuple.dport = htons(CTD_TRY(number16(in, "dport", 65535)));
  } else if (port_use(proto) == PortUse::kIcmp) {
    tuple.sport = htons(CTD_TRY(number16(in, "id", 65535)));
    const unsigned type = CTD_TRY(number16(in, "type", 255));
    tuple.dport = htons(static_cast<uint16_t>(type << 8 | CTD_TRY(number16(in, "code", 255))));
  } else if (port_use(proto) == PortUse::kGre) {
    tuple.sport = htons(static_cast<uint16_t>(CTD_TRY(in.number("srckey", 65535, 0))));
    tuple.dport = htons(static_cast<uint16_t>(CTD_TRY(in.number("dstkey", 65535, 0))));
  }
  return tuple;
}

Result<uint8_t> protocol(const Reader& in) {
  const std::string text = CTD_TRY(in.text("proto", "a protocol"));
  const auto proto = parse_protocol(text);
  if (!proto) return fail("{}: \"{:.40}\": expected a protocol, as tcp or 253", in.path("proto"), text);
  if (CTD_TRY(in.number("protonum", 255, *proto)) != *proto)
    return fail("{}: expected {}, as proto says", in.path("protonum"), *proto);
  return *proto;
}

Result<ctd_dir_count> counters(const Reader& in) {
  constexpr uint64_t kMax = ~0ull;
  return ctd_dir_count{CTD_TRY(in.number("packets", kMax, 0)), CTD_TRY(in.number("bytes", kMax, 0))};
}

Result<> parse_tuples(const Reader& in, ctd_conn& conn) {
  const uint8_t proto = CTD_TRY(protocol(in));
  const auto zone = static_cast<uint16_t>(CTD_TRY(in.number("zone", 65535, 0)));
  const Reader orig = CTD_TRY(in.object("orig"));
  conn.orig = CTD_TRY(tuple(orig, proto, zone));
  conn.count[CTD_DIR_ORIG] = CTD_TRY(counters(orig));
  const auto plain = inverted(conn.orig);
  if (!plain) return fail("{}: expected the type of a query", orig.path("type"));
  conn.reply = *plain;
  if (!in.has("reply")) return {};
  const Reader reply = CTD_TRY(in.object("reply"));
  conn.reply = CTD_TRY(tuple(reply, proto, zone));
  conn.count[CTD_DIR_REPLY] = CTD_TRY(counters(reply));
  if (conn.reply.family != conn.orig.family) return fail("reply.src: expected an address of orig's family");
  if (port_use(proto) == PortUse::kIcmp && conn.reply.dport != plain->dport)
    return fail("reply.type: expected the answer to orig's type");
  return {};
}

Result<> parse_state(const Reader& in, ctd_conn& conn) {
  const uint8_t proto = conn.orig.proto;
  conn.state = conn.status & CTD_STATUS_SEEN_REPLY ? CTD_OTHER_REPLIED : CTD_OTHER_UNREPLIED;
  if (!in.has("state") && track_fields(proto).fields.empty()) return {};
  const std::string name = CTD_TRY(in.text("state", "a state"));
  const auto state = parse_conn_state(proto, name);
  if (!state) return fail("{}: \"{:.40}\": {} has no such state", in.path("state"), name, protocol_text(proto));
  conn.state = *state;
  return {};
}

Result<> parse_status_bits(const Reader& in, ctd_conn& conn) {
  if (!in.has("status")) return {};
  for (const json& name : CTD_TRY(in.array("status"))) {
    const auto bit = name.is_string() ? parse_status(name.get<std::string>()) : std::nullopt;
    if (!bit) return fail("{}: {:.40}: expected {}", in.path("status"), name.dump(), status_names());
    conn.status |= *bit;
  }
  // The table says itself what is translated.
  conn.status &= ~static_cast<u32>(CTD_STATUS_SRC_NAT | CTD_STATUS_DST_NAT | CTD_STATUS_CONFIRMED);
  return {};
}

Result<> parse_marks(const Reader& in, ctd_conn& conn) {
  conn.mark = static_cast<u32>(CTD_TRY(in.number("mark", kMaxU32, 0)));
  if (in.has("label")) {
    const std::string text = CTD_TRY(in.text("label", "a label"));
    const auto label = parse_wide(text, 128);
    if (!label) return fail("{}: \"{:.60}\": expected a number of 128 bits, as 0x1f", in.path("label"), text);
    set_label(conn.label, *label);
  }
  if (in.has("helper")) {
    const std::string text = CTD_TRY(in.text("helper", "a helper"));
    const auto helper = parse_number(text, 65535);
    if (!helper) return fail("{}: \"{:.40}\": no such helper", in.path("helper"), text);
    conn.helper = static_cast<u16>(*helper);
  }
  return {};
}

// Milliseconds or seconds to jiffies, to the nearest; HZ is 1000 at most, so that nothing is lost by way of ms.
uint64_t jiffies_of(uint64_t amount, uint64_t a_second, const KernelClock& clock) {
  return (amount * clock.hz + a_second / 2) / a_second;
}

uint32_t seen_at(const KernelClock& now, uint64_t idle) {
  const auto stamp = static_cast<uint32_t>(now.jiffies - idle);
  return stamp ? stamp : 1;  // 0 is never
}

// Timeout and last packets are saved exactly; a plain dump has the seconds that were left.
Result<> parse_times(const Reader& in, const KernelClock& now, ctd_conn& conn) {
  constexpr uint64_t kMaxSeconds = 0x7fffffff / 1000, kMaxMs = kMaxSeconds * 1000;  // in jiffies, at any HZ, too
  conn.start = now.jiffies;
  if (in.has("start")) {
    const std::string text = CTD_TRY(in.text("start", "a time"));
    const auto start = parse_utc(text);
    if (!start) return fail("{}: \"{:.40}\": expected a time, as 2026-11-22T19:00:00.000Z", in.path("start"), text);
    const auto ago = std::chrono::duration_cast<std::chrono::milliseconds>(now.wall - *start).count();
    conn.start -= ago > 0 ? jiffies_of(static_cast<uint64_t>(ago), 1000, now) : 0;
  }
  conn.last_seen[CTD_DIR_ORIG] = seen_at(now, 0);
  const uint64_t left = CTD_TRY(in.number("timeout_s", kMaxSeconds));
  conn.timeout = static_cast<u32>(left * now.hz);
  if (!in.has("track")) return {};
  const Reader track = CTD_TRY(in.object("track"));
  conn.timeout = static_cast<u32>(jiffies_of(CTD_TRY(track.number("timeout_ms", kMaxMs)), 1000, now));
  const auto idle = [&](const char* name) -> Result<uint64_t> {
    return jiffies_of(CTD_TRY(track.number(name, kMaxMs, 0)), 1000, now);
  };
  // A connection has been seen at its start at least; nobody needs to have answered.
  conn.last_seen[CTD_DIR_ORIG] = seen_at(now, CTD_TRY(idle("orig_idle_ms")));
  if (track.has("reply_idle_ms")) conn.last_seen[CTD_DIR_REPLY] = seen_at(now, CTD_TRY(idle("reply_idle_ms")));
  if (track.has("set_timeout_ms")) {
    const u32 remaining = static_cast<u32>(CTD_TRY(idle("set_timeout_ms")));
    const u32 seen[] = {conn.last_seen[CTD_DIR_ORIG], conn.last_seen[CTD_DIR_REPLY]};
    conn.expires_seen = seen[1] && static_cast<int32_t>(seen[1] - seen[0]) > 0 ? seen[1] : seen[0];
    conn.expires = std::max<u32>(static_cast<u32>(now.jiffies) + remaining, 1);
  }
  return {};
}

Result<ctd_conn_class> parse_class(const Reader& track) {
  const std::string text = CTD_TRY(track.text("class", "a class"));
  const auto cls = parse_conn_class(text);
  if (!cls) return fail("{}: \"{:.40}\": expected unanswered, answered or assured", track.path("class"), text);
  return *cls;
}

Result<> parse_track(const Reader& in, ParsedConn& to) {
  ctd_conn& conn = to.conn;
  const ctd_conn_class best = conn.status & CTD_STATUS_ASSURED      ? CTD_CLASS_ASSURED
                              : conn.status & CTD_STATUS_SEEN_REPLY ? CTD_CLASS_ANSWERED
                                                                    : CTD_CLASS_UNANSWERED;
  to.cls = best;
  if (!in.has("track")) return {};
  const Reader track = CTD_TRY(in.object("track"));
  if (track.has("class")) to.cls = CTD_TRY(parse_class(track));
  if (to.cls > best) return fail("track.class: expected {} at most, as status says", conn_class_name(best));
  if (track.has("policy")) to.policy = CTD_TRY(track.text("policy", "the name of a timeout policy"));
  conn.event_mask = static_cast<u16>(CTD_TRY(track.number("event_mask", 65535, 0)));
  if (track.has("master")) {
    const Reader master = CTD_TRY(track.object("master"));
    const auto zone = static_cast<uint16_t>(CTD_TRY(master.number("zone", 65535, 0)));
    to.master = CTD_TRY(tuple(master, CTD_TRY(protocol(master)), zone));
  }
  const TrackFields own = track_fields(conn.orig.proto);
  if (own.fields.empty() || !track.has(own.name.data())) return {};
  const Reader values = CTD_TRY(track.object(own.name.data()));
  for (const TrackField& field : own.fields)
    set(conn, field, CTD_TRY(values.number(field.name.data(), limit(field), 0)));
  return {};
}

}  // namespace

std::optional<ctd_tuple> inverted(const ctd_tuple& tuple) {
  struct Query {
    uint8_t proto, type, answer;
  };
  // RFC 792, RFC 950, RFC 4443, RFC 4620.
  constexpr std::array kQueries{Query{IPPROTO_ICMP, 8, 0},       Query{IPPROTO_ICMP, 13, 14},
                                Query{IPPROTO_ICMP, 15, 16},     Query{IPPROTO_ICMP, 17, 18},
                                Query{IPPROTO_ICMPV6, 128, 129}, Query{IPPROTO_ICMPV6, 139, 140}};
  ctd_tuple to = tuple;
  std::swap(to.src, to.dst);
  if (port_use(tuple.proto) != PortUse::kIcmp) {
    std::swap(to.sport, to.dport);
    return to;
  }
  const auto* query = std::ranges::find_if(
      kQueries, [&](const Query& q) { return q.proto == tuple.proto && q.type == ntohs(tuple.dport) >> 8; });
  if (query == kQueries.end()) return std::nullopt;
  to.dport = htons(static_cast<uint16_t>(query->answer << 8 | (ntohs(tuple.dport) & 0xff)));  // with its code
  return to;
}

Result<ParsedConn> parse_conn_json(std::string_view line, const KernelClock& now) {
  const json object = json::parse(line, nullptr, false);
  if (!object.is_object()) return fail("expected a JSON object");
  const Reader in(object, "");
  ParsedConn parsed;
  CTD_TRY(parse_tuples(in, parsed.conn));
  CTD_TRY(parse_status_bits(in, parsed.conn));
  CTD_TRY(parse_state(in, parsed.conn));
  CTD_TRY(parse_marks(in, parsed.conn));
  CTD_TRY(parse_times(in, now, parsed.conn));
  CTD_TRY(parse_track(in, parsed));
  return parsed;
}

}  // namespace ctd
