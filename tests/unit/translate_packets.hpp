// SPDX-License-Identifier: Apache-2.0
// Flow keys for tests of rules and translation.
#pragma once

#include <cstring>
#include <initializer_list>
#include <random>
#include <string>

#include <arpa/inet.h>
#include <netinet/in.h>

#include <ctd/abi/ct.h>
#include <ctd/abi/key.h>

#include "daemon/rule.hpp"
#include "daemon/translate.hpp"

namespace ctd::test {

inline ctd_addr address(const char* text) {
  ctd_addr addr{};
  inet_pton(std::strchr(text, ':') ? AF_INET6 : AF_INET, text, &addr);
  return addr;
}

struct Packet {
  u32 in_port = 1;
  const char* src = "10.1.0.2";
  const char* dst = "192.0.2.80";
  u8 proto = IPPROTO_TCP;
  u16 sport = 40000;
  u16 dport = 80;
  u32 recirc_id = 0;
  u8 ct_state = 0;
  u32 out_port = 0;
  u16 vlan_tci = 0;
  u8 dst_mac = 0x02;  // its first byte
};

// An IP packet, of the family of its addresses.
inline ctd_flow_key ip_packet(const Packet& packet) {
  ctd_flow_key key{};
  key.in_port = packet.in_port;
  key.recirc_id = packet.recirc_id;
  key.out_port = packet.out_port;
  key.ct_state = packet.ct_state;
  key.eth_type = htons(std::strchr(packet.dst, ':') ? 0x86dd : 0x0800);
  key.vlan_tci = htons(packet.vlan_tci);
  key.vlan_tpid = packet.vlan_tci ? htons(0x8100) : 0;
  key.eth_src[0] = 0x02;
  key.eth_src[5] = 0x11;
  key.eth_dst[0] = packet.dst_mac;
  key.eth_dst[5] = 0x22;
  key.ip_src = address(packet.src);
  key.ip_dst = address(packet.dst);
  key.ip_proto = packet.proto;
  key.ip_ttl = 64;
  key.sport = htons(packet.sport);
  key.dport = htons(packet.dport);
  if (packet.proto == IPPROTO_TCP) key.tcp_flags = htons(0x10);
  return key;
}

inline ctd_flow_key arp_packet(u32 in_port) {
  ctd_flow_key key{};
  key.in_port = in_port;
  key.eth_type = htons(0x0806);
  std::memset(key.eth_dst, 0xff, sizeof(key.eth_dst));
  key.ip_src = address("10.1.0.2");
  key.ip_dst = address("10.1.0.1");
  key.ip_proto = 1;
  return key;
}

inline ctd_key_words words(const ctd_flow_key& key) {
  ctd_key_words result{};
  result.key = key;
  return result;
}

inline ArgsTable no_args() {
  return {.nat = InternTable<ctd_nat_args>("nat arguments", 1023),
          .labels = InternTable<ctd_label_args>("labels", 1023),
          .policies = {}};
}

// Packets from small sets of values, so that rules about them hit and miss.
class RandomPackets {
 public:
  explicit RandomPackets(unsigned seed) : random_(seed) {}

  std::size_t below(std::size_t n) { return random_() % n; }
  bool one_in(std::size_t n) { return below(n) == 0; }

  ctd_flow_key next(u32 recirc_id) {
    Packet packet;
    packet.recirc_id = recirc_id;
    packet.in_port = pick({1u, 2u, CTD_PORT_LOCAL});
    const bool v6 = one_in(3);
    packet.src = v6 ? pick({"fe80::1", "2001:db8::1", "2001:db8:1::1"}) : pick({"10.1.0.2", "10.2.0.2", "192.0.2.1"});
    packet.dst = v6 ? pick({"ff02::1", "2001:db8::2", "fe80::2"})
                    : pick({"10.1.0.9", "192.0.2.80", "224.0.0.251", "255.255.255.255", "198.51.100.1"});
    packet.proto = pick<u8>({IPPROTO_TCP, IPPROTO_UDP, static_cast<u8>(v6 ? 58 : 1), 47});
    packet.sport = pick<u16>({53, 1024, 40000, 135, 8});
    packet.dport = pick<u16>({53, 80, 443, 0});
    packet.out_port = recirc_id || one_in(2) ? pick({0u, 1u, 2u, CTD_PORT_LOCAL}) : 0;
    packet.ct_state = recirc_id || one_in(4) ? pick<u8>({0x21, 0x22, 0x24, 0x2a, 0x30, 0}) : u8{0};
    packet.vlan_tci = one_in(6) ? pick<u16>({0x1000, 0x1005, 0x3005}) : u16{0};
    packet.dst_mac = pick<u8>({0x02, 0x33, 0x06});
    ctd_flow_key key = one_in(12) ? arp_packet(packet.in_port) : ip_packet(packet);
    key.recirc_id = recirc_id;
    key.ct_zone = packet.ct_state ? pick<u16>({0, 5}) : u16{0};
    key.ct_mark = packet.ct_state ? pick<u32>({0, 1, 0x10, 0x11}) : 0;
    key.pkt_mark = pick<u32>({0, 1, 0x80});
    if (one_in(8)) key.frag = pick<u8>({CTD_FRAG_FIRST, CTD_FRAG_LATER});
    if (key.frag == CTD_FRAG_LATER) key.sport = key.dport = key.tcp_flags = 0;
    return key;
  }

  template <typename T>
  T pick(std::initializer_list<T> values) {
    return *(values.begin() + below(values.size()));
  }

 private:
  std::mt19937 random_;
};

}  // namespace ctd::test
