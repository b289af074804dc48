// SPDX-License-Identifier: Apache-2.0
// Content-addressed ids of what flows refer to: frozen states, arguments of NAT, labels.
#pragma once

#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <utility>

#include <ctd/abi/types.h>

#include "lib/result.hpp"

namespace ctd {

// Equal content has one id, and an id keeps its meaning while it lives. T has no implicit padding.
template <typename T>
class InternTable {
 public:
  // Writes a new entry to where the datapath (or the next daemon) finds it. Called before the id is given out; if it
  // fails, the id is not.
  using Publish = std::function<Result<>(u32 id, const T& value)>;

  // what: for errors. max_id: the highest id that may be used; the lowest is 1.
  InternTable(std::string what, u32 max_id, Publish publish = {})
      : what_(std::move(what)), max_id_(max_id), publish_(std::move(publish)) {}

  // The id of a value, allocated if it has none.
  Result<u32> intern(const T& value) {
    const auto known = ids_.find(bytes_of(value));
    if (known != ids_.end()) return known->second;
    const u32 id = CTD_TRY(unused_id());
    if (publish_) CTD_TRY(publish_(id, value).context("{} {}", what_, id));
    values_.emplace(id, value);
    ids_.emplace(bytes_of(value), id);
    last_ = id;
    return id;
  }

  // Takes over an entry that an earlier daemon published. Two ids may have the same content; the first is used.
  Result<> adopt(u32 id, const T& value) {
    if (id == 0 || id > max_id_) return fail("{} {}: ids are 1 to {}", what_, id, max_id_);
    const auto [entry, is_new] = values_.emplace(id, value);
    if (!is_new && bytes_of(entry->second) != bytes_of(value)) return fail("{} {} has another meaning", what_, id);
    ids_.emplace(bytes_of(value), id);
    if (id > last_) last_ = id;
    return {};
  }

  // The content of an id; null if it is not in use. Valid until the entry is erased.
  const T* find(u32 id) const {
    const auto entry = values_.find(id);
    return entry == values_.end() ? nullptr : &entry->second;
  }

  void erase(u32 id) {
    const auto entry = values_.find(id);
    if (entry == values_.end()) return;
    const auto address = ids_.find(bytes_of(entry->second));
    if (address != ids_.end() && address->second == id) ids_.erase(address);
    values_.erase(entry);
  }

  const std::map<u32, T>& entries() const { return values_; }

 private:
  static std::string bytes_of(const T& value) {
    return std::string(reinterpret_cast<const char*>(&value), sizeof(value));
  }

  // Upwards from the last one, so that a freed id comes back as late as possible.
  Result<u32> unused_id() const {
    if (values_.size() >= max_id_) return fail("no {} left: all {} are in use", what_, max_id_);
    u32 id = last_;
    do {
      id = id >= max_id_ ? 1 : id + 1;
    } while (values_.contains(id));
    return id;
  }

  std::string what_;
  u32 max_id_;
  Publish publish_;
  std::map<u32, T> values_;
  std::map<std::string, u32> ids_;
  u32 last_ = 0;
};

}  // namespace ctd
