// SPDX-License-Identifier: Apache-2.0
#include "daemon/neighbours.hpp"

#include <algorithm>
#include <cstring>
#include <span>

#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <netlink/attr.h>
#include <netlink/msg.h>
#include <sys/socket.h>

namespace ctd {
namespace {

constexpr u16 kUsable = NUD_PERMANENT | NUD_NOARP | NUD_REACHABLE | NUD_PROBE | NUD_STALE | NUD_DELAY;

void copy_attribute(const nlattr* attribute, std::span<u8> out) {
  if (!attribute) return;
  std::memcpy(out.data(), nla_data(attribute), std::min<std::size_t>(out.size(), nla_len(attribute)));
}

}  // namespace

bool NeighbourTable::update(nlmsghdr* message) {
  nlattr* attributes[NDA_MAX + 1];
  if (nlmsg_parse(message, sizeof(ndmsg), attributes, NDA_MAX, nullptr) < 0) return false;
  const auto* head = static_cast<const ndmsg*>(nlmsg_data(message));
  // The forwarding entries of bridges (AF_BRIDGE) come by the same way.
  if (head->ndm_family != AF_INET && head->ndm_family != AF_INET6) return false;
  if (head->ndm_flags & NTF_PROXY) return false;

  Key key{.ifindex = static_cast<u32>(head->ndm_ifindex), .family = head->ndm_family};
  copy_attribute(attributes[NDA_DST], key.address);
  if (message->nlmsg_type == RTM_DELNEIGH || !(head->ndm_state & kUsable)) return usable_.erase(key) > 0;

  LinkAddress address{};
  copy_attribute(attributes[NDA_LLADDR], address);
  const auto [entry, inserted] = usable_.try_emplace(key, address);
  if (inserted) return true;
  if (entry->second == address) return false;
  entry->second = address;
  return true;
}

}  // namespace ctd
