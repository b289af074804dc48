// SPDX-License-Identifier: Apache-2.0
#include "daemon/policy.hpp"

#include "daemon/rule_ports.hpp"

namespace ctd {
namespace {

// What each table of the gateway decides.
enum GatewayTable : unsigned {
  admit = 0,        // what is the host's alone, and what is tracked
  state = 1,        // by the state of the connection
  initiators = 2,   // who may open a connection
  translation = 3,  // to where, and with which source address
  leaving = 4,      // what is masqueraded never leaves with an inside address
};

class GatewayRules {
 public:
  // gateway: with names as rules write them (PortNames::text_of).
  explicit GatewayRules(const GatewayConfig& gateway) : gateway_(gateway) {}

  std::vector<std::string> build() {
    add_admission();
    add_states();
    add_initiators();
    add_translation();
    add_leaving();
    return std::move(texts_);
  }

 private:
  void add(GatewayTable table, unsigned priority, std::string_view match, std::string_view actions) {
    texts_.push_back(fmt::format("cookie={:#x},table={},priority={}{}{} actions={}",
                                 static_cast<u64>(PolicyCookie::gateway), static_cast<unsigned>(table), priority,
                                 match.empty() ? "" : ",", match, actions));
  }

  void add_admission() {
    // Tagged frames belong to the host's VLAN devices. Before the others: their eth_type is that of the payload.
    add(admit, 200, "vlan_tci=0x1000/0x1000", "stack");
    add(admit, 190, "arp", "stack");
    // Broadcast and multicast: DHCP, IGMP, MLD, ND, mDNS. Never tracked, never forwarded. The address rules are for
    // devices without Ethernet header; 224.0.0.0/3 also has the limited broadcast and the reserved addresses.
    add(admit, 180, "dl_dst=01:00:00:00:00:00/01:00:00:00:00:00", "stack");
    add(admit, 170, "ip,nw_dst=224.0.0.0/3", "stack");
    add(admit, 170, "ipv6,ipv6_dst=ff00::/8", "stack");
    // Link-local traffic never leaves its link: DHCPv6, router and most neighbour discovery.
    add(admit, 160, "ipv6,ipv6_dst=fe80::/10", "stack");
    add(admit, 160, "ipv6,ipv6_src=fe80::/10", "stack");
    // Neighbours confirm each other with global addresses as well.
    add(admit, 150, "icmp6,icmp_type=135", "stack");
    add(admit, 150, "icmp6,icmp_type=136", "stack");
    add(admit, 100, "ip", fmt::format("ct(table={},zone=0,nat)", static_cast<unsigned>(state)));
    add(admit, 100, "ipv6", fmt::format("ct(table={},zone=0,nat)", static_cast<unsigned>(state)));
    // Other protocols are the host's: LLDP, spanning tree, PPPoE.
    add(admit, 0, "", "stack");
  }

  // The families whose inside addresses never leave.
  std::vector<std::string_view> masqueraded() const {
    std::vector<std::string_view> families;
    if (gateway_.masquerade) families.push_back("ip");
    if (gateway_.masquerade6) families.push_back("ipv6");
    return families;
  }

  void add_states() {
    const std::string to_leaving = fmt::format("route(table={})", static_cast<unsigned>(leaving));
    for (const std::string_view family : masqueraded()) {
      for (const std::string& inside : gateway_.inside) {
        add(state, 110, fmt::format("{},ct_state=+est+trk,in_port={}", family, inside), to_leaving);
        add(state, 110, fmt::format("{},ct_state=-new+rel+trk,in_port={}", family, inside), to_leaving);
      }
    }
    add(state, 100, "ct_state=+est+trk", "route");
    add(state, 100, "ct_state=-new+rel+trk", "route");
    // What the host itself says about packets that were not tracked.
    add(state, 95, "ct_state=+inv+trk,in_port=LOCAL", "route");
    add(state, 90, "ct_state=+inv+trk", "drop");
    add(state, 80, "ct_state=+new+trk", fmt::format("route(table={})", static_cast<unsigned>(initiators)));
  }

  void add_initiators() {
    const std::string next = fmt::format("goto_table:{}", static_cast<unsigned>(translation));
    for (const std::string& inside : gateway_.inside) add(initiators, 100, "in_port=" + inside, next);
    add(initiators, 100, "in_port=LOCAL", next);
    // From anywhere: what a connection has announced, and the host's own services.
    add(initiators, 95, "ct_state=+rel+trk", keep);
    add(initiators, 90, "out_port=LOCAL", keep);
    add(initiators, 0, "", "drop");
  }

  void add_translation() {
    const std::string outside = "out_port=" + gateway_.outside;
    // The host's own connections have no inside address, unless a program bound one.
    for (const std::string_view family : masqueraded()) {
      add(translation, 110, fmt::format("{},in_port=LOCAL,{}", family, outside), masquerade + ",route");
    }
    const std::string guarded =
        fmt::format("ct(commit,table={},zone=0,nat(src=masquerade))", static_cast<unsigned>(leaving));
    add(translation, 100, "ip," + outside, gateway_.masquerade ? guarded : keep);
    add(translation, 100, "ipv6," + outside, gateway_.masquerade6 ? guarded : keep);
    for (const std::string& inside : gateway_.inside) add(translation, 90, "out_port=" + inside, keep);
    add(translation, 90, "out_port=LOCAL", keep);
    add(translation, 80, "in_port=LOCAL", keep);
    add(translation, 0, "", "drop");
  }

  // Connections that were made before masquerade was switched on, or between inside ports before a route changed, have
  // no mapping: they do not leave.
  void add_leaving() {
    if (masqueraded().empty()) return;
    for (const std::string_view family : masqueraded()) {
      add(leaving, 100, fmt::format("{},ct_state=-snat+trk,out_port={}", family, gateway_.outside), "drop");
    }
    add(leaving, 0, "", "route");
  }

  // The null mapping keeps addresses and resolves collisions with ports that translated connections have.
  const std::string keep = "ct(commit,zone=0,nat(null)),route";
  const std::string masquerade = "ct(commit,zone=0,nat(src=masquerade))";

  const GatewayConfig& gateway_;
  std::vector<std::string> texts_;
};

}  // namespace

std::vector<std::string> gateway_rules(const GatewayConfig& gateway) {
  GatewayConfig written = gateway;
  for (std::string& name : written.inside) name = PortNames::text_of(name);
  written.outside = PortNames::text_of(gateway.outside);
  return GatewayRules(written).build();
}

Result<RuleSet> compile_policies(const Config& config, const PortNames& ports, const PolicyNames& policies) {
  RuleSet rules;
  for (const std::string& text : gateway_rules(config.gateway))
    rules.add(CTD_TRY(parse_rule(text, ports, policies).context("policy \"gateway\"")));
  return rules;
}

}  // namespace ctd
