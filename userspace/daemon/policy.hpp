// SPDX-License-Identifier: Apache-2.0
// Policies of the configuration compile to rules; there is no other mechanism.
#pragma once

#include <string>
#include <vector>

#include "daemon/config.hpp"
#include "daemon/rule.hpp"
#include "lib/result.hpp"

namespace ctd {

// The cookie of a rule says which policy made it.
enum class PolicyCookie : u64 {
  gateway = 0x1,
};

// The texts of the gateway's rules, in the syntax of parse_rule, with cookies. Ports are named.
std::vector<std::string> gateway_rules(const GatewayConfig& gateway);

// All rules of a configuration. `ports` knows every name in config.ports.
Result<RuleSet> compile_policies(const Config& config, const PortNames& ports, const PolicyNames& policies = {});

}  // namespace ctd
