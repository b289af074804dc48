// SPDX-License-Identifier: Apache-2.0
// Expectations through the real programs: made by the daemon's class, met by packets under the gateway's own rules.
#include <cerrno>

#include <gmock/gmock.h>

#include "daemon/expectations.hpp"
#include "lib/addr.hpp"
#include "prog/gateway.hpp"

namespace ctd::test {
namespace {

using testing::HasSubstr;

class ExpectTest : public GatewayTest {
 protected:
  void open(const Packet& first = tcp({.dport = 21})) {
    start();
    expectations_.emplace(dp());
    EXPECT_EQ(from("lan0", first).where, "wan0");
    master = only();
  }
  Expectations& expectations() { return *expectations_; }

  // What FTP's active mode announces: the server's connection to the gateway's address, which is the client's.
  NewExpectation active(std::uint16_t port = 5000) const {
    NewExpectation wanted{.timeout_s = 60, .limit = 0};
    wanted.what.key = master.reply;
    wanted.what.key.sport = 0;
    wanted.what.key.dport = htons(port);
    wanted.what.expect.master = master.id;
    wanted.what.expect.master_seq = CTD_CTL_SEQ(master.ctl);
    follow_master(wanted.what, master);
    return wanted;
  }
  Expectation add(const NewExpectation& wanted) {
    const Result<Expectation> made = expectations().add(wanted);
    EXPECT_TRUE(made) << made.error().message();
    return made ? *made : Expectation{};
  }
  int refusal(const NewExpectation& wanted) {
    const Result<Expectation> made = expectations().add(wanted);
    return made ? 0 : made.error().code();
  }
  std::size_t listed() {
    const Result<std::vector<Expectation>> all = expectations().list();
    EXPECT_TRUE(all) << all.error().message();
    EXPECT_EQ(static_cast<s32>(all->size()), dp().rt()->expects);
    return all->size();
  }
  Out data(std::uint16_t port = 5000, std::uint16_t sport = 20) {
    return from("wan0", tcp({.src = "10.0.2.2", .dst = "10.0.2.1", .sport = sport, .dport = port}));
  }
  ctd_conn expected() const {
    for (const ctd_conn& conn : connections())
      if (conn.status & CTD_STATUS_EXPECTED) return conn;
    ADD_FAILURE() << "no expected connection";
    return {};
  }
  u64 counted(ctd_expect_counter what) const { return dp().ct_stats()->expects[what]; }

  ctd_conn master{};

 private:
  std::optional<Expectations> expectations_;
};

TEST_F(ExpectTest, TheAnnouncedConnectionIsLetInAndTranslated) {
  open();
  add(active());
  EXPECT_EQ(listed(), 1u);
  const Out out = data();
  EXPECT_EQ(out.where, "lan0");
  EXPECT_THAT(out.line, HasSubstr("10.1.0.2:5000"));
  const ctd_conn conn = expected();
  EXPECT_EQ(text(conn),
            "tcp SYN_SENT [EXPECTED CONFIRMED DST_NAT] 10.0.2.2:20 > 10.0.2.1:5000, 10.1.0.2:5000 > 10.0.2.2:20");
  EXPECT_EQ(conn.master, master.id);
  EXPECT_EQ(listed(), 0u);
  EXPECT_EQ(data().where, "lan0") << "its second packet, before an answer";
  const Out answer = from("lan0", tcp({.src = "10.1.0.2",
                                       .dst = "10.0.2.2",
                                       .sport = 5000,
                                       .dport = 20,
                                       .flags = kSyn | kAck,
                                       .seq = 7000,
                                       .ack = 1001}));
  EXPECT_EQ(answer.where, "wan0");
  EXPECT_THAT(answer.line, HasSubstr("10.0.2.1:5000"));
  EXPECT_EQ(counted(CTD_EXPECT_MADE), 1u);
  EXPECT_EQ(counted(CTD_EXPECT_USED), 1u);
}

// IPv6 is not masqueraded: the client has its own address outside.
TEST_F(ExpectTest, WhatIsNotTranslatedIsRoutedToTheInside) {
  open(tcp({.src = "2001:db8:1::2", .dst = "2001:db8:2::2", .dport = 21}));
  const Packet syn = tcp({.src = "2001:db8:2::2", .dst = "2001:db8:1::2", .sport = 20, .dport = 5000});
  EXPECT_EQ(from("wan0", syn).where, "drop policy");
  const NewExpectation wanted = active();
  EXPECT_EQ(wanted.what.expect.flags, 0) << "nothing to follow";
  add(wanted);
  EXPECT_EQ(from("wan0", syn).where, "lan0");
  EXPECT_EQ(expected().master, master.id);
}

// The client's own second connection, as FTP's passive mode has it.
TEST_F(ExpectTest, FromTheInsideItLeavesAsItsMaster) {
  open();
  NewExpectation wanted = active(7000);
  wanted.what.key.src = master.orig.src;
  wanted.what.key.dst = master.orig.dst;
  wanted.what.expect.flags = 0;
  follow_master(wanted.what, master);
  EXPECT_EQ(wanted.what.expect.flags, CTD_EXPECT_SNAT);
  add(wanted);
  const Out out = from("lan0", tcp({.sport = 41000, .dport = 7000}));
  EXPECT_EQ(out.where, "wan0");
  EXPECT_THAT(out.line, HasSubstr("10.0.2.1:41000"));
  EXPECT_EQ(expected().master, master.id);
}

TEST_F(ExpectTest, TheKernelsTimerTakesOutWhatHasExpired) {
  open();
  NewExpectation wanted = active();
  wanted.timeout_s = 1;
  add(wanted);
  EXPECT_TRUE(wait_for([&] { return dp().rt()->expects == 0; }));
  EXPECT_EQ(listed(), 0u);
  EXPECT_EQ(counted(CTD_EXPECT_TIMEOUT), 1u);
  data();
  EXPECT_EQ(connections().size(), 2u);
  for (const ctd_conn& conn : connections()) EXPECT_FALSE(conn.status & CTD_STATUS_EXPECTED);
}

TEST_F(ExpectTest, ItEndsWithItsMaster) {
  open();
  add(active());
  const Result<u64> flushed = dp().flush();
  ASSERT_TRUE(flushed);
  EXPECT_TRUE(wait_for([&] { return dp().rt()->expects == 0; }));
  EXPECT_EQ(counted(CTD_EXPECT_MASTER), 1u);
  EXPECT_EQ(refusal(active(5001)), ENOENT);
}

TEST_F(ExpectTest, LimitsAndWhoIsInTheWay) {
  open();
  for (std::uint16_t port : {5000, 5001, 5002}) {
    NewExpectation wanted = active(port);
    wanted.limit = 2;
    add(wanted);
  }
  EXPECT_EQ(listed(), 2u);
  EXPECT_EQ(counted(CTD_EXPECT_EVICTED), 1u);
  add(active(5002));
  EXPECT_EQ(counted(CTD_EXPECT_REPLACED), 1u) << "the same master's";
  from("lan0", tcp({.sport = 40001, .dport = 21}));
  const ctd_conn first = master;
  for (const ctd_conn& conn : connections())
    if (conn.id != first.id) master = conn;
  EXPECT_EQ(refusal(active(5002)), EEXIST);
  EXPECT_EQ(listed(), 2u);
}

TEST_F(ExpectTest, AFullTableRefusesAndTheListIsWhole) {
  open();
  for (u32 i = 0; i < CTD_MAX_EXPECTS; i++) add(active(static_cast<std::uint16_t>(1024 + i)));
  EXPECT_EQ(listed(), CTD_MAX_EXPECTS);
  EXPECT_EQ(refusal(active(60000)), ENOSPC);
  const std::vector<Expectation> all = *expectations().list();
  for (const Expectation& one : all) EXPECT_TRUE(*expectations().remove(one));
  EXPECT_EQ(listed(), 0u);
  EXPECT_FALSE(*expectations().remove(all.front())) << "it is gone";
}

TEST_F(ExpectTest, ItOutlivesTheDaemon) {
  open();
  add(active());
  restart();
  EXPECT_EQ(Expectations(dp()).list()->size(), 1u);
  EXPECT_EQ(data().where, "lan0");
  EXPECT_EQ(expected().master, master.id);
}

}  // namespace
}  // namespace ctd::test
