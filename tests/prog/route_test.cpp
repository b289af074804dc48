// SPDX-License-Identifier: Apache-2.0
// Single packets at the hooks: which way they go by the kernel's own routes and neighbours, what is dropped and under
// which name, and what is answered.
#include <algorithm>
#include <cstring>

#include <ctd/abi/upcall.h>
#include <gmock/gmock.h>

#include "daemon/sysctl.hpp"
#include "prog/gateway.hpp"
#include "unit/packet_check.hpp"

namespace ctd::test {
namespace {

constexpr std::string_view kClient6 = "2001:db8:1::2", kServer6 = "2001:db8:2::2";
constexpr std::string_view kMulticastMac = "01:00:5e:00:00:09", kMulticastMac6 = "33:33:00:00:00:09";

using RouteTest = GatewayTest;

unsigned be16_at(const Packet& p, std::size_t at) { return unsigned{p.bytes.at(at)} << 8 | p.bytes.at(at + 1); }

// Layer 3 of `in`, as far as an error quotes it.
void expect_quoted(const Packet& error, std::size_t at, const Packet& in) {
  const std::size_t quote = std::min<std::size_t>(128, in.bytes.size() - 14);
  ASSERT_EQ(error.bytes.size(), at + quote);
  EXPECT_TRUE(
      std::equal(error.bytes.begin() + static_cast<std::ptrdiff_t>(at), error.bytes.end(), in.bytes.begin() + 14))
      << "the packet is quoted as it came in";
}

struct Row {
  const char* name;
  std::string port;
  Packet in;
  std::string where;
  std::string then = "";  // the second time, without a miss; else the same
};

void PrintTo(const Row& row, std::ostream* out) { *out << row.name; }

class RouteRow : public RouteTest, public testing::WithParamInterface<Row> {};

TEST_P(RouteRow, GoesThere) {
  const Row& row = GetParam();
  start();
  EXPECT_EQ(from(row.port, row.in).where, row.where);
  const Out again = from(row.port, row.in);
  EXPECT_EQ(again.where, row.then.empty() ? row.where : row.then) << "by flows";
  EXPECT_EQ(again.misses, 0u);
}

std::vector<Row> to_the_host() {
  const auto multicast = [](std::string_view mac) { return PacketBuilder().eth(mac); };
  return {
      {.name = "Arp",
       .port = "lan0",
       .in = PacketBuilder()
                 .eth("ff:ff:ff:ff:ff:ff", kLanMac, 0x0806)
                 .payload(Bytes{0, 1, 8, 0, 6, 4, 0, 1})
                 .payload(20)
                 .build(),
       .where = "into lan0",
       .then = "stack"},
      {.name = "Lldp",
       .port = "wan0",
       .in = PacketBuilder().eth("01:80:c2:00:00:0e", kWanMac, 0x88cc).payload(46).build(),
       .where = "into wan0",
       .then = "stack"},
      {.name = "Tagged", .port = "lan0", .in = frame().vlan(5).ipv4().udp().build(), .where = "drop not_local"},
      {.name = "PingToTheInside",
       .port = "lan0",
       .in = ping({.dst = "10.1.0.1"}),
       .where = "into lan0",
       .then = "stack"},
      {.name = "PingToTheOutside",
       .port = "wan0",
       .in = ping({.src = "10.0.2.2", .dst = "10.0.2.1"}),
       .where = "into wan0",
       .then = "stack"},
      {.name = "PingToTheFarSide",
       .port = "lan0",
       .in = ping({.dst = "10.0.2.1"}),
       .where = "into lan0",
       .then = "stack"},
      {.name = "Ping6",
       .port = "lan0",
       .in = ping({.src = kClient6, .dst = "2001:db8:1::1"}),
       .where = "into lan0",
       .then = "stack"},
      {.name = "Broadcast",
       .port = "lan0",
       .in =
           multicast("ff:ff:ff:ff:ff:ff").ipv4({.src = "0.0.0.0", .dst = "255.255.255.255"}).udp({.dport = 67}).build(),
       .where = "into lan0",
       .then = "stack"},
      {.name = "SubnetBroadcast",
       .port = "lan0",
       .in = multicast("ff:ff:ff:ff:ff:ff").ipv4({.dst = "10.1.0.255"}).udp({.dport = 9}).build(),
       .where = "into lan0",
       .then = "stack"},
      {.name = "Igmp",
       .port = "lan0",
       .in = multicast(kMulticastMac).ipv4({.dst = "224.0.0.9", .ttl = 1, .proto = 2}).payload(8).build(),
       .where = "into lan0",
       .then = "stack"},
      {.name = "Multicast",
       .port = "lan0",
       .in = multicast(kMulticastMac).ipv4({.dst = "239.1.2.3"}).udp().build(),
       .where = "into lan0",
       .then = "stack"},
      {.name = "Multicast6",
       .port = "lan0",
       .in = multicast(kMulticastMac6).ipv6({.dst = "ff02::fb"}).udp({.dport = 5353}).build(),
       .where = "into lan0",
       .then = "stack"},
      {.name = "NeighbourSolicitation",
       .port = "lan0",
       .in = frame().ipv6({.dst = "2001:db8:1::1", .hop_limit = 255}).icmp({.type = 135}).payload(16).build(),
       .where = "into lan0",
       .then = "stack"},
      {.name = "LinkLocal6",
       .port = "lan0",
       .in = frame().ipv6({.src = "fe80::2", .dst = "fe80::1"}).udp().build(),
       .where = "into lan0",
       .then = "stack"},
  };
}

std::vector<Row> drops() {
  const auto to = [](std::string_view dst) { return udp({.dst = dst}); };
  return {
      {.name = "MulticastToOurMac", .port = "lan0", .in = to("239.1.2.3"), .where = "into lan0", .then = "stack"},
      {.name = "Class240", .port = "lan0", .in = to("240.1.2.3"), .where = "drop not_local"},
      {.name = "LinkLocal4", .port = "lan0", .in = to("169.254.1.1"), .where = "drop martian"},
      {.name = "ToLoopback", .port = "lan0", .in = to("127.0.0.1"), .where = "drop martian"},
      {.name = "ToNowhere", .port = "lan0", .in = to("0.0.0.0"), .where = "drop martian"},
      {.name = "FromLoopback", .port = "lan0", .in = udp({.src = "127.0.0.1"}), .where = "drop martian"},
      {.name = "FromMulticast", .port = "lan0", .in = udp({.src = "224.0.0.1"}), .where = "drop martian"},
      {.name = "FromNowhere", .port = "lan0", .in = udp({.src = "0.0.0.0"}), .where = "drop martian"},
      {.name = "FromBroadcast", .port = "lan0", .in = udp({.src = "255.255.255.255"}), .where = "drop martian"},
      {.name = "ToLoopback6", .port = "lan0", .in = udp({.src = kClient6, .dst = "::1"}), .where = "drop martian"},
      {.name = "FromUnspecified6", .port = "lan0", .in = udp({.src = "::", .dst = kServer6}), .where = "drop martian"},
      {.name = "FromMulticast6",
       .port = "lan0",
       .in = udp({.src = "ff02::1", .dst = kServer6}),
       .where = "drop martian"},
      {.name = "Spoofed", .port = "lan0", .in = udp({.src = "10.0.2.9"}), .where = "drop rpfilter"},
      {.name = "SpoofedFromOutside",
       .port = "wan0",
       .in = udp({.src = "10.1.0.9", .dst = "10.0.2.77"}),
       .where = "drop rpfilter"},
      {.name = "Spoofed6",
       .port = "lan0",
       .in = udp({.src = "2001:db8:2::9", .dst = kServer6}),
       .where = "drop rpfilter"},
      {.name = "Blackhole", .port = "lan0", .in = to("203.0.113.65"), .where = "drop no_route"},
      {.name = "Unreachable", .port = "lan0", .in = to("203.0.113.1"), .where = "lan0 (drop no_route)"},
      {.name = "Prohibited", .port = "lan0", .in = to("203.0.113.129"), .where = "lan0 (drop no_route)"},
      {.name = "OutOfNoPort", .port = "lan0", .in = to("10.3.0.2"), .where = "drop unknown_port"},
      {.name = "NewFromOutside",
       .port = "wan0",
       .in = udp({.src = "10.0.2.2", .dst = "10.1.0.2"}),
       .where = "drop policy"},
      {.name = "NewFromOutside6",
       .port = "wan0",
       .in = udp({.src = kServer6, .dst = kClient6}),
       .where = "drop policy"},
      {.name = "LastHop", .port = "lan0", .in = udp({.ttl = 1}), .where = "lan0 (drop ttl_exceeded)"},
      {.name = "LastHop6",
       .port = "lan0",
       .in = udp({.src = kClient6, .dst = kServer6, .ttl = 1}),
       .where = "lan0 (drop ttl_exceeded)"},
      {.name = "LastHopToTheHost",
       .port = "lan0",
       .in = udp({.dst = "10.1.0.1", .ttl = 1}),
       .where = "into lan0",
       .then = "stack"},
      {.name = "NeedsFragmentation",
       .port = "lan0",
       .in = frame().ipv4({.df = false}).udp().payload(1500).build(),
       .where = "drop needs_fragmentation"},
  };
}

INSTANTIATE_TEST_SUITE_P(ToTheHost, RouteRow, testing::ValuesIn(to_the_host()),
                         [](const auto& tested) { return tested.param.name; });
INSTANTIATE_TEST_SUITE_P(Drops, RouteRow, testing::ValuesIn(drops()),
                         [](const auto& tested) { return tested.param.name; });

TEST_F(RouteTest, RpFilterLooseAndOff) {
  start({.rpfilter = RpFilter::loose});
  EXPECT_EQ(from("lan0", udp({.src = "10.0.2.9"})).where, "wan0") << "there is a route, if another";
  EXPECT_EQ(from("lan0", udp({.src = "203.0.113.65"})).where, "drop rpfilter") << "there is none";
}

TEST_F(RouteTest, RpFilterOff) {
  start({.rpfilter = RpFilter::off});
  EXPECT_EQ(from("lan0", udp({.src = "203.0.113.65"})).where, "wan0");
}

TEST_F(RouteTest, OtherMacAddressesAreLeftAlone) {
  start();
  const Packet others = PacketBuilder().eth("02:00:00:00:00:99").ipv4().udp().build();
  const Out out = run("ctd_ingress", "lan0", others);
  EXPECT_EQ(out.where, "stack") << "which ignores it";
  EXPECT_EQ(out.packet.bytes, others.bytes);
  EXPECT_EQ(count(CTD_COUNT_FLOW_MISS), 0u);
}

TEST_F(RouteTest, DeviceThatIsNoPort) {
  start();
  EXPECT_EQ(run("ctd_ingress", "dmz0", frame().ipv4().udp().build()).where, "drop unknown_port");
  EXPECT_EQ(run("ctd_egress", "dmz0", frame().ipv4().udp().build()).where, "drop unknown_port");
}

TEST_F(RouteTest, WhatTheStackForwardsIsStopped) {
  start();
  const Packet packet = udp({});
  EXPECT_EQ(from_host("wan0", packet, {.came_from = ifindex("lan0")}).where, "drop stack_forward");
  const Packet multicast = PacketBuilder().eth(kMulticastMac).ipv4({.dst = "239.1.2.3"}).udp().build();
  EXPECT_EQ(from_host("wan0", multicast, {.came_from = ifindex("lan0")}).where, "drop stack_forward");
  EXPECT_EQ(count(CTD_COUNT_FLOW_MISS), 0u);
}

// Our own packets meet a hook again: they pass, once, unchanged.
TEST_F(RouteTest, TheTokenPasses) {
  start();
  const Packet packet = udp({});
  for (const char* program : {"ctd_ingress", "ctd_egress"}) {
    const Out out = run(program, "lan0", packet, {.came_from = ifindex("wan0"), .token = dp().meta().token});
    EXPECT_THAT(out.where, testing::AnyOf("stack", "on")) << program;
    EXPECT_EQ(out.packet.bytes, packet.bytes);
    EXPECT_EQ(run(program, "lan0", packet, {.came_from = ifindex("wan0"), .token = dp().meta().token ^ 1}).where,
              std::string_view(program) == "ctd_egress" ? "drop stack_forward" : "stack")
        << "another token is none";
  }
}

TEST_F(RouteTest, ForwardingOff) {
  start();
  ASSERT_TRUE(set_forwarding("lan0", CTD_IPV4, false));
  EXPECT_EQ(from("lan0", udp({})).where, "drop forwarding_off");
  EXPECT_EQ(from("lan0", ping({.dst = "10.1.0.1"})).where, "into lan0") << "the host is still there";
}

TEST_F(RouteTest, TimeExceeded) {
  start();
  const Packet in = udp({.payload = 200, .ttl = 1});
  const Out out = from("lan0", in);
  EXPECT_EQ(out.where, "lan0 (drop ttl_exceeded)");
  EXPECT_EQ(out.line, "icmp 11/0 10.1.0.1 > 10.1.0.2 [udp 10.1.0.2:40000 > 10.0.2.2:53]");
  expect_quoted(out.packet, 14 + 20 + 8, in);
  EXPECT_EQ(Bytes(out.packet.bytes.begin(), out.packet.bytes.begin() + 12),
            Bytes({2, 0, 0, 0, 0, 0x21, 2, 0, 0, 0, 0, 0x11}));
  EXPECT_EQ(count(CTD_COUNT_ICMP_SENT), 1u);
  EXPECT_TRUE(connections().empty());
}

TEST_F(RouteTest, TimeExceeded6) {
  start();
  const Packet in = udp({.src = kClient6, .dst = kServer6, .payload = 33, .ttl = 1});
  const Out out = from("lan0", in);
  EXPECT_EQ(out.line, "icmp 3/0 2001:db8:1::1 > 2001:db8:1::2 [udp 2001:db8:1::2.40000 > 2001:db8:2::2.53]");
  expect_quoted(out.packet, 14 + 40 + 8, in);
}

// Errors quote every length right, up to their own limit.
TEST_F(RouteTest, TimeExceededAboutAnyLength) {
  start();
  for (std::size_t payload = 0; payload < 130; payload++) {
    const Packet in = udp({.payload = payload, .ttl = 1});
    const Out out = from("lan0", in);
    ASSERT_EQ(out.where, "lan0 (drop ttl_exceeded)") << payload;
    expect_quoted(out.packet, 14 + 20 + 8, in);
  }
}

// The answer's sender knows the header before translation only.
TEST_F(RouteTest, TimeExceededOfATranslatedAnswer) {
  start();
  from("lan0", udp({.payload = 40}));
  const Packet in = udp({.src = "10.0.2.2", .dst = "10.0.2.1", .sport = 53, .dport = 40000, .payload = 40, .ttl = 1});
  const Out out = from("wan0", in);
  EXPECT_EQ(out.where, "wan0 (drop ttl_exceeded)");
  EXPECT_EQ(out.line, "icmp 11/0 10.0.2.1 > 10.0.2.2 [udp 10.0.2.2:53 > 10.0.2.1:40000]");
  expect_quoted(out.packet, 14 + 20 + 8, in);
}

TEST_F(RouteTest, TimeExceededOfATranslatedTcpAnswer) {
  start();
  from("lan0", tcp({}));
  Packet in = frame()
                  .ipv4({.src = "10.0.2.2", .dst = "10.0.2.1", .ttl = 1})
                  .tcp({.sport = 80, .dport = 40000, .flags = kSyn | kAck})
                  .payload(20)
                  .build();
  const Out out = from("wan0", in);
  EXPECT_EQ(out.line, "icmp 11/0 10.0.2.1 > 10.0.2.2 [tcp 10.0.2.2:80 > 10.0.2.1:40000]");
  expect_quoted(out.packet, 14 + 20 + 8, in);
}

TEST_F(RouteTest, FragmentationNeeded) {
  start();
  sh("ip link set wan0 mtu 1400");
  sync();
  const Packet in = udp({.payload = 1373});  // one byte too many
  const Out out = from("lan0", in);
  EXPECT_EQ(out.where, "lan0 (drop too_big)");
  EXPECT_EQ(out.line, "icmp 3/4 10.1.0.1 > 10.1.0.2 [udp 10.1.0.2:40000 > 10.0.2.2:53]");
  EXPECT_EQ(be16_at(out.packet, 14 + 20 + 6), 1400u);
  expect_quoted(out.packet, 14 + 20 + 8, in);
  EXPECT_EQ(from("lan0", udp({.payload = 1372})).where, "wan0");
}

TEST_F(RouteTest, PacketTooBig) {
  start();
  sh("ip link set wan0 mtu 1400");
  sync();
  const Packet in = udp({.src = kClient6, .dst = kServer6, .payload = 1353});
  const Out out = from("lan0", in);
  EXPECT_EQ(out.where, "lan0 (drop too_big)");
  EXPECT_EQ(out.line, "icmp 2/0 2001:db8:1::1 > 2001:db8:1::2 [udp 2001:db8:1::2.40000 > 2001:db8:2::2.53]");
  EXPECT_EQ(be16_at(out.packet, 14 + 40 + 6), 1400u);
  EXPECT_EQ(be16_at(out.packet, 14 + 40 + 4), 0u);
  expect_quoted(out.packet, 14 + 40 + 8, in);
  EXPECT_EQ(from("lan0", udp({.src = kClient6, .dst = kServer6, .payload = 1352})).where, "wan0");
}

// A route may have a smaller MTU than its device; forwarding minds only a locked one, as the kernel does.
TEST_F(RouteTest, MtuOfARoute) {
  start();
  sh("ip route add 10.99.0.0/16 via 10.0.2.254 mtu lock 1300");
  EXPECT_EQ(from("lan0", udp({.dst = "10.99.0.1", .payload = 1272})).where, "wan0");
  const Out out = from("lan0", udp({.dst = "10.99.0.1", .payload = 1273}));
  EXPECT_EQ(out.where, "lan0 (drop too_big)");
  EXPECT_EQ(be16_at(out.packet, 14 + 20 + 6), 1300u);
}

// Also once the fast path has it: a packet over the next hop's MTU takes the long way, to its error.
TEST_F(RouteTest, MtuOfARouteHoldsOnTheFastPath) {
  start();
  sh("ip route add 10.99.0.0/16 via 10.0.2.254 mtu lock 1300");
  const Datagram small{.dst = "10.99.0.1"}, large{.dst = "10.99.0.1", .payload = 1273};
  from("lan0", udp(small));
  from("wan0", udp({.src = "10.99.0.1", .dst = "10.0.2.1", .sport = 53, .dport = 40000}));
  EXPECT_TRUE(wait_for([&] {
    from("lan0", udp(small));
    return count(CTD_COUNT_FAST_HIT) > 0;
  }));
  EXPECT_EQ(from("lan0", udp(large)).where, "lan0 (drop too_big)");
}

// What is larger than the MTU only because it is not segmented yet passes; a segment that is too large does not.
TEST_F(RouteTest, SegmentsAreMeasured) {
  start();
  from("lan0", udp({}));  // makes the flows
  EXPECT_EQ(from("lan0", udp({.payload = 2900}), {.gso_size = 1472}).where, "wan0") << "1500 bytes a datagram";
  EXPECT_EQ(from("lan0", udp({.payload = 2900}), {.gso_size = 1473}).where, "lan0 (drop too_big)");

  from("lan0", tcp({}));
  from("wan0", tcp({.src = "10.0.2.2", .dst = "10.0.2.1", .sport = 80, .dport = 40000, .flags = kSyn | kAck}));
  from("lan0", tcp({.flags = kAck}));
  const Packet whole = tcp({.flags = kAck, .payload = 2900});
  EXPECT_EQ(from("lan0", whole, {.gso_size = 1460}).where, "wan0") << "1500 bytes a segment";
  EXPECT_EQ(from("lan0", whole, {.gso_size = 1461}).where, "lan0 (drop too_big)");
  EXPECT_EQ(
      from("lan0", frame().ipv4().tcp({.flags = kAck, .option_words = 3}).payload(2900).build(), {.gso_size = 1449})
          .where,
      "lan0 (drop too_big)")
      << "options are part of every segment";
}

// With an empty bucket errors are withheld, and counted.
TEST_F(RouteTest, ErrorsAreLimited) {
  start();
  EXPECT_EQ(from("lan0", udp({.ttl = 1})).where, "lan0 (drop ttl_exceeded)");
  // Between emptying it and the packet the clock may tick, which fills it a little.
  EXPECT_TRUE(wait_for([&] {
    __atomic_store_n(&dp().rt()->icmp_tokens, jiffies() << 32, __ATOMIC_RELAXED);
    return from("lan0", udp({.ttl = 1})).where == "drop ttl_exceeded";
  }));
  EXPECT_EQ(count(CTD_COUNT_ICMP_LIMITED), 1u);
}

struct Silent {
  const char* name;
  std::string port;
  Packet in;
  std::string where;
};

void PrintTo(const Silent& row, std::ostream* out) { *out << row.name; }

class RouteSilent : public RouteTest, public testing::WithParamInterface<Silent> {};

// RFC 1122, 3.2.2: what must never be answered by an error.
TEST_P(RouteSilent, IsNotAnswered) {
  const Silent& row = GetParam();
  start();
  from("lan0", udp({}));
  EXPECT_EQ(from(row.port, row.in).where, row.where);
  EXPECT_EQ(count(CTD_COUNT_ICMP_SENT), 0u);
}

std::vector<Silent> silent() {
  Packet error = icmp_error(udp({.src = "10.0.2.1"}), {.from = "10.9.9.9"});
  error.bytes.at(14 + 8) = 1;                                               // TTL
  error.bytes.at(14 + 10) = static_cast<u8>(error.bytes.at(14 + 10) + 63);  // and the checksum follows
  return {
      {.name = "AnError", .port = "wan0", .in = error, .where = "drop ttl_exceeded"},
      {.name = "Multicast",
       .port = "lan0",
       .in = PacketBuilder().eth(kMulticastMac).ipv4({.dst = "10.9.0.1", .ttl = 1}).udp().build(),
       .where = "into lan0"},
  };
}

INSTANTIATE_TEST_SUITE_P(Errors, RouteSilent, testing::ValuesIn(silent()),
                         [](const auto& tested) { return tested.param.name; });

// The miss that goes up names the packet's state; what comes down is believed only with the instance's token.
TEST_F(RouteTest, UpcallAndForgery) {
  start();
  Packet in = udp({});
  std::memcpy(in.bytes.data(), port("lan0").mac, 6);
  const Out miss = run("ctd_ingress", "lan0", in);
  ASSERT_EQ(miss.where, "tap");
  ctd_packet_meta meta{};
  ASSERT_EQ(miss.packet.bytes.size(), in.bytes.size() + sizeof(meta));
  EXPECT_EQ(be16_at(miss.packet, 12), CTD_ETH_P_UPCALL);
  std::memcpy(&meta, &miss.packet.bytes.at(14), sizeof(meta));
  EXPECT_EQ(meta.magic, CTD_UPCALL_MAGIC);
  EXPECT_EQ(meta.abi_version, CTD_ABI_VERSION);
  EXPECT_EQ(meta.token, dp().meta().token);
  EXPECT_EQ(meta.ifindex, ifindex("lan0"));
  EXPECT_EQ(meta.egress, 0u);
  EXPECT_EQ(meta.key.in_port, 1u);
  EXPECT_EQ(meta.key.ip_src.v4, address("10.1.0.2").v4);
  EXPECT_EQ(ntohs(meta.key.dport), 53u);
  EXPECT_TRUE(
      std::equal(miss.packet.bytes.begin() + 14 + sizeof(meta), miss.packet.bytes.end(), in.bytes.begin() + 14));

  EXPECT_EQ(run("ctd_tap_out", "ctd-t", miss.packet).where, "drop forged") << "from somebody else";
  EXPECT_EQ(run("ctd_tap_out", "ctd-t", miss.packet, {.token = dp().meta().token}).where, "stack");
  const auto down = [&](const ctd_packet_meta& m) {
    Packet back = miss.packet;
    back.bytes.at(12) = 0x08;
    back.bytes.at(13) = 0x00;
    std::memcpy(&back.bytes.at(14), &m, sizeof(m));
    return run("ctd_tap_in", "ctd-t", back).where;
  };
  EXPECT_EQ(down(meta), "tap") << "as it is: missed again";
  ctd_packet_meta wrong = meta;
  wrong.token ^= 1;
  EXPECT_EQ(down(wrong), "drop forged");
  wrong = meta;
  wrong.magic++;
  EXPECT_EQ(down(wrong), "drop forged");
  wrong = meta;
  wrong.abi_version++;
  EXPECT_EQ(down(wrong), "drop stale");
  wrong = meta;
  wrong.ifindex = ifindex("dmz0");
  EXPECT_EQ(down(wrong), "drop unknown_port");
  EXPECT_EQ(run("ctd_tap_in", "ctd-t", udp({})).where, "drop forged") << "no metadata at all";
  // Cut at any length: refused, or its packet is.
  for (std::size_t size = 15; size < miss.packet.bytes.size(); size += 3) {
    Packet cut = miss.packet;
    cut.bytes.at(12) = 0x08;
    cut.bytes.at(13) = 0x00;
    cut.bytes.resize(size);
    if (size < 34) cut.bytes.at(12) = 0x88;  // a test run wants IP headers whole
    EXPECT_THAT(run("ctd_tap_in", "ctd-t", cut).where,
                testing::AnyOf("drop forged", "drop truncated", "drop upcall_failed"))
        << size;
  }
}

// Flows that are there go on; a miss has nowhere to go.
TEST_F(RouteTest, NoDaemonNoUpcall) {
  start();
  EXPECT_EQ(from("lan0", udp({})).where, "wan0");
  daemon_alive_ = false;
  EXPECT_EQ(from("lan0", udp({.sport = 40001})).where, "wan0");
  EXPECT_EQ(from("lan0", ping({.src = kClient6, .dst = kServer6})).where, "drop upcall_no_daemon");
  EXPECT_EQ(connections().size(), 2u);
}

TEST_F(RouteTest, MissesAreLimited) {
  start();
  ASSERT_TRUE(map_set(dp(), "port_limits", u32{1}, ctd_port_limit{.rate = 0, .burst = 2, .tokens = 2, .filled = 0}));
  unsigned up = 0, limited = 0;
  for (int i = 0; i < 10; i++) {
    Packet in = udp({});
    std::memcpy(in.bytes.data(), port("lan0").mac, 6);
    const std::string where = run("ctd_ingress", "lan0", in).where;
    up += where == "tap";
    limited += where == "drop upcall_limit";
  }
  EXPECT_EQ(up + limited, 10u);
  EXPECT_GE(limited, 1u);
  EXPECT_EQ(from("wan0", ping({.src = "10.0.2.2", .dst = "10.0.2.1"})).where, "into wan0")
      << "the other port has its own";
}

}  // namespace
}  // namespace ctd::test
