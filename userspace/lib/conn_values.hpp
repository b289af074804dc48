// SPDX-License-Identifier: Apache-2.0
// Values of a connection's fields as people and files write them.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include <ctd/abi/ct.h>

#include "lib/result.hpp"

namespace ctd {

// Decimal, or hexadecimal with 0x; nothing if it is no number or larger than `max`.
std::optional<uint64_t> parse_number(std::string_view text, uint64_t max);

struct Address {
  ctd_addr value;
  ctd_family family;
};
// Without prefix or port; nothing if it is no address.
std::optional<Address> parse_address(std::string_view text);

// A number of 128 bits, the low half first.
struct Wide {
  uint64_t low = 0, high = 0;
  bool operator==(const Wide&) const = default;
};
Wide operator&(const Wide& a, const Wide& b);
Wide label_of(const ctd_conn& conn);
void set_label(u8 (&label)[16], const Wide& value);
// At most `bits` of them, up to 64 in decimal, all in hexadecimal.
std::optional<Wide> parse_wide(std::string_view text, unsigned bits);

// "4", "0x1f/0xff".
struct Masked {
  Wide value, mask;
  bool holds(const Wide& w) const { return (w & mask) == (value & mask); }
};
// The mask is all ones if it is missing.
std::optional<Masked> parse_masked(std::string_view text, unsigned bits);

// By name or by number.
std::optional<uint8_t> parse_protocol(std::string_view text);
// By name, in any case.
std::optional<uint8_t> parse_conn_state(uint8_t proto, std::string_view name);
// A bit of enum ctd_status by its name, in any case.
std::optional<uint32_t> parse_status(std::string_view name);
// "unanswered", "answered" or "assured", in any case.
std::optional<ctd_conn_class> parse_conn_class(std::string_view name);
// "SEEN_REPLY, ASSURED, …": what parse_status() knows.
std::string status_names();

// The pieces between commas.
std::vector<std::string_view> split(std::string_view text, char separator = ',');
bool same_word(std::string_view a, std::string_view b);  // but for the case of letters

}  // namespace ctd
