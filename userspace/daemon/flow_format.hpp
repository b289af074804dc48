// SPDX-License-Identifier: Apache-2.0
// Flows as `ovs-appctl dpctl/dump-flows` writes them.
#pragma once

#include <optional>
#include <span>
#include <string>

#include <ctd/abi/action.h>
#include <ctd/abi/key.h>

#include "daemon/rule_ports.hpp"
#include "daemon/translate.hpp"

namespace ctd {

struct FlowStats {
  u64 packets = 0;
  u64 bytes = 0;
  std::optional<u64> used_ms;  // since the last packet; none: never
  u16 tcp_flags = 0;           // seen, host order; 0: not shown
};

// ports: null for numbers, else names.
std::string format_key(const ctd_key_words& key, const ctd_key_words& mask, const PortNames* ports);

// Side arguments are looked up in args; an unknown id is shown as `nat(id=7)`.
std::string format_datapath_actions(std::span<const ctd_action> actions, const ArgsTable& args, const PortNames* ports);

// recirc_id(0),in_port(1),…, packets:5, bytes:412, used:0.120s, actions:ct(zone=0,nat),recirc(0x1)
std::string format_flow(const ctd_key_words& key, const ctd_key_words& mask, std::span<const ctd_action> actions,
                        const FlowStats& stats, const ArgsTable& args, const PortNames* ports = nullptr);

}  // namespace ctd
