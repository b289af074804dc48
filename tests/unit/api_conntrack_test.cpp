// SPDX-License-Identifier: Apache-2.0
// /v1/conntrack of the control API, and the verbs of ctctl that use it.
#include "daemon/api_conntrack.hpp"

#include <fstream>
#include <sstream>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include "api_fake_backend.hpp"
#include "cli/app.hpp"
#include "conn_schema.hpp"
#include "daemon/api.hpp"

namespace ctd {
namespace {

using namespace test;
using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

class ConntrackApiTest : public testing::Test {
 protected:
  void SetUp() override {
    backend.table.add(masqueraded_conn());
    backend.table.add(ping_conn());
    backend.table.add(udp6_conn());
    server = ApiServer::start(backend, {folder.path(), "default"}).value();
  }
  httplib::Client client() const {
    httplib::Client http(folder.path() + "/default/ctd.sock", 1);
    http.set_address_family(AF_UNIX);
    return http;
  }
  std::vector<std::string> protos(const std::string& query) {
    const httplib::Result result = client().Get("/v1/conntrack" + query);
    EXPECT_EQ(result->status, 200) << result->body;
    std::istringstream lines(result->body);
    std::vector<std::string> found;
    for (std::string line; std::getline(lines, line);)
      if (const json object = json::parse(line); object.contains("proto")) found.push_back(object["proto"]);
    return found;
  }
  std::string error(const httplib::Result& result, int status) {
    EXPECT_EQ(result->status, status) << result->body;
    return json::parse(result->body).value("error", "");
  }

  struct Outcome {
    int code;
    std::string out, err;
  };
  Outcome ctctl(std::vector<std::string> args) {
    args.insert(args.begin(), {"ctctl", "--rundir", folder.path(), "conntrack"});
    std::vector<const char*> argv;
    for (const std::string& arg : args) argv.push_back(arg.c_str());
    const int fd = memfd_create("out", MFD_CLOEXEC);
    testing::internal::CaptureStderr();
    const int code = run_ctctl(static_cast<int>(argv.size()), argv.data(), fd);
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
  std::unique_ptr<ApiServer> server;
};

TEST_F(ConntrackApiTest, AFilteredDump) {
  EXPECT_THAT(protos(""), ElementsAre("tcp", "icmp", "udp"));
  EXPECT_THAT(protos("?proto=tcp"), ElementsAre("tcp"));
  EXPECT_THAT(protos("?orig-src=10.0.0.0%2F8"), ElementsAre("tcp", "icmp"));
  EXPECT_THAT(protos("?src-nat&state=REPLIED"), ElementsAre("icmp"));
  EXPECT_THAT(protos("?family=ipv6&dport=50-60"), ElementsAre("udp"));
  EXPECT_THAT(protos("?zone=9"), ElementsAre());
  EXPECT_EQ(backend.look_ups, 0);
}

TEST_F(ConntrackApiTest, AWholeTupleIsLookedUp) {
  EXPECT_THAT(protos("?proto=tcp&orig-src=10.1.0.2&orig-dst=10.0.2.2&sport=40312&dport=80&zone=0"), ElementsAre("tcp"));
  EXPECT_EQ(backend.look_ups, 1);
  EXPECT_THAT(protos("?proto=tcp&orig-src=10.1.0.2&orig-dst=10.0.2.2&sport=40313&dport=80&zone=0"), ElementsAre());
  EXPECT_EQ(backend.look_ups, 2);
  EXPECT_THAT(protos("?proto=tcp&orig-src=10.1.0.2&orig-dst=10.0.2.2&sport=40312&dport=80&zone=0&mark=7"),
              ElementsAre())
      << "the other terms hold as well";
}

// Millions of others' verdicts are none of its business.
TEST_F(ConntrackApiTest, ALookUpCreditsWhatItFindsAlone) {
  protos("?proto=tcp");
  EXPECT_EQ(backend.credits, 1) << "of the whole table";
  backend.credits = 0;
  const uint64_t tcp = unique_conn_id(backend.table.record(1)), udp = unique_conn_id(backend.table.record(3));
  protos("?proto=tcp&orig-src=10.1.0.2&orig-dst=10.0.2.2&sport=40312&dport=80&zone=0");
  EXPECT_THAT(backend.credited, ElementsAre(tcp));
  EXPECT_EQ(client().Get("/v1/conntrack/entry?id=" + std::to_string(udp))->status, 200);
  EXPECT_THAT(backend.credited, ElementsAre(udp));
  EXPECT_THAT(protos(fmt::format("?id={},{},99", tcp, udp)), ElementsAre("tcp", "udp"));
  EXPECT_THAT(backend.credited, ElementsAre(tcp, udp));
  EXPECT_EQ(backend.credits, 0);
}

TEST_F(ConntrackApiTest, APingsCodeMayBeAny) {
  ctd_conn ping = ping_conn();
  ping.orig.dport = htons(8 << 8 | 3);
  ping.reply.dport = htons(3);
  backend.table.add(ping);
  const std::string query = "?proto=icmp&orig-src=10.1.0.2&orig-dst=10.0.2.2&icmp-type=8&icmp-id=3311&zone=0";
  EXPECT_THAT(protos(query), ElementsAre("icmp", "icmp"));
  EXPECT_EQ(json::parse(client().Get("/v1/conntrack/entry" + query)->body)["orig"]["code"], 0) << "one: the plain one";
  EXPECT_EQ(json::parse(client().Get("/v1/conntrack/entry" + query + "&icmp-code=3")->body)["orig"]["code"], 3);
  EXPECT_EQ(client().Delete("/v1/conntrack" + query)->body, "{\"deleted\":2}\n");
}

TEST_F(ConntrackApiTest, GreByItsKeys) {
  ctd_conn gre = tcp_conn();
  gre.orig = tuple(IPPROTO_GRE, {"10.1.0.2", 0}, {"10.0.2.2", 9});
  gre.reply = tuple(IPPROTO_GRE, {"10.0.2.2", 9}, {"10.1.0.2", 0});
  backend.table.add(gre);
  gre.orig.dport = gre.reply.sport = 0;
  backend.table.add(gre);
  EXPECT_THAT(protos("?dstkey=9"), ElementsAre("gre"));
  const auto key = [&](std::vector<std::string> more) {
    std::vector<std::string> args{"get", "-p", "gre", "-s", "10.1.0.2", "-d", "10.0.2.2"};
    args.insert(args.end(), more.begin(), more.end());
    return json::parse(output(args))["orig"]["dstkey"];
  };
  EXPECT_EQ(key({}), 0);
  EXPECT_EQ(key({"--dstkey", "9"}), 9);
  EXPECT_THAT(output({"insert", "-p", "gre", "-s", "10.1.0.2", "-d", "10.0.2.2", "--srckey", "5", "-t", "60"}),
              HasSubstr("1 connection inserted"));
  EXPECT_EQ(backend.table.record(6).reply.dport, htons(5));
}

TEST_F(ConntrackApiTest, ClassAndPolicy) {
  backend.table.record(1).timeout_policy = 3;
  EXPECT_THAT(protos("?class=assured"), ElementsAre("tcp"));
  EXPECT_THAT(protos("?class=unanswered,answered"), ElementsAre("icmp", "udp"));
  EXPECT_THAT(protos("?policy=quick"), ElementsAre("tcp"));
  EXPECT_EQ(output({"count", "--policy", "default", "--class", "answered"}), "1\n");
  EXPECT_THAT(error(client().Get("/v1/conntrack?policy=slow"), 400),
              HasSubstr("policy: \"slow\": no such policy, there are default, quick"));
}

TEST_F(ConntrackApiTest, GetInEveryFormat) {
  const auto get = [&](const char* format) {
    return output(
        {"get", "-p", "tcp", "-s", "10.1.0.2", "-d", "10.0.2.2", "--sport", "40312", "--dport", "80", "-o", format});
  };
  EXPECT_EQ(get("table"), R"(
PROTO  STATE        ORIGINAL                       TRANSLATED             PACKETS     BYTES  EXPIRES  NOTES
tcp    ESTABLISHED  10.1.0.2:40312 -> 10.0.2.2:80  src -> 10.0.2.1:40312      6/5  412/1.9k    2h03m  assured
)" + 1);
  EXPECT_EQ(get("ndjson"), get("json"));
  EXPECT_EQ(json::parse(get("json"))["proto"], "tcp");
  EXPECT_THAT(get("conntrack"), testing::StartsWith("tcp      6 7431 ESTABLISHED src=10.1.0.2"));
  EXPECT_THAT(get("dpctl"), testing::StartsWith("tcp,orig=(src=10.1.0.2"));
}

TEST_F(ConntrackApiTest, WhoIsBusyHoldsUpNoOther) {
  backend.busy = unique_conn_id(backend.table.record(2));
  EXPECT_THAT(error(client().Delete("/v1/conntrack"), 500), HasSubstr("1 of 3 connections stayed in use"));
  EXPECT_EQ(backend.table.view().count(), 1u);

  constexpr uint32_t kBatches = 20'000;  // more than two of the API's
  FakeBackend large(kBatches);
  while (large.table.rt().high_water < kBatches) large.table.add(udp6_conn());
  large.busy = unique_conn_id(large.table.record(7));
  const TempFolder other;
  const auto its_server = ApiServer::start(large, {other.path(), "default"}).value();
  httplib::Client http(other.path() + "/default/ctd.sock", 1);
  http.set_address_family(AF_UNIX);
  EXPECT_THAT(error(http.Delete("/v1/conntrack"), 500), HasSubstr("stayed in use"));
  EXPECT_EQ(large.table.view().count(), 1u) << "the batches after its own as well";
}

TEST_F(ConntrackApiTest, Get) {
  const httplib::Result found = client().Get(
      "/v1/conntrack/entry?proto=tcp&reply-src=10.0.2.2&reply-dst=10.0.2.1&reply-sport=80&reply-dport=40312");
  ASSERT_EQ(found->status, 200) << found->body;
  const json conn = json::parse(found->body);
  EXPECT_THAT(schema_errors(conn), testing::IsEmpty());
  EXPECT_EQ(conn["orig"]["sport"], 40312);
  const std::string id = conn["id"];
  EXPECT_EQ(json::parse(client().Get("/v1/conntrack/entry?id=" + id)->body)["proto"], "tcp");
  EXPECT_THAT(error(client().Get("/v1/conntrack/entry?id=99"), 404), HasSubstr("no such connection"));
  EXPECT_THAT(error(client().Get("/v1/conntrack/entry?proto=tcp"), 400), HasSubstr("a whole tuple: proto, and source"));
}

TEST_F(ConntrackApiTest, WrongParametersAreTold) {
  EXPECT_THAT(error(client().Get("/v1/conntrack?proto=tpc"), 400), HasSubstr("proto: \"tpc\": expected a protocol"));
  EXPECT_THAT(error(client().Get("/v1/conntrack?colour=red"), 400), HasSubstr("\"colour\" is no field"));
  EXPECT_THAT(error(client().Get("/v1/conntrack?format=xml"), 400), HasSubstr("format: \"xml\": expected json, saved"));
  EXPECT_THAT(error(client().Delete("/v1/conntrack?zone=1&zone=2"), 400), HasSubstr("zone: given twice"));
  EXPECT_THAT(error(client().Get("/v1/conntrack/count?format=json"), 400), HasSubstr("\"format\" is no field"));
  EXPECT_THAT(error(client().Get("/v1/flows?zone=1"), 400), HasSubstr("takes none"));
  EXPECT_EQ(backend.table.view().count(), 3u) << "nothing was done";
}

TEST_F(ConntrackApiTest, CountAndDeleteByFilter) {
  EXPECT_EQ(client().Get("/v1/conntrack/count?src-nat")->body, "{\"count\":2}\n");
  EXPECT_EQ(client().Delete("/v1/conntrack?proto=icmp")->body, "{\"deleted\":1}\n");
  EXPECT_EQ(backend.reason, CTD_END_DELETED);
  EXPECT_EQ(backend.table.view().count(), 2u);
  EXPECT_EQ(client().Delete("/v1/conntrack")->body, "{\"deleted\":2}\n");
  EXPECT_EQ(backend.reason, CTD_END_FLUSHED);
}

TEST_F(ConntrackApiTest, Update) {
  const auto patch = [&](const std::string& body) {
    return client().Patch("/v1/conntrack?proto=tcp", body, "application/json");
  };
  EXPECT_EQ(patch(R"({"mark":"0x5/0xf","label":"0x10","timeout_s":60})")->body, "{\"updated\":1}\n");
  EXPECT_EQ(backend.updated.mark->value.low, 5u);
  EXPECT_EQ(backend.updated.mark->mask.low, 0xfu);
  EXPECT_EQ(backend.updated.label->mask.high, ~0ull);
  EXPECT_EQ(backend.updated.timeout_s, 60u);
  EXPECT_EQ(patch(R"({"mark":7})")->status, 200) << "a number too";
  EXPECT_THAT(error(patch(""), 400), HasSubstr("expected a JSON object with mark, label or timeout_s"));
  EXPECT_THAT(error(patch("{}"), 400), HasSubstr("expected a JSON object"));
  EXPECT_THAT(error(patch(R"({"mark":"x"})"), 400), HasSubstr("mark: \"x\": expected a number of 32 bits"));
  EXPECT_THAT(error(patch(R"({"timeout_s":-1})"), 400), HasSubstr("timeout_s: -1: expected seconds"));
  EXPECT_THAT(error(patch(R"({"state":"NONE"})"), 400), HasSubstr("\"state\": only mark, label and timeout_s"));
}

TEST_F(ConntrackApiTest, InsertTellsEachLine) {
  const std::string dump = client().Get("/v1/conntrack?format=saved&proto=tcp")->body;
  std::string line = dump.substr(dump.find('\n') + 1);
  line.resize(line.find('\n') + 1);
  std::string other = line;
  for (std::size_t at; (at = other.find("40312")) != std::string::npos;) other.replace(at, 5, "40999");
  const httplib::Result result =
      client().Post("/v1/conntrack", line + "{\"proto\":7}\n\n" + other, "application/x-ndjson");
  EXPECT_EQ(json::parse(result->body), json::parse(R"({"inserted":1,"existing":1,
                            "refused":[{"line":2,"error":"proto: expected a protocol, not 7"}]})"));
  EXPECT_EQ(backend.table.view().count(), 4u);
  EXPECT_EQ(CTD_CTL_CLASS(backend.table.record(4).ctl), CTD_CLASS_ASSURED);
}

TEST_F(ConntrackApiTest, TheCommandLineSaysTheSame) {
  EXPECT_EQ(output({"count", "-p", "tcp", "--dport", "80", "--state", "ESTABLISHED", "-u", "ASSURED"}), "1\n");
  EXPECT_EQ(output({"count", "--src-nat"}), "2\n");
  EXPECT_EQ(output({"count", "--src-nat", "10.0.2.0/24"}), "2\n");
  EXPECT_EQ(output({"count", "-n", "10.0.9.0/24"}), "0\n");
  EXPECT_EQ(output({"count", "-s", "10.1.0.0/16", "-w", "0", "--mark", "0/0xff", "--no-nat"}), "0\n");
  EXPECT_THAT(output({"dump", "-f", "ipv6"}), HasSubstr("1 connection on "));
  EXPECT_EQ(output({"dump", "-p", "udp", "-o", "dpctl"}),
            "udp,orig=(src=fd00:1::2,dst=2001:db8::35,sport=5353,dport=53),"
            "reply=(src=2001:db8::35,dst=fd00:1::2,sport=53,dport=5353)\n");
  EXPECT_THAT(output({"dump", "-o", "conntrack"}), testing::StartsWith("tcp      6 "));
  EXPECT_EQ(json::parse(output({"get", "-p", "icmp", "-s", "10.1.0.2", "-d", "10.0.2.2", "--icmp-type", "8",
                                "--icmp-id", "3311"}))["proto"],
            "icmp");
  EXPECT_EQ(output({"update", "-p", "tcp", "--set-mark", "5/0xf"}), "1 connection updated\n");
  EXPECT_EQ(output({"delete", "--any-nat"}), "2 connections deleted\n");
}

TEST_F(ConntrackApiTest, WrongCommandLines) {
  const Outcome wrong = ctctl({"dump", "--dport", "http"});
  EXPECT_EQ(wrong.code, kExitUsage);
  EXPECT_THAT(wrong.err, HasSubstr("dport: \"http\": expected a port"));
  EXPECT_THAT(ctctl({"delete"}).err, HasSubstr("which connections?"));
  EXPECT_THAT(ctctl({"update", "-p", "tcp"}).err, HasSubstr("nothing to change"));
  EXPECT_THAT(ctctl({"get", "-p", "tcp"}).err, HasSubstr("a whole tuple"));
  EXPECT_EQ(backend.table.view().count(), 3u);
}

TEST_F(ConntrackApiTest, InsertByCommandLine) {
  EXPECT_EQ(output({"insert",
                    "-p",
                    "tcp",
                    "-s",
                    "10.1.0.9",
                    "-d",
                    "10.0.2.2",
                    "--sport",
                    "5000",
                    "--dport",
                    "80",
                    "--reply-dst",
                    "10.0.2.1",
                    "--state",
                    "ESTABLISHED",
                    "-u",
                    "ASSURED,SEEN_REPLY",
                    "-t",
                    "60",
                    "-m",
                    "7"}),
            "1 connection inserted\n");
  const ctd_conn& made = backend.table.record(4);
  EXPECT_EQ(made.mark, 7u);
  const ctd_tuple reply = tuple(IPPROTO_TCP, {"10.0.2.2", 80}, {"10.0.2.1", 5000});
  EXPECT_EQ(std::memcmp(&made.reply, &reply, sizeof(reply)), 0);
  EXPECT_THAT(ctctl({"insert", "-p", "tcp", "-s", "10.1.0.9", "-d", "10.0.2.2", "--sport", "5000", "--dport", "80",
                     "--state", "ESTABLISHED", "-t", "60"})
                  .err,
              HasSubstr("exists"));
  EXPECT_THAT(ctctl({"insert", "-p", "tcp", "-t", "60"}).err, HasSubstr("orig.src: expected an address"));
  EXPECT_THAT(ctctl({"insert", "-p", "tcp", "--expires", "5", "-t", "60"}).err, HasSubstr("cannot be said"));
}

TEST_F(ConntrackApiTest, SaveAndRestore) {
  const std::string file = folder.path() + "/table.ndjson";
  const auto members = [&] {
    std::vector<json> all;
    for (json conn : json::parse(output({"dump", "-o", "json"}))) {
      conn.erase("id");
      conn.erase("time");
      all.push_back(conn);
    }
    return all;
  };
  const std::vector<json> before = members();
  EXPECT_EQ(output({"save", file}), "3 connections saved\n");
  EXPECT_EQ(output({"restore", file}), "0 connections restored, 3 existed, 0 refused\n");
  backend.table.clear();
  for (uint32_t id = 1; id <= 3; ++id) backend.table.record(id).orig = backend.table.record(id).reply = {};
  EXPECT_EQ(output({"restore", file}), "3 connections restored, 0 existed, 0 refused\n");
  EXPECT_EQ(members(), before);
}

TEST_F(ConntrackApiTest, APolicyIsSavedByNameAndLookedUpAgain) {
  const std::string file = folder.path() + "/table.ndjson";
  backend.table.record(1).timeout_policy = 3;
  output({"save", file, "-p", "tcp"});
  std::ostringstream text;
  text << std::ifstream(file).rdbuf();
  EXPECT_THAT(text.str(), HasSubstr("\"policy\":\"quick\""));
  backend.table.clear();
  backend.table.record(1).orig = backend.table.record(1).reply = {};
  backend.policy_list = {"default", "quick"};
  EXPECT_THAT(output({"restore", file}), HasSubstr("1 connection restored"));
  EXPECT_EQ(backend.table.record(4).timeout_policy, 1u) << "its number here";
  backend.policy_list = {"default", "slow"};
  const Outcome refused = ctctl({"restore", file});
  EXPECT_EQ(refused.code, kExitFailure);
  EXPECT_THAT(refused.err,
              HasSubstr("line 2: track.policy: \"quick\": no such timeout policy, there are default, slow"));
}

TEST_F(ConntrackApiTest, WhyAnInsertionIsRefused) {
  constexpr char kLine[] =
      R"({"proto":"udp","timeout_s":30,"orig":{"src":"10.1.0.2","dst":"10.0.2.2","sport":5353,"dport":53}})";
  for (const auto& [result, why] :
       {std::pair{Inserted::kFull, "the table has no room for it"}, {Inserted::kLimit, "its zone is at its limit"}}) {
    backend.refuse_all = result;
    EXPECT_EQ(json::parse(client().Post("/v1/conntrack", kLine, "application/x-ndjson")->body)["refused"][0]["error"],
              why);
  }
}

TEST_F(ConntrackApiTest, RestoreOfAWrongFile) {
  const std::string file = folder.path() + "/table.ndjson";
  const auto restore = [&](const std::string& text) {
    std::ofstream(file) << text;
    return ctctl({"restore", file});
  };
  output({"save", file});
  std::ostringstream text;
  text << std::ifstream(file).rdbuf();
  std::string saved = text.str();

  EXPECT_THAT(restore("{\"proto\":\"tcp\"}\n").err, HasSubstr("line 1: no dump of a connection table"));
  EXPECT_THAT(restore(saved.substr(0, saved.rfind("{\"count\""))).err, HasSubstr("ends too early"));
  saved.replace(saved.find("\"sport\":40312"), 13, "\"sport\":99999");
  const Outcome outcome = restore(saved);
  EXPECT_EQ(outcome.code, kExitFailure);
  EXPECT_THAT(outcome.err, HasSubstr("table.ndjson: line 2: orig.sport: expected a number from 0 to 65535"));
  EXPECT_EQ(outcome.out, "0 connections restored, 2 existed, 1 refused\n");
  EXPECT_THAT(ctctl({"restore", folder.path() + "/none"}).err, HasSubstr("No such file"));
}

}  // namespace
}  // namespace ctd
