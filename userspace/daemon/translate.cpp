// SPDX-License-Identifier: Apache-2.0
#include "daemon/translate.hpp"

#include <algorithm>
#include <cstring>

#include <arpa/inet.h>
#include <linux/if_ether.h>

#include "daemon/translate_fields.hpp"

namespace ctd {
namespace {

// As in Open vSwitch: what rules may nest, and how many of them one packet may meet.
constexpr int max_depth = 64;
constexpr int max_lookups = 4096;

constexpr be16 vlan_present = __builtin_bswap16(0x1000);

// The bits by which a key differs from a match and that are in `bits`.
bool differs(const Match& match, const ctd_key_words& key, const ctd_key_words& bits) {
  for (unsigned i = 0; i < CTD_KEY_WORDS; ++i) {
    if ((match.value.w[i] ^ key.w[i]) & match.mask.w[i] & bits.w[i]) return true;
  }
  return false;
}

const u8* bytes_of(const ctd_key_words& words, const KeyField& field) {
  return reinterpret_cast<const u8*>(&words) + field.offset;
}

bool differs_in(const Match& match, const ctd_key_words& key, const KeyField& field) {
  const u8* value = bytes_of(match.value, field);
  const u8* mask = bytes_of(match.mask, field);
  const u8* other = bytes_of(key, field);
  for (u16 i = 0; i < field.size; ++i) {
    if ((value[i] ^ other[i]) & mask[i]) return true;
  }
  return false;
}

u32 recirc_id(const ctd_action& action) {
  if (action.type == CTD_ACT_CT) return action.ct.recirc_id;
  return action.type == CTD_ACT_ROUTE ? action.route.recirc_id : 0;
}

// Whether the datapath is done with a packet after this action.
bool takes_away(const ctd_action& action) {
  return action.type == CTD_ACT_OUTPUT || action.type == CTD_ACT_STACK || action.type == CTD_ACT_ROUTE ||
         recirc_id(action) != 0;
}

// The rules, run for one packet.
class Walk {
 public:
  Walk(const RuleSet& rules, const ctd_flow_key& key, RecircTable& recirc, ArgsTable& args, const ctd_key_words* known)
      : rules_(rules), recirc_(recirc), args_(args) {
    key_.key = key;
    if (known) flow_.mask = *known;
    ctd_flow_key& mask = flow_.mask.key;
    mask.in_port = ~u32{0};
    mask.recirc_id = ~u32{0};
    mask.packet_type = 0xff;
    mask.eth_type = 0xffff;
    mask.vlan_tci |= vlan_present;
    if (key.eth_type == htons(ETH_P_IP) || key.eth_type == htons(ETH_P_IPV6)) mask.frag = 0xff;
  }

  Result<Flow> run() {
    CTD_TRY(table(CTD_TRY(first_table()), 0));
    CTD_TRY(copy_where_needed());
    return std::move(flow_);
  }

 private:
  Result<u8> first_table() const {
    const u32 id = key_.key.recirc_id;
    if (id == 0) return u8{0};
    const ctd_frozen* state = recirc_.find(id);
    if (!state) return fail("recirculation id {:#x} names no state", id);
    if (state->table > Rule::max_table || state->actions)
      return fail("recirculation id {:#x}: state of another version (table {}, remaining actions {})", id, state->table,
                  state->actions);
    return static_cast<u8>(state->table);
  }

  Result<> table(u8 number, int depth) {
    if (depth > max_depth) return fail("table {}: resubmit nests more than {} deep", number, max_depth);
    if (++lookups_ > max_lookups) return fail("table {}: more than {} look-ups for one packet", number, max_lookups);
    for (const RuleRef& entry : rules_.table(number)) {
      const Match& match = entry->rule.match;
      if (!match.matches(key_)) {
        tell_apart(match);
        continue;
      }
      look_at(match);
      flow_.rules.push_back(entry);
      return actions(entry->rule.actions, depth);
    }
    return {};  // a miss does nothing, and a packet to which nothing was done is dropped
  }

  // Everything that the match looks at.
  void look_at(const Match& match) {
    for (unsigned i = 0; i < CTD_KEY_WORDS; ++i) flow_.mask.w[i] |= match.mask.w[i] & ~written_.w[i];
  }

  // As little as shows that the packet is not one of the match's. Whole fields, not bits: what the packets hold
  // must not decide how many masks there are.
  void tell_apart(const Match& match) {
    const auto shown = [&](const ctd_key_words& bits) { return differs(match, key_, bits); };
    if (shown(flow_.mask) || shown(written_)) return;
    for (const KeyField& field : key_fields()) {
      if (!differs_in(match, key_, field)) continue;
      u8* mask = reinterpret_cast<u8*>(&flow_.mask) + field.offset;
      const u8* bits = bytes_of(match.mask, field);
      const u8* written = bytes_of(written_, field);
      for (u16 i = 0; i < field.size; ++i) mask[i] |= static_cast<u8>(bits[i] & ~written[i]);
      if (field.layer4) flow_.mask.key.ip_proto = 0xff;
      return;
    }
  }

  Result<> actions(const std::vector<Action>& list, int depth) {
    for (const Action& action : list) CTD_TRY(std::visit([&](const auto& one) { return run(one, depth); }, action));
    return {};
  }

  Result<> run(const action::Output& output, int) {
    // in_port is always in the mask.
    if (output.port == key_.key.in_port) return {};
    ctd_action slot{.type = CTD_ACT_OUTPUT};
    slot.output.port = output.port == action::Output::in_port ? key_.key.in_port : output.port;
    return emit(slot);
  }

  Result<> run(const action::Ct& ct, int) {
    ctd_action slot{.type = CTD_ACT_CT};
    u16 flags = 0;
    if (ct.commit) flags |= CTD_CTF_COMMIT;
    if (ct.force) flags |= CTD_CTF_FORCE;
    if (ct.nat) flags |= CTD_CTF_NAT;
    if (ct.zone_field) flags |= CTD_CTF_ZONE_FIELD;
    if (ct.table) slot.ct.recirc_id = CTD_TRY(recirc_.id_of({.table = *ct.table}));
    slot.ct.zone = ct.zone;
    if (!ct.timeout.empty()) slot.ct.timeout_policy = CTD_TRY(policy_id(ct.timeout));
    if (ct.mapping) slot.ct.nat_id = CTD_TRY(args_.nat.intern(ct.mapping->args));
    if (ct.mark) {
      flags |= CTD_CTF_MARK;
      slot.ct.mark = ct.mark->value;
      slot.ct.mark_mask = ct.mark->mask;
    }
    if (ct.label) {
      flags |= CTD_CTF_LABEL;
      slot.ct.label_id = CTD_TRY(args_.labels.intern(ct.label->args));
    }
    slot.flags = flags;
    return emit(slot);
  }

  Result<u16> policy_id(const std::string& name) const {
    const auto policy = args_.policies.find(name);
    if (policy == args_.policies.end()) return fail("ct(timeout={}): no such policy", name);
    return policy->second;
  }

  Result<> run(const action::CtClear&, int) {
    clear_ct_fields(key_.key);
    ctd_key_words rest;
    std::memset(&rest, 0xff, sizeof(rest));
    clear_ct_fields(rest.key);
    for (unsigned i = 0; i < CTD_KEY_WORDS; ++i) written_.w[i] |= ~rest.w[i];
    return emit({.type = CTD_ACT_CT_CLEAR});
  }

  Result<> run(const action::Route& route, int) {
    ctd_action slot{.type = CTD_ACT_ROUTE};
    if (route.table) slot.route.recirc_id = CTD_TRY(recirc_.id_of({.table = *route.table}));
    return emit(slot);
  }

  Result<> run(const action::Stack&, int) { return emit({.type = CTD_ACT_STACK}); }
  Result<> run(const action::Resubmit& resubmit, int depth) { return table(resubmit.table, depth + 1); }
  Result<> run(const action::Goto& next, int depth) { return table(next.table, depth + 1); }

  Result<> emit(const ctd_action& slot) {
    if (flow_.actions.size() >= CTD_MAX_ACTIONS) return fail("more than {} actions for one packet", CTD_MAX_ACTIONS);
    flow_.actions.push_back(slot);
    return {};
  }

  // What takes the packet away gets a copy if the list goes on after it.
  Result<> copy_where_needed() {
    std::vector<ctd_action> list;
    std::swap(list, flow_.actions);
    for (std::size_t i = 0; i < list.size(); ++i) {
      if (takes_away(list[i]) && i + 1 < list.size()) CTD_TRY(emit({.type = CTD_ACT_CLONE, .arg = 1}));
      CTD_TRY(emit(list[i]));
    }
    return {};
  }

  const RuleSet& rules_;
  RecircTable& recirc_;
  ArgsTable& args_;
  ctd_key_words key_{};      // as the actions so far have left it
  ctd_key_words written_{};  // bits that actions have set: they do not depend on the packet
  Flow flow_;
  int lookups_ = 0;
};

template <typename T>
bool same_bytes(const T& a, const T& b) {
  return std::memcmp(&a, &b, sizeof(T)) == 0;
}

}  // namespace

ctd_key_words Flow::masked(const ctd_key_words& key) const {
  ctd_key_words result;
  for (unsigned i = 0; i < CTD_KEY_WORDS; ++i) result.w[i] = key.w[i] & mask.w[i];
  return result;
}

std::vector<u32> recirc_ids(const std::vector<ctd_action>& actions) {
  std::vector<u32> ids;
  for (const ctd_action& action : actions) {
    const u32 id = recirc_id(action);
    if (id != 0 && std::find(ids.begin(), ids.end(), id) == ids.end()) ids.push_back(id);
  }
  return ids;
}

Result<Flow> translate(const RuleSet& rules, const ctd_flow_key& key, RecircTable& recirc, ArgsTable& args,
                       const ctd_key_words* known) {
  return Walk(rules, key, recirc, args, known).run();
}

bool still_right(const RuleSet& rules, const ctd_key_words& masked_key, const ctd_key_words& mask,
                 const std::vector<ctd_action>& actions, RecircTable& recirc, ArgsTable& args) {
  const Result<Flow> flow = translate(rules, masked_key.key, recirc, args, &mask);
  return flow && same_bytes(flow->mask, mask) &&
         std::equal(flow->actions.begin(), flow->actions.end(), actions.begin(), actions.end(), same_bytes<ctd_action>);
}

}  // namespace ctd
