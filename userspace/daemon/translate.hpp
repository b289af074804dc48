// SPDX-License-Identifier: Apache-2.0
// Translation of a miss: the rules, run for one packet, become a flow for all packets that they treat alike.
#pragma once

#include <optional>
#include <vector>

#include <ctd/abi/action.h>
#include <ctd/abi/cache.h>
#include <ctd/abi/key.h>

#include "daemon/rule.hpp"
#include "daemon/translate_intern.hpp"
#include "daemon/translate_recirc.hpp"
#include "lib/result.hpp"

namespace ctd {

// Side arguments of actions: maps `ct_nat_args`, `ct_label_args` and `ct_policies`.
struct ArgsTable {
  InternTable<ctd_nat_args> nat;
  InternTable<ctd_label_args> labels;
  PolicyNames policies = {};
};

struct Flow {
  ctd_key_words mask{};
  // At most CTD_MAX_ACTIONS; empty: drop (CTD_DROP_POLICY). Ids are final. Output, stack, route and recirculation take
  // the packet away; where the list goes on after one, it is the single action of a CTD_ACT_CLONE.
  std::vector<ctd_action> actions;
  std::vector<RuleRef> rules;  // that it went through, to be credited; a rule may stand more than once

  ctd_key_words masked(const ctd_key_words& key) const;
};

// Ids of the recirculations that a list of actions names, each once: what RecircTable counts.
std::vector<u32> recirc_ids(const std::vector<ctd_action>& actions);

// Fails if key.recirc_id is unknown, the actions need more than CTD_MAX_ACTIONS slots, resubmits nest too deeply, or
// an id cannot be had.
//
// known: bits that the flow's mask has anyway, null for the least. With the mask of an installed flow and its masked
// key, the flow is still right if the result has the same mask and actions (still_right()).
Result<Flow> translate(const RuleSet& rules, const ctd_flow_key& key, RecircTable& recirc, ArgsTable& args,
                       const ctd_key_words* known = nullptr);

// Whether an installed flow (masked key, mask, actions) does what the rules say for every packet that it matches: for
// a daemon that takes over flows, and after a change of rules. An error of translation means no.
bool still_right(const RuleSet& rules, const ctd_key_words& masked_key, const ctd_key_words& mask,
                 const std::vector<ctd_action>& actions, RecircTable& recirc, ArgsTable& args);

// The zone of the first ct() that an untagged, unfragmented unicast IP packet (family: enum ctd_family) of a port can
// meet, if there is only one; what the port publishes for the verdict cache.
std::optional<u16> fast_zone(const RuleSet& rules, u32 in_port, ctd_family family);

}  // namespace ctd
