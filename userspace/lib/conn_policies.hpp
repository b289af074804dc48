// SPDX-License-Identifier: Apache-2.0
// Names of timeout policies. A record has an id, which means something in its own instance only.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lib/result.hpp"

namespace ctd {

inline constexpr char kDefaultPolicy[] = "default";  // has no name of its own

class ConnPolicies {
 public:
  // names: by id, empty where there is no policy; the first is the default's.
  explicit ConnPolicies(std::vector<std::string> names = {kDefaultPolicy}) : names_(std::move(names)) {}

  std::optional<uint16_t> find(std::string_view name) const {
    const auto found = std::ranges::find(names_, name);
    if (name.empty() || found == names_.end()) return std::nullopt;
    return static_cast<uint16_t>(found - names_.begin());
  }
  // "#7" if it has none.
  std::string name(uint16_t id) const {
    return id < names_.size() && !names_[id].empty() ? names_[id] : fmt::format("#{}", id);
  }
  // "default, dns": for errors.
  std::string all() const {
    std::string text;
    for (const std::string& name : names_)
      if (!name.empty()) text.append(text.empty() ? "" : ", ").append(name);
    return text;
  }

 private:
  std::vector<std::string> names_;
};

}  // namespace ctd
