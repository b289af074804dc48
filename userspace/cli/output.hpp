// SPDX-License-Identifier: Apache-2.0
// Buffered standard output whose errors are seen.
#pragma once

#include <string>
#include <string_view>

#include "lib/result.hpp"

namespace ctd {

class Output {
 public:
  explicit Output(int fd) : fd_(fd) {}
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;

  // Errors carry the errno: EPIPE means that the reader (`| head`) has seen enough.
  Result<> write(std::string_view text);
  // What is not flushed is lost.
  Result<> flush();

 private:
  const int fd_;
  std::string buffer_;
};

}  // namespace ctd
