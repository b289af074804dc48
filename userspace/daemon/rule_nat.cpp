// SPDX-License-Identifier: Apache-2.0
#include "daemon/rule_nat.hpp"

#include <cstring>
#include <optional>

#include <arpa/inet.h>

#include "daemon/rule_text.hpp"
#include "lib/addr.hpp"

namespace ctd {
namespace {

constexpr std::string_view nat_right =
    "src=ADDRESS[-ADDRESS][:PORT[-PORT]], dst=…, src=masquerade or null, with random, hash or persistent if any "
    "(IPv6 addresses before ports in brackets)";

struct Flag {
  std::string_view name;
  u16 bit;
};
constexpr Flag nat_flags[] = {{"persistent", CTD_NAT_PERSISTENT}, {"hash", CTD_NAT_HASH}, {"random", CTD_NAT_RANDOM}};

bool parse_address(std::string_view text, ctd_addr& address, u8& family) {
  if (text.starts_with('[') && text.ends_with(']')) {
    text = text.substr(1, text.size() - 2);
    if (text.find(':') == std::string_view::npos) return false;
  }
  if (text.find('\0') != std::string_view::npos) return false;
  const std::string zero_ended(text);
  address = {};
  family = text.find(':') == std::string_view::npos ? CTD_IPV4 : CTD_IPV6;
  return inet_pton(family == CTD_IPV4 ? AF_INET : AF_INET6, zero_ended.c_str(), &address) == 1;
}

int compare(const ctd_addr& a, const ctd_addr& b) { return std::memcmp(&a, &b, sizeof(a)); }

Result<> parse_addresses(std::string_view text, ctd_nat_args& args) {
  const std::size_t dash = text.find('-');
  const std::string_view last = dash == std::string_view::npos ? text : text.substr(dash + 1);
  u8 family = 0;
  if (!parse_address(text.substr(0, dash), args.min_addr, args.family) || !parse_address(last, args.max_addr, family))
    return fail("\"{}\" must be an address or a range ADDRESS-ADDRESS", text);
  if (family != args.family) return fail("\"{}\": both ends must be of the same family", text);
  if (compare(args.min_addr, args.max_addr) > 0)
    return fail("\"{}\": the first address must not be above the last", text);
  args.flags |= CTD_NAT_ADDR;
  return {};
}

Result<> parse_ports(std::string_view text, ctd_nat_args& args) {
  const std::size_t dash = text.find('-');
  const auto first = parse_number(text.substr(0, dash), 65535);
  const auto last = dash == std::string_view::npos ? first : parse_number(text.substr(dash + 1), 65535);
  if (!first || !last || *first == 0 || *first > *last)
    return fail("\"{}\" must be a port or a range PORT-PORT, from 1 to 65535", text);
  args.min_port = static_cast<u16>(*first);
  args.max_port = static_cast<u16>(*last);
  args.flags |= CTD_NAT_PORTS;
  return {};
}

// Where ":PORT" begins; npos if there is none. Bare IPv6 addresses have colons and no ports.
std::size_t find_ports(std::string_view text) {
  if (text.starts_with('[')) {
    const std::size_t bracket = text.rfind(']');
    return bracket == std::string_view::npos ? bracket : text.find(':', bracket);
  }
  const std::size_t colon = text.find(':');
  return colon == std::string_view::npos || text.find(':', colon + 1) != std::string_view::npos ? std::string_view::npos
                                                                                                : colon;
}

Result<> parse_range(std::string_view text, ctd_nat_args& args) {
  const std::size_t ports = find_ports(text);
  const std::string_view addresses = text.substr(0, ports);
  if (addresses == "masquerade") {
    if (args.flags & CTD_NAT_DST) return fail("dst=masquerade: only a source can be masqueraded");
    args.flags |= CTD_NAT_MASQUERADE;
  } else {
    CTD_TRY(parse_addresses(addresses, args));
  }
  if (ports != std::string_view::npos) CTD_TRY(parse_ports(text.substr(ports + 1), args));
  return {};
}

Result<> parse_argument(std::string_view part, ctd_nat_args& args) {
  for (const Flag& flag : nat_flags) {
    if (part == flag.name) {
      args.flags |= flag.bit;
      return {};
    }
  }
  const std::size_t equals = part.find('=');
  const std::string_view name = part.substr(0, equals);
  if (equals == std::string_view::npos || (name != "src" && name != "dst"))
    return fail("\"{}\" must be {}", part, nat_right);
  if (args.flags & (CTD_NAT_SRC | CTD_NAT_DST)) return fail("\"{}\": only one of src and dst, once", part);
  args.flags |= static_cast<u16>(name == "src" ? CTD_NAT_SRC : CTD_NAT_DST);
  return parse_range(part.substr(equals + 1), args);
}

}  // namespace

Result<NatMapping> parse_nat(std::string_view text) {
  NatMapping mapping;
  ctd_nat_args& args = mapping.args;
  if (trim(text) == "null") {
    args.flags = CTD_NAT_SRC | CTD_NAT_NULL;  // a collision is resolved by another source port
    return mapping;
  }
  for (const std::string_view part : CTD_TRY(split_list(text)))
    CTD_TRY(parse_argument(part, args).context("nat({})", text));
  if (!(args.flags & (CTD_NAT_SRC | CTD_NAT_DST))) return fail("nat({}): must be {}", text, nat_right);
  if ((args.flags & CTD_NAT_RANDOM) && (args.flags & CTD_NAT_HASH))
    return fail("nat({}): random and hash exclude each other", text);
  return mapping;
}

std::string format_nat(const ctd_nat_args& args) {
  if (args.flags & CTD_NAT_NULL) return "null";
  std::string text = args.flags & CTD_NAT_DST ? "dst=" : "src=";
  if (args.flags & CTD_NAT_MASQUERADE) text += "masquerade";
  if (args.flags & CTD_NAT_ADDR) {
    const auto family = static_cast<ctd_family>(args.family);
    const bool brackets = family == CTD_IPV6 && (args.flags & CTD_NAT_PORTS);
    const auto address = [&](const ctd_addr& addr) {
      return brackets ? fmt::format("[{}]", address_text(addr, family)) : address_text(addr, family);
    };
    text += address(args.min_addr);
    if (compare(args.min_addr, args.max_addr) != 0) text += "-" + address(args.max_addr);
  }
  if (args.flags & CTD_NAT_PORTS) {
    text += fmt::format(":{}", args.min_port);
    if (args.max_port != args.min_port) text += fmt::format("-{}", args.max_port);
  }
  for (const Flag& flag : nat_flags) {
    if (args.flags & flag.bit) text += fmt::format(",{}", flag.name);
  }
  return text;
}

}  // namespace ctd
