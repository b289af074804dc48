// SPDX-License-Identifier: Apache-2.0
// SCTP, and ICMP errors with odd quotes, through the real programs; their rules are the unit tests'.
#include <gmock/gmock.h>

#include "prog/gateway.hpp"

namespace ctd::test {
namespace {

using testing::StartsWith;

class ProtoTest : public GatewayTest {
 protected:
  Out client(std::uint32_t tag, std::vector<Chunk> chunks, std::string_view src = "10.1.0.2") {
    return from("lan0", frame().ipv4({.src = src}).sctp({.tag = tag, .chunks = std::move(chunks)}).build());
  }
  Out server(std::uint32_t tag, std::vector<Chunk> chunks) {
    return from("wan0", frame()
                            .ipv4({.src = "10.0.2.2", .dst = "10.0.2.1"})
                            .sctp({.sport = 36412, .dport = 40000, .tag = tag, .chunks = std::move(chunks)})
                            .build());
  }
};

TEST_F(ProtoTest, SctpLife) {
  start();
  const Chunk cookie{.type = 10, .body = Bytes(24)}, cookie_ack{.type = 11}, data{.type = 0, .body = Bytes(13)},
      heartbeat{.type = 4, .body = Bytes(8)}, sack{.type = 3, .body = Bytes(12)}, shutdown{.type = 7, .body = Bytes(4)};
  EXPECT_EQ(client(0, {sctp_init(1)}).line, "sctp 10.0.2.1:40000 > 10.0.2.2:36412");
  EXPECT_THAT(only_text(), StartsWith("sctp CLOSED [CONFIRMED SRC_NAT]"));
  EXPECT_EQ(server(1, {sctp_init_ack(2)}).line, "sctp 10.0.2.2:36412 > 10.1.0.2:40000");
  EXPECT_THAT(only_text(), StartsWith("sctp COOKIE_WAIT [SEEN_REPLY CONFIRMED SRC_NAT]"));
  EXPECT_EQ(client(2, {cookie, data, data}).where, "wan0");
  EXPECT_EQ(server(1, {cookie_ack, sack}).where, "lan0");
  EXPECT_THAT(only_text(), StartsWith("sctp ESTABLISHED [SEEN_REPLY ASSURED CONFIRMED SRC_NAT]"));
  EXPECT_EQ(only().timeout, 7440 * dp().meta().hz);
  EXPECT_EQ(client(3, {data}).where, "drop policy") << "another tag";
  EXPECT_EQ(client(2, std::vector<Chunk>(60, data)).where, "wan0");
  EXPECT_EQ(server(1, {sack, heartbeat, shutdown}).where, "lan0");
  EXPECT_THAT(only_text(), StartsWith("sctp SHUTDOWN_RECD "));
}

// A second client with the same port gets another one; from() looks at SCTP's checksum.
TEST_F(ProtoTest, SctpPortsAreTranslatedWithTheirChecksum) {
  start();
  client(0, {sctp_init(1)});
  const Out out = client(0, {sctp_init(1)}, "10.1.0.3");
  EXPECT_EQ(out.where, "wan0");
  EXPECT_THAT(out.line, StartsWith("sctp 10.0.2.1:"));
  EXPECT_NE(out.line, "sctp 10.0.2.1:40000 > 10.0.2.2:36412");
}

TEST_F(ProtoTest, DccpLife) {
  start();
  auto client_sends = [this](std::uint8_t type, std::uint64_t ack) {
    return from("lan0", frame().ipv4().dccp({.type = type, .ack = ack, .coverage = 1}).payload(9).build()).where;
  };
  auto server_sends = [this](std::uint8_t type, std::uint64_t seq) {
    return from("wan0", frame()
                            .ipv4({.src = "10.0.2.2", .dst = "10.0.2.1"})
                            .dccp({.sport = 5001, .dport = 40000, .type = type, .seq = seq})
                            .payload(9)
                            .build())
        .where;
  };
  EXPECT_EQ(client_sends(0, 0), "wan0");
  EXPECT_EQ(server_sends(1, 0x123456789abc), "lan0");
  EXPECT_EQ(client_sends(3, 0x123456789abc), "wan0");
  EXPECT_THAT(only_text(), StartsWith("dccp PARTOPEN [SEEN_REPLY ASSURED CONFIRMED SRC_NAT]"));
  EXPECT_EQ(server_sends(2, 5), "lan0");
  EXPECT_EQ(client_sends(5, 0), "drop policy") << "CloseReq is the server's";
  EXPECT_EQ(client_sends(6, 5), "wan0");
  EXPECT_THAT(only_text(), StartsWith("dccp CLOSING "));
}

// The quoted header has options, extension headers, or is a first fragment.
TEST_F(ProtoTest, RelatedWithOddQuotes) {
  start({.masquerade6 = true});
  from("lan0", udp({}));
  from("lan0", udp({.src = "2001:db8:1::2", .dst = "2001:db8:2::2"}));
  for (bool options : {false, true}) {
    const auto words = static_cast<std::uint8_t>(options ? 4 : 0);
    const Packet quoted4 = frame()
                               .ipv4({.src = "10.0.2.1", .df = false, .more = !options, .option_words = words})
                               .udp()
                               .payload(16)
                               .build();
    EXPECT_EQ(from("wan0", icmp_error(quoted4, {.from = "192.0.2.9", .type = 11, .code = 0, .quote = 80})).line,
              "icmp 11/0 192.0.2.9 > 10.1.0.2 [udp 10.1.0.2:40000 > 10.0.2.2:53]");
    PacketBuilder quoted6 = frame().ipv6({.src = "2001:db8:2::b1"});
    if (options)
      quoted6.extension({.type = 0}).extension({.type = 60, .body = Bytes(14)});
    else
      quoted6.extension({.type = 44, .body = {0, 1, 0, 0, 0, 9}});
    EXPECT_EQ(from("wan0", icmp_error(quoted6.udp().payload(16).build(),
                                      {.from = "2001:db8:99::1", .type = 3, .code = 0, .quote = 100}))
                  .line,
              "icmp 3/0 2001:db8:99::1 > 2001:db8:1::2 [udp 2001:db8:1::2.40000 > 2001:db8:2::2.53]");
  }
  EXPECT_EQ(from("wan0", icmp_error(frame().ipv4({.src = "10.0.2.1", .fragment = 64}).udp().payload(16).build(),
                                    {.from = "192.0.2.9", .type = 11, .code = 0}))
                .where,
            "drop policy")
      << "a later fragment";
}

}  // namespace
}  // namespace ctd::test
