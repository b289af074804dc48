// SPDX-License-Identifier: Apache-2.0
#include "daemon/rule_ct.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include <fmt/ranges.h>

#include "daemon/match_fields.hpp"
#include "daemon/rule_nat.hpp"
#include "daemon/rule_text.hpp"

namespace ctd {
namespace {

// Fields that a zone can be taken from and that exec() can load. All stand in the key with the least significant byte
// first.
struct BitField {
  std::string_view name;   // as ovs-ofctl writes it
  std::string_view match;  // the same in matches and set_field
  u16 offset;
  unsigned bits;
  bool settable;
};
constexpr BitField bit_fields[] = {
    {"NXM_NX_CT_ZONE", "ct_zone", offsetof(ctd_flow_key, ct_zone), 16, false},
    {"NXM_NX_CT_MARK", "ct_mark", offsetof(ctd_flow_key, ct_mark), 32, true},
    {"NXM_NX_CT_LABEL", "ct_label", offsetof(ctd_flow_key, ct_label), 128, true},
    {"NXM_NX_PKT_MARK", "pkt_mark", offsetof(ctd_flow_key, pkt_mark), 32, false},
    {"NXM_OF_IN_PORT", "in_port", offsetof(ctd_flow_key, in_port), 16, false},
};

// Some bits of a field: `NXM_NX_CT_MARK[0..15]`, `ct_zone[]`, `ct_mark[3]`.
struct Bits {
  const BitField* field = nullptr;
  unsigned first = 0;
  unsigned count = 0;
};

// None: not of this form, or not of a field that is known here, or beyond its end.
std::optional<Bits> parse_bits(std::string_view text) {
  const std::size_t bracket = text.find('[');
  const std::string_view name = text.substr(0, bracket);
  const auto* field = std::find_if(std::begin(bit_fields), std::end(bit_fields),
                                   [&](const BitField& known) { return known.name == name || known.match == name; });
  if (field == std::end(bit_fields)) return std::nullopt;
  const Bits whole{field, 0, field->bits};
  if (bracket == std::string_view::npos) return whole;
  if (!text.ends_with(']')) return std::nullopt;
  const std::string_view range = text.substr(bracket + 1, text.size() - bracket - 2);
  if (range.empty()) return whole;
  const std::size_t dots = range.find("..");
  const auto first = parse_number(range.substr(0, dots), field->bits - 1);
  const auto last = dots == std::string_view::npos ? first : parse_number(range.substr(dots + 2), field->bits - 1);
  if (!first || !last || *first > *last) return std::nullopt;
  return Bits{field, static_cast<unsigned>(*first), static_cast<unsigned>(*last - *first + 1)};
}

std::string names_of(bool settable) {
  std::string names;
  for (const BitField& field : bit_fields) {
    if (!settable || field.settable) names += fmt::format("{}{}", names.empty() ? "" : ", ", field.name);
  }
  return names;
}

// A value and a mask of up to 128 bits, least significant byte first.
struct Setting {
  std::array<u8, 16> value{};
  std::array<u8, 16> mask{};
};

// exec() may set parts of a field one after the other.
void add_setting(const BitField& field, const Setting& setting, action::Ct& ct) {
  if (field.match == "ct_mark") {
    u32 value = 0, mask = 0;
    std::memcpy(&value, setting.value.data(), sizeof(value));
    std::memcpy(&mask, setting.mask.data(), sizeof(mask));
    if (!ct.mark) ct.mark.emplace();
    ct.mark->value = (ct.mark->value & ~mask) | (value & mask);
    ct.mark->mask |= mask;
    return;
  }
  if (!ct.label) ct.label.emplace();
  ctd_label_args& label = ct.label->args;
  for (std::size_t i = 0; i < 16; ++i) {
    label.value[i] = static_cast<u8>((label.value[i] & ~setting.mask[i]) | (setting.value[i] & setting.mask[i]));
    label.mask[i] |= setting.mask[i];
  }
}

// set_field:0x1/0xff->ct_mark
Result<> parse_set_field(std::string_view value, const Bits& bits, action::Ct& ct, const PortNames& ports) {
  const FieldBytes bytes = CTD_TRY(parse_field_value(*find_match_field(bits.field->match), value, ports));
  add_setting(*bits.field, {bytes.value, bytes.mask}, ct);
  return {};
}

// load:0x1->NXM_NX_CT_MARK[0..7]
Result<> parse_load(std::string_view text, const Bits& bits, action::Ct& ct) {
  const unsigned count = std::min(bits.count, 64u);
  const auto value = parse_number(text, count == 64 ? ~u64{0} : (u64{1} << count) - 1);
  if (!value) return fail("load:{}: must be a number of {} bits at most", text, count);
  Setting setting;
  for (unsigned i = 0; i < bits.count; ++i) {
    const unsigned at = bits.first + i;
    const u8 bit = static_cast<u8>(1u << at % 8);
    setting.mask[at / 8] |= bit;
    if (i < 64 && *value >> i & 1) setting.value[at / 8] |= bit;
  }
  add_setting(*bits.field, setting, ct);
  return {};
}

Result<> parse_exec(std::string_view text, action::Ct& ct, const PortNames& ports) {
  constexpr std::string_view right =
      "set_field:VALUE[/MASK]->ct_mark or ct_label, or load:VALUE->NXM_NX_CT_MARK[…] or NXM_NX_CT_LABEL[…]";
  for (const std::string_view part : CTD_TRY(split_list(text))) {
    const std::size_t arrow = part.find("->"), colon = part.find(':');
    const std::string_view verb = part.substr(0, colon);
    if ((verb != "set_field" && verb != "load") || colon == std::string_view::npos || arrow == std::string_view::npos ||
        arrow < colon)
      return fail("exec: \"{}\" must be {}", part, right);
    const std::string_view value = part.substr(colon + 1, arrow - colon - 1), name = part.substr(arrow + 2);
    const auto bits = parse_bits(name);
    if (!bits || !bits->field->settable) return fail("exec: \"{}\" sets {}, but must be {}", part, name, right);
    if (verb == "set_field" && bits->count != bits->field->bits)
      return fail("exec: \"{}\": set_field sets whole fields; use a mask, or load", part);
    CTD_TRY((verb == "load" ? parse_load(value, *bits, ct) : parse_set_field(value, *bits, ct, ports)).context("exec"));
  }
  if (!ct.mark && !ct.label) return fail("exec: empty; must be {}", right);
  return {};
}

Result<> parse_zone(std::string_view text, action::Ct& ct) {
  ct.zone_field = false;
  if (const auto zone = parse_number(text, 0xffff)) {
    ct.zone = static_cast<u16>(*zone);
    return {};
  }
  const auto bits = parse_bits(text);
  if (text.find('[') == std::string_view::npos || !bits || bits->count != 16 || bits->first % 16 != 0)
    return fail("zone={}: must be a number from 0 to 65535, or 16 bits of a field (NXM_NX_CT_MARK[0..15]) of {}", text,
                names_of(false));
  ct.zone_field = true;
  ct.zone = static_cast<u16>(bits->field->offset + bits->first / 8);
  return {};
}

Result<> parse_timeout(std::string_view name, action::Ct& ct, const PolicyNames& policies) {
  if (!policies.contains(name)) {
    if (policies.empty()) return fail("timeout={}: the configuration has no /conntrack/policies", name);
    std::vector<std::string_view> known;
    for (const auto& [policy, id] : policies) known.emplace_back(policy);
    return fail("timeout={}: no such policy{} (there are: {})", name, did_you_mean(name, known),
                fmt::join(known, ", "));
  }
  ct.timeout = name;
  return {};
}

Result<> parse_argument(std::string_view part, action::Ct& ct, const PortNames& ports, const PolicyNames& policies) {
  static constexpr std::string_view known[] = {"commit", "force", "table", "zone", "nat", "exec", "timeout", "alg"};
  const auto [name, value] = split_field(part);
  if (name == "commit" || name == "force") {
    if (part != name) return fail("{}: takes no value", name);
    (name == "commit" ? ct.commit : ct.force) = true;
  } else if (name == "table") {
    const auto number = parse_number(value, Rule::max_table);
    if (!number) return fail("table: \"{}\" must be a table number from 0 to {}", value, Rule::max_table);
    ct.table = static_cast<u8>(*number);
  } else if (name == "zone") {
    return parse_zone(value, ct);
  } else if (name == "nat") {
    ct.nat = true;
    if (part != name) ct.mapping = CTD_TRY(parse_nat(value));
  } else if (name == "exec") {
    return parse_exec(value, ct, ports);
  } else if (name == "timeout") {
    return parse_timeout(value, ct, policies);
  } else if (name == "alg") {
    return fail("alg={}: this version has no helpers", value);
  } else {
    return fail("\"{}\": unknown argument{} (there are: {})", part, did_you_mean(name, known), fmt::join(known, ", "));
  }
  return {};
}

Result<> check(const action::Ct& ct) {
  if (ct.commit) return {};
  if (ct.force) return fail("force: only with commit");
  if (ct.mapping)
    return fail("nat({}): makes a new mapping, only with commit; without it write nat", format_nat(ct.mapping->args));
  if (ct.mark || ct.label) return fail("exec: only with commit");
  if (!ct.timeout.empty()) return fail("timeout={}: only with commit", ct.timeout);
  return {};
}

std::string format_exec(const action::Ct& ct) {
  std::string text;
  if (ct.mark) {
    const std::string mask = ct.mark->mask == ~u32{0} ? "" : fmt::format("/{:#x}", ct.mark->mask);
    text += fmt::format("set_field:{:#x}{}->ct_mark", ct.mark->value, mask);
  }
  if (ct.label)
    text += fmt::format("{}set_field:{}->ct_label", text.empty() ? "" : ",",
                        format_label(ct.label->args.value, ct.label->args.mask));
  return text;
}

}  // namespace

Result<action::Ct> parse_ct(std::string_view arguments, const PortNames& ports, const PolicyNames& policies) {
  action::Ct ct;
  for (const std::string_view part : CTD_TRY(split_list(arguments)))
    CTD_TRY(parse_argument(part, ct, ports, policies).context("ct"));
  CTD_TRY(check(ct).context("ct"));
  return ct;
}

std::string format_ct(const action::Ct& ct) {
  std::string text = ct.commit ? "commit," : "";
  if (ct.force) text += "force,";
  if (ct.table) text += fmt::format("table={},", *ct.table);
  text += fmt::format("zone={}", ct.zone_field ? format_zone_field(ct.zone) : std::to_string(ct.zone));
  if (!ct.timeout.empty()) text += ",timeout=" + ct.timeout;
  if (ct.mapping)
    text += fmt::format(",nat({})", format_nat(ct.mapping->args));
  else if (ct.nat)
    text += ",nat";
  if (ct.mark || ct.label) text += fmt::format(",exec({})", format_exec(ct));
  return fmt::format("ct({})", text);
}

std::string format_zone_field(u16 offset) {
  for (const BitField& field : bit_fields) {
    if (offset < field.offset || offset >= field.offset + field.bits / 8) continue;
    const unsigned first = (offset - field.offset) * 8u;
    if (field.bits == 16) return fmt::format("{}[]", field.name);
    return fmt::format("{}[{}..{}]", field.name, first, first + 15);
  }
  return fmt::format("key[{}]", offset);
}

}  // namespace ctd
