// SPDX-License-Identifier: Apache-2.0
// What a protocol's tracker keeps in a record, as numbers with names: the saved form writes and reads them by this
// list.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include <ctd/abi/ct.h>

namespace ctd {

struct TrackField {
  std::string_view name;  // "orig_max_end"
  uint16_t offset;        // in struct ctd_conn
  uint8_t size;           // 1, 2, 4 or 8 bytes
};
struct TrackFields {
  std::string_view name;  // "tcp": the member that holds them
  std::span<const TrackField> fields;
};

// No fields: the protocol's state is all there is.
TrackFields track_fields(uint8_t proto);

uint64_t get(const ctd_conn& conn, const TrackField& field);
void set(ctd_conn& conn, const TrackField& field, uint64_t value);
// The largest value that fits.
uint64_t limit(const TrackField& field);

}  // namespace ctd
