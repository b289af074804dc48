// SPDX-License-Identifier: Apache-2.0
// Expectations in userspace: what is announced of a connection that will come, and its translation.
#pragma once

#include <cstdint>

#include <ctd/abi/expect.h>

#include "lib/conn_table.hpp"

namespace ctd {

// As it stands in the table.
struct Expectation {
  ctd_tuple key{};
  ctd_expect expect{};
};

// What a helper or an operator announces. Ids, tags and the time of expiry are the table's to set.
struct NewExpectation {
  Expectation what;
  uint32_t timeout_s = 0;
  uint32_t limit = 0;  // of its master and kind; the oldest makes room. 0: none
};

// A source address, or a port, of zeros is any.
bool any_source(const ctd_tuple& key);
bool any_source_port(const ctd_tuple& key);

inline uint64_t master_of(const ctd_expect& expect) { return unique_conn_id(expect.master_seq, expect.master); }

// Does it still announce anything? Its time may be up, or its master gone, while it waits for the sweep.
bool holds(const ctd_expect& expect, const ConnTable& table, uint64_t jiffies);
uint32_t jiffies_left(const ctd_expect& expect, uint64_t jiffies);

// Sets the translation that the expected connection needs to go where its master goes: wherever the announced tuple has
// an address that the master's peers see in place of another. Ports stay.
void follow_master(Expectation& expectation, const ctd_conn& master);

}  // namespace ctd
