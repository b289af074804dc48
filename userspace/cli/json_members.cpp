// SPDX-License-Identifier: Apache-2.0
#include "cli/json_members.hpp"

namespace ctd {

JsonMembers::JsonMembers(std::string_view object) : text_(object) { good_ = skip('{'); }

bool JsonMembers::skip(char c) {
  if (at_ == text_.size() || text_[at_] != c) return false;
  ++at_;
  return true;
}

// With its quotes.
bool JsonMembers::string(std::string_view& out) {
  if (!skip('"')) return false;
  std::size_t end = at_;
  while (end < text_.size() && text_[end] != '"') end += text_[end] == '\\' ? 2 : 1;
  if (end >= text_.size()) return false;
  out = text_.substr(at_ - 1, end + 2 - at_);
  at_ = end + 1;
  return true;
}

bool JsonMembers::value(std::string_view& out) {
  const std::size_t begin = at_;
  std::string_view inner;
  for (int depth = 0; at_ < text_.size(); ++at_) {
    const char c = text_[at_];
    if (c == '"') {
      if (!string(inner)) return false;
      --at_;
    } else if (c == '{' || c == '[') {
      ++depth;
    } else if (depth == 0 && (c == ',' || c == '}')) {
      break;
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  out = text_.substr(begin, at_ - begin);
  return !out.empty();
}

bool JsonMembers::next(std::string_view& name, std::string_view& value_text) {
  if (!good_ || skip('}')) return false;
  good_ = string(name) && skip(':') && value(value_text) && (skip(',') || text_.substr(at_) == "}");
  name = json_text(name);
  return good_;
}

std::string_view json_text(std::string_view value) {
  const bool quoted = value.size() >= 2 && value.front() == '"' && value.back() == '"';
  return quoted ? value.substr(1, value.size() - 2) : value;
}

}  // namespace ctd
