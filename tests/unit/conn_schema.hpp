// SPDX-License-Identifier: Apache-2.0
// Holds JSON to docs/conntrack.schema.json.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace ctd::test {

// What is wrong with one object of a dump; empty if it is right.
std::vector<std::string> schema_errors(const nlohmann::json& object);

}  // namespace ctd::test
