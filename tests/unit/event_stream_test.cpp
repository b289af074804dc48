// SPDX-License-Identifier: Apache-2.0
// The stream of events from the API's socket to ctctl, with a fake backend as the source.
#include <csignal>
#include <fstream>
#include <future>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <httplib.h>
#include <unistd.h>

#include "api_fake_backend.hpp"
#include "cli/watch.hpp"
#include "conn_fixture.hpp"
#include "conn_schema.hpp"
#include "daemon/api.hpp"
#include "lib/event_json.hpp"

namespace ctd {
namespace {

using namespace test;
using nlohmann::json;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

ctd_event make_event(uint16_t what, const ctd_conn& conn = masqueraded_conn(), uint64_t seq = 5) {
  ctd_event event{};
  event.seq = seq;
  event.time = kNow - 2 * kHz;
  event.what = what;
  event.conn = conn;
  event.conn.id = 1;
  return event;
}

json event_json(const ctd_event& event) {
  fmt::memory_buffer out;
  append_event_json(out, event, clock_now());
  const json line = json::parse(fmt::to_string(out));
  EXPECT_THAT(schema_errors(line, "event.schema.json"), testing::IsEmpty()) << line;
  EXPECT_THAT(schema_errors(line.at("conn")), testing::IsEmpty()) << line;
  return line;
}

TEST(EventJson, NewUpdateDestroy) {
  const json begun = event_json(make_event(CTD_EVENT_NEW));
  EXPECT_EQ(begun["event"], "new");
  EXPECT_EQ(begun["seq"], 5);
  EXPECT_EQ(begun["time"], "2026-11-22T18:59:58.000Z");
  EXPECT_EQ(begun["conn"]["timeout_s"], 7440 - 7) << "counts from the event";
  EXPECT_EQ(event_json(make_event(CTD_EVENT_RELATED))["event"], "new");

  const json changed = event_json(make_event(CTD_EVENT_STATE | CTD_EVENT_ASSURED | CTD_EVENT_MARK));
  EXPECT_EQ(changed["event"], "update");
  EXPECT_THAT(changed["changed"], ElementsAre("assured", "state", "mark"));

  ctd_event end = make_event(CTD_EVENT_DESTROY);
  end.reason = CTD_END_TIMEOUT;
  const json ended = event_json(end);
  EXPECT_EQ(ended["event"], "destroy");
  EXPECT_EQ(ended["reason"], "timeout");
  EXPECT_EQ(ended["stop"], ended["time"]);
  EXPECT_EQ(ended["conn"]["start"], "2026-11-22T18:59:00.000Z");
  EXPECT_EQ(ended["conn"]["orig"]["packets"], 6);
}

TEST(EventJson, Names) {
  EXPECT_EQ(*parse_events("new"), CTD_EVENT_NEW | CTD_EVENT_RELATED);
  EXPECT_EQ(*parse_events("destroy,mark"), CTD_EVENT_DESTROY | CTD_EVENT_MARK);
  EXPECT_EQ(*parse_events("update"), CTD_EVENT_UPDATE);
  for (const char* wrong : {"", "new,", "gone", "new destroy"}) EXPECT_FALSE(parse_events(wrong)) << wrong;
}

class EventStreamTest : public testing::Test {
 protected:
  void SetUp() override { server = ApiServer::start(backend, {folder.path(), "default"}).value(); }

  // Runs until `until` says that it has seen enough of what has been read; the whole of it. A subscriber is there when
  // the future is returned.
  std::future<std::string> read(const std::string& parameters, std::function<bool(const std::string&)> until) {
    auto begun = std::make_shared<std::promise<void>>();
    auto started = begun->get_future();
    auto whole = std::async(std::launch::async, [this, parameters, until, begun] {
      httplib::Client http(server->socket_path(), 1);
      http.set_address_family(AF_UNIX);
      http.set_read_timeout(std::chrono::seconds(20));
      std::string text;
      http.Get("/v1/conntrack/events" + parameters, [&](const char* data, std::size_t size) {
        if (text.empty()) begun->set_value();
        text.append(data, size);
        return !until(text);
      });
      return text;
    });
    EXPECT_EQ(started.wait_for(std::chrono::seconds(20)), std::future_status::ready);
    return whole;
  }
  static std::vector<json> lines(const std::string& text) {
    std::vector<json> all;
    std::istringstream in(text);
    for (std::string line; std::getline(in, line);) {
      all.push_back(json::parse(line));
      EXPECT_THAT(schema_errors(all.back(), "event.schema.json"), testing::IsEmpty()) << line;
    }
    return all;
  }
  void publish(std::vector<ctd_event> events) { backend.events.publish(events); }

  TempFolder folder;
  FakeBackend backend;
  std::unique_ptr<ApiServer> server;
};

TEST_F(EventStreamTest, LinesAsTheyCome) {
  auto reading = read("", [](const std::string& text) { return text.find("\"lost\"") != std::string::npos; });
  publish({make_event(CTD_EVENT_NEW)});
  publish({make_event(CTD_EVENT_STATE), make_event(CTD_EVENT_DESTROY)});
  backend.events.lose(3);
  const auto got = lines(reading.get());
  ASSERT_EQ(got.size(), 5u);
  EXPECT_EQ(got[0]["schema"], "ctd.event/1");
  EXPECT_EQ(got[1]["event"], "new");
  EXPECT_EQ(got[2]["event"], "update");
  EXPECT_EQ(got[3]["event"], "destroy");
  EXPECT_EQ(got[4], (json{{"event", "lost"}, {"count", 3}, {"by", "datapath"}}));
}

TEST_F(EventStreamTest, OnlyWhatIsAskedFor) {
  auto reading = read("?events=destroy&proto=udp",
                      [](const std::string& text) { return text.find("\"destroy\"") != std::string::npos; });
  publish({make_event(CTD_EVENT_NEW, udp6_conn()), make_event(CTD_EVENT_DESTROY),
           make_event(CTD_EVENT_DESTROY, udp6_conn())});
  const auto got = lines(reading.get());
  ASSERT_EQ(got.size(), 2u);
  EXPECT_EQ(got[1]["conn"]["proto"], "udp");
}

TEST_F(EventStreamTest, WrongParametersAreRefused) {
  httplib::Client http(server->socket_path(), 1);
  http.set_address_family(AF_UNIX);
  for (const char* wrong : {"?events=gone", "?colour=blue", "?proto=frob"}) {
    const auto answer = http.Get(std::string("/v1/conntrack/events") + wrong);
    ASSERT_TRUE(answer) << wrong;
    EXPECT_EQ(answer->status, 400) << wrong;
    EXPECT_THAT(answer->body, HasSubstr("error"));
  }
}

TEST_F(EventStreamTest, AStopEndsItWithAWord) {
  auto reading = read("", [](const std::string&) { return false; });
  publish({make_event(CTD_EVENT_NEW)});
  server.reset();
  const auto got = lines(reading.get());
  ASSERT_EQ(got.size(), 3u);
  EXPECT_EQ(got[1]["event"], "new") << "what has come is still told";
  EXPECT_EQ(got[2]["event"], "end");
}

TEST_F(EventStreamTest, AReaderThatLeavesIsForgotten) {
  std::atomic<unsigned> wanted{0}, heard{0};
  backend.events.set_source([&](uint16_t bits) { heard |= wanted = bits; });
  auto reading = read("", [](const std::string&) { return true; });
  reading.get();
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (wanted != 0 && std::chrono::steady_clock::now() < until)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_EQ(heard, unsigned{CTD_EVENT_ALL});
  EXPECT_EQ(wanted, 0u) << "without an event that would have told";
  backend.events.set_source(nullptr);
}

class WatchTest : public EventStreamTest {
 protected:
  // A signal to the process is to be taken by none of the test's threads.
  void SetUp() override {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    pthread_sigmask(SIG_BLOCK, &set, &before_);
    EventStreamTest::SetUp();
  }
  void TearDown() override { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  sigset_t before_{};

  struct Pipe {
    Pipe() { EXPECT_EQ(pipe(fds), 0); }
    ~Pipe() {
      for (int fd : fds) close(fd);
    }
    int fds[2] = {-1, -1};
    std::string read_some() const {
      char buffer[65536];
      const ssize_t got = ::read(fds[0], buffer, sizeof(buffer));
      return got > 0 ? std::string(buffer, static_cast<std::size_t>(got)) : std::string();
    }
  };
};

TEST_F(WatchTest, TextAsConntrackWritesIt) {
  Pipe pipe;
  Output out(pipe.fds[1]);
  const WatchOptions options{.format = "text", .events = {}, .timestamp = false};
  EventWriter writer(out, options);
  fmt::memory_buffer stream;
  ctd_conn fresh = udp6_conn();
  fresh.start = kNow - 2 * kHz;
  fresh.last_seen[0] = static_cast<u32>(fresh.start);
  append_event_json(stream, make_event(CTD_EVENT_NEW, fresh), clock_now());
  ctd_event end = make_event(CTD_EVENT_DESTROY);
  end.reason = CTD_END_EVICTED;
  append_event_json(stream, end, clock_now());
  append_lost_json(stream, 12, "reader");
  const std::string text = "{\"schema\":\"ctd.event/1\"}\n" + fmt::to_string(stream);
  for (const char& c : text) ASSERT_TRUE(writer.feed({&c, 1}));
  EXPECT_EQ(pipe.read_some(),
            "    [NEW] udp      17 30 src=fd00:1::2 dst=2001:db8::35 sport=5353 dport=53 [UNREPLIED] src=2001:db8::35 "
            "dst=fd00:1::2 sport=53 dport=5353\n"
            "[DESTROY] tcp      6 ESTABLISHED src=10.1.0.2 dst=10.0.2.2 sport=40312 dport=80 packets=6 bytes=412 "
            "src=10.0.2.2 dst=10.0.2.1 sport=80 dport=40312 packets=5 bytes=1892 [ASSURED] reason=evicted\n"
            "   [LOST] 12 events: this reader was too slow\n");
  EXPECT_EQ(writer.summary(), "2 events, 12 lost");
}

TEST_F(WatchTest, ASignalEndsItAndIsNoFailure) {
  Pipe pipe;
  auto watching = std::async(std::launch::async, [&] {
    Output out(pipe.fds[1]);
    return watch_events(Client::open(folder.path(), "default").value(), {.format = "json", .events = "new"}, out);
  });
  EXPECT_THAT(pipe.read_some(), StartsWith("{\"schema\""));
  publish({make_event(CTD_EVENT_NEW)});
  EXPECT_THAT(pipe.read_some(), StartsWith("{\"event\":\"new\""));
  ASSERT_EQ(kill(getpid(), SIGINT), 0);
  const Result<> done = watching.get();
  EXPECT_TRUE(done) << done.error().message();
}

TEST_F(WatchTest, AStopOfTheDaemonIsAFailureThatSaysSo) {
  Pipe pipe;
  auto watching = std::async(std::launch::async, [&] {
    Output out(pipe.fds[1]);
    return watch_events(Client::open(folder.path(), "default").value(), {.format = "json"}, out);
  });
  pipe.read_some();
  server.reset();
  const Result<> done = watching.get();
  ASSERT_FALSE(done);
  EXPECT_THAT(done.error().message(), HasSubstr("ctd has stopped"));
}

}  // namespace
}  // namespace ctd
