// SPDX-License-Identifier: Apache-2.0
// A gateway of the real parts, without its hooks: devices and routes in a namespace, maps and programs in the kernel,
// rules and flows by the daemon's classes. Packets are run through the programs by BPF_PROG_TEST_RUN.
//
//   client 10.1.0.2, 2001:db8:1::2  -- lan0 [10.1.0.1, 2001:db8:1::1]  gateway  [10.0.2.1, 2001:db8:2::b1] wan0 --
//   server 10.0.2.2, 2001:db8:2::2; everything else is behind the router 10.0.2.254, 2001:db8:2::fe.
//   10.3.0.0/24 is behind dmz0, a device that is no port.
//
// A miss is answered as by the daemon: its packet goes through class Upcalls and in again by the tap's program. Every
// packet that leaves is checked for lengths and checksums, and for our token.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/ct_settings.hpp"
#include "daemon/datapath.hpp"
#include "daemon/flow_table.hpp"
#include "daemon/ports.hpp"
#include "daemon/tap.hpp"
#include "daemon/upcalls.hpp"
#include "prog/netns.hpp"
#include "unit/packet_builder.hpp"

namespace ctd::test {

struct GatewayOptions {
  u32 conn_capacity = 1024;
  u32 flow_capacity = 256;
  bool masquerade6 = false;
  RpFilter rpfilter = RpFilter::strict;
  std::vector<std::string> rules = {};  // beside those of the policy
  CtConfig conntrack = {};
};

// What the kernel says of a packet beside its bytes.
struct Skb {
  u32 mark = 0;
  u32 gso_size = 0;                   // a test run has no GSO type, so misses of such packets cannot be answered
  std::optional<u32> came_from = {};  // else the device itself at ingress, nothing at egress
  u64 token = 0;
};

// What became of a packet.
struct Out {
  // "wan0": out of a port; "lan0 (drop REASON)": dropped and answered there; "into lan0": to its receive path;
  // "stack": on, from a port; "on": on, from the host; "tap": a miss; "drop REASON"
  std::string where;
  std::string line;  // line_of() what leaves; empty if dropped
  Packet packet;
  u32 misses = 0;  // answered on the way
};

// The gateway's devices have these MAC addresses, their neighbours the same with 2 in the place of 1.
inline constexpr std::string_view kLanMac = "02:00:00:00:00:11", kWanMac = "02:00:00:00:00:12";

class GatewayTest : public NetnsTest {
 protected:
  void SetUp() override;
  void TearDown() override;  // with a look at the connection table: see broken()

  void start(const GatewayOptions& options = {});
  // As a daemon that starts again over what is pinned.
  FlowTable::Adopted restart();
  // Reads the host's network anew.
  void sync();

  // A packet that a port's device receives from its neighbour; Ethernet addresses are filled in unless it is multicast.
  Out from(const std::string& port, Packet packet, const Skb& skb = {});
  // A packet of the host itself, at the egress hook.
  Out from_host(const std::string& port, Packet packet, const Skb& skb = {});
  // Any bytes at any device and program; nothing is filled in, misses are not answered.
  Out run(const char* program, const std::string& device, const Packet& packet, const Skb& skb = {});
  // Only what ctd_ingress answers (TC_ACT_*), nothing else is looked at: for many packets, from any thread.
  int verdict(const std::string& port, const Packet& packet) const;
  // What the daemon writes back for a miss ("tap"), and what becomes of that.
  Out answer(const Out& miss);

  u64 drops(ctd_drop_reason reason) const;
  u64 count(ctd_counter counter) const;
  u64 entries(const char* map) const;  // of a hash

  std::vector<ctd_conn> connections() const;
  ctd_conn only() const;  // the only connection; fails the test if there is another number of them
  // "tcp SYN_SENT [CONFIRMED SRC_NAT] 10.1.0.2:40000 > 10.0.2.2:80, 10.0.2.2:80 > 10.0.2.1:40000"
  static std::string text(const ctd_conn& conn);
  std::string only_text() const { return text(only()); }

  // What must hold of the table between any two packets; what does not, one a line.
  std::string broken() const;

  Datapath& dp() const { return *dp_; }
  FlowTable& flows() { return *flows_; }
  CtSettings& ct() { return *ct_; }
  const RuleSet& rules() const { return *rules_; }
  const std::string& pins() const { return pins_; }
  u64 jiffies() const;
  ctd_port port(const std::string& name) const;

  GatewayOptions options_;    // what restart() starts with
  bool daemon_alive_ = true;  // whether it says so; misses are answered all the same

 private:
  struct Ran {
    int verdict = 0;
    Bytes bytes;
    bool token = false;
  };
  using Stats = std::array<ctd_port_stats, 3>;  // the host, lan0, wan0

  void open();
  void beat() const;
  Stats stats() const;
  Ran run_program(const char* program, u32 ifindex, const Bytes& bytes, const Skb& skb) const;
  Out run_at(const char* program, u32 ifindex, const Packet& packet, const Skb& skb);
  std::string where(const char* program, const Ran& ran, const Stats& before, const Stats& after) const;
  Out through(const char* program, const std::string& port, const Packet& packet, const Skb& skb);
  u32 number(const std::string& port) const;

  Config config_;
  std::string pins_;
  std::optional<JiffiesClock> clock_;
  std::optional<NetWatch> net_;
  std::optional<Tap> tap_;
  std::unique_ptr<Datapath> dp_;
  std::optional<Ports> ports_;
  std::optional<RuleSet> rules_;
  std::optional<CtSettings> ct_;
  std::optional<FlowTable> flows_;
};

// The name of a drop reason, as in Out::where.
std::string_view drop_name(u32 reason);

// A whole TCP packet of either side of a connection, with whatever payload.
struct Segment {
  std::string_view src = "10.1.0.2";
  std::string_view dst = "10.0.2.2";
  std::uint16_t sport = 40000;
  std::uint16_t dport = 80;
  std::uint8_t flags = kSyn;
  std::uint32_t seq = 1000;
  std::uint32_t ack = 0;
  std::size_t payload = 0;
};
Packet tcp(const Segment& segment);

struct Datagram {
  std::string_view src = "10.1.0.2";
  std::string_view dst = "10.0.2.2";
  std::uint16_t sport = 40000;
  std::uint16_t dport = 53;
  std::size_t payload = 10;
  bool no_checksum = false;
  std::uint8_t ttl = 64;
};
Packet udp(const Datagram& datagram);

struct Echo {
  std::string_view src = "10.1.0.2";
  std::string_view dst = "10.0.2.2";
  std::uint16_t id = 77;
  bool reply = false;
  std::size_t payload = 56;
};
Packet ping(const Echo& echo);

}  // namespace ctd::test
