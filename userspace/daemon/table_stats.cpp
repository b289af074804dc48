// SPDX-License-Identifier: Apache-2.0
#include "daemon/table_stats.hpp"

#include <algorithm>
#include <cmath>
#include <span>

#include <ctd/abi/expect.h>
#include <ctd/abi/meta.h>
#include <fmt/format.h>

#include "lib/names.hpp"

namespace ctd {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::chrono::seconds kBetweenReports{60};

double rounded(double percent) { return std::round(percent * 10) / 10; }

Json classes_json(const TableStats& table, ctd_family family) {
  Json json = Json::object();
  for (u32 cls = 0; cls < CTD_CLASS_COUNT; cls++) {
    const ctd_class& one = table.classes[CTD_CLASS_INDEX(cls, family)];
    Json& entry = json[std::string(conn_class_name(static_cast<ctd_conn_class>(cls)))];
    entry = {{"connections", one.live}, {"quota", one.quota}};
    if (one.size) {
      entry["source_share"] = one.share;
      entry["sources_over_share"] = one.over;
    }
  }
  return json;
}

// Reason 0 is that there is none.
Json counts_json(const u64* counts, std::span<const NameAndText> names) {
  Json json = Json::object();
  for (std::size_t i = 1; i < names.size(); i++) json[std::string(names[i].name)] = counts[i];
  return json;
}

Json expectations_json(const TableStats& table) {
  Json counts = Json::object();
  const auto names = expect_counters();
  for (std::size_t i = 0; i < names.size(); i++) counts[std::string(names[i].name)] = table.counters.expects[i];
  return {{"expectations", table.expectations}, {"capacity", CTD_MAX_EXPECTS}, {"counters", std::move(counts)}};
}

}  // namespace

double scale_percent(u32 scale) { return scale ? rounded(100.0 * scale / CTD_SCALE_FULL) : 100; }

Json table_json(const TableStats& table) {
  return {{"capacity", {{"total", table.size.total}, {"ipv4", table.size.ipv4}, {"ipv6", table.size.ipv6}}},
          {"connections", table.connections},
          {"fill_percent", rounded(table.fill())},
          {"memory_bytes", table.memory},
          {"timeouts_percent",
           {{"ipv4", scale_percent(table.timeout_scale[0])}, {"ipv6", scale_percent(table.timeout_scale[1])}}},
          {"classes", {{"ipv4", classes_json(table, CTD_IPV4)}, {"ipv6", classes_json(table, CTD_IPV6)}}},
          {"refused", table.refused},
          {"evicted", table.evicted},
          {"ended", counts_json(table.counters.ended, end_reasons())},
          {"invalid", counts_json(table.counters.invalid, invalid_reasons())},
          {"expectations", expectations_json(table)}};
}

std::optional<std::string> RefusalReport::note(const TableStats& table, Time now) {
  const u64 before = told_.value_or(table.refused);  // what a daemon before this one has counted is no news
  if (!told_) told_ = before;
  if (table.refused <= before || (last_ && now - *last_ < kBetweenReports)) return std::nullopt;
  told_ = table.refused;
  last_ = now;
  return fmt::format(
      "the connection table is full: {} new connections were refused ({} of {} connections, {:.0f} % of the timeouts "
      "are "
      "left); see `ctctl stats` and conntrack.capacity",
      table.refused - before, table.connections, table.size.total,
      std::min(scale_percent(table.timeout_scale[0]), scale_percent(table.timeout_scale[1])));
}

}  // namespace ctd
