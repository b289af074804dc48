// SPDX-License-Identifier: Apache-2.0
// Values of match fields: between text and the bytes of the key.
#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>

#include <arpa/inet.h>

#include <ctd/abi/ct.h>

#include "daemon/match_fields.hpp"
#include "daemon/rule_text.hpp"
#include "lib/addr.hpp"

namespace ctd {
namespace {

struct Flag {
  std::string_view name;
  u64 bit;
};

constexpr Flag ct_state_flags[] = {
#define X(id, bit, name) {name, bit},
    CTD_CT_STATES(X)
#undef X
};

constexpr Flag tcp_flag_names[] = {{"fin", 0x001}, {"syn", 0x002}, {"rst", 0x004}, {"psh", 0x008}, {"ack", 0x010},
                                   {"urg", 0x020}, {"ece", 0x040}, {"cwr", 0x080}, {"ns", 0x100}};
constexpr u16 tcp_flags_max = 0xfff;

// OpenFlow's fragment values, in bits of enum ctd_frag.
struct FragName {
  std::string_view name;
  u8 value;
  u8 mask;
};
constexpr FragName frag_names[] = {
    {"no", CTD_FRAG_NO, 3}, {"first", CTD_FRAG_FIRST, 3},  {"later", CTD_FRAG_LATER, 3},
    {"yes", 1, 1},          {"not_later", CTD_FRAG_NO, 2},
};

struct Masked {
  u64 value = 0;
  u64 mask = 0;
};

Error wrong(const MatchField& field, std::string_view text, std::string_view right) {
  return fail("{}={}: must be {}", field.name, text, right);
}

// A number into the bytes of a field, under both byte orders of fields.
void put_number(const MatchField& field, u64 number, std::array<u8, 16>& bytes) {
  for (std::size_t i = 0; i < field.size; ++i) {
    const std::size_t at = field.order == Order::host ? i : field.size - 1 - i;
    bytes[at] = static_cast<u8>(number >> (8 * i));
  }
}

u64 take_number(const MatchField& field, const std::array<u8, 16>& bytes) {
  u64 number = 0;
  for (std::size_t i = 0; i < field.size; ++i) {
    const std::size_t at = field.order == Order::host ? i : field.size - 1 - i;
    number |= u64{bytes[at]} << (8 * i);
  }
  return number;
}

FieldBytes number_bytes(const MatchField& field, Masked number) {
  FieldBytes bytes;
  put_number(field, number.value & number.mask, bytes.value);
  put_number(field, number.mask, bytes.mask);
  return bytes;
}

std::pair<std::string_view, std::optional<std::string_view>> split_mask(std::string_view text) {
  const std::size_t slash = text.find('/');
  if (slash == std::string_view::npos) return {text, std::nullopt};
  return {text.substr(0, slash), text.substr(slash + 1)};
}

std::optional<Masked> parse_masked_number(std::string_view text, u64 max) {
  const auto [value_text, mask_text] = split_mask(text);
  const auto value = parse_number(value_text, max);
  const auto mask = mask_text ? parse_number(*mask_text, max) : max;
  if (!value || !mask) return std::nullopt;
  return Masked{*value, *mask};
}

Result<FieldBytes> parse_number_field(const MatchField& field, std::string_view text) {
  const auto [value_text, mask_text] = split_mask(text);
  const auto value = parse_number(value_text, field.max);
  const auto mask = mask_text ? parse_number(*mask_text, field.full) : field.full;
  const bool mask_allowed = !mask_text || field.maskable;
  if (value && mask && mask_allowed && ((*value << field.shift) & ~field.full) == 0)
    return number_bytes(field, {*value << field.shift, *mask});
  const u64 step = u64{1} << std::countr_zero(field.full >> field.shift);
  return wrong(field, text,
               fmt::format("{} from 0 to {}{}", step == 1 ? "a number" : fmt::format("a multiple of {}", step),
                           field.max, field.maskable ? ", with a mask (VALUE/MASK) if any" : ", without a mask"));
}

bool parse_mac(std::string_view text, u8* bytes) {
  if (text.size() != 17) return false;
  for (std::size_t i = 0; i < 6; ++i) {
    if (i > 0 && text[3 * i - 1] != ':') return false;
    const auto digits = parse_number(fmt::format("0x{}", text.substr(3 * i, 2)), 0xff);
    if (!digits) return false;
    bytes[i] = static_cast<u8>(*digits);
  }
  return true;
}

Result<FieldBytes> parse_mac_field(const MatchField& field, std::string_view text) {
  const auto [value, mask] = split_mask(text);
  FieldBytes bytes;
  bytes.mask.fill(0xff);
  if (!parse_mac(value, bytes.value.data()) || (mask && !parse_mac(*mask, bytes.mask.data())))
    return wrong(field, text, "a MAC address (02:00:00:00:00:01), with a mask of that form if any");
  return bytes;
}

bool parse_address(int family, std::string_view text, u8* bytes) {
  if (text.find('\0') != std::string_view::npos) return false;
  return inet_pton(family, std::string(text).c_str(), bytes) == 1;
}

// A prefix length in decimal, or a mask in the form of the address.
bool parse_address_mask(int family, std::string_view text, unsigned size, u8* bytes) {
  const bool decimal = text.find_first_not_of("0123456789") == std::string_view::npos;
  if (!decimal) return parse_address(family, text, bytes);
  const auto length = parse_number(text, u64{8} * size);
  if (!length) return false;
  for (unsigned i = 0; i < size; ++i) {
    const unsigned bits = std::min<unsigned>(8, static_cast<unsigned>(*length) - std::min(8 * i, unsigned(*length)));
    bytes[i] = static_cast<u8>(0xff00u >> bits);
  }
  return true;
}

Result<FieldBytes> parse_address_field(const MatchField& field, std::string_view text) {
  const int family = field.syntax == Syntax::ipv4 ? AF_INET : AF_INET6;
  const auto [value, mask] = split_mask(text);
  FieldBytes bytes;
  bytes.mask.fill(0xff);
  if (!parse_address(family, value, bytes.value.data()) ||
      (mask && !parse_address_mask(family, *mask, field.size, bytes.mask.data())))
    return wrong(field, text,
                 fmt::format("an {} address, with a prefix length (0 to {}) or a mask if any",
                             family == AF_INET ? "IPv4" : "IPv6", 8 * field.size));
  return bytes;
}

// 128 bits in hexadecimal. The key has the least significant byte first, as the kernel counts the bits of labels.
bool parse_label(std::string_view text, u8* bytes) {
  if (!text.starts_with("0x") || text.size() < 3 || text.size() > 2 + 32) return false;
  std::string digits(text.substr(2));
  digits.insert(0, 32 - digits.size(), '0');
  for (std::size_t i = 0; i < 16; ++i) {
    const auto byte = parse_number(fmt::format("0x{}", digits.substr(2 * i, 2)), 0xff);
    if (!byte) return false;
    bytes[15 - i] = static_cast<u8>(*byte);
  }
  return true;
}

Result<FieldBytes> parse_label_field(const MatchField& field, std::string_view text) {
  const auto [value, mask] = split_mask(text);
  FieldBytes bytes;
  bytes.mask.fill(0xff);
  if (!parse_label(value, bytes.value.data()) || (mask && !parse_label(*mask, bytes.mask.data())))
    return wrong(field, text, "up to 32 hexadecimal digits after 0x, with a mask of that form if any");
  return bytes;
}

std::optional<u64> flag_bit(std::span<const Flag> flags, std::string_view name) {
  for (const Flag& flag : flags) {
    if (flag.name == name) return flag.bit;
  }
  return std::nullopt;
}

// `+syn-ack` (the named bits), `syn|ack` (all bits, these set) or a number with a mask.
std::optional<Masked> parse_flags(std::span<const Flag> flags, u64 all, std::string_view text) {
  if (text.empty()) return std::nullopt;
  if (text[0] >= '0' && text[0] <= '9') return parse_masked_number(text, all);
  const bool listed = text[0] == '+' || text[0] == '-';
  Masked result{0, listed ? 0 : all};
  while (!text.empty()) {
    const bool set = !listed || text[0] == '+';
    if (listed) text.remove_prefix(1);
    const std::string_view name = text.substr(0, text.find_first_of(listed ? "+-" : "|"));
    text.remove_prefix(name.size());
    if (!listed && !text.empty()) {
      text.remove_prefix(1);
      if (text.empty()) return std::nullopt;
    }
    const auto bit = flag_bit(flags, name);
    if (!bit || (listed && (result.mask & *bit))) return std::nullopt;
    result.mask |= *bit;
    if (set) result.value |= *bit;
  }
  return result;
}

Error wrong_flags(const MatchField& field, std::string_view text, std::span<const Flag> flags, u64 all) {
  std::string names;
  for (const Flag& flag : flags) names += fmt::format(" {}", flag.name);
  return wrong(field, text,
               fmt::format("flags with + or - ({0}{1}-{2}), or a number and mask up to {3:#x}; flags are{4}", "+",
                           flags[0].name, flags[1].name, all, names));
}

Result<FieldBytes> parse_ct_state(const MatchField& field, std::string_view text) {
  const auto state = parse_flags(ct_state_flags, 0xff, text);
  if (!state) return wrong_flags(field, text, ct_state_flags, 0xff);
  const u64 set = state->value & state->mask;
  const u64 unset = ~state->value & state->mask;
  if ((unset & CTD_CS_TRK) && set) return wrong(field, text, "something a packet can be: without trk no flag is set");
  if ((set & CTD_CS_NEW) && (set & CTD_CS_EST)) return wrong(field, text, "something a packet can be: new or est");
  return number_bytes(field, *state);
}

Result<FieldBytes> parse_tcp_flags(MatchField field, std::string_view text) {
  const auto flags = parse_flags(tcp_flag_names, tcp_flags_max, text);
  if (!flags) return wrong_flags(field, text, tcp_flag_names, tcp_flags_max);
  field.order = Order::network;
  return number_bytes(field, *flags);
}

Result<FieldBytes> parse_frag(const MatchField& field, std::string_view text) {
  for (const FragName& frag : frag_names) {
    if (frag.name == text) return number_bytes(field, {frag.value, frag.mask});
  }
  return wrong(field, text, "no, first, later, yes or not_later");
}

Result<FieldBytes> parse_port(const MatchField& field, std::string_view text, const PortNames& ports) {
  return number_bytes(field, {CTD_TRY(ports.parse(text).context("{}={}", field.name, text)), ~u32{0}});
}

bool is_full(const u8* mask, std::size_t size) {
  return std::all_of(mask, mask + size, [](u8 byte) { return byte == 0xff; });
}

// The prefix length of a mask, or none if it is not one.
std::optional<unsigned> prefix_length(const u8* mask, std::size_t size) {
  unsigned length = 0;
  for (std::size_t i = 0; i < size; ++i) length += static_cast<unsigned>(std::countl_one(mask[i]));
  for (std::size_t i = 0; i < size; ++i) {
    const unsigned bits = std::min<unsigned>(8, length - std::min<unsigned>(8 * static_cast<unsigned>(i), length));
    if (mask[i] != static_cast<u8>(0xff00u >> bits)) return std::nullopt;
  }
  return length;
}

std::string address_of(const MatchField& field, const std::array<u8, 16>& bytes) {
  ctd_addr address{};
  std::memcpy(&address, bytes.data(), field.size);
  return address_text(address, field.syntax == Syntax::ipv4 ? CTD_IPV4 : CTD_IPV6);
}

std::string format_address(const MatchField& field, const FieldBytes& bytes) {
  std::string value = address_of(field, bytes.value);
  if (is_full(bytes.mask.data(), field.size)) return value;
  if (const auto length = prefix_length(bytes.mask.data(), field.size)) return fmt::format("{}/{}", value, *length);
  return fmt::format("{}/{}", value, address_of(field, bytes.mask));
}

std::string format_mac(const FieldBytes& bytes) {
  u8 value[6], mask[6];
  std::memcpy(value, bytes.value.data(), 6);
  std::memcpy(mask, bytes.mask.data(), 6);
  return is_full(mask, 6) ? mac_text(value) : fmt::format("{}/{}", mac_text(value), mac_text(mask));
}

std::string label_text(const u8* bytes) {
  std::string digits;
  for (std::size_t i = 0; i < 16; ++i) digits += fmt::format("{:02x}", bytes[15 - i]);
  const std::size_t first = std::min(digits.find_first_not_of('0'), digits.size() - 1);
  return "0x" + digits.substr(first);
}

std::string format_number(const MatchField& field, const FieldBytes& bytes) {
  const u64 value = take_number(field, bytes.value) >> field.shift;
  const u64 mask = take_number(field, bytes.mask);
  if ((mask & field.full) != field.full) return fmt::format("{:#x}/{:#x}", value, mask);
  return field.hex ? fmt::format("{:#x}", value) : std::to_string(value);
}

std::string format_flags(std::span<const Flag> flags, u64 value, u64 mask) {
  std::string text;
  for (const Flag& flag : flags) {
    if (mask & flag.bit) text += fmt::format("{}{}", value & flag.bit ? '+' : '-', flag.name);
    mask &= ~flag.bit;
  }
  return mask ? "" : text;
}

std::string format_frag(u64 value, u64 mask) {
  for (const FragName& frag : frag_names) {
    if (frag.mask == (mask & 3) && frag.value == value) return std::string(frag.name);
  }
  return std::to_string(value);
}

}  // namespace

std::string format_ct_state(u8 value, u8 mask) { return format_flags(ct_state_flags, value, mask); }

std::string format_tcp_flags(u16 value, u16 mask) {
  const std::string text = format_flags(tcp_flag_names, value, mask & tcp_flags_max);
  return text.empty() ? fmt::format("{:#05x}/{:#05x}", value, mask & tcp_flags_max) : text;
}

std::string format_label(const u8 (&value)[16], const u8 (&mask)[16]) {
  return is_full(mask, 16) ? label_text(value) : fmt::format("{}/{}", label_text(value), label_text(mask));
}

Result<FieldBytes> parse_field_value(const MatchField& field, std::string_view text, const PortNames& ports) {
  switch (field.syntax) {
    case Syntax::number:
      return parse_number_field(field, text);
    case Syntax::port:
      return parse_port(field, text, ports);
    case Syntax::mac:
      return parse_mac_field(field, text);
    case Syntax::ipv4:
    case Syntax::ipv6:
      return parse_address_field(field, text);
    case Syntax::label:
      return parse_label_field(field, text);
    case Syntax::frag:
      return parse_frag(field, text);
    case Syntax::ct_state:
      return parse_ct_state(field, text);
    case Syntax::tcp_flags:
      return parse_tcp_flags(field, text);
  }
  return fail("{}: no syntax", field.name);
}

std::string format_field_value(const MatchField& field, const FieldBytes& bytes, const PortNames& ports) {
  MatchField network = field;
  network.order = Order::network;
  switch (field.syntax) {
    case Syntax::number:
      return format_number(field, bytes);
    case Syntax::port:
      return ports.text(static_cast<u32>(take_number(field, bytes.value)));
    case Syntax::mac:
      return format_mac(bytes);
    case Syntax::ipv4:
    case Syntax::ipv6:
      return format_address(field, bytes);
    case Syntax::label: {
      u8 value[16], mask[16];
      std::memcpy(value, bytes.value.data(), 16);
      std::memcpy(mask, bytes.mask.data(), 16);
      return format_label(value, mask);
    }
    case Syntax::frag:
      return format_frag(bytes.value[0], bytes.mask[0]);
    case Syntax::ct_state:
      return format_ct_state(bytes.value[0], bytes.mask[0]);
    case Syntax::tcp_flags:
      return format_tcp_flags(static_cast<u16>(take_number(network, bytes.value)),
                              static_cast<u16>(take_number(network, bytes.mask)));
  }
  return "";
}

}  // namespace ctd
