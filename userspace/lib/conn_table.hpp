// SPDX-License-Identifier: Apache-2.0
// ConnTable: a read-only view of the connection table, over the mapped map `ct_conn`, while the datapath writes it.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>

#include <ctd/abi/ct.h>
#include <ctd/abi/meta.h>

namespace ctd {

class ConnTable {
 public:
  // records: the whole array, index = connection id (index 0 is unused). Both mappings must outlive the view.
  ConnTable(std::span<const ctd_conn> records, const ctd_rt* rt) : records_(records), rt_(rt) {}

  enum class Read {
    kLive,  // `out` is a consistent copy of a confirmed connection
    kNone,  // no confirmed connection has this id
    kBusy,  // it kept changing hands; `out` is not valid
  };
  // id: 1..last_id().
  Read read(uint32_t id, ctd_conn& out) const;

  // Highest id in use so far; grows while the datapath runs.
  uint32_t last_id() const;

  // Confirmed connections by class, counted now (about 10 ms a million).
  std::array<uint64_t, CTD_CLASS_COUNT> count_by_class() const;
  uint64_t count() const;

 private:
  std::span<const ctd_conn> records_;
  const ctd_rt* rt_;
};

// An id that is never used twice: the record's sequence in the upper half, the connection id in the lower.
inline uint64_t unique_conn_id(uint32_t seq, uint32_t id) { return (static_cast<uint64_t>(seq) << 32) | id; }
inline uint64_t unique_conn_id(const ctd_conn& conn) { return unique_conn_id(CTD_CTL_SEQ(conn.ctl), conn.id); }

// Jiffies left before the connection expires without another packet; 0 if it is due. now: get_jiffies_64().
uint32_t jiffies_left(const ctd_conn& conn, uint64_t now);
// Does a timeout that the operator set still hold, for no packet has come since?
bool timeout_is_set(const ctd_conn& conn, uint64_t now);

}  // namespace ctd
