// SPDX-License-Identifier: Apache-2.0
#include <csignal>

#include <unistd.h>

#include "cli/app.hpp"

int main(int argc, char** argv) {
  // `ctctl … | head` is no failure: the error of the write says so.
  std::signal(SIGPIPE, SIG_IGN);
  return ctd::run_ctctl(argc, argv, STDOUT_FILENO);
}
