// SPDX-License-Identifier: Apache-2.0
#include "daemon/rule_text.hpp"

#include <algorithm>
#include <charconv>
#include <numeric>

namespace ctd {
namespace {

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

// The number of single-character edits (insert, delete, replace, swap neighbours) between two words.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before(b.size() + 1), above(b.size() + 1), row(b.size() + 1);
  std::iota(above.begin(), above.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({above[j] + 1, row[j - 1] + 1, above[j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) row[j] = std::min(row[j], before[j - 2] + 1);
    }
    std::swap(before, above);
    std::swap(above, row);
  }
  return above[b.size()];
}

// Past the quoted text that begins at `at`; npos if it does not end.
std::size_t skip_quoted(std::string_view text, std::size_t at) {
  for (++at; at < text.size(); ++at) {
    if (text[at] == '\\')
      ++at;
    else if (text[at] == '"')
      return at;
  }
  return std::string_view::npos;
}

}  // namespace

std::string_view trim(std::string_view text) {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

Result<std::vector<std::string_view>> split_list(std::string_view text) {
  std::vector<std::string_view> parts;
  std::size_t begin = 0;
  int depth = 0;
  for (std::size_t at = 0; at <= text.size(); ++at) {
    const bool end = at == text.size();
    if (end || (depth == 0 && (text[at] == ',' || is_space(text[at])))) {
      if (at > begin) parts.push_back(text.substr(begin, at - begin));
      begin = at + 1;
    } else if (text[at] == '"') {
      at = skip_quoted(text, at);
      if (at == std::string_view::npos) return fail("{}: a quote is not closed", text);
    } else if (text[at] == '(') {
      ++depth;
    } else if (text[at] == ')' && --depth < 0) {
      return fail("{}: \")\" without \"(\"", text);
    }
  }
  if (depth > 0) return fail("{}: \"(\" without \")\"", text);
  return parts;
}

TextField split_field(std::string_view part) {
  const std::size_t at = part.find_first_of("=:(");
  if (at == std::string_view::npos) return {std::string(part), ""};
  std::string_view value = part.substr(at + 1);
  if (part[at] == '(' && value.ends_with(')')) value.remove_suffix(1);
  return {std::string(part.substr(0, at)), std::string(trim(value))};
}

std::string did_you_mean(std::string_view word, std::span<const std::string_view> candidates) {
  std::string_view best;
  std::size_t best_distance = std::max<std::size_t>(1, word.size() / 3) + 1;
  for (const std::string_view candidate : candidates) {
    const std::size_t distance = edit_distance(word, candidate);
    if (distance >= best_distance) continue;
    best = candidate;
    best_distance = distance;
  }
  return best.empty() ? "" : fmt::format("; did you mean \"{}\"?", best);
}

}  // namespace ctd
