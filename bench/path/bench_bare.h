// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <linux/types.h>

// Where a port's packets go: device index and Ethernet addresses.
struct bare_hop {
  __u32 ifindex;
  __u8 dest[6];
  __u8 source[6];
};

struct bare_config {
  __u32 lan_ifindex;  // what enters here leaves by to_wan, everything else by to_lan
  struct bare_hop to_wan;
  struct bare_hop to_lan;
};
