// SPDX-License-Identifier: Apache-2.0
// The daemon: brings an instance up or takes it over, handles its events, serves the control API, takes it down.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "daemon/api_backend.hpp"
#include "daemon/config.hpp"
#include "daemon/conn_orders.hpp"
#include "daemon/ct_settings.hpp"
#include "daemon/datapath.hpp"
#include "daemon/event_hub.hpp"
#include "daemon/event_reader.hpp"
#include "daemon/expectations.hpp"
#include "daemon/flow_table.hpp"
#include "daemon/instance_lock.hpp"
#include "daemon/kernel_clock.hpp"
#include "daemon/netlink.hpp"
#include "daemon/pins.hpp"
#include "daemon/ports.hpp"
#include "daemon/tap.hpp"
#include "daemon/upcalls.hpp"
#include "lib/result.hpp"

namespace ctd {

class Daemon final : public ApiBackend {
 public:
  struct Options {
    std::string instance;
    std::string rundir;
    std::string bpffs;
    bool ephemeral = false;  // SIGTERM takes everything down, as `ctctl shutdown`
  };

  // net: subscribed before its snapshot was taken, from which the configuration was checked.
  Daemon(Options options, Config config, NetWatch net);
  ~Daemon() override;

  // Up, attached, and serving. A failure leaves what was there before.
  Result<> start();

  // Until SIGTERM, SIGINT or a shutdown over the API. stop_fd: readable when a signal has come.
  Result<> run(int stop_fd);

  // Detaches and removes everything. What was masqueraded is not forwarded from then on (forward_block.hpp).
  Result<> take_down();
  bool wants_take_down() const { return shutdown_ || options_.ephemeral; }

  Result<nlohmann::ordered_json> status() override;
  ConnTable connections() override;
  Result<KernelClock> clock() override;
  Result<> credit_counters() override;
  Result<> credit_counters(std::span<const uint64_t> ids) override;
  Result<std::optional<uint32_t>> find(const ctd_tuple& tuple) override;
  Result<uint64_t> remove(std::span<const uint64_t> ids, ctd_end_reason why) override;
  Result<uint64_t> update(std::span<const uint64_t> ids, const ConnUpdate& update) override;
  Result<std::vector<Inserted>> insert(std::span<const NewConn> conns) override;
  Result<std::vector<Expectation>> expectations() override;
  Result<Expectation> add_expectation(const NewExpectation& wanted) override;
  Result<bool> remove_expectation(const Expectation& expectation) override;
  Result<std::shared_ptr<EventHub::Subscription>> subscribe(uint16_t wanted, EventHub::Filter filter) override;
  Result<std::vector<FlowInfo>> flows() override;
  Result<std::vector<RuleInfo>> rules() override;
  Result<std::vector<PortInfo>> ports() override;
  Result<std::vector<PortStats>> stats() override;
  Result<ZoneTable> zones() override;
  Result<std::vector<PolicyInfo>> policies() override;
  Result<ConnPolicies> policy_names() override;
  Result<> set_zone_limit(std::optional<uint16_t> zone, std::optional<uint32_t> limit) override;
  Result<TableStats> table_stats() override;
  Result<> shutdown() override;

 private:
  Result<> open_datapath();
  Result<> set_up_rules(const NetSnapshot& snapshot);
  Result<> attach_tap();
  Result<> detach_tap();
  Result<> allow_forwarding();
  Result<> prohibit_forwarding();
  Result<> remove_all();
  void report_forwarding() const;
  Attachment tap_attachment(Hook hook) const;
  Result<> handle_changes();
  Result<> tick();
  void beat() const;
  Result<TableStats> read_table_stats() const;

  Options options_;
  Config config_;
  NetWatch net_;
  std::optional<InstanceLock> lock_;
  std::optional<Tap> tap_;
  std::optional<JiffiesClock> clock_;
  std::string pins_;
  std::unique_ptr<Datapath> dp_;
  std::optional<ConnOrders> orders_;  // the API's alone
  std::optional<Expectations> expectations_;
  std::optional<CtSettings> ct_;
  EventHub events_;
  std::unique_ptr<EventReader> event_reader_;
  std::optional<Ports> ports_;
  std::optional<RuleSet> rules_;
  bool rules_changed_ = false;  // since the daemon before
  std::optional<FlowTable> flows_;
  std::optional<Upcalls> upcalls_;
  RefusalReport refusals_;
  std::mutex mutex_;  // ct_, ports_, flows_ and upcalls_: the loop's and the API's
  std::atomic<bool> shutdown_{false};
  Fd wake_;  // eventfd: the API asks the loop to end
  std::chrono::steady_clock::time_point last_tick_{};
};

}  // namespace ctd
