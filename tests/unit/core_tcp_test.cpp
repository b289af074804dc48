// SPDX-License-Identifier: Apache-2.0
// The TCP state machine: complete against a table, as a function and through the gateway, and whole conversations.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>

#include "core_tcp_talk.hpp"

namespace ctd::test {
namespace {

constexpr std::array kStates = {"NO", "SS", "SR", "ES", "FW", "CW", "LA", "TW", "CL", "S2"};
static_assert(kStates.size() == CTD_TCP_STATE_COUNT);

struct Kind {
  const char* name;
  std::uint8_t flags;
};
constexpr Kind kKinds[] = {{"syn", kSyn}, {"synack", kSyn | kAck}, {"fin", kFin | kAck},
                           {"ack", kAck}, {"rst", kRst | kAck},    {"none", 0}};

// Next states by direction and segment, for each state in the order of kStates. "IV": invalid, "IG": passes, changes
// nothing. These are the transitions that Linux documents for its connection tracking.
constexpr std::array<const char*, 10> kTable[2][6] = {
    {{"SS", "SS", "IG", "IG", "IG", "IG", "IG", "SS", "SS", "S2"},   // syn: opens, reopens
     {"IV", "IV", "SR", "IV", "IV", "IV", "IV", "IV", "IV", "SR"},   // synack: simultaneous open only
     {"IV", "IV", "FW", "FW", "LA", "LA", "LA", "TW", "CL", "IV"},   // fin
     {"ES", "IV", "ES", "ES", "CW", "CW", "TW", "TW", "CL", "IV"},   // ack: NO is a pick-up in mid-stream
     {"IV", "CL", "CL", "CL", "CL", "CL", "CL", "CL", "CL", "CL"},   // rst
     {"IV", "IV", "IV", "IV", "IV", "IV", "IV", "IV", "IV", "IV"}},  // none
    {{"IV", "S2", "IV", "IV", "IV", "IV", "IV", "SS", "IV", "S2"},
     {"IV", "SR", "IG", "IG", "IG", "IG", "IG", "IG", "IG", "SR"},
     {"IV", "IV", "FW", "FW", "LA", "LA", "LA", "TW", "CL", "IV"},
     {"IV", "IG", "SR", "ES", "CW", "CW", "TW", "TW", "CL", "IG"},
     {"IV", "CL", "CL", "CL", "CL", "CL", "CL", "CL", "CL", "CL"},
     {"IV", "IV", "IV", "IV", "IV", "IV", "IV", "IV", "IV", "IV"}}};

const char* name_of(u32 next) {
  if (next == NATIVE_TCP_INVALID) return "IV";
  if (next == NATIVE_TCP_IGNORE) return "IG";
  return next < kStates.size() ? kStates[next] : "?";
}

TEST(TcpStates, CompleteTable) {
  for (u8 dir : {0, 1})
    for (std::size_t kind = 0; kind < std::size(kKinds); kind++)
      for (u32 state = 0; state < kStates.size(); state++)
        for (unsigned more : {0u, 0x08u, 0x40u, 0x80u, 0xc8u})  // PSH, ECE and CWR change nothing
          EXPECT_STREQ(name_of(native_tcp_next(state, dir, static_cast<u8>(kKinds[kind].flags | more))),
                       kTable[dir][kind][state])
              << kStates[state] << (dir ? " reply " : " original ") << kKinds[kind].name << " with " << more;
}

TEST(TcpStates, ValidFlags) {
  const std::uint8_t valid[] = {kSyn,        kSyn | kUrg,        kSyn | kAck, kRst,       kRst | kAck,
                                kFin | kAck, kFin | kAck | kUrg, kAck,        kAck | kUrg};
  for (unsigned flags = 0; flags < 256; flags++) {
    bool expected = std::count(std::begin(valid), std::end(valid), flags & ~0xc8u) > 0;
    EXPECT_EQ(native_tcp_flags_valid(static_cast<u8>(flags)), expected) << flags;
  }
}

// Every state, direction and kind of segment as a packet, exact in its numbers, on a connection whose ends were both
// seen: what the table says becomes of the packet and of the record.
TEST(TcpStates, CompleteTableThroughTheGateway) {
  for (bool reply : {false, true})
    for (std::size_t kind = 0; kind < std::size(kKinds); kind++)
      for (u32 state = CTD_TCP_SYN_SENT; state < kStates.size(); state++) {
        TcpTalk t;
        t.establish();
        t.server({});
        t.conn().state = static_cast<u8>(state);
        const std::string next = kTable[reply][kind][state];
        const bool opens = kKinds[kind].flags == kSyn && next == "SS" && state != CTD_TCP_SYN_SENT;
        std::string result = t.send(reply, {.flags = kKinds[kind].flags});
        SCOPED_TRACE(testing::Message() << kStates[state] << (reply ? " reply " : " original ") << kKinds[kind].name);
        if (next == "IV") {
          EXPECT_EQ(result, kKinds[kind].flags ? "tcp_state" : "tcp_flags");
          EXPECT_STREQ(kStates.at(t.conn().state), kStates[state]);
        } else if (next == "IG" || opens) {  // nobody has closed this one: a SYN does not reopen it
          EXPECT_EQ(result, "passes");
          EXPECT_STREQ(kStates.at(t.conn().state), kStates[state]);
        } else {
          EXPECT_EQ(result, "counts");
          EXPECT_STREQ(kStates.at(t.conn().state), next.c_str());
        }
        EXPECT_EQ(t.w.broken(), "");
      }
}

// Only a SYN opens, and an ACK picks up; nothing else makes a connection. Without pick-up: a SYN only.
TEST(TcpStates, WhatOpensAConnection) {
  for (bool pickup : {true, false})
    for (unsigned flags = 0; flags < 64; flags++) {
      TcpTalk t({.policy_flags = pickup ? 0u : u32{CTD_CTP_NO_PICKUP}});
      const unsigned kind = flags & ~(kPsh | kUrg);
      const bool opens = kind == kSyn || (pickup && kind == kAck);
      std::string result = t.client({.flags = static_cast<std::uint8_t>(flags)});
      if (opens)
        EXPECT_EQ(result, "counts") << flags;
      else
        EXPECT_EQ(result, native_tcp_flags_valid(static_cast<u8>(flags)) ? "tcp_pickup" : "tcp_flags") << flags;
      EXPECT_EQ(t.w.connections().size(), opens ? 1u : 0u) << flags;
    }
}

struct Step {
  bool from_server;
  Segment segment;
  const char* result;
  const char* state;
  u32 cls = CTD_CLASS_ASSURED;
};
struct Story {
  const char* name;
  std::vector<Step> steps;
};
class TcpStory : public testing::TestWithParam<Story> {};

TEST_P(TcpStory, StateAfterEachPacket) {
  TcpTalk t;
  int n = 0;
  for (const Step& step : GetParam().steps) {
    SCOPED_TRACE(testing::Message() << "packet " << ++n);
    EXPECT_EQ(t.send(step.from_server, step.segment), step.result);
    EXPECT_EQ(t.state(), step.state);
    EXPECT_EQ(CTD_CTL_CLASS(t.conn().ctl), step.cls);
    EXPECT_EQ(t.w.broken(), "");
  }
}

constexpr bool kC = false, kS = true;
constexpr auto kOk = "counts", kPass = "passes";
constexpr auto kUn = CTD_CLASS_UNANSWERED, kAn = CTD_CLASS_ANSWERED;

// Three packets, then `steps`.
std::vector<Step> established(std::vector<Step> steps) {
  std::vector<Step> all{
      {kC, syn(), kOk, "SYN_SENT", kUn}, {kS, synack(), kOk, "SYN_RECV", kAn}, {kC, {}, kOk, "ESTABLISHED"}};
  all.insert(all.end(), steps.begin(), steps.end());
  return all;
}

std::vector<Story> stories() {
  const Segment fin{.flags = kFin | kAck};
  return {
      {"OpenTalkClose", established({{kC, {.len = 10}, kOk, "ESTABLISHED"},
                                     {kS, {.ack = 11, .len = 20}, kOk, "ESTABLISHED"},
                                     {kC, {.flags = kFin | kAck, .seq = 11, .ack = 21}, kOk, "FIN_WAIT"},
                                     {kS, {.seq = 21, .ack = 12}, kOk, "CLOSE_WAIT"},
                                     {kS, {.flags = kFin | kAck, .seq = 21, .ack = 12}, kOk, "LAST_ACK"},
                                     {kC, {.seq = 12, .ack = 22}, kOk, "TIME_WAIT"}})},
      {"ServerCloses", established({{kS, fin, kOk, "FIN_WAIT"},
                                    {kC, {.ack = 2}, kOk, "CLOSE_WAIT"},
                                    {kC, {.flags = kFin | kAck, .ack = 2}, kOk, "LAST_ACK"},
                                    {kS, {.seq = 2, .ack = 2}, kOk, "TIME_WAIT"}})},
      {"SimultaneousClose", established({{kC, fin, kOk, "FIN_WAIT"},
                                         {kS, fin, kOk, "LAST_ACK"},
                                         {kC, {.seq = 2, .ack = 2}, kOk, "TIME_WAIT"},
                                         {kS, {.seq = 2, .ack = 2}, kOk, "TIME_WAIT"}})},
      {"HalfCloseGoesOn", established({{kC, fin, kOk, "FIN_WAIT"},
                                       {kS, {.ack = 2, .len = 100}, kOk, "CLOSE_WAIT"},
                                       {kC, {.seq = 2, .ack = 101}, kOk, "CLOSE_WAIT"},
                                       {kS, {.seq = 101, .ack = 2, .len = 100}, kOk, "CLOSE_WAIT"}})},
      {"RepeatedFin", established({{kC, fin, kOk, "FIN_WAIT"},
                                   {kS, {.flags = kFin | kAck, .ack = 2}, kOk, "LAST_ACK"},
                                   {kS, {.flags = kFin | kAck, .ack = 2}, kOk, "LAST_ACK"},
                                   {kC, {.seq = 2, .ack = 2}, kOk, "TIME_WAIT"},
                                   {kS, {.flags = kFin | kAck, .ack = 2}, kOk, "TIME_WAIT"}})},
      {"SimultaneousOpen",
       {{kC, syn(), kOk, "SYN_SENT", kUn},
        {kS, {.flags = kSyn, .seq = 0}, kPass, "SYN_SENT2", kAn},
        {kC, {.flags = kSyn | kAck, .seq = 0}, kOk, "SYN_RECV", kAn},
        {kS, {.flags = kSyn | kAck, .seq = 0}, kPass, "SYN_RECV", kAn},
        {kC, {}, kOk, "ESTABLISHED"}}},
      {"SimultaneousOpenEndsWithTheServersAck",
       {{kC, syn(), kOk, "SYN_SENT", kUn},
        {kS, {.flags = kSyn, .seq = 0}, kPass, "SYN_SENT2", kAn},
        {kC, {.flags = kSyn | kAck, .seq = 0}, kOk, "SYN_RECV", kAn},
        {kS, {}, kOk, "ESTABLISHED"}}},
      {"RepeatedSyn",
       {{kC, syn(), kOk, "SYN_SENT", kUn},
        {kC, syn(), kPass, "SYN_SENT", kUn},
        {kS, synack(), kOk, "SYN_RECV", kAn},
        {kS, synack(), kPass, "SYN_RECV", kAn},
        {kC, {}, kOk, "ESTABLISHED"}}},
      {"MidStream",
       {{kC, {.seq = 700000, .ack = 900000}, kOk, "ESTABLISHED", kUn},
        {kS, {.seq = 900000, .ack = 700000}, kOk, "ESTABLISHED", kAn},
        {kC, {.seq = 700000, .ack = 900000}, kOk, "ESTABLISHED"}}},
      {"InvalidChangesNothing",
       {{kC, syn(), kOk, "SYN_SENT", kUn},
        {kC, {}, "tcp_state", "SYN_SENT", kUn},
        {kS, {.flags = kSyn | kFin}, "tcp_flags", "SYN_SENT", kUn},
        {kS, {.flags = 0}, "tcp_flags", "SYN_SENT", kUn},
        {kS, fin, "tcp_state", "SYN_SENT", kUn},
        {kS, {.flags = kSyn | kAck, .seq = 0, .ack = 7000}, "tcp_window", "SYN_SENT", kUn},
        {kS, synack(), kOk, "SYN_RECV", kAn}}},
  };
}
INSTANTIATE_TEST_SUITE_P(All, TcpStory, testing::ValuesIn(stories()), [](const auto& row) { return row.param.name; });

TEST(TcpTimeouts, FollowTheState) {
  TcpTalk t;
  auto seconds = [&] { return t.conn().timeout / kHz; };
  t.client(syn());
  EXPECT_EQ(seconds(), 240u);
  t.server(synack());
  EXPECT_EQ(seconds(), 240u);
  t.client({});
  EXPECT_EQ(seconds(), 7440u);
  t.client({.flags = kFin | kAck});
  EXPECT_EQ(seconds(), 240u);
  t.server({.flags = kRst, .seq = 1});
  EXPECT_EQ(t.state(), "CLOSE");
  EXPECT_EQ(seconds(), 10u);
  // The shorter timeout is the sweep's too: it must not wait for the old one.
  EXPECT_LE(static_cast<s32>(*t.w.check.find(1) - static_cast<u32>(native_jiffies())), static_cast<s32>(10 * kHz));
}

TEST(TcpTimeouts, UnacknowledgedData) {
  TcpTalk t;
  t.establish();
  t.client({.len = 100});
  EXPECT_EQ(t.conn().timeout, 300 * kHz) << "the server may be dead";
  EXPECT_LE(static_cast<s32>(*t.w.check.find(1) - static_cast<u32>(native_jiffies())), static_cast<s32>(300 * kHz));
  t.server({.ack = 51});
  EXPECT_EQ(t.conn().timeout, 300 * kHz) << "not all of it";
  t.server({.ack = 101});
  EXPECT_EQ(t.conn().timeout, 7440 * kHz);
}

TEST(TcpTimeouts, Retransmissions) {
  TcpTalk t;
  t.w.conn(0);
  Map<u32, ctd_ct_policy>("ct_policies").find(0)->timeout_s[CTD_TIMEOUT_TCP_RETRANS] = 100;
  t.establish();
  t.client({.len = 100});
  for (int again = 1; again <= 4; again++) {
    t.client({.len = 100});
    EXPECT_EQ(t.conn().tcp_retrans, again);
    EXPECT_EQ(t.conn().timeout, (again < 3 ? 300u : 100u) * kHz) << again;
  }
  t.server({.ack = 101});
  EXPECT_EQ(t.conn().tcp_retrans, 0);
  EXPECT_EQ(t.conn().timeout, 7440 * kHz);
}

TEST(TcpTimeouts, AWindowOfZero) {
  TcpTalk t;
  t.establish();
  t.server({.window = 0});
  EXPECT_EQ(t.conn().timeout, 300 * kHz);
  t.server({.window = 10});
  EXPECT_EQ(t.conn().timeout, 7440 * kHz);
}

// As in nf_conntrack, in this order: too many retransmissions, a RST, unacknowledged data, a window of zero.
TEST(TcpTimeouts, OfSeveralReasonsToShortenTheFirstCounts) {
  TcpTalk t;
  t.w.conn(0);
  auto* policy = Map<u32, ctd_ct_policy>("ct_policies").find(0);
  policy->timeout_s[CTD_TIMEOUT_TCP_RETRANS] = 100;
  policy->timeout_s[CTD_TIMEOUT_TCP_UNACK] = 200;
  t.establish();
  t.client({.len = 100, .window = 0});
  EXPECT_EQ(t.conn().timeout, 200 * kHz) << "before a window of zero";
  for (int again = 1; again <= 3; again++) t.client({.len = 100, .window = 0});
  EXPECT_EQ(t.conn().timeout, 100 * kHz);
  t.server({.flags = kRst, .seq = 1000});
  EXPECT_EQ(t.state(), "ESTABLISHED");
  EXPECT_EQ(t.conn().timeout, 100 * kHz) << "before a RST";
}

TEST(TcpTimeouts, RepeatedSynsDoNotKeepAConnectionAlive) {
  TcpTalk t;
  t.client(syn());
  for (int i = 0; i < 25; i++) {
    t.w.advance(10);
    t.client(syn());
    if (i == 23) t.w.sweep(3);
  }
  EXPECT_EQ(t.conn().count[0].packets, 1u) << "the old one died, and the last SYN made another";
}

TEST(TcpTimeouts, APickedUpConnectionIsNotKeptLongBeforeAnAnswer) {
  TcpTalk t;
  t.client({});
  EXPECT_EQ(t.conn().timeout, 300 * kHz);
}

TEST(TcpTimeouts, NorLongerThanWithAWindowOfZero) {
  TcpTalk t;
  t.w.conn(0);
  Map<u32, ctd_ct_policy>("ct_policies").find(0)->timeout_s[CTD_TIMEOUT_TCP_RETRANS] = 100;
  t.client({});
  EXPECT_EQ(t.conn().timeout, 100 * kHz) << "its window is not known yet";
}

}  // namespace
}  // namespace ctd::test
