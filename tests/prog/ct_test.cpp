// SPDX-License-Identifier: Apache-2.0
// Connections through the real programs: a test is a connection's life, each packet feeding the next.
#include <gmock/gmock.h>

#include "prog/gateway.hpp"

namespace ctd::test {
namespace {

using testing::StartsWith;

class CtTest : public GatewayTest {
 protected:
  // Both sides of the connection that the default Segment opens, as seen by each side.
  Out client(std::uint8_t flags, std::size_t payload = 0) {
    return from("lan0", tcp(numbered({.flags = flags, .payload = payload})));
  }
  Out server(std::uint8_t flags, std::size_t payload = 0) {
    return from(
        "wan0",
        tcp(numbered(
            {.src = "10.0.2.2", .dst = "10.0.2.1", .sport = 80, .dport = 40000, .flags = flags, .payload = payload})));
  }
  // What follows the SYN, and acknowledges the other one.
  static Segment numbered(Segment s) {
    s.seq = s.flags & kSyn ? 1000 : 1001;
    s.ack = s.flags & kAck ? 1001 : 0;
    return s;
  }
  void establish() {
    ASSERT_EQ(client(kSyn).where, "wan0");
    ASSERT_EQ(server(kSyn | kAck).where, "lan0");
    ASSERT_EQ(client(kAck).where, "wan0");
    ASSERT_THAT(only_text(), StartsWith("tcp ESTABLISHED [SEEN_REPLY ASSURED CONFIRMED SRC_NAT]"));
  }
  // Packets of one side until the fast path carries them; how many went the long way before.
  unsigned settle(const std::function<Out()>& send) {
    const u64 before = count(CTD_COUNT_FAST_HIT);
    for (unsigned n = 0; n < 20; n++) {
      EXPECT_THAT(send().where, testing::AnyOf("wan0", "lan0"));
      if (count(CTD_COUNT_FAST_HIT) > before) return n;
    }
    ADD_FAILURE() << "the fast path never took over";
    return 20;
  }
  static constexpr const char* kTuples = "10.1.0.2:40000 > 10.0.2.2:80, 10.0.2.2:80 > 10.0.2.1:40000";
};

TEST_F(CtTest, TcpLife) {
  start();
  Out out = client(kSyn);
  EXPECT_EQ(out.where, "wan0");
  EXPECT_EQ(out.line, "tcp 10.0.2.1:40000 > 10.0.2.2:80");
  EXPECT_EQ(out.packet.bytes.at(14 + 8), 63) << "TTL";
  EXPECT_GE(out.misses, 3u) << "ct, then route, then the commit";
  EXPECT_EQ(only_text(), std::string("tcp SYN_SENT [CONFIRMED SRC_NAT] ") + kTuples);
  EXPECT_EQ(CTD_CTL_CLASS(only().ctl), CTD_CLASS_UNANSWERED);

  out = server(kSyn | kAck);
  EXPECT_EQ(out.where, "lan0");
  EXPECT_EQ(out.line, "tcp 10.0.2.2:80 > 10.1.0.2:40000");
  EXPECT_EQ(only_text(), std::string("tcp SYN_RECV [SEEN_REPLY CONFIRMED SRC_NAT] ") + kTuples);
  EXPECT_EQ(CTD_CTL_CLASS(only().ctl), CTD_CLASS_ANSWERED);

  EXPECT_EQ(client(kAck).line, "tcp 10.0.2.1:40000 > 10.0.2.2:80");
  EXPECT_EQ(only_text(), std::string("tcp ESTABLISHED [SEEN_REPLY ASSURED CONFIRMED SRC_NAT] ") + kTuples);
  EXPECT_EQ(CTD_CTL_CLASS(only().ctl), CTD_CLASS_ASSURED);
  EXPECT_EQ(client(kAck | kPsh, 100).misses, 0u) << "every flow is there by now";

  EXPECT_EQ(server(kFin | kAck).line, "tcp 10.0.2.2:80 > 10.1.0.2:40000");
  EXPECT_THAT(only_text(), StartsWith("tcp FIN_WAIT "));
  client(kAck);
  EXPECT_THAT(only_text(), StartsWith("tcp CLOSE_WAIT "));
  client(kFin | kAck);
  EXPECT_THAT(only_text(), StartsWith("tcp LAST_ACK "));
  server(kAck);
  EXPECT_THAT(only_text(), StartsWith("tcp TIME_WAIT "));
  EXPECT_EQ(only().timeout, 240 * dp().meta().hz);

  out = client(kSyn);
  EXPECT_EQ(out.line, "tcp 10.0.2.1:40000 > 10.0.2.2:80") << "opens anew, with the same port";
  EXPECT_EQ(only_text(), std::string("tcp SYN_SENT [CONFIRMED SRC_NAT] ") + kTuples);
  EXPECT_EQ(count(CTD_COUNT_CT_NEW), 2u);
}

TEST_F(CtTest, FastPathOfTcp) {
  start();
  establish();
  EXPECT_EQ(entries("ct_cache4"), 0u) << "a young connection has no verdict";
  EXPECT_GE(settle([&] { return client(kAck | kPsh, 100); }), 1u);
  settle([&] { return server(kAck | kPsh, 1000); });
  EXPECT_EQ(entries("ct_cache4"), 2u);
  EXPECT_GE(count(CTD_COUNT_FAST_MADE), 2u);

  // A packet of the fast path is as right as any other (from() looks at its checksums).
  Out out = client(kAck | kPsh, 333);
  EXPECT_EQ(out.where, "wan0");
  EXPECT_EQ(out.line, "tcp 10.0.2.1:40000 > 10.0.2.2:80");
  EXPECT_EQ(out.packet.bytes.at(14 + 8), 63) << "TTL";
  EXPECT_EQ(Bytes(out.packet.bytes.begin(), out.packet.bytes.begin() + 12),
            Bytes({2, 0, 0, 0, 0, 0x22, 2, 0, 0, 0, 0, 0x12}))
      << "the neighbour's address and the port's";
  EXPECT_EQ(server(kAck).line, "tcp 10.0.2.2:80 > 10.1.0.2:40000");

  client(kFin | kAck);
  EXPECT_EQ(entries("ct_cache4"), 0u) << "a change of state takes both verdicts away";
  EXPECT_THAT(only_text(), StartsWith("tcp FIN_WAIT "));
}

TEST_F(CtTest, ResetEndsTheFastPath) {
  start();
  establish();
  settle([&] { return client(kAck); });
  Out out = server(kRst);
  EXPECT_EQ(out.line, "tcp 10.0.2.2:80 > 10.1.0.2:40000");
  EXPECT_EQ(entries("ct_cache4"), 0u);
  EXPECT_THAT(only_text(), StartsWith("tcp CLOSE "));
  EXPECT_EQ(only().timeout, 10 * dp().meta().hz);
}

// The windows of the real programs: what they refuse, on either path, and that the fast path keeps them.
TEST_F(CtTest, TcpWindows) {
  start();
  establish();
  const Segment data{.flags = kAck | kPsh, .seq = 1001, .ack = 1001, .payload = 100};
  auto at = [](Segment s, std::uint32_t seq, std::uint32_t ack) {
    s.seq = seq;
    s.ack = ack;
    return s;
  };
  EXPECT_EQ(from("lan0", tcp(at(data, 9000000, 1001))).where, "drop policy") << "far beyond the window";
  EXPECT_EQ(from("lan0", tcp(at(data, 1001, 9000))).where, "drop policy") << "of what was never sent";
  settle([&] { return client(kAck | kPsh, 100); });
  u64 hits = count(CTD_COUNT_FAST_HIT);
  EXPECT_EQ(from("lan0", tcp(at(data, 1101, 1001))).where, "wan0");
  EXPECT_EQ(count(CTD_COUNT_FAST_HIT), hits + 1);
  EXPECT_EQ(only().win[CTD_DIR_ORIG].end, 1201u);
  EXPECT_EQ(from("lan0", tcp(at(data, 9000000, 1001))).where, "drop policy");
  EXPECT_EQ(from("lan0", tcp(at(data, 1201, 9000))).where, "drop policy");
  EXPECT_EQ(count(CTD_COUNT_FAST_HIT), hits + 1) << "these took the long way";

  // SACK blocks are read where they are permitted, behind timestamps or not.
  const Bytes permitted = {1, 1, 4, 2}, never_sent = {1, 1, 5, 10, 0, 0, 4, 0, 0, 0, 8, 0};
  const PacketBuilder syn = frame().ipv4().tcp({.sport = 41000, .options = permitted});
  EXPECT_EQ(from("lan0", syn.build()).where, "wan0");
  EXPECT_EQ(
      from("wan0", frame()
                       .ipv4({.src = "10.0.2.2", .dst = "10.0.2.1"})
                       .tcp({.sport = 80, .dport = 41000, .flags = kSyn | kAck, .ack = 1001, .options = permitted})
                       .build())
          .where,
      "lan0");
  const Tcp ack{.sport = 41000, .flags = kAck, .seq = 1001, .ack = 1001};
  EXPECT_EQ(from("lan0", frame().ipv4().tcp(ack).build()).where, "wan0");
  Tcp sack = ack;
  sack.options = never_sent;
  EXPECT_EQ(from("lan0", frame().ipv4().tcp(sack).build()).where, "drop policy");
}

TEST_F(CtTest, FastPathOfUdpBothFamilies) {
  start({.masquerade6 = true});
  struct Side {
    Datagram out, back;
    const char* cache;
  };
  const Side sides[] = {
      {.out = {.payload = 33},
       .back = {.src = "10.0.2.2", .dst = "10.0.2.1", .sport = 53, .dport = 40000},
       .cache = "ct_cache4"},
      {.out = {.src = "2001:db8:1::2", .dst = "2001:db8:2::2", .payload = 33},
       .back = {.src = "2001:db8:2::2", .dst = "2001:db8:2::b1", .sport = 53, .dport = 40000},
       .cache = "ct_cache6"},
  };
  for (const Side& side : sides) {
    SCOPED_TRACE(side.cache);
    const std::string there = from("lan0", udp(side.out)).line, back = from("wan0", udp(side.back)).line;
    settle([&] { return from("lan0", udp(side.out)); });
    settle([&] { return from("wan0", udp(side.back)); });
    EXPECT_EQ(entries(side.cache), 2u);
    EXPECT_EQ(from("lan0", udp(side.out)).line, there);
    EXPECT_EQ(from("wan0", udp(side.back)).line, back);
  }
}

// What differs from the packets that made the verdict, or could change a state, takes the long way and passes.
TEST_F(CtTest, FastPathIsForPlainPacketsOnly) {
  start();
  establish();
  settle([&] { return client(kAck); });
  const u64 hits = count(CTD_COUNT_FAST_HIT);
  const Ipv4 ip{};
  const Tcp ack{.flags = kAck};
  const Packet packets[] = {
      frame().ipv4({.option_words = 1}).tcp(ack).build(),
      frame().ipv4().tcp({.flags = kSyn}).build(),
      icmp_error(tcp({.src = "10.0.2.2", .dst = "10.1.0.2", .sport = 80, .dport = 40000, .flags = kAck}),
                 {.from = "10.1.0.2", .code = 3}),
      frame().ipv4(ip).tcp(ack).payload(1500).build(),
      frame().ipv4({.ttl = 1}).tcp(ack).build(),
      frame().ipv4({.df = false, .more = true}).tcp(ack).payload(8).build(),
  };
  for (const Packet& packet : packets) from("lan0", packet);
  EXPECT_EQ(count(CTD_COUNT_FAST_HIT), hits);
  EXPECT_THAT(only_text(), StartsWith("tcp ESTABLISHED "));
}

struct Life {
  const char* name;
  Packet out, back;
  std::string sent, returned;  // line_of() what leaves
  std::string first, then;     // the connection after each
  bool masquerade6 = false;
};

void PrintTo(const Life& life, std::ostream* out) { *out << life.name; }

class CtLife : public CtTest, public testing::WithParamInterface<Life> {};

TEST_P(CtLife, OutAndBack) {
  const Life& life = GetParam();
  start({.masquerade6 = life.masquerade6});
  Out out = from("lan0", life.out);
  EXPECT_EQ(out.where, "wan0");
  EXPECT_EQ(out.line, life.sent);
  EXPECT_EQ(only_text(), life.first);
  out = from("wan0", life.back);
  EXPECT_EQ(out.where, "lan0");
  EXPECT_EQ(out.line, life.returned);
  EXPECT_EQ(only_text(), life.then);
  EXPECT_EQ(only().count[0].packets, 1u);
  EXPECT_EQ(only().count[1].packets, 1u);
  EXPECT_EQ(only().count[0].bytes, life.out.bytes.size() - 14);
  EXPECT_EQ(only().count[1].bytes, life.back.bytes.size() - 14);
}

std::vector<Life> lives() {
  constexpr std::string_view kClient6 = "2001:db8:1::2", kServer6 = "2001:db8:2::2", kGateway6 = "2001:db8:2::b1";
  return {
      {.name = "Udp4",
       .out = udp({}),
       .back = udp({.src = "10.0.2.2", .dst = "10.0.2.1", .sport = 53, .dport = 40000}),
       .sent = "udp 10.0.2.1:40000 > 10.0.2.2:53",
       .returned = "udp 10.0.2.2:53 > 10.1.0.2:40000",
       .first = "udp UNREPLIED [CONFIRMED SRC_NAT] 10.1.0.2:40000 > 10.0.2.2:53, 10.0.2.2:53 > 10.0.2.1:40000",
       .then = "udp REPLIED [SEEN_REPLY CONFIRMED SRC_NAT] 10.1.0.2:40000 > 10.0.2.2:53, 10.0.2.2:53 > 10.0.2.1:40000"},
      {.name = "Ping4",
       .out = ping({}),
       .back = ping({.src = "10.0.2.2", .dst = "10.0.2.1", .reply = true}),
       .sent = "icmp 8/0 id 77 10.0.2.1 > 10.0.2.2",
       .returned = "icmp 0/0 id 77 10.0.2.2 > 10.1.0.2",
       .first = "icmp UNREPLIED [CONFIRMED SRC_NAT] 10.1.0.2 > 10.0.2.2 id 77 type 8, 10.0.2.2 > 10.0.2.1 id 77 type 0",
       .then = "icmp REPLIED [SEEN_REPLY CONFIRMED SRC_NAT] 10.1.0.2 > 10.0.2.2 id 77 type 8, "
               "10.0.2.2 > 10.0.2.1 id 77 type 0"},
      {.name = "Tcp4",
       .out = tcp({}),
       .back = tcp({.src = "10.0.2.2", .dst = "10.0.2.1", .sport = 80, .dport = 40000, .flags = kSyn | kAck}),
       .sent = "tcp 10.0.2.1:40000 > 10.0.2.2:80",
       .returned = "tcp 10.0.2.2:80 > 10.1.0.2:40000",
       .first = "tcp SYN_SENT [CONFIRMED SRC_NAT] 10.1.0.2:40000 > 10.0.2.2:80, 10.0.2.2:80 > 10.0.2.1:40000",
       .then =
           "tcp SYN_RECV [SEEN_REPLY CONFIRMED SRC_NAT] 10.1.0.2:40000 > 10.0.2.2:80, 10.0.2.2:80 > 10.0.2.1:40000"},
      {.name = "Gre4",
       .out = frame().ipv4({.proto = 47}).payload(20).build(),
       .back = frame().ipv4({.src = "10.0.2.2", .dst = "10.0.2.1", .proto = 47}).payload(20).build(),
       .sent = "ip 47 10.0.2.1 > 10.0.2.2",
       .returned = "ip 47 10.0.2.2 > 10.1.0.2",
       .first = "gre UNREPLIED [CONFIRMED SRC_NAT] 10.1.0.2 > 10.0.2.2, 10.0.2.2 > 10.0.2.1",
       .then = "gre REPLIED [SEEN_REPLY CONFIRMED SRC_NAT] 10.1.0.2 > 10.0.2.2, 10.0.2.2 > 10.0.2.1"},
      {.name = "Udp6",
       .out = udp({.src = kClient6, .dst = kServer6}),
       .back = udp({.src = kServer6, .dst = kClient6, .sport = 53, .dport = 40000}),
       .sent = "udp 2001:db8:1::2.40000 > 2001:db8:2::2.53",
       .returned = "udp 2001:db8:2::2.53 > 2001:db8:1::2.40000",
       .first =
           "udp UNREPLIED [CONFIRMED] 2001:db8:1::2.40000 > 2001:db8:2::2.53, 2001:db8:2::2.53 > 2001:db8:1::2.40000",
       .then = "udp REPLIED [SEEN_REPLY CONFIRMED] 2001:db8:1::2.40000 > 2001:db8:2::2.53, "
               "2001:db8:2::2.53 > 2001:db8:1::2.40000"},
      {.name = "Ping6",
       .out = ping({.src = kClient6, .dst = kServer6}),
       .back = ping({.src = kServer6, .dst = kClient6, .reply = true}),
       .sent = "icmp 128/0 id 77 2001:db8:1::2 > 2001:db8:2::2",
       .returned = "icmp 129/0 id 77 2001:db8:2::2 > 2001:db8:1::2",
       .first = "icmpv6 UNREPLIED [CONFIRMED] 2001:db8:1::2 > 2001:db8:2::2 id 77 type 128, "
                "2001:db8:2::2 > 2001:db8:1::2 id 77 type 129",
       .then = "icmpv6 REPLIED [SEEN_REPLY CONFIRMED] 2001:db8:1::2 > 2001:db8:2::2 id 77 type 128, "
               "2001:db8:2::2 > 2001:db8:1::2 id 77 type 129"},
      {.name = "Udp6Masqueraded",
       .out = udp({.src = kClient6, .dst = kServer6}),
       .back = udp({.src = kServer6, .dst = kGateway6, .sport = 53, .dport = 40000}),
       .sent = "udp 2001:db8:2::b1.40000 > 2001:db8:2::2.53",
       .returned = "udp 2001:db8:2::2.53 > 2001:db8:1::2.40000",
       .first = "udp UNREPLIED [CONFIRMED SRC_NAT] 2001:db8:1::2.40000 > 2001:db8:2::2.53, "
                "2001:db8:2::2.53 > 2001:db8:2::b1.40000",
       .then = "udp REPLIED [SEEN_REPLY CONFIRMED SRC_NAT] 2001:db8:1::2.40000 > 2001:db8:2::2.53, "
               "2001:db8:2::2.53 > 2001:db8:2::b1.40000",
       .masquerade6 = true},
      {.name = "Ping6Masqueraded",
       .out = ping({.src = kClient6, .dst = kServer6}),
       .back = ping({.src = kServer6, .dst = kGateway6, .reply = true}),
       .sent = "icmp 128/0 id 77 2001:db8:2::b1 > 2001:db8:2::2",
       .returned = "icmp 129/0 id 77 2001:db8:2::2 > 2001:db8:1::2",
       .first = "icmpv6 UNREPLIED [CONFIRMED SRC_NAT] 2001:db8:1::2 > 2001:db8:2::2 id 77 type 128, "
                "2001:db8:2::2 > 2001:db8:2::b1 id 77 type 129",
       .then = "icmpv6 REPLIED [SEEN_REPLY CONFIRMED SRC_NAT] 2001:db8:1::2 > 2001:db8:2::2 id 77 type 128, "
               "2001:db8:2::2 > 2001:db8:2::b1 id 77 type 129",
       .masquerade6 = true},
  };
}

INSTANTIATE_TEST_SUITE_P(Protocols, CtLife, testing::ValuesIn(lives()),
                         [](const auto& tested) { return tested.param.name; });

TEST_F(CtTest, InvalidSegmentsAreDropped) {
  start();
  for (const std::uint8_t flags : {std::uint8_t{0}, std::uint8_t(kSyn | kFin), std::uint8_t(kSyn | kRst),
                                   std::uint8_t(kFin | kPsh | kUrg), kRst}) {
    EXPECT_EQ(client(flags).where, "drop policy") << unsigned{flags};
  }
  EXPECT_TRUE(connections().empty());
  establish();
  EXPECT_EQ(client(kSyn | kFin).where, "drop policy");
  EXPECT_THAT(only_text(), StartsWith("tcp ESTABLISHED "));
}

TEST_F(CtTest, MidStreamIsPickedUpFromInsideOnly) {
  start();
  EXPECT_EQ(from("wan0", tcp({.src = "10.0.2.2", .dst = "10.1.0.2", .sport = 80, .dport = 40000, .flags = kAck})).where,
            "drop policy");
  EXPECT_EQ(client(kAck | kPsh, 10).where, "wan0");
  EXPECT_THAT(only_text(), StartsWith("tcp ESTABLISHED [CONFIRMED SRC_NAT]"));
}

TEST_F(CtTest, UdpWithTrafficBothWaysBecomesAssured) {
  start();
  const Packet back = udp({.src = "10.0.2.2", .dst = "10.0.2.1", .sport = 53, .dport = 40000});
  EXPECT_TRUE(wait_for([&] {
    return from("lan0", udp({})).where == "wan0" && from("wan0", back).where == "lan0" &&
           only_text().find("ASSURED") != std::string::npos;
  }));
  EXPECT_EQ(CTD_CTL_CLASS(only().ctl), CTD_CLASS_ASSURED);
  EXPECT_GT(jiffies() - only().start, 2 * dp().meta().hz);
}

// The host's own: tracked, delivered, and known when they are answered.
TEST_F(CtTest, TheHostsConnections) {
  start();
  EXPECT_EQ(from_host("wan0", udp({.src = "10.0.2.1"})).where, "wan0") << "the first one came back by the tap";
  EXPECT_EQ(from_host("wan0", udp({.src = "10.0.2.1"})).where, "on");
  EXPECT_EQ(from("wan0", udp({.src = "10.0.2.2", .dst = "10.0.2.1", .sport = 53, .dport = 40000})).where, "into wan0");
  EXPECT_EQ(from("wan0", udp({.src = "10.0.2.2", .dst = "10.0.2.1", .sport = 53, .dport = 40000})).where, "stack");
  EXPECT_EQ(only_text(),
            "udp REPLIED [SEEN_REPLY CONFIRMED] 10.0.2.1:40000 > 10.0.2.2:53, 10.0.2.2:53 > 10.0.2.1:40000");
  EXPECT_EQ(from("lan0", ping({.dst = "10.1.0.1"})).where, "into lan0");
  EXPECT_EQ(from_host("lan0", ping({.src = "10.1.0.1", .dst = "10.1.0.2", .reply = true})).where, "lan0");
  EXPECT_EQ(connections().size(), 2u);
}

// A flood of first packets lives and dies among its own kind.
TEST_F(CtTest, UnansweredQuotaEvictsTheOldest) {
  start({.conn_capacity = 64});  // half of it for the unanswered
  establish();
  for (unsigned i = 0; i < 100; i++) {
    ASSERT_EQ(from("lan0", tcp({.sport = static_cast<std::uint16_t>(2000 + i)})).where, "wan0") << i;
  }
  EXPECT_EQ(connections().size(), 33u);
  EXPECT_EQ(count(CTD_COUNT_CT_EVICTED), 68u);
  unsigned old = 0;
  for (const ctd_conn& conn : connections()) {
    if (CTD_CTL_CLASS(conn.ctl) == CTD_CLASS_UNANSWERED && ntohs(conn.orig.sport) < 2068) old++;
  }
  EXPECT_EQ(old, 0u) << "the youngest 32 are left";
  EXPECT_EQ(server(kAck | kPsh, 100).line, "tcp 10.0.2.2:80 > 10.1.0.2:40000") << "untouched";
  EXPECT_EQ(
      from("wan0", tcp({.src = "10.0.2.2", .dst = "10.0.2.1", .sport = 80, .dport = 2000, .flags = kSyn | kAck})).where,
      "drop policy")
      << "evicted";
}

// Nor do answers alone buy a place among the assured.
TEST_F(CtTest, AnsweredQuotaEvictsTheOldest) {
  start({.conn_capacity = 64});
  establish();
  for (unsigned i = 0; i < 40; i++) {
    const auto port = static_cast<std::uint16_t>(2000 + i);
    ASSERT_EQ(from("lan0", tcp({.sport = port})).where, "wan0") << i;
    ASSERT_EQ(
        from("wan0", tcp({.src = "10.0.2.2", .dst = "10.0.2.1", .sport = 80, .dport = port, .flags = kSyn | kAck}))
            .where,
        "lan0")
        << i;
  }
  EXPECT_EQ(connections().size(), 33u);
  EXPECT_EQ(count(CTD_COUNT_CT_EVICTED), 8u);
  for (const ctd_conn& conn : connections()) {
    if (CTD_CTL_CLASS(conn.ctl) != CTD_CLASS_ANSWERED) continue;
    EXPECT_GE(ntohs(conn.orig.sport), 2008);
  }
  EXPECT_EQ(client(kAck, 10).where, "wan0");
}

// The same addresses and ports in two zones are two connections.
TEST_F(CtTest, ZonesAreApart) {
  start({.rules = {"table=0,priority=300,udp,in_port=lan0,nw_tos=32 actions=ct(commit,zone=5),output:wan0",
                   "table=0,priority=300,udp,in_port=lan0,nw_tos=64 actions=ct(commit,zone=6),output:wan0"}});
  for (const std::uint8_t tos : {32, 64, 32}) {
    const Out out = from("lan0", frame().ipv4({.tos = tos}).udp().payload(10).build());
    EXPECT_EQ(out.where, "wan0");
    EXPECT_EQ(out.line, "udp 10.1.0.2:40000 > 10.0.2.2:53");
    EXPECT_EQ(out.packet.bytes.at(14 + 8), 64) << "output does not route";
  }
  std::vector<std::pair<unsigned, u64>> zones;  // and packets
  for (const ctd_conn& conn : connections()) zones.emplace_back(conn.orig.zone, conn.count[CTD_DIR_ORIG].packets);
  EXPECT_THAT(zones, testing::UnorderedElementsAre(testing::Pair(5u, 2u), testing::Pair(6u, 1u)));
}

TEST_F(CtTest, FullTableRefusesTheNewOne) {
  start({.conn_capacity = 8});
  const auto open = [&](std::uint16_t sport) {
    EXPECT_EQ(from("lan0", tcp({.sport = sport})).where, "wan0");
    EXPECT_EQ(
        from("wan0", tcp({.src = "10.0.2.2", .dst = "10.0.2.1", .sport = 80, .dport = sport, .flags = kSyn | kAck}))
            .where,
        "lan0");
    EXPECT_EQ(from("lan0", tcp({.sport = sport, .flags = kAck})).where, "wan0");
  };
  for (std::uint16_t i = 0; i < 8; i++) open(static_cast<std::uint16_t>(3000 + i));
  EXPECT_EQ(connections().size(), 8u);
  EXPECT_EQ(from("lan0", tcp({.sport = 4000})).where, "drop ct_full");
  EXPECT_EQ(connections().size(), 8u);
  EXPECT_EQ(from("lan0", tcp({.sport = 3003, .flags = kAck, .payload = 10})).where, "wan0");
}

TEST_F(CtTest, FragmentsAreANamedDrop) {
  start();
  EXPECT_EQ(from("lan0", frame().ipv4({.df = false, .more = true}).udp().payload(1000).build()).where, "drop fragment");
  EXPECT_EQ(from("lan0", frame().ipv4({.df = false, .fragment = 1008, .proto = 17}).payload(100).build()).where,
            "drop fragment");
  const Extension first{.type = 44, .body = {0, 1, 0, 0, 0, 7}}, later{.type = 44, .body = {1, 0, 0, 0, 0, 7}};
  EXPECT_EQ(from("lan0", frame().ipv6().extension(first).udp().payload(100).build()).where, "drop fragment");
  EXPECT_EQ(from("lan0", frame().ipv6().extension(later).payload(100).build()).where, "drop fragment");
  EXPECT_TRUE(connections().empty());
}

}  // namespace
}  // namespace ctd::test
