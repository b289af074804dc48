// SPDX-License-Identifier: Apache-2.0
// The configuration: one JSON file, checked against docs/config.schema.json (built into the binary) and then for sense.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <ctd/abi/types.h>

#include "daemon/ct_config.hpp"
#include "lib/result.hpp"

namespace ctd {

enum class RpFilter { strict, loose, off };

// A NAT gateway. Every name is one of Config::ports; `outside` is not among `inside`.
struct GatewayConfig {
  std::vector<std::string> inside;
  std::string outside;
  bool masquerade = false;   // IPv4 leaves `outside` with that port's address
  bool masquerade6 = false;  // the same for IPv6
};

struct Config {
  std::vector<std::string> ports;  // in the file's order, without doubles
  GatewayConfig gateway;
  u32 conntrack_capacity = 262144;  // connections
  u32 conntrack_ipv4 = 0;           // of them, at most; 0: all
  u32 conntrack_ipv6 = 0;
  u32 adaptive_start = 80;  // percent of the capacity, of assured connections: Datapath::Options
  u32 adaptive_end = 110;
  CtConfig conntrack;
  u32 flow_capacity = 65536;  // flows
  RpFilter rpfilter = RpFilter::strict;
};

// The network interfaces that a configuration may name; injected, so that tests need no devices.
struct Interfaces {
  std::function<std::optional<u32>(const std::string& name)> ifindex;
  std::function<std::vector<std::string>()> names;
};

// Reads the text of a configuration. An error begins with the JSON pointer of the value that is wrong, or with line
// and column if the text is not JSON.
Result<Config> parse_config(std::string_view text, const Interfaces& interfaces);

// The same for a file (at most 1 MiB); errors begin with its path.
Result<Config> load_config(const std::string& path, const Interfaces& interfaces);

// The JSON Schema itself, as in docs/config.schema.json.
std::string_view config_schema();

}  // namespace ctd
