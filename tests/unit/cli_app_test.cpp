// SPDX-License-Identifier: Apache-2.0
// ctctl as a whole, against a server with a fake backend.
#include "cli/app.hpp"

#include <csignal>
#include <string>
#include <vector>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "api_fake_backend.hpp"
#include "conn_schema.hpp"
#include "daemon/api.hpp"

namespace ctd {
namespace {

using namespace test;
using nlohmann::json;
using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

struct Outcome {
  int code;
  std::string out;
  std::string err;
};

Outcome ctctl_to(int out_fd, std::vector<const char*> args) {
  args.insert(args.begin(), "ctctl");
  testing::internal::CaptureStderr();
  testing::internal::CaptureStdout();  // help goes there, not to out_fd
  const int code = run_ctctl(static_cast<int>(args.size()), args.data(), out_fd);
  const std::string help = testing::internal::GetCapturedStdout();
  return {code, help, testing::internal::GetCapturedStderr()};
}

std::string contents(int fd) {
  std::string text(static_cast<std::size_t>(lseek(fd, 0, SEEK_END)), '\0');
  EXPECT_EQ(pread(fd, text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
  return text;
}

class CtctlTest : public testing::Test {
 protected:
  void SetUp() override { std::signal(SIGPIPE, SIG_IGN); }

  void serve() {
    backend.table.add(masqueraded_conn());
    backend.table.add(ping_conn());
    backend.table.add(udp6_conn());
    server = ApiServer::start(backend, {folder.path(), "default"}).value();
  }

  Outcome ctctl(std::vector<const char*> args) {
    const int fd = memfd_create("out", MFD_CLOEXEC);
    args.insert(args.begin(), {"--rundir", folder.path().c_str()});
    Outcome outcome = ctctl_to(fd, std::move(args));
    outcome.out += contents(fd);
    close(fd);
    return outcome;
  }
  std::string output(std::vector<const char*> args) {
    const Outcome outcome = ctctl(std::move(args));
    EXPECT_EQ(outcome.code, kExitOk) << outcome.err;
    EXPECT_EQ(outcome.err, "");
    return outcome.out;
  }

  TempFolder folder;
  FakeBackend backend{20'000};
  std::unique_ptr<ApiServer> server;
};

TEST_F(CtctlTest, DumpAsTable) {
  serve();
  EXPECT_THAT(output({"conntrack", "dump"}), StartsWith(R"(
PROTO  STATE        ORIGINAL                               TRANSLATED             PACKETS     BYTES  EXPIRES  NOTES
tcp    ESTABLISHED  10.1.0.2:40312 -> 10.0.2.2:80          src -> 10.0.2.1:40312      6/5  412/1.9k    2h03m  assured
icmp   REPLIED      10.1.0.2 -> 10.0.2.2 id 3311           src -> 10.0.2.1:3311       6/5  412/1.9k      21s
udp    UNREPLIED    [fd00:1::2]:5353 -> [2001:db8::35]:53                             6/0     412/0      18s
3 connections on )" + 1));
}

TEST_F(CtctlTest, DumpAsJsonIsOneArrayThatFitsTheSchema) {
  serve();
  const json array = json::parse(output({"conntrack", "dump", "-o", "json"}));
  ASSERT_EQ(array.size(), 5u);
  for (const json& object : array) EXPECT_THAT(schema_errors(object), testing::IsEmpty()) << object;
  EXPECT_EQ(array.front()["schema"], "ctd.conntrack/1");
  EXPECT_EQ(array[1]["nat"]["src"], "10.0.2.1:40312");
  EXPECT_EQ(array.back(), json::parse(R"({"count":3,"complete":true})"));
}

TEST_F(CtctlTest, DumpAsNdjson) {
  serve();
  const std::string text = output({"conntrack", "dump", "--output", "ndjson"});
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 5);
  EXPECT_THAT(text, EndsWith("\n{\"count\":3,\"complete\":true}\n"));
}

TEST_F(CtctlTest, CountAndFlush) {
  serve();
  EXPECT_EQ(output({"conntrack", "count"}), "3\n");
  EXPECT_EQ(output({"conntrack", "flush"}), "3 connections deleted\n");
  EXPECT_EQ(output({"conntrack", "count"}), "0\n");
  EXPECT_THAT(output({"conntrack", "dump"}), HasSubstr("\n0 connections on "));
}

TEST_F(CtctlTest, FlowsAndRulesAsOpenVSwitchWritesThem) {
  serve();
  EXPECT_EQ(output({"flow", "dump"}),
            "recirc_id(0),in_port(1),eth_type(0x0800),ipv4(frag=no), packets:11, bytes:2304, used:0.120s, "
            "actions:ct(zone=0,nat),recirc(0x1)\n"
            "recirc_id(0),in_port(2),eth_type(0x0806), packets:0, bytes:0, used:never, actions:stack\n");
  EXPECT_EQ(output({"rule", "dump", "-o", "ofctl"}),
            " cookie=0x0, n_packets=4, n_bytes=168, table=0,priority=100,arp actions=stack\n"
            " cookie=0x5, n_packets=11, n_bytes=2304, table=0,priority=70,ip actions=ct(table=1,zone=0,nat)\n");
  EXPECT_EQ(json::parse(output({"flow", "dump", "-o", "json"})).size(), 2u);
  EXPECT_EQ(json::parse(output({"rule", "dump", "-o", "json"}))[1]["cookie"], "0x5");
}

TEST_F(CtctlTest, Ports) {
  serve();
  EXPECT_EQ(output({"port", "list"}), R"(
PORT  NAME  IFINDEX  MODE     MTU  MAC                FORWARDING  RPFILTER  ADDRESSES
   1  lan0        7  routed  1500  02:00:00:00:00:00  ipv4        off       10.1.0.1 fd00:1::1
   2  wan0        8  routed  1420  -                  off         strict    10.0.2.1
)" + 1);
}

TEST_F(CtctlTest, Zones) {
  serve();
  EXPECT_EQ(output({"zone", "list"}), R"(
   ZONE    LIMIT  COUNT  POLICY
default     none         default
      0  default      3  default
      5     1000     12  quick
)" + 1);
  EXPECT_EQ(output({"zone", "limit", "set", "0", "500"}), "zone 0: limit 500\n");
  EXPECT_EQ(output({"zone", "limit", "set", "default", "20"}), "zone default: limit 20\n");
  EXPECT_EQ(output({"zone", "limit", "del", "5"}), "zone 5: no limit of its own\n");
  const json table = json::parse(output({"zone", "list", "-o", "json"}));
  EXPECT_EQ(table["default_limit"], 20);
  EXPECT_EQ(table["zones"][0]["limit"], 500);
  EXPECT_EQ(table["zones"][1]["own_limit"], false);
  const Outcome wrong = ctctl({"zone", "limit", "set", "70000", "5"});
  EXPECT_EQ(wrong.code, kExitFailure);
  EXPECT_EQ(wrong.err, "ctctl: ctd: zone \"70000\": must be a number from 0 to 65535, or default\n");
}

TEST_F(CtctlTest, TimeoutPolicies) {
  serve();
  const std::string text = output({"timeout", "list"});
  EXPECT_THAT(text, StartsWith("quick: tcp_pickup false, tcp_liberal true, tcp_max_retrans 3\n  tcp      syn_sent 0"));
  EXPECT_THAT(text, HasSubstr("\n  udp      unreplied 5, replied 6\n"));
  EXPECT_EQ(json::parse(output({"timeout", "list", "-o", "json"}))[0]["name"], "quick");
}

TEST_F(CtctlTest, StatsShowWhatIsNotZero) {
  serve();
  const std::string text = output({"stats"});
  EXPECT_THAT(text, HasSubstr("lan0         1200   1234567           0         0\n"));
  EXPECT_THAT(text, HasSubstr("policy       4  lan0 3, LOCAL 1  a rule, or the absence of one, drops it\n"));
  EXPECT_THAT(text, HasSubstr("answered        7   2048     0    500\n"));
  EXPECT_THAT(text, HasSubstr("\n3072 of 4096 connections (75.0 %), 6.0 MiB; 12 evicted, 2 refused; "
                              "timeouts at 50.0 % (IPv4), 100.0 % (IPv6)\n"));
  EXPECT_THAT(text, HasSubstr("evicted     12  made room for another one of its class\n"));
  EXPECT_THAT(text, HasSubstr("tcp_flags      9  TCP flags that no TCP sends\n"));
  EXPECT_THAT(text, testing::Not(HasSubstr("forced")));
  EXPECT_THAT(text, testing::Not(HasSubstr("nat_exhausted")));
  EXPECT_THAT(output({"stats", "--all"}), HasSubstr("nat_exhausted"));
  EXPECT_EQ(json::parse(output({"stats", "-o", "json"}))["total"]["drops"]["policy"], 4);
}

TEST_F(CtctlTest, InstanceMayStandAfterTheVerb) {
  serve();
  EXPECT_EQ(output({"conntrack", "count", "--instance", "default"}), "3\n");
  const Outcome other = ctctl({"conntrack", "count", "--instance", "other"});
  EXPECT_EQ(other.code, kExitFailure);
  EXPECT_THAT(other.err, HasSubstr("/other/ctd.sock"));
}

TEST_F(CtctlTest, NoDaemonIsOneClearLine) {
  for (const char* format : {"table", "json"}) {
    const Outcome outcome = ctctl({"conntrack", "dump", "-o", format});
    EXPECT_EQ(outcome.code, kExitFailure);
    EXPECT_EQ(outcome.out, "");
    EXPECT_THAT(outcome.err,
                StartsWith("ctctl: no ctd answers on " + folder.path() + "/default/ctd.sock: is it running?"));
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1);
  }
  EXPECT_EQ(ctctl({"shutdown"}).code, kExitFailure);
}

TEST_F(CtctlTest, TheDaemonsErrorIsShown) {
  serve();
  backend.broken = true;
  const Outcome outcome = ctctl({"conntrack", "dump"});
  EXPECT_EQ(outcome.code, kExitFailure);
  EXPECT_EQ(outcome.err, "ctctl: ctd: credit counters: the program did not run\n");
}

TEST_F(CtctlTest, WrongUsage) {
  for (const std::vector<const char*>& args :
       std::vector<std::vector<const char*>>{{},
                                             {"conntrack"},
                                             {"conntrack", "explode"},
                                             {"conntrack", "dump", "-o", "xml"},
                                             {"conntrack", "count", "-o", "json"},
                                             {"stats", "extra"},
                                             {"zone", "limit", "set", "5"},
                                             {"zone", "limit", "set", "5", "x"},
                                             {"--instance", "../x", "stats"}}) {
    const Outcome outcome = ctctl(args);
    EXPECT_EQ(outcome.code, kExitUsage) << testing::PrintToString(args);
    EXPECT_NE(outcome.err, "");
  }
  EXPECT_EQ(ctctl({"--help"}).code, kExitOk);
  EXPECT_THAT(ctctl({"--version"}).out, StartsWith("ctctl "));
}

TEST_F(CtctlTest, AReaderThatHasSeenEnoughIsNoFailure) {
  serve();
  while (backend.table.rt().high_water < 20'000) backend.table.add(masqueraded_conn());
  for (const char* format : {"table", "json", "ndjson"}) {
    int pipe_fd[2];
    ASSERT_EQ(pipe(pipe_fd), 0);
    close(pipe_fd[0]);
    const std::string rundir = folder.path();
    const Outcome outcome = ctctl_to(pipe_fd[1], {"--rundir", rundir.c_str(), "conntrack", "dump", "-o", format});
    close(pipe_fd[1]);
    EXPECT_EQ(outcome.code, kExitOk) << format;
    EXPECT_EQ(outcome.err, "");
  }
}

TEST_F(CtctlTest, AFullDiskIsAFailure) {
  serve();
  const int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
  ASSERT_GE(full, 0);
  const Outcome outcome = ctctl_to(full, {"--rundir", folder.path().c_str(), "conntrack", "dump", "-o", "json"});
  close(full);
  EXPECT_EQ(outcome.code, kExitFailure);
  EXPECT_THAT(outcome.err, HasSubstr("No space left"));
}

class StoppableBackend : public FakeBackend {
 public:
  Result<> shutdown() override {
    eventfd_write(asked, 1);
    return {};
  }
  const int asked = eventfd(0, EFD_CLOEXEC);
};

// A process that serves until it is asked to shut down, and then takes a moment.
[[noreturn]] void serve_until_asked(const std::string& rundir, int ready) {
  StoppableBackend stoppable;
  auto started = ApiServer::start(stoppable, {rundir, "default"});
  if (!started) _exit(1);
  eventfd_write(ready, 1);
  eventfd_t value;
  eventfd_read(stoppable.asked, &value);
  started.value().reset();
  usleep(50'000);
  _exit(0);
}

TEST_F(CtctlTest, ShutdownReturnsWhenTheProcessHasGone) {
  const int ready = eventfd(0, EFD_CLOEXEC);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) serve_until_asked(folder.path(), ready);
  eventfd_t value;
  ASSERT_EQ(eventfd_read(ready, &value), 0);
  EXPECT_EQ(output({"shutdown"}), "ctd instance \"default\" is shut down\n");
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, WNOHANG), child) << "it still runs";
  EXPECT_EQ(status, 0);
  close(ready);
}

}  // namespace
}  // namespace ctd
