// SPDX-License-Identifier: Apache-2.0
// libnl's objects with owners, and its errors as ours.
#pragma once

#include <functional>
#include <memory>

#include <netlink/cache.h>
#include <netlink/errno.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/object.h>
#include <netlink/socket.h>

#include "lib/result.hpp"

namespace ctd {

template <auto free_function>
struct NlFree {
  template <typename T>
  void operator()(T* object) const {
    free_function(object);
  }
};

using NlSocket = std::unique_ptr<nl_sock, NlFree<nl_socket_free>>;
using NlCache = std::unique_ptr<nl_cache, NlFree<nl_cache_free>>;
using NlMessage = std::unique_ptr<nl_msg, NlFree<nlmsg_free>>;

// `code`: what a call of libnl returned, negative.
template <typename... Args>
Error fail_nl(int code, fmt::format_string<Args...> format, Args&&... args) {
  return Error(fmt::format("{}: {}", fmt::format(format, std::forward<Args>(args)...), nl_geterror(code)));
}

// A connected NETLINK_ROUTE socket in the calling thread's network namespace.
Result<NlSocket> open_route_socket();

// Asks for a dump with `head` (ndmsg, rtmsg …) as the request's header; once it is complete, calls `take` for each
// message. Asks again if the kernel's table changed meanwhile. A table that does not exist is an empty one.
Result<> dump(nl_sock* socket, int type, const void* head, std::size_t head_size,
              const std::function<void(nlmsghdr*)>& take);

template <typename Head>
Result<> dump(nl_sock* socket, int type, const Head& head, const std::function<void(nlmsghdr*)>& take) {
  return dump(socket, type, &head, sizeof(head), take);
}

}  // namespace ctd
