// SPDX-License-Identifier: Apache-2.0
// The arguments of nat(…). Writing them is format_nat() of rule.hpp.
#pragma once

#include <string_view>

#include "daemon/rule.hpp"
#include "lib/result.hpp"

namespace ctd {

// `src=192.0.2.1-192.0.2.9:1024-65535,random`, `dst=[2001:db8::1]:80`, `src=masquerade`, `null`.
Result<NatMapping> parse_nat(std::string_view text);

}  // namespace ctd
