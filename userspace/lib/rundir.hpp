// SPDX-License-Identifier: Apache-2.0
// Where an instance's control socket is; ctd and ctctl must agree on it.
#pragma once

#include <string>

#include "lib/result.hpp"

namespace ctd {

inline constexpr char kDefaultInstance[] = "default";

// CTD_RUNDIR of the environment, or /run/ctd.
std::string default_rundir();

// An instance's name becomes a folder's: 1 to 32 letters, digits, '-', '_' or '.', not beginning with '.'.
Result<> check_instance_name(const std::string& name);

// RUNDIR/INSTANCE/ctd.sock. Errors: the instance's name, or a path too long for a Unix socket.
Result<std::string> control_socket_path(const std::string& rundir, const std::string& instance);

}  // namespace ctd
