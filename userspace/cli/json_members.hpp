// SPDX-License-Identifier: Apache-2.0
// The members of a JSON object where they stand, for a dump of millions: making a document of each line takes ten times
// as long as showing it.
#pragma once

#include <cstdint>
#include <string_view>

#include "lib/result.hpp"

namespace ctd {

class JsonMembers {
 public:
  // object: of ctd's own making, one line; it must outlive the walk.
  explicit JsonMembers(std::string_view object);

  // The next member: its name, and its value as it is written. False: there is none, or what follows is no JSON.
  bool next(std::string_view& name, std::string_view& value);
  // All of it was read.
  bool whole() const { return at_ == text_.size() && good_; }

 private:
  bool skip(char c);
  bool string(std::string_view& out);
  bool value(std::string_view& out);

  std::string_view text_;
  std::size_t at_ = 0;
  bool good_ = true;
};

// Of a value that is a string, without the quotes; anything else as it is.
std::string_view json_text(std::string_view value);

}  // namespace ctd
