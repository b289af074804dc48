// SPDX-License-Identifier: Apache-2.0
// Addresses with ports, and translations, as tables show them.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

namespace ctd {

// "10.1.0.2:40312", "[fd00::2]:53"; without port the bare address.
std::string endpoint(const std::string& address, const nlohmann::ordered_json* port);

// Of what has a member "nat": "src -> 10.0.2.1:40312, dst -> 10.1.0.2:80". Empty without.
std::string translation(const nlohmann::ordered_json& of);

}  // namespace ctd
