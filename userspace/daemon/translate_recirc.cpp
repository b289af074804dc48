// SPDX-License-Identifier: Apache-2.0
#include "daemon/translate_recirc.hpp"

namespace ctd {
namespace {

constexpr u32 max_recirc_id = 4096;  // entries of map `recirc_states`

ctd_frozen content(ctd_frozen state) {
  state.flows = 0;
  return state;
}

}  // namespace

RecircTable::RecircTable(InternTable<ctd_frozen>::Publish publish)
    : states_("recirculation id", max_recirc_id, std::move(publish)) {}

Result<u32> RecircTable::id_of(ctd_frozen state) { return states_.intern(content(state)); }

Result<> RecircTable::adopt(u32 id, ctd_frozen state) { return states_.adopt(id, content(state)); }

void RecircTable::ref(u32 id) { ++refs_[id]; }

void RecircTable::unref(u32 id) {
  const auto count = refs_.find(id);
  if (count != refs_.end() && --count->second == 0) refs_.erase(count);
}

u32 RecircTable::refs(u32 id) const {
  const auto count = refs_.find(id);
  return count == refs_.end() ? 0 : count->second;
}

std::vector<u32> RecircTable::unused() const {
  std::vector<u32> ids;
  for (const auto& [id, state] : states_.entries()) {
    if (refs(id) == 0) ids.push_back(id);
  }
  return ids;
}

void RecircTable::erase(u32 id) { states_.erase(id); }

}  // namespace ctd
