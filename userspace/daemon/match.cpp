// SPDX-License-Identifier: Apache-2.0
#include "daemon/match.hpp"

#include <cstring>

#include <arpa/inet.h>

#include "daemon/match_fields.hpp"
#include "daemon/rule_text.hpp"

namespace ctd {
namespace {

// A match under construction: remembers which part of the text set which bits.
class Builder {
 public:
  explicit Builder(const PortNames& ports) : ports_(ports) {}

  Result<> add(const TextField& text) {
    for (const Shorthand& shorthand : match_shorthands()) {
      if (shorthand.name == text.first) return add_shorthand(shorthand, text.second);
    }
    const MatchField* field = find_match_field(text.first);
    if (!field) return unknown(text.first);
    if (text.second.empty()) return fail("{}: lacks a value ({}=VALUE)", field->name, field->name);
    const FieldBytes bytes = CTD_TRY(parse_field_value(*field, text.second, ports_));
    CTD_TRY(set(field->name, field->offset, field->size, bytes));
    used_.push_back(field);
    return {};
  }

  Result<Match> finish() const {
    for (const MatchField* field : used_) {
      if (!has_prerequisite(match_, field->needs))
        return fail("{}: has a meaning only for some packets; add {}", field->name, prerequisite_text(field->needs));
    }
    return match_;
  }

 private:
  struct Setting {
    std::string name;
    u16 offset;
    u8 size;
    FieldBytes bytes;
  };

  Result<> add_shorthand(const Shorthand& shorthand, const std::string& value) {
    if (!value.empty()) return fail("{}={}: {} takes no value", shorthand.name, value, shorthand.name);
    const MatchField& type = *find_match_field("dl_type");
    const MatchField& proto = *find_match_field("nw_proto");
    const auto number = [&](const MatchField& field, int n) {
      return parse_field_value(field, std::to_string(n), ports_);
    };
    CTD_TRY(set(shorthand.name, type.offset, type.size, CTD_TRY(number(type, shorthand.eth_type))));
    if (shorthand.ip_proto < 0) return {};
    return set(shorthand.name, proto.offset, proto.size, CTD_TRY(number(proto, shorthand.ip_proto)));
  }

  // Saying the same twice is fine (`ip,tcp`), two different things are not.
  Result<> set(std::string_view name, u16 offset, u8 size, const FieldBytes& bytes) {
    u8* value = reinterpret_cast<u8*>(&match_.value) + offset;
    u8* mask = reinterpret_cast<u8*>(&match_.mask) + offset;
    for (u8 i = 0; i < size; ++i) {
      const u8 common = mask[i] & bytes.mask[i];
      if ((value[i] ^ bytes.value[i]) & common) return contradiction(name, static_cast<u16>(offset + i), common);
    }
    for (u8 i = 0; i < size; ++i) {
      mask[i] |= bytes.mask[i];
      value[i] = static_cast<u8>(value[i] | (bytes.value[i] & bytes.mask[i]));
    }
    settings_.push_back({std::string(name), offset, size, bytes});
    return {};
  }

  Error contradiction(std::string_view name, u16 at, u8 bits) const {
    for (const Setting& other : settings_) {
      if (at < other.offset || at >= other.offset + other.size || !(other.bytes.mask[at - other.offset] & bits))
        continue;
      return name == other.name ? fail("{}: given twice, with different values", name)
                                : fail("{}: contradicts \"{}\"; leave one of them out", name, other.name);
    }
    return fail("{}: given twice, with different values", name);
  }

  static Error unknown(const std::string& name) {
    if (name == "recirc_id") return fail("recirc_id: not in rules; recirculation ids are the datapath's own");
    std::vector<std::string_view> names{"table", "priority", "cookie"};
    for (const MatchField& field : match_fields()) names.push_back(field.name);
    for (const Shorthand& shorthand : match_shorthands()) names.push_back(shorthand.name);
    return fail("{}: unknown field{}", name, did_you_mean(name, names));
  }

  const PortNames& ports_;
  Match match_;
  std::vector<Setting> settings_;
  std::vector<const MatchField*> used_;
};

// The shorthand that says the most of a match; null if none does.
const Shorthand* find_shorthand(const Match& match) {
  if (match.mask.key.eth_type != 0xffff) return nullptr;
  const Shorthand* best = nullptr;
  for (const Shorthand& shorthand : match_shorthands()) {
    if (ntohs(match.value.key.eth_type) != shorthand.eth_type) continue;
    const bool proto = match.mask.key.ip_proto == 0xff && match.value.key.ip_proto == shorthand.ip_proto;
    if (proto || shorthand.ip_proto < 0) best = &shorthand;
    if (proto) break;
  }
  return best;
}

}  // namespace

bool Match::matches(const ctd_key_words& key) const {
  for (unsigned i = 0; i < CTD_KEY_WORDS; ++i) {
    if ((key.w[i] ^ value.w[i]) & mask.w[i]) return false;
  }
  return true;
}

bool Match::covers(const Match& other) const {
  for (unsigned i = 0; i < CTD_KEY_WORDS; ++i) {
    if ((mask.w[i] & ~other.mask.w[i]) || ((value.w[i] ^ other.value.w[i]) & mask.w[i])) return false;
  }
  return true;
}

bool Match::operator==(const Match& other) const {
  return std::memcmp(&value, &other.value, sizeof(value)) == 0 && std::memcmp(&mask, &other.mask, sizeof(mask)) == 0;
}

Result<Match> parse_match(const std::vector<TextField>& fields, const PortNames& ports) {
  Builder builder(ports);
  for (const TextField& field : fields) CTD_TRY(builder.add(field));
  return builder.finish();
}

std::string format_match(const Match& match, const PortNames& ports) {
  const Shorthand* shorthand = find_shorthand(match);
  std::string text = shorthand ? std::string(shorthand->name) : "";
  for (const MatchField& field : match_fields()) {
    if (field.alias || !has_prerequisite(match, field.needs)) continue;
    if (shorthand && (field.name == "dl_type" || (field.name == "nw_proto" && shorthand->ip_proto >= 0))) continue;
    FieldBytes bytes = get_field(match, field);
    if (field.syntax == Syntax::number && field.size == 1) {  // nw_tos and nw_ecn share a byte
      bytes.mask[0] &= static_cast<u8>(field.full);
      bytes.value[0] &= static_cast<u8>(field.full);
    }
    if (bytes.mask == std::array<u8, 16>{}) continue;
    text += fmt::format("{}{}={}", text.empty() ? "" : ",", field.name, format_field_value(field, bytes, ports));
  }
  return text;
}

}  // namespace ctd
