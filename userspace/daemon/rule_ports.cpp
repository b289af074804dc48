// SPDX-License-Identifier: Apache-2.0
#include "daemon/rule_ports.hpp"

#include <algorithm>

#include <strings.h>

#include "daemon/rule_text.hpp"

namespace ctd {
namespace {

bool is_local(std::string_view text) { return text.size() == 5 && strncasecmp(text.data(), "LOCAL", 5) == 0; }

// Interface names may hold anything but white space, "/" and ":".
bool is_plain(std::string_view name) {
  const auto plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
           c == '.';
  };
  const bool number = !name.empty() && name.front() >= '0' && name.front() <= '9';
  return !number && !is_local(name) && name != "in_port" && name != "IN_PORT" &&
         std::all_of(name.begin(), name.end(), plain);
}

std::string quoted(std::string_view name) {
  std::string text = "\"";
  for (const char c : name) {
    if (c == '"' || c == '\\') text += '\\';
    text += c;
  }
  return text + '"';
}

std::string unquoted(std::string_view text) {
  std::string name;
  for (std::size_t at = 1; at + 1 < text.size(); ++at) {
    if (text[at] == '\\') ++at;
    name += text[at];
  }
  return name;
}

}  // namespace

Result<> PortNames::add(u32 number, std::string name) {
  if (number == CTD_PORT_NONE || number >= CTD_MAX_PORTS)
    return fail("port {}: numbers are 1 to {}", number, CTD_MAX_PORTS - 1);
  if (const auto other = this->number(name)) return fail("port {}: port {} is \"{}\" already", number, *other, name);
  const auto [entry, is_new] = names_.emplace(number, std::move(name));
  if (!is_new) return fail("port {} is \"{}\" already", number, entry->second);
  return {};
}

std::optional<u32> PortNames::number(std::string_view name) const {
  for (const auto& [number, known] : names_) {
    if (known == name) return number;
  }
  return std::nullopt;
}

std::string PortNames::text(u32 number) const {
  if (number == CTD_PORT_LOCAL) return "LOCAL";
  const auto entry = names_.find(number);
  if (entry == names_.end()) return std::to_string(number);
  return text_of(entry->second);
}

std::string PortNames::text_of(std::string_view name) { return is_plain(name) ? std::string(name) : quoted(name); }

Result<u32> PortNames::parse(std::string_view text) const {
  if (is_local(text)) return CTD_PORT_LOCAL;
  if (const auto number = parse_number(text, ~u64{0})) {
    if (*number == CTD_PORT_LOCAL || (*number != CTD_PORT_NONE && *number < CTD_MAX_PORTS))
      return static_cast<u32>(*number);
    return fail("port numbers are 1 to {}, or {} for LOCAL", CTD_MAX_PORTS - 1, CTD_PORT_LOCAL);
  }
  const bool is_quoted = text.size() >= 2 && text.front() == '"' && text.back() == '"';
  if (const auto number = this->number(is_quoted ? unquoted(text) : std::string(text))) return *number;
  std::string known;
  for (const auto& entry : names_) known += this->text(entry.first) + ", ";
  return fail("no such port (there are: {}LOCAL)", known);
}

}  // namespace ctd
