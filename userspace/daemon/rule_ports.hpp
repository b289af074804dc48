// SPDX-License-Identifier: Apache-2.0
// Names of ports in rules and flows.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>

#include <ctd/abi/types.h>

#include "lib/result.hpp"

namespace ctd {

class PortNames {
 public:
  // number: 1..CTD_MAX_PORTS-1. Fails if the number or the name has been given already.
  Result<> add(u32 number, std::string name);

  std::optional<u32> number(std::string_view name) const;

  // What a rule says for a port: its name (quoted where it could be taken for something else), LOCAL, or the number.
  std::string text(u32 number) const;

  // The same for a name alone.
  static std::string text_of(std::string_view name);

  // Reads what text() writes, and numbers; `LOCAL` in any case.
  Result<u32> parse(std::string_view text) const;

 private:
  std::map<u32, std::string> names_;
};

}  // namespace ctd
