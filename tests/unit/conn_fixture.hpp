// SPDX-License-Identifier: Apache-2.0
// A connection table in ordinary memory, filled by tests as the datapath would.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include <arpa/inet.h>
#include <ctd/abi/ct.h>
#include <ctd/abi/meta.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include "lib/conn_table.hpp"
#include "lib/time.hpp"

namespace ctd::test {

inline constexpr uint32_t kHz = 250;
inline constexpr uint64_t kNow = 5'000'000'000;  // jiffies: beyond 32 bits
inline KernelClock clock_now() {
  using namespace std::chrono;
  return {kNow, kHz, sys_days{year(2026) / 11 / 22} + 19h};
}

inline ctd_addr addr(const std::string& text) {
  ctd_addr result{};
  const bool v6 = text.find(':') != std::string::npos;
  EXPECT_EQ(inet_pton(v6 ? AF_INET6 : AF_INET, text.c_str(), result.b), 1) << text;
  return result;
}

struct Endpoint {
  std::string addr;
  uint16_t port = 0;
};

inline ctd_tuple tuple(uint8_t proto, const Endpoint& src, const Endpoint& dst) {
  const bool v6 = src.addr.find(':') != std::string::npos;
  return {.src = addr(src.addr),
          .dst = addr(dst.addr),
          .sport = htons(src.port),
          .dport = htons(dst.port),
          .zone = 0,
          .proto = proto,
          .family = static_cast<u8>(v6 ? CTD_IPV6 : CTD_IPV4)};
}

// An assured TCP connection, not translated, seen last by a reply 9 seconds ago.
inline ctd_conn tcp_conn() {
  ctd_conn conn{};
  conn.ctl = CTD_CTL(7, CTD_CLASS_ASSURED, CTD_CONN_VALID);
  conn.status = CTD_STATUS_SEEN_REPLY | CTD_STATUS_ASSURED | CTD_STATUS_CONFIRMED;
  conn.orig = tuple(IPPROTO_TCP, {"10.1.0.2", 40312}, {"10.0.2.2", 80});
  conn.reply = tuple(IPPROTO_TCP, {"10.0.2.2", 80}, {"10.1.0.2", 40312});
  conn.state = CTD_TCP_ESTABLISHED;
  conn.timeout = 7440 * kHz;
  conn.start = kNow - 60 * kHz;
  conn.last_seen[CTD_DIR_ORIG] = static_cast<u32>(kNow - 12 * kHz);
  conn.last_seen[CTD_DIR_REPLY] = static_cast<u32>(kNow - 9 * kHz);
  conn.count[CTD_DIR_ORIG] = {6, 412};
  conn.count[CTD_DIR_REPLY] = {5, 1892};
  return conn;
}

// As the gateway makes it.
inline ctd_conn masqueraded_conn() {
  ctd_conn conn = tcp_conn();
  conn.status |= CTD_STATUS_SRC_NAT;
  conn.reply = tuple(IPPROTO_TCP, {"10.0.2.2", 80}, {"10.0.2.1", 40312});
  return conn;
}

inline ctd_conn ping_conn() {
  ctd_conn conn = masqueraded_conn();
  conn.ctl = CTD_CTL(7, CTD_CLASS_ANSWERED, CTD_CONN_VALID);
  conn.status &= ~CTD_STATUS_ASSURED;
  conn.orig = tuple(IPPROTO_ICMP, {"10.1.0.2", 3311}, {"10.0.2.2", 8 * 256});
  conn.reply = tuple(IPPROTO_ICMP, {"10.0.2.2", 3311}, {"10.0.2.1", 0});
  conn.state = CTD_OTHER_REPLIED;
  conn.timeout = 30 * kHz;
  return conn;
}

inline ctd_conn udp6_conn() {
  ctd_conn conn = tcp_conn();
  conn.ctl = CTD_CTL(7, CTD_CLASS_UNANSWERED, CTD_CONN_VALID);
  conn.status = CTD_STATUS_CONFIRMED;
  conn.orig = tuple(IPPROTO_UDP, {"fd00:1::2", 5353}, {"2001:db8::35", 53});
  conn.reply = tuple(IPPROTO_UDP, {"2001:db8::35", 53}, {"fd00:1::2", 5353});
  conn.state = CTD_OTHER_UNREPLIED;
  conn.timeout = 30 * kHz;
  conn.last_seen[CTD_DIR_REPLY] = 0;
  conn.count[CTD_DIR_REPLY] = {};
  return conn;
}

class FakeTable {
 public:
  explicit FakeTable(uint32_t capacity = 64) : records_(capacity + 1) {}
  FakeTable(const FakeTable&) = delete;
  FakeTable& operator=(const FakeTable&) = delete;

  // Gives the connection the next id.
  ctd_conn& add(ctd_conn conn) {
    conn.id = ++rt_.high_water;
    return records_.at(conn.id) = conn;
  }
  void clear() {
    for (ctd_conn& conn : records_) conn.ctl = CTD_CTL(CTD_CTL_SEQ(conn.ctl) + 1, 0, CTD_CONN_FREE);
  }

  ctd_conn& record(uint32_t id) { return records_.at(id); }
  ctd_rt& rt() { return rt_; }
  ConnTable view() const { return ConnTable(records_, &rt_); }

 private:
  std::vector<ctd_conn> records_;
  ctd_rt rt_{};
};

}  // namespace ctd::test
