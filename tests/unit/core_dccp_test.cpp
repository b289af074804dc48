// SPDX-License-Identifier: Apache-2.0
// DCCP: the state machine complete against a table, then connections packet by packet through the gateway.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstring>

#include "core_world.hpp"

namespace ctd::test {
namespace {

constexpr std::array kStates = {"NO", "RQ", "RS", "PO", "OP", "CR", "CG", "TW"};
static_assert(kStates.size() == CTD_DCCP_STATE_COUNT);
enum Type : std::uint8_t { kRequest, kResponse, kData, kAck_, kDataAck, kCloseReq, kClose, kReset, kSync, kSyncAck };

struct Row {
  const char* packet;
  Type type;
  std::array<const char*, 8> next;  // by state, in the order of kStates; "IV": invalid, "IG": passes, changes nothing
};

// What Linux documented for its connection tracking, with its two slips mended: a repeated Close of the client passes,
// and a repeated Reset of the server does not keep the connection alive.
constexpr Row kClient[] = {
    {"request", kRequest, {"RQ", "RQ", "RS", "IG", "IG", "IG", "IG", "RQ"}},
    {"response", kResponse, {"IV", "IG", "IG", "IG", "IG", "IG", "IG", "IV"}},
    {"ack", kAck_, {"IV", "IV", "PO", "PO", "OP", "CR", "CG", "IV"}},
    {"data", kData, {"IV", "IV", "IV", "IV", "OP", "CR", "CG", "IV"}},
    {"dataack", kDataAck, {"IV", "IV", "PO", "PO", "OP", "CR", "CG", "IV"}},
    {"closereq", kCloseReq, {"IV", "IV", "IV", "IV", "IV", "IV", "IV", "IV"}},
    {"close", kClose, {"IV", "IV", "IV", "CG", "CG", "CG", "CG", "IV"}},
    {"reset", kReset, {"IV", "TW", "TW", "TW", "TW", "TW", "TW", "IG"}},
    {"sync", kSync, {"IV", "IG", "IG", "IG", "IG", "IG", "IG", "IG"}},
    {"syncack", kSyncAck, {"IV", "IG", "IG", "IG", "IG", "IG", "IG", "IG"}},
};
constexpr Row kServer[] = {
    {"request", kRequest, {"IV", "IG", "IG", "IG", "IG", "IG", "IG", "RQ"}},
    {"response", kResponse, {"IV", "RS", "RS", "IG", "IG", "IG", "IG", "IV"}},
    {"ack", kAck_, {"IV", "IV", "IV", "OP", "OP", "IV", "CG", "IV"}},
    {"data", kData, {"IV", "IV", "IV", "OP", "OP", "IV", "CG", "IV"}},
    {"dataack", kDataAck, {"IV", "IV", "IV", "OP", "OP", "IV", "CG", "IV"}},
    {"closereq", kCloseReq, {"IV", "IV", "IV", "CR", "CR", "CR", "CR", "IV"}},
    {"close", kClose, {"IV", "IV", "IV", "CG", "CG", "IV", "CG", "IV"}},
    {"reset", kReset, {"IV", "TW", "TW", "TW", "TW", "TW", "TW", "IG"}},
    {"sync", kSync, {"IV", "IG", "IG", "IG", "IG", "IG", "IG", "IG"}},
    {"syncack", kSyncAck, {"IV", "IG", "IG", "IG", "IG", "IG", "IG", "IG"}},
};

TEST(DccpStates, CompleteTable) {
  auto check = [](u8 role, const Row& row) {
    for (u32 state = 0; state < kStates.size(); state++) {
      const u32 next = native_dccp_next(state, role, row.type);
      const char* name = next == NATIVE_DCCP_INVALID ? "IV" : next == NATIVE_DCCP_IGNORE ? "IG" : kStates.at(next);
      EXPECT_STREQ(name, row.next[state]) << kStates[state] << (role ? " server " : " client ") << row.packet;
    }
  };
  for (const Row& row : kClient) check(0, row);
  for (const Row& row : kServer) check(1, row);
}

class DccpConversation {
 public:
  std::string client(Type type, std::uint64_t seq, std::uint64_t ack) {
    return w.from(kLan, frame().ipv4().dccp({.type = type, .seq = seq, .ack = ack}).payload(5).build()).where;
  }
  std::string server(Type type, std::uint64_t seq, std::uint64_t ack) {
    return w
        .from(kWan, frame()
                        .ipv4({.src = "10.0.2.2", .dst = "10.0.2.1"})
                        .dccp({.sport = 5001, .dport = 40000, .type = type, .seq = seq, .ack = ack})
                        .payload(5)
                        .build())
        .where;
  }
  World w;
};

struct Step {
  bool from_server;
  Type type;
  const char* state;  // after it
  bool passes = true;
  std::uint64_t seq = 1;
  std::uint64_t ack = 0;
};
struct Story {
  const char* name;
  std::vector<Step> steps;
  bool assured = false;
};
void PrintTo(const Story& story, std::ostream* out) { *out << story.name; }

class DccpStory : public testing::TestWithParam<Story> {};

TEST_P(DccpStory, StateAfterEachPacket) {
  DccpConversation d;
  int n = 0;
  for (const Step& step : GetParam().steps) {
    SCOPED_TRACE(testing::Message() << "packet " << ++n);
    const u64 before = native_invalid(CTD_INVALID_DCCP_STATE);
    const ctd_conn was = n > 1 ? d.w.only() : ctd_conn{};
    const std::string where =
        step.from_server ? d.server(step.type, step.seq, step.ack) : d.client(step.type, step.seq, step.ack);
    EXPECT_EQ(where, !step.passes ? "drop policy" : step.from_server ? "lan via 10.1.0.2" : "wan via 10.0.2.2");
    EXPECT_EQ(native_invalid(CTD_INVALID_DCCP_STATE) - before, step.passes ? 0u : 1u);
    EXPECT_STREQ(kStates.at(d.w.only().state), step.state);
    if (!step.passes) {
      EXPECT_EQ(std::memcmp(&was, &d.w.only(), sizeof(was)), 0) << "changes nothing";
    }
    EXPECT_EQ(d.w.broken(), "");
  }
  EXPECT_EQ(!!(d.w.only().status & CTD_STATUS_ASSURED), GetParam().assured);
}

constexpr bool kC = false, kS = true;
constexpr std::uint64_t kServerSeq = 0x123456789abc;

Story after_handshake(const char* name, std::vector<Step> more) {
  std::vector<Step> steps = {{kC, kRequest, "RQ"},
                             {kS, kResponse, "RS", true, kServerSeq, 1},
                             {kC, kAck_, "PO", true, 2, kServerSeq},
                             {kS, kDataAck, "OP", true, kServerSeq + 1, 2}};
  steps.insert(steps.end(), more.begin(), more.end());
  return {name, std::move(steps), true};
}

std::vector<Story> stories() {
  return {
      after_handshake("Handshake", {}),
      after_handshake("DataBothWays", {{kC, kData, "OP"}, {kS, kData, "OP"}, {kC, kSync, "OP"}, {kS, kSyncAck, "OP"}}),
      after_handshake("ClientCloses", {{kC, kClose, "CG"}, {kC, kClose, "CG"}, {kS, kReset, "TW"}, {kS, kReset, "TW"}}),
      after_handshake("ServerAsksToClose", {{kS, kCloseReq, "CR"},
                                            {kS, kCloseReq, "CR"},
                                            {kC, kCloseReq, "CR", false},
                                            {kS, kData, "CR", false},
                                            {kC, kClose, "CG"},
                                            {kS, kReset, "TW"},
                                            {kC, kData, "TW", false}}),
      after_handshake("OpensAnew", {{kC, kReset, "TW"}, {kC, kRequest, "RQ"}, {kS, kResponse, "RS"}}),
      after_handshake("OpensAnewFromTheOtherSide", {{kC, kReset, "TW"},
                                                    {kS, kRequest, "RQ"},
                                                    {kS, kResponse, "RQ"},
                                                    {kC, kResponse, "RS"},
                                                    {kS, kAck_, "PO"},
                                                    {kC, kData, "OP"}}),
      after_handshake("RequestThatWeIgnored", {{kC, kRequest, "OP"}, {kS, kResponse, "RS"}, {kC, kAck_, "PO"}}),
      {"NotAssuredByAnotherAcknowledgement",
       {{kC, kRequest, "RQ"}, {kS, kResponse, "RS", true, kServerSeq, 1}, {kC, kAck_, "PO", true, 2, 7}}},
      {"AssuredByDataAck",
       {{kC, kRequest, "RQ"}, {kS, kResponse, "RS", true, kServerSeq, 1}, {kC, kDataAck, "PO", true, 2, kServerSeq}},
       true},
      {"Refused", {{kC, kRequest, "RQ"}, {kS, kReset, "TW"}}},
      {"OutOfOrder",
       {{kC, kRequest, "RQ"},
        {kC, kData, "RQ", false},
        {kS, kData, "RQ", false},
        {kC, kAck_, "RQ", false},
        {kS, kResponse, "RS"},
        {kC, kData, "RS", false},
        {kS, kAck_, "RS", false}}},
  };
}
INSTANTIATE_TEST_SUITE_P(All, DccpStory, testing::ValuesIn(stories()), [](const auto& row) { return row.param.name; });

TEST(Dccp, OnlyARequestOpens) {
  for (unsigned type = 1; type <= kSyncAck; type++) {
    DccpConversation d;
    EXPECT_EQ(d.client(static_cast<Type>(type), 1, 1), "drop policy") << type;
    EXPECT_EQ(d.w.connections().size(), 0u) << type;
  }
}

TEST(Dccp, ARefusedConnectionIsNotPromoted) {
  DccpConversation d;
  d.client(kRequest, 1, 0);
  d.server(kReset, 1, 1);
  EXPECT_EQ(CTD_CTL_CLASS(d.w.only().ctl), CTD_CLASS_UNANSWERED);
  EXPECT_EQ(d.w.only().timeout, 240 * kHz);
}

}  // namespace
}  // namespace ctd::test
