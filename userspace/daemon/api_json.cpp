// SPDX-License-Identifier: Apache-2.0
#include "daemon/api_json.hpp"

#include "daemon/ct_config.hpp"
#include "lib/addr.hpp"
#include "lib/names.hpp"

namespace ctd {
namespace {

using Json = nlohmann::ordered_json;

const char* rpf_name(u32 flags) {
  if (flags & CTD_PORT_RPF_STRICT) return "strict";
  return flags & CTD_PORT_RPF_LOOSE ? "loose" : "off";
}

Json port_json(const PortInfo& info) {
  const ctd_port& port = info.port;
  Json json{{"port", port.number},
            {"name", info.name},
            {"ifindex", port.ifindex},
            {"mode", port.flags & CTD_PORT_ROUTED ? "routed" : "switched"},
            {"mtu", port.mtu}};
  if (!(port.flags & CTD_PORT_L3)) json["mac"] = mac_text(port.mac);
  Json addresses = Json::array();
  if (port.addr4) {
    ctd_addr address{};
    address.v4 = port.addr4;
    addresses.push_back(address_text(address, CTD_IPV4));
  }
  for (const ctd_addr& address : {port.addr6, port.addr6_ll})
    if (!is_zero(address)) addresses.push_back(address_text(address, CTD_IPV6));
  json["addresses"] = std::move(addresses);
  json["forwarding"] = {{"ipv4", (port.flags & CTD_PORT_FORWARD4) != 0},
                        {"ipv6", (port.flags & CTD_PORT_FORWARD6) != 0}};
  json["rpfilter"] = rpf_name(port.flags);
  return json;
}

void add(ctd_port_stats& sum, const ctd_port_stats& port) {
  sum.rx_packets += port.rx_packets;
  sum.rx_bytes += port.rx_bytes;
  sum.tx_packets += port.tx_packets;
  sum.tx_bytes += port.tx_bytes;
  for (std::size_t i = 0; i < CTD_COUNT_MAX; ++i) sum.count[i] += port.count[i];
  for (std::size_t i = 0; i < CTD_DROP_MAX; ++i) sum.drop[i] += port.drop[i];
}

void put_counts(Json& json, const ctd_port_stats& stats) {
  json["rx_packets"] = stats.rx_packets;
  json["rx_bytes"] = stats.rx_bytes;
  json["tx_packets"] = stats.tx_packets;
  json["tx_bytes"] = stats.tx_bytes;
  Json& events = json["counters"] = Json::object();
  for (std::size_t i = 0; i < counters().size(); ++i) events[std::string(counters()[i].name)] = stats.count[i];
  Json& drops = json["drops"] = Json::object();
  for (std::size_t i = CTD_DROP_NONE + 1; i < drop_reasons().size(); ++i)
    drops[std::string(drop_reasons()[i].name)] = stats.drop[i];
}

}  // namespace

Json flows_json(std::span<const FlowInfo> flows) {
  Json array = Json::array();
  for (const FlowInfo& flow : flows) {
    Json json{{"key", flow.key}, {"actions", flow.actions}, {"packets", flow.packets}, {"bytes", flow.bytes}};
    json["used_s"] = flow.used_s ? Json(*flow.used_s) : Json();
    json["mask"] = flow.mask;
    array.push_back(std::move(json));
  }
  return array;
}

Json rules_json(std::span<const RuleInfo> rules) {
  Json array = Json::array();
  for (const RuleInfo& rule : rules)
    array.push_back({{"text", rule.text},
                     {"cookie", fmt::format("{:#x}", rule.cookie)},
                     {"n_packets", rule.packets},
                     {"n_bytes", rule.bytes}});
  return array;
}

Json ports_json(std::span<const PortInfo> ports) {
  Json array = Json::array();
  for (const PortInfo& port : ports) array.push_back(port_json(port));
  return array;
}

Json zones_json(const ZoneTable& table) {
  Json array = Json::array();
  for (const ZoneInfo& zone : table.zones)
    array.push_back({{"zone", zone.zone},
                     {"limit", zone.limit},
                     {"own_limit", zone.own_limit},
                     {"count", zone.count},
                     {"policy", zone.policy}});
  return {{"default_limit", table.default_limit}, {"zones", std::move(array)}};
}

Json policies_json(std::span<const PolicyInfo> policies) {
  Json array = Json::array();
  for (const auto& [name, policy] : policies) {
    Json timeouts = Json::object();
    for (const TimeoutPlace& place : timeout_places())
      timeouts[std::string(place.protocol)][std::string(place.state)] = policy.timeout_s[place.index];
    array.push_back({{"name", name},
                     {"tcp_liberal", (policy.flags & CTD_CTP_LIBERAL) != 0},
                     {"tcp_pickup", (policy.flags & CTD_CTP_NO_PICKUP) == 0},
                     {"tcp_max_retrans", policy.tcp_max_retrans},
                     {"timeouts", std::move(timeouts)}});
  }
  return array;
}

Json stats_json(std::span<const PortStats> ports, const std::array<uint64_t, CTD_CLASS_COUNT>& connections) {
  Json array = Json::array();
  ctd_port_stats sum{};
  for (const PortStats& port : ports) {
    Json json{{"port", port.number}, {"name", port.name}};
    put_counts(json, port.total);
    array.push_back(std::move(json));
    add(sum, port.total);
  }
  Json total = Json::object();
  put_counts(total, sum);
  Json classes = Json::object();
  for (std::size_t i = 0; i < connections.size(); ++i)
    classes[std::string(conn_class_name(static_cast<ctd_conn_class>(i)))] = connections[i];
  return {{"ports", std::move(array)}, {"total", std::move(total)}, {"connections", std::move(classes)}};
}

}  // namespace ctd
