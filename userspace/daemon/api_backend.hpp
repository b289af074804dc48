// SPDX-License-Identifier: Apache-2.0
// What the control API needs of the daemon.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <ctd/abi/ct.h>
#include <ctd/abi/drop.h>
#include <ctd/abi/port.h>
#include <nlohmann/json.hpp>

#include "daemon/event_hub.hpp"
#include "daemon/table_stats.hpp"
#include "lib/conn_policies.hpp"
#include "lib/conn_table.hpp"
#include "lib/conn_update.hpp"
#include "lib/expect.hpp"
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

struct ZoneInfo {
  uint32_t zone = 0;
  uint32_t limit = 0;      // in force; 0: none
  bool own_limit = false;  // else it is the default limit
  uint32_t count = 0;      // connections
  std::string policy;      // "default", or a name of the configuration
};

struct ZoneTable {
  uint32_t default_limit = 0;
  std::vector<ZoneInfo> zones;  // ascending
};

struct PolicyInfo {
  std::string name;
  ctd_ct_policy policy{};  // complete
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
  // Adds to the records what the verdict cache has counted so far, of all connections: before every dump. Takes seconds
  // when there are millions.
  virtual Result<> credit_counters() = 0;
  // Of these alone, by their unique ids.
  virtual Result<> credit_counters(std::span<const uint64_t> ids) = 0;
  // The id of the connection that has this tuple in either direction.
  virtual Result<std::optional<uint32_t>> find(const ctd_tuple& tuple) = 0;
  // Of connections by their unique ids; those that are gone are passed over. Both answer how many it was; deleted ones
  // are gone then, their tuples free. An error with code EBUSY: some stayed in use, all others are done.
  virtual Result<uint64_t> remove(std::span<const uint64_t> ids, ctd_end_reason why) = 0;
  virtual Result<uint64_t> update(std::span<const uint64_t> ids, const ConnUpdate& update) = 0;
  // One result for each.
  virtual Result<std::vector<Inserted>> insert(std::span<const NewConn> conns) = 0;

  // Also those that are void; see holds().
  virtual Result<std::vector<Expectation>> expectations() = 0;
  // Errors: ENOENT (no such master), EEXIST (another master has announced the same), ENOSPC.
  virtual Result<Expectation> add_expectation(const NewExpectation& wanted) = 0;
  virtual Result<bool> remove_expectation(const Expectation& expectation) = 0;  // false: it was gone

  // wanted: enum ctd_event_bit.
  virtual Result<std::shared_ptr<EventHub::Subscription>> subscribe(uint16_t wanted, EventHub::Filter filter) = 0;

  virtual Result<std::vector<FlowInfo>> flows() = 0;
  virtual Result<std::vector<RuleInfo>> rules() = 0;
  virtual Result<std::vector<PortInfo>> ports() = 0;   // without the host
  virtual Result<std::vector<PortStats>> stats() = 0;  // with the host
  virtual Result<TableStats> table_stats() = 0;

  virtual Result<ZoneTable> zones() = 0;
  virtual Result<std::vector<PolicyInfo>> policies() = 0;
  // Also those that the configuration does not have any more, while connections may have them.
  virtual Result<ConnPolicies> policy_names() = 0;
  // zone: none for the default limit. limit: 0 for no limit, none for the default one.
  virtual Result<> set_zone_limit(std::optional<uint16_t> zone, std::optional<uint32_t> limit) = 0;

  // Asks the daemon to take everything down and exit. Returns at once: the answer must still go out.
  virtual Result<> shutdown() = 0;
};

}  // namespace ctd
