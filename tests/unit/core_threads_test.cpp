// SPDX-License-Identifier: Apache-2.0
// The rules of concurrency, on two CPUs: threads that run packets at the same time, a third that ages. Run under the
// thread sanitizer too.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include <atomic>
#include <barrier>
#include <functional>
#include <random>
#include <thread>
#include <vector>

#include "core_world.hpp"
#include "packet_check.hpp"

namespace ctd::test {
namespace {

// Packets for several threads; no gtest and no World::run() in there.
int run_raw(std::uint32_t port, const Packet& p, native_entry entry = NATIVE_INGRESS) {
  NativePacket n = to_native(p);
  const u8 mac[6] = {2, 0, 0, 0, 0, static_cast<u8>(0x10 + port)};
  std::copy(mac, mac + 6, n->head);
  n->ifindex = kIfindexOf + port;
  if (entry == NATIVE_INGRESS) n->ingress_ifindex = n->ifindex;
  int verdict = native_run(n.get(), entry);
  if (verdict != TC_ACT_REDIRECT) return verdict;
  const Packet left = from_native(*n);
  if (!wrong_with(left).empty()) return -1;
  // Outside, every packet has the gateway's address.
  if (n->redirect.ifindex == kIfindexOf + kWan && line_of(left).find(" 10.0.2.1:") == std::string::npos) return -1;
  return verdict;
}

void on_two_cpus(const std::function<void(u32)>& f) {
  std::atomic<int> ready{0};
  auto body = [&](u32 cpu) {
    native_set_cpu(cpu);
    ready++;
    while (ready < 2) {
    }
    f(cpu);
  };
  std::thread other(body, 1);
  body(0);
  other.join();
  native_set_cpu(0);
}

Packet out_packet(std::uint16_t port, std::uint8_t flags = 0) {
  PacketBuilder b = frame().ipv4();
  return (flags ? b.tcp({.sport = port, .dport = 80, .flags = flags}) : b.udp({.sport = port, .dport = 53}))
      .payload(4)
      .build();
}
Packet in_packet(std::uint16_t port, std::uint8_t flags = 0) {
  PacketBuilder b = frame().ipv4({.src = "10.0.2.2", .dst = "10.0.2.1"});
  return (flags ? b.tcp({.sport = 80, .dport = port, .flags = flags}) : b.udp({.sport = 53, .dport = port}))
      .payload(4)
      .build();
}

// Runs packet i of `first` and of `second` at the same time on two CPUs. Answers how many did not leave.
int run_in_pairs(std::uint32_t first_port, const std::vector<Packet>& first, std::uint32_t second_port,
                 const std::vector<Packet>& second) {
  std::barrier step(2);
  std::atomic<int> wrong{0};
  on_two_cpus([&](u32 cpu) {
    for (std::size_t i = 0; i < first.size(); i++) {
      step.arrive_and_wait();
      if (run_raw(cpu ? second_port : first_port, cpu ? second[i] : first[i]) != TC_ACT_REDIRECT) wrong++;
    }
  });
  return wrong;
}

// Slots, tuples, classes and ids, as World knows them, and the counters: who was created is there or has ended.
std::string unaccounted(const World& w) {
  std::uint64_t ended = 0;
  const u32 zero = 0;
  for (u32 cpu = 0; cpu < NATIVE_MAX_CPUS; cpu++)
    for (std::uint64_t n :
         static_cast<ctd_ct_stats*>(native_map_lookup_cpu(native_map_find("ct_stats"), &zero, cpu))->ended)
      ended += n;
  std::string bad = w.broken();
  const std::uint64_t created = w.counter(CTD_COUNT_CT_NEW);
  if (created != ended + static_cast<std::uint64_t>(w.rt().conns))
    bad += std::to_string(created) + " created, " + std::to_string(ended) + " ended, " + std::to_string(w.rt().conns) +
           " are there\n";
  return bad;
}

// Why packets were dropped, with numbers.
std::string dropped(const World& w) {
  std::string text;
  for (int reason = 1; reason < CTD_DROP_COUNT; reason++)
    if (const std::uint64_t n = w.drops(reason)) text += std::string(drop_name(reason)) + " " + std::to_string(n) + " ";
  return text;
}

constexpr std::uint16_t kPairs = 400;

std::vector<Packet> packets(std::string_view src, std::string_view dst, bool back = false) {
  std::vector<Packet> all;
  for (std::uint16_t i = 0; i < kPairs; i++) {
    auto port = static_cast<std::uint16_t>(2000 + i);
    all.push_back(frame()
                      .ipv4({.src = src, .dst = dst})
                      .udp({.sport = back ? std::uint16_t{53} : port, .dport = back ? port : std::uint16_t{53}})
                      .build());
  }
  return all;
}

constexpr native_options kRoom{.conn_capacity = 1024, .unanswered_quota = 1000};

// The smaller tuple is inserted first: the original or the mapping.
void same_first_packet(std::string_view src, std::string_view dst) {
  World w({.native = kRoom});
  auto all = packets(src, dst);
  EXPECT_EQ(run_in_pairs(kLan, all, kLan, all), 0) << "the loser waits for the winner";
  EXPECT_EQ(w.drops(CTD_DROP_CT_CLASH), 0u);
  EXPECT_EQ(w.connections().size(), kPairs);
  std::uint64_t count = 0;
  for (const ctd_conn* c : w.connections()) count += c->count[0].packets;
  EXPECT_EQ(count, 2u * kPairs) << "counters are atomic";
  EXPECT_EQ(unaccounted(w), "");
}
TEST(TwoCpus, TheSameFirstPacketMakesOneConnection) { same_first_packet("10.1.0.2", "10.0.2.2"); }
TEST(TwoCpus, TheSameFirstPacketMakesOneConnectionMappingFirst) { same_first_packet("10.1.0.2", "9.9.9.9"); }

// Without translation, two first packets in opposite directions are one connection.
void opposite_first_packets(const ctd_action& commit) {
  World w({.native = kRoom});
  w.remove_flows();
  for (u32 in : {kLan, kDmz}) {
    Match m;
    m.key.in_port = in;
    m.key.eth_type = __builtin_bswap16(0x0800);
    w.add_flow(m, {commit, act_route()});
  }
  EXPECT_EQ(run_in_pairs(kLan, packets("10.1.0.2", "10.3.0.2"), kDmz, packets("10.3.0.2", "10.1.0.2", true)), 0);
  EXPECT_EQ(w.connections().size(), kPairs);
  EXPECT_EQ(unaccounted(w), "");
}
TEST(TwoCpus, OppositeFirstPacketsMakeOneConnection) { opposite_first_packets(act_ct({.flags = CTD_CTF_COMMIT})); }
TEST(TwoCpus, OppositeFirstPacketsWithNullNatMakeOneConnection) {
  opposite_first_packets(act_ct({.flags = CTD_CTF_COMMIT | CTD_CTF_NAT, .nat_id = kNatNull}));
}

// Two CPUs never give one mapping to two clients.
TEST(TwoCpus, MappingsAreUnique) {
  World w({.native = kRoom});
  EXPECT_EQ(run_in_pairs(kLan, packets("10.1.0.2", "10.0.2.2"), kLan, packets("10.1.0.3", "10.0.2.2")), 0);
  EXPECT_EQ(w.connections().size(), 2u * kPairs);
  EXPECT_EQ(w.broken(), "");
}

// One CPU has packets of a few connections, the other ends them all again and again: no packet is lost.
TEST(TwoCpus, EndsWhileAnotherLooksItUp) {
  World w({.native = kRoom});
  std::atomic<bool> done{false};
  std::atomic<int> wrong{0};
  on_two_cpus([&](u32 cpu) {
    if (cpu == 0) {
      for (int i = 0; i < 20000; i++)
        if (run_raw(kLan, out_packet(static_cast<std::uint16_t>(2000 + i % 5))) != TC_ACT_REDIRECT) wrong++;
      done = true;
      return;
    }
    while (!done) {
      native_flush();
      native_advance(1);
      for (int i = 0; i < 110; i++) native_sweep_tick();
    }
  });
  EXPECT_EQ(wrong, 0) << dropped(w);
  EXPECT_EQ(unaccounted(w), "");
}

// Connections are answered, and promoted, while newer ones push them out of their class.
TEST(TwoCpus, PromotionAgainstEviction) {
  World w({.native = {.conn_capacity = 256, .unanswered_quota = 16, .answered_quota = 16}});
  std::atomic<unsigned> newest{0};
  std::atomic<int> wrong{0};
  constexpr unsigned kFlood = 20000;
  on_two_cpus([&](u32 cpu) {
    std::mt19937 rng(1);
    for (unsigned at; (at = newest) < kFlood;) {
      if (cpu == 0) {
        if (run_raw(kLan, out_packet(static_cast<std::uint16_t>(2000 + at))) != TC_ACT_REDIRECT) wrong++;
        newest++;
      } else {
        // Some of these are about to go, some have gone: then it is for the host itself.
        int verdict = run_raw(kWan, in_packet(static_cast<std::uint16_t>(2000 + at - rng() % 24)));
        if (verdict != TC_ACT_REDIRECT && verdict != TC_ACT_OK) wrong++;
      }
    }
  });
  // Of a ring at most 16 entries are looked at: behind as many that were promoted, a newcomer is refused and counted.
  // And whoever meets the same tuple dying four times in a row gives up.
  EXPECT_EQ(wrong, static_cast<int>(w.drops(CTD_DROP_CT_FULL) + w.drops(CTD_DROP_CT_CLASH))) << dropped(w);
  EXPECT_GT(w.classes.find(CTD_CLASS_ANSWERED)->head, 16u);
  EXPECT_LE(w.connections().size(), 16u + 16 + 2);
  EXPECT_EQ(unaccounted(w), "");
}

// Two CPUs meet connections that have just died and are not yet gone: one of them takes them apart, both go on.
TEST(TwoCpus, BothReapAndOpenAgain) {
  World w({.native = kRoom});
  auto all = packets("10.1.0.2", "10.0.2.2");
  for (int round = 0; round < 5; round++) {
    native_flush();
    EXPECT_EQ(run_in_pairs(kLan, all, kLan, all), 0);
    EXPECT_EQ(w.connections().size(), kPairs);
  }
  EXPECT_EQ(unaccounted(w), "");
}

// The sweep takes dead connections apart on one CPU while their next first packets come on the other.
TEST(TwoCpus, SweepAgainstLookUp) {
  World w({.native = kRoom});
  auto all = packets("10.1.0.2", "10.0.2.2");
  std::atomic<bool> done{false};
  std::atomic<int> wrong{0};
  on_two_cpus([&](u32 cpu) {
    if (cpu == 0) {
      for (int round = 0; round < 20; round++) {
        native_flush();
        for (const Packet& p : all)
          if (run_raw(kLan, p) != TC_ACT_REDIRECT) wrong++;
      }
      done = true;
      return;
    }
    while (!done) native_sweep_tick();
  });
  EXPECT_EQ(wrong, 0) << dropped(w);
  EXPECT_EQ(w.connections().size(), kPairs);
  EXPECT_EQ(unaccounted(w), "");
}

class Storm : public testing::TestWithParam<bool> {};

// Both directions of few connections on two CPUs, born and killed all the time, while a third CPU ages and flushes.
TEST_P(Storm, NothingIsLostOrTornApart) {
  World w({.native = {.conn_capacity = 64, .unanswered_quota = 12, .answered_quota = 12, .cache_entries = 16},
           .fast = GetParam()});
  std::atomic<bool> stop{false};
  std::atomic<int> wrong{0};
  std::thread timer([&] {
    native_set_cpu(2);
    std::mt19937 rng(3);
    while (!stop) {
      native_sweep_tick();
      native_advance(rng() % 8 ? 1 : 700);
      __atomic_store_n(&w.rt().daemon_beat, static_cast<u32>(native_jiffies()), __ATOMIC_RELAXED);
      if (rng() % 512 == 0) native_flush();
      std::this_thread::yield();
    }
  });
  on_two_cpus([&](u32 cpu) {
    std::mt19937 rng(cpu + 1);
    constexpr std::uint8_t kF[] = {0, 0, 0, kSyn, kSyn | kAck, kAck, kAck, kAck, kFin | kAck, kRst};
    for (int i = 0; i < 6000; i++) {
      auto port = static_cast<std::uint16_t>(2000 + rng() % 20);
      std::uint8_t flags = kF[rng() % std::size(kF)];
      int verdict = rng() % 2 ? run_raw(kLan, out_packet(port, flags)) : run_raw(kWan, in_packet(port, flags));
      if (verdict == -1) wrong++;
    }
  });
  stop = true;
  timer.join();
  EXPECT_EQ(wrong, 0) << "packets left with a wrong checksum or an inside address";
  native_flush();
  w.sweep(4);
  EXPECT_EQ(w.connections().size(), 0u);
  EXPECT_EQ(w.tuple4.size(), 0u);
  EXPECT_EQ(unaccounted(w), "");
}
INSTANTIATE_TEST_SUITE_P(FastAndSlow, Storm, testing::Bool(),
                         [](const auto& row) { return row.param ? "Fast" : "Slow"; });

TEST(TwoCpus, IdsAreNeverHandedOutTwice) {
  World w({.native = {.conn_capacity = 300}});
  std::atomic<u8> owner[301] = {};
  std::atomic<int> twice{0};
  on_two_cpus([&](u32 cpu) {
    std::vector<u32> mine;
    std::mt19937 rng(cpu);
    for (int i = 0; i < 20000; i++) {
      if (rng() % 2 && mine.size() < 140) {
        u32 id = native_id_alloc();
        if (!id) continue;
        if (owner[id].exchange(1)) twice++;
        mine.push_back(id);
      } else if (!mine.empty()) {
        u32 id = mine.back();
        mine.pop_back();
        owner[id] = 0;
        native_id_free(id);
      }
    }
    for (u32 id : mine) {
      owner[id] = 0;
      native_id_free(id);
    }
  });
  EXPECT_EQ(twice, 0);
  EXPECT_EQ(w.broken(), "");
}

// Two connections that fit the same expectation begin at the same time: one gets it, the other is as any.
TEST(TwoCpus, AnExpectationIsUsedOnce) {
  constexpr u32 kEach = 25;  // with the losers, within the quota of the unanswered: the master is one
  World w;
  Match m;
  m.key.in_port = kWan;
  m.key.recirc_id = 1;  // after the gateway's first ct()
  m.key.eth_type = htons(0x0800);
  m.key.ct_state = CTD_CS_NEW | CTD_CS_REL;
  m.mask.ct_state = CTD_CS_NEW | CTD_CS_EST | CTD_CS_REL | CTD_CS_INV;
  w.add_flow(m, {act_ct({.flags = CTD_CTF_COMMIT | CTD_CTF_NAT}), act_route()});
  w.from(kLan, out_packet(1000));
  const ctd_conn master = w.only();
  std::vector<Packet> first, second;
  for (std::uint16_t port = 2000; port < 2000 + kEach; port++) {
    ctd_expect_order order{};
    order.key = master.reply;
    order.key.sport = 0;
    order.key.dport = htons(port);
    order.expect.master = master.id;
    order.expect.master_seq = CTD_CTL_SEQ(master.ctl);
    order.expect.flags = CTD_EXPECT_DNAT;
    order.expect.nat_dst = master.orig.src;
    order.timeout = 60 * kHz;
    ASSERT_EQ(native_expect(NATIVE_EXPECT_ADD, &order), 0);
    ASSERT_EQ(order.error, 0);
    for (auto* side : {&first, &second})
      side->push_back(frame()
                          .ipv4({.src = "10.0.2.2", .dst = "10.0.2.1"})
                          .udp({.sport = side == &first ? std::uint16_t{20} : std::uint16_t{21}, .dport = port})
                          .build());
  }
  run_in_pairs(kWan, first, kWan, second);
  u32 expected = 0;
  for (const ctd_conn* conn : w.connections()) expected += conn->status & CTD_STATUS_EXPECTED ? 1 : 0;
  EXPECT_EQ(expected, kEach) << dropped(w);
  EXPECT_EQ(w.rt().expects, 0);
  EXPECT_EQ(unaccounted(w), "");
}

}  // namespace
}  // namespace ctd::test
