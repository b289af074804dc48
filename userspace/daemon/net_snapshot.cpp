// SPDX-License-Identifier: Apache-2.0
// NetWatch::snapshot(): links, their addresses, and the local routing table.
#include <algorithm>
#include <cstring>

#include <linux/if_addr.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netlink/route/addr.h>
#include <netlink/route/link.h>
#include <sys/socket.h>

#include "daemon/neighbours.hpp"
#include "daemon/netlink.hpp"
#include "daemon/sysctl.hpp"

namespace ctd {
namespace {

std::string text(const char* string) { return string ? string : ""; }

ctd_addr copy_addr(const void* bytes, std::size_t size) {
  ctd_addr addr{};
  if (bytes) std::memcpy(addr.b, bytes, std::min(size, sizeof(addr.b)));
  return addr;
}

// A veth's "lower" device is its peer, which may even be in this namespace: not stacked.
u32 lower_device(const rtnl_link* link, const std::string& kind) {
  s32 other_netns = 0;
  if (kind == "veth" || rtnl_link_get_link_netnsid(link, &other_netns) == 0) return 0;
  return static_cast<u32>(rtnl_link_get_link(const_cast<rtnl_link*>(link)));
}

Result<LinkInfo> link_info(rtnl_link* link) {
  LinkInfo info;
  info.ifindex = static_cast<u32>(rtnl_link_get_ifindex(link));
  info.name = text(rtnl_link_get_name(link));
  info.kind = text(rtnl_link_get_type(link));
  info.mtu = rtnl_link_get_mtu(link);
  info.up = rtnl_link_get_flags(link) & IFF_UP;
  info.carrier = rtnl_link_get_carrier(link) != 0;
  info.type = rtnl_link_get_arptype(link);
  info.master = static_cast<u32>(rtnl_link_get_master(link));
  info.lower = lower_device(link, info.kind);
  if (nl_addr* mac = rtnl_link_get_addr(link); mac && nl_addr_get_len(mac) == info.mac.size())
    std::memcpy(info.mac.data(), nl_addr_get_binary_addr(mac), info.mac.size());
  info.forwarding4 = CTD_TRY(get_forwarding(info.name, CTD_IPV4));
  info.forwarding6 = CTD_TRY(get_forwarding(info.name, CTD_IPV6));
  return info;
}

Result<std::vector<LinkInfo>> read_links(nl_sock* socket) {
  nl_cache* raw = nullptr;
  if (const int error = rtnl_link_alloc_cache(socket, AF_UNSPEC, &raw)) return fail_nl(error, "list of devices");
  const NlCache cache(raw);
  std::vector<LinkInfo> links;
  for (nl_object* object = nl_cache_get_first(raw); object; object = nl_cache_get_next(object))
    links.push_back(CTD_TRY(link_info(reinterpret_cast<rtnl_link*>(object))));
  return links;
}

// How good a source a global IPv6 address is; 0: none at all.
int rank6(const ctd_addr& addr, unsigned flags) {
  if (flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED) && !(flags & IFA_F_OPTIMISTIC)) return 0;
  const bool unique_local = (addr.b[0] & 0xfe) == 0xfc;
  // Temporary ones change under a connection's feet.
  return 1 + (flags & IFA_F_DEPRECATED ? 0 : 4) + (unique_local ? 0 : 2) + (flags & IFA_F_TEMPORARY ? 0 : 1);
}

void take_address(rtnl_addr* address, LinkInfo& link, int& best6) {
  nl_addr* local = rtnl_addr_get_local(address);
  if (!local) return;
  const ctd_addr addr = copy_addr(nl_addr_get_binary_addr(local), nl_addr_get_len(local));
  const unsigned flags = rtnl_addr_get_flags(address);
  const int scope = rtnl_addr_get_scope(address);
  if (rtnl_addr_get_family(address) == AF_INET) {
    if (scope == RT_SCOPE_UNIVERSE && !(flags & IFA_F_SECONDARY) && !link.addr4) link.addr4 = addr.v4;
    return;
  }
  const int rank = rank6(addr, flags);
  if (rank == 0) return;
  if (scope == RT_SCOPE_LINK && !link.addr6_ll.q[0]) link.addr6_ll = addr;
  if (scope == RT_SCOPE_UNIVERSE && rank > best6) {
    link.addr6 = addr;
    best6 = rank;
  }
}

Result<> read_addresses(nl_sock* socket, std::vector<LinkInfo>& links) {
  nl_cache* raw = nullptr;
  if (const int error = rtnl_addr_alloc_cache(socket, &raw)) return fail_nl(error, "list of addresses");
  const NlCache cache(raw);
  std::vector<int> best6(links.size());
  for (nl_object* object = nl_cache_get_first(raw); object; object = nl_cache_get_next(object)) {
    auto* address = reinterpret_cast<rtnl_addr*>(object);
    const int family = rtnl_addr_get_family(address);
    if (family != AF_INET && family != AF_INET6) continue;
    const auto link = std::ranges::find(links, static_cast<u32>(rtnl_addr_get_ifindex(address)), &LinkInfo::ifindex);
    if (link == links.end()) continue;  // newer than the list of links; its event is pending
    take_address(address, *link, best6[static_cast<std::size_t>(link - links.begin())]);
  }
  return {};
}

void take_route(nlmsghdr* message, NetSnapshot& snapshot) {
  nlattr* attributes[RTA_MAX + 1];
  if (nlmsg_parse(message, sizeof(rtmsg), attributes, RTA_MAX, nullptr) < 0) return;
  const auto* head = static_cast<const rtmsg*>(nlmsg_data(message));
  if (head->rtm_table != RT_TABLE_LOCAL || (head->rtm_flags & RTM_F_CLONED)) return;

  const nlattr* destination = attributes[RTA_DST];  // none: 0.0.0.0/0 or ::/0
  HostAddress entry{.addr = destination ? copy_addr(nla_data(destination), nla_len(destination)) : ctd_addr{},
                    .family = head->rtm_family == AF_INET6 ? CTD_IPV6 : CTD_IPV4,
                    .prefix_len = head->rtm_dst_len,
                    .ifindex = attributes[RTA_OIF] ? nla_get_u32(attributes[RTA_OIF]) : 0};
  if (head->rtm_type == RTN_LOCAL) snapshot.local.push_back(entry);
  if (head->rtm_type == RTN_ANYCAST) snapshot.anycast.push_back(entry);
  if (head->rtm_type == RTN_BROADCAST) snapshot.broadcasts.push_back(entry);
}

Result<> read_local_table(nl_sock* socket, NetSnapshot& snapshot) {
  // Strict checking makes the kernel filter by the table: the others may hold a million routes. Only for this
  // request: libnl's own ones do not pass the check.
  const int fd = nl_socket_get_fd(socket);
  const auto set_strict = [fd](int on) {
    return setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof(on)) == 0;
  };
  if (!set_strict(1)) return fail_errno(errno, "NETLINK_GET_STRICT_CHK");
  Result<> done;
  for (const u8 family : {u8{AF_INET}, u8{AF_INET6}}) {
    rtmsg request{};
    request.rtm_family = family;
    request.rtm_table = RT_TABLE_LOCAL;
    if (done) done = dump(socket, RTM_GETROUTE, request, [&](nlmsghdr* message) { take_route(message, snapshot); });
  }
  if (!set_strict(0)) return fail_errno(errno, "NETLINK_GET_STRICT_CHK");
  return std::move(done).context("local routing table");
}

}  // namespace

Result<NetSnapshot> NetWatch::snapshot() {
  NetSnapshot snapshot;
  snapshot.links = CTD_TRY(read_links(requests_.get()));
  CTD_TRY(read_addresses(requests_.get(), snapshot.links));
  CTD_TRY(read_local_table(requests_.get(), snapshot));
  return snapshot;
}

const LinkInfo* NetSnapshot::find(std::string_view name) const {
  const auto link = std::ranges::find(links, name, &LinkInfo::name);
  return link == links.end() ? nullptr : &*link;
}

const LinkInfo* NetSnapshot::find(u32 ifindex) const {
  const auto link = std::ranges::find(links, ifindex, &LinkInfo::ifindex);
  return link == links.end() ? nullptr : &*link;
}

}  // namespace ctd
