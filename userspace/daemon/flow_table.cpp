// SPDX-License-Identifier: Apache-2.0
#include "daemon/flow_table.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include <bpf/bpf.h>
#include <ctd/abi/cache.h>
#include <spdlog/spdlog.h>

#include "daemon/flow_format.hpp"
#include "lib/time.hpp"

namespace ctd {
namespace {

constexpr u32 kMaxActionLists = 1024;  // entries of map flow_actions
constexpr u32 kMaxArgs = 1023;         // ids of ct_nat_args and ct_label_args
// No program runs longer than this, so nobody can still hold what was unpublished before.
constexpr std::chrono::milliseconds kGrace{100};
// When the table is full, this part of it makes room, longest unused first.
constexpr std::size_t kEvictShare = 16;

// The map update that publishes an entry of a side table.
template <typename T>
typename InternTable<T>::Publish publisher(const Datapath& dp, const char* map) {
  return [&dp, map](u32 id, const T& value) { return map_set(dp, map, id, value); };
}

std::string bytes_of(const std::vector<ctd_action>& actions) {
  return std::string(reinterpret_cast<const char*>(actions.data()), actions.size() * sizeof(ctd_action));
}

bool is_zero(const ctd_key_words& words) {
  return std::all_of(std::begin(words.w), std::end(words.w), [](u64 word) { return word == 0; });
}

template <typename T>
void store_release(T& where, T value) {
  __atomic_store_n(&where, value, __ATOMIC_RELEASE);
}

}  // namespace

FlowTable::FlowTable(const Datapath& dp, PolicyNames policies)
    : dp_(dp),
      recirc_(publisher<ctd_frozen>(dp, "recirc_states")),
      args_{InternTable<ctd_nat_args>("NAT argument", kMaxArgs, publisher<ctd_nat_args>(dp, "ct_nat_args")),
            InternTable<ctd_label_args>("label argument", kMaxArgs, publisher<ctd_label_args>(dp, "ct_label_args")),
            std::move(policies)} {
  for (u32 slot = 1; slot < dp.flows().size(); slot++) free_slots_.push_back(slot);
}

u64 FlowTable::hash_of(const ctd_mask& mask, const ctd_key_words& masked) const {
  u64 h = dp_.meta().seed;
  for (u32 i = 0; i < mask.words; i++) h = ctd_hash_step(h, masked.w[mask.word[i]]);
  return ctd_hash_end(h);
}

Result<u32> FlowTable::guard_id(const ctd_key_words& mask) {
  ctd_key_words rest = mask;
  ctd_flow_key& key = rest.key;
  // Covered by the tuple, by the connection's own state, by the version, or by every guard.
  key.in_port = key.recirc_id = key.out_port = 0;
  key.ct_zone = 0;
  key.ct_state = key.ct_orig_proto = 0;
  key.ct_mark = 0;
  std::memset(key.ct_label, 0, sizeof(key.ct_label));
  key.ct_orig_src = key.ct_orig_dst = key.ip_src = key.ip_dst = {};
  key.ct_orig_sport = key.ct_orig_dport = key.sport = key.dport = 0;
  key.eth_type = key.vlan_tpid = key.vlan_tci = 0;
  key.frag = key.packet_type = key.ip_proto = 0;
  std::memset(key.eth_dst, 0, sizeof(key.eth_dst));
  if (is_zero(rest)) return 0;

  ctd_guard guard = CTD_TRY(map_get<u32, ctd_guard>(dp_, "guard_masks", 0));
  guard.pkt_mark = key.pkt_mark;
  std::memcpy(guard.eth_src, key.eth_src, sizeof(guard.eth_src));
  guard.ip_tos = key.ip_tos;
  key.pkt_mark = 0;
  std::memset(key.eth_src, 0, sizeof(key.eth_src));
  key.ip_tos = 0;
  if (!is_zero(rest)) return CTD_GUARD_NONE;
  for (u32 id = 0; id < guard_count_; id++) {
    const ctd_guard known = CTD_TRY(map_get<u32, ctd_guard>(dp_, "guard_masks", id));
    if (std::memcmp(&known, &guard, sizeof(guard)) == 0) return id;
  }
  if (guard_count_ >= CTD_MAX_GUARD_MASKS) return CTD_GUARD_NONE;
  CTD_TRY(map_set(dp_, "guard_masks", guard_count_, guard));
  return guard_count_++;
}

Result<u32> FlowTable::mask_id(const ctd_key_words& words) {
  const auto masks = dp_.masks();
  u32 unused = CTD_MAX_MASKS;
  for (u32 id = 0; id < masks.size(); id++) {
    if (!masks[id].flows) {
      if (unused == CTD_MAX_MASKS) unused = id;
    } else if (std::memcmp(&masks[id].mask, &words, sizeof(words)) == 0) {
      return id;
    }
  }
  if (unused == CTD_MAX_MASKS) return fail("no mask left: all {} are in use", CTD_MAX_MASKS);
  ctd_mask mask{};
  mask.mask = words;
  for (u32 i = 0; i < CTD_KEY_WORDS; i++) {
    if (words.w[i]) mask.word[mask.words++] = static_cast<u8>(i);
  }
  mask.guard = CTD_TRY(guard_id(words));
  masks[unused] = mask;
  return unused;
}

Result<> FlowTable::publish_masks() {
  const auto masks = dp_.masks();
  ctd_mask_list list{};
  for (u32 id = 0; id < masks.size(); id++) {
    if (masks[id].flows) list.id[list.count++] = static_cast<u8>(id);
  }
  std::stable_sort(list.id, list.id + list.count, [&](u8 a, u8 b) { return masks[a].hits > masks[b].hits; });
  const u32 next = 1 - (dp_.rt()->mask_list & 1);
  CTD_TRY(map_set(dp_, "flow_mask_list", next, list));
  store_release(dp_.rt()->mask_list, next);
  return {};
}

Result<u32> FlowTable::actions_id(const std::vector<ctd_action>& actions) {
  const std::string content = bytes_of(actions);
  const auto known = action_ids_.find(content);
  if (known != action_ids_.end()) {
    list_refs_[known->second]++;
    return known->second;
  }
  // Upwards from the last one: a program in flight may still read a list that was given up just now.
  for (u32 tries = 1; tries < kMaxActionLists; tries++) {
    const u32 id = last_list_ % (kMaxActionLists - 1) + 1;
    last_list_ = id;
    if (lists_.contains(id)) continue;
    ctd_action_list list{};
    list.count = static_cast<u32>(actions.size());
    std::copy(actions.begin(), actions.end(), list.slot);
    CTD_TRY(map_set(dp_, "flow_actions", id, list));
    action_ids_.emplace(content, id);
    lists_.emplace(id, actions);
    list_refs_[id] = 1;
    for (const u32 recirc : recirc_ids(actions)) recirc_.ref(recirc);
    return id;
  }
  return fail("no action list left: all {} are in use", kMaxActionLists - 1);
}

void FlowTable::unref_actions(u32 id) {
  if (--list_refs_[id]) return;
  for (const u32 recirc : recirc_ids(lists_.at(id))) recirc_.unref(recirc);
  action_ids_.erase(bytes_of(lists_.at(id)));
  lists_.erase(id);
  list_refs_.erase(id);
}

Result<u32> FlowTable::take_slot() {
  if (free_slots_.empty()) CTD_TRY(evict_idle());
  if (free_slots_.empty()) return fail("the flow table is full: {} flows", flows_.size());
  const u32 slot = free_slots_.front();
  free_slots_.pop_front();
  return slot;
}

Result<> FlowTable::install(const RuleSet& rules, const ctd_flow_key& key) {
  const Flow flow = CTD_TRY(translate(rules, key, recirc_, args_));
  ctd_key_words words{};
  words.key = key;
  const ctd_key_words masked = flow.masked(words);
  const u32 mask = CTD_TRY(mask_id(flow.mask));
  ctd_mask& entry = dp_.masks()[mask];
  const u64 hash = hash_of(entry, masked);

  // Several packets of one flow may have missed before the first was translated.
  const ctd_flow_ref_key index{.hash = hash, .mask = mask, .pad = 0};
  ctd_flow_ref ref{};
  if (bpf_map_lookup_elem(dp_.map("flow_index"), &index, &ref) == 0) {
    if (std::memcmp(&dp_.flows()[ref.slot].key, &masked, sizeof(masked)) == 0) return {};
    return fail("two flows have one hash");
  }

  const u32 actions = CTD_TRY(actions_id(flow.actions));
  const u32 slot = CTD_TRY(take_slot());
  ctd_flow& place = dp_.flows()[slot];
  const u32 gen = place.gen + 1;  // free slots are even
  place.mask = mask;
  place.actions = actions;
  place.packets = place.bytes = 0;
  place.used = dp_.rt()->beat;
  place.tcp_flags = 0;
  place.key = masked;
  store_release(place.gen, gen);
  const bool new_mask = entry.flows++ == 0;
  flows_.emplace(slot, Installed{.mask = mask, .actions = actions, .hash = hash, .rules = flow.rules});
  CTD_TRY(map_set(dp_, "flow_index", index, ctd_flow_ref{.slot = slot, .gen = gen}));
  if (new_mask) CTD_TRY(publish_masks());
  return {};
}

void FlowTable::credit(const ctd_flow& flow, Installed& installed) {
  const u64 packets = __atomic_load_n(&flow.packets, __ATOMIC_RELAXED);
  const u64 bytes = __atomic_load_n(&flow.bytes, __ATOMIC_RELAXED);
  for (const RuleRef& rule : installed.rules) {
    rule->packets.fetch_add(packets - installed.credited_packets, std::memory_order_relaxed);
    rule->bytes.fetch_add(bytes - installed.credited_bytes, std::memory_order_relaxed);
  }
  installed.credited_packets = packets;
  installed.credited_bytes = bytes;
}

void FlowTable::credit_rules() {
  for (auto& [slot, installed] : flows_) credit(dp_.flows()[slot], installed);
}

Result<> FlowTable::remove(u32 slot) {
  const auto entry = flows_.find(slot);
  if (entry == flows_.end()) return {};
  Installed& installed = entry->second;
  const ctd_flow_ref_key index{.hash = installed.hash, .mask = installed.mask, .pad = 0};
  CTD_TRY(map_erase_raw(dp_, "flow_index", &index));
  ctd_flow& place = dp_.flows()[slot];
  store_release(place.gen, place.gen + 1);
  credit(place, installed);
  ctd_mask& mask = dp_.masks()[installed.mask];
  if (--mask.flows == 0) CTD_TRY(publish_masks());
  unref_actions(installed.actions);
  flows_.erase(entry);
  retired_.push_back({slot, std::chrono::steady_clock::now()});
  return {};
}

Result<> FlowTable::evict_idle() {
  std::vector<std::pair<u32, u32>> idle;  // age, slot
  const u32 now = dp_.rt()->beat;
  idle.reserve(flows_.size());
  for (const auto& [slot, installed] : flows_) idle.emplace_back(jiffies_since(now, dp_.flows()[slot].used), slot);
  const std::size_t count = std::max<std::size_t>(1, idle.size() / kEvictShare);
  std::partial_sort(idle.begin(), idle.begin() + static_cast<std::ptrdiff_t>(std::min(count, idle.size())), idle.end(),
                    std::greater<>());
  for (std::size_t i = 0; i < std::min(count, idle.size()); i++) CTD_TRY(remove(idle[i].second));
  spdlog::warn("flow table full ({} flows): {} that were idle longest made room", idle.size(), count);
  // Programs in flight are done within the grace period; this is rare enough to take it here.
  const timespec pause{.tv_sec = 0, .tv_nsec = std::chrono::nanoseconds(kGrace).count()};
  nanosleep(&pause, nullptr);
  return maintain();
}

Result<> FlowTable::maintain() {
  const auto now = std::chrono::steady_clock::now();
  while (!retired_.empty() && now - retired_.front().when >= kGrace) {
    free_slots_.push_back(retired_.front().slot);
    retired_.pop_front();
  }
  credit_rules();
  return publish_masks();
}

Result<FlowTable::Adopted> FlowTable::revalidate(const RuleSet& rules) {
  Adopted count;
  std::vector<u32> wrong;
  for (auto& [slot, installed] : flows_) {
    const ctd_flow& flow = dp_.flows()[slot];
    if (still_right(rules, flow.key, dp_.masks()[installed.mask].mask, lists_.at(installed.actions), recirc_, args_)) {
      count.kept++;
    } else {
      wrong.push_back(slot);
    }
  }
  for (const u32 slot : wrong) CTD_TRY(remove(slot));
  count.removed = wrong.size();
  return count;
}

Result<> FlowTable::adopt_side_tables() {
  u32 key = 0, next = 0;
  const int recirc = dp_.map("recirc_states");
  for (int error = bpf_map_get_next_key(recirc, nullptr, &next); !error;
       error = bpf_map_get_next_key(recirc, &key, &next)) {
    key = next;
    CTD_TRY(recirc_.adopt(key, CTD_TRY(map_get<u32, ctd_frozen>(dp_, "recirc_states", key))));
  }
  for (u32 id = 1; id <= kMaxArgs; id++) {
    const auto nat = CTD_TRY(map_get<u32, ctd_nat_args>(dp_, "ct_nat_args", id));
    if (nat.flags) CTD_TRY(args_.nat.adopt(id, nat));
    const auto label = CTD_TRY(map_get<u32, ctd_label_args>(dp_, "ct_label_args", id));
    if (std::any_of(std::begin(label.mask), std::end(label.mask), [](u8 byte) { return byte != 0; })) {
      CTD_TRY(args_.labels.adopt(id, label));
    }
  }
  return {};
}

Result<> FlowTable::adopt_slot(u32 slot, const RuleSet& rules, Adopted& count) {
  ctd_flow& flow = dp_.flows()[slot];
  ctd_mask& mask = dp_.masks()[flow.mask];
  const auto list = CTD_TRY(map_get<u32, ctd_action_list>(dp_, "flow_actions", flow.actions));
  const std::vector<ctd_action> actions(list.slot, list.slot + std::min<u32>(list.count, CTD_MAX_ACTIONS));
  const u64 hash = hash_of(mask, flow.key);
  const auto translated = translate(rules, flow.key.key, recirc_, args_, &mask.mask);
  const bool right = translated && still_right(rules, flow.key, mask.mask, actions, recirc_, args_);

  if (lists_.contains(flow.actions)) {
    list_refs_[flow.actions]++;
  } else {
    lists_.emplace(flow.actions, actions);
    action_ids_.emplace(bytes_of(actions), flow.actions);
    list_refs_[flow.actions] = 1;
    for (const u32 id : recirc_ids(actions)) recirc_.ref(id);
  }
  Installed installed{.mask = flow.mask, .actions = flow.actions, .hash = hash, .rules = {}};
  // The rules of this daemon count from its start.
  installed.credited_packets = flow.packets;
  installed.credited_bytes = flow.bytes;
  if (right) installed.rules = translated->rules;
  flows_.emplace(slot, std::move(installed));
  if (right) {
    count.kept++;
    // The daemon before may have died between the flow and its index.
    return map_set(dp_, "flow_index", ctd_flow_ref_key{.hash = hash, .mask = flow.mask, .pad = 0},
                   ctd_flow_ref{.slot = slot, .gen = flow.gen});
  }
  count.removed++;
  return remove(slot);
}

Result<FlowTable::Adopted> FlowTable::adopt(const RuleSet& rules) {
  CTD_TRY(adopt_side_tables());
  while (guard_count_ < CTD_MAX_GUARD_MASKS) {
    const auto guard = CTD_TRY(map_get<u32, ctd_guard>(dp_, "guard_masks", guard_count_));
    if (!guard.in_port) break;
    guard_count_++;
  }
  Adopted count;
  free_slots_.clear();
  std::vector<u32> published;
  for (u32 slot = 1; slot < dp_.flows().size(); slot++) {
    if (dp_.flows()[slot].gen & 1) {
      published.push_back(slot);
    } else {
      free_slots_.push_back(slot);
    }
  }
  // The daemon before may have died between two writes: count the flows of each mask anew.
  for (ctd_mask& mask : dp_.masks()) mask.flows = 0;
  for (const u32 slot : published) dp_.masks()[dp_.flows()[slot].mask].flows++;
  for (const u32 slot : published) CTD_TRY(adopt_slot(slot, rules, count));
  CTD_TRY(publish_masks());
  return count;
}

std::vector<FlowInfo> FlowTable::dump(const PortNames& ports, u64 now_jiffies) const {
  std::vector<FlowInfo> infos;
  infos.reserve(flows_.size());
  for (const auto& [slot, installed] : flows_) {
    const ctd_flow& flow = dp_.flows()[slot];
    FlowInfo info;
    info.key = format_key(flow.key, dp_.masks()[installed.mask].mask, &ports);
    info.actions = format_datapath_actions(lists_.at(installed.actions), args_, &ports);
    info.packets = __atomic_load_n(&flow.packets, __ATOMIC_RELAXED);
    info.bytes = __atomic_load_n(&flow.bytes, __ATOMIC_RELAXED);
    if (info.packets) {
      info.used_s = static_cast<double>(jiffies_since(static_cast<u32>(now_jiffies), flow.used)) / dp_.meta().hz;
    }
    info.mask = installed.mask;
    infos.push_back(std::move(info));
  }
  std::sort(infos.begin(), infos.end(), [](const FlowInfo& a, const FlowInfo& b) { return a.key < b.key; });
  return infos;
}

}  // namespace ctd
