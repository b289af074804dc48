// SPDX-License-Identifier: Apache-2.0
#include "cli/output.hpp"

#include <cerrno>

#include <unistd.h>

namespace ctd {
namespace {
constexpr std::size_t kBufferSize = 64 * 1024;
}

Result<> Output::write(std::string_view text) {
  buffer_ += text;
  if (buffer_.size() < kBufferSize) return {};
  return flush();
}

Result<> Output::flush() {
  std::string_view rest = buffer_;
  while (!rest.empty()) {
    const ssize_t written = ::write(fd_, rest.data(), rest.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      return fail_errno(errno, "writing the output");
    }
    rest.remove_prefix(static_cast<std::size_t>(written));
  }
  buffer_.clear();
  return {};
}

}  // namespace ctd
