// SPDX-License-Identifier: Apache-2.0
#include "core_tcp_talk.hpp"

#include <array>
#include <cstring>

namespace ctd::test {
namespace {

constexpr std::array kStateNames = {
#define X(name, timeout_s, linux_s) #name,
    CTD_TCP_STATES(X)
#undef X
};
constexpr std::array kInvalidNames = {
#define X(id, name, text) #name,
    CTD_INVALID_REASONS(X)
#undef X
};

void put32(Bytes& to, std::uint32_t v) {
  for (int shift : {24, 16, 8, 0}) to.push_back(static_cast<std::uint8_t>(v >> shift));
}

}  // namespace

const char* tcp_state_name(std::uint32_t state) { return state < kStateNames.size() ? kStateNames[state] : "?"; }

TcpTalk::TcpTalk(const TcpTalkOptions& options) : w({.masquerade4 = false, .fast = options.fast}), o_(options) {
  Map<u32, ctd_ct_policy>("ct_policies").find(0)->flags = options.policy_flags;
}

Packet TcpTalk::packet(bool from_server, const Segment& s) const {
  const std::uint32_t own = from_server ? o_.server_isn : o_.client_isn,
                      peer = from_server ? o_.client_isn : o_.server_isn;
  Bytes options;
  if (s.timestamps) {
    options = {1, 1, 8, 10};
    put32(options, 77);
    put32(options, 66);
  }
  if (s.scale) options.insert(options.end(), {1, 3, 3, *s.scale});
  if (s.sack_ok) options.insert(options.end(), {1, 1, 4, 2});
  if (s.sack) {
    options.insert(options.end(), {1, 1, 5, 10});
    put32(options, peer + s.sack->first);
    put32(options, peer + s.sack->second);
  }
  options.insert(options.end(), s.options.begin(), s.options.end());
  PacketBuilder b = frame();
  if (o_.v6)
    b.ipv6({.src = from_server ? "2001:db8:2::2" : "2001:db8:1::2",
            .dst = from_server ? "2001:db8:1::2" : "2001:db8:2::2"});
  else
    b.ipv4({.src = from_server ? "10.0.2.2" : "10.1.0.2", .dst = from_server ? "10.1.0.2" : "10.0.2.2"});
  b.tcp({.sport = static_cast<std::uint16_t>(from_server ? 80 : 40000),
         .dport = static_cast<std::uint16_t>(from_server ? 40000 : 80),
         .flags = s.flags,
         .seq = own + s.seq,
         .ack = s.flags & kAck ? peer + s.ack : 0,
         .window = s.window,
         .options = options});
  // Larger than a packet of the link: a sender's offload.
  if (s.len > 1400) b.gso(1400);
  return b.payload(s.len).build();
}

ctd_conn& TcpTalk::conn() {
  static ctd_conn none;
  auto all = w.connections();
  if (all.size() == 1) return *w.conn(all[0]->id);
  none = {};
  return none;
}

std::string TcpTalk::state() { return w.connections().empty() ? "-" : tcp_state_name(conn().state); }

std::uint64_t TcpTalk::invalid(int reason) const {
  static const Map<u32, ctd_ct_stats> stats("ct_stats");
  std::uint64_t sum = 0;
  u32 zero = 0;
  for (u32 cpu = 0; cpu < NATIVE_MAX_CPUS; cpu++)
    sum += static_cast<ctd_ct_stats*>(native_map_lookup_cpu(stats.raw(), &zero, cpu))->invalid[reason];
  return sum;
}

std::string TcpTalk::send(bool from_server, const Segment& s) {
  std::array<std::uint64_t, CTD_INVALID_COUNT> before{};
  for (int i = 0; i < CTD_INVALID_COUNT; i++) before[static_cast<unsigned>(i)] = invalid(i);
  const std::uint64_t fast = hits();
  const ctd_conn was = conn();
  const Out out = w.from(from_server ? kWan : kLan, packet(from_server, s));
  for (int i = 0; i < CTD_INVALID_COUNT; i++) {
    if (invalid(i) == before[static_cast<unsigned>(i)]) continue;
    if (std::memcmp(&was, &conn(), sizeof(was))) World::complain("an invalid segment has changed the connection");
    if (out.where != "drop policy") World::complain("an invalid segment left: " + out.where);
    return kInvalidNames[static_cast<unsigned>(i)];
  }
  if (out.where.rfind(from_server ? "lan" : "wan", 0) != 0) return "dropped";
  const ctd_conn& now = conn();
  const bool counted = hits() != fast || CTD_CTL_SEQ(now.ctl) != CTD_CTL_SEQ(was.ctl) || now.id != was.id ||
                       now.count[from_server].packets != was.count[from_server].packets;
  return counted ? "counts" : "passes";
}

void TcpTalk::establish(const Segment& options) {
  client(syn(options));
  server(synack(options));
  client({.window = options.window});
}

void TcpTalk::settle(const Segment& options) {
  establish(options);
  for (int i = 0; i < 6; i++) {
    client({.window = options.window});
    server({.window = options.window});
  }
}

}  // namespace ctd::test
