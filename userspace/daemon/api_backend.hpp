// SPDX-License-Identifier: Apache-2.0
// What the control API needs of the daemon.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <ctd/abi/drop.h>
#include <ctd/abi/port.h>
#include <nlohmann/json.hpp>

#include "lib/conn_table.hpp"
#include "lib/result.hpp"
#include "lib/time.hpp"

namespace ctd {

struct FlowInfo {
  std::string key;      // as in dpctl/dump-flows, without actions and statistics
  std::string actions;  // the same
  uint64_t packets = 0;
  uint64_t bytes = 0;
  std::optional<double> used_s;  // since the last packet; none: never
  uint32_t mask = 0;             // mask id
};

struct RuleInfo {
  std::string text;  // ovs-ofctl syntax, without statistics: "table=0,priority=100,arp actions=stack"
  uint64_t cookie = 0;
  uint64_t packets = 0;
  uint64_t bytes = 0;
};

struct PortInfo {
  std::string name;
  ctd_port port{};
};

struct PortStats {
  std::string name;        // "LOCAL" for the host
  uint32_t number = 0;     // CTD_PORT_LOCAL for the host
  ctd_port_stats total{};  // over all CPUs
};

// Calls come from the server's threads, one at a time, never while another one runs. They may come while the daemon's
// own thread works.
class ApiBackend {
 public:
  virtual ~ApiBackend() = default;

  // Members of /v1/status beside those that the server knows (instance, version, pid, uptime_s, abi_version): at least
  // "ports", how many there are.
  virtual Result<nlohmann::ordered_json> status() = 0;

  // A view whose arrays stay as long as the backend.
  virtual ConnTable connections() = 0;
  virtual Result<KernelClock> clock() = 0;
  // Adds to the records what the verdict cache has counted so far. Before every dump.
  virtual Result<> credit_counters() = 0;
  // Deletes all connections; returns how many.
  virtual Result<uint64_t> flush() = 0;

  virtual Result<std::vector<FlowInfo>> flows() = 0;
  virtual Result<std::vector<RuleInfo>> rules() = 0;
  virtual Result<std::vector<PortInfo>> ports() = 0;   // without the host
  virtual Result<std::vector<PortStats>> stats() = 0;  // with the host

  // Asks the daemon to take everything down and exit. Returns at once: the answer must still go out.
  virtual Result<> shutdown() = 0;
};

}  // namespace ctd
