// SPDX-License-Identifier: Apache-2.0
#include "cli/client.hpp"

#include <atomic>
#include <cerrno>
#include <cstring>
#include <optional>
#include <thread>

#include <httplib.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/rundir.hpp"

namespace ctd {
namespace {

// A dump waits for the counters of the whole verdict cache first.
constexpr std::chrono::seconds kReadTimeout{60};
constexpr std::size_t kMaxErrorText = 64 * 1024;

class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) {}
  ~Fd() {
    if (fd_ >= 0) close(fd_);
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  int get() const { return fd_; }

 private:
  const int fd_;
};

// glibc 2.36 declares pidfd_open() without C linkage.
int open_pidfd(pid_t pid) { return static_cast<int>(syscall(SYS_pidfd_open, pid, 0)); }

// The pid of whoever listens, 0 if it is in a process namespace that we do not see. httplib keeps from us why it could
// not connect: this says it.
Result<pid_t> listener(const std::string& socket_path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, socket_path.data(), socket_path.size());  // its length was checked by open()
  const Fd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (fd.get() < 0) return fail_errno(errno, "socket {}", socket_path);
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    const int error = errno;
    if (error == ENOENT || error == ECONNREFUSED || error == ENOTDIR)
      return fail("no ctd answers on {}: is it running? (--instance names another one, --rundir another folder)",
                  socket_path);
    if (error == EACCES) return fail("{}: permission denied: only root may talk to ctd", socket_path);
    return fail_errno(error, "{}: connect", socket_path);
  }
  ucred peer{};
  socklen_t size = sizeof(peer);
  if (getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0)
    return fail_errno(errno, "{}: SO_PEERCRED", socket_path);
  return peer.pid;
}

Error http_error(int status, const std::string& body) {
  const auto json = nlohmann::ordered_json::parse(body, nullptr, false);
  if (json.is_object() && json.contains("error") && json["error"].is_string())
    return fail("ctd: {}", json["error"].get<std::string>());
  return fail("ctd answered with status {}", status);
}

}  // namespace

// An answer without an end: no bound on the silence in between, and a thread that ends it when it is told to.
class Client::Endless {
 public:
  explicit Endless(int stop_fd) : stop_fd_(stop_fd), done_(eventfd(0, EFD_CLOEXEC)) {}

  void begin(httplib::Client& http) {
    http.set_read_timeout(std::chrono::hours(24 * 365 * 10));
    thread_ = std::thread([this, &http] { run(http); });
  }
  // After the answer. True: it was told to.
  bool end() {
    if (thread_.joinable()) {
      eventfd_write(done_.get(), 1);
      thread_.join();
    }
    return stopped_;
  }

 private:
  void run(httplib::Client& http) {
    pollfd fds[] = {{stop_fd_, POLLIN, 0}, {done_.get(), POLLIN, 0}};
    while (poll(fds, 2, -1) < 0 && errno == EINTR) {
    }
    if (!fds[0].revents) return;
    stopped_ = true;
    // More than once: before it is connected there is nothing to stop.
    pollfd done{done_.get(), POLLIN, 0};
    do {
      http.stop();
    } while (poll(&done, 1, 50) == 0);
  }

  const int stop_fd_;
  const Fd done_;
  std::thread thread_;
  std::atomic<bool> stopped_{false};
};

Result<Client> Client::open(const std::string& rundir, const std::string& instance) {
  return Client(CTD_TRY(control_socket_path(rundir, instance)));
}

Result<> Client::request(const char* method, const std::string& path, const std::string& body, const Consumer& consumer,
                         Endless* endless) const {
  constexpr int kNoPort = 1;  // httplib wants one; a Unix socket has none
  httplib::Client http(socket_, kNoPort);
  http.set_address_family(AF_UNIX);
  http.set_read_timeout(kReadTimeout);

  int status = 0;
  std::string error_body;
  std::optional<Error> failure;
  httplib::Request request;
  request.method = method;
  request.path = path;
  request.headers = {{"Host", "localhost"}};
  request.body = body;
  if (request.method != "GET") request.headers.emplace("Content-Length", std::to_string(body.size()));
  if (!body.empty()) request.headers.emplace("Content-Type", "application/json");
  request.response_handler = [&](const httplib::Response& response) {
    status = response.status;
    return true;
  };
  request.content_receiver = [&](const char* data, std::size_t size, uint64_t, uint64_t) {
    if (status / 100 != 2) {
      error_body.append(data, std::min(size, kMaxErrorText - error_body.size()));
      return true;
    }
    Result<> done = consumer({data, size});
    if (!done) failure = std::move(done).error();
    return !failure;
  };

  if (endless) endless->begin(http);
  const httplib::Result result = http.send(request);
  if (endless && endless->end()) return {};
  if (failure) return *failure;
  if (result.error() == httplib::Error::Connection) {
    CTD_TRY(listener(socket_));
    return fail("{}: ctd is too busy to answer", socket_);
  }
  if (!result)
    return fail("{}: the answer to {} {} ends too early ({}): did ctd stop?", socket_, method, path,
                httplib::to_string(result.error()));
  if (status / 100 != 2) return http_error(status, error_body);
  return {};
}

Result<std::string> Client::whole(const char* method, const std::string& path, const std::string& body) const {
  std::string answer;
  CTD_TRY(request(method, path, body, [&](std::string_view piece) -> Result<> {
    answer += piece;
    return {};
  }));
  return answer;
}

Result<std::string> Client::get(const std::string& path) const { return whole("GET", path); }
Result<std::string> Client::post(const std::string& path, const std::string& body) const {
  return whole("POST", path, body);
}
Result<std::string> Client::patch(const std::string& path, const std::string& body) const {
  return whole("PATCH", path, body);
}
Result<std::string> Client::put(const std::string& path, const std::string& body) const {
  return whole("PUT", path, body);
}
Result<std::string> Client::del(const std::string& path) const { return whole("DELETE", path); }

Result<> Client::stream(const std::string& path, const Consumer& consumer) const {
  return request("GET", path, {}, consumer);
}

Result<bool> Client::watch(const std::string& path, const Consumer& consumer, int stop_fd) const {
  Endless endless(stop_fd);
  CTD_TRY(request("GET", path, {}, consumer, &endless));
  return endless.end();
}

Result<> Client::shutdown(std::chrono::seconds patience) const {
  const pid_t pid = CTD_TRY(listener(socket_));
  // Opened before it is told to go, so that the number cannot be another process's by then.
  const Fd process(pid > 0 ? open_pidfd(pid) : -1);
  if (process.get() < 0) return fail("{}: ctd runs in a process namespace that cannot be seen from here", socket_);
  CTD_TRY(post("/v1/shutdown"));

  pollfd gone{process.get(), POLLIN, 0};
  const int ready = poll(&gone, 1, static_cast<int>(std::chrono::milliseconds(patience).count()));
  if (ready < 0) return fail_errno(errno, "waiting for ctd (process {}) to end", pid);
  if (ready == 0) return fail("ctd (process {}) still runs after {} s: its log says why", pid, patience.count());
  return {};
}

Result<nlohmann::ordered_json> parse_answer(std::string_view body) {
  auto json = nlohmann::ordered_json::parse(body, nullptr, false);
  if (json.is_discarded()) return fail("ctd's answer is not JSON: \"{:.80}\"", body);
  return json;
}

}  // namespace ctd
