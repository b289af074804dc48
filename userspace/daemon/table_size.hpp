// SPDX-License-Identifier: Apache-2.0
// How large the connection table's maps are, and what they cost.
#pragma once

#include <array>

#include <ctd/abi/ct.h>

#include "lib/result.hpp"

struct bpf_object;

namespace ctd {

struct TableSize {
  u32 total = 0;  // connections; at most so many of each family:
  u32 ipv4 = 0;
  u32 ipv6 = 0;

  u32 of(ctd_family family) const { return family == CTD_IPV6 ? ipv6 : ipv4; }
};

// The classes of an empty table, by CTD_CLASS_INDEX.
std::array<ctd_class, CTD_CLASS_INDEXES> make_classes(const TableSize& size);

// Sets max_entries of the table's maps, before they are made.
void set_table_sizes(bpf_object* object, const TableSize& size);

// Bytes that the kernel takes for all maps of an object whose sizes are set, full or empty: the large ones are
// preallocated.
u64 memory_of_maps(const bpf_object* object);
// For those of the connection table alone.
u64 memory_of_table(const bpf_object* object);

// MemAvailable of the text of /proc/meminfo, in bytes.
Result<u64> parse_available(const std::string& meminfo);
Result<u64> available_memory();

// An error that names what is needed and what there is.
Result<> check_memory(u64 needed, u64 available, const TableSize& size);

}  // namespace ctd
