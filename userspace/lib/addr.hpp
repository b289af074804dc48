// SPDX-License-Identifier: Apache-2.0
// Text of addresses: IPv6 as RFC 5952 wants it.
#pragma once

#include <cstdint>
#include <string>

#include <ctd/abi/types.h>

namespace ctd {

// Longest text of an address, without a terminating zero.
inline constexpr std::size_t kMaxAddressText = 45;

// `out` has room for kMaxAddressText characters; returns the end of the text. Not zero-terminated.
char* write_ipv4(char* out, be32 address);
char* write_address(char* out, const ctd_addr& address, ctd_family family);

std::string address_text(const ctd_addr& address, ctd_family family);
std::string mac_text(const uint8_t (&mac)[6]);

bool is_zero(const ctd_addr& address);
bool same_address(const ctd_addr& a, const ctd_addr& b);

}  // namespace ctd
