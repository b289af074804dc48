// SPDX-License-Identifier: Apache-2.0
#include "daemon/match_fields.hpp"

#include <cstring>

#include <arpa/inet.h>
#include <ctd/abi/ct.h>
#include <linux/if_ether.h>
#include <netinet/in.h>

namespace ctd {
namespace {

// The names differ from the key's members where OpenFlow's do, so a field is given by its member.
#define CTD_FIELD_AT(member) .offset = offsetof(ctd_flow_key, member), .size = sizeof(ctd_flow_key::member)

constexpr MatchField number(std::string_view name, u16 offset, u8 size, u64 max, Order order, Needs needs) {
  return {.name = name,
          .offset = offset,
          .size = size,
          .syntax = Syntax::number,
          .needs = needs,
          .order = order,
          .max = max,
          .full = size == 8 ? ~u64{0} : (u64{1} << (8 * size)) - 1};
}

constexpr MatchField masked(MatchField field) {
  field.maskable = true;
  return field;
}

constexpr MatchField in_hex(MatchField field) {
  field.hex = true;
  return field;
}

constexpr MatchField bits_of(MatchField field, u64 full, u8 shift) {
  field.full = full;
  field.shift = shift;
  return field;
}

constexpr MatchField alias(std::string_view name, MatchField field) {
  field.name = name;
  field.alias = true;
  return field;
}

constexpr MatchField alias(std::string_view name, MatchField field, Needs needs) {
  field.needs = needs;
  return alias(name, field);
}

#define CTD_NUMBER(name, member, max, order, needs) \
  number(name, offsetof(ctd_flow_key, member), sizeof(ctd_flow_key::member), max, Order::order, Needs::needs)

constexpr MatchField eth_src{.name = "dl_src", CTD_FIELD_AT(eth_src), .syntax = Syntax::mac, .maskable = true};
constexpr MatchField eth_dst{.name = "dl_dst", CTD_FIELD_AT(eth_dst), .syntax = Syntax::mac, .maskable = true};
constexpr MatchField eth_type = in_hex(CTD_NUMBER("dl_type", eth_type, 0xffff, network, nothing));
constexpr MatchField nw_src{
    .name = "nw_src", CTD_FIELD_AT(ip_src.v4), .syntax = Syntax::ipv4, .needs = Needs::ipv4, .maskable = true};
constexpr MatchField nw_dst{
    .name = "nw_dst", CTD_FIELD_AT(ip_dst.v4), .syntax = Syntax::ipv4, .needs = Needs::ipv4, .maskable = true};
constexpr MatchField ip_proto = CTD_NUMBER("nw_proto", ip_proto, 255, host, ip);
constexpr MatchField nw_tos = bits_of(CTD_NUMBER("nw_tos", ip_tos, 252, host, ip), 0xfc, 0);
constexpr MatchField nw_ecn = bits_of(CTD_NUMBER("nw_ecn", ip_tos, 3, host, ip), 0x03, 0);
constexpr MatchField nw_ttl = CTD_NUMBER("nw_ttl", ip_ttl, 255, host, ip);
constexpr MatchField tp_src = masked(CTD_NUMBER("tp_src", sport, 65535, network, ports));
constexpr MatchField tp_dst = masked(CTD_NUMBER("tp_dst", dport, 65535, network, ports));
constexpr MatchField icmp_type = CTD_NUMBER("icmp_type", sport, 255, network, icmp);
constexpr MatchField icmp_code = CTD_NUMBER("icmp_code", dport, 255, network, icmp);

constexpr MatchField fields[] = {
    masked(in_hex(CTD_NUMBER("pkt_mark", pkt_mark, 0xffffffff, host, nothing))),
    {.name = "ct_state", CTD_FIELD_AT(ct_state), .syntax = Syntax::ct_state, .maskable = true},
    CTD_NUMBER("ct_zone", ct_zone, 0xffff, host, nothing),
    masked(in_hex(CTD_NUMBER("ct_mark", ct_mark, 0xffffffff, host, nothing))),
    {.name = "ct_label", CTD_FIELD_AT(ct_label), .syntax = Syntax::label, .maskable = true},
    {.name = "ct_nw_src",
     CTD_FIELD_AT(ct_orig_src.v4),
     .syntax = Syntax::ipv4,
     .needs = Needs::ct_ipv4,
     .maskable = true},
    {.name = "ct_nw_dst",
     CTD_FIELD_AT(ct_orig_dst.v4),
     .syntax = Syntax::ipv4,
     .needs = Needs::ct_ipv4,
     .maskable = true},
    {.name = "ct_ipv6_src",
     CTD_FIELD_AT(ct_orig_src),
     .syntax = Syntax::ipv6,
     .needs = Needs::ct_ipv6,
     .maskable = true},
    {.name = "ct_ipv6_dst",
     CTD_FIELD_AT(ct_orig_dst),
     .syntax = Syntax::ipv6,
     .needs = Needs::ct_ipv6,
     .maskable = true},
    CTD_NUMBER("ct_nw_proto", ct_orig_proto, 255, host, ct),
    masked(CTD_NUMBER("ct_tp_src", ct_orig_sport, 65535, network, ct)),
    masked(CTD_NUMBER("ct_tp_dst", ct_orig_dport, 65535, network, ct)),
    {.name = "in_port", CTD_FIELD_AT(in_port), .syntax = Syntax::port},
    {.name = "out_port", CTD_FIELD_AT(out_port), .syntax = Syntax::port},
    masked(in_hex(CTD_NUMBER("vlan_tci", vlan_tci, 0xffff, network, nothing))),
    eth_src,
    eth_dst,
    eth_type,
    nw_src,
    nw_dst,
    {.name = "ipv6_src", CTD_FIELD_AT(ip_src), .syntax = Syntax::ipv6, .needs = Needs::ipv6, .maskable = true},
    {.name = "ipv6_dst", CTD_FIELD_AT(ip_dst), .syntax = Syntax::ipv6, .needs = Needs::ipv6, .maskable = true},
    ip_proto,
    nw_tos,
    nw_ecn,
    nw_ttl,
    {.name = "ip_frag", CTD_FIELD_AT(frag), .syntax = Syntax::frag, .needs = Needs::ip},
    tp_src,
    tp_dst,
    icmp_type,
    icmp_code,
    {.name = "tcp_flags", CTD_FIELD_AT(tcp_flags), .syntax = Syntax::tcp_flags, .needs = Needs::tcp, .maskable = true},
    alias("eth_src", eth_src),
    alias("eth_dst", eth_dst),
    alias("eth_type", eth_type),
    alias("ip_src", nw_src),
    alias("ip_dst", nw_dst),
    alias("ip_proto", ip_proto),
    alias("ip_ecn", nw_ecn),
    alias("ip_dscp", bits_of(CTD_NUMBER("ip_dscp", ip_tos, 63, host, ip), 0xfc, 2)),
    alias("ip_ttl", nw_ttl),
    alias("tcp_src", tp_src, Needs::tcp),
    alias("tcp_dst", tp_dst, Needs::tcp),
    alias("udp_src", tp_src, Needs::udp),
    alias("udp_dst", tp_dst, Needs::udp),
    alias("sctp_src", tp_src, Needs::sctp),
    alias("sctp_dst", tp_dst, Needs::sctp),
    alias("icmpv6_type", icmp_type, Needs::icmp6),
    alias("icmpv6_code", icmp_code, Needs::icmp6),
};

#undef CTD_NUMBER
#undef CTD_FIELD_AT

constexpr Shorthand shorthands[] = {
    {"ip", ETH_P_IP, -1},
    {"ipv6", ETH_P_IPV6, -1},
    {"arp", ETH_P_ARP, -1},
    {"icmp", ETH_P_IP, IPPROTO_ICMP},
    {"icmp6", ETH_P_IPV6, IPPROTO_ICMPV6},
    {"tcp", ETH_P_IP, IPPROTO_TCP},
    {"tcp6", ETH_P_IPV6, IPPROTO_TCP},
    {"udp", ETH_P_IP, IPPROTO_UDP},
    {"udp6", ETH_P_IPV6, IPPROTO_UDP},
    {"sctp", ETH_P_IP, IPPROTO_SCTP},
    {"sctp6", ETH_P_IPV6, IPPROTO_SCTP},
};

// As Open vSwitch's is_ct_valid(): the original tuple is there if a flag says that there is a connection, or if the
// packet is tracked and not invalid.
bool needs_connection(const Match& match) {
  constexpr u8 connection = CTD_CS_NEW | CTD_CS_EST | CTD_CS_REL | CTD_CS_RPL | CTD_CS_SNAT | CTD_CS_DNAT;
  const u8 state = match.value.key.ct_state;
  return (state & connection) ||
         ((state & CTD_CS_TRK) && (match.mask.key.ct_state & CTD_CS_INV) && !(state & CTD_CS_INV));
}

}  // namespace

std::span<const MatchField> match_fields() { return fields; }

const MatchField* find_match_field(std::string_view name) {
  for (const MatchField& field : fields) {
    if (field.name == name) return &field;
  }
  return nullptr;
}

std::span<const Shorthand> match_shorthands() { return shorthands; }

bool has_prerequisite(const Match& match, Needs needs) {
  const ctd_flow_key& value = match.value.key;
  const u16 type = match.mask.key.eth_type == 0xffff ? ntohs(value.eth_type) : 0;
  const bool ip = type == ETH_P_IP || type == ETH_P_IPV6;
  const int proto = ip && match.mask.key.ip_proto == 0xff ? value.ip_proto : -1;
  const bool icmp6 = type == ETH_P_IPV6 && proto == IPPROTO_ICMPV6;
  switch (needs) {
    case Needs::nothing:
      return true;
    case Needs::ip:
      return ip;
    case Needs::ipv4:
      return type == ETH_P_IP;
    case Needs::ipv6:
      return type == ETH_P_IPV6;
    case Needs::ports:
      return proto == IPPROTO_TCP || proto == IPPROTO_UDP || proto == IPPROTO_SCTP;
    case Needs::tcp:
      return proto == IPPROTO_TCP;
    case Needs::udp:
      return proto == IPPROTO_UDP;
    case Needs::sctp:
      return proto == IPPROTO_SCTP;
    case Needs::icmp:
      return icmp6 || (type == ETH_P_IP && proto == IPPROTO_ICMP);
    case Needs::icmp6:
      return icmp6;
    case Needs::ct:
      return needs_connection(match);
    case Needs::ct_ipv4:
      return needs_connection(match) && type == ETH_P_IP;
    case Needs::ct_ipv6:
      return needs_connection(match) && type == ETH_P_IPV6;
  }
  return false;
}

std::string_view prerequisite_text(Needs needs) {
  switch (needs) {
    case Needs::nothing:
      return "";
    case Needs::ip:
      return "\"ip\" or \"ipv6\"";
    case Needs::ipv4:
      return "\"ip\"";
    case Needs::ipv6:
      return "\"ipv6\"";
    case Needs::ports:
      return "\"tcp\", \"udp\" or \"sctp\" (for IPv6 \"tcp6\", \"udp6\" or \"sctp6\")";
    case Needs::tcp:
      return "\"tcp\" or \"tcp6\"";
    case Needs::udp:
      return "\"udp\" or \"udp6\"";
    case Needs::sctp:
      return "\"sctp\" or \"sctp6\"";
    case Needs::icmp:
      return "\"icmp\" or \"icmp6\"";
    case Needs::icmp6:
      return "\"icmp6\"";
    case Needs::ct:
      return "a ct_state that implies a connection (+new, +est, +rel, +trk-inv …)";
    case Needs::ct_ipv4:
      return "\"ip\" and a ct_state that implies a connection (+new, +est, +rel, +trk-inv …)";
    case Needs::ct_ipv6:
      return "\"ipv6\" and a ct_state that implies a connection (+new, +est, +rel, +trk-inv …)";
  }
  return "";
}

FieldBytes get_field(const Match& match, const MatchField& field) {
  FieldBytes bytes;
  std::memcpy(bytes.value.data(), reinterpret_cast<const u8*>(&match.value) + field.offset, field.size);
  std::memcpy(bytes.mask.data(), reinterpret_cast<const u8*>(&match.mask) + field.offset, field.size);
  return bytes;
}

}  // namespace ctd
