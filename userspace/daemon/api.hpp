// SPDX-License-Identifier: Apache-2.0
// The control API: HTTP/1.1 and JSON over a Unix socket. docs/api.md describes it from outside.
#pragma once

#include <memory>
#include <string>

#include <sys/types.h>

#include "daemon/api_backend.hpp"
#include "lib/result.hpp"

namespace ctd {

class ApiServer {
 public:
  struct Options {
    std::string rundir;    // the socket is RUNDIR/INSTANCE/ctd.sock
    std::string instance;  // see check_instance_name()
  };

  // Makes the socket (its folder 0700, itself 0600) and serves it from threads of its own, in which all signals are
  // blocked. A socket that nobody answers on is replaced; one that somebody answers on is an error with code
  // EADDRINUSE. backend: must outlive the server.
  // The process ignores SIGPIPE from here on.
  static Result<std::unique_ptr<ApiServer>> start(ApiBackend& backend, Options options);

  // Stops: cuts running dumps, waits for a call of the backend that is under way, removes the socket. Not from within
  // such a call.
  ~ApiServer();

  ApiServer(const ApiServer&) = delete;
  ApiServer& operator=(const ApiServer&) = delete;

  const std::string& socket_path() const;

 private:
  class Impl;
  explicit ApiServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace ctd
