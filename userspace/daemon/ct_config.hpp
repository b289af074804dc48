// SPDX-License-Identifier: Apache-2.0
// `conntrack` of the configuration: how connections are kept, by policy and zone.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include <ctd/abi/ct.h>
#include <nlohmann/json.hpp>

#include "lib/result.hpp"

namespace ctd {

// A timeout's name in the configuration and its place in struct ctd_ct_policy.
struct TimeoutPlace {
  std::string_view protocol;  // "tcp"
  std::string_view state;     // "established"
  u32 index;
};
std::span<const TimeoutPlace> timeout_places();

// What is said of a policy. The rest is the default policy's, and of that one ctd's own defaults.
struct CtPolicyConfig {
  std::optional<bool> like_linux;  // all timeouts of a preset, before those that are named
  std::map<u32, u32> timeouts_s;   // by place
  std::optional<bool> tcp_liberal;
  std::optional<bool> tcp_pickup;
  std::optional<u32> tcp_max_retrans;
};

struct CtZoneConfig {
  std::optional<u32> limit;  // 0: none; unset: the default limit
  std::string policy;        // empty: the default
};

struct CtConfig {
  CtPolicyConfig policy;  // the default
  std::map<std::string, CtPolicyConfig, std::less<>> policies;
  std::map<u16, CtZoneConfig> zones;
  u32 default_limit = 0;  // of zones that have none of their own; 0: none
};

// conntrack: a value that the schema allows. Errors begin with the JSON pointer of what is wrong.
Result<CtConfig> parse_ct_config(const nlohmann::json& conntrack);

// A policy as the datapath has it; `name` and what nobody says (zero) are left to the caller and to policy 0.
ctd_ct_policy make_policy(const CtPolicyConfig& config, const ctd_ct_policy& defaults);
// The default policy: complete.
ctd_ct_policy make_default_policy(const CtPolicyConfig& config);

}  // namespace ctd
