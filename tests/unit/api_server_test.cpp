// SPDX-License-Identifier: Apache-2.0
#include "daemon/api.hpp"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <httplib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "api_fake_backend.hpp"
#include "conn_schema.hpp"

namespace ctd {
namespace {

using namespace test;
using nlohmann::json;
using testing::HasSubstr;

mode_t mode_of(const std::string& path) {
  struct stat st{};
  EXPECT_EQ(stat(path.c_str(), &st), 0) << path;
  return st.st_mode & 07777;
}

class RawClient {
 public:
  explicit RawClient(const std::string& path) : fd_(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.data(), path.size());
    EXPECT_EQ(connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0) << std::strerror(errno);
  }
  ~RawClient() { close(fd_); }
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;

  ssize_t send(std::string_view text) { return ::send(fd_, text.data(), text.size(), MSG_NOSIGNAL); }
  std::string read_some() {
    char buffer[4096];
    const ssize_t got = recv(fd_, buffer, sizeof(buffer), 0);
    return got > 0 ? std::string(buffer, static_cast<std::size_t>(got)) : std::string();
  }
  std::string read_all() {
    std::string all;
    for (std::string piece; !(piece = read_some()).empty();) all += piece;
    return all;
  }

 private:
  int fd_;
};

class ApiServerTest : public testing::Test {
 protected:
  ApiServerTest() : backend(kManyConnections) {}

  void SetUp() override {
    backend.table.add(masqueraded_conn());
    backend.table.add(ping_conn());
    server = start().value();
  }
  Result<std::unique_ptr<ApiServer>> start() { return ApiServer::start(backend, {folder.path(), "default"}); }

  httplib::Client client() const {
    httplib::Client http(path, 1);
    http.set_address_family(AF_UNIX);
    return http;
  }
  json get(const std::string& resource) {
    const httplib::Result result = client().Get(resource);
    EXPECT_TRUE(result) << httplib::to_string(result.error());
    EXPECT_EQ(result->status, 200) << result->body;
    EXPECT_EQ(result->get_header_value("Content-Type"), "application/json");
    return json::parse(result->body);
  }
  // More than socket buffers hold.
  void fill() {
    while (backend.table.rt().high_water < kManyConnections) backend.table.add(masqueraded_conn());
  }

  static constexpr uint32_t kManyConnections = 20'000;
  TempFolder folder;
  const std::string path = folder.path() + "/default/ctd.sock";
  FakeBackend backend;
  std::unique_ptr<ApiServer> server;
};

TEST_F(ApiServerTest, OnlyItsUserReachesTheSocket) {
  EXPECT_EQ(server->socket_path(), path);
  EXPECT_EQ(mode_of(path), 0600u);
  EXPECT_EQ(mode_of(folder.path() + "/default"), 0700u);
}

TEST_F(ApiServerTest, Status) {
  const json status = get("/v1/status");
  EXPECT_EQ(status["instance"], "default");
  EXPECT_EQ(status["pid"], getpid());
  EXPECT_EQ(status["abi_version"], CTD_ABI_VERSION);
  EXPECT_EQ(status["ports"], 2) << "of the backend";
  EXPECT_TRUE(status["uptime_s"].is_number_unsigned());
  EXPECT_EQ(status["version"], CTD_VERSION) << "not the backend's";
}

TEST_F(ApiServerTest, DumpIsNdjsonThatFitsTheSchema) {
  fill();
  const httplib::Result result = client().Get("/v1/conntrack");
  ASSERT_TRUE(result);
  EXPECT_EQ(result->get_header_value("Content-Type"), "application/x-ndjson");
  EXPECT_EQ(backend.credits, 1) << "counters are credited first";
  std::istringstream lines(result->body);
  std::vector<json> objects;
  for (std::string line; std::getline(lines, line);) objects.push_back(json::parse(line));
  ASSERT_EQ(objects.size(), kManyConnections + 2);
  for (const std::size_t i : {std::size_t{0}, std::size_t{1}, std::size_t{2}, objects.size() - 1})
    EXPECT_THAT(schema_errors(objects[i]), testing::IsEmpty()) << objects[i];
  EXPECT_EQ(objects.back(), json::parse(R"({"count":20000,"complete":true})"));
}

TEST_F(ApiServerTest, CountAndFlush) {
  EXPECT_EQ(get("/v1/conntrack/count"), json::parse(R"({"count":2})"));
  const httplib::Result flushed = client().Delete("/v1/conntrack");
  ASSERT_TRUE(flushed);
  EXPECT_EQ(json::parse(flushed->body), json::parse(R"({"deleted":2})"));
  EXPECT_EQ(get("/v1/conntrack/count"), json::parse(R"({"count":0})"));
}

TEST_F(ApiServerTest, ZonesAndTheirLimits) {
  EXPECT_EQ(get("/v1/zones"), json::parse(R"({"default_limit":0,"zones":[
      {"zone":0,"limit":0,"own_limit":false,"count":3,"policy":"default"},
      {"zone":5,"limit":1000,"own_limit":true,"count":12,"policy":"quick"}]})"));
  EXPECT_EQ(client().Put("/v1/zones/default/limit", R"({"limit":77})", "application/json")->body, "{\"limit\":77}\n");
  EXPECT_EQ(client().Put("/v1/zones/0/limit", R"({"limit":5})", "application/json")->status, 200);
  EXPECT_EQ(client().Delete("/v1/zones/5/limit")->status, 200);
  EXPECT_EQ(get("/v1/zones"), json::parse(R"({"default_limit":77,"zones":[
      {"zone":0,"limit":5,"own_limit":true,"count":3,"policy":"default"},
      {"zone":5,"limit":77,"own_limit":false,"count":12,"policy":"quick"}]})"));
}

TEST_F(ApiServerTest, WrongZonesAndLimitsAreRefused) {
  const auto refusal = [&](const std::string& resource, const std::string& body) {
    const httplib::Result result = client().Put(resource, body, "application/json");
    EXPECT_EQ(result->status, 400) << resource << " " << body;
    return json::parse(result->body)["error"].get<std::string>();
  };
  EXPECT_EQ(refusal("/v1/zones/65536/limit", R"({"limit":1})"),
            "zone \"65536\": must be a number from 0 to 65535, or default");
  for (const char* body : {"", "5", "{}", R"({"limit":-1})", R"({"limit":2147483648})", R"({"limit":1,"x":2})", "{"})
    EXPECT_EQ(refusal("/v1/zones/5/limit", body),
              R"(the body must be {"limit":N}, with N from 0 (no limit) to 2147483647)");
  EXPECT_EQ(client().Delete("/v1/zones/x/limit")->status, 400);
}

TEST_F(ApiServerTest, TimeoutPolicies) {
  const json policies = get("/v1/timeouts");
  ASSERT_EQ(policies.size(), 1u);
  EXPECT_EQ(policies[0]["name"], "quick");
  EXPECT_EQ(policies[0]["tcp_pickup"], false);
  EXPECT_EQ(policies[0]["tcp_liberal"], true);
  EXPECT_EQ(policies[0]["timeouts"]["udp"], json::parse(R"({"unreplied":5,"replied":6})"));
  EXPECT_TRUE(policies[0]["timeouts"]["tcp"].contains("established"));
}

TEST_F(ApiServerTest, FlowsRulesPorts) {
  const json flows = get("/v1/flows");
  ASSERT_EQ(flows.size(), 2u);
  EXPECT_EQ(flows[0]["actions"], "ct(zone=0,nat),recirc(0x1)");
  EXPECT_EQ(flows[0]["used_s"], 0.12);
  EXPECT_TRUE(flows[1]["used_s"].is_null()) << "never";
  EXPECT_EQ(get("/v1/rules")[1], json::parse(R"~({"text":"table=0,priority=70,ip actions=ct(table=1,zone=0,nat)",
                                                 "cookie":"0x5","n_packets":11,"n_bytes":2304})~"));
  const json ports = get("/v1/ports");
  EXPECT_EQ(ports[0], json::parse(R"({"port":1,"name":"lan0","ifindex":7,"mode":"routed","mtu":1500,
      "mac":"02:00:00:00:00:00","addresses":["10.1.0.1","fd00:1::1"],"forwarding":{"ipv4":true,"ipv6":false},
      "rpfilter":"off"})"));
  EXPECT_FALSE(ports[1].contains("mac")) << "a device without Ethernet header";
}

TEST_F(ApiServerTest, StatsHaveEveryReasonAndTheTotals) {
  const json stats = get("/v1/stats");
  EXPECT_EQ(stats["total"]["rx_packets"], 1205);
  EXPECT_EQ(stats["total"]["drops"]["policy"], 4);
  EXPECT_EQ(stats["total"]["drops"].size(), static_cast<std::size_t>(CTD_DROP_COUNT - 1)) << "all but `none`";
  EXPECT_EQ(stats["ports"][0]["counters"]["fast_hit"], 1100);
  EXPECT_EQ(stats["connections"], json::parse(R"({"unanswered":0,"answered":1,"assured":1})"));
  const json& table = stats["conntrack"];
  EXPECT_EQ(table["capacity"], json::parse(R"({"total":4096,"ipv4":4096,"ipv6":1000})"));
  EXPECT_EQ(table["fill_percent"], 75);
  EXPECT_EQ(table["timeouts_percent"], json::parse(R"({"ipv4":50.0,"ipv6":100.0})"));
  EXPECT_EQ(table["classes"]["ipv4"]["answered"],
            json::parse(R"({"connections":7,"quota":2048,"source_share":128,"sources_over_share":0})"));
  EXPECT_EQ(table["refused"], 2);
  EXPECT_EQ(table["ended"]["evicted"], 12);
  EXPECT_EQ(table["invalid"]["tcp_flags"], 9);
  EXPECT_FALSE(table["ended"].contains("none"));
}

TEST_F(ApiServerTest, Metrics) {
  const httplib::Result result = client().Get("/metrics");
  ASSERT_TRUE(result);
  EXPECT_THAT(result->get_header_value("Content-Type"), HasSubstr("version=0.0.4"));
  for (const char* line :
       {"ctd_receive_packets_total{port=\"lan0\"} 1200\n", "ctd_receive_bytes_total{port=\"lan0\"} 1234567\n",
        "ctd_drops_total{port=\"LOCAL\",reason=\"ct_full\"} 2\n", "# TYPE ctd_drops_total counter\n",
        "ctd_fast_hit_total{port=\"lan0\"} 1100\n", "ctd_connections{class=\"assured\"} 1\n",
        "ctd_connection_capacity 4096\n", "ctd_connection_family_capacity{family=\"ipv6\"} 1000\n",
        "ctd_connection_quota{class=\"answered\",family=\"ipv4\"} 2048\n", "ctd_connection_memory_bytes 6291456\n",
        "ctd_connection_timeout_ratio{family=\"ipv4\"} 0.5\n", "ctd_connections_ended_total{reason=\"evicted\"} 12\n",
        "ctd_invalid_packets_total{reason=\"tcp_flags\"} 9\n"})
    EXPECT_THAT(result->body, HasSubstr(line));
}

TEST_F(ApiServerTest, AFailureOfTheBackendIsToldToTheClient) {
  backend.broken = true;
  const httplib::Result result = client().Get("/v1/conntrack");
  ASSERT_TRUE(result);
  EXPECT_EQ(result->status, 500);
  EXPECT_EQ(json::parse(result->body)["error"], "credit counters: the program did not run");
}

TEST_F(ApiServerTest, RefusalsAreJson) {
  const auto refused = [](const httplib::Result& result, int status, const char* why) {
    ASSERT_TRUE(result) << httplib::to_string(result.error());
    EXPECT_EQ(result->status, status);
    EXPECT_THAT(json::parse(result->body).at("error").get<std::string>(), HasSubstr(why));
  };
  refused(client().Get("/v2/status"), 404, "no such resource");
  refused(client().Put("/v1/conntrack"), 404, "PUT /v1/conntrack");
  refused(client().Get("/v1/flows?zone=5"), 400, "unknown parameter \"zone\"");
  refused(client().Post("/v1/shutdown", std::string(100'000, 'x'), "text/plain"), 413, "too large");
  EXPECT_EQ(backend.shutdowns, 0);
}

TEST_F(ApiServerTest, ShutdownAsksTheBackend) {
  const httplib::Result result = client().Post("/v1/shutdown");
  ASSERT_TRUE(result);
  EXPECT_EQ(result->status, 202);
  EXPECT_EQ(json::parse(result->body)["pid"], getpid());
  EXPECT_EQ(backend.shutdowns, 1);
}

TEST_F(ApiServerTest, AnEndlessHeaderIsCutOff) {
  RawClient raw(path);
  const std::string junk(4096, 'x');
  std::size_t sent = 0;
  constexpr std::size_t kFarTooMuch = 16 << 20;
  for (ssize_t n; sent < kFarTooMuch && (n = raw.send(junk)) > 0;) sent += static_cast<std::size_t>(n);
  EXPECT_LT(sent, kFarTooMuch);
  EXPECT_EQ(get("/v1/conntrack/count")["count"], 2) << "and the server goes on";
}

TEST_F(ApiServerTest, ASecondServerIsRefusedAndHarmsNothing) {
  const auto second = start();
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code(), EADDRINUSE);
  EXPECT_THAT(second.error().message(), HasSubstr(path));
  EXPECT_EQ(get("/v1/conntrack/count")["count"], 2);
}

TEST_F(ApiServerTest, StoppingRemovesTheSocketAndItsFolder) {
  server.reset();
  EXPECT_FALSE(std::filesystem::exists(folder.path() + "/default"));
  server = start().value();
  std::ofstream(folder.path() + "/default/other") << "mine";
  server.reset();
  EXPECT_FALSE(std::filesystem::exists(path));
  EXPECT_TRUE(std::filesystem::exists(folder.path() + "/default/other"));
}

TEST_F(ApiServerTest, StoppingDoesNotWaitForClients) {
  fill();
  RawClient idle(path);
  RawClient half(path);
  ASSERT_GT(half.send("GET /v1/status HT"), 0);
  RawClient pager(path);
  ASSERT_GT(pager.send("GET /v1/conntrack HTTP/1.1\r\nHost: x\r\n\r\n"), 0);
  ASSERT_FALSE(pager.read_some().empty()) << "the dump has begun";
  server.reset();  // would wait for all of the dump to be read
  EXPECT_THAT(pager.read_all(), testing::Not(HasSubstr("\"complete\""))) << "a reader can tell that it was cut off";
}

class ApiSocketTest : public testing::Test {
 protected:
  TempFolder folder;
  FakeBackend backend;
  const std::string instance = folder.path() + "/default";
  const std::string path = instance + "/ctd.sock";

  Result<std::unique_ptr<ApiServer>> start() { return ApiServer::start(backend, {folder.path(), "default"}); }
};

TEST_F(ApiSocketTest, AStaleSocketIsReplaced) {
  std::filesystem::create_directory(instance);
  chmod(instance.c_str(), 0777);
  const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  ASSERT_EQ(bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  close(fd);  // leaves the file, as kill -9 does
  ASSERT_TRUE(std::filesystem::exists(path));
  const auto server = start();
  ASSERT_TRUE(server) << server.error().message();
  EXPECT_EQ(mode_of(instance), 0700u) << "tightened";
}

TEST_F(ApiSocketTest, AFileInTheWayStays) {
  std::filesystem::create_directory(instance);
  std::ofstream(path) << "precious";
  const auto server = start();
  ASSERT_FALSE(server);
  EXPECT_THAT(server.error().message(), HasSubstr("not a socket"));
  EXPECT_TRUE(std::filesystem::exists(path));
}

TEST_F(ApiSocketTest, AFileInPlaceOfTheFolder) {
  std::ofstream(instance) << "precious";
  const auto server = start();
  ASSERT_FALSE(server);
  EXPECT_THAT(server.error().message(), HasSubstr("not a folder"));
}

TEST_F(ApiSocketTest, MissingParentsAreMade) {
  const auto server = ApiServer::start(backend, {folder.path() + "/a/b", "gw1"});
  ASSERT_TRUE(server) << server.error().message();
  EXPECT_EQ((*server)->socket_path(), folder.path() + "/a/b/gw1/ctd.sock");
}

TEST_F(ApiSocketTest, ABadInstanceNameMakesNothing) {
  ASSERT_FALSE(ApiServer::start(backend, {folder.path(), "../x"}));
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

}  // namespace
}  // namespace ctd
