// SPDX-License-Identifier: Apache-2.0
#include "lib/conn_values.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>

#include <arpa/inet.h>

#include "lib/names.hpp"

namespace ctd {
namespace {

std::optional<uint64_t> parse_digits(std::string_view text, int base) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

bool is_hex(std::string_view text) { return text.starts_with("0x") || text.starts_with("0X"); }

uint64_t ones(unsigned bits) { return bits >= 64 ? ~0ull : (1ull << bits) - 1; }

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

}  // namespace

std::optional<uint64_t> parse_number(std::string_view text, uint64_t max) {
  const auto value = is_hex(text) ? parse_digits(text.substr(2), 16) : parse_digits(text, 10);
  return value && *value <= max ? value : std::nullopt;
}

std::optional<Address> parse_address(std::string_view text) {
  std::array<char, INET6_ADDRSTRLEN> zero_ended{};
  if (text.size() >= zero_ended.size()) return std::nullopt;
  std::copy(text.begin(), text.end(), zero_ended.begin());
  const bool v6 = text.find(':') != std::string_view::npos;
  Address address{{}, v6 ? CTD_IPV6 : CTD_IPV4};
  if (inet_pton(v6 ? AF_INET6 : AF_INET, zero_ended.data(), address.value.b) != 1) return std::nullopt;
  return address;
}

Wide operator&(const Wide& a, const Wide& b) { return {a.low & b.low, a.high & b.high}; }

Wide label_of(const ctd_conn& conn) {
  Wide label;
  std::memcpy(&label.low, conn.label, sizeof(label.low));
  std::memcpy(&label.high, conn.label + sizeof(label.low), sizeof(label.high));
  return label;
}

void set_label(u8 (&label)[16], const Wide& value) {
  std::memcpy(label, &value.low, sizeof(value.low));
  std::memcpy(label + sizeof(value.low), &value.high, sizeof(value.high));
}

std::optional<Wide> parse_wide(std::string_view text, unsigned bits) {
  constexpr std::size_t kHalf = 16;  // digits
  if (!is_hex(text) || text.size() <= 2 + kHalf) {
    const auto low = parse_number(text, ones(bits));
    return low ? std::optional(Wide{*low, 0}) : std::nullopt;
  }
  const std::size_t split = text.size() - kHalf;
  const auto high = parse_digits(text.substr(2, split - 2), 16), low = parse_digits(text.substr(split), 16);
  if (!high || !low || bits <= 64 || *high > ones(bits - 64)) return std::nullopt;
  return Wide{*low, *high};
}

std::optional<Masked> parse_masked(std::string_view text, unsigned bits) {
  const std::size_t slash = text.find('/');
  const auto value = parse_wide(text.substr(0, slash), bits);
  if (!value) return std::nullopt;
  if (slash == std::string_view::npos) return Masked{*value, {ones(bits), bits > 64 ? ones(bits - 64) : 0}};
  const auto mask = parse_wide(text.substr(slash + 1), bits);
  return mask ? std::optional(Masked{*value, *mask}) : std::nullopt;
}

std::optional<uint8_t> parse_protocol(std::string_view text) {
  for (unsigned number = 0; number < 256; ++number)
    if (const auto proto = static_cast<uint8_t>(number);
        !protocol_name(proto).empty() && same_word(protocol_name(proto), text))
      return proto;
  const auto number = parse_number(text, 255);
  return number ? std::optional(static_cast<uint8_t>(*number)) : std::nullopt;
}

std::optional<uint8_t> parse_conn_state(uint8_t proto, std::string_view name) {
  for (uint8_t state = 0; conn_state_name(proto, state) != "UNKNOWN"; ++state)
    if (same_word(conn_state_name(proto, state), name)) return state;
  return std::nullopt;
}

std::optional<uint32_t> parse_status(std::string_view name) {
  for (const StatusBit& bit : status_bits())
    if (same_word(bit.name, name)) return bit.bit;
  return std::nullopt;
}

std::optional<ctd_conn_class> parse_conn_class(std::string_view name) {
  for (const auto cls : {CTD_CLASS_UNANSWERED, CTD_CLASS_ANSWERED, CTD_CLASS_ASSURED})
    if (same_word(conn_class_name(cls), name)) return cls;
  return std::nullopt;
}

std::string status_names() {
  std::string names;
  for (const StatusBit& bit : status_bits()) names.append(names.empty() ? "" : ", ").append(bit.name);
  return names;
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> pieces;
  for (std::size_t at; (at = text.find(separator)) != std::string_view::npos; text.remove_prefix(at + 1))
    pieces.push_back(text.substr(0, at));
  pieces.push_back(text);
  return pieces;
}

bool same_word(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) { return lower(x) == lower(y); });
}

}  // namespace ctd
