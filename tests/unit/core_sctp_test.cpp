// SPDX-License-Identifier: Apache-2.0
// SCTP: the state machine complete against a table, then associations chunk by chunk through the gateway.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <random>

#include "core_world.hpp"
#include "packet_check.hpp"

namespace ctd::test {
namespace {

constexpr std::array kStates = {"NO", "CL", "CW", "CE", "ES", "SS", "SR", "SA", "HS"};
static_assert(kStates.size() == CTD_SCTP_STATE_COUNT);

constexpr std::uint8_t kData = 0, kSack = 3, kHeartbeat = 4, kHeartbeatAck = 5, kAbort = 6, kShutdown = 7,
                       kShutdownAck = 8, kError = 9, kCookieEcho = 10, kCookieAck = 11, kShutdownComplete = 14;

struct Row {
  const char* chunk;
  std::uint8_t type;
  std::array<const char*, 9> next;  // by state, in the order of kStates; "IV": invalid
};

// What Linux documents for its connection tracking.
constexpr Row kOriginal[] = {
    {"init", 1, {"CL", "CL", "CW", "CE", "ES", "CL", "CL", "SA", "CW"}},
    {"init_ack", 2, {"CL", "CL", "CW", "CE", "ES", "SS", "SR", "SA", "CL"}},
    {"abort", kAbort, {"CL", "CL", "CL", "CL", "CL", "CL", "CL", "CL", "CL"}},
    {"shutdown", kShutdown, {"CL", "CL", "CW", "CE", "SS", "SS", "SR", "SA", "CL"}},
    {"shutdown_ack", kShutdownAck, {"SA", "CL", "CW", "CE", "ES", "SA", "SA", "SA", "SA"}},
    {"error", kError, {"CL", "CL", "CW", "CE", "ES", "SS", "SR", "SA", "CL"}},
    {"cookie_echo", kCookieEcho, {"CL", "CL", "CE", "CE", "ES", "SS", "SR", "SA", "CL"}},
    {"cookie_ack", kCookieAck, {"CL", "CL", "CW", "ES", "ES", "SS", "SR", "SA", "CL"}},
    {"shutdown_complete", kShutdownComplete, {"CL", "CL", "CW", "CE", "ES", "SS", "SR", "CL", "CL"}},
    {"heartbeat", kHeartbeat, {"HS", "CL", "CW", "CE", "ES", "SS", "SR", "SA", "HS"}},
    {"heartbeat_ack", kHeartbeatAck, {"CL", "CL", "CW", "CE", "ES", "SS", "SR", "SA", "HS"}},
    {"data", kData, {"NO", "CL", "CW", "CE", "ES", "SS", "SR", "SA", "HS"}},
    {"sack", kSack, {"NO", "CL", "CW", "CE", "ES", "SS", "SR", "SA", "HS"}},
    {"unknown", 200, {"NO", "CL", "CW", "CE", "ES", "SS", "SR", "SA", "HS"}},
};
constexpr Row kReply[] = {
    {"init", 1, {"IV", "CL", "CW", "CE", "ES", "SS", "SR", "SA", "IV"}},
    {"init_ack", 2, {"IV", "CW", "CW", "CE", "ES", "SS", "SR", "SA", "IV"}},
    {"abort", kAbort, {"IV", "CL", "CL", "CL", "CL", "CL", "CL", "CL", "IV"}},
    {"shutdown", kShutdown, {"IV", "CL", "CW", "CE", "SR", "SS", "SR", "SA", "IV"}},
    {"shutdown_ack", kShutdownAck, {"IV", "CL", "CW", "CE", "ES", "SA", "SA", "SA", "IV"}},
    {"error", kError, {"IV", "CL", "CW", "CL", "ES", "SS", "SR", "SA", "IV"}},
    {"cookie_echo", kCookieEcho, {"IV", "CL", "CE", "CE", "ES", "SS", "SR", "SA", "IV"}},
    {"cookie_ack", kCookieAck, {"IV", "CL", "CW", "ES", "ES", "SS", "SR", "SA", "IV"}},
    {"shutdown_complete", kShutdownComplete, {"IV", "CL", "CW", "CE", "ES", "SS", "SR", "CL", "IV"}},
    {"heartbeat", kHeartbeat, {"IV", "CL", "CW", "CE", "ES", "SS", "SR", "SA", "HS"}},
    {"heartbeat_ack", kHeartbeatAck, {"IV", "CL", "CW", "CE", "ES", "SS", "SR", "SA", "ES"}},
    {"data", kData, {"NO", "CL", "CW", "CE", "ES", "SS", "SR", "SA", "HS"}},
};

TEST(SctpStates, CompleteTable) {
  auto check = [](u8 dir, const Row& row) {
    for (u32 state = 0; state < kStates.size(); state++) {
      const u32 next = native_sctp_next(state, dir, row.type);
      EXPECT_STREQ(next == NATIVE_SCTP_INVALID ? "IV" : kStates.at(next), row.next[state])
          << kStates[state] << (dir ? " reply " : " original ") << row.chunk;
    }
  };
  for (const Row& row : kOriginal) check(0, row);
  for (const Row& row : kReply) check(1, row);
}

// The client's packets carry the server's tag, and the other way round.
constexpr std::uint32_t kClientTag = 0x11111111, kServerTag = 0x22222222;

class Association {
 public:
  std::string client(std::uint32_t tag, std::vector<Chunk> chunks) {
    return w.from(kLan, frame().ipv4({}).sctp({.tag = tag, .chunks = std::move(chunks)}).build()).where;
  }
  std::string server(std::uint32_t tag, std::vector<Chunk> chunks) {
    return w
        .from(kWan, frame()
                        .ipv4({.src = "10.0.2.2", .dst = "10.0.2.1"})
                        .sctp({.sport = 36412, .dport = 40000, .tag = tag, .chunks = std::move(chunks)})
                        .build())
        .where;
  }
  const ctd_conn& only() const { return w.only(); }

  World w;
};

struct Step {
  bool from_server;
  std::uint32_t tag;
  std::vector<Chunk> chunks;
  const char* state;                              // after it; "" if there is no association
  ctd_invalid_reason invalid = CTD_INVALID_NONE;  // else it passes
};
struct Story {
  const char* name;
  std::vector<Step> steps;
  bool assured = false;  // at the end
};
void PrintTo(const Story& story, std::ostream* out) { *out << story.name; }

class SctpStory : public testing::TestWithParam<Story> {};

TEST_P(SctpStory, StateAfterEachPacket) {
  Association a;
  int n = 0;
  for (const Step& step : GetParam().steps) {
    SCOPED_TRACE(testing::Message() << "packet " << ++n);
    const u64 before = native_invalid(step.invalid);
    const std::size_t conns = a.w.connections().size();
    const ctd_conn was = conns ? a.only() : ctd_conn{};
    const std::string where = step.from_server ? a.server(step.tag, step.chunks) : a.client(step.tag, step.chunks);
    if (step.invalid) {
      EXPECT_EQ(where, "drop policy");
      EXPECT_EQ(native_invalid(step.invalid), before + 1);
      ASSERT_EQ(a.w.connections().size(), conns);
      if (conns) {
        EXPECT_EQ(std::memcmp(&was, &a.only(), sizeof(was)), 0) << "changes nothing";
      }
    } else {
      EXPECT_EQ(where, step.from_server ? "lan via 10.1.0.2" : "wan via 10.0.2.2");
    }
    if (a.w.connections().empty())
      EXPECT_STREQ(step.state, "");
    else
      EXPECT_STREQ(kStates.at(a.only().state), step.state);
    EXPECT_EQ(a.w.broken(), "");
  }
  if (!a.w.connections().empty()) {
    EXPECT_EQ(!!(a.only().status & CTD_STATUS_ASSURED), GetParam().assured);
  }
}

constexpr bool kC = false, kS = true;
const Chunk kCookie{.type = kCookieEcho, .body = Bytes(24)}, kCookieOk{.type = kCookieAck},
    kPayload{.type = kData, .body = Bytes(13)}, kBeat{.type = kHeartbeat, .body = Bytes(8)},
    kBeatBack{.type = kHeartbeatAck, .body = Bytes(8)}, kBye{.type = kShutdown, .body = Bytes(4)},
    kByeBack{.type = kShutdownAck}, kByeDone{.type = kShutdownComplete}, kGone{.type = kAbort},
    kSelective{.type = kSack, .body = Bytes(12)};

std::vector<Step> handshake() {
  return {{kC, 0, {sctp_init(kClientTag)}, "CL"},
          {kS, kClientTag, {sctp_init_ack(kServerTag)}, "CW"},
          {kC, kServerTag, {kCookie}, "CE"},
          {kS, kClientTag, {kCookieOk}, "ES"}};
}

Story after_handshake(const char* name, std::vector<Step> more) {
  std::vector<Step> steps = handshake();
  steps.insert(steps.end(), more.begin(), more.end());
  return {name, std::move(steps), true};
}

Chunk with_t(Chunk chunk) {
  chunk.flags = 1;
  return chunk;
}

std::vector<Story> stories() {
  constexpr auto kTag = CTD_INVALID_SCTP_TAG, kState = CTD_INVALID_SCTP_STATE, kChunk = CTD_INVALID_SCTP_CHUNK;
  const Chunk init = sctp_init(kClientTag);
  Chunk cut = kPayload;
  cut.length = 99;
  Chunk empty = kPayload;
  empty.length = 0;
  return {
      after_handshake("Handshake", {}),
      after_handshake("DataBothWays",
                      {{kC, kServerTag, {kPayload}, "ES"}, {kS, kClientTag, {kSelective, kPayload, kPayload}, "ES"}}),
      {"CookieEchoWithData",
       {{kC, 0, {init}, "CL"},
        {kS, kClientTag, {sctp_init_ack(kServerTag)}, "CW"},
        {kC, kServerTag, {kCookie, kPayload, kPayload}, "CE"},
        {kS, kClientTag, {kCookieOk, kSelective}, "ES"}},
       true},
      after_handshake(
          "ClientShutsDown",
          {{kC, kServerTag, {kBye}, "SS"}, {kS, kClientTag, {kByeBack}, "SA"}, {kC, kServerTag, {kByeDone}, "CL"}}),
      after_handshake("ServerShutsDown", {{kS, kClientTag, {kSelective, kBye}, "SR"},
                                          {kC, kServerTag, {kByeBack}, "SA"},
                                          {kS, kClientTag, {kByeDone}, "CL"}}),
      after_handshake("ShutdownCompleteWithThePeersTag", {{kC, kServerTag, {kBye}, "SS"},
                                                          {kS, kClientTag, {kByeBack}, "SA"},
                                                          {kC, kServerTag, {with_t(kByeDone)}, "SA", kTag},
                                                          {kC, kClientTag, {with_t(kByeDone)}, "CL"}}),
      after_handshake(
          "AbortNeedsTheTag",
          {{kS, kServerTag, {kGone}, "ES", kTag}, {kS, 0, {kGone}, "ES", kTag}, {kS, kClientTag, {kGone}, "CL"}}),
      after_handshake("AbortWithThePeersTag",
                      {{kS, kClientTag, {with_t(kGone)}, "ES", kTag}, {kS, kServerTag, {with_t(kGone)}, "CL"}}),
      after_handshake("DataNeedsTheTag", {{kC, kClientTag, {kPayload}, "ES", kTag}, {kC, 0, {kPayload}, "ES", kTag}}),
      after_handshake("OpensAnewAfterAbort", {{kS, kClientTag, {kGone}, "CL"},
                                              {kC, 0, {sctp_init(77)}, "CL"},
                                              {kS, 77, {sctp_init_ack(88)}, "CW"},
                                              {kC, 88, {kCookie}, "CE"},
                                              {kS, 77, {kCookieOk}, "ES"}}),
      {"Refused", {{kC, 0, {init}, "CL"}, {kS, kClientTag, {kGone}, "CL"}}},
      {"WrongTagsInTheHandshake",
       {{kC, 5, {init}, "", kTag},
        {kC, 0, {init}, "CL"},
        {kS, kServerTag, {sctp_init_ack(kServerTag)}, "CL", kTag},
        {kS, kClientTag, {sctp_init_ack(kServerTag)}, "CW"},
        {kC, kClientTag, {kCookie}, "CW", kTag},
        {kC, kServerTag, {kCookie}, "CE"},
        {kS, kServerTag, {kCookieOk}, "CE", kTag}}},
      {"StaleCookie",
       {{kC, 0, {init}, "CL"},
        {kS, kClientTag, {sctp_init_ack(kServerTag)}, "CW"},
        {kC, kServerTag, {kCookie}, "CE"},
        {kS, kClientTag, {{.type = kError, .body = Bytes(8)}}, "CL"}}},
      {"NewPathByHeartbeat",
       {{kC, kServerTag, {kBeat}, "HS"}, {kS, kClientTag, {kBeatBack}, "ES"}, {kC, kServerTag, {kPayload}, "ES"}},
       true},
      {"EstablishedAndClosedByOnePacket",
       {{kC, 0, {init}, "CL"},
        {kS, kClientTag, {sctp_init_ack(kServerTag)}, "CW"},
        {kC, kServerTag, {kCookie}, "CE"},
        {kS, kClientTag, {kCookieOk, kBye}, "SR"}},
       true},
      {"AHeartbeatBesideAnotherChunk",
       {{kC, kServerTag, {kBeat, kByeBack}, "SA"}, {kS, kClientTag, {kBeatBack}, "SA", kTag}}},
      {"AHeartbeatBesideAChunkThatOpensNothing",
       {{kC, kServerTag, {kBeat, kBye}, "CL"}, {kS, kClientTag, {kBeatBack}, "CL"}}},
      {"AnAnswerToAHeartbeatSaysItsOwnTagOnly",
       {{kC, kServerTag, {kBeatBack}, "CL"},
        {kS, kServerTag, {kPayload}, "CL", kTag},
        {kS, kClientTag, {kBeat}, "CL"},
        {kS, kClientTag, {kPayload}, "CL"}}},
      {"NewPathNeedsItsAnswer",
       {{kC, kServerTag, {kBeat}, "HS"},
        {kS, kClientTag, {kGone}, "HS", kTag},
        {kS, kClientTag, {kPayload}, "HS", kTag},
        {kS, kClientTag, {kBeat}, "HS"}}},
      after_handshake("HeartbeatWithAnotherTagNeedsTheAnswer",
                      {{kC, 99, {kBeat}, "ES"}, {kS, 55, {kBeatBack}, "ES"}, {kC, 99, {kBeat}, "ES"}}),
      after_handshake("HeartbeatWithAnotherTagBringsNoData", {{kC, 99, {kBeat, kPayload}, "ES", kTag}}),
      after_handshake("HeartbeatAnswerOutOfTheBlue", {{kS, 55, {kBeatBack}, "ES", kTag}}),
      {"OutOfTheBlue",
       {{kC, 7, {kPayload}, "", kState},
        {kC, 7, {kGone}, "", kState},
        {kC, 7, {kCookieOk}, "", kState},
        {kC, 7, {kByeDone}, "", kState},
        {kC, 7, {kCookie}, "", kTag},
        {kC, 7, {kBye}, "", kTag},
        {kC, 7, {sctp_init_ack(9)}, "", kTag},
        {kC, 7, {kByeBack}, "SA"}}},
      {"ChunksThatStandAlone",
       {{kC, 0, {init, kPayload}, "", kChunk},
        {kC, 0, {kPayload, init}, "", kChunk},
        {kC, 7, {kBeat, kCookie}, "", kChunk},
        {kC, 0, {sctp_init(0)}, "", kChunk},
        {kC, 0, {{.type = 1, .body = Bytes(8)}}, "", kChunk},
        {kC, 0, {}, "", kChunk}}},
      after_handshake("ChunksThatLie", {{kC, kServerTag, {cut}, "ES", kChunk},
                                        {kC, kServerTag, {kSelective, empty}, "ES", kChunk},
                                        {kC, kServerTag, {kSelective, kCookieOk}, "ES", kChunk},
                                        {kC, kServerTag, std::vector<Chunk>(9, kBeat), "ES", kChunk}}),
      // RFC 9260, 5.2: an INIT ends nothing. Its tags count when both ends have shown them in a cookie handshake.
      after_handshake("AForgedInitChangesNothing", {{kC, 0, {sctp_init(77)}, "ES"},
                                                    {kS, 0, {sctp_init(78)}, "ES"},
                                                    {kC, kServerTag, {kPayload}, "ES"},
                                                    {kS, kClientTag, {kSelective, kPayload}, "ES"},
                                                    {kS, 77, {kPayload}, "ES", kTag},
                                                    {kC, 78, {kPayload}, "ES", kTag},
                                                    {kS, kClientTag, {kBye}, "SR"},
                                                    {kC, 0, {sctp_init(79)}, "SR"},
                                                    {kC, kServerTag, {kByeBack}, "SA"}}),
      after_handshake("TheClientRestarts", {{kC, 0, {sctp_init(77)}, "ES"},
                                            {kS, 77, {sctp_init_ack(88)}, "ES"},
                                            {kS, kClientTag, {kPayload}, "ES"},
                                            {kC, 88, {kPayload}, "ES", kTag},
                                            {kC, 88, {kCookie, kPayload}, "ES"},
                                            {kS, 77, {kCookieOk, kSelective}, "ES"},
                                            {kC, 88, {kPayload}, "ES"},
                                            {kS, 77, {kPayload}, "ES"},
                                            {kC, kServerTag, {kPayload}, "ES", kTag},
                                            {kS, kClientTag, {kPayload}, "ES", kTag}}),
      after_handshake("TheServerRestarts", {{kS, 0, {sctp_init(77)}, "ES"},
                                            {kC, 77, {sctp_init_ack(88)}, "ES"},
                                            {kS, 88, {kCookie}, "ES"},
                                            {kC, 77, {kCookieOk}, "ES"},
                                            {kC, 77, {kPayload}, "ES"},
                                            {kS, 88, {kPayload}, "ES"}}),
      after_handshake("ARestartEndsAShutdown", {{kC, kServerTag, {kBye}, "SS"},
                                                {kC, 0, {sctp_init(77)}, "SS"},
                                                {kS, 77, {sctp_init_ack(88)}, "SS"},
                                                {kC, 88, {kCookie}, "SS"},
                                                {kS, 77, {kCookieOk}, "ES"}}),
      after_handshake("ARepeatedInitLetsNobodyAnnounceAnotherTag", {{kC, 0, {init}, "ES"},
                                                                    {kS, kClientTag, {sctp_init_ack(88)}, "ES", kTag},
                                                                    {kC, kServerTag, {kPayload}, "ES"}}),
      after_handshake("ARestartNeedsItsCookie", {{kC, 0, {sctp_init(77)}, "ES"},
                                                 {kS, 77, {kCookieOk}, "ES", kTag},
                                                 {kS, 77, {sctp_init_ack(88)}, "ES"},
                                                 {kS, 77, {kCookieOk}, "ES", kTag},
                                                 {kS, 88, {kCookie}, "ES", kTag},
                                                 {kC, 77, {kCookie}, "ES", kTag},
                                                 {kC, kServerTag, {kPayload}, "ES"}}),
      after_handshake("ARestartIsRefused", {{kC, 0, {sctp_init(77)}, "ES"},
                                            {kS, 78, {kGone}, "ES", kTag},
                                            {kS, 77, {kGone}, "ES"},
                                            {kS, 77, {sctp_init_ack(88)}, "ES", kTag},
                                            {kS, kClientTag, {kPayload}, "ES"}}),
      after_handshake("ARestartWithAStaleCookie", {{kC, 0, {sctp_init(77)}, "ES"},
                                                   {kS, 77, {sctp_init_ack(88)}, "ES"},
                                                   {kC, 88, {kCookie}, "ES"},
                                                   {kS, 77, {{.type = kError, .body = Bytes(8)}}, "ES"},
                                                   {kC, 0, {sctp_init(77)}, "ES"},
                                                   {kS, 77, {sctp_init_ack(89)}, "ES"},
                                                   {kC, 89, {kCookie}, "ES"},
                                                   {kS, 77, {kCookieOk}, "ES"},
                                                   {kC, 89, {kPayload}, "ES"}}),
      {"AForgedInitInTheHandshake",
       {{kC, 0, {init}, "CL"},
        {kC, 0, {sctp_init(77)}, "CL"},
        {kS, kClientTag, {sctp_init_ack(kServerTag)}, "CW"},
        {kC, 0, {sctp_init(77)}, "CW"},
        {kC, kServerTag, {kCookie}, "CE"},
        {kS, 0, {sctp_init(77)}, "CE"},
        {kS, kClientTag, {kCookieOk}, "ES"},
        {kC, kServerTag, {kPayload}, "ES"}},
       true},
      {"AnotherInitBeforeTheAnswer",
       {{kC, 0, {init}, "CL"},
        {kC, 0, {sctp_init(77)}, "CL"},
        {kS, 77, {sctp_init_ack(88)}, "CW"},
        {kC, 88, {kCookie}, "CE"},
        {kS, 77, {kCookieOk}, "ES"},
        {kC, 88, {kPayload}, "ES"}},
       true},
      {"BothOpenAtOnce",
       {{kC, 0, {init}, "CL"},
        {kS, 0, {sctp_init(kServerTag)}, "CL"},
        {kC, kServerTag, {sctp_init_ack(kClientTag)}, "CL"},
        {kS, kClientTag, {sctp_init_ack(kServerTag)}, "CW"},
        {kC, kServerTag, {kCookie}, "CE"},
        {kS, kClientTag, {kCookie}, "CE"},
        {kC, kServerTag, {kCookieOk}, "ES"},
        {kS, kClientTag, {kPayload}, "ES"}},
       true},
      after_handshake("ACookieAckNeedsTheTagBesideAHeartbeat", {{kS, 99, {kCookieOk, kBeat}, "ES", kTag}}),
      after_handshake("ManyChunks", {{kC, kServerTag, std::vector<Chunk>(80, {.type = kData}), "ES"},
                                     {kS, kClientTag, {kSelective, kBeat, kBye}, "SR"}}),
  };
}
INSTANTIATE_TEST_SUITE_P(All, SctpStory, testing::ValuesIn(stories()), [](const auto& row) { return row.param.name; });

TEST(Sctp, TimeoutsFollowTheStateAndARepeatedInitDoesNotRefresh) {
  Association a;
  a.client(0, {sctp_init(kClientTag)});
  EXPECT_EQ(a.only().timeout, 10 * kHz);
  const u32 seen = a.only().last_seen[0];
  a.w.advance(4);
  a.client(0, {sctp_init(kClientTag)});
  EXPECT_EQ(a.only().last_seen[0], seen);
  EXPECT_EQ(a.only().count[0].packets, 1u) << "it passes";
  a.server(kClientTag, {sctp_init_ack(kServerTag)});
  EXPECT_EQ(a.only().timeout, 65 * kHz);
  a.client(kServerTag, {kCookie});
  a.server(kClientTag, {kCookieOk});
  EXPECT_EQ(a.only().timeout, 7440 * kHz);
  a.w.advance(4);
  a.client(kServerTag, {kPayload});
  EXPECT_NE(a.only().last_seen[0], seen);
}

TEST(Sctp, AnInitThatNobodyHasConfirmedKeepsNothingAlive) {
  Association a;
  a.client(0, {sctp_init(kClientTag)});
  a.server(kClientTag, {sctp_init_ack(kServerTag)});
  a.client(kServerTag, {kCookie});
  a.server(kClientTag, {kCookieOk});
  const u32 seen = a.only().last_seen[0];
  a.w.advance(4);
  a.client(0, {sctp_init(77)});
  EXPECT_EQ(a.only().last_seen[0], seen);
  EXPECT_EQ(a.only().timeout, 7440 * kHz);
}

// The checksum that other ports make is found without reading the packet.
TEST(Sctp, ChecksumFollowsThePorts) {
  std::mt19937 rng(7);
  for (std::size_t size : {0u, 1u, 2u, 3u, 4u, 7u, 100u, 1400u, 1452u, 9000u, 65000u})
    for (int i = 0; i < 8; i++) {
      auto build = [&](unsigned sport, unsigned dport) {
        return frame()
            .ipv4()
            .sctp({.sport = static_cast<std::uint16_t>(sport), .dport = static_cast<std::uint16_t>(dport), .tag = 9})
            .payload(size)
            .build();
      };
      const unsigned from[] = {static_cast<unsigned>(rng() & 0xffff), static_cast<unsigned>(rng() & 0xffff)};
      const unsigned to[] = {static_cast<unsigned>(rng() & 0xffff), static_cast<unsigned>(rng() & 0xffff)};
      const Packet before = build(from[0], from[1]), after = build(to[0], to[1]);
      auto word = [](const Packet& p, std::size_t at) {
        u32 v;
        std::memcpy(&v, &p.bytes.at(at), sizeof(v));
        return v;
      };
      EXPECT_EQ(native_crc32c_shift(word(before, 34) ^ word(after, 34), static_cast<u32>(12 + size)),
                word(before, 42) ^ word(after, 42))
          << size;
    }
}

TEST(Sctp, PortsAreTranslatedOnlyIfTheyMustBe) {
  for (bool partial : {false, true}) {
    World w;
    auto init = [&](std::string_view src) {
      PacketBuilder b = frame().ipv4({.src = src}).sctp({.chunks = {sctp_init(kClientTag)}});
      return (partial ? b.partial() : b).build();
    };
    EXPECT_EQ(w.from(kLan, init("10.1.0.2")).line, "sctp 10.0.2.1:40000 > 10.0.2.2:36412");
    Out out = w.from(kLan, init("10.1.0.3"));  // World looks at its checksum
    EXPECT_EQ(out.where, "wan via 10.0.2.2");
    EXPECT_NE(out.line, "sctp 10.0.2.1:40000 > 10.0.2.2:36412");
  }
}

}  // namespace
}  // namespace ctd::test
