// SPDX-License-Identifier: Apache-2.0
// The BPF side of an instance: programs, maps and their pins, made new or taken over from an earlier daemon.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include <ctd/abi/ct.h>
#include <ctd/abi/drop.h>
#include <ctd/abi/flow.h>
#include <ctd/abi/meta.h>
#include <ctd/abi/port.h>

#include "daemon/fd.hpp"
#include "daemon/kernel_clock.hpp"
#include "daemon/mapping.hpp"
#include "daemon/table_size.hpp"
#include "lib/result.hpp"

struct datapath_bpf;

namespace ctd {

class Datapath {
 public:
  static constexpr std::size_t kZones = 65536;

  struct Options {
    std::string pins;  // the instance's folder in bpffs; exists
    u32 conn_capacity;
    u32 flow_capacity;
    u32 tap_ifindex;
    u32 ipv4_capacity = 0;  // of the connections; 0: all of them
    u32 ipv6_capacity = 0;
    // Percent of the capacity, of assured connections: where timeouts begin to shrink, and where nothing would be left.
    u32 adaptive_start = 80;
    u32 adaptive_end = 110;

    TableSize table_size() const {
      return {conn_capacity, ipv4_capacity ? ipv4_capacity : conn_capacity,
              ipv6_capacity ? ipv6_capacity : conn_capacity};
    }
  };

  // Loads the programs. If the folder has the maps of an earlier daemon, they are taken over; fails, and changes
  // nothing, if those are of another ABI version or another size. Nothing is attached.
  static Result<std::unique_ptr<Datapath>> open(const Options& options, const JiffiesClock& clock);
  ~Datapath();

  // The folder has maps of a start that died before it had filled them in.
  static Result<bool> is_unfinished(const std::string& pins);

  Datapath(const Datapath&) = delete;
  Datapath& operator=(const Datapath&) = delete;

  bool adopted() const { return adopted_; }
  const ctd_meta& meta() const { return meta_; }
  // Notes the hash of the rules in force; returns the one of before (0: none yet).
  Result<u64> set_rules_hash(u64 hash);
  ctd_rt* rt() const { return rt_.as<ctd_rt>(); }
  std::span<const ctd_conn> connections() const { return {conns_.as<const ctd_conn>(), meta_.conn_capacity + 1}; }
  std::span<ctd_flow> flows() const { return {flows_.as<ctd_flow>(), meta_.flow_capacity + 1}; }
  std::span<ctd_zone> zones() const { return {zones_.as<ctd_zone>(), kZones}; }
  std::span<ctd_mask> masks() const { return {masks_.as<ctd_mask>(), CTD_MAX_MASKS}; }

  // Descriptors live as long as the object.
  int map(const char* name) const;
  int program(const char* name) const;

  // Puts the stages in force and starts the sweep. Before anything is attached; a running datapath changes over stage
  // by stage without losing a packet.
  Result<> start() const;

  // Makes all verdicts void.
  void raise_version() const;

  // Deletes all connections; returns how many. They are gone when it returns.
  Result<u64> flush() const;
  // Adds to the records what the verdict cache has counted.
  Result<> credit() const;

  Result<ctd_port_stats> stats(u32 port) const;  // over all CPUs; 0: the host
  Result<ctd_ct_stats> ct_stats() const;         // over all CPUs
  Result<std::array<ctd_class, CTD_CLASS_INDEXES>> classes() const;
  TableSize table_size() const;
  u64 table_memory() const { return table_memory_; }  // bytes of the connection table's maps

 private:
  Datapath() = default;
  Result<> load(const Options& options);
  Result<> fill_new_maps() const;
  Result<u64> control(const char* program) const;

  datapath_bpf* skeleton_ = nullptr;
  bool adopted_ = false;
  ctd_meta meta_{};
  u64 table_memory_ = 0;
  Mapping rt_, conns_, flows_, masks_, zones_;
};

// Map updates and look-ups with an error that names the map.
template <typename K, typename V>
Result<> map_set(const Datapath& dp, const char* map, const K& key, const V& value);
template <typename K, typename V>
Result<V> map_get(const Datapath& dp, const char* map, const K& key);

Result<> map_set_raw(const Datapath& dp, const char* map, const void* key, const void* value);
Result<> map_get_raw(const Datapath& dp, const char* map, const void* key, void* value);
// A key that is not there is no error.
Result<> map_erase_raw(const Datapath& dp, const char* map, const void* key);

template <typename K, typename V>
Result<> map_set(const Datapath& dp, const char* map, const K& key, const V& value) {
  return map_set_raw(dp, map, &key, &value);
}

template <typename K, typename V>
Result<V> map_get(const Datapath& dp, const char* map, const K& key) {
  V value{};
  CTD_TRY(map_get_raw(dp, map, &key, &value));
  return value;
}

}  // namespace ctd
