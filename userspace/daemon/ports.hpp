// SPDX-License-Identifier: Apache-2.0
// The configured ports in the datapath: numbers, attachments, and what the host knows of their devices.
#pragma once

#include <map>
#include <string>
#include <vector>

#include <ctd/abi/port.h>

#include "daemon/attach.hpp"
#include "daemon/config.hpp"
#include "daemon/datapath.hpp"
#include "daemon/netlink.hpp"
#include "daemon/rule.hpp"
#include "daemon/rule_ports.hpp"
#include "lib/result.hpp"

namespace ctd {

class Ports {
 public:
  // pins: the instance's folder in bpffs.
  Ports(const Datapath& dp, const Config& config, std::string pins);

  // Gives every configured port its number: the one that a running datapath has for the device, else the lowest free
  // one. Fails if a device cannot be a port.
  Result<> assign(const NetSnapshot& net);
  const PortNames& names() const { return names_; }

  // Fails if a port belongs to another instance of this network namespace: both would see its packets.
  Result<> check_unclaimed(const std::string& bpffs, const std::string& instance, const NetSnapshot& net) const;

  // Writes ports, the host's addresses and the zones of the fast path; attaches what is not attached. Called at start
  // and whenever links or addresses change. True if anything changed.
  Result<bool> sync(const NetSnapshot& net, const RuleSet& rules);

  // Programs on all hooks of all ports, egress first: what the stack might forward is stopped before anything comes in.
  Result<> attach_all();
  // Everything off: ingress first.
  Result<> detach_all();

  struct Entry {
    std::string name;
    ctd_port port{};
  };
  const std::vector<Entry>& entries() const { return entries_; }

 private:
  Result<> check_device(const LinkInfo& link, const NetSnapshot& net) const;
  Attachment attachment(const Entry& entry, Hook hook) const;
  Result<> attach_hook(const Entry& entry, Hook hook) const;
  ctd_port describe(const Entry& entry, const LinkInfo& link, const RuleSet& rules) const;
  Result<bool> sync_port(Entry& entry, const NetSnapshot& net, const RuleSet& rules);
  Result<bool> sync_local_addrs(const NetSnapshot& net);

  const Datapath& dp_;
  const Config& config_;
  std::string pins_;
  std::vector<Entry> entries_;
  PortNames names_;
};

}  // namespace ctd
