// SPDX-License-Identifier: Apache-2.0
// Rules: what the policies and the control API program, and their text in the syntax of ovs-ofctl (docs/rules.md).
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include <ctd/abi/action.h>

#include "daemon/match.hpp"
#include "daemon/rule_ports.hpp"
#include "lib/result.hpp"

namespace ctd {

// Timeout policies by name, with their ids (indices into map `ct_policies`).
using PolicyNames = std::map<std::string, u16, std::less<>>;

// The mapping of `nat(src=…)`: a struct ctd_nat_args that can be compared.
struct NatMapping {
  ctd_nat_args args{};
  bool operator==(const NatMapping& other) const;
};

struct LabelSetting {
  ctd_label_args args{};
  bool operator==(const LabelSetting& other) const;
};

struct MarkSetting {
  u32 value = 0;
  u32 mask = 0;
  bool operator==(const MarkSetting&) const = default;
};

namespace action {

struct Output {
  u32 port;                               // 1..CTD_MAX_PORTS-1, CTD_PORT_LOCAL, or `in_port`
  static constexpr u32 in_port = 0xfff8;  // back where it came from, as in OpenFlow; other outputs to there do nothing
  bool operator==(const Output&) const = default;
};

struct Ct {
  bool commit = false;
  bool force = false;
  bool nat = false;         // translate by the connection's mapping, or with `mapping` make a new one
  std::optional<u8> table;  // a copy of the packet goes on there, with its connection known
  bool zone_field = false;  // the zone is 16 bits of the flow key, at the offset `zone`
  u16 zone = 0;
  std::string timeout;  // name of a policy; empty: the zone's
  std::optional<NatMapping> mapping;
  std::optional<MarkSetting> mark;
  std::optional<LabelSetting> label;
  bool operator==(const Ct&) const = default;
};

struct CtClear {
  bool operator==(const CtClear&) const = default;
};

// The host's FIB: forward by it, or only choose out_port and go on in a table.
struct Route {
  std::optional<u8> table;
  bool operator==(const Route&) const = default;
};

struct Stack {
  bool operator==(const Stack&) const = default;
};

struct Resubmit {
  u8 table;
  bool operator==(const Resubmit&) const = default;
};

struct Goto {
  u8 table;
  bool operator==(const Goto&) const = default;
};

}  // namespace action

using Action = std::variant<action::Output, action::Ct, action::CtClear, action::Route, action::Stack, action::Resubmit,
                            action::Goto>;

struct Rule {
  static constexpr u16 default_priority = 32768;
  static constexpr u8 max_table = 254;

  u8 table = 0;
  u16 priority = default_priority;
  u64 cookie = 0;
  Match match;
  std::vector<Action> actions;  // empty: drop
  bool operator==(const Rule&) const = default;
};

// `table=0,priority=100,ip,in_port=lan0 actions=ct(table=1,zone=0,nat)`. Errors name the field, its value and what
// would be right.
Result<Rule> parse_rule(std::string_view text, const PortNames& ports, const PolicyNames& policies = {});

// One line that parse_rule reads back as an equal rule.
std::string format_rule(const Rule& rule, const PortNames& ports);

Result<std::vector<Action>> parse_actions(std::string_view text, u8 table, const PortNames& ports,
                                          const PolicyNames& policies);
std::string format_actions(std::span<const Action> actions, const PortNames& ports);
// `src=192.0.2.1-192.0.2.9:1024-65535`: what stands in nat(…). Shared with flow_format.
std::string format_nat(const ctd_nat_args& args);
std::string format_label(const u8 (&value)[16], const u8 (&mask)[16]);

// A rule in force, with what its flows have credited to it. Flows keep it alive after it was replaced.
struct RuleEntry {
  explicit RuleEntry(Rule r) : rule(std::move(r)) {}

  const Rule rule;
  mutable std::atomic<u64> packets{0};
  mutable std::atomic<u64> bytes{0};
};
using RuleRef = std::shared_ptr<const RuleEntry>;

class RuleSet {
 public:
  // Replaces a rule with the same table, priority and match; its counters start anew.
  void add(Rule rule);

  // By descending priority; among equals in order of addition, and the first that matches wins.
  std::span<const RuleRef> table(u8 number) const;

  // All of them, by table and then as above.
  std::vector<RuleRef> all() const;

 private:
  std::vector<std::vector<RuleRef>> tables_;
};

}  // namespace ctd
