// SPDX-License-Identifier: Apache-2.0
// The whole core on sequences of packets, ticks and failures: memory stays sound, every drop has a reason, what goes in
// with right checksums comes out with right checksums, and at the end no connection id is lost.
//
// Input: records of an operation byte, a length byte and that many bytes. Packets are a template that the bytes
// overwrite (even operation) or repair-free raw bytes (odd).
#include <cstdint>
#include <cstdlib>
#include <cstring>

// A fuzzer is one source: what it shares with the unit tests is compiled in.
#include "../unit/core_world.cpp"
#include "../unit/packet_builder.cpp"
#include "../unit/packet_check.cpp"

namespace {

using namespace ctd::test;

struct Input {
  const std::uint8_t* at;
  std::size_t left;

  std::uint8_t byte() { return left ? (left--, *at++) : std::uint8_t{0}; }
  Bytes bytes(std::size_t n) {
    if (n > left) n = left;
    Bytes b(at, at + n);
    at += n;
    left -= n;
    return b;
  }
};

void require(bool condition) {
  if (!condition) abort();
}

// A sound packet whose fields come from the input.
Packet sound(Input& in) {
  const std::uint8_t what = in.byte(), flags = in.byte();
  const bool v6 = what & 1, back = what & 2;
  const auto port = static_cast<std::uint16_t>(2000 + (in.byte() & 7));
  PacketBuilder b = frame();
  const auto ttl = static_cast<std::uint8_t>(what & 0x80 ? 1 : 64);
  if (v6)
    b.ipv6({.src = back ? "2001:db8:2::2" : "2001:db8:1::2",
            .dst = back ? "2001:db8:2::b1" : "2001:db8:2::2",
            .hop_limit = ttl});
  else
    b.ipv4({.src = back ? "10.0.2.2" : "10.1.0.2",
            .dst = back ? "10.0.2.1" : "10.0.2.2",
            .ttl = ttl,
            .option_words = static_cast<std::uint8_t>(flags >> 6)});
  switch (what >> 2 & 3) {
    case 0:
      b.tcp({.sport = back ? std::uint16_t{80} : port,
             .dport = back ? port : std::uint16_t{80},
             .flags = static_cast<std::uint8_t>(flags & 0x3f)});
      break;
    case 1:
      b.udp({.sport = back ? std::uint16_t{53} : port, .dport = back ? port : std::uint16_t{53}});
      break;
    default:
      b.icmp({.type = static_cast<std::uint8_t>(v6 ? (back ? 129 : 128) : (back ? 0 : 8)), .id = port});
  }
  b.payload(in.byte());
  if (what & 0x10 && (what >> 2 & 3) < 2) b.partial();
  Packet p = b.build();
  if (what & 0x20)
    p = icmp_error(p, {.from = v6 ? "2001:db8:7::7" : "192.0.2.7",
                       .type = static_cast<std::uint8_t>(v6 ? 2 : 3),
                       .quote = in.byte()});
  return p;
}

std::uint64_t found_invalid() {
  std::uint64_t sum = 0;
  const u32 zero = 0;
  for (u32 cpu = 0; cpu < NATIVE_MAX_CPUS; cpu++)
    for (std::uint64_t n :
         static_cast<ctd_ct_stats*>(native_map_lookup_cpu(native_map_find("ct_stats"), &zero, cpu))->invalid)
      sum += n;
  return sum;
}

std::vector<ctd_conn> records(const World& w) {
  std::vector<ctd_conn> all;
  for (u32 id = 1; id <= w.rt().high_water; id++) all.push_back(*w.conn(id));
  return all;
}

// Connections that were alive, and not over by their timeout, are as they were, byte by byte.
void require_unchanged(const World& w, const std::vector<ctd_conn>& before) {
  for (std::size_t i = 0; i < before.size(); i++)
    if (CTD_CTL_LIFE(before[i].ctl) == CTD_CONN_VALID && before[i].timeout)
      require(memcmp(&before[i], w.conn(static_cast<u32>(i + 1)), sizeof(ctd_conn)) == 0);
}

void send(World& w, Input& in, std::uint8_t op) {
  Packet p;
  if (op & 1) {
    p.bytes = in.bytes(in.byte());
    if (p.bytes.size() < 14) return;
  } else {
    p = sound(in);
  }
  const bool right = wrong_with(p).empty();
  const std::uint32_t port = op & 2 ? kWan : kLan;
  for (int i = 0; i < 6; i++) p.bytes[static_cast<std::size_t>(i)] = w.port(port).mac[i];
  NativePacket n = to_native(p, op & 4 ? 14 + (op >> 3) : kAllLinear);
  n->ifindex = kIfindexOf + port;
  if (!(op & 8)) n->ingress_ifindex = n->ifindex;
  const std::vector<ctd_conn> before = records(w);
  const std::uint64_t invalid = found_invalid(), refused = w.drops(CTD_DROP_CT_INVALID);
  int verdict = native_run(n.get(), op & 8 ? NATIVE_EGRESS : NATIVE_INGRESS);
  if (found_invalid() != invalid && w.drops(CTD_DROP_CT_INVALID) == refused) require_unchanged(w, before);
  require(verdict == TC_ACT_OK || verdict == TC_ACT_SHOT || verdict == TC_ACT_REDIRECT);
  if (verdict == TC_ACT_REDIRECT && right && n->redirect.ifindex != NATIVE_TAP_IFINDEX)
    require(wrong_with(from_native(*n)).empty());
  if (verdict == TC_ACT_REDIRECT && n->redirect.ifindex == NATIVE_TAP_IFINDEX) {
    Packet up = from_native(*n);
    up.bytes[12] = 8;
    up.bytes[13] = 0;
    NativePacket down = to_native(up);
    down->ifindex = NATIVE_TAP_IFINDEX;
    native_run(down.get(), NATIVE_TAP_IN);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Input in{data, size};
  const std::uint8_t setup = in.byte();
  World w(
      {.native = {.conn_capacity = 24, .unanswered_quota = 8, .answered_quota = 8, .cache_entries = 8, .seed = setup},
       .masquerade6 = (setup & 1) != 0,
       .fast = (setup & 2) != 0});
  for (int i = 0; i < 64 && in.left; i++) {
    std::uint8_t op = in.byte();
    if ((op & 0xf0) == 0xf0) {
      w.advance(op & 8 ? 121 : 1);
      w.sweep(1);
      if (op == 0xff) native_flush();
    } else if ((op & 0xf0) == 0xe0) {
      native_map_fail_randomly(op & 1 ? 200 : 0);
    } else {
      send(w, in, op);
    }
  }
  native_map_fail_randomly(0);
  native_flush();
  w.sweep(3);
  require(w.broken().empty());
  require(w.tuple4.size() == 0 && w.tuple6.size() == 0);
  return 0;
}
