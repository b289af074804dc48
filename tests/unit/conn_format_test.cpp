// SPDX-License-Identifier: Apache-2.0
#include <cstring>
#include <random>

#include <gtest/gtest.h>

#include "conn_fixture.hpp"
#include "lib/addr.hpp"
#include "lib/names.hpp"
#include "lib/rundir.hpp"
#include "lib/time.hpp"

namespace ctd {
namespace {

using namespace std::chrono;
using test::addr;

TEST(Address, Ipv4AsInetNtopWritesIt) {
  std::mt19937 random(1);
  for (int i = 0; i < 20000; ++i) {
    ctd_addr address{};
    address.v4 = i < 256 ? static_cast<u32>(i) * 0x01010101u : static_cast<u32>(random());
    char expected[INET_ADDRSTRLEN];
    ASSERT_NE(inet_ntop(AF_INET, address.b, expected, sizeof(expected)), nullptr);
    ASSERT_EQ(address_text(address, CTD_IPV4), expected);
  }
}

TEST(Address, Ipv6IsShort) {
  for (const char* text : {"::", "::1", "fe80::1", "2001:db8:1:2:3:4:5:6", "2001:db8::35", "::ffff:10.0.0.1"})
    EXPECT_EQ(address_text(addr(text), CTD_IPV6), text);
}

TEST(Address, TheLongestFits) {
  ctd_addr address{};
  std::memset(address.b, 0xff, sizeof(address.b));
  EXPECT_LE(address_text(address, CTD_IPV6).size(), kMaxAddressText);
  EXPECT_EQ(mac_text({0x02, 0, 0xab, 1, 2, 0xff}), "02:00:ab:01:02:ff");
}

TEST(Time, UtcText) {
  EXPECT_EQ(utc_text(sys_days{2026y / 11 / 22} + 19h), "2026-11-22T19:00:00.000Z");
  EXPECT_EQ(utc_text(sys_days{2028y / 2 / 29} + 23h + 59min + 59s + 999ms), "2028-02-29T23:59:59.999Z");
  EXPECT_EQ(utc_text(sys_days{1969y / 12 / 31} + 23h + 7ms), "1969-12-31T23:00:00.007Z");
}

TEST(Time, WallAtCountsBackInJiffies) {
  const KernelClock clock{.jiffies = 10'000, .hz = 250, .wall = sys_days{2026y / 11 / 22}};
  EXPECT_EQ(clock.wall_at(10'000), clock.wall);
  EXPECT_EQ(clock.wall_at(9'999), clock.wall - 4ms);
  EXPECT_EQ(clock.wall_at(10'250), clock.wall + 1s) << "a stamp written after the clock was read";
}

TEST(Time, JiffiesSinceWraps) {
  EXPECT_EQ(jiffies_since(5, 0xfffffffbu), 10u);
  EXPECT_EQ(jiffies_since(5, 5), 0u);
  EXPECT_EQ(jiffies_since(5, 9), 0u);
}

TEST(Time, DurationText) {
  EXPECT_EQ(duration_text(0), "0s");
  EXPECT_EQ(duration_text(59), "59s");
  EXPECT_EQ(duration_text(60), "1m00s");
  EXPECT_EQ(duration_text(7431), "2h03m");
  EXPECT_EQ(duration_text(432'000), "5d00h");
}

TEST(Names, EachDropReasonAndCounterHasNameAndText) {
  ASSERT_EQ(drop_reasons().size(), static_cast<std::size_t>(CTD_DROP_COUNT));
  EXPECT_EQ(drop_reasons()[CTD_DROP_POLICY].name, "policy");
  EXPECT_EQ(drop_reasons()[CTD_DROP_NAT_EXHAUSTED].name, "nat_exhausted");
  EXPECT_EQ(counters()[CTD_COUNT_CT_NEW].name, "ct_new");
  for (const auto list : {drop_reasons(), counters()})
    for (const NameAndText& entry : list) EXPECT_FALSE(entry.name.empty() || entry.text.empty());
}

TEST(Names, Protocols) {
  EXPECT_EQ(protocol_text(IPPROTO_ICMPV6), "icmpv6");
  EXPECT_EQ(protocol_text(200), "200");
  EXPECT_EQ(port_use(IPPROTO_UDPLITE), PortUse::kPorts);
  EXPECT_EQ(port_use(IPPROTO_ICMPV6), PortUse::kIcmp);
  EXPECT_EQ(port_use(200), PortUse::kNone);
}

TEST(Names, StatesOfEachProtocol) {
  EXPECT_EQ(conn_state_name(IPPROTO_TCP, CTD_TCP_TIME_WAIT), "TIME_WAIT");
  EXPECT_EQ(conn_state_name(IPPROTO_UDP, CTD_OTHER_REPLIED), "REPLIED");
  EXPECT_EQ(conn_state_name(IPPROTO_UDP, CTD_TCP_TIME_WAIT), "UNKNOWN");
}

TEST(Rundir, InstanceNames) {
  EXPECT_EQ(control_socket_path("/run/ctd", "default").value(), "/run/ctd/default/ctd.sock");
  for (const char* bad : {"", ".", "..", ".hidden", "a/b", "a b", "ä"}) EXPECT_FALSE(check_instance_name(bad)) << bad;
  EXPECT_FALSE(check_instance_name(std::string(33, 'a')));
  EXPECT_TRUE(check_instance_name(std::string(32, 'a')));
}

TEST(Rundir, APathTooLongForASocketSaysSo) {
  const auto path = control_socket_path("/" + std::string(100, 'd'), "default");
  ASSERT_FALSE(path);
  EXPECT_NE(path.error().message().find("107"), std::string::npos) << path.error().message();
}

}  // namespace
}  // namespace ctd
