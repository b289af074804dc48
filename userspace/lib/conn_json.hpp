// SPDX-License-Identifier: Apache-2.0
// The connection table as newline-delimited JSON: a header object, one object a connection, a trailer object.
// The format is docs/conntrack.schema.json.
#pragma once

#include <cstdint>
#include <string>

#include <fmt/format.h>

#include "lib/conn_policies.hpp"
#include "lib/conn_walk.hpp"
#include "lib/time.hpp"

namespace ctd {

inline constexpr char kConntrackSchema[] = "ctd.conntrack/1";

// Appends one connection as a JSON object, without a newline. clock.wall and clock.jiffies: of the same moment.
void append_conn_json(fmt::memory_buffer& out, const ctd_conn& conn, const KernelClock& clock);
// As above with a member "track" of what a restore needs beside: exact times, the tracker's own fields, the name of its
// timeout policy, and the tuple of the master, if it has one that lives.
void append_saved_conn(fmt::memory_buffer& out, const ctd_conn& conn, const ctd_conn* master,
                       const ConnPolicies& policies, const KernelClock& clock);

enum class DumpForm {
  kJson,
  kSaved,      // the same with "track"
  kConntrack,  // lines as `conntrack -L` writes them
  kDpctl,      // lines as `ovs-appctl dpctl/dump-conntrack` writes them
};

// One connection in that form, without a newline.
void append_conn(fmt::memory_buffer& out, DumpForm form, const ctd_conn& conn, const ConnTable& table,
                 const ConnPolicies& policies, const KernelClock& clock);

// A dump in pieces, so that a table of any size needs one piece of memory. Connections that are made or end while it
// runs may be in it or not; all others are, unless the trailer says "complete":false.
class ConnDump {
 public:
  struct Origin {
    std::string host;
    std::string instance;
  };
  // policies: for the saved form.
  ConnDump(ConnWalk walk, const KernelClock& clock, Origin origin, DumpForm form = DumpForm::kJson,
           ConnPolicies policies = ConnPolicies());

  // Appends whole lines, at least `enough` bytes of them unless the dump ends. False: the trailer is written.
  bool next(fmt::memory_buffer& out, std::size_t enough);

 private:
  bool has_frame() const { return form_ == DumpForm::kJson || form_ == DumpForm::kSaved; }
  void append_header(fmt::memory_buffer& out) const;
  void append_trailer(fmt::memory_buffer& out) const;

  ConnWalk walk_;
  const KernelClock clock_;
  const Origin origin_;
  const DumpForm form_;
  const ConnPolicies policies_;
  bool begun_ = false;
  uint64_t count_ = 0;
};

}  // namespace ctd
