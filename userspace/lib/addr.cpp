// SPDX-License-Identifier: Apache-2.0
#include "lib/addr.hpp"

#include <array>
#include <cstring>

#include <arpa/inet.h>
#include <fmt/format.h>

namespace ctd {
namespace {

// inet_ntop() writes IPv4 by way of printf, which a dump of a million connections would notice.
char* write_octet(char* out, unsigned value) {
  if (value >= 100) *out++ = static_cast<char>('0' + value / 100);
  if (value >= 10) *out++ = static_cast<char>('0' + value / 10 % 10);
  *out++ = static_cast<char>('0' + value % 10);
  return out;
}

}  // namespace

char* write_ipv4(char* out, be32 address) {
  uint8_t octet[4];
  std::memcpy(octet, &address, sizeof(octet));
  for (int i = 0; i < 4; ++i) {
    if (i) *out++ = '.';
    out = write_octet(out, octet[i]);
  }
  return out;
}

char* write_address(char* out, const ctd_addr& address, ctd_family family) {
  if (family == CTD_IPV4) return write_ipv4(out, address.v4);
  std::array<char, INET6_ADDRSTRLEN> text;
  inet_ntop(AF_INET6, address.b, text.data(), text.size());  // cannot fail: known family, large enough
  const std::size_t length = std::strlen(text.data());
  std::memcpy(out, text.data(), length);
  return out + length;
}

std::string address_text(const ctd_addr& address, ctd_family family) {
  char text[kMaxAddressText];
  return std::string(text, write_address(text, address, family));
}

std::string mac_text(const uint8_t (&mac)[6]) {
  return fmt::format("{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
}

bool is_zero(const ctd_addr& address) { return address.q[0] == 0 && address.q[1] == 0; }

bool same_address(const ctd_addr& a, const ctd_addr& b) { return a.q[0] == b.q[0] && a.q[1] == b.q[1]; }

}  // namespace ctd
