// SPDX-License-Identifier: Apache-2.0
// The connection table as newline-delimited JSON: a header object, one object a connection, a trailer object.
// The format is docs/conntrack.schema.json.
#pragma once

#include <cstdint>
#include <string>

#include <fmt/format.h>

#include "lib/conn_table.hpp"
#include "lib/time.hpp"

namespace ctd {

inline constexpr char kConntrackSchema[] = "ctd.conntrack/1";

// Appends one connection as a JSON object, without a newline. clock.wall and clock.jiffies: of the same moment.
void append_conn_json(fmt::memory_buffer& out, const ctd_conn& conn, const KernelClock& clock);

// A dump in pieces, so that a table of any size needs one piece of memory. Connections that are made or end while it
// runs may be in it or not; all others are, unless the trailer says "complete":false.
class ConnDump {
 public:
  struct Origin {
    std::string host;
    std::string instance;
  };
  ConnDump(ConnTable table, const KernelClock& clock, Origin origin);

  // Appends whole lines, at least `enough` bytes of them unless the dump ends. False: the trailer is written.
  bool next(fmt::memory_buffer& out, std::size_t enough);

 private:
  void append_header(fmt::memory_buffer& out) const;
  void append_trailer(fmt::memory_buffer& out) const;

  const ConnTable table_;
  const KernelClock clock_;
  const Origin origin_;
  uint32_t next_id_ = 0;  // 0: the header
  uint64_t count_ = 0;
  bool complete_ = true;
};

}  // namespace ctd
