// SPDX-License-Identifier: Apache-2.0
// Which zone a port publishes for the verdict cache.
#include <algorithm>
#include <set>

#include <arpa/inet.h>
#include <linux/if_ether.h>

#include "daemon/translate.hpp"

namespace ctd {
namespace {

// What is known of the packets in question, as a match.
Match plain_packets(u32 in_port, ctd_family family) {
  Match plain;
  const auto set = [&](auto ctd_flow_key::* field, auto value) {
    plain.value.key.*field = value;
    plain.mask.key.*field = static_cast<decltype(value)>(~decltype(value){});
  };
  set(&ctd_flow_key::in_port, in_port);
  set(&ctd_flow_key::recirc_id, u32{0});
  set(&ctd_flow_key::eth_type, be16{htons(family == CTD_IPV4 ? ETH_P_IP : ETH_P_IPV6)});
  set(&ctd_flow_key::frag, u8{CTD_FRAG_NO});
  set(&ctd_flow_key::vlan_tci, be16{0});
  set(&ctd_flow_key::ct_state, u8{0});
  set(&ctd_flow_key::ct_zone, u16{0});
  set(&ctd_flow_key::ct_mark, u32{0});
  plain.mask.key.eth_dst[0] = 0x01;  // unicast
  return plain;
}

bool overlap(const Match& a, const Match& b) {
  for (unsigned i = 0; i < CTD_KEY_WORDS; ++i) {
    if ((a.value.w[i] ^ b.value.w[i]) & a.mask.w[i] & b.mask.w[i]) return false;
  }
  return true;
}

// The packets of both; they overlap.
Match both(const Match& a, const Match& b) {
  Match match;
  for (unsigned i = 0; i < CTD_KEY_WORDS; ++i) {
    match.value.w[i] = a.value.w[i] | b.value.w[i];
    match.mask.w[i] = a.mask.w[i] | b.mask.w[i];
  }
  return match;
}

class ZoneSearch {
 public:
  explicit ZoneSearch(const RuleSet& rules) : rules_(rules) {}

  // Every zone that a packet of `packets` can meet first in a table; false if a packet may meet ct() later than that.
  bool collect(u8 table, const Match& packets, int depth = 0) {
    constexpr int enough = 8;  // real pipelines are shallow; whatever is deeper gets no fast path
    if (depth > enough) return false;
    std::vector<Match> above;
    for (const RuleRef& entry : rules_.table(table)) {
      const Rule& rule = entry->rule;
      if (!overlap(rule.match, packets)) continue;
      const Match here = both(rule.match, packets);
      const auto covers = [&](const Match& other) { return other.covers(here); };
      if (std::any_of(above.begin(), above.end(), covers)) continue;
      if (!collect(rule, here, depth)) return false;
      above.push_back(rule.match);
    }
    return true;
  }

  const std::set<u16>& zones() const { return zones_; }

 private:
  static bool tracks_or_jumps(const Action& action) {
    return !std::holds_alternative<action::Output>(action) && !std::holds_alternative<action::Stack>(action) &&
           !std::holds_alternative<action::CtClear>(action);
  }

  bool collect(const Rule& rule, const Match& packets, int depth) {
    if (rule.actions.empty()) return true;
    const Action& first = rule.actions.front();
    if (const auto* ct = std::get_if<action::Ct>(&first)) {
      if (ct->zone_field) return false;
      zones_.insert(ct->zone);
      return true;
    }
    if (const auto* next = std::get_if<action::Goto>(&first)) return collect(next->table, packets, depth + 1);
    if (rule.actions.size() == 1) {
      if (const auto* next = std::get_if<action::Resubmit>(&first)) return collect(next->table, packets, depth + 1);
      const auto* route = std::get_if<action::Route>(&first);
      return !(route && route->table);
    }
    return std::none_of(rule.actions.begin(), rule.actions.end(), tracks_or_jumps);
  }

  const RuleSet& rules_;
  std::set<u16> zones_;
};

}  // namespace

std::optional<u16> fast_zone(const RuleSet& rules, u32 in_port, ctd_family family) {
  ZoneSearch search(rules);
  if (!search.collect(0, plain_packets(in_port, family)) || search.zones().size() != 1) return std::nullopt;
  return *search.zones().begin();
}

}  // namespace ctd
