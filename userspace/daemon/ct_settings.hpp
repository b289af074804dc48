// SPDX-License-Identifier: Apache-2.0
// Policies and zones in force: written from the configuration at each start; limits also at run time. Not thread-safe.
#pragma once

#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "daemon/api_backend.hpp"
#include "daemon/ct_config.hpp"
#include "daemon/datapath.hpp"
#include "daemon/rule.hpp"
#include "lib/conn_policies.hpp"
#include "lib/result.hpp"

namespace ctd {

// Ids for the policies of a configuration, 1 to CTD_MAX_CT_POLICIES - 1. known: the names of the datapath's policies by
// id, empty where there is none. A name keeps its id, for connections and flows have it; a name that is not configured
// any more gives its id up only when no other is free.
Result<PolicyNames> assign_policy_ids(const CtConfig& config, std::span<const std::string> known);

class CtSettings {
 public:
  // Writes the configuration's policies and zones. Limits that were set at run time are the configuration's again.
  static Result<CtSettings> apply(const Datapath& dp, const CtConfig& config);

  const PolicyNames& policies() const { return policies_; }

  // Zones that have connections, or a limit or policy of their own.
  ZoneTable zones() const;
  // The default first. Complete: what a policy does not say is filled in.
  Result<std::vector<PolicyInfo>> policy_list() const;

  // By id, those that are not configured any more included.
  const ConnPolicies& policy_names() const { return policy_names_; }

  // zone: none for the default limit. limit: 0 for none.
  void set_limit(std::optional<u16> zone, u32 limit);
  // Back to the default limit, or to no default limit.
  void delete_limit(std::optional<u16> zone);

 private:
  CtSettings(const Datapath& dp, const CtConfig& config);
  Result<> write_policies(const CtConfig& config) const;
  void write_zones(const CtConfig& config) const;
  void write_limit(u32 zone) const;

  const Datapath& dp_;
  PolicyNames policies_;
  ConnPolicies policy_names_;
  u32 default_limit_ = 0;
  std::map<u16, u32> limits_;  // of zones that have one of their own
};

}  // namespace ctd
