// SPDX-License-Identifier: Apache-2.0
#include <cerrno>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <future>
#include <mutex>
#include <thread>
#include <utility>

#include <ctd/abi/meta.h>
#include <httplib.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/api.hpp"
#include "daemon/api_conntrack.hpp"
#include "daemon/api_events.hpp"
#include "daemon/api_expect.hpp"
#include "daemon/api_http.hpp"
#include "daemon/api_json.hpp"
#include "daemon/api_socket.hpp"
#include "daemon/metrics.hpp"
#include "daemon/rule_text.hpp"
#include "lib/conn_filter.hpp"
#include "lib/event_json.hpp"
#include "lib/rundir.hpp"

namespace ctd {
namespace {

using Json = nlohmann::ordered_json;
using httplib::Request;
using httplib::Response;

constexpr char kJson[] = "application/json";
constexpr char kNdjson[] = "application/x-ndjson";

constexpr char kEvents[] = "/v1/conntrack/events";
constexpr char kExpectations[] = "/v1/expectations";

// Answers under way at a time: standing pagers, and readers of events, who never take the last ones.
constexpr std::size_t kThreads = 8 + EventHub::kMaxSubscribers;

std::string to_text(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n"; }

void answer_error(Response& response, int status, const std::string& message) {
  response.status = status;
  response.set_content(to_text({{"error", message}}), kJson);
}

// Why httplib itself refused a request.
const char* refusal(int status) {
  switch (status) {
    case 404:
      return "no such resource, or not with this method";
    case 413:
      return "the body is too large";
    case 414:
      return "the path is too long";
    default:
      return "not a request that this server understands";
  }
}

// Those say themselves what is wrong with theirs.
bool takes_parameters(const Request& request) {
  return request.path.starts_with("/v1/conntrack") || request.path == kExpectations;
}

int status_of(const Error& error) {
  switch (error.code()) {
    case EINVAL:
      return 400;
    case ENOENT:
      return 404;
    case EEXIST:
      return 409;
    case ENOSPC:
      return 503;
    default:
      return 500;
  }
}

constexpr char kZoneLimit[] = "/v1/zones/([^/]+)/limit";

// None: the default of all zones.
Result<std::optional<uint16_t>> parse_zone(const std::string& text) {
  if (text == "default") return std::optional<uint16_t>();
  const auto zone = parse_number(text, 0xffff);
  if (!zone) return fail("zone \"{}\": must be a number from 0 to 65535, or default", text);
  return std::optional(static_cast<uint16_t>(*zone));
}

Result<uint32_t> parse_limit(const std::string& body) {
  constexpr uint64_t kMaxLimit = 0x7fffffff;
  const Json json = Json::parse(body, nullptr, false);
  if (!json.is_object() || json.size() != 1 || !json.contains("limit") || !json["limit"].is_number_unsigned() ||
      json["limit"].get<uint64_t>() > kMaxLimit)
    return fail("the body must be {{\"limit\":N}}, with N from 0 (no limit) to {}", kMaxLimit);
  return json["limit"].get<uint32_t>();
}

std::string host_name() {
  char name[256] = {};
  return gethostname(name, sizeof(name) - 1) == 0 ? name : "unknown";
}

}  // namespace

class ApiServer::Impl {
 public:
  Impl(ApiBackend& backend, Options options)
      : backend_(backend),
        options_(std::move(options)),
        conntrack_(backend, {host_name(), options_.instance}),
        expect_(backend) {
    set_up();
  }
  ~Impl();

  Result<> start();
  const std::string& socket_path() const { return path_; }

 private:
  void set_up();
  void add_routes();
  Result<> bind();
  void serve();

  // A route that asks the backend: one at a time, errors become a status of 500.
  using Answer = Result<> (Impl::*)(Response&);
  httplib::Server::Handler handler(Answer method);
  // The same of a resource with parameters: errors have a status of their own.
  template <typename Api>
  httplib::Server::Handler handler(Api& api, Result<> (Api::*method)(const Request&, Response&));

  Result<> status(Response& response);
  void events(const Request& request, Response& response);
  Result<> flows(Response& response);
  Result<> rules(Response& response);
  Result<> ports(Response& response);
  Result<> zones(Response& response);
  Result<> policies(Response& response);
  void set_zone_limit(const Request& request, Response& response);
  void delete_zone_limit(const Request& request, Response& response);
  Result<> stats(Response& response);
  Result<> metrics(Response& response);
  Result<> shutdown(Response& response);

  static void answer(Response& response, const Json& json) { response.set_content(to_text(json), kJson); }

  ApiBackend& backend_;
  const Options options_;
  ConntrackApi conntrack_;
  ExpectApi expect_;
  const std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
  std::mutex backend_mutex_;
  std::string path_;
  struct stat socket_{};  // as we made it
  bool bound_ = false;
  EventStreams streams_;
  HttpServer server_;
  std::promise<void> serving_;
  std::thread thread_;
};

void ApiServer::Impl::set_up() {
  server_.set_address_family(AF_UNIX);
  server_.new_task_queue = [this] {
    serving_.set_value();
    return new httplib::ThreadPool(kThreads);
  };
  server_.set_pre_routing_handler([](const Request& request, Response& response) {
    if (request.params.empty() || takes_parameters(request)) return httplib::Server::HandlerResponse::Unhandled;
    answer_error(
        response, 400,
        fmt::format("{}: unknown parameter \"{}\": it takes none", request.path, request.params.begin()->first));
    return httplib::Server::HandlerResponse::Handled;
  });
  server_.set_error_handler([](const Request& request, Response& response) {
    if (!response.body.empty()) return;
    answer_error(response, response.status,
                 fmt::format("{} {}: {}", request.method, request.path, refusal(response.status)));
  });
  server_.set_exception_handler([](const Request&, Response& response, std::exception_ptr thrown) {
    try {
      std::rethrow_exception(std::move(thrown));
    } catch (const std::exception& e) {
      answer_error(response, 500, e.what());
    } catch (...) {
      answer_error(response, 500, "unknown exception");
    }
  });
  add_routes();
}

void ApiServer::Impl::add_routes() {
  server_.Get("/v1/status", handler(&Impl::status));
  server_.Get("/v1/conntrack", handler(conntrack_, &ConntrackApi::dump));
  server_.Get("/v1/conntrack/entry", handler(conntrack_, &ConntrackApi::get));
  server_.Get("/v1/conntrack/count", handler(conntrack_, &ConntrackApi::count));
  server_.Delete("/v1/conntrack", handler(conntrack_, &ConntrackApi::remove));
  server_.Patch("/v1/conntrack", handler(conntrack_, &ConntrackApi::update));
  server_.Post("/v1/conntrack", handler(conntrack_, &ConntrackApi::insert));
  server_.Get(kExpectations, handler(expect_, &ExpectApi::list));
  server_.Post(kExpectations, handler(expect_, &ExpectApi::add));
  server_.Delete(kExpectations, handler(expect_, &ExpectApi::remove));
  server_.Get(kEvents, [this](const Request& request, Response& response) { events(request, response); });
  server_.Get("/v1/flows", handler(&Impl::flows));
  server_.Get("/v1/rules", handler(&Impl::rules));
  server_.Get("/v1/ports", handler(&Impl::ports));
  server_.Get("/v1/zones", handler(&Impl::zones));
  server_.Put(kZoneLimit, [this](const Request& request, Response& response) { set_zone_limit(request, response); });
  server_.Delete(kZoneLimit,
                 [this](const Request& request, Response& response) { delete_zone_limit(request, response); });
  server_.Get("/v1/timeouts", handler(&Impl::policies));
  server_.Get("/v1/stats", handler(&Impl::stats));
  server_.Get("/metrics", handler(&Impl::metrics));
  server_.Post("/v1/shutdown", handler(&Impl::shutdown));
}

httplib::Server::Handler ApiServer::Impl::handler(Answer method) {
  return [this, method](const Request&, Response& response) {
    const std::lock_guard lock(backend_mutex_);
    const Result<> done = (this->*method)(response);
    if (!done) answer_error(response, 500, done.error().message());
  };
}

template <typename Api>
httplib::Server::Handler ApiServer::Impl::handler(Api& api, Result<> (Api::*method)(const Request&, Response&)) {
  return [this, &api, method](const Request& request, Response& response) {
    const std::lock_guard lock(backend_mutex_);
    const Result<> done = (api.*method)(request, response);
    if (!done) answer_error(response, status_of(done.error()), done.error().message());
  };
}

Result<> ApiServer::Impl::start() {
  CTD_TRY(server_.open());
  CTD_TRY(bind());
  // Signals belong to the daemon's own thread.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { serve(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  serving_.get_future().wait();  // from here on stop() is heard
  return {};
}

Result<> ApiServer::Impl::bind() {
  path_ = CTD_TRY(control_socket_path(options_.rundir, options_.instance));
  // The folder keeps others out until the socket has its own mode.
  CTD_TRY(make_private_folder(std::filesystem::path(path_).parent_path()));
  CTD_TRY(remove_stale_socket(path_));
  constexpr int kNoPort = 1;  // httplib wants one; a Unix socket has none
  if (!server_.bind_to_port(path_, kNoPort)) return fail_errno(errno, "socket {}: bind", path_);
  bound_ = true;
  if (chmod(path_.c_str(), 0600) != 0) return fail_errno(errno, "socket {}: chmod 0600", path_);
  if (stat(path_.c_str(), &socket_) != 0) return fail_errno(errno, "socket {}", path_);
  return {};
}

void ApiServer::Impl::serve() {
  if (!server_.listen_after_bind()) spdlog::error("control API: {}: no longer accepts connections", path_);
}

ApiServer::Impl::~Impl() {
  if (thread_.joinable()) {
    streams_.stop();
    server_.stop();
    thread_.join();
  }
  struct stat now{};
  // Not a successor's socket.
  if (bound_ && stat(path_.c_str(), &now) == 0 && now.st_dev == socket_.st_dev && now.st_ino == socket_.st_ino) {
    unlink(path_.c_str());
    rmdir(std::filesystem::path(path_).parent_path().c_str());  // stays if there is something else in it
  }
}

Result<> ApiServer::Impl::status(Response& response) {
  const auto uptime = std::chrono::steady_clock::now() - started_;
  Json json{{"instance", options_.instance},
            {"version", CTD_VERSION},
            {"pid", getpid()},
            {"uptime_s", std::chrono::duration_cast<std::chrono::seconds>(uptime).count()},
            {"abi_version", CTD_ABI_VERSION}};
  const Json more = CTD_TRY(backend_.status());
  for (const auto& [name, value] : more.items())
    if (!json.contains(name)) json[name] = value;  // ours stay as documented
  answer(response, json);
  return {};
}

void ApiServer::Impl::events(const Request& request, Response& response) {
  uint16_t wanted = CTD_EVENT_ALL;
  std::vector<ConnFilter::Term> terms;
  for (const auto& [name, value] : request.params) {
    if (name != "events") {
      terms.push_back({name, value});
      continue;
    }
    const auto bits = parse_events(value);
    if (!bits) return answer_error(response, 400, bits.error().message());
    wanted = *bits;
  }
  const auto policies = [this] {
    const std::lock_guard lock(backend_mutex_);
    return backend_.policy_names();
  }();
  if (!policies) return answer_error(response, 500, policies.error().message());
  const auto filter = ConnFilter::make(terms, &*policies);
  if (!filter) return answer_error(response, 400, filter.error().message());
  const auto clock = [this] {
    const std::lock_guard lock(backend_mutex_);
    return backend_.clock();
  };
  const auto now = clock();
  if (!now) return answer_error(response, 500, now.error().message());
  EventHub::Filter matches;
  if (!filter->empty())
    matches = [filter = *filter, hz = now->hz](const ctd_event& event) {
      return filter.matches(event.conn, {.jiffies = event.time, .hz = hz, .wall = {}});
    };
  auto subscription = backend_.subscribe(wanted, std::move(matches));
  if (!subscription) return answer_error(response, 503, subscription.error().message());
  auto stream = std::make_shared<EventStream>(streams_, std::move(subscription).value(), *now, clock,
                                              EventStream::Origin{host_name(), options_.instance});
  stream_pieces(response, kNdjson, [stream](fmt::memory_buffer& piece) { return stream->next(piece); });
}

Result<> ApiServer::Impl::flows(Response& response) {
  answer(response, flows_json(CTD_TRY(backend_.flows())));
  return {};
}

Result<> ApiServer::Impl::rules(Response& response) {
  answer(response, rules_json(CTD_TRY(backend_.rules())));
  return {};
}

Result<> ApiServer::Impl::ports(Response& response) {
  answer(response, ports_json(CTD_TRY(backend_.ports())));
  return {};
}

Result<> ApiServer::Impl::zones(Response& response) {
  answer(response, zones_json(CTD_TRY(backend_.zones())));
  return {};
}

Result<> ApiServer::Impl::policies(Response& response) {
  answer(response, policies_json(CTD_TRY(backend_.policies())));
  return {};
}

void ApiServer::Impl::set_zone_limit(const Request& request, Response& response) {
  const auto zone = parse_zone(request.matches[1].str());
  if (!zone) return answer_error(response, 400, zone.error().message());
  const auto limit = parse_limit(request.body);
  if (!limit) return answer_error(response, 400, limit.error().message());
  const std::lock_guard lock(backend_mutex_);
  const Result<> done = backend_.set_zone_limit(*zone, *limit);
  if (!done) return answer_error(response, 500, done.error().message());
  answer(response, {{"limit", *limit}});
}

void ApiServer::Impl::delete_zone_limit(const Request& request, Response& response) {
  const auto zone = parse_zone(request.matches[1].str());
  if (!zone) return answer_error(response, 400, zone.error().message());
  const std::lock_guard lock(backend_mutex_);
  const Result<> done = backend_.set_zone_limit(*zone, std::nullopt);
  if (!done) return answer_error(response, 500, done.error().message());
  answer(response, Json::object());
}

Result<> ApiServer::Impl::stats(Response& response) {
  Json json = stats_json(CTD_TRY(backend_.stats()), backend_.connections().count_by_class());
  json["conntrack"] = table_json(CTD_TRY(backend_.table_stats()));
  answer(response, json);
  return {};
}

Result<> ApiServer::Impl::metrics(Response& response) {
  response.set_content(
      metrics_text(CTD_TRY(backend_.stats()), backend_.connections().count_by_class(), CTD_TRY(backend_.table_stats())),
      kMetricsContentType);
  return {};
}

Result<> ApiServer::Impl::shutdown(Response& response) {
  CTD_TRY(backend_.shutdown());
  response.status = 202;
  answer(response, {{"pid", getpid()}});
  return {};
}

Result<std::unique_ptr<ApiServer>> ApiServer::start(ApiBackend& backend, Options options) {
  auto impl = std::make_unique<Impl>(backend, std::move(options));
  CTD_TRY(impl->start().context("control API"));
  return std::unique_ptr<ApiServer>(new ApiServer(std::move(impl)));
}

ApiServer::ApiServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

ApiServer::~ApiServer() = default;

const std::string& ApiServer::socket_path() const { return impl_->socket_path(); }

}  // namespace ctd
