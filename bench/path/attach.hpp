// SPDX-License-Identifier: Apache-2.0
// Network namespaces and attachments that end with the object, at the latest with the process.
#pragma once

#include <net/if.h>

#include <memory>
#include <string>

#include <bpf/libbpf.h>

#include "lib/result.hpp"

namespace ctd::bench {

// Moves the calling thread into the namespace that `ip netns add NAME` made.
Result<void> enter_netns(const std::string& name);

// Index of a device of the current namespace.
Result<unsigned> device_index(const std::string& name);

struct LinkDeleter {
  void operator()(bpf_link* link) const { bpf_link__destroy(link); }
};
using XdpLink = std::unique_ptr<bpf_link, LinkDeleter>;

// To a device of the current namespace.
Result<XdpLink> attach_xdp(const bpf_program* program, unsigned ifindex);

// A program on a device's TC ingress: TCX where the kernel has it, else a clsact filter.
class TcIngress {
 public:
  static Result<TcIngress> attach(const bpf_program* program, unsigned ifindex);
  TcIngress(TcIngress&& other) noexcept;
  TcIngress& operator=(TcIngress&&) = delete;
  ~TcIngress();

 private:
  TcIngress(int link_fd, unsigned clsact_ifindex) : link_fd_(link_fd), clsact_ifindex_(clsact_ifindex) {}

  int link_fd_;              // -1: not TCX
  unsigned clsact_ifindex_;  // 0: not clsact
};

}  // namespace ctd::bench
