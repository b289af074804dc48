// SPDX-License-Identifier: Apache-2.0
// The JSON of the control API's answers, the connection table excepted (lib/conn_json.hpp).
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include <nlohmann/json.hpp>

#include "daemon/api_backend.hpp"

namespace ctd {

nlohmann::ordered_json flows_json(std::span<const FlowInfo> flows);
nlohmann::ordered_json rules_json(std::span<const RuleInfo> rules);
nlohmann::ordered_json ports_json(std::span<const PortInfo> ports);
nlohmann::ordered_json zones_json(const ZoneTable& table);
nlohmann::ordered_json policies_json(std::span<const PolicyInfo> policies);
nlohmann::ordered_json stats_json(std::span<const PortStats> ports,
                                  const std::array<uint64_t, CTD_CLASS_COUNT>& connections);

}  // namespace ctd
