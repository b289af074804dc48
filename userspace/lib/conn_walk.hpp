// SPDX-License-Identifier: Apache-2.0
// The connections that a filter means, one after the other, while the datapath goes on.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "lib/conn_filter.hpp"
#include "lib/conn_table.hpp"
#include "lib/time.hpp"

namespace ctd {

class ConnWalk {
 public:
  // The whole table.
  ConnWalk(ConnTable table) : table_(table) {}
  // now: see ConnFilter::matches(). only: the ids (indices) to look at, if a look-up has found all that can match.
  ConnWalk(ConnTable table, ConnFilter filter, const KernelClock& now, std::optional<std::vector<uint32_t>> only)
      : table_(table), filter_(std::move(filter)), now_(now), only_(std::move(only)) {}

  // The next one, a consistent copy. False: there is none.
  bool next(ctd_conn& out);
  // Connections that lived through the whole walk were all seen.
  bool complete() const { return complete_; }
  const ConnTable& table() const { return table_; }

 private:
  uint32_t next_id();

  ConnTable table_;
  ConnFilter filter_;
  KernelClock now_{};
  std::optional<std::vector<uint32_t>> only_;
  std::size_t at_ = 0;  // ids looked at, or indices into only_
  bool complete_ = true;
};

}  // namespace ctd
