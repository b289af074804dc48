// SPDX-License-Identifier: Apache-2.0
// `ctctl expect`: list, add, delete, flush.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "cli/client.hpp"
#include "cli/output.hpp"

namespace ctd {

// As given; the daemon checks them. Empty: not given.
struct ExpectOptions {
  std::string format;
  std::string id, master;
  std::string proto, src, dst, snat, dnat;
  std::optional<uint32_t> zone, sport, dport, timeout;
  bool permanent = false;
  bool no_nat = false;
};

Result<> expect_list(const ExpectOptions& options, const Client& client, Output& out);
Result<> expect_add(const ExpectOptions& options, const Client& client, Output& out);
// Those with this id or master.
Result<> expect_delete(const ExpectOptions& options, const Client& client, Output& out);
Result<> expect_flush(const ExpectOptions& options, const Client& client, Output& out);

}  // namespace ctd
