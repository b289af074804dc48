// SPDX-License-Identifier: Apache-2.0
// What an operator asks of connections, and what became of it.
#pragma once

#include <cstdint>
#include <optional>

#include <ctd/abi/control.h>

#include "lib/conn_values.hpp"

namespace ctd {

struct ConnUpdate {
  std::optional<Masked> mark, label;  // these bits become these
  std::optional<uint32_t> timeout_s;  // from now, if no packet comes
};

struct NewConn {
  ctd_conn conn{};  // all but what the table keeps itself
  ctd_conn_class cls = CTD_CLASS_UNANSWERED;
};
enum class Inserted { kDone, kExists, kFull, kLimit };

}  // namespace ctd
