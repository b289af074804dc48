// SPDX-License-Identifier: Apache-2.0
// A TCP conversation between a client behind the gateway and a server outside, segment by segment.
#pragma once

#include <optional>
#include <string>
#include <utility>

#include "core_world.hpp"

namespace ctd::test {

// Numbers are relative to the initial ones of their sides: the SYN is 0, the first byte 1.
struct Segment {
  std::uint8_t flags = kAck;
  std::uint32_t seq = 1;
  std::uint32_t ack = 1;
  std::size_t len = 0;
  std::uint16_t window = 1000;
  std::optional<std::uint8_t> scale;                            // window scale option
  bool sack_ok = false;                                         // SACK permitted
  std::optional<std::pair<std::uint32_t, std::uint32_t>> sack;  // a block, of what the peer sent
  bool timestamps = false;
  Bytes options;  // behind these
};

inline Segment syn(Segment s = {}) {
  s.flags = kSyn, s.seq = 0, s.ack = 0;
  return s;
}
inline Segment synack(Segment s = {}) {
  s.flags = kSyn | kAck, s.seq = 0, s.ack = 1;
  return s;
}

struct TcpTalkOptions {
  std::uint32_t client_isn = 1000;
  std::uint32_t server_isn = 5000;
  bool fast = false;
  bool v6 = false;
  std::uint32_t policy_flags = 0;  // enum ctd_ct_policy_flag
};

class TcpTalk {
 public:
  explicit TcpTalk(const TcpTalkOptions& options = {});

  // How a segment fares: "counts", "passes" (without counting), the name of an invalid reason, or "dropped". An invalid
  // one must leave the connection as it was, byte for byte.
  std::string client(const Segment& s) { return send(false, s); }
  std::string server(const Segment& s) { return send(true, s); }
  std::string send(bool from_server, const Segment& s);
  // SYN, SYN/ACK, ACK, the SYNs with these options.
  void establish(const Segment& options = {});
  // And a few more segments, so that both directions have verdicts.
  void settle(const Segment& options = {});

  Packet packet(bool from_server, const Segment& s) const;
  ctd_conn& conn();
  // "SYN_SENT" etc., "-" without a connection.
  std::string state();
  std::uint64_t hits() const { return w.counter(CTD_COUNT_FAST_HIT); }
  std::uint64_t invalid(int reason) const;

  World w;

 private:
  TcpTalkOptions o_;
};

const char* tcp_state_name(std::uint32_t state);

}  // namespace ctd::test
