// SPDX-License-Identifier: Apache-2.0
// Random packets of all protocols, plausible and hostile, in both directions: whatever comes, the table stays whole, no
// slot leaks, an invalid packet changes nothing, and neither does an ICMP error.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include <cstring>
#include <random>
#include <vector>

#include "core_world.hpp"

namespace ctd::test {
namespace {

class RandomTraffic {
 public:
  explicit RandomTraffic(unsigned seed) : rng_(seed) {}

  unsigned below(unsigned n) { return rng_() % n; }
  bool one_in(unsigned n) { return below(n) == 0; }

  // A packet from inside, or from outside if `back`.
  Packet packet(bool back) {
    Packet p = one_in(5) ? error(back) : plain(back);
    if (one_in(8)) spoil(p);
    return p;
  }

  // One that is as it should be; an error of the other side about one.
  Packet plain(bool back);
  Packet error(bool back);

 private:
  // Few ports, so that packets meet.
  std::uint16_t port() { return static_cast<std::uint16_t>(40000 + below(6)); }

  PacketBuilder network(bool v6, bool back, std::optional<std::uint8_t> proto = {}) {
    PacketBuilder b = frame();
    if (v6)
      b.ipv6({.src = back ? "2001:db8:2::2" : "2001:db8:1::2",
              .dst = back ? (one_in(2) ? "2001:db8:1::2" : "2001:db8:2::b1") : "2001:db8:2::2",
              .proto = proto});
    else
      b.ipv4({.src = back ? "10.0.2.2" : "10.1.0.2", .dst = back ? "10.0.2.1" : "10.0.2.2", .proto = proto});
    return b;
  }

  // Numbers of both sides stand still, more or less: some segments are in the window and some are not.
  std::uint32_t number(bool back) {
    static constexpr std::uint32_t kOffset[] = {0, 0, 0, 0, 1, 1, 1, 2, 100, 0xffffffff, 65536, 0x80000000};
    return (back ? 0xfffffff0u : 1000u) + kOffset[below(std::size(kOffset))];
  }

  Packet tcp(bool v6, bool back) {
    static constexpr std::uint8_t kFlags[] = {
        kSyn, kSyn | kAck, kAck, kAck, kAck, kAck, kAck | kPsh, kFin | kAck, kRst, kRst | kAck, 0, kSyn | kFin, 0xff};
    const std::uint8_t flags = one_in(30) ? static_cast<std::uint8_t>(rng_()) : kFlags[below(std::size(kFlags))];
    const std::uint16_t mine = port();
    PacketBuilder b = network(v6, back);
    b.tcp({.sport = back ? std::uint16_t{80} : mine,
           .dport = back ? mine : std::uint16_t{80},
           .flags = flags,
           .seq = number(back),
           .ack = flags & kAck ? number(!back) : 0,
           .window = static_cast<std::uint16_t>(one_in(4) ? below(3) : 8192)});
    if (one_in(3)) b.payload(below(200));
    return b.build();
  }

  Packet udp(bool v6, bool back) {
    const std::uint16_t mine = port();
    return network(v6, back)
        .udp({.sport = back ? std::uint16_t{53} : mine, .dport = back ? mine : std::uint16_t{53}})
        .payload(below(20))
        .build();
  }

  Packet query(bool v6, bool back) {
    static constexpr std::uint8_t kTypes4[] = {0, 8, 8, 8, 13, 14, 17, 18, 15, 30},
                                  kTypes6[] = {128, 128, 129, 130, 139};
    const std::uint8_t echo = v6 ? (back ? 129 : 128) : (back ? 0 : 8);
    const std::uint8_t other = v6 ? kTypes6[below(std::size(kTypes6))] : kTypes4[below(std::size(kTypes4))];
    return network(v6, back).icmp({.type = one_in(3) ? other : echo, .id = port()}).payload(8).build();
  }

  // Protocols that the packet builder does not know: ports or nothing of sense, then anything.
  Packet something(bool v6, bool back) {
    static constexpr std::uint8_t kProtos[] = {IPPROTO_SCTP, IPPROTO_SCTP,    IPPROTO_DCCP, IPPROTO_DCCP, IPPROTO_GRE,
                                               IPPROTO_GRE,  IPPROTO_UDPLITE, IPPROTO_ESP,  253};
    Bytes body(below(3) ? 16 + below(40) : below(16));
    for (auto& byte : body) byte = static_cast<std::uint8_t>(one_in(3) ? rng_() : 0);
    const std::uint16_t mine = port(), theirs = 99;
    if (body.size() >= 4) {
      const std::uint16_t from = back ? theirs : mine, to = back ? mine : theirs;
      body[0] = static_cast<std::uint8_t>(from >> 8);
      body[1] = static_cast<std::uint8_t>(from);
      body[2] = static_cast<std::uint8_t>(to >> 8);
      body[3] = static_cast<std::uint8_t>(to);
    }
    if (body.size() > 12) body[12] = static_cast<std::uint8_t>(below(16));  // SCTP: the first chunk
    return network(v6, back, kProtos[below(std::size(kProtos))]).payload(body).build();
  }

  // Bytes behind the Ethernet header that nobody meant, or fewer of them.
  void spoil(Packet& p) {
    if (one_in(2) && p.bytes.size() > 15) {
      p.bytes.resize(15 + below(static_cast<unsigned>(p.bytes.size()) - 15));
    } else {
      for (unsigned n = 1 + below(4); n; n--)
        p.bytes.at(14 + below(static_cast<unsigned>(p.bytes.size()) - 14)) = static_cast<std::uint8_t>(rng_());
    }
  }

  std::mt19937 rng_;
};

Packet RandomTraffic::plain(bool back) {
  const bool v6 = one_in(3);
  switch (below(6)) {
    case 0:
    case 1:
    case 2:
      return tcp(v6, back);
    case 3:
      return udp(v6, back);
    case 4:
      return query(v6, back);
    default:
      return something(v6, back);
  }
}

Packet RandomTraffic::error(bool back) {
  const Packet about = plain(!back);
  const bool v6 = about.bytes.at(12) == 0x86;
  static constexpr std::uint8_t kTypes4[] = {3, 3, 11, 12, 4, 5}, kTypes6[] = {1, 2, 3, 4};
  return icmp_error(about, {.from = v6 ? "2001:db8:7::7" : "192.0.2.7",
                            .type = v6 ? kTypes6[below(std::size(kTypes6))] : kTypes4[below(std::size(kTypes4))],
                            .code = static_cast<std::uint8_t>(below(5)),
                            .quote = below(4) ? 28 + below(60) : below(60)});
}

class Observed : public World {
 public:
  explicit Observed(const WorldOptions& options) : World(options) { check_output = false; }

  // Packets found invalid so far, for whatever reason.
  std::uint64_t invalid() const {
    std::uint64_t sum = 0;
    const u32 zero = 0;
    for (u32 cpu = 0; cpu < NATIVE_MAX_CPUS; cpu++)
      for (std::uint64_t n : static_cast<ctd_ct_stats*>(native_map_lookup_cpu(ct_stats_, &zero, cpu))->invalid)
        sum += n;
    return sum;
  }

  // Every record, as it is.
  std::vector<ctd_conn> records() const {
    std::vector<ctd_conn> all;
    for (u32 id = 1; id <= rt().high_water; id++) all.push_back(*conn(id));
    return all;
  }

 private:
  native_map* ct_stats_ = native_map_find("ct_stats");
};

// Which of the connections that were alive before are not the same any more, byte by byte. (Dead ones may go whenever
// somebody looks at them, and so may those that have no time left.)
std::string changed(const std::vector<ctd_conn>& before, const Observed& w) {
  std::string ids;
  for (std::size_t i = 0; i < before.size(); i++) {
    const bool valid = CTD_CTL_LIFE(before[i].ctl) == CTD_CONN_VALID && native_jiffies_left(&before[i]) != 0;
    if (valid && std::memcmp(&before[i], w.conn(static_cast<u32>(i + 1)), sizeof(ctd_conn)) != 0)
      ids += " " + std::to_string(i + 1);
  }
  return ids;
}

std::string hex(const Packet& p) { return fmt::format("{:02x}", fmt::join(p.bytes.begin() + 14, p.bytes.end(), "")); }

class Property : public testing::TestWithParam<unsigned> {};

TEST_P(Property, TheTableStaysWholeAndInvalidPacketsChangeNothing) {
  const unsigned seed = GetParam();
  RandomTraffic traffic(seed);
  Observed w({.native = {.conn_capacity = 48, .unanswered_quota = 16, .answered_quota = 16, .seed = seed},
              .masquerade4 = seed % 2 == 0,
              .masquerade6 = seed % 3 == 0});
  unsigned invalid = 0, valid = 0;
  for (int i = 0; i < 6000; i++) {
    if (traffic.one_in(200)) w.advance(traffic.one_in(4) ? 700 : 3);
    if (traffic.one_in(20)) w.sweep(1);
    const bool back = traffic.one_in(2);
    const Packet packet = traffic.packet(back);
    const auto before = w.records();
    const std::uint64_t invalid_before = w.invalid(), refused = w.drops(CTD_DROP_CT_INVALID);
    w.from(back ? kWan : kLan, packet);
    const bool was_invalid = w.invalid() != invalid_before && w.drops(CTD_DROP_CT_INVALID) == refused;
    (was_invalid ? invalid : valid)++;
    if (was_invalid) {
      ASSERT_EQ(changed(before, w), "") << "by an invalid packet, the " << i << "th: " << hex(packet);
    }
    ASSERT_EQ(w.broken(), "") << "after the " << i << "th packet: " << hex(packet);
  }
  EXPECT_GT(invalid, 500u);
  EXPECT_GT(valid, 500u);
  native_flush();
  w.sweep(3);
  EXPECT_EQ(w.tuple4.size() + w.tuple6.size(), 0u);
  EXPECT_EQ(w.broken(), "");
}

// An ICMP error of the right form, about whatever: it is related or invalid, and never creates, refreshes or ends.
TEST_P(Property, ErrorsChangeNothing) {
  const unsigned seed = GetParam();
  RandomTraffic traffic(seed + 1000);
  Observed w({.native = {.seed = seed}, .masquerade4 = seed % 2 == 0});
  unsigned related = 0;
  for (int i = 0; i < 2000; i++) {
    const bool back = traffic.one_in(2);
    w.from(back ? kWan : kLan, traffic.plain(back));
    const auto before = w.records();
    const std::uint64_t created = w.counter(CTD_COUNT_CT_NEW), invalid = w.invalid();
    w.advance(0.1);
    const Packet error = traffic.error(!back);
    w.from(back ? kLan : kWan, error);
    related += w.invalid() == invalid;
    ASSERT_EQ(changed(before, w), "") << hex(error);
    ASSERT_EQ(w.counter(CTD_COUNT_CT_NEW), created) << hex(error);
  }
  EXPECT_GT(related, 50u);
  EXPECT_EQ(w.broken(), "");
}

INSTANTIATE_TEST_SUITE_P(Seeds, Property, testing::Range(0u, 12u));

}  // namespace
}  // namespace ctd::test
