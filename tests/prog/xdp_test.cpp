// SPDX-License-Identifier: Apache-2.0
// The core as an XDP program finds the connections that the TC programs made, in the same maps.
#include <gmock/gmock.h>

#include "prog/gateway.hpp"
#include "prog/xdp_find.hpp"

namespace ctd::test {
namespace {

class XdpTest : public GatewayTest {
 protected:
  void SetUp() override {
    GatewayTest::SetUp();
    start();
    xdp_.open(pins(), dp());
  }
  XdpFind xdp_;
};

struct Row {
  const char* name;
  Packet out, back, other;  // `other` belongs to no connection
};

void PrintTo(const Row& row, std::ostream* out) { *out << row.name; }

class XdpRow : public XdpTest, public testing::WithParamInterface<Row> {};

TEST_P(XdpRow, FindsBothDirections) {
  const Row& row = GetParam();
  EXPECT_EQ(xdp_.find(row.out).conn, CTD_CONN_NONE) << "not there yet";
  ASSERT_EQ(from("lan0", row.out).where, "wan0");
  const ctd_conn conn = only();

  XdpFind::Found found = xdp_.find(row.out);
  EXPECT_EQ(found.conn, conn.id);
  EXPECT_EQ(found.dir, u32{CTD_DIR_ORIG});
  EXPECT_EQ(found.status, conn.status);

  found = xdp_.find(row.back);
  EXPECT_EQ(found.conn, conn.id);
  EXPECT_EQ(found.dir, u32{CTD_DIR_REPLY});

  EXPECT_EQ(xdp_.find(row.other).conn, CTD_CONN_NONE);

  ASSERT_EQ(from("wan0", row.back).where, "lan0");
  EXPECT_TRUE(xdp_.find(row.back).status & CTD_STATUS_SEEN_REPLY);
}

INSTANTIATE_TEST_SUITE_P(
    Protocols, XdpRow,
    testing::Values(
        Row{.name = "Tcp4",
            .out = tcp({}),
            .back = tcp({.src = "10.0.2.2", .dst = "10.0.2.1", .sport = 80, .dport = 40000, .flags = kSyn | kAck}),
            .other = tcp({.sport = 40001})},
        Row{.name = "Udp4",
            .out = udp({}),
            .back = udp({.src = "10.0.2.2", .dst = "10.0.2.1", .sport = 53, .dport = 40000}),
            .other = udp({.dst = "10.0.2.3"})},
        Row{.name = "Ping4",
            .out = ping({}),
            .back = ping({.src = "10.0.2.2", .dst = "10.0.2.1", .reply = true}),
            .other = ping({.id = 78})},
        Row{.name = "Udp6",
            .out = udp({.src = "2001:db8:1::2", .dst = "2001:db8:2::2"}),
            .back = udp({.src = "2001:db8:2::2", .dst = "2001:db8:1::2", .sport = 53, .dport = 40000}),
            .other = udp({.src = "2001:db8:1::3", .dst = "2001:db8:2::2"})},
        Row{.name = "Ping6",
            .out = ping({.src = "2001:db8:1::2", .dst = "2001:db8:2::2"}),
            .back = ping({.src = "2001:db8:2::2", .dst = "2001:db8:1::2", .reply = true}),
            .other = ping({.src = "2001:db8:1::2", .dst = "2001:db8:2::3"})}),
    [](const auto& tested) { return tested.param.name; });

// XDP sees a tag inline; the connection behind it is the same.
TEST_F(XdpTest, LooksBehindATag) {
  ASSERT_EQ(from("lan0", udp({})).where, "wan0");
  EXPECT_EQ(xdp_.find(frame().vlan(5).ipv4().udp().payload(10).build()).conn, only().id);
}

TEST_F(XdpTest, FindsNothingAfterAFlush) {
  ASSERT_EQ(from("lan0", udp({})).where, "wan0");
  ASSERT_NE(xdp_.find(udp({})).conn, CTD_CONN_NONE);
  const Result<u64> flushed = dp().flush();
  ASSERT_TRUE(flushed) << flushed.error().message();
  EXPECT_EQ(xdp_.find(udp({})).conn, CTD_CONN_NONE);
}

TEST_F(XdpTest, FragmentsAndErrorsHaveNoConnection) {
  ASSERT_EQ(from("lan0", udp({})).where, "wan0");
  EXPECT_EQ(xdp_.find(frame().ipv4({.df = false, .more = true}).udp().payload(8).build()).conn, CTD_CONN_NONE);
  EXPECT_EQ(xdp_.find(frame().ipv4({.df = false, .fragment = 8, .proto = 17}).payload(8).build()).conn, CTD_CONN_NONE);
}

}  // namespace
}  // namespace ctd::test
