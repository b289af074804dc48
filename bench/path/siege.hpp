// SPDX-License-Identifier: Apache-2.0
// A paced SYN flood into a gateway's device, from random addresses, until standard input ends.
#pragma once

#include <cstdint>
#include <string>

#include "lib/result.hpp"

namespace ctd::bench {

struct SiegeOptions {
  std::string netns;   // the gateway's
  std::string device;  // receives it
  std::string device_mac;
  std::string neighbour;         // Ethernet address that it seems to come from
  std::string target;            // IPv4 address that it is for
  std::uint32_t rate = 100'000;  // packets a second
  bool repel = false;            // drop it at the device's ingress
};

// Prints how many packets it has sent, and in what time, when it is told to end.
Result<void> run_siege(const SiegeOptions& options, unsigned cpu);

}  // namespace ctd::bench
