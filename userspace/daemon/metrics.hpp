// SPDX-License-Identifier: Apache-2.0
// What Prometheus scrapes.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>

#include "daemon/api_backend.hpp"

namespace ctd {

inline constexpr char kMetricsContentType[] = "text/plain; version=0.0.4; charset=utf-8";

// In the text format, version 0.0.4. connections: by enum ctd_conn_class. Every name is in docs/api.md.
std::string metrics_text(std::span<const PortStats> ports, const std::array<uint64_t, CTD_CLASS_COUNT>& connections,
                         const TableStats& table);

}  // namespace ctd
