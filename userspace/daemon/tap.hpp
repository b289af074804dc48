// SPDX-License-Identifier: Apache-2.0
// The dedicated device: a persistent tap by which packets leave the datapath for the daemon and come back.
#pragma once

#include <string>

#include <ctd/abi/types.h>

#include "daemon/fd.hpp"
#include "daemon/vnet_header.hpp"
#include "lib/result.hpp"

namespace ctd {

// Every read() and write() of the descriptor carries a VnetHeader before the Ethernet frame.
class Tap {
 public:
  // Creates the instance's tap in this thread's network namespace, or takes over the one that an earlier daemon left:
  // up, without addresses, ARP, multicast or forwarding. It stays when the Tap is destroyed.
  // Errors: another process has it open (code EBUSY); a device of that name is no tap.
  static Result<Tap> open(const std::string& instance);

  // ctd-INSTANCE, or ctd- and a hash where that is too long for a device.
  static std::string device_name(const std::string& instance);

  // Deletes the device, open or not. No such device is success; a device that is no tap is an error.
  static Result<> remove(const std::string& name);

  int fd() const { return fd_.get(); }  // non-blocking; owned by the Tap
  u32 ifindex() const { return ifindex_; }
  const std::string& name() const { return name_; }
  // Whether UDP GSO packets arrive whole (6.2 and later); without it the kernel segments them on their way here.
  bool has_uso() const { return has_uso_; }

 private:
  Tap(Fd fd, std::string name) : fd_(std::move(fd)), name_(std::move(name)) {}
  Result<> set_up();

  Fd fd_;
  std::string name_;
  u32 ifindex_ = 0;
  bool has_uso_ = false;
};

}  // namespace ctd
