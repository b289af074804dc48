// SPDX-License-Identifier: Apache-2.0
// TCP's windows: which segments fit, pass or are invalid, and what they do to the record.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core_tcp_talk.hpp"

namespace ctd::test {
namespace {

constexpr bool kC = false, kS = true;
constexpr auto kOk = "counts", kPass = "passes", kOut = "tcp_window";

struct Step {
  bool from_server;
  Segment segment;
  const char* result;
};
struct Story {
  const char* name;
  Segment client_syn, server_syn;  // what the SYNs offer, and their windows
  std::vector<Step> steps;         // after the handshake
};

class TcpWindow : public testing::TestWithParam<std::tuple<Story, std::uint32_t, bool>> {};

// Each story with numbers that wrap, that pass the middle of the space, and that do neither; IPv4 and IPv6.
TEST_P(TcpWindow, WhatFits) {
  const auto& [story, isn, v6] = GetParam();
  TcpTalk t({.client_isn = isn, .server_isn = isn ^ 0x80000000u, .v6 = v6});
  ASSERT_EQ(t.client(syn(story.client_syn)), kOk);
  ASSERT_EQ(t.server(synack(story.server_syn)), kOk);
  ASSERT_EQ(t.client({.window = story.client_syn.window}), kOk);
  int n = 0;
  for (const Step& step : story.steps) {
    SCOPED_TRACE(testing::Message() << "segment " << ++n << " after the handshake");
    EXPECT_EQ(t.send(step.from_server, step.segment), step.result);
  }
  EXPECT_EQ(t.w.broken(), "");
}

std::vector<Story> stories() {
  const Segment plain{}, scaled{.scale = 7}, little{.scale = 2}, sack{.sack_ok = true};
  return {
      // 1,000 bytes each way. The server has opened 1 to 1,000 to the client.
      {"RightEdge",
       plain,
       plain,
       {{kC, {.seq = 1, .len = 1000}, kOk},
        {kC, {.seq = 1001, .len = 0}, kOk},
        {kC, {.seq = 1001, .len = 1000}, kOk}}},  // begins at the edge: as the kernel, let through
      {"BeyondTheRightEdge",
       plain,
       plain,
       {{kC, {.seq = 1003, .len = 100}, kPass}, {kC, {.seq = 3000, .len = 1}, kOut}}},
      {"WhatTheOtherSideOpensCounts",
       plain,
       plain,
       {{kC, {.seq = 2500, .len = 1}, kOut}, {kS, {.window = 5000}, kOk}, {kC, {.seq = 2500, .len = 1}, kOk}}},
      {"AShrunkWindowStaysOpen",
       plain,
       plain,
       {{kS, {.window = 5000}, kOk}, {kS, {.window = 10}, kOk}, {kC, {.seq = 4000, .len = 100}, kOk}}},
      {"AWindowOfZeroLetsOneByteProbe",
       plain,
       plain,
       {{kC, {.len = 1000}, kOk}, {kS, {.ack = 1001, .window = 0}, kOk}, {kC, {.seq = 1001, .len = 1}, kOk}}},
      {"ServersDataToo",
       plain,
       plain,
       {{kS, {.len = 1000}, kOk}, {kS, {.seq = 5000, .len = 1}, kOut}, {kC, {.ack = 1001}, kOk}}},

      {"KeepAlive",
       plain,
       plain,
       {{kC, {.len = 500}, kOk},
        {kS, {.ack = 501}, kOk},
        {kC, {.seq = 500}, kOk},  // one before what is acknowledged
        {kS, {.ack = 501}, kOk},
        {kC, {.seq = 500, .len = 1}, kOk}}},
      {"OldDataAgain",
       plain,
       plain,
       {{kC, {.len = 1000}, kOk},
        {kS, {.ack = 1001}, kOk},
        {kC, {.seq = 1001, .len = 1000}, kOk},
        {kS, {.ack = 2001}, kOk},
        {kC, {.seq = 1001, .len = 1000}, kOk},  // ends within a window of the end
        {kC, {.seq = 1, .len = 999}, kPass}}},  // ends further back
      {"AckOfDataNeverSent", plain, plain, {{kS, {.ack = 2}, kOut}, {kS, {.ack = 1}, kOk}, {kS, {.ack = 501}, kOut}}},
      {"AckOfLongAgo",
       plain,
       plain,
       {{kS, {.window = 65535}, kOk},
        {kC, {.len = 40000}, kOk},
        {kS, {.ack = 40001, .window = 65535}, kOk},
        {kC, {.seq = 40001, .len = 40000}, kOk},
        {kS, {.ack = 80001 - 66000, .window = 65535}, kOk},
        {kS, {.ack = 80001 - 66001, .window = 65535}, kPass}}},

      {"Scaled",
       scaled,
       little,
       {{kS, {.len = 1000}, kOk},
        {kS, {.seq = 128001}, kOk},              // the client opened 1,000 << 7
        {kS, {.seq = 128003, .len = 1}, kPass},  // a little more
        {kS, {.seq = 128003 + 128000}, kOut}}},  // a lot
      {"ASynsWindowIsNotScaled",
       scaled,
       little,
       {{kC, {.seq = 1001}, kOk},
        {kC, {.seq = 2500}, kOut},
        {kS, {.window = 1000}, kOk},  // 1,000 << 2
        {kC, {.seq = 4001}, kOk},
        {kC, {.seq = 8100}, kOut}}},
      {"ScalingNeedsBothSides",
       scaled,
       plain,
       {{kS, {.seq = 1001}, kOk}, {kS, {.seq = 1003, .len = 1}, kPass}, {kS, {.seq = 128001}, kOut}}},
      {"TheServerAloneDoesNotScale",
       plain,
       little,
       {{kS, {.window = 1000}, kOk}, {kC, {.seq = 4001}, kOut}, {kC, {.seq = 1001}, kOk}}},
      {"AScaleOver14Is14",
       {.scale = 200},
       {.scale = 0},
       {{kS, {.seq = 1 + (1000u << 14)}, kOk}, {kS, {.seq = 1 + (3000u << 14)}, kOut}}},

      {"SackBlocks",
       sack,
       sack,
       {{kS, {.seq = 1, .len = 100}, kOk},
        {kS, {.seq = 201, .len = 100}, kOk},  // the hundred in between is lost
        {kC, {.ack = 101, .sack = {{201, 301}}}, kOk},
        {kC, {.ack = 101, .sack = {{201, 302}}}, kOut},  // never sent
        {kS, {.seq = 101, .len = 100}, kOk},
        {kC, {.ack = 301}, kOk}}},
      {"SackBlocksBehindTimestamps",
       sack,
       sack,
       {{kS, {.len = 300}, kOk},
        {kC, {.ack = 101, .sack = {{201, 301}}, .timestamps = true}, kOk},
        {kC, {.ack = 101, .sack = {{201, 302}}, .timestamps = true}, kOut},
        {kC, {.ack = 301, .timestamps = true}, kOk}}},
      {"SackThatWasNotPermittedIsNotRead",
       plain,
       plain,
       {{kS, {.len = 300}, kOk}, {kC, {.ack = 101, .sack = {{201, 302}}}, kOk}}},
      {"SackWidensTheWindow",
       sack,
       sack,
       {{kS, {.len = 1000}, kOk},
        {kC, {.ack = 1, .sack = {{201, 1001}}}, kOk},
        {kS, {.seq = 2001, .len = 1}, kOk},
        {kS, {.seq = 9000, .len = 1}, kOut}}},
      {"OptionsThatLie",
       sack,
       sack,
       {{kS, {.len = 300}, kOk},
        {kC, {.ack = 301, .options = {5, 40, 1, 1}}, kOk},  // longer than the header
        {kC, {.ack = 301, .options = {5, 0, 1, 1}}, kOk},
        {kC, {.ack = 301, .options = {1, 1, 1, 5}}, kOk},                                       // without a length
        {kC, {.ack = 301, .options = {0, 0, 0, 0, 5, 10, 9, 9, 9, 9, 9, 9, 9, 9, 0, 0}}, kOk},  // behind the end
        {kC, {.ack = 301, .options = {30, 8, 1, 1, 1, 1, 1, 1}}, kOk}}},
  };
}
INSTANTIATE_TEST_SUITE_P(All, TcpWindow,
                         testing::Combine(testing::ValuesIn(stories()),
                                          testing::Values(1000u, 0xffffff00u, 0x7fffff00u), testing::Bool()),
                         [](const auto& row) {
                           const std::uint32_t isn = std::get<1>(row.param);
                           return std::string(std::get<0>(row.param).name) +
                                  (isn == 1000         ? ""
                                   : isn > 0x80000000u ? "Wraps"
                                                       : "Middle") +
                                  (std::get<2>(row.param) ? "6" : "4");
                         });

TEST(TcpWindowRecord, KeepsWhatWasSeen) {
  TcpTalk t({.client_isn = 0, .server_isn = 0});
  t.client(syn({.window = 500, .scale = 3, .sack_ok = true}));
  t.server(synack({.window = 600, .scale = 1}));
  t.client({.window = 100});
  t.client({.len = 50, .window = 100});
  const ctd_conn& c = t.conn();
  EXPECT_EQ(c.win[0].end, 51u);
  EXPECT_EQ(c.win[0].max_end, 1u + 600);
  EXPECT_EQ(c.win[0].max_win, 800u);
  EXPECT_EQ(c.win[0].scale, 3);
  EXPECT_EQ(c.win[0].flags, CTD_TCPW_SCALE | CTD_TCPW_SACK | CTD_TCPW_UNACKED | CTD_TCPW_MAXACK);
  EXPECT_EQ(c.win[1].end, 1u);
  EXPECT_EQ(c.win[1].max_end, 1u + 800);
  EXPECT_EQ(c.win[1].max_win, 600u);
  EXPECT_EQ(c.win[1].flags, CTD_TCPW_SCALE | CTD_TCPW_MAXACK);
  EXPECT_EQ(c.tcp_max_ack[0], 1u);
  EXPECT_EQ(c.tcp_max_ack[1], 1u);
}

// A sender's offload: the whole payload counts.
TEST(TcpWindowRecord, LargeSegments) {
  TcpTalk t({.client_isn = 0, .server_isn = 0});
  t.establish({.window = 65535});
  EXPECT_EQ(t.client({.len = 60000}), kOk);
  EXPECT_EQ(t.conn().win[0].end, 60001u);
}

TEST(TcpPickUp, WindowsAreLiberalAsNobodyKnowsTheScale) {
  TcpTalk t;
  EXPECT_EQ(t.client({.seq = 100000, .ack = 200000}), kOk);
  EXPECT_EQ(t.server({.seq = 200000, .ack = 100000}), kOk);
  EXPECT_EQ(t.client({.seq = 900000, .ack = 200000, .len = 10}), kOk);
  EXPECT_EQ(t.server({.seq = 1200000, .ack = 900010}), kOk);
  EXPECT_EQ(t.state(), "ESTABLISHED");
  EXPECT_TRUE(t.conn().win[0].flags & t.conn().win[1].flags & CTD_TCPW_LIBERAL);
}

TEST(TcpPickUp, FromTheServersSideOfTheStream) {
  TcpTalk t;
  EXPECT_EQ(t.client({.seq = 1, .ack = 5, .len = 3}), kOk);
  EXPECT_EQ(t.client({.flags = kFin | kAck, .seq = 4, .ack = 5}), kOk);
  EXPECT_EQ(t.state(), "FIN_WAIT");
  EXPECT_EQ(t.server({.flags = kFin | kAck, .seq = 5, .ack = 5}), kOk);
  EXPECT_EQ(t.state(), "LAST_ACK");
}

TEST(TcpPickUp, CanBeOff) {
  TcpTalk t({.policy_flags = CTD_CTP_NO_PICKUP});
  EXPECT_EQ(t.client({}), "tcp_pickup");
  EXPECT_EQ(t.client({.len = 100}), "tcp_pickup");
  EXPECT_EQ(t.w.connections().size(), 0u);
  t.establish();
  EXPECT_EQ(t.state(), "ESTABLISHED");
  EXPECT_EQ(t.client({.seq = 90000}), kOut) << "strict all the same";
}

TEST(TcpLiberal, NothingIsInvalidByTheWindow) {
  TcpTalk t({.policy_flags = CTD_CTP_LIBERAL});
  t.establish();
  EXPECT_EQ(t.client({.seq = 900000, .len = 5}), kOk);
  EXPECT_EQ(t.server({.seq = 1, .ack = 7000000}), kOk);
  EXPECT_EQ(t.client({.flags = 0}), "tcp_flags") << "but by its flags";
  EXPECT_EQ(t.client({.flags = kSyn | kAck}), "tcp_state") << "and its state";
  EXPECT_EQ(t.conn().timeout, 7440 * kHz);
  EXPECT_EQ(t.server({.flags = kRst, .seq = 800}), kOk);
  EXPECT_EQ(t.state(), "CLOSE");
}

TEST(TcpSyn, ARepeatedSynMayOfferSomethingElse) {
  TcpTalk t;
  t.client(syn({.scale = 7, .sack_ok = true}));
  Segment again = syn({.window = 2000, .scale = 4});
  again.seq = 500;  // another initial sequence number: its sender began anew
  EXPECT_EQ(t.client(again), kPass);
  EXPECT_EQ(t.conn().win[0].scale, 4);
  EXPECT_EQ(t.conn().win[0].flags, CTD_TCPW_SCALE);
  EXPECT_EQ(t.conn().win[0].max_win, 2000u);
  Segment answer = synack({.scale = 2});
  answer.ack = 501;
  EXPECT_EQ(t.server(answer), kOk);
  EXPECT_EQ(t.conn().win[0].scale, 4) << "a second SYN does not end scaling";
  EXPECT_EQ(t.conn().win[1].scale, 2);
}

TEST(TcpSyn, AForgedAnswerDoesNotSpoilTheOpening) {
  TcpTalk t;
  t.client(syn());
  Segment forged = synack();
  forged.seq = 0x70000000;
  forged.ack = 2;
  EXPECT_EQ(t.server(forged), kOut);
  EXPECT_EQ(t.server(synack()), kOk);
  EXPECT_EQ(t.client({}), kOk);
  EXPECT_EQ(t.state(), "ESTABLISHED");
}

}  // namespace
}  // namespace ctd::test
