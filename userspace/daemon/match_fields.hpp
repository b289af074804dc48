// SPDX-License-Identifier: Apache-2.0
// The fields that a rule can match: one table serves the parser, the formatter and the check of prerequisites.
#pragma once

#include <array>
#include <span>
#include <string>
#include <string_view>

#include "daemon/match.hpp"
#include "daemon/rule_ports.hpp"
#include "lib/result.hpp"

namespace ctd {

// What a match must already say for a field to mean anything.
enum class Needs : u8 { nothing, ip, ipv4, ipv6, ports, tcp, udp, sctp, icmp, icmp6, ct, ct_ipv4, ct_ipv6 };

enum class Syntax : u8 { number, port, mac, ipv4, ipv6, label, frag, ct_state, tcp_flags };

enum class Order : u8 { host, network };

struct MatchField {
  std::string_view name;
  u16 offset;  // in struct ctd_flow_key
  u8 size;     // of the field in the key, bytes
  Syntax syntax;
  Needs needs = Needs::nothing;
  bool maskable = false;
  // Syntax::number only: the text's number is at most max and stands in the key shifted left, under the mask full.
  Order order = Order::host;
  u64 max = 0;
  u64 full = 0;
  u8 shift = 0;
  bool hex = false;
  bool alias = false;  // only read, never written
};

// In the order in which the formatter writes them.
std::span<const MatchField> match_fields();
const MatchField* find_match_field(std::string_view name);

// `tcp` stands for dl_type=0x0800,nw_proto=6.
struct Shorthand {
  std::string_view name;
  u16 eth_type;  // host order
  int ip_proto;  // -1: any
};
std::span<const Shorthand> match_shorthands();

// Whether a match says what a field needs, and how to say it.
bool has_prerequisite(const Match& match, Needs needs);
std::string_view prerequisite_text(Needs needs);

// The bytes of a field as they stand in the key.
struct FieldBytes {
  std::array<u8, 16> value{};
  std::array<u8, 16> mask{};
};
Result<FieldBytes> parse_field_value(const MatchField& field, std::string_view text, const PortNames& ports);
std::string format_field_value(const MatchField& field, const FieldBytes& bytes, const PortNames& ports);

FieldBytes get_field(const Match& match, const MatchField& field);

}  // namespace ctd
