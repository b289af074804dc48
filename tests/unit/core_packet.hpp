// SPDX-License-Identifier: Apache-2.0
// A Packet as the native core sees it, and back.
#pragma once

#include <ctd/abi/drop.h>

#include <memory>

#include "native/native.h"
#include "packet_builder.hpp"

namespace ctd::test {

struct NativePacketFree {
  void operator()(native_packet* p) const { native_packet_free(p); }
};
using NativePacket = std::unique_ptr<native_packet, NativePacketFree>;

inline constexpr std::uint32_t kAllLinear = ~0u;

inline NativePacket to_native(const Packet& p, std::uint32_t linear = kAllLinear) {
  NativePacket n(native_packet_new(p.bytes.data(), static_cast<u32>(p.bytes.size()), linear, p.ethernet));
  if (p.partial) n->ip_summed = NATIVE_CSUM_PARTIAL;
  n->csum_start = p.csum_start;
  n->csum_offset = p.csum_offset;
  n->gso_size = p.gso_size;
  return n;
}

inline Packet from_native(const native_packet& n) {
  Packet p{.bytes = Bytes(n.len),
           .ethernet = n.mac_len != 0,
           .partial = n.ip_summed == NATIVE_CSUM_PARTIAL,
           .csum_start = n.csum_start,
           .csum_offset = n.csum_offset,
           .gso_size = static_cast<std::uint16_t>(n.gso_size)};
  native_packet_bytes(&n, p.bytes.data());
  return p;
}

inline const char* drop_name(int reason) {
  static constexpr const char* kNames[] = {
#define X(id, name, text) #name,
      CTD_DROP_REASONS(X)
#undef X
  };
  return reason >= 0 && reason < CTD_DROP_COUNT ? kNames[reason] : "?";
}

}  // namespace ctd::test
