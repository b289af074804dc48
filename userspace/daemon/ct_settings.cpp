// SPDX-License-Identifier: Apache-2.0
#include "daemon/ct_settings.hpp"

#include <algorithm>
#include <cstring>

namespace ctd {
namespace {

Result<std::vector<std::string>> names_in(const Datapath& dp) {
  std::vector<std::string> names(CTD_MAX_CT_POLICIES);
  names[0] = kDefaultPolicy;
  for (u32 id = 1; id < names.size(); ++id) {
    const auto policy = CTD_TRY((map_get<u32, ctd_ct_policy>(dp, "ct_policies", id)));
    names[id] = std::string(policy.name, strnlen(policy.name, sizeof(policy.name)));
  }
  return names;
}

void set_name(ctd_ct_policy& policy, const std::string& name) {
  name.copy(policy.name, sizeof(policy.name) - 1);  // the schema bounds it
}

template <typename T>
void store(T& where, T value) {
  __atomic_store_n(&where, value, __ATOMIC_RELAXED);
}

}  // namespace

Result<PolicyNames> assign_policy_ids(const CtConfig& config, std::span<const std::string> known) {
  PolicyNames ids;
  std::vector<u16> free, retired;
  for (u16 id = 1; id < known.size(); ++id) {
    if (known[id].empty())
      free.push_back(id);
    else if (!config.policies.contains(known[id]))
      retired.push_back(id);
    else
      ids.emplace(known[id], id);
  }
  free.insert(free.end(), retired.begin(), retired.end());
  auto next = free.begin();
  for (const auto& [name, unused] : config.policies) {
    if (ids.contains(name)) continue;
    if (next == free.end()) return fail("/conntrack/policies: more than {} policies", known.size() - 1);
    ids.emplace(name, *next++);
  }
  return ids;
}

CtSettings::CtSettings(const Datapath& dp, const CtConfig& config) : dp_(dp), default_limit_(config.default_limit) {
  for (const auto& [zone, settings] : config.zones) {
    if (settings.limit) limits_.emplace(zone, *settings.limit);
  }
}

Result<CtSettings> CtSettings::apply(const Datapath& dp, const CtConfig& config) {
  CtSettings settings(dp, config);
  settings.policies_ = CTD_TRY(assign_policy_ids(config, CTD_TRY(names_in(dp))));
  CTD_TRY(settings.write_policies(config));
  settings.policy_names_ = ConnPolicies(CTD_TRY(names_in(dp)));
  settings.write_zones(config);
  return settings;
}

Result<> CtSettings::write_policies(const CtConfig& config) const {
  const ctd_ct_policy defaults = make_default_policy(config.policy);
  CTD_TRY(map_set(dp_, "ct_policies", u32{0}, defaults));
  for (const auto& [name, id] : policies_) {
    ctd_ct_policy policy = make_policy(config.policies.find(name)->second, defaults);
    set_name(policy, name);
    CTD_TRY(map_set(dp_, "ct_policies", u32{id}, policy));
  }
  return {};
}

void CtSettings::write_zones(const CtConfig& config) const {
  const auto zones = dp_.zones();
  for (u32 number = 0; number < zones.size(); ++number) {
    const auto zone = config.zones.find(static_cast<u16>(number));
    const auto policy = zone == config.zones.end() ? policies_.end() : policies_.find(zone->second.policy);
    store(zones[number].policy, policy == policies_.end() ? u16{0} : policy->second);
    write_limit(number);
  }
}

void CtSettings::write_limit(u32 zone) const {
  const auto own = limits_.find(static_cast<u16>(zone));
  store(dp_.zones()[zone].limit, own == limits_.end() ? default_limit_ : own->second);
}

void CtSettings::set_limit(std::optional<u16> zone, u32 limit) {
  if (zone) {
    limits_[*zone] = limit;
    write_limit(*zone);
    return;
  }
  default_limit_ = limit;
  for (u32 number = 0; number < dp_.zones().size(); ++number) write_limit(number);
}

void CtSettings::delete_limit(std::optional<u16> zone) {
  if (!zone) return set_limit(zone, 0);
  limits_.erase(*zone);
  write_limit(*zone);
}

ZoneTable CtSettings::zones() const {
  ZoneTable table{.default_limit = default_limit_, .zones = {}};
  const auto zones = dp_.zones();
  for (u32 number = 0; number < zones.size(); ++number) {
    const s32 count = __atomic_load_n(&zones[number].count, __ATOMIC_RELAXED);
    const bool own_limit = limits_.contains(static_cast<u16>(number));
    if (!count && !own_limit && !zones[number].policy) continue;
    const auto policy = std::find_if(policies_.begin(), policies_.end(),
                                     [&](const auto& known) { return known.second == zones[number].policy; });
    // A connection may be counted out by one CPU before the one that counted it in is seen here.
    table.zones.push_back({.zone = number,
                           .limit = zones[number].limit,
                           .own_limit = own_limit,
                           .count = static_cast<u32>(std::max(count, 0)),
                           .policy = policy == policies_.end() ? kDefaultPolicy : policy->first});
  }
  return table;
}

Result<std::vector<PolicyInfo>> CtSettings::policy_list() const {
  const auto defaults = CTD_TRY((map_get<u32, ctd_ct_policy>(dp_, "ct_policies", 0)));
  std::vector<PolicyInfo> list{{kDefaultPolicy, defaults}};
  for (const auto& [name, id] : policies_) {
    auto policy = CTD_TRY((map_get<u32, ctd_ct_policy>(dp_, "ct_policies", id)));
    for (u32 place = 0; place < CTD_TIMEOUT_COUNT; ++place) {
      if (!policy.timeout_s[place]) policy.timeout_s[place] = defaults.timeout_s[place];
    }
    list.push_back({name, policy});
  }
  return list;
}

}  // namespace ctd
