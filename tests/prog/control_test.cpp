// SPDX-License-Identifier: Apache-2.0
// What userspace asks of a running datapath: flush, credit, dumps, new versions, taking over.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include "lib/conn_json.hpp"
#include "prog/gateway.hpp"

namespace ctd::test {
namespace {

using testing::HasSubstr;

class ControlTest : public GatewayTest {
 protected:
  Out out() { return from("lan0", udp({})); }
  Out back() { return from("wan0", udp({.src = "10.0.2.2", .dst = "10.0.2.1", .sport = 53, .dport = 40000})); }
  // An answered connection that the fast path carries; how many packets that took, one way and the other.
  struct Sent {
    u64 out = 0, back = 0;
  };
  Sent settle() {
    Sent sent;
    const u64 before = count(CTD_COUNT_FAST_HIT);
    for (; sent.out < 20 && count(CTD_COUNT_FAST_HIT) < before + 4; sent.out++, sent.back++) {
      EXPECT_EQ(out().where, "wan0");
      EXPECT_EQ(back().where, "lan0");
    }
    EXPECT_GE(count(CTD_COUNT_FAST_HIT), before + 4);
    return sent;
  }
  void flush_all(u64 expected) {
    const Result<u64> flushed = dp().flush();
    ASSERT_TRUE(flushed) << flushed.error().message();
    EXPECT_EQ(*flushed, expected);
  }
  std::string dump() {
    ConnDump whole(ConnTable(dp().connections(), dp().rt()),
                   {jiffies(), dp().meta().hz, std::chrono::system_clock::now()}, {"gw", "t"});
    fmt::memory_buffer text;
    while (whole.next(text, 65536)) {
    }
    return fmt::to_string(text);
  }
  u64 flow_packets() {
    u64 sum = 0;
    for (const ctd_flow& flow : dp().flows()) sum += flow.gen & 1 ? flow.packets : 0;
    return sum;
  }
};

constexpr std::size_t kUdpBytes = 20 + 8 + 10;

TEST_F(ControlTest, FlushTakesEverything) {
  start();
  settle();
  from("lan0", tcp({}));
  from("lan0", ping({.src = "2001:db8:1::2", .dst = "2001:db8:2::2"}));
  ASSERT_EQ(connections().size(), 3u);
  flush_all(3);
  EXPECT_TRUE(connections().empty());
  EXPECT_EQ(entries("ct_tuple4"), 0u);
  EXPECT_EQ(entries("ct_tuple6"), 0u);
  EXPECT_EQ(entries("ct_cache4"), 0u);
  EXPECT_EQ(from("wan0", tcp({.src = "10.0.2.2", .dst = "10.0.2.1", .sport = 80, .dport = 40000, .flags = kSyn | kAck}))
                .where,
            "drop policy")
      << "nobody asked any more";
  EXPECT_EQ(out().where, "wan0");
  EXPECT_EQ(connections().size(), 1u);
  flush_all(1);
  flush_all(0);
}

// Ids wait in per-CPU caches, a few dozen each: a table must be well larger than those.
TEST_F(ControlTest, FlushedIdsAreUsedAgain) {
  constexpr unsigned kRound = 400;
  start({.conn_capacity = 1024});
  for (unsigned round = 0; round < 4; round++) {
    for (unsigned i = 0; i < kRound; i++) {
      ASSERT_EQ(from("lan0", udp({.sport = static_cast<std::uint16_t>(3000 + i)})).where, "wan0") << round << ", " << i;
    }
    flush_all(kRound);
  }
  EXPECT_LE(dp().rt()->high_water, 1024u);
}

TEST_F(ControlTest, DumpIsExactAfterCredit) {
  start();
  const Sent sent = settle();
  const Result<> credited = dp().credit();
  ASSERT_TRUE(credited) << credited.error().message();
  const ctd_conn conn = only();
  EXPECT_EQ(conn.count[CTD_DIR_ORIG].packets, sent.out);
  EXPECT_EQ(conn.count[CTD_DIR_REPLY].packets, sent.back);
  EXPECT_EQ(conn.count[CTD_DIR_ORIG].bytes, sent.out * kUdpBytes);
  EXPECT_EQ(conn.count[CTD_DIR_REPLY].bytes, sent.back * kUdpBytes);

  const std::string text = dump();
  EXPECT_THAT(text, HasSubstr("\"schema\":\"ctd.conntrack/1\""));
  EXPECT_THAT(text, HasSubstr(fmt::format("\"packets\":{},\"bytes\":{}", sent.out, sent.out * kUdpBytes)));
  EXPECT_THAT(text, HasSubstr("\"count\":1"));
  EXPECT_THAT(text, HasSubstr("\"complete\":true"));
  ASSERT_TRUE(dp().credit());
  EXPECT_EQ(only().count[CTD_DIR_ORIG].packets, sent.out) << "credited once";
}

// Credit is taken in time also by the packets themselves, or when the verdict goes.
TEST_F(ControlTest, NothingIsLostWhenAVerdictGoes) {
  start();
  Sent sent = settle();
  dp().raise_version();
  for (int i = 0; i < 3; i++, sent.out++, sent.back++) {
    out();
    back();
  }
  ASSERT_TRUE(dp().credit());
  EXPECT_EQ(only().count[CTD_DIR_ORIG].packets, sent.out);
  EXPECT_EQ(only().count[CTD_DIR_REPLY].packets, sent.back);
}

// The flows' own counters follow as well, as if every packet had passed all its flows.
TEST_F(ControlTest, FlowsCountWhatTheFastPathCarried) {
  start();
  out();
  back();
  out();
  const u64 begun = flow_packets();
  out();
  const u64 after_out = flow_packets();
  back();
  const u64 per_out = after_out - begun, per_back = flow_packets() - after_out;
  ASSERT_EQ(count(CTD_COUNT_FAST_HIT), 0u);
  EXPECT_GE(per_out, 2u) << "ct, then route";
  EXPECT_GE(per_back, 2u);

  const Sent sent = settle();
  ASSERT_TRUE(dp().credit());
  EXPECT_EQ(flow_packets(), begun + per_out * (sent.out + 1) + per_back * (sent.back + 1));
}

TEST_F(ControlTest, PortCounters) {
  start();
  const Sent sent = settle();
  const ctd_port_stats lan = dp().stats(1).value(), wan = dp().stats(2).value();
  EXPECT_EQ(lan.rx_packets, sent.out);
  EXPECT_EQ(lan.tx_packets, sent.back);
  EXPECT_EQ(wan.rx_packets, sent.back);
  EXPECT_EQ(wan.tx_packets, sent.out);
  EXPECT_EQ(lan.rx_bytes, sent.out * (14 + kUdpBytes));
  EXPECT_EQ(wan.tx_bytes, sent.out * (14 + kUdpBytes));
}

// A verdict is void under another version, and made again.
TEST_F(ControlTest, NewVersionVoidsVerdicts) {
  start();
  settle();
  const u64 hits = count(CTD_COUNT_FAST_HIT), made = count(CTD_COUNT_FAST_MADE);
  dp().raise_version();
  EXPECT_EQ(out().line, "udp 10.0.2.1:40000 > 10.0.2.2:53");
  EXPECT_EQ(back().line, "udp 10.0.2.2:53 > 10.1.0.2:40000");
  EXPECT_EQ(count(CTD_COUNT_FAST_HIT), hits);
  EXPECT_EQ(count(CTD_COUNT_FAST_MADE), made + 2);
  settle();
}

// The guard compares what the flows matched beside the tuple.
TEST_F(ControlTest, GuardsKeepRulesInForce) {
  start({.rules = {"table=1,priority=200,ip,pkt_mark=7,ct_state=+trk actions=drop",
                   "table=1,priority=200,ip,nw_tos=32,ct_state=+trk actions=drop"}});
  settle();
  EXPECT_EQ(from("lan0", udp({}), {.mark = 7}).where, "drop policy");
  EXPECT_EQ(from("lan0", frame().ipv4({.tos = 32}).udp().payload(10).build()).where, "drop policy");
  EXPECT_EQ(out().where, "wan0");
}

TEST_F(ControlTest, SweepRuns) {
  start();
  const u64 before = __atomic_load_n(&dp().rt()->sweeps, __ATOMIC_RELAXED);
  EXPECT_TRUE(wait_for([&] { return __atomic_load_n(&dp().rt()->sweeps, __ATOMIC_RELAXED) > before + 2; }));
}

// A daemon that starts again takes over connections, flows and recirculation ids.
TEST_F(ControlTest, RestartLosesNothing) {
  start();
  const Sent sent = settle();
  const std::string before = only_text();
  const std::size_t flows_before = flows().size();
  const FlowTable::Adopted adopted = restart();
  EXPECT_EQ(adopted.kept, flows_before);
  EXPECT_EQ(adopted.removed, 0u);
  EXPECT_EQ(only_text(), before);
  Out there = out();
  EXPECT_EQ(there.line, "udp 10.0.2.1:40000 > 10.0.2.2:53");
  EXPECT_EQ(there.misses, 0u);
  EXPECT_EQ(back().line, "udp 10.0.2.2:53 > 10.1.0.2:40000");
  ASSERT_TRUE(dp().credit());
  EXPECT_EQ(only().count[CTD_DIR_ORIG].packets, sent.out + 1);
  // What comes next is made by the new daemon beside what it took over.
  EXPECT_EQ(from("lan0", tcp({})).where, "wan0");
  EXPECT_EQ(from("lan0", ping({.src = "2001:db8:1::2", .dst = "2001:db8:2::2"})).where, "wan0");
  EXPECT_EQ(connections().size(), 3u);
  flush_all(3);
}

// What is pinned is of another version, or of another size: a clear refusal, and it runs on.
TEST_F(ControlTest, OthersDatapathIsRefused) {
  start();
  ASSERT_EQ(out().where, "wan0");
  const Result<JiffiesClock> clock = JiffiesClock::open();
  ASSERT_TRUE(clock);
  const auto refusal = [&](u32 capacity) {
    const auto opened =
        Datapath::open({.pins = pins(), .conn_capacity = capacity, .flow_capacity = 256, .tap_ifindex = 1}, *clock);
    return opened ? "opened" : opened.error().message();
  };
  EXPECT_THAT(refusal(2048), HasSubstr("was made for 1024 connections"));
  ctd_meta other = dp().meta();
  other.abi_version += 7;
  ASSERT_TRUE(map_set(dp(), "ctd_meta", u32{0}, other));
  EXPECT_THAT(refusal(1024), HasSubstr(fmt::format("ABI version {}", other.abi_version)));
  EXPECT_EQ(out().where, "wan0");
  EXPECT_EQ(connections().size(), 1u);
}

// The neighbour of a next hop changes its address: nobody tells the datapath, it finds out.
TEST_F(ControlTest, NeighbourThatMoves) {
  start();
  settle();
  sh("ip neighbour replace 10.0.2.2 lladdr 02:00:00:00:00:77 dev wan0 nud permanent");
  EXPECT_TRUE(wait_for([&] { return out().packet.bytes.at(5) == 0x77; }));
  const u64 hits = count(CTD_COUNT_FAST_HIT);
  EXPECT_TRUE(wait_for([&] { return out().packet.bytes.at(5) == 0x77 && count(CTD_COUNT_FAST_HIT) > hits; }))
      << "on the fast path again";
}

// A route goes: the same.
TEST_F(ControlTest, RouteThatGoes) {
  start();
  settle();
  sh("ip route add blackhole 10.0.2.2/32");
  EXPECT_TRUE(wait_for([&] { return out().where == "drop no_route"; }));
}

// The address of an interface changes: what is new leaves with the new one.
TEST_F(ControlTest, MasqueradeFollowsTheAddress) {
  start();
  EXPECT_EQ(out().line, "udp 10.0.2.1:40000 > 10.0.2.2:53");
  sh("ip address add 10.0.2.9/24 dev wan0 && ip address del 10.0.2.1/24 dev wan0 &&"
     "ip address show dev wan0 | grep -q 10.0.2.9 || ip address add 10.0.2.9/24 dev wan0");
  sync();
  EXPECT_EQ(from("lan0", udp({.dst = "10.0.2.3"})).line, "udp 10.0.2.9:40000 > 10.0.2.3:53");
}

struct RuleRow {
  const char* name;
  std::string actions;  // of UDP from lan0
  std::string where;
};
void PrintTo(const RuleRow& row, std::ostream* out) { *out << row.name; }

class ControlRule : public ControlTest, public testing::WithParamInterface<RuleRow> {};

// Actions beside those of the gateway policy: carried out, or a named drop.
TEST_P(ControlRule, IsCarriedOut) {
  const RuleRow& row = GetParam();
  start({.rules = {"table=0,priority=300,in_port=lan0,udp actions=" + row.actions,
                   "table=5,priority=1,ct_state=+trk actions=output:wan0", "table=5,priority=0 actions=drop"}});
  EXPECT_EQ(out().where, row.where);
  EXPECT_EQ(out().where, row.where) << "by flows";
}

INSTANTIATE_TEST_SUITE_P(
    Actions, ControlRule,
    testing::Values(RuleRow{"Drop", "drop", "drop policy"}, RuleRow{"Output", "output:wan0", "wan0"},
                    RuleRow{"BackOut", "in_port", "lan0"}, RuleRow{"Stack", "stack", "drop not_local"},
                    RuleRow{"Route", "route", "wan0"}, RuleRow{"CtThenOutput", "ct(commit,zone=3),output:wan0", "wan0"},
                    RuleRow{"CtToTable", "ct(table=5,zone=3)", "wan0"},
                    RuleRow{"CtClear", "ct(zone=3),ct_clear,goto_table:5", "drop policy"},
                    RuleRow{"Mark", "ct(commit,zone=3,exec(set_field:7->ct_mark)),output:wan0", "wan0"},
                    RuleRow{"Force", "ct(commit,force,zone=3),output:wan0", "wan0"}),
    [](const auto& tested) { return tested.param.name; });

// Drops count where the packet came in.
TEST_F(ControlTest, DropsCountAtTheirPort) {
  start();
  from("wan0", udp({.src = "10.0.2.2", .dst = "10.1.0.2"}));
  from("lan0", udp({.dst = "127.0.0.2"}));
  EXPECT_EQ(dp().stats(1)->drop[CTD_DROP_MARTIAN], 1u);
  EXPECT_EQ(dp().stats(1)->drop[CTD_DROP_POLICY], 0u);
  EXPECT_EQ(dp().stats(2)->drop[CTD_DROP_POLICY], 1u);
}

// More kinds of packets than flows fit: the idle make room, and every packet still gets through.
TEST_F(ControlTest, FlowsMakeRoom) {
  GatewayOptions options{.flow_capacity = 16};
  for (unsigned port = 1000; port < 1040; port++) {
    options.rules.push_back(fmt::format("table=0,priority=110,udp,tp_dst={} actions=ct(table=1,zone=0,nat)", port));
  }
  start(options);
  for (unsigned port = 1000; port < 1040; port++) {
    ASSERT_EQ(from("lan0", udp({.dport = static_cast<std::uint16_t>(port)})).where, "wan0") << port;
  }
  EXPECT_LE(flows().size(), 16u);
  EXPECT_EQ(connections().size(), 40u);
}

}  // namespace
}  // namespace ctd::test
