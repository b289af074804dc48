// SPDX-License-Identifier: Apache-2.0
// Actions of rules: text and back.
#include "daemon/rule.hpp"
#include "daemon/rule_ct.hpp"
#include "daemon/rule_text.hpp"

namespace ctd {
namespace {

struct Parser {
  u8 table;  // of the rule
  const PortNames& ports;
  const PolicyNames& policies;
};

Result<u8> parse_table(std::string_view what, std::string_view text) {
  const auto number = parse_number(text, Rule::max_table);
  if (!number) return fail("{}: \"{}\" must be a table number from 0 to {}", what, text, Rule::max_table);
  return static_cast<u8>(*number);
}

Result<Action> parse_tracking(const std::string& arguments, const Parser& parser) {
  return CTD_TRY(parse_ct(arguments, parser.ports, parser.policies));
}

Result<Action> parse_route(const std::string& arguments, const Parser&) {
  if (arguments.empty()) return action::Route{};
  const auto [name, value] = split_field(arguments);
  if (name != "table") return fail("route({}): must be route or route(table=NUMBER)", arguments);
  return action::Route{CTD_TRY(parse_table("route(table)", value))};
}

Result<Action> parse_resubmit(const std::string& arguments, const Parser&) {
  if (!arguments.starts_with(','))
    return fail("resubmit({}): must be resubmit(,TABLE); the input port cannot be changed", arguments);
  return action::Resubmit{CTD_TRY(parse_table("resubmit", trim(std::string_view(arguments).substr(1))))};
}

Result<Action> parse_goto(const std::string& argument, const Parser& parser) {
  const u8 table = CTD_TRY(parse_table("goto_table", argument));
  if (table <= parser.table)
    return fail("goto_table:{}: must be a later table than {}, the rule's own (or use resubmit)", table, parser.table);
  return action::Goto{table};
}

Result<Action> parse_output(const std::string& port, const Parser& parser) {
  if (port == "in_port" || port == "IN_PORT") return action::Output{action::Output::in_port};
  return action::Output{CTD_TRY(parser.ports.parse(port).context("output:{}", port))};
}

template <typename T>
Result<Action> parse_bare(const std::string& argument, const Parser&) {
  if (!argument.empty()) return fail("\"{}\": the action takes no argument", argument);
  return T{};
}

struct ActionSyntax {
  std::string_view name;
  Result<Action> (*parse)(const std::string& argument, const Parser& parser);
};
constexpr ActionSyntax syntaxes[] = {
    {"output", parse_output},
    {"ct", parse_tracking},
    {"ct_clear", parse_bare<action::CtClear>},
    {"route", parse_route},
    {"stack", parse_bare<action::Stack>},
    {"resubmit", parse_resubmit},
    {"goto_table", parse_goto},
};

Result<Action> parse_action(std::string_view text, const Parser& parser) {
  if (text.starts_with('"')) return parse_output(std::string(text), parser);
  const auto [name, argument] = split_field(text);
  for (const ActionSyntax& syntax : syntaxes) {
    if (syntax.name == name) return syntax.parse(argument, parser);
  }
  // What is no action is a port: `actions=lan0`, `actions=2`.
  if (Result<Action> output = parse_output(std::string(text), parser)) return output;
  std::vector<std::string_view> known{"drop"};
  for (const ActionSyntax& syntax : syntaxes) known.push_back(syntax.name);
  return fail("\"{}\": neither an action nor a port{} (actions are: {})", text, did_you_mean(name, known),
              fmt::join(known, ", "));
}

struct Formatter {
  const PortNames& ports;

  std::string operator()(const action::Output& output) const {
    return output.port == action::Output::in_port ? "in_port" : "output:" + ports.text(output.port);
  }
  std::string operator()(const action::Ct& ct) const { return format_ct(ct); }
  std::string operator()(const action::CtClear&) const { return "ct_clear"; }
  std::string operator()(const action::Route& route) const {
    return route.table ? fmt::format("route(table={})", *route.table) : "route";
  }
  std::string operator()(const action::Stack&) const { return "stack"; }
  std::string operator()(const action::Resubmit& resubmit) const {
    return fmt::format("resubmit(,{})", resubmit.table);
  }
  std::string operator()(const action::Goto& next) const { return fmt::format("goto_table:{}", next.table); }
};

}  // namespace

Result<std::vector<Action>> parse_actions(std::string_view text, u8 table, const PortNames& ports,
                                          const PolicyNames& policies) {
  const Parser parser{table, ports, policies};
  const auto parts = CTD_TRY(split_list(text).context("actions"));
  if (parts.size() == 1 && parts[0] == "drop") return std::vector<Action>{};
  std::vector<Action> actions;
  for (const std::string_view part : parts) {
    if (part == "drop") return fail("actions: drop must stand alone");
    if (!actions.empty() && std::holds_alternative<action::Goto>(actions.back()))
      return fail("actions: \"{}\" follows goto_table, which must be the last (or use resubmit)", part);
    actions.push_back(CTD_TRY(parse_action(part, parser).context("actions")));
  }
  if (actions.empty()) return fail("actions: none; write actions=drop to drop");
  return actions;
}

std::string format_actions(std::span<const Action> actions, const PortNames& ports) {
  if (actions.empty()) return "drop";
  std::string text;
  for (const Action& action : actions) text += (text.empty() ? "" : ",") + std::visit(Formatter{ports}, action);
  return text;
}

}  // namespace ctd
