// SPDX-License-Identifier: Apache-2.0
// The parser on any bytes: never past the packet, and what it says agrees with itself. The first byte chooses how the
// packet lies in memory.
#include <cstdint>
#include <cstdlib>

#include "native/native.h"

namespace {

void require(bool condition) {
  if (!condition) abort();
}

void check(const packet& p, u32 len) {
  require(p.len == len);
  if (!(p.flags & PACKET_IP)) {
    require(!(p.flags & (PACKET_L4 | PACKET_UNTRACKABLE | PACKET_ICMP_ERROR)));
    return;
  }
  require(p.tuple.family == CTD_IPV4 || p.tuple.family == CTD_IPV6);
  require(p.l3_off + p.l3_len <= len);
  require(!(p.flags & PACKET_L4 && p.flags & PACKET_UNTRACKABLE));
  require(!(p.flags & PACKET_ICMP_ERROR) || p.flags & PACKET_L4);
  if (p.flags & PACKET_L4) {
    require(p.frag != CTD_FRAG_LATER);
    require(p.l4_off > p.l3_off && p.l4_off + 8u <= p.l3_off + p.l3_len);
  } else {
    require(!p.tuple.sport);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 1) return 0;
  const std::uint8_t how = *data++;
  size--;
  native_packet* n = native_packet_new(data, static_cast<u32>(size), how & 1 ? ~0u : how >> 2, !(how & 2));
  packet p{};
  p.l2_len = how & 2 ? 0 : 14;
  if (!native_parse(n, &p)) check(p, static_cast<u32>(size));
  native_packet_free(n);
  return 0;
}
