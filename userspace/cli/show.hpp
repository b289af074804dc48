// SPDX-License-Identifier: Apache-2.0
// The API's smaller answers as text for people and for scripts that know Open vSwitch's.
#pragma once

#include <nlohmann/json.hpp>

#include "cli/output.hpp"
#include "lib/result.hpp"

namespace ctd {

// Each takes the answer of the API's path of that name. Errors: the output, or an answer that is not as documented.
Result<> show_flows(Output& out, const nlohmann::ordered_json& flows);  // as dpctl/dump-flows
Result<> show_rules(Output& out, const nlohmann::ordered_json& rules);  // as ovs-ofctl dump-flows
Result<> show_ports(Output& out, const nlohmann::ordered_json& ports);
Result<> show_zones(Output& out, const nlohmann::ordered_json& table);
Result<> show_policies(Output& out, const nlohmann::ordered_json& policies);
Result<> show_stats(Output& out, const nlohmann::ordered_json& stats, bool all);  // all: also what is zero

}  // namespace ctd
