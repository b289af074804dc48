// SPDX-License-Identifier: Apache-2.0
#include "daemon/ct_config.hpp"

#include <algorithm>
#include <cctype>
#include <vector>

#include <ctd/abi/policy_defaults.h>
#include <fmt/ranges.h>

#include "daemon/config_check.hpp"
#include "daemon/rule_text.hpp"

namespace ctd {
namespace {

using nlohmann::json;

constexpr u32 default_max_retrans = 3;
constexpr u16 max_zone = 0xffff;

struct NamedPlace {
  std::string protocol;
  std::string state;
  u32 index;
};

std::string lower(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(), [](unsigned char c) { return std::tolower(c); });
  return result;
}

// The names are those of the ABI's lists, in lower case. NONE is nobody's state.
std::vector<NamedPlace> make_places() {
  std::vector<NamedPlace> places;
  const auto add = [&](std::string_view protocol, u32 base, std::initializer_list<std::string_view> states) {
    for (const std::string_view state : states) {
      if (state != "NONE") places.push_back({std::string(protocol), lower(state), base});
      ++base;
    }
  };
#define X(name, ...) #name,
  add("tcp", CTD_TIMEOUT_TCP, {CTD_TCP_STATES(X)});
  add("sctp", CTD_TIMEOUT_SCTP, {CTD_SCTP_STATES(X)});
  add("dccp", CTD_TIMEOUT_DCCP, {CTD_DCCP_STATES(X)});
#undef X
#define X(base, name, ...) add(#name, CTD_TIMEOUT_##base, {"UNREPLIED", "REPLIED"});
  CTD_OTHER_TIMEOUTS(X)
#undef X
  places.push_back({"tcp", "retrans", CTD_TIMEOUT_TCP_RETRANS});
  places.push_back({"tcp", "unacknowledged", CTD_TIMEOUT_TCP_UNACK});
  return places;
}

template <typename T>
std::optional<T> optional_of(const json& from, const char* key) {
  return from.contains(key) ? std::optional<T>(from.at(key).get<T>()) : std::nullopt;
}

CtPolicyConfig policy_of(const json& from) {
  CtPolicyConfig policy;
  policy.tcp_liberal = optional_of<bool>(from, "tcp_liberal");
  policy.tcp_pickup = optional_of<bool>(from, "tcp_pickup");
  policy.tcp_max_retrans = optional_of<u32>(from, "tcp_max_retrans");
  const json timeouts = from.value("timeouts", json::object());
  if (timeouts.contains("preset")) policy.like_linux = timeouts.at("preset") == "linux";
  for (const TimeoutPlace& place : timeout_places()) {
    const std::string protocol(place.protocol), state(place.state);
    if (timeouts.contains(protocol) && timeouts.at(protocol).contains(state))
      policy.timeouts_s[place.index] = timeouts.at(protocol).at(state).get<u32>();
  }
  return policy;
}

Result<> check_policy(const std::string& pointer, const std::string& name, const CtConfig& config) {
  if (name.empty() || config.policies.contains(name)) return {};
  if (config.policies.empty())
    return fail("{}: no policy {}: there are none in /conntrack/policies", pointer, brief_json(name));
  std::vector<std::string_view> known;
  for (const auto& [policy, unused] : config.policies) known.emplace_back(policy);
  return fail("{}: no policy {} (there are: {})", pointer, brief_json(name), fmt::join(known, ", "));
}

Result<> add_zone(const std::string& key, const json& from, CtConfig& config) {
  const std::string pointer = "/conntrack/zones/" + key;
  if (key == "default") {
    if (from.contains("policy"))
      return fail("{}/policy: the default policy is what /conntrack itself says (timeouts, tcp_liberal, …)", pointer);
    config.default_limit = from.value("limit", 0u);
    return {};
  }
  const auto number = parse_number(key, max_zone);
  if (!number) return fail("{}: must be a zone from 0 to {}, or default", pointer, max_zone);
  CtZoneConfig zone{.limit = optional_of<u32>(from, "limit"), .policy = from.value("policy", std::string())};
  CTD_TRY(check_policy(pointer + "/policy", zone.policy, config));
  if (!config.zones.emplace(static_cast<u16>(*number), std::move(zone)).second)
    return fail("{}: the zone is given twice", pointer);
  return {};
}

void set_flag(u32& flags, u32 flag, std::optional<bool> on) {
  if (on) flags = *on ? flags | flag : flags & ~flag;
}

void set_rest(ctd_ct_policy& policy, const CtPolicyConfig& config) {
  for (const auto& [index, seconds] : config.timeouts_s) policy.timeout_s[index] = seconds;
  set_flag(policy.flags, CTD_CTP_LIBERAL, config.tcp_liberal);
  if (config.tcp_pickup) set_flag(policy.flags, CTD_CTP_NO_PICKUP, !*config.tcp_pickup);
  if (config.tcp_max_retrans) policy.tcp_max_retrans = *config.tcp_max_retrans;
}

}  // namespace

std::span<const TimeoutPlace> timeout_places() {
  static const std::vector<NamedPlace> named = make_places();
  static const std::vector<TimeoutPlace> places = [] {
    std::vector<TimeoutPlace> views;
    for (const NamedPlace& place : named) views.push_back({place.protocol, place.state, place.index});
    return views;
  }();
  return places;
}

Result<CtConfig> parse_ct_config(const json& conntrack) {
  CtConfig config;
  config.policy = policy_of(conntrack);
  const json policies = conntrack.value("policies", json::object());
  for (const auto& [name, policy] : policies.items()) {
    if (name == "default")
      return fail("/conntrack/policies/default: that is what /conntrack itself says; use another name");
    config.policies.emplace(name, policy_of(policy));
  }
  const json zones = conntrack.value("zones", json::object());
  for (const auto& [zone, settings] : zones.items()) CTD_TRY(add_zone(zone, settings, config));
  return config;
}

ctd_ct_policy make_default_policy(const CtPolicyConfig& config) {
  ctd_ct_policy policy{};
  ctd_ct_policy_defaults(&policy, config.like_linux.value_or(false));
  policy.tcp_max_retrans = default_max_retrans;
  set_rest(policy, config);
  return policy;
}

ctd_ct_policy make_policy(const CtPolicyConfig& config, const ctd_ct_policy& defaults) {
  ctd_ct_policy policy{};
  if (config.like_linux) ctd_ct_policy_defaults(&policy, *config.like_linux);
  policy.flags = defaults.flags;
  policy.tcp_max_retrans = defaults.tcp_max_retrans;
  set_rest(policy, config);
  return policy;
}

}  // namespace ctd
