// SPDX-License-Identifier: Apache-2.0
// Translation: every checksum of every packet is right (World::run() looks), whole, partial or the device's, both ways,
// and in the quotes of ICMP errors.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "core_world.hpp"
#include "packet_check.hpp"

namespace ctd::test {
namespace {

enum class L4 { kTcp, kUdp, kUdpNoChecksum, kEcho };
enum class Csum { kWhole, kPartial, kComplete };

struct Case {
  bool v6;
  L4 l4;
  Csum csum;
};

std::string name_of(const testing::TestParamInfo<Case>& info) {
  static constexpr const char* kL4[] = {"Tcp", "Udp", "UdpNoChecksum", "Echo"};
  static constexpr const char* kCsum[] = {"Whole", "Partial", "Complete"};
  return fmt::format("{}{}{}", kL4[static_cast<int>(info.param.l4)], info.param.v6 ? 6 : 4,
                     kCsum[static_cast<int>(info.param.csum)]);
}

// A client inside, a server outside, addresses and ports that change with every packet.
class Translation : public testing::TestWithParam<Case> {
 protected:
  Packet packet_of(std::string_view src, std::string_view dst, std::uint16_t sport, std::uint16_t dport, bool reply,
                   std::size_t payload) {
    const auto [v6, l4, csum] = GetParam();
    PacketBuilder b = frame();
    if (v6)
      b.ipv6({.src = src, .dst = dst});
    else
      b.ipv4({.src = src, .dst = dst});
    switch (l4) {
      case L4::kTcp:
        b.tcp({.sport = sport, .dport = dport, .flags = static_cast<std::uint8_t>(reply ? kSyn | kAck : kSyn)});
        break;
      case L4::kUdp:
      case L4::kUdpNoChecksum:
        b.udp({.sport = sport, .dport = dport, .no_checksum = l4 == L4::kUdpNoChecksum});
        break;
      case L4::kEcho:
        b.icmp({.type = static_cast<std::uint8_t>(v6 ? (reply ? 129 : 128) : (reply ? 0 : 8)),
                .id = reply ? dport : sport});
    }
    b.payload(payload);
    if (csum == Csum::kPartial) b.partial();
    return b.build();
  }

  Out send(World& w, std::uint32_t port, const Packet& p) {
    if (GetParam().csum != Csum::kComplete) return w.from(port, p, 64);
    Packet q = p;
    for (int i = 0; i < 6; i++) {
      q.bytes[static_cast<std::size_t>(i)] = w.port(port).mac[i];
    }
    NativePacket n = to_native(q);
    n->ifindex = n->ingress_ifindex = kIfindexOf + port;
    native_packet_csum_complete(n.get());
    Out out = w.run(std::move(n), NATIVE_INGRESS);
    if (out.skb) {
      EXPECT_TRUE(GetParam().v6 || native_packet_csum_true(out.skb.get())) << "the device's sum: " << out.line;
    }
    return out;
  }
};

TEST_P(Translation, BothWaysManyAddresses) {
  const bool v6 = GetParam().v6;
  std::mt19937 rng(1);
  World w({.native = {.conn_capacity = 512, .unanswered_quota = 500, .answered_quota = 500}, .masquerade6 = true});
  for (int i = 0; i < 200; i++) {
    if (i % 20 == 0) native_fold_csum_diff(i % 40 != 0);
    std::string client = v6 ? fmt::format("2001:db8:1::{:x}:{:x}", rng() % 0xffff + 1, rng() % 0xffff + 1)
                            : fmt::format("10.1.0.{}", rng() % 253 + 2);
    std::string server = v6 ? fmt::format("2001:db8:{:x}::{:x}", rng() % 0xffff + 16, rng() % 0xffff + 1)
                            : fmt::format("{}.{}.{}.{}", rng() % 100 + 20, rng() % 256, rng() % 256, rng() % 256);
    auto sport = static_cast<std::uint16_t>(1024 + rng() % 64000),
         dport = static_cast<std::uint16_t>(1 + rng() % 65000);
    Packet out_packet = packet_of(client, server, sport, dport, false, rng() % 90);
    Out out = send(w, kLan, out_packet);
    ASSERT_THAT(out.where, testing::StartsWith("wan via ")) << line_of(out_packet);
    ASSERT_EQ(out.line.find(client + (v6 ? "." : ":")), std::string::npos) << "an inside address outside: " << out.line;
    const ctd_conn& c = *w.connections().back();
    std::string mine = v6 ? "2001:db8:2::b1" : "10.0.2.1";
    std::uint16_t mapped = __builtin_bswap16(GetParam().l4 == L4::kEcho ? c.reply.sport : c.reply.dport);
    Packet back = packet_of(server, mine, dport, mapped, true, rng() % 90);
    out = send(w, kWan, back);
    ASSERT_EQ(out.where, "lan via " + address_text(address(client), v6));
    EXPECT_EQ(out.line, line_of(packet_of(server, client, dport, sport, true, 0)));
  }
  EXPECT_EQ(w.broken(), "");
}

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (bool v6 : {false, true})
    for (L4 l4 : {L4::kTcp, L4::kUdp, L4::kUdpNoChecksum, L4::kEcho})
      for (Csum csum : {Csum::kWhole, Csum::kPartial, Csum::kComplete})
        if (!(l4 == L4::kUdpNoChecksum && (v6 || csum == Csum::kPartial)) &&
            !(l4 == L4::kEcho && !v6 && csum == Csum::kPartial))
          cases.push_back({v6, l4, csum});
  return cases;
}
INSTANTIATE_TEST_SUITE_P(All, Translation, testing::ValuesIn(all_cases()), name_of);

// A checksum that becomes zero: UDP must not say "none" (RFC 768).
TEST(HeaderTranslation, UdpChecksumNeverBecomesZero) {
  World w({.native = {.unanswered_quota = 250}});
  int zeros = 0;
  for (unsigned i = 0; i < 65536 && zeros < 3; i++) {
    Packet p = frame()
                   .ipv4({.src = "10.0.2.1"})
                   .udp({.sport = 5000})
                   .payload({static_cast<std::uint8_t>(i >> 8), static_cast<std::uint8_t>(i)})
                   .build();
    if (p.bytes[40] != 0xff || p.bytes[41] != 0xff) continue;
    zeros++;  // as it will leave, its sum is zero
    Out out = w.from(kLan, frame()
                               .ipv4()
                               .udp({.sport = 5000})
                               .payload({static_cast<std::uint8_t>(i >> 8), static_cast<std::uint8_t>(i)})
                               .build());
    ASSERT_EQ(out.where, "wan via 10.0.2.2");
    EXPECT_EQ(out.packet.bytes[40] << 8 | out.packet.bytes[41], 0xffff);
  }
  EXPECT_GE(zeros, 1);
}

TEST(HeaderTranslation, GsoSuperpacketsPassUnharmed) {
  for (bool v6 : {false, true}) {
    World w({.masquerade6 = true});
    PacketBuilder b = frame();
    v6 ? b.ipv6() : b.ipv4();
    Out out = w.from(kLan, b.tcp().payload(60000).partial().gso(1400).build(), 66);
    EXPECT_THAT(out.where, testing::StartsWith("wan via"));
    EXPECT_EQ(out.packet.gso_size, 1400);
    EXPECT_TRUE(out.packet.partial);
  }
}

// ICMP errors from outside about translated packets, at every length of quote.
struct ErrorRow {
  const char* name;
  bool v6;
  L4 l4;
  std::size_t payload;
};
class RelatedError : public testing::TestWithParam<ErrorRow> {
 protected:
  static Packet first(const ErrorRow& row, std::string_view src) {
    PacketBuilder b = frame();
    row.v6 ? b.ipv6({.src = src}) : b.ipv4({.src = src});
    if (row.l4 == L4::kTcp)
      b.tcp();
    else if (row.l4 == L4::kEcho)
      b.icmp({.type = static_cast<std::uint8_t>(row.v6 ? 128 : 8)});
    else
      b.udp({.no_checksum = row.l4 == L4::kUdpNoChecksum});
    return b.payload(row.payload).build();
  }
};

TEST_P(RelatedError, IsTranslatedWithItsQuote) {
  const ErrorRow& row = GetParam();
  const std::string client = row.v6 ? "2001:db8:1::2" : "10.1.0.2", router = row.v6 ? "2001:db8:99::1" : "192.0.2.99";
  const std::size_t header = row.v6 ? 48 : 28;
  for (std::size_t quote = header; quote <= header + 12 + row.payload; quote++) {
    SCOPED_TRACE(testing::Message() << "quoting " << quote);
    World w({.masquerade6 = true});
    Out out = w.from(kLan, first(row, client));
    ASSERT_THAT(out.where, testing::StartsWith("wan via"));
    Packet error = icmp_error(
        out.packet, {.from = router, .type = static_cast<std::uint8_t>(row.v6 ? 1 : 3), .code = 4, .quote = quote});
    ASSERT_EQ(wrong_with(error), "");
    Out back = w.from(kWan, error);
    EXPECT_EQ(back.where, "lan via " + client);
    EXPECT_EQ(back.line,
              fmt::format("icmp {}/4 {} > {} [{}]", row.v6 ? 1 : 3, router, client, line_of(first(row, client))));
    // Tracking an error changes nothing.
    EXPECT_EQ(w.only().count[1].packets, 0u);
    EXPECT_EQ(w.status_of(w.only()), "CONFIRMED SRC_NAT");
  }
}
INSTANTIATE_TEST_SUITE_P(All, RelatedError,
                         testing::Values(ErrorRow{"Udp4", false, L4::kUdp, 20},
                                         ErrorRow{"Udp4Odd", false, L4::kUdp, 13},
                                         ErrorRow{"UdpNoChecksum4", false, L4::kUdpNoChecksum, 20},
                                         ErrorRow{"Tcp4", false, L4::kTcp, 20}, ErrorRow{"Echo4", false, L4::kEcho, 20},
                                         ErrorRow{"Udp6", true, L4::kUdp, 20}, ErrorRow{"Tcp6", true, L4::kTcp, 20},
                                         ErrorRow{"Echo6", true, L4::kEcho, 20}),
                         [](const auto& row) { return row.param.name; });

// What follows the IP packet in the frame is not quoted, whatever it looks like.
TEST(RelatedError, PaddingIsNoQuote) {
  for (std::size_t quote : {20u, 24u, 27u, 28u, 38u}) {
    World w;
    Out out = w.from(kLan, frame().ipv4().tcp().build());
    Packet error = icmp_error(out.packet, {.from = "192.0.2.99", .quote = quote});
    Bytes rest(out.packet.bytes.begin() + static_cast<std::ptrdiff_t>(14 + quote), out.packet.bytes.end());
    error.bytes.insert(error.bytes.end(), rest.begin(), rest.end());
    ASSERT_EQ(wrong_with(error), "");
    EXPECT_EQ(w.from(kWan, error).where, quote < 28 ? "drop policy" : "lan via 10.1.0.2");
  }
}

// An error by the peer itself carries the peer's address, and one by the inside host gets the gateway's.
TEST(RelatedError, FromTheInsideHost) {
  World w;
  w.from(kLan, frame().ipv4().udp().payload(20).build());
  Packet answer =
      frame().ipv4({.src = "10.0.2.2", .dst = "10.0.2.1"}).udp({.sport = 53, .dport = 40000}).payload(20).build();
  Out in = w.from(kWan, answer);
  ASSERT_EQ(in.where, "lan via 10.1.0.2");
  for (std::size_t quote : {28u, 48u}) {
    Out out = w.from(kLan, icmp_error(in.packet, {.from = "10.1.0.2", .type = 3, .code = 3, .quote = quote}));
    EXPECT_EQ(out.where, "wan via 10.0.2.2");
    EXPECT_EQ(out.line, "icmp 3/3 10.0.2.1 > 10.0.2.2 [udp 10.0.2.2:53 > 10.0.2.1:40000]");
  }
}

// A router inside must not show its address outside.
TEST(RelatedError, FromARouterInside) {
  World w;
  w.from(kLan, frame().ipv4().udp().payload(20).build());
  Out in = w.from(
      kWan,
      frame().ipv4({.src = "10.0.2.2", .dst = "10.0.2.1"}).udp({.sport = 53, .dport = 40000}).payload(20).build());
  Out out = w.from(kLan, icmp_error(in.packet, {.from = "10.1.0.77", .type = 11, .code = 0}));
  EXPECT_EQ(out.line, "icmp 11/0 10.0.2.1 > 10.0.2.2 [udp 10.0.2.2:53 > 10.0.2.1:40000]");
}

// Our own errors about translated packets quote what their sender sent (its header, its checksums).
TEST(OwnErrors, QuoteTheHeaderFromBeforeTranslation) {
  for (bool v6 : {false, true})
    for (L4 l4 : {L4::kTcp, L4::kUdp, L4::kEcho})
      for (std::size_t payload : {0u, 1u, 60u, 61u, 400u})
        for (bool partial : {false, true}) {
          if (partial && l4 == L4::kEcho) continue;
          World w({.masquerade6 = true});
          auto build = [&](std::uint8_t ttl) {
            PacketBuilder b = frame();
            v6 ? b.ipv6({.hop_limit = ttl}) : b.ipv4({.ttl = ttl});
            if (l4 == L4::kTcp)
              b.tcp();
            else if (l4 == L4::kUdp)
              b.udp();
            else
              b.icmp({.type = static_cast<std::uint8_t>(v6 ? 128 : 8)});
            b.payload(payload);
            if (partial) b.partial();
            return b.build();
          };
          ASSERT_THAT(w.from(kLan, build(9)).where, testing::StartsWith("wan via"));
          // The second packet of the connection is translated before its TTL is looked at.
          Out out = w.from(kLan, build(1));
          EXPECT_EQ(out.where, "lan (drop ttl_exceeded)") << line_of(build(1));
          EXPECT_EQ(out.line,
                    fmt::format("icmp {}/0 {} [{}]", v6 ? 3 : 11,
                                v6 ? "2001:db8:1::1 > 2001:db8:1::2" : "10.1.0.1 > 10.1.0.2", line_of(build(1))));
        }
}

// nat(src) with an address and ports of its own, and a destination.
TEST(NatArguments, AddressAndPortRange) {
  World w;
  ctd_nat_args a{
      .flags = CTD_NAT_SRC | CTD_NAT_ADDR | CTD_NAT_PORTS, .family = CTD_IPV4, .min_port = 7000, .max_port = 7999};
  a.min_addr = a.max_addr = address("10.0.2.77");
  w.nat_args.set(kNatMasquerade, a);
  Out out = w.from(kLan, frame().ipv4().udp().build());
  unsigned port = 0;
  ASSERT_EQ(std::sscanf(out.line.c_str(), "udp 10.0.2.77:%u > 10.0.2.2:53", &port), 1) << out.line;
  EXPECT_GE(port, 7000u);
  EXPECT_LE(port, 7999u);
}

TEST(NatArguments, PortsKeepTheirKind) {
  World w;
  for (auto [port, low, high] :
       {std::array{400u, 1u, 511u}, std::array{800u, 512u, 1023u}, std::array{5000u, 1024u, 65535u}}) {
    for (int i = 2; i < 6; i++) {
      std::string src = fmt::format("10.1.0.{}", i);
      Out out = w.from(kLan, frame().ipv4({.src = src}).udp({.sport = static_cast<std::uint16_t>(port)}).build());
      unsigned got = 0;
      ASSERT_EQ(std::sscanf(out.line.c_str(), "udp 10.0.2.1:%u > 10.0.2.2:53", &got), 1) << out.line;
      EXPECT_GE(got, low);
      EXPECT_LE(got, high);
    }
  }
  EXPECT_EQ(w.broken(), "");
}

}  // namespace
}  // namespace ctd::test
