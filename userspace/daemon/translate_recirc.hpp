// SPDX-License-Identifier: Apache-2.0
// Recirculation ids: what a packet goes on with after ct(table=N) or route(table=N).
#pragma once

#include <map>
#include <vector>

#include <ctd/abi/flow.h>

#include "daemon/translate_intern.hpp"
#include "lib/result.hpp"

namespace ctd {

// Frozen states by content. ctd_frozen.flows is not content: it is kept as 0, and counted here.
class RecircTable {
 public:
  // publish: see InternTable; writes map `recirc_states`.
  explicit RecircTable(InternTable<ctd_frozen>::Publish publish = {});

  // The id of a state, never 0; a new one if no live id means that.
  Result<u32> id_of(ctd_frozen state);

  // An id that an earlier daemon published; fails if it already means something else here.
  Result<> adopt(u32 id, ctd_frozen state);

  const ctd_frozen* find(u32 id) const { return states_.find(id); }
  const std::map<u32, ctd_frozen>& entries() const { return states_.entries(); }

  // A flow that names the id was installed, or one that did is gone (its grace period over).
  void ref(u32 id);
  void unref(u32 id);
  u32 refs(u32 id) const;

  // Ids that no flow names. The caller erases those that no packet can still carry.
  std::vector<u32> unused() const;
  void erase(u32 id);

 private:
  InternTable<ctd_frozen> states_;
  std::map<u32, u32> refs_;
};

}  // namespace ctd
