// SPDX-License-Identifier: Apache-2.0
// Misses: read from the dedicated device, translated, given back to the datapath. See <ctd/abi/upcall.h>.
#pragma once

#include <functional>
#include <vector>

#include <ctd/abi/key.h>

#include "lib/result.hpp"

namespace ctd {

class Upcalls {
 public:
  // install: makes the flow of a key; called before its packet goes back.
  using Install = std::function<Result<>(const ctd_flow_key& key)>;

  // tap: non-blocking, with vnet headers (class Tap). token: ctd_meta.token.
  Upcalls(int tap, u64 token, Install install);

  // Handles what is queued, at most `budget` packets, so that other events get their turn.
  Result<> handle(unsigned budget);

  struct Stats {
    u64 handled = 0;  // misses given back
    u64 failed = 0;   // no flow could be made: the packet is gone
    u64 foreign = 0;  // not ours: another token or version
  };
  const Stats& stats() const { return stats_; }

 private:
  Result<> handle_one(std::size_t size);
  Result<> give_back(std::size_t size);

  int tap_;
  u64 token_;
  Install install_;
  std::vector<unsigned char> buffer_;
  Stats stats_;
};

}  // namespace ctd
