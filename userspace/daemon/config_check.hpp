// SPDX-License-Identifier: Apache-2.0
// A JSON text against a JSON Schema, with errors that say what would be right.
#pragma once

#include <string_view>

#include <nlohmann/json.hpp>

#include "lib/result.hpp"

namespace ctd {

// Strict JSON: no comments, no key twice in an object, nested at most 32 deep. An error begins with line and column,
// or for a key that stands twice with the JSON pointer of its object.
Result<nlohmann::json> parse_json(std::string_view text);

// The deepest value that a schema (draft 7; local references) does not allow: its JSON pointer, what it is and what
// would be right.
Result<> check_schema(const nlohmann::json& document, const nlohmann::json& schema);

// A value in an error message: short, on one line.
std::string brief_json(const nlohmann::json& value);

}  // namespace ctd
