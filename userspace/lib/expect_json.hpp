// SPDX-License-Identifier: Apache-2.0
// Expectations as JSON: what the control API lists, and what it is asked to add. docs/api.md describes both.
#pragma once

#include <string_view>

#include <nlohmann/json.hpp>

#include "lib/expect.hpp"
#include "lib/result.hpp"
#include "lib/time.hpp"

namespace ctd {

nlohmann::ordered_json expect_json(const Expectation& expectation, const KernelClock& now);

// Of an expectation to be added: the unique id of its master.
Result<uint64_t> parse_expect_master(std::string_view body);
// The whole; what it does not say follows from its master. Errors name the member: "tuple.dport: expected …".
Result<NewExpectation> parse_expect_json(std::string_view body, const ctd_conn& master);

}  // namespace ctd
