// SPDX-License-Identifier: Apache-2.0
// Reading a JSON object member by member, with errors that name the member, what is wrong and what would be right.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "lib/result.hpp"

namespace ctd {

// An object and where it stands in its document. The object must outlive the reader.
class JsonReader {
 public:
  using Json = nlohmann::json;

  JsonReader(const Json& object, std::string path) : object_(object), path_(std::move(path)) {}

  bool has(const char* name) const { return object_.contains(name); }
  std::string path(const char* name) const { return path_.empty() ? name : path_ + "." + name; }

  Result<uint64_t> number(const char* name, uint64_t max) const {
    const Json* value = find(name);
    if (value && value->is_number_unsigned() && value->get<uint64_t>() <= max) return value->get<uint64_t>();
    return fail("{}: expected a number from 0 to {}{}", path(name), max, but(value));
  }
  Result<uint64_t> number(const char* name, uint64_t max, uint64_t if_missing) const {
    return has(name) ? number(name, max) : Result<uint64_t>(if_missing);
  }
  Result<std::string> text(const char* name, const char* right) const {
    const Json* value = find(name);
    if (value && value->is_string()) return value->get<std::string>();
    return fail("{}: expected {}{}", path(name), right, but(value));
  }
  Result<JsonReader> object(const char* name) const {
    const Json* value = find(name);
    if (value && value->is_object()) return JsonReader(*value, path(name));
    return fail("{}: expected an object{}", path(name), but(value));
  }
  Result<std::vector<Json>> array(const char* name) const {
    const Json* value = find(name);
    if (value && value->is_array()) return value->get<std::vector<Json>>();
    return fail("{}: expected an array{}", path(name), but(value));
  }

 private:
  const Json* find(const char* name) const {
    const auto found = object_.find(name);
    return found == object_.end() ? nullptr : &*found;
  }
  static std::string but(const Json* value) {
    if (!value) return ", but it is missing";
    return fmt::format(", not {:.60}", value->dump(-1, ' ', false, Json::error_handler_t::replace));
  }

  const Json& object_;
  std::string path_;
};

}  // namespace ctd
