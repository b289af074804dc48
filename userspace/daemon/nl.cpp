// SPDX-License-Identifier: Apache-2.0
#include "daemon/nl.hpp"

#include <cerrno>
#include <vector>

#include <linux/netlink.h>

#include <ctd/abi/types.h>

namespace ctd {

Result<NlSocket> open_route_socket() {
  NlSocket socket(nl_socket_alloc());
  if (!socket) return fail_errno(ENOMEM, "netlink socket");
  if (const int error = nl_connect(socket.get(), NETLINK_ROUTE)) return fail_nl(error, "netlink socket");
  return socket;
}

Result<> dump(nl_sock* socket, int type, const void* head, std::size_t head_size,
              const std::function<void(nlmsghdr*)>& take) {
  constexpr int kAttempts = 10;
  std::vector<u8> messages;
  const auto keep = [](nl_msg* message, void* context) {
    const auto* bytes = reinterpret_cast<const u8*>(nlmsg_hdr(message));
    auto* all = static_cast<std::vector<u8>*>(context);
    all->insert(all->end(), bytes, bytes + nlmsg_hdr(message)->nlmsg_len);
    all->resize(NLMSG_ALIGN(all->size()));
    return static_cast<int>(NL_OK);
  };
  nl_socket_modify_cb(socket, NL_CB_VALID, NL_CB_CUSTOM, keep, &messages);
  int error = -NLE_DUMP_INTR;
  for (int attempt = 0; attempt < kAttempts && error == -NLE_DUMP_INTR; attempt++) {
    messages.clear();
    error = nl_send_simple(socket, type, NLM_F_DUMP, const_cast<void*>(head), head_size);
    if (error >= 0) error = nl_recvmsgs_default(socket);
  }
  nl_socket_modify_cb(socket, NL_CB_VALID, NL_CB_DEFAULT, nullptr, nullptr);
  if (error < 0 && error != -NLE_OBJ_NOTFOUND) return fail_nl(error, "netlink dump");

  int left = static_cast<int>(messages.size());
  for (auto* message = reinterpret_cast<nlmsghdr*>(messages.data()); nlmsg_ok(message, left);
       message = nlmsg_next(message, &left))
    take(message);
  return {};
}

}  // namespace ctd
