// SPDX-License-Identifier: Apache-2.0
// The property of a translation: for every packet that a flow matches, it does what running the rules for that packet
// does. The rules are run by an interpreter of their own here, which knows nothing of masks.
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "translate_packets.hpp"

namespace ctd {
namespace {

using test::RandomPackets;
using test::words;
using Operations = std::vector<std::string>;

std::string hex(const void* data, std::size_t size) {
  std::string text;
  for (std::size_t i = 0; i < size; ++i) text += fmt::format("{:02x}", static_cast<const u8*>(data)[i]);
  return text;
}

bool ends_a_packet(const std::string& operation) {
  return !operation.starts_with("ct") || operation.find(" then ") != std::string::npos;
}

// What one packet meets, action by action.
class Interpreter {
 public:
  Interpreter(const RuleSet& rules, const ctd_flow_key& key) : rules_(rules), key_(key) {}

  // None if the limits are passed.
  std::optional<Operations> run(u8 table) {
    enter(table, 0);
    if (failed_ || !fits()) return std::nullopt;
    return operations_;
  }

 private:
  bool applies(const Match& match) const {
    const u8* key = reinterpret_cast<const u8*>(&key_);
    const u8* value = reinterpret_cast<const u8*>(&match.value);
    const u8* mask = reinterpret_cast<const u8*>(&match.mask);
    for (std::size_t i = 0; i < sizeof(ctd_flow_key); ++i) {
      if ((key[i] & mask[i]) != (value[i] & mask[i])) return false;
    }
    return true;
  }

  void enter(u8 table, int depth) {
    if (depth > 64 || ++lookups_ > 4096) failed_ = true;
    if (failed_) return;
    const Rule* best = nullptr;
    for (const RuleRef& entry : rules_.all()) {
      const Rule& rule = entry->rule;
      if (rule.table == table && applies(rule.match) && (!best || rule.priority > best->priority)) best = &rule;
    }
    if (!best) return;
    for (const Action& action : best->actions) {
      if (!failed_) perform(action, depth);
    }
  }

  void perform(const Action& action, int depth) {
    if (const auto* output = std::get_if<action::Output>(&action)) {
      const bool back = output->port == action::Output::in_port;
      if (back || output->port != key_.in_port)
        operations_.push_back(fmt::format("output {}", back ? key_.in_port : output->port));
    } else if (const auto* ct = std::get_if<action::Ct>(&action)) {
      track(*ct);
    } else if (std::holds_alternative<action::CtClear>(action)) {
      key_.ct_state = 0;
      key_.ct_zone = 0;
      key_.ct_mark = 0;
      std::memset(key_.ct_label, 0, sizeof(key_.ct_label));
      operations_.push_back("ct_clear");
    } else if (const auto* route = std::get_if<action::Route>(&action)) {
      operations_.push_back(route->table ? fmt::format("route then {}", *route->table) : "route");
    } else if (std::holds_alternative<action::Stack>(action)) {
      operations_.push_back("stack");
    } else if (const auto* again = std::get_if<action::Resubmit>(&action)) {
      enter(again->table, depth + 1);
    } else {
      enter(std::get<action::Goto>(action).table, depth + 1);
    }
    if (operations_.size() > CTD_MAX_ACTIONS) failed_ = true;
  }

  void track(const action::Ct& ct) {
    std::string text = fmt::format("ct {}{}{}zone {}", ct.commit ? "commit " : "", ct.force ? "force " : "",
                                   ct.nat ? "nat " : "", ct.zone);
    if (ct.mapping) text += " mapping " + hex(&ct.mapping->args, sizeof(ct.mapping->args));
    if (ct.mark) text += fmt::format(" mark {:x}/{:x}", ct.mark->value, ct.mark->mask);
    if (ct.label) text += " label " + hex(&ct.label->args, sizeof(ct.label->args));
    if (ct.table) text += fmt::format(" then {}", *ct.table);
    operations_.push_back(text);
  }

  // Copies cost a slot each.
  bool fits() const {
    std::size_t slots = operations_.size();
    for (std::size_t i = 0; i + 1 < operations_.size(); ++i) slots += ends_a_packet(operations_[i]);
    return slots <= CTD_MAX_ACTIONS;
  }

  const RuleSet& rules_;
  ctd_flow_key key_;
  Operations operations_;
  int lookups_ = 0;
  bool failed_ = false;
};

// A flow's actions in the interpreter's words.
class Decoder {
 public:
  Decoder(const RecircTable& recirc, const ArgsTable& args) : recirc_(recirc), args_(args) {}

  Operations decode(const std::vector<ctd_action>& actions) const {
    Operations operations;
    for (std::size_t i = 0; i < actions.size(); ++i) {
      const bool copy = actions[i].type == CTD_ACT_CLONE;
      if (copy) {
        EXPECT_EQ(actions[i].arg, 1u);
        ++i;
      }
      operations.push_back(decode(actions.at(i)));
      EXPECT_EQ(copy, ends_a_packet(operations.back()) && i + 1 < actions.size()) << "only copies leave in between";
    }
    return operations;
  }

 private:
  std::string decode(const ctd_action& action) const {
    switch (action.type) {
      case CTD_ACT_OUTPUT:
        return fmt::format("output {}", action.output.port);
      case CTD_ACT_CT:
        return decode_ct(action);
      case CTD_ACT_CT_CLEAR:
        return "ct_clear";
      case CTD_ACT_ROUTE:
        return "route" + then(action.route.recirc_id);
      case CTD_ACT_STACK:
        return "stack";
      default:
        return fmt::format("unexpected {}", action.type);
    }
  }

  std::string decode_ct(const ctd_action& action) const {
    std::string text = fmt::format("ct {}{}{}zone {}", action.flags & CTD_CTF_COMMIT ? "commit " : "",
                                   action.flags & CTD_CTF_FORCE ? "force " : "",
                                   action.flags & CTD_CTF_NAT ? "nat " : "", action.ct.zone);
    if (action.ct.nat_id) text += " mapping " + hex(args_.nat.find(action.ct.nat_id), sizeof(ctd_nat_args));
    if (action.flags & CTD_CTF_MARK) text += fmt::format(" mark {:x}/{:x}", action.ct.mark, action.ct.mark_mask);
    if (action.flags & CTD_CTF_LABEL)
      text += " label " + hex(args_.labels.find(action.ct.label_id), sizeof(ctd_label_args));
    return text + then(action.ct.recirc_id);
  }

  std::string then(u32 id) const { return id ? fmt::format(" then {}", recirc_.find(id)->table) : ""; }

  const RecircTable& recirc_;
  const ArgsTable& args_;
};

class Property : public ::testing::Test {
 protected:
  static constexpr u8 tables = 4;

  Property() {
    EXPECT_TRUE(ports.add(1, "lan0"));
    EXPECT_TRUE(ports.add(2, "wan0"));
    for (u8 table = 0; table < tables; ++table) ids.push_back(recirc.id_of({.table = table}).value());
  }

  std::string random_rule() {
    static constexpr const char* matches[] = {"",
                                              "ip",
                                              "ipv6",
                                              "arp",
                                              "tcp",
                                              "udp",
                                              "icmp",
                                              "icmp6",
                                              "tcp,tp_dst=80",
                                              "tcp,tp_dst=0x40/0xffc0",
                                              "udp,tp_src=53",
                                              "udp,tp_dst=53",
                                              "icmp6,icmp_type=135",
                                              "icmp,icmp_type=8,icmp_code=0",
                                              "tcp6,tp_dst=443",
                                              "ip,nw_dst=10.0.0.0/8",
                                              "ip,nw_dst=192.0.2.80",
                                              "ip,nw_dst=224.0.0.0/3",
                                              "ip,nw_src=10.1.0.0/16",
                                              "ip,nw_src=10.0.0.2/255.0.0.255",
                                              "ipv6,ipv6_src=fe80::/10",
                                              "ipv6,ipv6_dst=ff00::/8",
                                              "tcp,nw_src=10.1.0.2,nw_dst=192.0.2.80",
                                              "ip,ip_frag=no",
                                              "ip,ip_frag=yes",
                                              "ip,ip_frag=later",
                                              "ip,nw_proto=47",
                                              "ip,nw_ttl=64",
                                              "ip,nw_tos=0",
                                              "tcp,tcp_flags=+ack",
                                              "tcp,tcp_flags=+syn-ack"};
    static constexpr const char* extras[] = {"in_port=1",
                                             "in_port=LOCAL",
                                             "out_port=2",
                                             "out_port=LOCAL",
                                             "ct_state=+trk+est",
                                             "ct_state=-trk",
                                             "ct_state=+trk+new",
                                             "ct_state=+inv",
                                             "ct_zone=5",
                                             "ct_mark=0x10/0x10",
                                             "ct_mark=1",
                                             "pkt_mark=0x80/0x80",
                                             "vlan_tci=0x1000/0x1000",
                                             "vlan_tci=0",
                                             "vlan_tci=0x0005/0x0fff",
                                             "dl_dst=01:00:00:00:00:00/01:00:00:00:00:00",
                                             "dl_src=02:00:00:00:00:11"};
    static constexpr const char* actions[] = {"output:1",
                                              "output:2",
                                              "LOCAL",
                                              "in_port",
                                              "stack",
                                              "route",
                                              "route(table=2)",
                                              "ct_clear",
                                              "ct(table=1,zone=5,nat)",
                                              "ct(commit,zone=5,nat(src=masquerade))",
                                              "ct(commit,nat(src=10.0.0.1-10.0.0.9:1-9))",
                                              "ct(commit,exec(set_field:0x1/0x1->ct_mark,set_field:0x5->ct_label))",
                                              "resubmit(,1)",
                                              "resubmit(,2)",
                                              "resubmit(,3)",
                                              "ct_clear,resubmit(,1)",
                                              "ct_clear,resubmit(,3)",
                                              "ct(commit,force,zone=1,nat(null))"};
    std::string rule = fmt::format("table={},priority={}", random.below(tables), random.below(6));
    const char* match = matches[random.below(std::size(matches))];
    if (*match) rule += fmt::format(",{}", match);
    for (int i = 0; i < 2; ++i) {
      if (random.one_in(2)) rule += fmt::format(",{}", extras[random.below(std::size(extras))]);
    }
    rule += " actions=";
    if (random.one_in(6)) return rule + "drop";
    for (std::size_t i = 0, n = 1 + random.below(3); i < n; ++i)
      rule += fmt::format("{}{}", i ? "," : "", actions[random.below(std::size(actions))]);
    return rule;
  }

  RuleSet random_rules() {
    RuleSet rules;
    for (std::size_t i = 0, n = 1 + random.below(14); i < n; ++i) {
      const std::string text = random_rule();
      // Two extras may contradict each other; such a text is no rule.
      if (Result<Rule> rule = parse_rule(text, ports)) rules.add(*rule);
    }
    return rules;
  }

  // Another packet that the flow matches: taken at random, or from what a rule is about, outside of the mask.
  ctd_key_words neighbour(const RuleSet& rules, const ctd_key_words& key, const ctd_key_words& mask, u32 recirc_id) {
    ctd_key_words other = words(random.next(recirc_id));
    const std::vector<RuleRef> all = rules.all();
    if (!all.empty() && random.one_in(2)) {
      const Match& match = all[random.below(all.size())]->rule.match;
      for (unsigned i = 0; i < CTD_KEY_WORDS; ++i) other.w[i] = match.value.w[i] | (other.w[i] & ~match.mask.w[i]);
    }
    if (random.one_in(4)) other = key;
    if (random.one_in(2)) other.w[random.below(CTD_KEY_WORDS)] ^= u64{1} << random.below(64);
    for (unsigned i = 0; i < CTD_KEY_WORDS; ++i) other.w[i] = (key.w[i] & mask.w[i]) | (other.w[i] & ~mask.w[i]);
    return other;
  }

  std::optional<Operations> interpret(const RuleSet& rules, const ctd_flow_key& key) const {
    const u8 table = key.recirc_id ? static_cast<u8>(recirc.find(key.recirc_id)->table) : u8{0};
    return Interpreter(rules, key).run(table);
  }

  u32 random_recirc() { return random.one_in(2) ? 0 : ids[random.below(ids.size())]; }

  RandomPackets random{42};
  PortNames ports;
  RecircTable recirc;
  ArgsTable args = test::no_args();
  std::vector<u32> ids;
};

std::string dump(const RuleSet& rules, const PortNames& ports) {
  std::string text;
  for (const RuleRef& entry : rules.all()) text += format_rule(entry->rule, ports) + "\n";
  return text;
}

TEST_F(Property, AFlowDoesWhatTheRulesDoForEveryPacketThatItMatches) {
  constexpr int rule_sets = 3000, packets = 6, neighbours = 24;
  int translated = 0, beyond_limits = 0, differing = 0;
  for (int set = 0; set < rule_sets; ++set) {
    const RuleSet rules = random_rules();
    for (int i = 0; i < packets; ++i) {
      const u32 recirc_id = random_recirc();
      const ctd_key_words key = words(random.next(recirc_id));
      const Result<Flow> flow = translate(rules, key.key, recirc, args);
      const std::optional<Operations> expected = interpret(rules, key.key);
      ASSERT_EQ(flow.has_value(), expected.has_value()) << dump(rules, ports);
      if (!flow) {
        ++beyond_limits;
        continue;
      }
      ++translated;
      const Operations operations = Decoder(recirc, args).decode(flow->actions);
      ASSERT_EQ(operations, *expected) << dump(rules, ports);
      for (int n = 0; n < neighbours; ++n) {
        const ctd_key_words other = neighbour(rules, key, flow->mask, recirc_id);
        differing += std::memcmp(&other, &key, sizeof(key)) != 0;
        const std::optional<Operations> others = interpret(rules, other.key);
        ASSERT_TRUE(others && *others == operations) << dump(rules, ports) << "in word-wise agreement, packet " << i;
      }
    }
  }
  // The test is worth something only if it has met many cases of each kind.
  EXPECT_GT(translated, 10000);
  EXPECT_GT(beyond_limits, 50);
  EXPECT_GT(differing, 100000);
}

TEST_F(Property, MasksHoldWhatTheyMustAndNoMoreThanTheRulesLookAt) {
  for (int set = 0; set < 1500; ++set) {
    const RuleSet rules = random_rules();
    ctd_key_words looked_at{};
    for (const RuleRef& entry : rules.all()) {
      for (unsigned i = 0; i < CTD_KEY_WORDS; ++i) looked_at.w[i] |= entry->rule.match.mask.w[i];
    }
    looked_at.key.in_port = looked_at.key.recirc_id = ~0u;
    looked_at.key.packet_type = looked_at.key.frag = 0xff;
    looked_at.key.eth_type = 0xffff;
    looked_at.key.vlan_tci |= htons(0x1000);
    const ctd_flow_key key = random.next(random_recirc());
    const Result<Flow> flow = translate(rules, key, recirc, args);
    if (!flow) continue;
    for (unsigned i = 0; i < CTD_KEY_WORDS; ++i) ASSERT_EQ(flow->mask.w[i] & ~looked_at.w[i], 0u) << dump(rules, ports);
    const ctd_flow_key& mask = flow->mask.key;
    ASSERT_EQ(mask.in_port, ~0u);
    ASSERT_EQ(mask.recirc_id, ~0u);
    ASSERT_EQ(mask.eth_type, 0xffff);
    ASSERT_EQ(mask.packet_type, 0xff);
    ASSERT_TRUE(mask.vlan_tci & htons(0x1000));
    const bool ip = key.eth_type == htons(0x0800) || key.eth_type == htons(0x86dd);
    ASSERT_TRUE(!ip || mask.frag == 0xff);
    const bool layer4 = mask.sport || mask.dport || mask.tcp_flags;
    ASSERT_TRUE(!layer4 || mask.ip_proto == 0xff) << dump(rules, ports);
  }
}

TEST_F(Property, AnInstalledFlowIsStillRightUnderTheRulesThatMadeIt) {
  int checked = 0;
  for (int set = 0; set < 3000; ++set) {
    const RuleSet rules = random_rules();
    const ctd_key_words key = words(random.next(random_recirc()));
    const Result<Flow> flow = translate(rules, key.key, recirc, args);
    if (!flow) continue;
    ++checked;
    ASSERT_TRUE(still_right(rules, flow->masked(key), flow->mask, flow->actions, recirc, args)) << dump(rules, ports);
  }
  EXPECT_GT(checked, 2000);
}

TEST_F(Property, AFlowThatIsStillRightUnderOtherRulesDoesWhatTheySay) {
  int kept = 0, refused = 0;
  for (int set = 0; set < 4000; ++set) {
    RuleSet rules = random_rules();
    const u32 recirc_id = random_recirc();
    const ctd_key_words key = words(random.next(recirc_id));
    const Result<Flow> flow = translate(rules, key.key, recirc, args);
    if (!flow) continue;
    if (Result<Rule> rule = parse_rule(random_rule(), ports)) rules.add(*rule);
    if (!still_right(rules, flow->masked(key), flow->mask, flow->actions, recirc, args)) {
      ++refused;
      continue;
    }
    ++kept;
    const Operations operations = Decoder(recirc, args).decode(flow->actions);
    for (int n = 0; n < 24; ++n) {
      const ctd_key_words other = neighbour(rules, key, flow->mask, recirc_id);
      const std::optional<Operations> others = interpret(rules, other.key);
      ASSERT_TRUE(others && *others == operations) << dump(rules, ports);
    }
  }
  EXPECT_GT(kept, 500);
  EXPECT_GT(refused, 200);
}

// The zone that a port publishes is the one in which each of its plain packets is tracked, if it is tracked at all.
TEST_F(Property, FastZoneIsTheZoneOfEveryPlainPacket) {
  int zones = 0, tracked = 0;
  for (int set = 0; set < 4000; ++set) {
    const RuleSet rules = random_rules();
    const u32 in_port = random.pick({1u, 2u, CTD_PORT_LOCAL});
    const std::optional<u16> zone = fast_zone(rules, in_port, CTD_IPV4);
    if (!zone) continue;
    ++zones;
    for (int i = 0; i < 50; ++i) {
      ctd_flow_key key = random.next(0);
      if (key.eth_type != htons(0x0800) || key.frag || key.vlan_tci || key.ct_state || (key.eth_dst[0] & 1)) continue;
      key.in_port = in_port;
      const std::optional<Operations> operations = interpret(rules, key);
      if (!operations) continue;
      for (const std::string& operation : *operations) {
        if (operation.starts_with("ct ")) {
          ++tracked;
          const std::string expected = fmt::format("zone {}", *zone);
          ASSERT_NE(operation.find(expected), std::string::npos) << dump(rules, ports);
          break;
        }
      }
    }
  }
  EXPECT_GT(zones, 100);
  EXPECT_GT(tracked, 500);
}

}  // namespace
}  // namespace ctd
