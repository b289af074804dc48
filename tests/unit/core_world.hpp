// SPDX-License-Identifier: Apache-2.0
// A gateway around the native core: two ports, addresses, routes, and the flows that a gateway policy is translated to.
//
//   client 10.1.0.2, 2001:db8:1::2  -- lan [10.1.0.1, 2001:db8:1::1]  gateway  [10.0.2.1, 2001:db8:2::b1] wan --
//   server 10.0.2.2, 2001:db8:2::2; everything else is behind the router 10.0.2.254, 2001:db8:2::fe
//
// Every packet that leaves is checked for lengths and checksums, and for our token.
#pragma once

#include <ctd/abi/action.h>
#include <ctd/abi/flow.h>
#include <ctd/abi/meta.h>
#include <ctd/abi/port.h>

#include <initializer_list>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core_packet.hpp"
#include "packet_builder.hpp"

namespace ctd::test {

inline constexpr std::uint32_t kLan = 1, kWan = 2, kDmz = 3;  // port numbers
inline constexpr std::uint32_t kIfindexOf = 10;               // + port number
inline constexpr std::uint32_t kHz = 250;

// A map of the core with its types.
template <typename Key, typename Value>
class Map {
 public:
  explicit Map(const char* name) : map_(native_map_find(name)) {}

  Value* find(const Key& key) const { return static_cast<Value*>(native_map_lookup(map_, &key)); }
  long set(const Key& key, const Value& value) const { return native_map_update(map_, &key, &value, BPF_ANY); }
  long erase(const Key& key) const { return native_map_delete(map_, &key); }
  std::uint32_t size() const { return native_map_count(map_); }
  native_map* raw() const { return map_; }

  template <typename F>
  void each(F f) const {
    u32 at = 0;
    const void* key;
    void* value;
    while (native_map_next(map_, &at, &key, &value)) f(*static_cast<const Key*>(key), *static_cast<Value*>(value));
  }

 private:
  native_map* map_;
};

// What became of a packet.
struct Out {
  // "wan via 10.0.2.254", "wan" (plain redirect), "into lan" (its receive path), "stack", "tap", "drop policy"
  std::string where;
  std::string line;  // line_of() the packet; empty if dropped
  Packet packet;
  int verdict = 0;
  NativePacket skb;
};

struct WorldOptions {
  native_options native{};
  bool masquerade4 = true;
  bool masquerade6 = false;
  bool install_flows = true;
  bool fast = false;  // the ports use the verdict cache
};

// A match of a flow: fields of the key and which of their bits.
struct Match {
  ctd_flow_key key{};
  ctd_flow_key mask{};
};

class World {
 public:
  explicit World(const WorldOptions& options = {});

  // A packet that a port's device receives, from its neighbour; the Ethernet addresses are filled in.
  Out from(std::uint32_t port, Packet packet, std::uint32_t linear = kAllLinear);
  // A packet of the host itself, by a port's device.
  Out from_host(std::uint32_t port, Packet packet);
  // What the daemon writes to the dedicated device after a miss came up as `upcall`.
  Out execute(const Out& upcall);
  Out run(NativePacket packet, native_entry entry);

  // Flows.
  void add_flow(const Match& match, std::initializer_list<ctd_action> actions, std::uint32_t guard = 0);
  void remove_flows();
  void install_gateway();
  std::uint64_t flow_packets() const;
  // Raises the version: verdicts made before are void.
  void raise_version();

  void advance(double seconds);
  // Whole rounds of the sweep, a tick of the clock apart, so that what is due dies and goes.
  void sweep(int rounds = 3);

  std::uint64_t drops(int reason) const;
  std::uint64_t counter(int which) const;
  std::uint64_t ended(ctd_end_reason why) const;
  std::vector<const ctd_conn*> connections() const;
  // The only connection; complains if there is another number of them.
  const ctd_conn& only() const;
  ctd_conn* conn(std::uint32_t id) const { return conns.find(id); }
  std::string status_of(const ctd_conn& c) const;

  // What must hold between any two packets; what does not, one a line.
  std::string broken() const;

  ctd_rt& rt() const { return *rt_.find(0); }
  ctd_port& port(std::uint32_t number) const { return *ports.find(number); }

  Map<u32, ctd_port> ports{"ports"};
  Map<u32, u32> port_index{"port_index"};
  Map<ctd_addr, u32> local_addrs{"local_addrs"};
  Map<ctd_tuple4, ctd_tuple_ref> tuple4{"ct_tuple4"};
  Map<ctd_tuple, ctd_tuple_ref> tuple6{"ct_tuple6"};
  Map<u32, ctd_conn> conns{"ct_conn"};
  Map<u32, u32> check{"ct_check"};
  Map<u32, ctd_class> classes{"ct_class"};
  Map<ctd_tuple4, ctd_verdict4> cache4{"ct_cache4"};
  Map<ctd_tuple, ctd_verdict6> cache6{"ct_cache6"};
  Map<u32, ctd_next_hop> next_hops{"next_hops"};
  Map<u32, ctd_port_limit> limits{"port_limits"};
  Map<u32, ctd_nat_args> nat_args{"ct_nat_args"};
  Map<u32, ctd_label_args> label_args{"ct_label_args"};
  Map<u32, ctd_zone> zones{"ct_zones"};
  Map<u32, ctd_ct_policy> policies{"ct_policies"};
  // Off for packets that go in wrong already.
  bool check_output = true;
  // Whatever World itself finds wrong. Ends the program unless a test framework takes it (core_world_gtest.cpp).
  static void (*complain)(const std::string& what);

 private:
  void add_port(std::uint32_t number, std::string_view addr4, std::string_view addr6);
  void add_route(std::string_view dst, int prefix, std::uint32_t port, std::string_view gateway);
  std::string where(const native_packet& p, int verdict, native_entry entry) const;

  Map<u32, ctd_rt> rt_{"ctd_rt"};
  Map<u32, ctd_mask> masks_{"flow_masks"};
  Map<u32, ctd_mask_list> mask_list_{"flow_mask_list"};
  Map<ctd_flow_ref_key, ctd_flow_ref> flow_index_{"flow_index"};
  Map<u32, ctd_flow> flows_{"flows"};
  Map<u32, ctd_action_list> action_lists_{"flow_actions"};
  Map<u32, ctd_guard> guards_{"guard_masks"};
  Map<u32, ctd_port_stats> stats_{"port_stats"};
  Map<u32, ctd_ct_stats> ct_stats_{"ct_stats"};
  Map<u32, u32> sources_{"ct_sources"};
  native_map* ct_free_ = native_map_find("ct_free");
  WorldOptions options_;
  std::uint32_t flow_count_ = 0;
  std::uint32_t mask_count_ = 0;
  mutable std::uint32_t highest_zone_ = 64;  // that broken() looks at: tests use small ones, or it has seen them
};

// Actions.
struct CtArgs {
  std::uint32_t recirc = 0;
  std::uint16_t flags = 0;
  std::uint32_t nat_id = 0;
  std::uint16_t zone = 0;
  std::uint32_t mark = 0;
  std::uint32_t mark_mask = 0;
  std::uint32_t label_id = 0;
  std::uint16_t helper = 0;
  std::uint16_t timeout_policy = 0;
};
ctd_action act_ct(const CtArgs& args);
ctd_action act_route(std::uint32_t recirc = 0);
ctd_action act_stack();
ctd_action act_drop();
ctd_action act_output(std::uint32_t port);
ctd_action act_ct_clear();
ctd_action act_recirc(std::uint32_t id);

// Indices into ct_nat_args that World fills.
inline constexpr std::uint32_t kNatMasquerade = 1, kNatNull = 2, kNatFree = 3;

}  // namespace ctd::test
