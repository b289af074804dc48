// SPDX-License-Identifier: Apache-2.0
// ICMP errors find the connection they quote, however it is quoted, and change nothing of it. That they are translated
// at every length of quote is core_nat_test.cpp's.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <functional>

#include "core_world.hpp"
#include "packet_check.hpp"

namespace ctd::test {
namespace {

// What a header may have between addresses and layer 4.
enum class Header { kPlain, kOptions, kFirstFragment, kLaterFragment };

using Layer4 = std::function<void(PacketBuilder&)>;

Packet packet(bool v6, Header header, std::string_view src, std::string_view dst, const Layer4& l4) {
  PacketBuilder b = frame();
  if (!v6) {
    b.ipv4({.src = src,
            .dst = dst,
            .df = false,
            .more = header == Header::kFirstFragment,
            .fragment = static_cast<std::uint16_t>(header == Header::kLaterFragment ? 64 : 0),
            .option_words = static_cast<std::uint8_t>(header == Header::kOptions ? 3 : 0)});
  } else {
    b.ipv6({.src = src, .dst = dst});
    if (header == Header::kOptions) b.extension({.type = 0}).extension({.type = 60, .body = Bytes(14)});
    if (header == Header::kFirstFragment) b.extension({.type = 44, .body = {0, 1, 0, 0, 0, 9}});
    if (header == Header::kLaterFragment) b.extension({.type = 44, .body = {2, 0, 0, 0, 0, 9}});
  }
  l4(b);
  return b.build();
}

struct Protocol {
  const char* name;
  bool v6 = false;
  Layer4 l4;
};
void PrintTo(const Protocol& protocol, std::ostream* out) { *out << protocol.name; }

std::vector<Protocol> protocols() {
  const Layer4 tcp = [](PacketBuilder& b) { b.tcp().payload(24); };
  const Layer4 udp = [](PacketBuilder& b) { b.udp().payload(24); };
  const Layer4 udplite = [](PacketBuilder& b) { b.udplite({.coverage = 12}).payload(24); };
  const Layer4 sctp = [](PacketBuilder& b) { b.sctp({.chunks = {sctp_init(9)}}); };
  const Layer4 dccp = [](PacketBuilder& b) { b.dccp({.coverage = 1}).payload(24); };
  const Layer4 gre = [](PacketBuilder& b) { b.gre().payload(24); };
  const Layer4 pptp = [](PacketBuilder& b) { b.gre({.version = 1, .call_id = 77}).payload(24); };
  const Layer4 echo = [](PacketBuilder& b) { b.icmp().payload(24); };
  const Layer4 echo6 = [](PacketBuilder& b) { b.icmp({.type = 128}).payload(24); };
  return {{"Tcp4", false, tcp},   {"Udp4", false, udp},  {"Udplite4", false, udplite}, {"Sctp4", false, sctp},
          {"Dccp4", false, dccp}, {"Gre4", false, gre},  {"Pptp4", false, pptp},       {"Echo4", false, echo},
          {"Tcp6", true, tcp},    {"Udp6", true, udp},   {"Udplite6", true, udplite},  {"Sctp6", true, sctp},
          {"Dccp6", true, dccp},  {"Echo6", true, echo6}};
}

constexpr std::string_view kRouter4 = "192.0.2.99", kRouter6 = "2001:db8:99::1";

class Related : public testing::TestWithParam<Protocol> {
 protected:
  // The client's packet as it leaves, with another kind of header.
  Packet outside(Header header) const {
    const Protocol& p = GetParam();
    return packet(p.v6, header, p.v6 ? "2001:db8:2::b1" : "10.0.2.1", p.v6 ? "2001:db8:2::2" : "10.0.2.2", p.l4);
  }
  Packet inside(Header header) const {
    const Protocol& p = GetParam();
    return packet(p.v6, header, p.v6 ? "2001:db8:1::2" : "10.1.0.2", p.v6 ? "2001:db8:2::2" : "10.0.2.2", p.l4);
  }
  Packet error(const Packet& about, std::size_t quote) const {
    const bool v6 = GetParam().v6;
    return icmp_error(
        about,
        {.from = v6 ? kRouter6 : kRouter4, .type = static_cast<std::uint8_t>(v6 ? 1 : 11), .code = 0, .quote = quote});
  }
};

TEST_P(Related, QuotesOfAllKinds) {
  const Protocol& p = GetParam();
  for (Header header : {Header::kPlain, Header::kOptions, Header::kFirstFragment, Header::kLaterFragment})
    for (std::size_t quote : {std::size_t{76}, std::size_t{200}}) {
      SCOPED_TRACE(testing::Message() << "header " << static_cast<int>(header) << " quoting " << quote);
      World w({.masquerade6 = true});
      ASSERT_THAT(w.from(kLan, inside(Header::kPlain)).where, testing::StartsWith("wan via"));
      const ctd_conn was = w.only();
      w.advance(1);
      const u64 before = native_invalid(CTD_INVALID_ICMP_ERROR);
      Out out = w.from(kWan, error(outside(header), quote));
      if (header == Header::kLaterFragment) {
        EXPECT_EQ(out.where, "drop policy");
        EXPECT_EQ(native_invalid(CTD_INVALID_ICMP_ERROR), before + 1);
      } else {
        EXPECT_EQ(out.where, p.v6 ? "lan via 2001:db8:1::2" : "lan via 10.1.0.2");
        EXPECT_EQ(out.line, fmt::format("icmp {}/0 {} > {} [{}]", p.v6 ? 1 : 11, p.v6 ? kRouter6 : kRouter4,
                                        p.v6 ? "2001:db8:1::2" : "10.1.0.2", line_of(inside(header))));
      }
      EXPECT_EQ(std::memcmp(&was, &w.only(), sizeof(was)), 0) << "an error changes nothing";
      EXPECT_EQ(w.broken(), "");
    }
}

// With ports that were changed: World looks at the checksums of what is quoted whole.
TEST_P(Related, OfChangedPorts) {
  const Protocol& p = GetParam();
  World w({.masquerade6 = true});
  w.from(kLan,
         packet(p.v6, Header::kPlain, p.v6 ? "2001:db8:1::3" : "10.1.0.3", p.v6 ? "2001:db8:2::2" : "10.0.2.2", p.l4));
  const Out sent = w.from(kLan, inside(Header::kPlain));
  if (sent.where == "drop nat_exhausted") {  // has no ports
    EXPECT_THAT(p.name, testing::AnyOf(testing::StrEq("Gre4"), testing::StrEq("Pptp4")));
    return;
  }
  for (std::size_t quote = p.v6 ? 48 : 28; quote <= sent.packet.bytes.size() - 14; quote++) {
    SCOPED_TRACE(testing::Message() << "quoting " << quote);
    Out out = w.from(kWan, error(sent.packet, quote));
    EXPECT_EQ(out.line, fmt::format("icmp {}/0 {} > {} [{}]", p.v6 ? 1 : 11, p.v6 ? kRouter6 : kRouter4,
                                    p.v6 ? "2001:db8:1::2" : "10.1.0.2", line_of(inside(Header::kPlain))));
  }
}

INSTANTIATE_TEST_SUITE_P(All, Related, testing::ValuesIn(protocols()), [](const auto& row) { return row.param.name; });

Packet udp(std::string_view src, std::string_view dst) {
  return frame().ipv4({.src = src, .dst = dst}).udp({.sport = 40000, .dport = 53}).payload(20).build();
}

// Of what has no ports at all, a later fragment is as good as the first.
TEST(RelatedQuote, LaterFragmentOfAProtocolByAddress) {
  World w;
  auto esp = [](std::string_view src, std::uint16_t offset) {
    return frame().ipv4({.src = src, .df = false, .fragment = offset, .proto = 50}).payload(40).build();
  };
  w.from(kLan, esp("10.1.0.2", 0));
  for (std::uint16_t offset : {0, 64}) {
    Out out = w.from(kWan, icmp_error(esp("10.0.2.1", offset), {.from = kRouter4, .type = 11, .code = 0}));
    EXPECT_EQ(out.line, "icmp 11/0 192.0.2.99 > 10.1.0.2 [ip 50 10.1.0.2 > 10.0.2.2]");
  }
}

// To whoever did not send the quoted packet.
TEST(RelatedQuote, MustGoToTheQuotedSender) {
  World w;
  w.from(kLan, udp("10.1.0.2", "10.0.2.2"));
  const Packet quoted = udp("10.0.2.1", "10.0.2.2");
  Packet error = frame()
                     .ipv4({.src = kRouter4, .dst = "10.1.0.3"})
                     .icmp({.type = 3, .code = 1, .id = 0, .seq = 0})
                     .payload(Bytes(quoted.bytes.begin() + 14, quoted.bytes.end()))
                     .build();
  const u64 before = native_invalid(CTD_INVALID_ICMP_ERROR);
  EXPECT_EQ(w.from(kWan, error).where, "drop policy");
  EXPECT_EQ(native_invalid(CTD_INVALID_ICMP_ERROR), before + 1);
}

TEST(RelatedQuote, AnErrorAboutAnErrorOrAboutNothing) {
  World w;
  Out out = w.from(kLan, udp("10.1.0.2", "10.0.2.2"));
  Packet first = icmp_error(out.packet, {.from = "10.0.2.2", .quote = 40});
  const u64 before = native_invalid(CTD_INVALID_ICMP_ERROR);
  EXPECT_EQ(w.from(kLan, icmp_error(first, {.from = "10.1.0.2", .quote = 60})).where, "drop policy");
  EXPECT_EQ(w.from(kWan, icmp_error(udp("10.0.2.1", "10.0.2.9"), {.from = kRouter4})).where, "drop policy");
  EXPECT_EQ(native_invalid(CTD_INVALID_ICMP_ERROR), before + 2);
  EXPECT_EQ(w.connections().size(), 1u);
}

// A translated destination, both ways.
TEST(RelatedQuote, OfATranslatedDestination) {
  World w;
  ctd_nat_args a{
      .flags = CTD_NAT_DST | CTD_NAT_ADDR | CTD_NAT_PORTS, .family = CTD_IPV4, .min_port = 5300, .max_port = 5300};
  a.min_addr = a.max_addr = address("10.3.0.9");
  w.nat_args.set(kNatNull, a);
  Out sent = w.from(kLan, udp("10.1.0.2", "10.3.0.5"));
  ASSERT_EQ(sent.line, "udp 10.1.0.2:40000 > 10.3.0.9:5300");
  Out out = w.from(kDmz, icmp_error(sent.packet, {.from = "10.3.0.9", .type = 3, .code = 3, .quote = 48}));
  EXPECT_EQ(out.where, "lan via 10.1.0.2");
  EXPECT_EQ(out.line, "icmp 3/3 10.3.0.5 > 10.1.0.2 [udp 10.1.0.2:40000 > 10.3.0.5:53]");
  Out answer = w.from(
      kDmz,
      frame().ipv4({.src = "10.3.0.9", .dst = "10.1.0.2"}).udp({.sport = 5300, .dport = 40000}).payload(20).build());
  ASSERT_EQ(answer.line, "udp 10.3.0.5:53 > 10.1.0.2:40000");
  out = w.from(kLan, icmp_error(answer.packet, {.from = "10.1.0.2", .type = 3, .code = 3, .quote = 48}));
  EXPECT_EQ(out.where, "dmz via 10.3.0.9");
  EXPECT_EQ(out.line, "icmp 3/3 10.1.0.2 > 10.3.0.9 [udp 10.3.0.9:5300 > 10.1.0.2:40000]");
}

TEST(RelatedQuote, RedirectsPassOnlyUntranslated) {
  World w;
  Out plain = w.from(kLan, udp("10.1.0.2", "10.3.0.9")), hidden = w.from(kLan, udp("10.1.0.2", "10.0.2.2"));
  EXPECT_EQ(w.from(kDmz, icmp_error(plain.packet, {.from = "10.3.0.7", .type = 5, .code = 1})).where,
            "lan via 10.1.0.2");
  EXPECT_EQ(w.from(kWan, icmp_error(hidden.packet, {.from = "10.0.2.7", .type = 5, .code = 1})).where,
            "drop nat_redirect");
}

// A rule that matches them sees the mark and the label of the connection, and the direction.
TEST(RelatedQuote, ShowsMarkAndLabelOfItsConnection) {
  World w;
  Out sent = w.from(kLan, udp("10.1.0.2", "10.3.0.9"));
  ctd_conn& conn = *w.conn(w.only().id);
  conn.mark = 0x77;
  conn.label[0] = 0x99;
  w.remove_flows();
  Match first, second;
  first.key.in_port = second.key.in_port = kDmz;
  first.key.eth_type = second.key.eth_type = __builtin_bswap16(0x0800);
  second.key.recirc_id = 1;
  second.key.ct_state = CTD_CS_TRK | CTD_CS_REL | CTD_CS_RPL;
  second.key.ct_mark = 0x77;
  second.key.ct_label[0] = 0x99;
  second.key.ct_orig_proto = 17;
  second.mask.ct_state = 0xff;
  second.mask.ct_mark = ~0u;
  std::memset(second.mask.ct_label, 0xff, sizeof(second.mask.ct_label));
  second.mask.ct_orig_proto = 0xff;
  w.add_flow(first, {act_ct({.recirc = 1})});
  w.add_flow(second, {act_output(kLan)});
  EXPECT_EQ(w.from(kDmz, icmp_error(sent.packet, {.from = "10.3.0.9", .type = 3, .code = 3})).where, "lan");
}

}  // namespace
}  // namespace ctd::test
