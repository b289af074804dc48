// SPDX-License-Identifier: Apache-2.0
// The TCP state machine: complete against a table, and through the gateway packet by packet.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>

#include "core_world.hpp"

namespace ctd::test {
namespace {

constexpr std::array kStates = {"NO", "SS", "SR", "ES", "FW", "CW", "LA", "TW", "CL", "S2"};
static_assert(kStates.size() == CTD_TCP_STATE_COUNT);

struct Segment {
  const char* name;
  std::uint8_t flags;
};
constexpr Segment kSegments[] = {{"syn", kSyn}, {"synack", kSyn | kAck}, {"fin", kFin | kAck},
                                 {"ack", kAck}, {"rst", kRst},           {"none", 0}};

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
    for (std::size_t seg = 0; seg < std::size(kSegments); seg++)
      for (u32 state = 0; state < kStates.size(); state++)
        for (unsigned more : {0u, 0x08u, 0x40u, 0x80u, 0xc8u})  // PSH, ECE and CWR change nothing
          EXPECT_STREQ(name_of(native_tcp_next(state, dir, static_cast<u8>(kSegments[seg].flags | more))),
                       kTable[dir][seg][state])
              << kStates[state] << (dir ? " reply " : " original ") << kSegments[seg].name << " with " << more;
}

TEST(TcpStates, ValidFlags) {
  const std::uint8_t valid[] = {kSyn,        kSyn | kUrg,        kSyn | kAck, kRst,       kRst | kAck,
                                kFin | kAck, kFin | kAck | kUrg, kAck,        kAck | kUrg};
  for (unsigned flags = 0; flags < 256; flags++) {
    bool expected = std::count(std::begin(valid), std::end(valid), flags & ~0xc8u) > 0;
    EXPECT_EQ(native_tcp_flags_valid(static_cast<u8>(flags)), expected) << flags;
  }
}

// A client behind the gateway and a server outside; what each sends, and what the gateway makes of it.
class TcpConversation {
 public:
  explicit TcpConversation(bool masquerade = true)
      : w({.masquerade4 = masquerade}), address_(masquerade ? "10.0.2.1" : "10.1.0.2") {}

  std::string client(std::uint8_t flags) {
    return w.from(kLan, frame().ipv4({.src = "10.1.0.2", .dst = "10.0.2.2"}).tcp({.flags = flags}).build()).where;
  }
  std::string server(std::uint8_t flags) {
    return w
        .from(kWan, frame()
                        .ipv4({.src = "10.0.2.2", .dst = address_})
                        .tcp({.sport = 80, .dport = 40000, .flags = flags})
                        .build())
        .where;
  }
  const char* state() const { return kStates.at(w.only().state); }
  u32 cls() const { return CTD_CTL_CLASS(w.only().ctl); }

  World w;

 private:
  std::string address_;
};

struct Step {
  bool from_server;
  std::uint8_t flags;
  bool passes;
  const char* state;
  const char* status;
  u32 cls;
};

struct Story {
  const char* name;
  std::vector<Step> steps;
};

class TcpStory : public testing::TestWithParam<Story> {};

TEST_P(TcpStory, StateAfterEachPacket) {
  TcpConversation t;
  int n = 0;
  for (const Step& step : GetParam().steps) {
    SCOPED_TRACE(testing::Message() << "packet " << ++n);
    std::string where = step.from_server ? t.server(step.flags) : t.client(step.flags);
    std::string pass = step.from_server ? "lan via 10.1.0.2" : "wan via 10.0.2.2";
    EXPECT_EQ(where, step.passes ? pass : "drop policy");
    EXPECT_STREQ(t.state(), step.state);
    EXPECT_EQ(t.w.status_of(t.w.only()), step.status);
    EXPECT_EQ(t.cls(), step.cls);
    EXPECT_EQ(t.w.broken(), "");
  }
}

constexpr auto kNew = "CONFIRMED SRC_NAT", kSeen = "SEEN_REPLY CONFIRMED SRC_NAT",
               kSure = "SEEN_REPLY ASSURED CONFIRMED SRC_NAT";
constexpr bool kC = false, kS = true;

std::vector<Story> stories() {
  return {
      {"OpenTalkClose",
       {{kC, kSyn, true, "SS", kNew, 0},
        {kS, kSyn | kAck, true, "SR", kSeen, 1},
        {kC, kAck, true, "ES", kSure, 2},
        {kC, kAck | kPsh, true, "ES", kSure, 2},
        {kS, kAck | kPsh, true, "ES", kSure, 2},
        {kC, kFin | kAck, true, "FW", kSure, 2},
        {kS, kAck, true, "CW", kSure, 2},
        {kS, kFin | kAck, true, "LA", kSure, 2},
        {kC, kAck, true, "TW", kSure, 2}}},
      {"Refused", {{kC, kSyn, true, "SS", kNew, 0}, {kS, kRst | kAck, true, "CL", kSeen, 0}}},
      {"ResetInTheMiddle",
       {{kC, kSyn, true, "SS", kNew, 0},
        {kS, kSyn | kAck, true, "SR", kSeen, 1},
        {kC, kAck, true, "ES", kSure, 2},
        {kS, kRst, true, "CL", kSure, 2}}},
      {"SimultaneousOpen",
       {{kC, kSyn, true, "SS", kNew, 0},
        {kS, kSyn, true, "S2", kSeen, 1},
        {kC, kSyn | kAck, true, "SR", kSeen, 1},
        {kS, kSyn | kAck, true, "SR", kSeen, 1},
        {kC, kAck, true, "ES", kSure, 2}}},
      {"RepeatedSyn",
       {{kC, kSyn, true, "SS", kNew, 0},
        {kC, kSyn, true, "SS", kNew, 0},
        {kS, kSyn | kAck, true, "SR", kSeen, 1},
        {kS, kSyn | kAck, true, "SR", kSeen, 1}}},
      {"MidStream",
       {{kC, kAck, true, "ES", kNew, 0}, {kS, kAck, true, "ES", kSeen, 1}, {kC, kAck, true, "ES", kSure, 2}}},
      {"InvalidChangesNothing",
       {{kC, kSyn, true, "SS", kNew, 0},
        {kC, kAck, false, "SS", kNew, 0},
        {kS, kSyn | kFin, false, "SS", kNew, 0},
        {kS, 0, false, "SS", kNew, 0},
        {kS, kFin | kAck, false, "SS", kNew, 0},
        {kS, kSyn | kAck, true, "SR", kSeen, 1}}},
      {"SynInTimeWaitReopens",
       {{kC, kSyn, true, "SS", kNew, 0},
        {kS, kSyn | kAck, true, "SR", kSeen, 1},
        {kC, kFin | kAck, true, "FW", kSeen, 1},
        {kS, kFin | kAck, true, "LA", kSeen, 1},
        {kC, kAck, true, "TW", kSeen, 1},
        {kC, kSyn, true, "SS", kNew, 0}}},
      {"SynAfterResetReopens",
       {{kC, kSyn, true, "SS", kNew, 0}, {kS, kRst | kAck, true, "CL", kSeen, 0}, {kC, kSyn, true, "SS", kNew, 0}}},
  };
}
INSTANTIATE_TEST_SUITE_P(All, TcpStory, testing::ValuesIn(stories()), [](const auto& row) { return row.param.name; });

// Only a SYN opens, and an ACK picks up; nothing else makes a connection.
TEST(TcpStates, WhatOpensAConnection) {
  for (unsigned flags = 0; flags < 64; flags++) {
    TcpConversation t;
    bool opens = (flags & ~(kPsh | kUrg)) == kSyn || (flags & ~(kPsh | kUrg)) == kAck;
    EXPECT_EQ(t.client(static_cast<std::uint8_t>(flags)), opens ? "wan via 10.0.2.2" : "drop policy") << flags;
    EXPECT_EQ(t.w.connections().size(), opens ? 1u : 0u) << flags;
  }
}

TEST(TcpStates, TimeoutsFollowTheState) {
  TcpConversation t;
  const std::pair<std::uint8_t, u32> client_steps[] = {{kSyn, 120}, {kAck, 7440}, {kFin | kAck, 240}};
  t.client(kSyn);
  EXPECT_EQ(t.w.only().timeout, client_steps[0].second * kHz);
  t.server(kSyn | kAck);
  EXPECT_EQ(t.w.only().timeout, 60 * kHz);
  t.client(kAck);
  EXPECT_EQ(t.w.only().timeout, client_steps[1].second * kHz);
  t.client(kFin | kAck);
  EXPECT_EQ(t.w.only().timeout, client_steps[2].second * kHz);
  t.server(kRst);
  EXPECT_EQ(t.w.only().timeout, 10 * kHz);
  // The shorter timeout is the sweep's too: it must not wait for the old one.
  EXPECT_LE(static_cast<s32>(*t.w.check.find(1) - static_cast<u32>(native_jiffies())), static_cast<s32>(10 * kHz));
}

}  // namespace
}  // namespace ctd::test
