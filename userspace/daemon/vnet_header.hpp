// SPDX-License-Identifier: Apache-2.0
// The header before every frame of a tap with IFF_VNET_HDR: struct virtio_net_hdr of the virtio specification, 5.1.6.
// The kernel's own header cannot be compiled as C++ (a field is named `class`).
#pragma once

#include <ctd/abi/types.h>

namespace ctd {

// Host byte order. Offsets count from the start of the frame.
struct VnetHeader {
  static constexpr u8 needs_csum = 1;  // flags: the checksum at csum_start + csum_offset is still to be finished
  static constexpr u8 gso_none = 0;    // gso_type

  u8 flags;
  u8 gso_type;
  u16 hdr_len;
  u16 gso_size;
  u16 csum_start;
  u16 csum_offset;
};
CTD_ASSERT_SIZE(VnetHeader, 10);

}  // namespace ctd
