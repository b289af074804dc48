// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "lib/result.hpp"

namespace ctd::bench {

struct BareOptions {
  std::string netns;
  std::string lan, wan;          // the two ports
  std::string lan_mac, wan_mac;  // their neighbours' Ethernet addresses
};

// Redirects IPv4 between the two ports until standard input ends; prints "ready" once it does.
Result<void> run_bare(const BareOptions& options);

}  // namespace ctd::bench
