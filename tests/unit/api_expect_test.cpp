// SPDX-License-Identifier: Apache-2.0
// /v1/expectations of the control API, and `ctctl expect`, which uses it.
#include "daemon/api_expect.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include "api_fake_backend.hpp"
#include "cli/app.hpp"
#include "daemon/api.hpp"

namespace ctd {
namespace {

using namespace test;
using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class ExpectApiTest : public testing::Test {
 protected:
  void SetUp() override {
    for (ctd_conn conn : {masqueraded_conn(), tcp_conn()})
      masters.push_back(std::to_string(unique_conn_id(backend.table.add(conn))));
    server = ApiServer::start(backend, {folder.path(), "default"}).value();
  }
  httplib::Client client() const {
    httplib::Client http(folder.path() + "/default/ctd.sock", 1);
    http.set_address_family(AF_UNIX);
    return http;
  }
  std::vector<std::string> ids(const std::string& query = "") {
    const httplib::Result result = client().Get("/v1/expectations" + query);
    EXPECT_EQ(result->status, 200) << result->body;
    std::vector<std::string> found;
    for (const json& one : json::parse(result->body)) found.push_back(one["id"]);
    return found;
  }
  std::string error(const httplib::Result& result, int status) {
    EXPECT_EQ(result->status, status) << result->body;
    return json::parse(result->body).value("error", "");
  }
  httplib::Result post(const std::string& master, int port) {
    return client().Post("/v1/expectations",
                         json{{"master", master}, {"tuple", {{"dst", "10.0.2.1"}, {"dport", port}}}}.dump(),
                         "application/json");
  }

  struct Outcome {
    int code;
    std::string out, err;
  };
  Outcome ctctl(std::vector<std::string> args) {
    args.insert(args.begin(), {"ctctl", "--rundir", folder.path(), "expect"});
    std::vector<const char*> argv;
    for (const std::string& arg : args) argv.push_back(arg.c_str());
    const int fd = memfd_create("out", MFD_CLOEXEC);
    testing::internal::CaptureStderr();
    testing::internal::CaptureStdout();
    const int code = run_ctctl(static_cast<int>(argv.size()), argv.data(), fd);
    testing::internal::GetCapturedStdout();
    const std::string err = testing::internal::GetCapturedStderr();
    std::string out(static_cast<std::size_t>(lseek(fd, 0, SEEK_END)), '\0');
    EXPECT_EQ(pread(fd, out.data(), out.size(), 0), static_cast<ssize_t>(out.size()));
    close(fd);
    return {code, out, err};
  }
  std::string output(const std::vector<std::string>& args) {
    const Outcome outcome = ctctl(args);
    EXPECT_EQ(outcome.code, kExitOk) << outcome.err;
    return outcome.out;
  }

  TempFolder folder;
  FakeBackend backend;
  std::vector<std::string> masters;
  std::unique_ptr<ApiServer> server;
};

TEST_F(ExpectApiTest, AddListDelete) {
  const httplib::Result made = post(masters[0], 5000);
  ASSERT_EQ(made->status, 200) << made->body;
  EXPECT_EQ(json::parse(made->body)["nat"], json::parse(R"({"dst":"10.1.0.2"})"));
  EXPECT_EQ(json::parse(made->body)["timeout_s"], 300);
  post(masters[0], 5001);
  post(masters[1], 5002);
  EXPECT_THAT(ids(), ElementsAre("1", "2", "3"));
  EXPECT_THAT(ids("?master=" + masters[0]), ElementsAre("1", "2"));
  EXPECT_THAT(ids("?id=3"), ElementsAre("3"));
  EXPECT_THAT(ids("?id=3&master=" + masters[0]), IsEmpty());
  EXPECT_EQ(client().Delete("/v1/expectations?id=1")->body, "{\"deleted\":1}\n");
  EXPECT_EQ(client().Delete("/v1/expectations")->body, "{\"deleted\":2}\n");
  EXPECT_THAT(ids(), IsEmpty());
}

TEST_F(ExpectApiTest, WhatIsVoidIsNotListed) {
  post(masters[0], 5000);
  post(masters[1], 5001);
  backend.expects[0].expect.expires = static_cast<u32>(kNow);
  EXPECT_THAT(ids(), ElementsAre("2"));
  backend.table.record(2).ctl += 1 << 8;  // another connection
  EXPECT_THAT(ids(), IsEmpty());
}

TEST_F(ExpectApiTest, ErrorsAndTheirStatus) {
  EXPECT_THAT(error(post("77", 5000), 404), HasSubstr("master: \"77\": there is no such connection"));
  EXPECT_THAT(error(post("x", 5000), 400), HasSubstr("master: \"x\": expected the id of a connection"));
  EXPECT_THAT(error(post(masters[0], 70000), 400), HasSubstr("tuple.dport: expected a number from 0 to 65535"));
  post(masters[0], 5000);
  EXPECT_THAT(error(post(masters[1], 5000), 409), HasSubstr("another connection has announced the same"));
  EXPECT_THAT(error(client().Get("/v1/expectations?proto=tcp"), 400), HasSubstr("\"proto\": expected id or master"));
  EXPECT_THAT(error(client().Delete("/v1/expectations?id=-1"), 400), HasSubstr("id: \"-1\": expected a number"));
  EXPECT_THAT(error(client().Post("/v1/expectations?id=1"), 400), HasSubstr("without parameters"));
}

TEST_F(ExpectApiTest, Ctctl) {
  EXPECT_EQ(output({"list"}), "ID  MASTER  PROTO  SOURCE  DESTINATION  TRANSLATED  EXPIRES  NOTES\n");
  EXPECT_EQ(output({"add", "--master", masters[0], "--dst", "10.0.2.1", "--dport", "5000", "--src", "10.0.2.2"}),
            "expectation 1\n");
  EXPECT_EQ(
      json::parse(output({"add",    "--master", masters[0], "-p",          "udp", "--dst", "10.0.2.1", "--dport",
                          "5001",   "--sport",  "20",       "--zone",      "3",   "-t",    "9",        "--permanent",
                          "--snat", "10.0.0.1", "--dnat",   "10.0.0.2:80", "-o",  "json"}))["nat"],
      json::parse(R"({"src":"10.0.0.1","dst":"10.0.0.2:80"})"));
  const std::string list = output({"list"});
  EXPECT_THAT(list, HasSubstr("tcp    10.0.2.2  10.0.2.1:5000  dst -> 10.1.0.2"));
  EXPECT_THAT(list, HasSubstr("any:20    10.0.2.1:5001  src -> 10.0.0.1, dst -> 10.0.0.2:80"));
  EXPECT_THAT(list, HasSubstr("9s  permanent zone=3"));
  EXPECT_EQ(json::parse(output({"list", "--id", "2", "-o", "json"})).size(), 1u);
  EXPECT_EQ(output({"delete", "--master", masters[1]}), "0 expectations deleted\n");
  EXPECT_EQ(output({"delete", "--id", "1"}), "1 expectation deleted\n");
  EXPECT_EQ(output({"flush"}), "1 expectation deleted\n");
}

TEST_F(ExpectApiTest, WrongUsesOfCtctl) {
  const Outcome none = ctctl({"delete"});
  EXPECT_EQ(none.code, kExitFailure);
  EXPECT_THAT(none.err, HasSubstr("--id or --master is missing"));
  for (const auto& args : std::vector<std::vector<std::string>>{
           {"add"},
           {"add", "--master", "1"},
           {"add", "--master", "1", "--dst", "10.0.0.1", "--dport", "x"},
           {"add", "--master", "1", "--dst", "10.0.0.1", "--no-nat", "--snat", "10.0.0.1"}})
    EXPECT_EQ(ctctl(args).code, kExitUsage) << testing::PrintToString(args);
  EXPECT_EQ(ctctl({"add", "--master", "1", "--dst", "10.0.0.1", "--dport", "1"}).err,
            "ctctl: ctd: master: \"1\": there is no such connection\n");
}

}  // namespace
}  // namespace ctd
