// SPDX-License-Identifier: Apache-2.0
#include "daemon/rule.hpp"

#include <algorithm>
#include <cstring>

#include "daemon/rule_text.hpp"

namespace ctd {
namespace {

// Where the actions of a rule's text begin: after a comma or white space outside of quotes and parentheses.
std::size_t find_actions(std::string_view text) {
  constexpr std::string_view keyword = "actions=";
  bool quoted = false;
  for (std::size_t at = 0; at < text.size(); ++at) {
    if (text[at] == '\\' && quoted)
      ++at;
    else if (text[at] == '"')
      quoted = !quoted;
    else if (!quoted && text.substr(at).starts_with(keyword) &&
             (at == 0 || std::string_view(", \t\n").find(text[at - 1]) != std::string_view::npos))
      return at;
  }
  return std::string_view::npos;
}

Result<u64> number_of(const TextField& field, u64 max) {
  const auto number = parse_number(field.second, max);
  if (!number) return fail("{}={}: must be a number from 0 to {}", field.first, field.second, max);
  return *number;
}

// A field that is about the rule, not about packets; false if it is not one.
Result<bool> parse_rule_field(const TextField& field, Rule& rule) {
  if (field.first == "table") {
    rule.table = static_cast<u8>(CTD_TRY(number_of(field, Rule::max_table)));
  } else if (field.first == "priority") {
    rule.priority = static_cast<u16>(CTD_TRY(number_of(field, 0xffff)));
  } else if (field.first == "cookie") {
    rule.cookie = CTD_TRY(number_of(field, ~u64{0}));
  } else {
    // Columns of a dump, so that one can be read back.
    static constexpr std::string_view ignored[] = {"duration", "n_packets", "n_bytes", "idle_age", "hard_age"};
    return std::find(std::begin(ignored), std::end(ignored), field.first) != std::end(ignored);
  }
  return true;
}

Result<Rule> parse(std::string_view text, const PortNames& ports, const PolicyNames& policies) {
  constexpr std::string_view right = "end with actions=… (actions=drop to drop)";
  const std::size_t at = find_actions(text);
  if (at == std::string_view::npos) return fail("no actions: a rule must {}", right);
  Rule rule;
  std::vector<TextField> match;
  for (const std::string_view part : CTD_TRY(split_list(text.substr(0, at)))) {
    TextField field = split_field(part);
    if (!CTD_TRY(parse_rule_field(field, rule))) match.push_back(std::move(field));
  }
  rule.match = CTD_TRY(parse_match(match, ports));
  const std::string_view actions = trim(text.substr(text.find('=', at) + 1));
  if (actions.empty()) return fail("actions=: empty; a rule must {}", right);
  rule.actions = CTD_TRY(parse_actions(actions, rule.table, ports, policies));
  return rule;
}

bool same_place(const Rule& a, const Rule& b) { return a.priority == b.priority && a.match == b.match; }

}  // namespace

bool NatMapping::operator==(const NatMapping& other) const {
  return std::memcmp(&args, &other.args, sizeof(args)) == 0;
}

bool LabelSetting::operator==(const LabelSetting& other) const {
  return std::memcmp(&args, &other.args, sizeof(args)) == 0;
}

Result<Rule> parse_rule(std::string_view text, const PortNames& ports, const PolicyNames& policies) {
  return parse(text, ports, policies).context("rule \"{}\"", trim(text));
}

std::string format_rule(const Rule& rule, const PortNames& ports) {
  std::string text = rule.cookie ? fmt::format("cookie={:#x},", rule.cookie) : "";
  text += fmt::format("table={},priority={}", rule.table, rule.priority);
  const std::string match = format_match(rule.match, ports);
  if (!match.empty()) text += "," + match;
  return text + " actions=" + format_actions(rule.actions, ports);
}

void RuleSet::add(Rule rule) {
  if (tables_.size() <= rule.table) tables_.resize(rule.table + std::size_t{1});
  std::vector<RuleRef>& table = tables_[rule.table];
  const auto known =
      std::find_if(table.begin(), table.end(), [&](const RuleRef& other) { return same_place(other->rule, rule); });
  if (known != table.end()) {
    *known = std::make_shared<RuleEntry>(std::move(rule));
    return;
  }
  const auto after = std::find_if(table.begin(), table.end(),
                                  [&](const RuleRef& other) { return other->rule.priority < rule.priority; });
  table.insert(after, std::make_shared<RuleEntry>(std::move(rule)));
}

std::span<const RuleRef> RuleSet::table(u8 number) const {
  if (number >= tables_.size()) return {};
  return tables_[number];
}

std::vector<RuleRef> RuleSet::all() const {
  std::vector<RuleRef> rules;
  for (const auto& table : tables_) rules.insert(rules.end(), table.begin(), table.end());
  return rules;
}

}  // namespace ctd
