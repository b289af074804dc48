// SPDX-License-Identifier: Apache-2.0
// Connections as lines of text, for scripts that know the tools these formats come from.
#pragma once

#include <ctd/abi/ct.h>
#include <fmt/format.h>

#include "lib/time.hpp"

namespace ctd {

// Each appends one line without its end.
void append_conn_conntrack(fmt::memory_buffer& out, const ctd_conn& conn, const KernelClock& clock);  // conntrack -L
void append_conn_dpctl(fmt::memory_buffer& out, const ctd_conn& conn);  // ovs-appctl dpctl/dump-conntrack

}  // namespace ctd
