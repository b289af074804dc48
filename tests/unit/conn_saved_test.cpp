// SPDX-License-Identifier: Apache-2.0
// The saved form: what is written and read again is the same record.
#include "lib/conn_parse.hpp"

#include <cstring>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "conn_fixture.hpp"
#include "conn_schema.hpp"
#include "lib/conn_json.hpp"
#include "lib/conn_text.hpp"
#include "lib/names.hpp"

namespace ctd {
namespace {

using namespace test;
using nlohmann::json;
using testing::HasSubstr;
using testing::IsEmpty;

// "default", "p1", "p2" …
ConnPolicies policies() {
  std::vector<std::string> names{"default"};
  while (names.size() < CTD_MAX_CT_POLICIES) names.push_back(fmt::format("p{}", names.size()));
  return ConnPolicies(std::move(names));
}

std::string saved(const ctd_conn& conn, const ctd_conn* master = nullptr) {
  static const ConnPolicies all = policies();
  fmt::memory_buffer out;
  append_saved_conn(out, conn, master, all, clock_now());
  return fmt::to_string(out);
}

ParsedConn parsed(const std::string& line, const KernelClock& clock = clock_now()) {
  Result<ParsedConn> result = parse_conn_json(line, clock);
  EXPECT_TRUE(result) << result.error().message() << "\n" << line;
  return result ? *result : ParsedConn{};
}

// Any record that the datapath could have written, with chance in every field.
class Chance {
 public:
  explicit Chance(unsigned seed) : random_(seed) {}

  ctd_conn conn() {
    ctd_conn c{};
    c.orig = tuple();
    c.reply = answer(c.orig);
    auto* tracked = reinterpret_cast<char*>(&c) + offsetof(ctd_conn, win);
    if (const uint8_t proto = c.orig.proto; proto == IPPROTO_TCP) {
      for (std::size_t i = 0; i < sizeof(c) - offsetof(ctd_conn, win); ++i) tracked[i] = static_cast<char>(up_to(255));
      for (ctd_tcp_window& window : c.win) window.pad = 0;
      c.tcp_last_dir = static_cast<u8>(up_to(1));
      c.tcp_last_flags = static_cast<u16>(up_to(255));
      clear_own(c);
    } else if (proto == IPPROTO_SCTP) {
      c.sctp.vtag[0] = bits();
      c.sctp.vtag[1] = bits();
      c.sctp.flags = static_cast<u8>(up_to(255));
    } else if (proto == IPPROTO_DCCP) {
      c.dccp.handshake_seq = u64{bits()} << 16;
      for (u8& role : c.dccp.role) role = static_cast<u8>(up_to(1));
      c.dccp.last_type = static_cast<u8>(up_to(9));
      c.dccp.last_dir = static_cast<u8>(up_to(1));
    }
    c.state = state(c.orig.proto);
    c.status = CTD_STATUS_CONFIRMED | (bits() & (CTD_STATUS_EXPECTED | CTD_STATUS_SEEN_REPLY | CTD_STATUS_ASSURED));
    const u32 best = c.status & CTD_STATUS_ASSURED      ? CTD_CLASS_ASSURED
                     : c.status & CTD_STATUS_SEEN_REPLY ? CTD_CLASS_ANSWERED
                                                        : CTD_CLASS_UNANSWERED;
    c.ctl = CTD_CTL(bits() & 0xffffff, up_to(best), CTD_CONN_VALID);
    c.mark = bits();
    for (u8& byte : c.label) byte = static_cast<u8>(up_to(255));
    c.helper = static_cast<u16>(up_to(3));
    c.timeout_policy = static_cast<u16>(up_to(255));
    c.event_mask = static_cast<u16>(bits());
    c.count[0] = {bits(), u64{bits()} << 20};
    c.count[1] = {bits(), bits()};
    c.timeout = up_to(7440 * kHz);
    c.start = kNow - up_to(1'000'000'000);
    c.last_seen[0] = static_cast<u32>(kNow - up_to(7440 * kHz));
    c.last_seen[1] = up_to(3) ? static_cast<u32>(kNow - up_to(7440 * kHz)) : 0;
    return c;
  }

 private:
  u32 bits() { return static_cast<u32>(random_()); }
  u32 up_to(u32 last) { return std::uniform_int_distribution<u32>(0, last)(random_); }
  ctd_addr address(bool v6) {
    ctd_addr a{};
    if (!v6) {
      a.v4 = bits();
      return a;
    }
    for (u8& byte : a.b) byte = static_cast<u8>(up_to(255));
    return a;
  }
  ctd_tuple tuple() {
    constexpr std::array<int, 8> kProtocols{IPPROTO_TCP, IPPROTO_UDP,  IPPROTO_SCTP,   IPPROTO_DCCP,
                                            IPPROTO_GRE, IPPROTO_ICMP, IPPROTO_ICMPV6, 253};
    ctd_tuple t{};
    t.proto = static_cast<u8>(kProtocols[up_to(kProtocols.size() - 1)]);
    const bool v6 = t.proto == IPPROTO_ICMPV6 || (t.proto != IPPROTO_ICMP && up_to(1));
    t.family = v6 ? CTD_IPV6 : CTD_IPV4;
    t.src = address(v6);
    t.dst = address(v6);
    t.zone = static_cast<u16>(bits());
    if (port_use(t.proto) == PortUse::kPorts) t.dport = static_cast<u16>(bits());
    if (port_use(t.proto) != PortUse::kNone) t.sport = static_cast<u16>(bits());
    if (port_use(t.proto) == PortUse::kIcmp) t.dport = htons(v6 ? 128 << 8 : 13 << 8);
    return t;
  }
  // Translated in every way that there is.
  ctd_tuple answer(const ctd_tuple& orig) {
    ctd_tuple t = *inverted(orig);
    if (up_to(1)) t.dst = address(orig.family == CTD_IPV6);
    if (up_to(1)) t.src = address(orig.family == CTD_IPV6);
    if (port_use(t.proto) != PortUse::kNone) t.sport = static_cast<u16>(bits());
    if (port_use(t.proto) == PortUse::kPorts) t.dport = static_cast<u16>(bits());
    return t;
  }
  u8 state(u8 proto) {
    u8 count = 0;
    while (conn_state_name(proto, count) != "UNKNOWN") ++count;
    return static_cast<u8>(up_to(count - 1u));
  }

 public:
  // What the table keeps itself.
  static void clear_own(ctd_conn& c) {
    c.ctl = c.lock = c.id = c.master = c.master_seq = c.expires = c.expires_seen = c.source = 0;
    c.end_reason = 0;
    c.status &= ~static_cast<u32>(CTD_STATUS_CONFIRMED);
  }

 private:
  std::mt19937 random_;
};

TEST(SavedConn, WhatIsWrittenIsReadAgain) {
  Chance chance(7);
  for (int i = 0; i < 4'000; ++i) {
    const ctd_conn conn = chance.conn();
    const std::string line = saved(conn);
    if (i % 100 == 0) {
      EXPECT_THAT(schema_errors(json::parse(line)), IsEmpty()) << line;
    }
    const ParsedConn again = parsed(line);
    EXPECT_EQ(again.cls, static_cast<ctd_conn_class>(CTD_CTL_CLASS(conn.ctl)));
    EXPECT_FALSE(again.master);
    ctd_conn expected = conn;
    Chance::clear_own(expected);
    EXPECT_EQ(again.policy, conn.timeout_policy ? fmt::format("p{}", conn.timeout_policy) : "");
    expected.timeout_policy = 0;  // which number that is here, the caller knows
    ASSERT_EQ(std::memcmp(&expected, &again.conn, sizeof(expected)), 0) << line << "\n" << saved(again.conn);
  }
}

TEST(SavedConn, TimesFollowTheClockOfWhoReads) {
  const std::string line = saved(masqueraded_conn());
  for (const uint32_t hz : {100u, 250u, 300u, 1000u}) {
    KernelClock later = clock_now();
    later.hz = hz;
    later.jiffies += 12345;
    later.wall += std::chrono::hours(2);
    const ctd_conn again = parsed(line, later).conn;
    EXPECT_EQ(jiffies_left(again, later.jiffies), (7440 - 9) * hz) << "what was left then is left now";
    EXPECT_EQ(utc_text(later.wall_at(again.start)), "2026-11-22T18:59:00.000Z");
  }
}

TEST(SavedConn, ATimeoutOfTheOperatorStaysOne) {
  ctd_conn conn = tcp_conn();
  conn.expires = static_cast<u32>(kNow + 5 * kHz);
  conn.expires_seen = static_cast<u32>(kNow - 9 * kHz);
  const json line = json::parse(saved(conn));
  EXPECT_EQ(line["track"]["set_timeout_ms"], 5000);
  EXPECT_THAT(schema_errors(line), IsEmpty());
  ctd_conn again = parsed(line.dump()).conn;
  EXPECT_EQ(jiffies_left(again, kNow), 5u * kHz);
  again.last_seen[CTD_DIR_ORIG] = static_cast<u32>(kNow);
  EXPECT_EQ(jiffies_left(again, kNow), 7440u * kHz);
}

TEST(SavedConn, AMasterIsATuple) {
  const ctd_conn master = tcp_conn();
  const ParsedConn child = parsed(saved(udp6_conn(), &master));
  ASSERT_TRUE(child.master);
  EXPECT_EQ(std::memcmp(&*child.master, &master.orig, sizeof(master.orig)), 0);
}

TEST(SavedConn, WithoutIdleTimesItWasSeenJustNow) {
  json line = json::parse(saved(masqueraded_conn()));
  line["track"].erase("orig_idle_ms");
  line["track"].erase("reply_idle_ms");
  const ctd_conn again = parsed(line.dump()).conn;
  EXPECT_EQ(again.last_seen[CTD_DIR_ORIG], static_cast<u32>(kNow));
  EXPECT_EQ(again.last_seen[CTD_DIR_REPLY], 0u) << "nobody says that it was answered";
  EXPECT_EQ(jiffies_left(again, kNow), 7440u * kHz) << "its whole timeout, not what is left since its start";
}

TEST(SavedConn, APlainDumpIsEnough) {
  fmt::memory_buffer out;
  append_conn_json(out, masqueraded_conn(), clock_now());
  const ParsedConn again = parsed(fmt::to_string(out));
  EXPECT_EQ(again.cls, CTD_CLASS_ASSURED);
  EXPECT_EQ(jiffies_left(again.conn, kNow), 7431u * kHz);
  EXPECT_EQ(again.conn.count[CTD_DIR_REPLY].bytes, 1892u);
}

constexpr char kLeast[] =
    R"({"proto":"udp","timeout_s":30,"orig":{"src":"10.1.0.2","dst":"10.0.2.2","sport":5353,"dport":53}})";

TEST(SavedConn, TheLeastThatMakesAConnection) {
  const ParsedConn made = parsed(kLeast);
  EXPECT_EQ(made.cls, CTD_CLASS_UNANSWERED);
  EXPECT_EQ(made.conn.state, CTD_OTHER_UNREPLIED);
  const ctd_tuple reply = tuple(IPPROTO_UDP, {"10.0.2.2", 53}, {"10.1.0.2", 5353});
  EXPECT_EQ(std::memcmp(&made.conn.reply, &reply, sizeof(reply)), 0);
  EXPECT_EQ(jiffies_left(made.conn, kNow), 30u * kHz);
}

TEST(SavedConn, ErrorsNameTheMember) {
  struct Row {
    const char* pointer;
    json value;  // null: taken away
    const char* message;
  };
  const ctd_conn master = tcp_conn();
  const json good = json::parse(saved(masqueraded_conn(), &master));
  const json ping = json::parse(saved(ping_conn()));
  const std::vector<Row> rows{
      {"/proto", nullptr, "proto: expected a protocol, but it is missing"},
      {"/proto", "tpc", "proto: \"tpc\": expected a protocol"},
      {"/protonum", 17, "protonum: expected 6, as proto says"},
      {"/zone", 65536, "zone: expected a number from 0 to 65535, not 65536"},
      {"/orig", nullptr, "orig: expected an object, but it is missing"},
      {"/orig/src", "localhost", "orig.src: \"localhost\": expected an address"},
      {"/orig/src", 7, "orig.src: expected an address, not 7"},
      {"/orig/dst", "fd00::1", "orig.dst: expected an address of the same family"},
      {"/orig/sport", 70000, "orig.sport: expected a number from 0 to 65535, not 70000"},
      {"/orig/sport", "80", "orig.sport: expected a number from 0 to 65535, not \"80\""},
      {"/orig/packets", -1, "orig.packets: expected a number"},
      {"/reply/dport", nullptr, "reply.dport: expected a number from 0 to 65535, but it is missing"},
      {"/state", nullptr, "state: expected a state, but it is missing"},
      {"/state", "REPLIED", "state: \"REPLIED\": tcp has no such state"},
      {"/status", "ASSURED", "status: expected an array, not \"ASSURED\""},
      {"/status/0", "SURE", "status: \"SURE\": expected EXPECTED, SEEN_REPLY"},
      {"/mark", 4294967296, "mark: expected a number from 0 to 4294967295"},
      {"/label", "0xg", "label: \"0xg\": expected a number of 128 bits"},
      {"/timeout_s", nullptr, "timeout_s: expected a number"},
      {"/start", "2026-02-30T00:00:00.000Z", "start: \"2026-02-30T00:00:00.000Z\": expected a time"},
      {"/track/class", "sure", "track.class: \"sure\": expected unanswered, answered or assured"},
      {"/track/timeout_ms", nullptr, "track.timeout_ms: expected a number"},
      {"/track/tcp/orig_scale", 256, "track.tcp.orig_scale: expected a number from 0 to 255, not 256"},
      {"/track/master/src", "x", "track.master.src: \"x\": expected an address"},
      {"/track/policy", 3, "track.policy: expected the name of a timeout policy, not 3"},
  };
  for (const Row& row : rows) {
    json bad = good;
    const json::json_pointer at(row.pointer);
    if (row.value.is_null())
      bad[at.parent_pointer()].erase(at.back());
    else
      bad[at] = row.value;
    const Result<ParsedConn> result = parse_conn_json(bad.dump(), clock_now());
    ASSERT_FALSE(result) << row.message;
    EXPECT_THAT(result.error().message(), HasSubstr(row.message));
  }
  json bad = ping;
  bad["orig"]["type"] = 0;
  EXPECT_THAT(parse_conn_json(bad.dump(), clock_now()).error().message(), HasSubstr("orig.type: expected the type of"));
  bad = ping;
  bad["track"]["class"] = "assured";
  EXPECT_THAT(parse_conn_json(bad.dump(), clock_now()).error().message(), HasSubstr("expected answered at most"));
  bad = ping;
  bad["reply"]["type"] = 8;
  EXPECT_THAT(parse_conn_json(bad.dump(), clock_now()).error().message(), HasSubstr("reply.type: expected the answer"));
  for (const char* text : {"", "{", "[]", "7", "\xff"})
    EXPECT_THAT(parse_conn_json(text, clock_now()).error().message(), HasSubstr("expected a JSON object"));
}

std::string line(void (*append)(fmt::memory_buffer&, const ctd_conn&, const KernelClock&), const ctd_conn& conn) {
  fmt::memory_buffer out;
  append(out, conn, clock_now());
  return fmt::to_string(out);
}

TEST(ConntrackText, AsConntrackWritesIt) {
  ctd_conn conn = masqueraded_conn();
  conn.mark = 31;
  conn.orig.zone = conn.reply.zone = 5;
  EXPECT_EQ(line(append_conn_conntrack, conn),
            "tcp      6 7431 ESTABLISHED src=10.1.0.2 dst=10.0.2.2 sport=40312 dport=80 packets=6 bytes=412 "
            "src=10.0.2.2 dst=10.0.2.1 sport=80 dport=40312 packets=5 bytes=1892 [ASSURED] mark=31 zone=5 use=1");
  EXPECT_EQ(line(append_conn_conntrack, ping_conn()),
            "icmp     1 21 src=10.1.0.2 dst=10.0.2.2 type=8 code=0 id=3311 packets=6 bytes=412 src=10.0.2.2 "
            "dst=10.0.2.1 type=0 code=0 id=3311 packets=5 bytes=1892 mark=0 use=1");
  EXPECT_EQ(line(append_conn_conntrack, udp6_conn()),
            "udp      17 18 src=fd00:1::2 dst=2001:db8::35 sport=5353 dport=53 packets=6 bytes=412 [UNREPLIED] "
            "src=2001:db8::35 dst=fd00:1::2 sport=53 dport=5353 packets=0 bytes=0 mark=0 use=1");
}

TEST(DpctlText, AsOpenVSwitchWritesIt) {
  const auto dpctl = [](const ctd_conn& conn) {
    return line([](fmt::memory_buffer& out, const ctd_conn& c, const KernelClock&) { append_conn_dpctl(out, c); },
                conn);
  };
  ctd_conn conn = masqueraded_conn();
  conn.mark = 31;
  conn.label[0] = 0x1f;
  conn.orig.zone = conn.reply.zone = 5;
  EXPECT_EQ(dpctl(conn),
            "tcp,orig=(src=10.1.0.2,dst=10.0.2.2,sport=40312,dport=80),"
            "reply=(src=10.0.2.2,dst=10.0.2.1,sport=80,dport=40312),zone=5,mark=31,labels=0x1f,"
            "protoinfo=(state=ESTABLISHED)");
  EXPECT_EQ(dpctl(ping_conn()),
            "icmp,orig=(src=10.1.0.2,dst=10.0.2.2,id=3311,type=8,code=0),"
            "reply=(src=10.0.2.2,dst=10.0.2.1,id=3311,type=0,code=0)");
  conn.label[15] = 0xa0;
  EXPECT_THAT(dpctl(conn), HasSubstr("labels=0xa000000000000000000000000000001f"));
}

}  // namespace
}  // namespace ctd
