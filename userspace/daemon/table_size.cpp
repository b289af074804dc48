// SPDX-License-Identifier: Apache-2.0
#include "daemon/table_size.hpp"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string_view>

#include <bpf/libbpf.h>

namespace ctd {
namespace {

constexpr u32 kRingSlack = 2;  // ring entries per member allowed: connections leave holes
// Tuples beside two a connection: of connections that a CPU is just making, or that are dead and not yet gone.
constexpr u32 kSpareTuples = 1024;
// An LRU map wants room to spare: it evicts before it is full, by CPU.
constexpr u32 kSpareVerdicts = 4096;

constexpr u64 kMiB = 1 << 20;

u32 ring_size(u32 capacity) { return std::bit_ceil(CTD_QUOTA(capacity)) * kRingSlack; }

u64 round_up8(u64 bytes) { return (bytes + 7) & ~u64{7}; }

// Of one map; the kernel's own overhead is that of struct htab_elem and struct bucket.
u64 memory_of(const bpf_map* map) {
  constexpr u64 kElement = 48, kBucket = 16;
  const u64 entries = bpf_map__max_entries(map), key = round_up8(bpf_map__key_size(map));
  const u64 value = round_up8(bpf_map__value_size(map));
  const auto cpus = static_cast<u64>(std::max(libbpf_num_possible_cpus(), 1));
  switch (bpf_map__type(map)) {
    case BPF_MAP_TYPE_HASH:
    case BPF_MAP_TYPE_LRU_HASH:
      if (bpf_map__map_flags(map) & BPF_F_NO_PREALLOC) return 0;
      return entries * (kElement + key + value) + std::bit_ceil(entries) * kBucket;
    case BPF_MAP_TYPE_PERCPU_ARRAY:
      return entries * value * cpus;
    default:
      return entries * value;
  }
}

template <typename Wanted>
u64 sum_of_maps(const bpf_object* object, Wanted wanted) {
  u64 sum = 0;
  const bpf_map* map = nullptr;
  bpf_object__for_each_map(map, object) {
    if (!bpf_map__is_internal(map) && wanted(bpf_map__name(map))) sum += memory_of(map);
  }
  return sum;
}

}  // namespace

std::array<ctd_class, CTD_CLASS_INDEXES> make_classes(const TableSize& size) {
  std::array<ctd_class, CTD_CLASS_INDEXES> classes{};
  u32 base = 0;
  for (const ctd_family family : {CTD_IPV4, CTD_IPV6}) {
    for (u32 cls = 0; cls < CTD_CLASS_COUNT; cls++) {
      ctd_class& made = classes[CTD_CLASS_INDEX(cls, family)];
      made.quota = size.of(family);
      if (cls == CTD_CLASS_ASSURED) continue;
      made.quota = CTD_QUOTA(size.of(family));
      made.share = CTD_SHARE(made.quota);
      made.size = ring_size(size.of(family));
      made.base = base;
      base += made.size;
    }
  }
  return classes;
}

void set_table_sizes(bpf_object* object, const TableSize& size) {
  const auto set = [&](const char* name, u32 entries) {
    bpf_map__set_max_entries(bpf_object__find_map_by_name(object, name), entries);
  };
  set("ct_tuple4", 2 * size.ipv4 + kSpareTuples);
  set("ct_tuple6", 2 * size.ipv6 + kSpareTuples);
  set("ct_conn", size.total + 1);
  set("ct_check", size.total + 1);
  set("ct_ring", 2 * (ring_size(size.ipv4) + ring_size(size.ipv6)));
  set("ct_cache4", 2 * size.ipv4 + kSpareVerdicts);
  set("ct_cache6", 2 * size.ipv6 + kSpareVerdicts);
}

u64 memory_of_maps(const bpf_object* object) {
  return sum_of_maps(object, [](std::string_view) { return true; });
}

u64 memory_of_table(const bpf_object* object) {
  return sum_of_maps(object, [](std::string_view name) { return name.starts_with("ct_"); });
}

Result<u64> parse_available(const std::string& meminfo) {
  std::istringstream lines(meminfo);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string name;
    u64 kib = 0;
    if (words >> name >> kib && name == "MemAvailable:") return kib * 1024;
  }
  return fail("/proc/meminfo has no MemAvailable");
}

Result<u64> available_memory() {
  std::ifstream file("/proc/meminfo");
  if (!file) return fail_errno(errno, "opening /proc/meminfo");
  return parse_available(std::string(std::istreambuf_iterator<char>(file), {}));
}

Result<> check_memory(u64 needed, u64 available, const TableSize& size) {
  if (needed <= available) return {};
  return fail(
      "/conntrack/capacity: a table for {} connections ({} of IPv4, {} of IPv6) takes {} MiB of memory with all that "
      "belongs to it, the machine has {} MiB available; nothing was changed",
      size.total, size.ipv4, size.ipv6, needed / kMiB + 1, available / kMiB);
}

}  // namespace ctd
