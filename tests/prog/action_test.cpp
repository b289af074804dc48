// SPDX-License-Identifier: Apache-2.0
// The arguments of ct(), from a rule's text to the record, through the real programs.
#include <gmock/gmock.h>

#include "prog/gateway.hpp"

namespace ctd::test {
namespace {

class ActionTest : public GatewayTest {
 protected:
  // Both sides go through `ct` when they are new, and out at the other side; known connections just pass.
  static GatewayOptions with(const std::string& from_lan, const std::string& from_wan = "drop") {
    return {.rules = {"priority=300,udp,in_port=lan0 actions=ct(table=10,zone=5,nat)",
                      "priority=300,udp,in_port=wan0 actions=ct(table=20,zone=5,nat)",
                      "table=10,priority=10,udp,ct_state=+new+trk actions=" + from_lan,
                      "table=20,priority=10,udp,ct_state=+trk actions=" + from_wan}};
  }
  Out client(std::uint16_t sport = 40000) { return from("lan0", udp("10.1.0.2", sport, "10.0.2.2", 53)); }
  Out server(std::uint16_t dport = 40000) { return from("wan0", udp("10.0.2.2", 53, "10.1.0.2", dport)); }
  s32 in_zone(u16 zone) const { return dp().zones()[zone].count; }

 private:
  static Packet udp(std::string_view src, std::uint16_t sport, std::string_view dst, std::uint16_t dport) {
    return frame().ipv4({.src = src, .dst = dst}).udp({.sport = sport, .dport = dport}).payload(10).build();
  }
};

TEST_F(ActionTest, MarkLabelAndPolicy) {
  GatewayOptions options = with(
      "ct(commit,zone=5,timeout=quick,exec(set_field:0x7/0xf->ct_mark,load:0xab->NXM_NX_CT_LABEL[8..15])),output:wan0");
  options.conntrack.policies["quick"].timeouts_s = {{CTD_TIMEOUT_UDP, 11},
                                                    {u32{CTD_TIMEOUT_UDP} + CTD_OTHER_REPLIED, 22}};
  options.rules.emplace_back(
      "table=20,priority=20,udp,ct_state=+est+rpl+trk,ct_mark=0x7,ct_label=0xab00,ct_zone=5,ct_nw_src=10.1.0.2,"
      "ct_nw_proto=17,ct_tp_dst=53 actions=output:lan0");
  start(options);
  EXPECT_EQ(client().where, "wan0");
  EXPECT_EQ(only().mark, 7u);
  EXPECT_EQ(only().label[1], 0xab);
  EXPECT_EQ(only().orig.zone, 5);
  EXPECT_EQ(only().timeout, 11 * dp().meta().hz);
  EXPECT_EQ(server().where, "lan0") << "all of that is in its key";
  EXPECT_EQ(only().timeout, 22 * dp().meta().hz);
}

TEST_F(ActionTest, SecondCommitChangesTheMark) {
  start(with("ct(commit,zone=5,exec(set_field:1->ct_mark)),output:wan0",
             "ct(commit,zone=5,exec(set_field:2->ct_mark)),output:lan0"));
  client();
  EXPECT_EQ(only().mark, 1u);
  EXPECT_EQ(server().where, "lan0");
  EXPECT_EQ(only().mark, 2u);
}

TEST_F(ActionTest, ForceTurnsAConnectionRound) {
  start(with("ct(commit,zone=5),output:wan0", "ct(commit,force,zone=5),output:lan0"));
  client();
  EXPECT_EQ(server().where, "lan0");
  EXPECT_THAT(only_text(), testing::HasSubstr(" 10.0.2.2:53 > 10.1.0.2:40000, "));
  EXPECT_EQ(in_zone(5), 1);
}

TEST_F(ActionTest, ZoneFromTheInputPortAndCtClear) {
  start({.rules = {
             "priority=300,udp,in_port=lan0 actions=ct(commit,zone=NXM_OF_IN_PORT[]),ct_clear,"
             "ct(commit,zone=9,exec(load:7->NXM_NX_CT_MARK[])),ct(commit,zone=NXM_NX_CT_MARK[0..15]),output:wan0"}});
  EXPECT_EQ(client().where, "wan0");
  EXPECT_EQ(in_zone(1), 1) << "lan0 is port 1";
  EXPECT_EQ(in_zone(9), 1);
  EXPECT_EQ(in_zone(7), 1);
}

TEST_F(ActionTest, ZonesHaveLimits) {
  GatewayOptions options = with("ct(commit,zone=5),output:wan0");
  options.conntrack.zones[5].limit = 3;
  options.conntrack.default_limit = 1000;
  start(options);
  for (std::uint16_t port = 1000; port < 1003; port++) EXPECT_EQ(client(port).where, "wan0");
  for (std::uint16_t port = 1003; port < 1010; port++) EXPECT_EQ(client(port).where, "drop ct_limit");
  EXPECT_EQ(drops(CTD_DROP_CT_LIMIT), 7u);
  ASSERT_EQ(ct().zones().zones.size(), 1u);
  EXPECT_EQ(ct().zones().zones[0].count, 3u);

  ct().set_limit(5, 4);
  EXPECT_EQ(client(1003).where, "wan0");
  EXPECT_EQ(client(1004).where, "drop ct_limit");
  ct().delete_limit(5);
  EXPECT_EQ(client(1004).where, "wan0") << "the default limit is higher";
  ct().set_limit(std::nullopt, 5);
  EXPECT_EQ(client(1005).where, "drop ct_limit");
  EXPECT_TRUE(dp().flush());
  EXPECT_EQ(in_zone(5), 0);
  EXPECT_EQ(client(1005).where, "wan0");
}

TEST_F(ActionTest, PoliciesKeepTheirIdsOverARestart) {
  GatewayOptions options = with("ct(commit,zone=5),output:wan0");
  options.conntrack.policies["b"].tcp_liberal = true;
  options.conntrack.zones[5].policy = "b";
  start(options);
  client();
  const u16 id = ct().policies().at("b");
  EXPECT_EQ(only().timeout_policy, id);

  options_.conntrack.policies["a"].tcp_pickup = false;  // before "b" in order
  restart();
  EXPECT_EQ(ct().policies().at("b"), id);
  EXPECT_NE(ct().policies().at("a"), id);
  EXPECT_EQ(in_zone(5), 1) << "counts are the datapath's";
  const auto list = ct().policy_list();
  ASSERT_TRUE(list);
  ASSERT_EQ(list->size(), 3u);
  EXPECT_EQ((*list)[2].name, "b");
  EXPECT_EQ((*list)[2].policy.flags, u32{CTD_CTP_LIBERAL});
  EXPECT_EQ((*list)[2].policy.timeout_s[CTD_TIMEOUT_UDP], 120u) << "the default's";
}

}  // namespace
}  // namespace ctd::test
