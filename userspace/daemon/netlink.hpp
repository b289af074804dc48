// SPDX-License-Identifier: Apache-2.0
// What the host's network looks like, and when it changes. In the network namespace of the thread that called open().
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include <ctd/abi/types.h>

#include "daemon/nl.hpp"
#include "lib/result.hpp"

namespace ctd {

class NeighbourTable;

struct LinkInfo {
  u32 ifindex = 0;
  std::string name;
  std::string kind;         // "veth", "bridge", "vlan" …; empty for hardware and loopback
  std::array<u8, 6> mac{};  // zero if the device has none, or one of another length
  u32 mtu = 0;              // of layer 3
  bool up = false;          // administratively
  bool carrier = false;
  unsigned type = 0;         // ARPHRD_*
  u32 master = 0;            // bridge, bond or VRF that it belongs to; 0 none
  u32 lower = 0;             // device of this namespace that it is stacked on (VLAN, macvlan, tunnel); 0 none
  bool forwarding4 = false;  // per-device sysctl
  bool forwarding6 = false;
  be32 addr4 = 0;       // first global address that is not secondary; 0 none
  ctd_addr addr6{};     // preferred global address; zero none
  ctd_addr addr6_ll{};  // link-local; zero none
};

// An entry of the local routing table: an address, or a whole prefix such as 127.0.0.0/8.
struct HostAddress {
  ctd_addr addr{};
  ctd_family family = CTD_IPV4;
  u8 prefix_len = 0;  // bits: 32 or 128 for a single address
  u32 ifindex = 0;
};

struct NetSnapshot {
  std::vector<LinkInfo> links;
  std::vector<HostAddress> local;       // delivered to the host: its addresses, 127.0.0.0/8, ::1, AnyIP prefixes
  std::vector<HostAddress> anycast;     // delivered to the host as well; never a source
  std::vector<HostAddress> broadcasts;  // of local IPv4 subnets

  // nullptr: no such device. Valid as long as the snapshot.
  const LinkInfo* find(std::string_view name) const;
  const LinkInfo* find(u32 ifindex) const;
};

struct Changes {
  bool links = false;  // devices, their state, their forwarding
  bool addresses = false;
  bool routes = false;      // routes, rules or next hops
  bool neighbours = false;  // a link-layer address changed, or a neighbour became known, failed or went away
  bool lost = false;        // events were lost: all of the above are set, read everything again
  bool any() const { return links || addresses || routes || neighbours; }
};

class NetWatch {
 public:
  // Subscribed from here on: a snapshot taken later is never older than the events say.
  static Result<NetWatch> open();
  NetWatch(NetWatch&&) noexcept;
  NetWatch& operator=(NetWatch&&) noexcept;
  ~NetWatch();

  // For poll(POLLIN); call drain() then. Owned by the NetWatch.
  int fd() const;
  // Takes the pending events, without blocking; a bounded number of them (poll again).
  Result<Changes> drain();
  Result<NetSnapshot> snapshot();

 private:
  NetWatch(NlSocket requests, NlSocket events);
  Result<> resync();

  NlSocket requests_;
  NlSocket events_;
  std::unique_ptr<NeighbourTable> neighbours_;
};

}  // namespace ctd
