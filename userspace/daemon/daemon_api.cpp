// SPDX-License-Identifier: Apache-2.0
// The daemon's side of the control API. Called from the server's threads.
#include <algorithm>

#include <bpf/libbpf.h>
#include <sys/eventfd.h>

#include "daemon/daemon.hpp"

namespace ctd {

Result<nlohmann::ordered_json> Daemon::status() {
  const std::lock_guard guard(mutex_);
  const ctd_rt* rt = dp_->rt();
  nlohmann::ordered_json status;
  status["ports"] = ports_->entries().size();
  status["connections"] = rt->conns;
  status["capacity"] = config_.conntrack_capacity;
  status["flows"] = flows_->size();
  status["device"] = tap_->name();
  status["adopted"] = dp_->adopted();
  status["verdict_version"] = rt->version;
  const auto& upcalls = upcalls_->stats();
  status["upcalls"] = {{"handled", upcalls.handled}, {"failed", upcalls.failed}, {"foreign", upcalls.foreign}};
  return status;
}

ConnTable Daemon::connections() { return {dp_->connections(), dp_->rt()}; }

Result<KernelClock> Daemon::clock() {
  const u64 jiffies = CTD_TRY(clock_->now());
  return KernelClock{.jiffies = jiffies, .hz = dp_->meta().hz, .wall = std::chrono::system_clock::now()};
}

Result<> Daemon::credit_counters() { return dp_->credit(); }

Result<> Daemon::credit_counters(std::span<const uint64_t> ids) { return orders_->credit(ids); }

Result<std::optional<uint32_t>> Daemon::find(const ctd_tuple& tuple) { return orders_->find(tuple); }

Result<uint64_t> Daemon::remove(std::span<const uint64_t> ids, ctd_end_reason why) { return orders_->remove(ids, why); }

Result<uint64_t> Daemon::update(std::span<const uint64_t> ids, const ConnUpdate& update) {
  return orders_->update(ids, update);
}

Result<std::vector<Inserted>> Daemon::insert(std::span<const NewConn> conns) { return orders_->insert(conns); }

Result<std::vector<Expectation>> Daemon::expectations() { return expectations_->list(); }

Result<Expectation> Daemon::add_expectation(const NewExpectation& wanted) { return expectations_->add(wanted); }

Result<bool> Daemon::remove_expectation(const Expectation& expectation) { return expectations_->remove(expectation); }

Result<std::shared_ptr<EventHub::Subscription>> Daemon::subscribe(uint16_t wanted, EventHub::Filter filter) {
  return events_.subscribe(wanted, std::move(filter));
}

Result<std::vector<FlowInfo>> Daemon::flows() {
  CTD_TRY(dp_->credit());
  const u64 now = CTD_TRY(clock_->now());
  const std::lock_guard guard(mutex_);
  return flows_->dump(ports_->names(), now);
}

Result<std::vector<RuleInfo>> Daemon::rules() {
  CTD_TRY(dp_->credit());
  const std::lock_guard guard(mutex_);
  flows_->credit_rules();
  std::vector<RuleInfo> infos;
  for (const RuleRef& entry : rules_->all()) {
    Rule shown = entry->rule;
    shown.cookie = 0;  // has a field of its own
    infos.push_back({.text = format_rule(shown, ports_->names()),
                     .cookie = entry->rule.cookie,
                     .packets = entry->packets,
                     .bytes = entry->bytes});
  }
  return infos;
}

Result<std::vector<PortInfo>> Daemon::ports() {
  const std::lock_guard guard(mutex_);
  std::vector<PortInfo> infos;
  for (const auto& entry : ports_->entries()) infos.push_back({.name = entry.name, .port = entry.port});
  return infos;
}

Result<std::vector<PortStats>> Daemon::stats() {
  const std::lock_guard guard(mutex_);
  std::vector<PortStats> all;
  all.push_back({.name = "LOCAL", .number = CTD_PORT_LOCAL, .total = CTD_TRY(dp_->stats(0))});
  for (const auto& entry : ports_->entries()) {
    all.push_back({.name = entry.name, .number = entry.port.number, .total = CTD_TRY(dp_->stats(entry.port.number))});
  }
  return all;
}

Result<ZoneTable> Daemon::zones() {
  const std::lock_guard guard(mutex_);
  return ct_->zones();
}

Result<std::vector<PolicyInfo>> Daemon::policies() {
  const std::lock_guard guard(mutex_);
  return ct_->policy_list();
}

Result<ConnPolicies> Daemon::policy_names() {
  const std::lock_guard guard(mutex_);
  return ct_->policy_names();
}

Result<> Daemon::set_zone_limit(std::optional<uint16_t> zone, std::optional<uint32_t> limit) {
  const std::lock_guard guard(mutex_);
  if (limit)
    ct_->set_limit(zone, *limit);
  else
    ct_->delete_limit(zone);
  return {};
}

// With mutex_ held.
Result<TableStats> Daemon::read_table_stats() const {
  const ctd_rt* rt = dp_->rt();
  TableStats table{.size = dp_->table_size(),
                   .connections = static_cast<u64>(std::max<s64>(rt->conns, 0)),
                   .memory = dp_->table_memory(),
                   .classes = CTD_TRY(dp_->classes()),
                   .timeout_scale = {rt->timeout_scale[0], rt->timeout_scale[1]},
                   .counters = CTD_TRY(dp_->ct_stats()),
                   .expectations = static_cast<u64>(std::max(rt->expects, 0))};
  const auto add = [&table](const ctd_port_stats& port) {
    table.refused += port.drop[CTD_DROP_CT_FULL];
    table.evicted += port.count[CTD_COUNT_CT_EVICTED];
  };
  add(CTD_TRY(dp_->stats(0)));
  for (const auto& entry : ports_->entries()) add(CTD_TRY(dp_->stats(entry.port.number)));
  return table;
}

Result<TableStats> Daemon::table_stats() {
  const std::lock_guard guard(mutex_);
  return read_table_stats();
}

Result<> Daemon::shutdown() {
  shutdown_ = true;
  if (eventfd_write(wake_.get(), 1) < 0) return fail_errno(errno, "waking the daemon");
  return {};
}

}  // namespace ctd
