// SPDX-License-Identifier: Apache-2.0
// The XDP program over the maps of a running datapath: what it says of a packet.
#pragma once

#include <memory>
#include <string>

#include "daemon/datapath.hpp"
#include "unit/packet_builder.hpp"

struct xdp_bpf;

namespace ctd::test {

class XdpFind {
 public:
  // pins: the datapath's folder. Whatever map the object shares with the datapath is the pinned one.
  void open(const std::string& pins, const Datapath& dp);

  // As struct xdp_result of bpf/prog/xdp.bpf.c.
  struct Found {
    u32 reason = 0;  // enum ctd_drop_reason of the parser
    u32 conn = 0;    // CTD_CONN_NONE: not found
    u32 dir = 0;     // if found
    u32 status = 0;  // if found
  };
  Found find(const Packet& packet) const;

 private:
  struct Close {
    void operator()(xdp_bpf* skeleton) const;
  };
  std::unique_ptr<xdp_bpf, Close> skeleton_;
};

}  // namespace ctd::test
