// SPDX-License-Identifier: Apache-2.0
// How full the connection table is, and what became of connections: for `ctctl stats`, metrics and the log.
#pragma once

#include <array>
#include <chrono>
#include <optional>
#include <string>

#include <ctd/abi/ct.h>
#include <nlohmann/json.hpp>

#include "daemon/table_size.hpp"

namespace ctd {

struct TableStats {
  TableSize size;
  u64 connections = 0;  // also those that are just beginning or ending
  u64 memory = 0;       // bytes
  std::array<ctd_class, CTD_CLASS_INDEXES> classes{};
  std::array<u32, 2> timeout_scale{};  // ctd_rt.timeout_scale
  ctd_ct_stats counters{};
  u64 expectations = 0;  // also those that are void and wait for the sweep
  u64 refused = 0;  // new connections
  u64 evicted = 0;

  // Of the whole table, in percent.
  double fill() const { return size.total ? 100.0 * static_cast<double>(connections) / size.total : 0; }
};

// Percent that is left of timeouts.
double scale_percent(u32 scale);

nlohmann::ordered_json table_json(const TableStats& table);

// Says that new connections are refused, but not with every one of them.
class RefusalReport {
 public:
  using Time = std::chrono::steady_clock::time_point;

  // A line for the log if there are refusals that it has not told of, at most once a minute.
  std::optional<std::string> note(const TableStats& table, Time now);

 private:
  std::optional<u64> told_;
  std::optional<Time> last_;
};

}  // namespace ctd
