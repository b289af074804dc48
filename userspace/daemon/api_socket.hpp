// SPDX-License-Identifier: Apache-2.0
// The control socket's place in the file system: who may reach it, and what an earlier daemon left there.
#pragma once

#include <string>

#include "lib/result.hpp"

namespace ctd {

// Makes `folder` (its parents as needed, 0755) or takes an existing one of ours, with mode 0700.
Result<> make_private_folder(const std::string& folder);

// Removes a socket that nobody answers on. Errors: somebody answers (code EADDRINUSE), or it is not a socket.
Result<> remove_stale_socket(const std::string& path);

}  // namespace ctd
