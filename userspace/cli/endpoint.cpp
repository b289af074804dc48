// SPDX-License-Identifier: Apache-2.0
#include "cli/endpoint.hpp"

#include <fmt/format.h>

namespace ctd {

using json = nlohmann::ordered_json;

std::string endpoint(const std::string& address, const json* port) {
  if (!port) return address;
  const bool v6 = address.find(':') != std::string::npos;
  return fmt::format("{}:{}", v6 ? "[" + address + "]" : address, port->get<unsigned>());
}

std::string translation(const json& of) {
  if (!of.contains("nat")) return {};
  std::string text;
  for (const char* side : {"src", "dst"})
    if (const json& nat = of["nat"]; nat.contains(side))
      text += fmt::format("{}{} -> {}", text.empty() ? "" : ", ", side, nat[side].get<std::string>());
  return text;
}

}  // namespace ctd
