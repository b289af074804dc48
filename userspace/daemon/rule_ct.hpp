// SPDX-License-Identifier: Apache-2.0
// The ct() action of rules: text and back.
#pragma once

#include <string>
#include <string_view>

#include "daemon/rule.hpp"

namespace ctd {

// What stands in ct(…).
Result<action::Ct> parse_ct(std::string_view arguments, const PortNames& ports, const PolicyNames& policies);

// `ct(commit,zone=5,nat)`.
std::string format_ct(const action::Ct& ct);

// `NXM_NX_CT_MARK[0..15]`: 16 bits at an offset of the flow key. Shared with flow_format.
std::string format_zone_field(u16 offset);

}  // namespace ctd
