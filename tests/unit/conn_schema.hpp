// SPDX-License-Identifier: Apache-2.0
// Holds JSON to the schemas in docs/.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace ctd::test {

// What is wrong with one object of a dump, or of what another schema is about; empty if it is right.
std::vector<std::string> schema_errors(const nlohmann::json& object, const std::string& name = "conntrack.schema.json");

}  // namespace ctd::test
