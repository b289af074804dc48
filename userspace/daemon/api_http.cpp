// SPDX-License-Identifier: Apache-2.0
#include "daemon/api_http.hpp"

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

namespace ctd {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr std::size_t kMaxRequest = kMaxBody + 64 * 1024;  // request line and headers included
constexpr std::chrono::seconds kRequestTime{5};
constexpr std::chrono::minutes kPatience{10};

class Connection : public httplib::Stream {
 public:
  Connection(int fd, int wake) : fd_(fd), wake_(wake) {}

  bool is_readable() const override { return begin_ < end_ || wait(POLLIN, milliseconds(0)); }
  // Whether the client is still there; it may be slow.
  bool is_writable() const override {
    pollfd client{fd_, 0, 0};
    return poll(&client, 1, 0) >= 0 && !(client.revents & (POLLHUP | POLLERR));
  }

  ssize_t read(char* out, std::size_t size) override {
    if (begin_ == end_ && !fill()) return -1;
    const std::size_t taken = std::min(size, end_ - begin_);
    std::memcpy(out, buffer_.data() + begin_, taken);
    begin_ += taken;
    return static_cast<ssize_t>(taken);
  }

  ssize_t write(const char* data, std::size_t size) override {
    for (;;) {
      // Before waiting, so that a short answer goes out even while stopping.
      const ssize_t sent = send(fd_, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
      if (sent >= 0) return sent;
      if (errno == EINTR) continue;
      if (errno != EAGAIN || !wait(POLLOUT, kPatience)) return -1;
    }
  }

  // A Unix socket has neither.
  void get_remote_ip_and_port(std::string&, int&) const override {}
  void get_local_ip_and_port(std::string&, int&) const override {}
  socket_t socket() const override { return fd_; }

 private:
  bool fill() {
    if (received_ >= kMaxRequest) return false;
    for (;;) {
      const auto left = std::chrono::ceil<milliseconds>(deadline_ - steady_clock::now());
      if (left.count() <= 0 || !wait(POLLIN, left)) return false;
      const ssize_t got = recv(fd_, buffer_.data(), buffer_.size(), MSG_DONTWAIT);
      if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue;
      if (got <= 0) return false;
      begin_ = 0;
      end_ = static_cast<std::size_t>(got);
      received_ += end_;
      return true;
    }
  }

  // False: nothing came of it in time, or the server is stopping.
  bool wait(short events, milliseconds timeout) const {
    const auto until = steady_clock::now() + timeout;
    for (;;) {
      pollfd fds[] = {{fd_, events, 0}, {wake_, POLLIN, 0}};
      const auto left = std::max(std::chrono::ceil<milliseconds>(until - steady_clock::now()), milliseconds(0));
      const int ready = poll(fds, 2, static_cast<int>(left.count()));
      if (ready < 0 && errno == EINTR) continue;
      return ready > 0 && !fds[1].revents && fds[0].revents;
    }
  }

  const int fd_;
  const int wake_;
  const steady_clock::time_point deadline_ = steady_clock::now() + kRequestTime;
  std::array<char, 4096> buffer_;
  std::size_t begin_ = 0, end_ = 0;  // what is unread in buffer_
  std::size_t received_ = 0;
};

}  // namespace

Result<> HttpServer::open() {
  wake_ = eventfd(0, EFD_CLOEXEC);
  if (wake_ < 0) return fail_errno(errno, "eventfd");
  set_payload_max_length(kMaxBody);
  return {};
}

HttpServer::~HttpServer() {
  if (wake_ >= 0) close(wake_);
}

void HttpServer::stop() {
  eventfd_write(wake_, 1);  // cannot fail: it is written once
  httplib::Server::stop();
}

bool HttpServer::process_and_close_socket(socket_t sock) {
  Connection connection(sock, wake_);
  bool closed = false;
  const bool served = process_request(connection, true, closed, nullptr);
  shutdown(sock, SHUT_RDWR);
  close(sock);
  return served;
}

void stream_pieces(httplib::Response& response, const char* content_type, NextPiece next) {
  auto send = [next = std::move(next), piece = std::make_shared<fmt::memory_buffer>()](std::size_t,
                                                                                       httplib::DataSink& sink) {
    piece->clear();
    const bool more = next(*piece);
    // An empty chunk would be the end of the answer. Who writes nothing does not notice that the client has gone.
    if (piece->size() == 0 ? !sink.is_writable() : !sink.write(piece->data(), piece->size())) return false;
    if (!more) sink.done();
    return true;
  };
  response.set_chunked_content_provider(content_type, std::move(send));
}

}  // namespace ctd
