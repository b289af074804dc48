// SPDX-License-Identifier: Apache-2.0
#include "daemon/netlink.hpp"

#include <array>
#include <cerrno>
#include <vector>

#include <linux/rtnetlink.h>
#include <netlink/handlers.h>
#include <sys/socket.h>

#include "daemon/neighbours.hpp"

namespace ctd {
namespace {

constexpr int kEventBuffer = 4 << 20;       // bytes in the kernel
constexpr std::size_t kReadSize = 1 << 18;  // a datagram: several messages, never cut
constexpr int kMaxReads = 1024;             // of one drain()

constexpr u16 kNewNexthop = 104;  // RTM_NEWNEXTHOP, RTM_DELNEXTHOP: an enumerator in some headers, a macro in others
constexpr u16 kDelNexthop = 105;

void set_all(Changes& changes) { changes = {.links = true, .addresses = true, .routes = true, .neighbours = true}; }

void note(nlmsghdr* message, NeighbourTable& neighbours, Changes& changes) {
  switch (message->nlmsg_type) {
    case RTM_NEWLINK:
    case RTM_DELLINK:
      // Routes that go or come with a device's state do so without an event of their own.
      changes.links = changes.addresses = changes.routes = true;
      break;
    case RTM_NEWNETCONF:
    case RTM_DELNETCONF:
      changes.links = true;
      break;
    case RTM_NEWADDR:
    case RTM_DELADDR:
      changes.addresses = true;
      break;
    case RTM_NEWROUTE:
    case RTM_DELROUTE:
      changes.routes = true;
      if (message->nlmsg_len >= NLMSG_LENGTH(sizeof(rtmsg)) &&
          static_cast<rtmsg*>(nlmsg_data(message))->rtm_table == RT_TABLE_LOCAL)
        changes.addresses = true;
      break;
    case RTM_NEWRULE:
    case RTM_DELRULE:
    case kNewNexthop:
    case kDelNexthop:
      changes.routes = true;
      break;
    case RTM_NEWNEIGH:
    case RTM_DELNEIGH:
      if (neighbours.update(message)) changes.neighbours = true;
      break;
    default:
      break;
  }
}

Result<> subscribe(nl_sock* socket) {
  nl_socket_disable_seq_check(socket);
  for (const int group :
       {RTNLGRP_LINK, RTNLGRP_NEIGH, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE,
        RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_RULE, RTNLGRP_IPV4_NETCONF, RTNLGRP_IPV6_NETCONF, RTNLGRP_NEXTHOP})
    if (const int error = nl_socket_add_memberships(socket, group, 0))
      return fail_nl(error, "subscription to netlink group {}", group);
  // More than rmem_max where we may; losing events is handled, and costs a full reading.
  const int size = kEventBuffer;
  const int fd = nl_socket_get_fd(socket);
  if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) != 0 &&
      setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)) != 0)
    return fail_errno(errno, "netlink receive buffer");
  if (const int error = nl_socket_set_nonblocking(socket)) return fail_nl(error, "netlink socket");
  return {};
}

}  // namespace

NetWatch::NetWatch(NlSocket requests, NlSocket events)
    : requests_(std::move(requests)), events_(std::move(events)), neighbours_(std::make_unique<NeighbourTable>()) {}
NetWatch::NetWatch(NetWatch&&) noexcept = default;
NetWatch& NetWatch::operator=(NetWatch&&) noexcept = default;
NetWatch::~NetWatch() = default;

Result<NetWatch> NetWatch::open() {
  NlSocket events = CTD_TRY(open_route_socket());
  CTD_TRY(subscribe(events.get()));
  NetWatch watch(CTD_TRY(open_route_socket()), std::move(events));
  CTD_TRY(watch.resync());
  return watch;
}

int NetWatch::fd() const { return nl_socket_get_fd(events_.get()); }

Result<> NetWatch::resync() {
  neighbours_->clear();
  const ndmsg all{};  // AF_UNSPEC: both families
  return dump(requests_.get(), RTM_GETNEIGH, all, [this](nlmsghdr* message) { neighbours_->update(message); })
      .context("list of neighbours");
}

Result<Changes> NetWatch::drain() {
  Changes changes;
  std::vector<u8> buffer(kReadSize);
  for (int reads = 0; reads < kMaxReads; reads++) {
    sockaddr_nl sender{};
    socklen_t sender_size = sizeof(sender);
    const ssize_t size = recvfrom(fd(), buffer.data(), buffer.size(), MSG_DONTWAIT | MSG_TRUNC,
                                  reinterpret_cast<sockaddr*>(&sender), &sender_size);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0 && errno == EAGAIN) break;
    if (size < 0 && errno != ENOBUFS) return fail_errno(errno, "netlink events");
    if (size < 0 || static_cast<std::size_t>(size) > buffer.size()) {
      changes.lost = true;
      continue;
    }
    if (sender.nl_pid != 0) continue;  // not the kernel
    int left = static_cast<int>(size);
    for (auto* message = reinterpret_cast<nlmsghdr*>(buffer.data()); nlmsg_ok(message, left);
         message = nlmsg_next(message, &left))
      note(message, *neighbours_, changes);
  }
  if (changes.lost) {
    set_all(changes);
    changes.lost = true;
    CTD_TRY(resync());
  }
  return changes;
}

}  // namespace ctd
