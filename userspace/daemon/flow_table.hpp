// SPDX-License-Identifier: Apache-2.0
// Flows in the datapath: installed from translations, taken over from an earlier daemon, credited to their rules,
// evicted when room is needed. Not thread-safe.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include <ctd/abi/flow.h>

#include "daemon/api_backend.hpp"
#include "daemon/datapath.hpp"
#include "daemon/rule.hpp"
#include "daemon/rule_ports.hpp"
#include "daemon/translate.hpp"
#include "lib/result.hpp"

namespace ctd {

class FlowTable {
 public:
  explicit FlowTable(const Datapath& dp, PolicyNames policies = {});

  struct Adopted {
    std::size_t kept = 0;
    std::size_t removed = 0;  // the rules say otherwise now
  };
  // Takes over recirculation ids, side arguments and flows of an earlier daemon, checking each flow against the rules.
  Result<Adopted> adopt(const RuleSet& rules);

  // Translates a miss and publishes its flow. The packet may be given back once this returns.
  Result<> install(const RuleSet& rules, const ctd_flow_key& key);

  // Checks all flows against changed rules and removes those that are not right any more.
  Result<Adopted> revalidate(const RuleSet& rules);

  // Once a second: statistics to rules, masks into the order of their use, slots past their grace period freed.
  Result<> maintain();

  // Adds what the flows have counted since the last call to their rules.
  void credit_rules();

  std::size_t size() const { return flows_.size(); }
  std::vector<FlowInfo> dump(const PortNames& ports, u64 now_jiffies) const;

 private:
  struct Installed {
    u32 mask;
    u32 actions;  // list id
    u64 hash;
    u64 credited_packets = 0;
    u64 credited_bytes = 0;
    std::vector<RuleRef> rules;
  };
  struct Retired {
    u32 slot;
    std::chrono::steady_clock::time_point when;
  };

  Result<u32> mask_id(const ctd_key_words& mask);
  Result<u32> guard_id(const ctd_key_words& mask);
  Result<u32> actions_id(const std::vector<ctd_action>& actions);
  void unref_actions(u32 id);
  Result<u32> take_slot();
  Result<> publish_masks();
  Result<> remove(u32 slot);
  Result<> evict_idle();
  u64 hash_of(const ctd_mask& mask, const ctd_key_words& masked) const;
  Result<> adopt_side_tables();
  Result<> adopt_slot(u32 slot, const RuleSet& rules, Adopted& count);
  void credit(const ctd_flow& flow, Installed& installed);

  const Datapath& dp_;
  RecircTable recirc_;
  ArgsTable args_;
  std::unordered_map<u32, Installed> flows_;  // by slot
  std::map<std::string, u32> action_ids_;     // by content
  std::unordered_map<u32, std::vector<ctd_action>> lists_;
  std::unordered_map<u32, u32> list_refs_;
  std::deque<u32> free_slots_;
  std::deque<Retired> retired_;
  u32 guard_count_ = 1;
  u32 last_list_ = 0;
};

}  // namespace ctd
