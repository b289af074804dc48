// SPDX-License-Identifier: Apache-2.0
// httplib's server over connections of our own. Its own ones read a header line of any length into memory, wait where
// nothing can wake them, and hold a thread while a client is idle.
#pragma once

#include <functional>
#include <string>

#include <fmt/format.h>
#include <httplib.h>

#include "lib/result.hpp"

namespace ctd {

// One request a connection. A request is bounded in size and in time; an answer goes out as fast as the client takes
// it, and waits ten minutes for one that stands still (a pager).
class HttpServer : public httplib::Server {
 public:
  // Before anything else.
  Result<> open();
  ~HttpServer() override;

  // No more connections; those under way are cut where they would wait for their client. Only after open(), and once
  // listen_after_bind() runs.
  void stop();

 private:
  bool process_and_close_socket(socket_t sock) override;

  int wake_ = -1;  // eventfd; readable: stopping
};

inline constexpr std::size_t kMaxBody = 64 * 1024;
inline constexpr std::size_t kPieceSize = 64 * 1024;

// Appends the next piece of about kPieceSize bytes, or nothing yet; false: it was the last.
using NextPiece = std::function<bool(fmt::memory_buffer&)>;

// Answers with pieces as the reader takes them. An answer that is cut off lacks the end of its chunked body, which any
// client notices.
void stream_pieces(httplib::Response& response, const char* content_type, NextPiece next);

}  // namespace ctd
