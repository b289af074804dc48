// SPDX-License-Identifier: Apache-2.0
#include "packet_check.hpp"

#include <fmt/format.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstring>
#include <span>

namespace ctd::test {
namespace {

using View = std::span<const std::uint8_t>;

unsigned be16_at(View v, std::size_t at) { return static_cast<unsigned>(v[at]) << 8 | v[at + 1]; }

std::uint32_t sum(View v, std::uint32_t start = 0) {
  std::uint64_t s = start;
  for (std::size_t i = 0; i + 1 < v.size(); i += 2) s += be16_at(v, i);
  if (v.size() % 2) s += static_cast<unsigned>(v.back()) << 8;
  while (s >> 16) s = (s & 0xffff) + (s >> 16);
  return static_cast<std::uint32_t>(s);
}

// Where the parts of an IP packet are. `l4` is relative to the IP header.
struct Layout {
  bool v6 = false;
  std::size_t l4 = 0;
  std::size_t length = 0;  // by the IP header
  unsigned proto = 0;
  bool later_fragment = false;
  bool fragment = false;
  std::string error;
};

Layout lay_out(View ip) {
  Layout l;
  if (ip.size() < 20) return {.error = "shorter than an IP header"};
  l.v6 = ip[0] >> 4 == 6;
  if (!l.v6) {
    if (ip[0] >> 4 != 4) return {.error = "neither IPv4 nor IPv6"};
    l.l4 = (ip[0] & 15u) * 4;
    l.length = be16_at(ip, 2);
    l.proto = ip[9];
    l.later_fragment = be16_at(ip, 6) & 0x1fff;
    l.fragment = be16_at(ip, 6) & 0x3fff;
    return l;
  }
  if (ip.size() < 40) return {.error = "shorter than an IPv6 header"};
  l.l4 = 40;
  l.length = be16_at(ip, 4) + 40;
  l.proto = ip[6];
  while (l.proto == 0 || l.proto == 43 || l.proto == 44 || l.proto == 51 || l.proto == 60) {
    if (l.l4 + 8 > ip.size()) return {.error = "extension headers run over the end"};
    View ext = ip.subspan(l.l4);
    std::size_t size = l.proto == 44 ? 8 : l.proto == 51 ? (ext[1] + 2u) * 4 : (ext[1] + 1u) * 8;
    if (l.proto == 44) {
      l.fragment = be16_at(ext, 2) & 0xfff9;
      l.later_fragment = be16_at(ext, 2) & 0xfff8;
    }
    l.proto = ext[0];
    l.l4 += size;
    if (l.later_fragment) break;
  }
  return l;
}

std::uint32_t pseudo_sum(View ip, const Layout& l) {
  std::uint32_t length = static_cast<std::uint32_t>(l.length - l.l4);
  return sum(ip.subspan(l.v6 ? 8 : 12, l.v6 ? 32 : 8), l.proto + length);
}

bool is_error(const Layout& l, View l4) {
  if (l4.empty()) return false;
  if (l.proto == IPPROTO_ICMPV6) return l.v6 && l4[0] >= 1 && l4[0] <= 4;
  return l.proto == IPPROTO_ICMP && (l4[0] == 3 || l4[0] == 4 || l4[0] == 5 || l4[0] == 11 || l4[0] == 12);
}

std::size_t checksum_field(unsigned proto) {
  switch (proto) {
    case IPPROTO_TCP:
      return 16;
    case IPPROTO_UDP:
    case IPPROTO_UDPLITE:
    case IPPROTO_DCCP:
      return 6;
    case IPPROTO_ICMP:
    case IPPROTO_ICMPV6:
      return 2;
    default:
      return 0;
  }
}

// Bytes that the checksum covers: UDP-Lite (RFC 3828) and DCCP (RFC 4340) may leave the end out.
std::size_t coverage(unsigned proto, View l4) {
  std::size_t covered = l4.size();
  if (proto == IPPROTO_UDPLITE && be16_at(l4, 4)) covered = be16_at(l4, 4);
  if (proto == IPPROTO_DCCP && l4[5] & 15) covered = l4[4] * 4u + ((l4[5] & 15u) - 1) * 4;
  return std::min(covered, l4.size());
}

// SCTP's CRC-32C (RFC 9260), bit by bit.
std::string wrong_sctp(View l4) {
  if (l4.size() < 12) return "layer 4 header cut off";
  std::uint32_t crc = ~0u, field = 0;
  for (std::size_t i = 0; i < l4.size(); i++) {
    const bool check = i >= 8 && i < 12;
    if (check) field |= static_cast<std::uint32_t>(l4[i]) << 8 * (i - 8);
    crc ^= check ? 0u : l4[i];
    for (int bit = 0; bit < 8; bit++) crc = crc & 1 ? crc >> 1 ^ 0x82f63b78u : crc >> 1;
  }
  return ~crc == field ? "" : fmt::format("SCTP checksum: field {:#010x}, sum {:#010x}", field, ~crc);
}

// Layer 4 of an IP packet whose payload is all there.
std::string wrong_l4(View ip, const Layout& l) {
  View l4 = ip.subspan(l.l4, l.length - l.l4);
  std::size_t field = checksum_field(l.proto);
  if (l.proto == IPPROTO_SCTP && !l.fragment) return wrong_sctp(l4);
  if (!field || l.fragment) return {};
  if (l4.size() < field + 2) return "layer 4 header cut off";
  if (l.proto == IPPROTO_UDP && !l.v6 && be16_at(l4, field) == 0) return {};
  std::uint32_t s = sum(l4.first(coverage(l.proto, l4)), l.proto == IPPROTO_ICMP ? 0 : pseudo_sum(ip, l));
  if (s != 0xffff)
    return fmt::format("checksum of protocol {}: field {:#06x}, sum {:#06x}", l.proto, be16_at(l4, field), s);
  if (l.proto == IPPROTO_UDP && be16_at(l4, field) == 0) return "UDP checksum 0 over IPv6";
  if (l.proto == IPPROTO_UDPLITE && be16_at(l4, field) == 0) return "UDP-Lite checksum 0";
  return {};
}

enum class Look { kWhole, kQuoted, kOuterOnly };

std::string wrong_ip(View ip, Look look);

std::string wrong_quote(View ip, const Layout& l) {
  View l4 = ip.subspan(l.l4);
  if (!is_error(l, l4) || l4.size() <= 8) return {};
  std::string wrong = wrong_ip(l4.subspan(8), Look::kQuoted);
  return wrong.empty() ? wrong : "quoted packet: " + wrong;
}

std::string wrong_ip(View ip, Look look) {
  const bool quoted = look == Look::kQuoted;
  Layout l = lay_out(ip);
  if (quoted && (!l.error.empty() || l.l4 > ip.size())) return {};  // not enough is quoted to know
  if (!l.error.empty()) return l.error;
  if (l.l4 > ip.size()) return "header runs over the end";
  if (!l.v6 && sum(ip.first(l.l4)) != 0xffff) return fmt::format("IPv4 header checksum {:#06x}", be16_at(ip, 10));
  if (l.length < l.l4) return "length is shorter than the header";
  if (l.length > ip.size()) {
    if (!quoted) return fmt::format("length {} of {} bytes", l.length, ip.size());
    return {};  // errors may quote just the beginning: layer 4's checksum cannot be known
  }
  std::string wrong = wrong_l4(ip, l);
  return wrong.empty() && look != Look::kOuterOnly ? wrong_quote(ip.first(l.length), l) : wrong;
}

// Of protocols whose header begins with two ports.
const char* name_with_ports(unsigned proto) {
  switch (proto) {
    case IPPROTO_TCP:
      return "tcp";
    case IPPROTO_UDP:
      return "udp";
    case IPPROTO_UDPLITE:
      return "udplite";
    case IPPROTO_SCTP:
      return "sctp";
    case IPPROTO_DCCP:
      return "dccp";
  }
  return nullptr;
}

std::string describe_ip(View ip) {
  Layout l = lay_out(ip);
  if (!l.error.empty()) return l.error;
  ctd_addr src{}, dst{};
  std::memcpy(src.b, &ip[l.v6 ? 8 : 12], l.v6 ? 16 : 4);
  std::memcpy(dst.b, &ip[l.v6 ? 24 : 16], l.v6 ? 16 : 4);
  std::string from = address_text(src, l.v6), to = address_text(dst, l.v6);
  if (l.later_fragment || l.l4 + 8 > ip.size()) return fmt::format("ip {} {} > {}", l.proto, from, to);
  View l4 = ip.subspan(l.l4);
  const char* colon = l.v6 ? "." : ":";
  if (const char* name = name_with_ports(l.proto))
    return fmt::format("{} {}{}{} > {}{}{}", name, from, colon, be16_at(l4, 0), to, colon, be16_at(l4, 2));
  if (l.proto != IPPROTO_ICMP && l.proto != IPPROTO_ICMPV6) return fmt::format("ip {} {} > {}", l.proto, from, to);
  if (is_error(l, l4))
    return fmt::format("icmp {}/{} {} > {} [{}]", l4[0], l4[1], from, to, describe_ip(l4.subspan(8)));
  return fmt::format("icmp {}/{} id {} {} > {}", l4[0], l4[1], be16_at(l4, 4), from, to);
}

// What follows layer 2, or nothing if that is no IP.
View ip_of(const Packet& p) {
  View v(p.bytes);
  if (!p.ethernet) return v;
  std::size_t at = 12;
  while (at + 2 <= v.size() && (be16_at(v, at) == 0x8100 || be16_at(v, at) == 0x88a8)) at += 4;
  if (at + 2 > v.size() || (be16_at(v, at) != 0x0800 && be16_at(v, at) != 0x86dd)) return {};
  return v.subspan(at + 2);
}

}  // namespace

std::string wrong_with(const Packet& p) {
  View ip = ip_of(p);
  if (ip.empty()) return {};
  if (!p.partial) return wrong_ip(ip, Look::kWhole);
  if (Layout l = lay_out(ip); l.error.empty() && l.proto == IPPROTO_SCTP && l.l4 + 12 <= ip.size()) {
    // Its device makes the CRC of the whole packet, and expects the field to be zero.
    View check = ip.subspan(l.l4 + 8, 4);
    return be16_at(check, 0) || be16_at(check, 2) ? "a partial SCTP checksum that is not zero" : "";
  }
  // The device will sum from csum_start on and write the result: do it, then look at the result.
  Packet done = p;
  done.partial = false;
  std::size_t field = static_cast<std::size_t>(p.csum_start) + p.csum_offset;
  if (field + 2 > done.bytes.size()) return "csum_start points outside";
  std::uint32_t s = ~sum(View(done.bytes).subspan(p.csum_start)) & 0xffff;
  if (!s) s = 0xffff;  // as the kernel does for all protocols
  done.bytes[field] = static_cast<std::uint8_t>(s >> 8);
  done.bytes[field + 1] = static_cast<std::uint8_t>(s);
  // An error that was made of a partial packet quotes a checksum that was never finished.
  std::string wrong = wrong_ip(ip_of(done), Look::kOuterOnly);
  return wrong.empty() ? wrong : "after the device's checksum: " + wrong;
}

std::string line_of(const Packet& p) {
  View ip = ip_of(p);
  return ip.empty() ? fmt::format("{} bytes, no IP", p.bytes.size()) : describe_ip(ip);
}

}  // namespace ctd::test
