// SPDX-License-Identifier: Apache-2.0
#include "lib/conn_walk.hpp"

namespace ctd {

uint32_t ConnWalk::next_id() {
  if (only_) return at_ < only_->size() ? (*only_)[at_++] : CTD_CONN_NONE;
  return at_ < table_.last_id() ? static_cast<uint32_t>(++at_) : CTD_CONN_NONE;
}

bool ConnWalk::next(ctd_conn& out) {
  for (uint32_t id; (id = next_id()) != CTD_CONN_NONE;) {
    switch (table_.read(id, out)) {
      case ConnTable::Read::kLive:
        if (filter_.matches(out, now_)) return true;
        break;
      case ConnTable::Read::kBusy:
        complete_ = false;
        break;
      case ConnTable::Read::kNone:
        break;
    }
  }
  return false;
}

}  // namespace ctd
