// SPDX-License-Identifier: Apache-2.0
// Misses go up with their state and come back in the middle of the pipeline, as if the flow had been there.
#include <ctd/abi/upcall.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include <cstring>

#include "core_world.hpp"
#include "packet_check.hpp"

namespace ctd::test {
namespace {

constexpr WorldOptions kNoFlows{.install_flows = false};

ctd_packet_meta meta_of(const Out& up) {
  ctd_packet_meta meta{};
  EXPECT_GE(up.packet.bytes.size(), 14 + sizeof(meta));
  if (up.packet.bytes.size() >= 14 + sizeof(meta)) std::memcpy(&meta, &up.packet.bytes[14], sizeof(meta));
  return meta;
}

TEST(Upcall, CarriesThePacketAndItsKey) {
  World w(kNoFlows);
  Packet in = frame().ipv4({.ttl = 9, .tos = 4}).tcp().payload(33).build();
  Out up = w.from(kLan, in);
  ASSERT_EQ(up.where, "tap");
  EXPECT_EQ(up.packet.bytes[12] << 8 | up.packet.bytes[13], static_cast<int>(CTD_ETH_P_UPCALL));
  ctd_packet_meta meta = meta_of(up);
  EXPECT_EQ(meta.magic, CTD_UPCALL_MAGIC);
  EXPECT_EQ(meta.abi_version, CTD_ABI_VERSION);
  EXPECT_EQ(meta.kind, CTD_UPCALL_MISS);
  EXPECT_EQ(meta.ifindex, kIfindexOf + kLan);
  EXPECT_EQ(ntohs(meta.eth_type), 0x0800);
  EXPECT_EQ(meta.key.in_port, kLan);
  EXPECT_EQ(meta.key.recirc_id, 0u);
  EXPECT_EQ(meta.key.ip_ttl, 9);
  EXPECT_EQ(meta.key.ip_tos, 4);
  EXPECT_EQ(ntohs(meta.key.dport), 80);
  EXPECT_EQ(ntohs(meta.key.tcp_flags), kSyn);
  Bytes rest(up.packet.bytes.begin() + 14 + sizeof(meta), up.packet.bytes.end());
  EXPECT_EQ(rest, Bytes(in.bytes.begin() + 14, in.bytes.end()));
}

struct Shape {
  const char* name;
  Packet in;
  bool accelerated_tag = false;
};
class UpcallShape : public testing::TestWithParam<Shape> {};

// Miss, flows arrive, execute: the same packet as with the flows in place from the start; each pass misses on its own.
TEST_P(UpcallShape, ExecuteIsAsGoodAsAHit) {
  const Shape& shape = GetParam();
  std::string wanted;
  Packet packet;
  {
    World w;
    Out direct = w.from(kLan, shape.in);
    wanted = direct.where + " " + direct.line;
    packet = direct.packet;
  }
  World w(kNoFlows);
  Out up = w.from(kLan, shape.in, 60);
  ASSERT_EQ(up.where, "tap");
  w.install_gateway();
  Out out = w.execute(up);
  EXPECT_EQ(out.where + " " + out.line, wanted);
  EXPECT_EQ(out.packet.partial, packet.partial);
  EXPECT_EQ(out.packet.gso_size, packet.gso_size);
  EXPECT_EQ(out.packet.csum_start, packet.csum_start);
  EXPECT_TRUE(out.packet.bytes == packet.bytes) << "byte for byte";
  EXPECT_EQ(w.counter(CTD_COUNT_UPCALL), 1u);
  EXPECT_EQ(w.counter(CTD_COUNT_EXECUTE), 1u);
  EXPECT_EQ(w.only().count[0].packets, 1u);
  EXPECT_EQ(w.broken(), "");
}
INSTANTIATE_TEST_SUITE_P(All, UpcallShape,
                         testing::Values(Shape{"Udp4", frame().ipv4().udp().payload(10).build()},
                                         Shape{"Udp6", frame().ipv6().udp().payload(10).build()},
                                         Shape{"Partial", frame().ipv4().tcp().payload(500).partial().build()},
                                         Shape{"Gso", frame().ipv4().tcp().payload(40000).partial().gso(1400).build()},
                                         Shape{"Gso6", frame().ipv6().tcp().payload(40000).partial().gso(1400).build()},
                                         Shape{"Options", frame().ipv4({.option_words = 9}).udp().build()}),
                         [](const auto& row) { return row.param.name; });

TEST(Upcall, EveryPassMayMiss) {
  World w(kNoFlows);
  Match m;
  m.key.in_port = kLan;
  m.key.eth_type = htons(0x0800);
  Out up = w.from(kLan, frame().ipv4().udp().build());
  ASSERT_EQ(up.where, "tap");
  w.add_flow(m, {act_ct({.recirc = 1, .flags = CTD_CTF_NAT})});
  up = w.execute(up);
  ASSERT_EQ(up.where, "tap");
  EXPECT_EQ(meta_of(up).key.recirc_id, 1u);
  EXPECT_EQ(meta_of(up).key.ct_state, CTD_CS_TRK | CTD_CS_NEW);
  m.key.recirc_id = 1;
  w.add_flow(m, {act_route(2)});
  up = w.execute(up);
  ASSERT_EQ(up.where, "tap");
  EXPECT_EQ(meta_of(up).key.out_port, kWan);
  m.key.recirc_id = 2;
  w.add_flow(m, {act_ct({.flags = CTD_CTF_COMMIT | CTD_CTF_NAT, .nat_id = kNatMasquerade}), act_route()});
  Out out = w.execute(up);
  EXPECT_EQ(out.where, "wan via 10.0.2.2");
  EXPECT_EQ(out.line, "udp 10.0.2.1:40000 > 10.0.2.2:53");
  EXPECT_EQ(w.only().count[0].packets, 1u);
}

// A packet of a known connection is translated by the first ct(), misses afterwards, and is not translated again.
TEST(Upcall, TranslatedOnceOnly) {
  World w;
  ASSERT_EQ(w.from(kLan, frame().ipv4().udp().build()).where, "wan via 10.0.2.2");
  w.remove_flows();
  Match m;
  m.key.in_port = kWan;
  m.key.eth_type = htons(0x0800);
  w.add_flow(m, {act_ct({.recirc = 1, .flags = CTD_CTF_NAT})});
  Out up =
      w.from(kWan, frame().ipv4({.src = "10.0.2.2", .dst = "10.0.2.1"}).udp({.sport = 53, .dport = 40000}).build());
  ASSERT_EQ(up.where, "tap");
  EXPECT_EQ(meta_of(up).ct.conn, w.only().id);
  m.key.recirc_id = 1;
  w.add_flow(m, {act_ct({.flags = CTD_CTF_NAT}), act_route()});
  Out out = w.execute(up);
  EXPECT_EQ(out.where, "lan via 10.1.0.2");
  EXPECT_EQ(out.line, "udp 10.0.2.2:53 > 10.1.0.2:40000");
  EXPECT_EQ(w.only().count[1].packets, 1u) << "counted by the first ct() only";
}

TEST(Upcall, TheHostsOwnPackets) {
  World w(kNoFlows);
  Out up = w.from_host(kWan, frame().ipv4({.src = "10.0.2.1"}).tcp().payload(9).partial().build());
  ASSERT_EQ(up.where, "tap");
  EXPECT_EQ(meta_of(up).egress, 1u);
  EXPECT_EQ(meta_of(up).key.in_port, CTD_PORT_LOCAL);
  EXPECT_EQ(meta_of(up).key.out_port, kWan);
  w.install_gateway();
  Out out = w.execute(up);
  EXPECT_EQ(out.where, "wan");
  EXPECT_EQ(out.line, "tcp 10.0.2.1:40000 > 10.0.2.2:80");
  EXPECT_EQ(w.only().orig.dport, htons(80));
}

TEST(Upcall, UpToTheHost) {
  World w(kNoFlows);
  Out up = w.from(kLan, frame().ipv4({.dst = "10.1.0.1"}).udp().build());
  w.install_gateway();
  Out out = w.execute(up);
  EXPECT_EQ(out.where, "into lan");
  out.skb->ifindex = out.skb->ingress_ifindex = kIfindexOf + kLan;
  EXPECT_EQ(w.run(std::move(out.skb), NATIVE_INGRESS).where, "stack") << "the hook knows it";
  EXPECT_EQ(w.only().count[0].packets, 1u);
}

TEST(Upcall, AcceleratedTag) {
  World w(kNoFlows);
  for (std::uint16_t tci : {std::uint16_t{5}, std::uint16_t{0xe005}}) {
    Packet p = frame().ipv4().udp().payload(20).build();
    NativePacket n = to_native(p);
    n->ifindex = n->ingress_ifindex = kIfindexOf + kLan;
    std::memcpy(n->head, w.port(kLan).mac, 6);
    n->vlan_present = true;
    n->vlan_tci = tci;
    n->vlan_tpid = htons(0x8100);
    Out up = w.run(std::move(n), NATIVE_INGRESS);
    ASSERT_EQ(up.where, "tap");
    EXPECT_FALSE(up.skb->vlan_present) << "the daemon reads it in the metadata";
    EXPECT_EQ(ntohs(meta_of(up).key.vlan_tci), tci | 0x1000);
    Match m;
    m.key.in_port = kLan;
    m.key.eth_type = htons(0x0800);
    w.remove_flows();
    w.add_flow(m, {act_output(kWan)});
    Out out = w.execute(up);
    ASSERT_EQ(out.where, "wan");
    EXPECT_TRUE(out.skb->vlan_present);
    EXPECT_EQ(out.skb->vlan_tci, tci);
    EXPECT_EQ(out.skb->vlan_tpid, htons(0x8100));
    EXPECT_EQ(Bytes(out.packet.bytes.begin() + 6, out.packet.bytes.end()), Bytes(p.bytes.begin() + 6, p.bytes.end()));
    w.remove_flows();
  }
}

// Two tags: the outer one accelerated and the inner one in the packet, or both in the packet.
void two_tags(bool accelerated) {
  World w(kNoFlows);
  PacketBuilder b = frame();
  if (!accelerated) b.vlan(7, 0x88a8);
  Packet p = b.vlan(8).ipv4().udp().payload(20).build();
  NativePacket n = to_native(p);
  n->ifindex = n->ingress_ifindex = kIfindexOf + kLan;
  std::memcpy(n->head, w.port(kLan).mac, 6);
  if (accelerated) {
    n->vlan_present = true;
    n->vlan_tci = 7;
    n->vlan_tpid = htons(0x88a8);
  }
  Out up = w.run(std::move(n), NATIVE_INGRESS);
  ASSERT_EQ(up.where, "tap");
  EXPECT_FALSE(up.skb->vlan_present) << "the device would put it in front of the metadata";
  ctd_flow_key key = meta_of(up).key;
  EXPECT_EQ(ntohs(key.vlan_tci), 0x1007);
  Match m;
  m.key = {.in_port = kLan};
  m.key.eth_type = key.eth_type;
  w.add_flow(m, {act_output(kWan)});
  Out out = w.execute(up);
  ASSERT_EQ(out.where, "wan");
  EXPECT_EQ(out.skb->vlan_present, accelerated);
  EXPECT_EQ(out.skb->vlan_tci, accelerated ? 7 : 0);
  EXPECT_EQ(Bytes(out.packet.bytes.begin() + 6, out.packet.bytes.end()), Bytes(p.bytes.begin() + 6, p.bytes.end()));
}

TEST(Upcall, TwoTagsInThePacket) { two_tags(false); }
TEST(Upcall, TwoTagsOneAccelerated) { two_tags(true); }

TEST(Upcall, NobodyReads) {
  World w(kNoFlows);
  native_advance(4 * kHz);
  EXPECT_EQ(w.from(kLan, frame().ipv4().udp().build()).where, "drop upcall_no_daemon");
}

TEST(Upcall, OnePortsMissesAreLimited) {
  World w(kNoFlows);
  w.limits.set(kLan, {.rate = 10, .burst = 3, .tokens = 3, .filled = static_cast<u32>(native_jiffies())});
  std::string got;
  for (int i = 0; i < 5; i++) got += w.from(kLan, frame().ipv4().udp().build()).where + "; ";
  EXPECT_EQ(got, "tap; tap; tap; drop upcall_limit; drop upcall_limit; ");
  EXPECT_EQ(w.from(kWan, frame().ipv4().udp().build()).where, "tap") << "another port has its own";
  for (int i = 0; i < 25; i++) {
    native_advance(1);
    w.from(kLan, frame().ipv4().udp().build());
  }
  EXPECT_EQ(w.drops(CTD_DROP_UPCALL_LIMIT), 2u + 24u) << "ten a second: one in 25 ticks";
}

TEST(Upcall, ForgedAndStalePacketsOnTheDevice) {
  World w(kNoFlows);
  Out up = w.from(kLan, frame().ipv4().udp().payload(40).build());
  ASSERT_EQ(up.where, "tap");
  w.install_gateway();
  auto spoilt = [&](std::size_t at) {
    Out copy;
    copy.packet = up.packet;
    copy.packet.bytes.at(14 + at) ^= 1;
    return w.execute(copy).where;
  };
  EXPECT_EQ(spoilt(offsetof(ctd_packet_meta, magic)), "drop forged");
  EXPECT_EQ(spoilt(offsetof(ctd_packet_meta, token)), "drop forged");
  EXPECT_EQ(spoilt(offsetof(ctd_packet_meta, token) + 7), "drop forged");
  EXPECT_EQ(spoilt(offsetof(ctd_packet_meta, abi_version)), "drop stale");
  EXPECT_EQ(spoilt(offsetof(ctd_packet_meta, ifindex) + 3), "drop unknown_port");
  w.check_output = false;
  for (std::size_t n = 0; n < up.packet.bytes.size(); n++) {
    Out cut;
    cut.packet = up.packet;
    cut.packet.bytes.resize(std::max<std::size_t>(n, 14));
    EXPECT_THAT(w.execute(cut).where, testing::StartsWith("drop ")) << n;
  }
  NativePacket plain = to_native(frame().ipv4().udp().build());
  plain->ifindex = NATIVE_TAP_IFINDEX;
  EXPECT_EQ(w.run(std::move(plain), NATIVE_TAP_OUT).where, "drop forged") << "only our stages send to the device";
  up.skb->ifindex = NATIVE_TAP_IFINDEX;
  EXPECT_EQ(w.run(std::move(up.skb), NATIVE_TAP_OUT).where, "on");
}

}  // namespace
}  // namespace ctd::test
