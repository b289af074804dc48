// SPDX-License-Identifier: Apache-2.0
// The daemon's side of the control API. Called from the server's threads.
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

Result<uint64_t> Daemon::flush() { return CTD_TRY(dp_->flush()); }

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

Result<> Daemon::shutdown() {
  shutdown_ = true;
  if (eventfd_write(wake_.get(), 1) < 0) return fail_errno(errno, "waking the daemon");
  return {};
}

}  // namespace ctd
