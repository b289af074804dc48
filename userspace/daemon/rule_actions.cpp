// SPDX-License-Identifier: Apache-2.0
// Actions of rules: text and back.
#include <algorithm>
#include <cstring>

#include "daemon/match_fields.hpp"
#include "daemon/rule.hpp"
#include "daemon/rule_nat.hpp"
#include "daemon/rule_text.hpp"

namespace ctd {
namespace {

struct Parser {
  u8 table;  // of the rule
  const PortNames& ports;
};

Result<u8> parse_table(std::string_view what, std::string_view text) {
  const auto number = parse_number(text, Rule::max_table);
  if (!number) return fail("{}: \"{}\" must be a table number from 0 to {}", what, text, Rule::max_table);
  return static_cast<u8>(*number);
}

Result<FieldBytes> parse_setting(std::string_view field, std::string_view value, const PortNames& ports) {
  return parse_field_value(*find_match_field(field), value, ports);
}

// set_field:0x1/0xff->ct_mark
Result<> parse_exec(std::string_view text, action::Ct& ct, const PortNames& ports) {
  constexpr std::string_view right = "set_field:VALUE[/MASK]->ct_mark or …->ct_label";
  for (const std::string_view part : CTD_TRY(split_list(text))) {
    const std::size_t arrow = part.find("->");
    if (!part.starts_with("set_field:") || arrow == std::string_view::npos)
      return fail("exec: \"{}\" must be {}", part, right);
    const std::string_view field = part.substr(arrow + 2);
    const std::string_view value = part.substr(10, arrow - 10);
    if (field == "ct_mark") {
      const FieldBytes bytes = CTD_TRY(parse_setting(field, value, ports).context("exec"));
      ct.mark.emplace();
      std::memcpy(&ct.mark->value, bytes.value.data(), sizeof(u32));
      std::memcpy(&ct.mark->mask, bytes.mask.data(), sizeof(u32));
    } else if (field == "ct_label") {
      const FieldBytes bytes = CTD_TRY(parse_setting(field, value, ports).context("exec"));
      ct.label.emplace();
      for (std::size_t i = 0; i < 16; ++i) ct.label->args.value[i] = bytes.value[i] & bytes.mask[i];
      std::memcpy(ct.label->args.mask, bytes.mask.data(), 16);
    } else {
      return fail("exec: \"{}\" sets {}, but must be {}", part, field, right);
    }
  }
  if (!ct.mark && !ct.label) return fail("exec: empty; must be {}", right);
  return {};
}

Result<> parse_ct_argument(std::string_view part, action::Ct& ct, const PortNames& ports) {
  const auto [name, value] = split_field(part);
  if (name == "commit" || name == "force") {
    if (part != name) return fail("{}: takes no value", name);
    (name == "commit" ? ct.commit : ct.force) = true;
  } else if (name == "table") {
    ct.table = CTD_TRY(parse_table(name, value));
  } else if (name == "zone") {
    const auto zone = parse_number(value, 0xffff);
    if (!zone) return fail("zone={}: must be a number from 0 to 65535", value);
    ct.zone = static_cast<u16>(*zone);
  } else if (name == "nat") {
    ct.nat = true;
    if (part != name) ct.mapping = CTD_TRY(parse_nat(value));
  } else if (name == "exec") {
    return parse_exec(value, ct, ports);
  } else {
    static constexpr std::string_view known[] = {"commit", "force", "table", "zone", "nat", "exec"};
    return fail("\"{}\": unknown argument{} (there are: commit, force, table, zone, nat, exec)", part,
                did_you_mean(name, known));
  }
  return {};
}

Result<> check_ct(const action::Ct& ct) {
  if (ct.commit) return {};
  if (ct.force) return fail("force: only with commit");
  if (ct.mapping)
    return fail("nat({}): makes a new mapping, only with commit; without it write nat", format_nat(ct.mapping->args));
  if (ct.mark || ct.label) return fail("exec: only with commit");
  return {};
}

Result<Action> parse_ct(const std::string& arguments, const Parser& parser) {
  action::Ct ct;
  for (const std::string_view part : CTD_TRY(split_list(arguments)))
    CTD_TRY(parse_ct_argument(part, ct, parser.ports).context("ct"));
  CTD_TRY(check_ct(ct).context("ct"));
  return ct;
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
    {"ct", parse_ct},
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

std::string format_exec(const action::Ct& ct) {
  std::string text;
  if (ct.mark) {
    const std::string mask = ct.mark->mask == ~u32{0} ? "" : fmt::format("/{:#x}", ct.mark->mask);
    text += fmt::format("set_field:{:#x}{}->ct_mark", ct.mark->value, mask);
  }
  if (ct.label)
    text += fmt::format("{}set_field:{}->ct_label", text.empty() ? "" : ",",
                        format_label(ct.label->args.value, ct.label->args.mask));
  return text;
}

struct Formatter {
  const PortNames& ports;

  std::string operator()(const action::Output& output) const {
    return output.port == action::Output::in_port ? "in_port" : "output:" + ports.text(output.port);
  }
  std::string operator()(const action::Ct& ct) const {
    std::string text = ct.commit ? "commit," : "";
    if (ct.force) text += "force,";
    if (ct.table) text += fmt::format("table={},", *ct.table);
    text += fmt::format("zone={}", ct.zone);
    if (ct.mapping)
      text += fmt::format(",nat({})", format_nat(ct.mapping->args));
    else if (ct.nat)
      text += ",nat";
    if (ct.mark || ct.label) text += fmt::format(",exec({})", format_exec(ct));
    return fmt::format("ct({})", text);
  }
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

Result<std::vector<Action>> parse_actions(std::string_view text, u8 table, const PortNames& ports) {
  const Parser parser{table, ports};
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
