// SPDX-License-Identifier: Apache-2.0
// Which neighbours are usable, so that of the kernel's many events (reachable, stale, probe …) only those count
// after which a packet would go elsewhere.
#pragma once

#include <array>
#include <compare>
#include <map>

#include <ctd/abi/types.h>

struct nlmsghdr;

namespace ctd {

class NeighbourTable {
 public:
  // Takes an RTM_NEWNEIGH or RTM_DELNEIGH. True: a neighbour is usable now that was not, at another link-layer
  // address, or not usable any more. Failed look-ups of unknown hosts are no change.
  bool update(nlmsghdr* message);
  void clear() { usable_.clear(); }

 private:
  struct Key {
    u32 ifindex = 0;
    u8 family = 0;
    std::array<u8, 16> address{};
    auto operator<=>(const Key&) const = default;
  };
  using LinkAddress = std::array<u8, 32>;  // MAX_ADDR_LEN

  std::map<Key, LinkAddress> usable_;
};

}  // namespace ctd
