// SPDX-License-Identifier: Apache-2.0
// Small pieces of reading text that rules, actions and the configuration share.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <ctd/abi/types.h>

#include "daemon/match.hpp"
#include "lib/conn_values.hpp"
#include "lib/result.hpp"

namespace ctd {

std::string_view trim(std::string_view text);

// The parts of a text between commas and white space that stand outside of parentheses and quotes; empty parts are left
// out. Fails if a parenthesis or quote is not closed.
Result<std::vector<std::string_view>> split_list(std::string_view text);

// `name=value`, `name:value` or `name(value)` with the value as it stands; `name` alone has an empty value.
TextField split_field(std::string_view part);

// `, did you mean "tp_dst"?`, or nothing if no candidate is near.
std::string did_you_mean(std::string_view word, std::span<const std::string_view> candidates);

}  // namespace ctd
