// SPDX-License-Identifier: Apache-2.0
// ctctl: the command line.
#pragma once

namespace ctd {

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailure = 1;
inline constexpr int kExitUsage = 2;

// Everything but main(). out_fd: standard output; errors go to standard error, one line each.
int run_ctctl(int argc, const char* const* argv, int out_fd);

}  // namespace ctd
