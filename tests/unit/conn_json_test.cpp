// SPDX-License-Identifier: Apache-2.0
#include "lib/conn_json.hpp"

#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "conn_fixture.hpp"
#include "conn_schema.hpp"

namespace ctd {
namespace {

using namespace test;
using nlohmann::json;
using testing::ElementsAre;

json parsed(ctd_conn conn) {
  conn.id = conn.id ? conn.id : 42;
  fmt::memory_buffer out;
  append_conn_json(out, conn, clock_now());
  json result = json::parse(out.begin(), out.end());
  EXPECT_THAT(schema_errors(result), ElementsAre()) << result;
  return result;
}

std::vector<json> dump(const ConnTable& table, std::size_t piece) {
  ConnDump dump(table, clock_now(), {"gw \"1\"", "default"});
  fmt::memory_buffer out;
  while (dump.next(out, piece)) {
  }
  std::istringstream lines(fmt::to_string(out));
  std::vector<json> result;
  for (std::string line; std::getline(lines, line);) result.push_back(json::parse(line));
  for (const json& object : result) EXPECT_THAT(schema_errors(object), ElementsAre()) << object;
  return result;
}

TEST(ConnJson, AMasqueradedTcpConnection) {
  EXPECT_EQ(parsed(masqueraded_conn()), json::parse(R"({
    "id":"30064771114","zone":0,"proto":"tcp","protonum":6,"family":"ipv4","state":"ESTABLISHED",
    "status":["SEEN_REPLY","ASSURED","SRC_NAT"],
    "orig":{"src":"10.1.0.2","dst":"10.0.2.2","sport":40312,"dport":80,"packets":6,"bytes":412},
    "reply":{"src":"10.0.2.2","dst":"10.0.2.1","sport":80,"dport":40312,"packets":5,"bytes":1892},
    "nat":{"src":"10.0.2.1:40312"},"mark":0,"timeout_s":7431,"start":"2026-11-22T18:59:00.000Z"})"));
}

// The validator itself must be able to say no.
TEST(ConnSchema, RefusesWhatIsWrong) {
  const json good = parsed(masqueraded_conn());
  const auto broken = [&](const char* pointer, const json& value) {
    json bad = good;
    bad[json::json_pointer(pointer)] = value;
    return !schema_errors(bad).empty();
  };
  EXPECT_TRUE(broken("/id", 42));
  EXPECT_TRUE(broken("/state", "BORED"));
  EXPECT_TRUE(broken("/status/0", "CONFIRMED"));
  EXPECT_TRUE(broken("/orig/src", "localhost"));
  EXPECT_TRUE(broken("/orig/sport", 65536));
  EXPECT_TRUE(broken("/nat/src", "10.0.2.1:"));
  EXPECT_TRUE(broken("/label", "0x0"));
  EXPECT_TRUE(broken("/start", "yesterday"));
  json missing = good;
  missing["reply"].erase("dport");
  EXPECT_FALSE(schema_errors(missing).empty());
  missing = good;
  missing.erase("timeout_s");
  EXPECT_FALSE(schema_errors(missing).empty());
}

TEST(ConnJson, NoNatWithoutTranslation) { EXPECT_FALSE(parsed(tcp_conn()).contains("nat")); }

TEST(ConnJson, ATranslatedPortAlone) {
  ctd_conn conn = tcp_conn();
  conn.reply.dport = htons(1024);
  EXPECT_EQ(parsed(conn)["nat"], json({{"src", "10.1.0.2:1024"}}));
}

TEST(ConnJson, DestinationNat) {
  ctd_conn conn = tcp_conn();
  conn.reply.src = addr("192.168.7.9");
  conn.reply.sport = htons(8080);
  EXPECT_EQ(parsed(conn)["nat"], json({{"dst", "192.168.7.9:8080"}}));
}

TEST(ConnJson, BothSidesTranslatedOverIpv6) {
  ctd_conn conn = udp6_conn();
  conn.reply = tuple(IPPROTO_UDP, {"2001:db8::53", 5300}, {"2001:db8:1::1", 61000});
  EXPECT_EQ(parsed(conn)["nat"], json({{"src", "[2001:db8:1::1]:61000"}, {"dst", "[2001:db8::53]:5300"}}));
}

TEST(ConnJson, AnIcmpQueryHasItsIdentifier) {
  ctd_conn conn = ping_conn();
  conn.reply.sport = htons(77);  // the mapping changed it
  const json result = parsed(conn);
  EXPECT_EQ(result["proto"], "icmp");
  EXPECT_EQ(result["state"], "REPLIED");
  EXPECT_EQ(result["orig"], json::parse(R"({"src":"10.1.0.2","dst":"10.0.2.2","id":3311,"type":8,"code":0,
                                            "packets":6,"bytes":412})"));
  EXPECT_EQ(result["reply"]["id"], 77);
  EXPECT_EQ(result["reply"]["type"], 0);
  EXPECT_EQ(result["nat"], json({{"src", "10.0.2.1:77"}}));
}

TEST(ConnJson, UntranslatedPingHasNoNatThoughTypesDiffer) {
  ctd_conn conn = ping_conn();
  conn.reply.dst = conn.orig.src;
  EXPECT_FALSE(parsed(conn).contains("nat"));
}

TEST(ConnJson, AProtocolWithoutPorts) {
  ctd_conn conn = tcp_conn();
  conn.orig = tuple(IPPROTO_GRE, {"10.1.0.2"}, {"10.0.2.2"});
  conn.reply = tuple(IPPROTO_GRE, {"10.0.2.2"}, {"10.0.2.1"});
  conn.state = CTD_OTHER_UNREPLIED;
  const json result = parsed(conn);
  EXPECT_EQ(result["proto"], "gre");
  EXPECT_FALSE(result["orig"].contains("sport"));
  EXPECT_EQ(result["orig"]["dstkey"], 0);
  EXPECT_EQ(result["nat"], json({{"src", "10.0.2.1"}}));
}

TEST(ConnJson, ACallOfPptp) {
  ctd_conn conn = tcp_conn();
  conn.orig = tuple(IPPROTO_GRE, {"10.1.0.2"}, {"10.0.2.2", 77});
  conn.reply = tuple(IPPROTO_GRE, {"10.0.2.2", 77}, {"10.1.0.2"});
  const json result = parsed(conn);
  EXPECT_EQ(result["orig"]["srckey"], 0);
  EXPECT_EQ(result["orig"]["dstkey"], 77);
  EXPECT_EQ(result["reply"]["srckey"], 77);
  EXPECT_FALSE(result.contains("nat"));
}

TEST(ConnJson, AProtocolWithoutName) {
  ctd_conn conn = tcp_conn();
  conn.orig.proto = conn.reply.proto = 253;
  conn.state = CTD_OTHER_REPLIED;
  EXPECT_EQ(parsed(conn)["proto"], "253");
  EXPECT_EQ(parsed(conn)["protonum"], 253);
}

TEST(ConnJson, StatesByProtocol) {
  ctd_conn conn = tcp_conn();
  conn.state = CTD_TCP_SYN_SENT2;
  EXPECT_EQ(parsed(conn)["state"], "SYN_SENT2");
  conn.state = CTD_TCP_STATE_COUNT;
  EXPECT_EQ(parsed(conn)["state"], "UNKNOWN");
  EXPECT_EQ(parsed(udp6_conn())["state"], "UNREPLIED");
  conn.orig.proto = conn.reply.proto = IPPROTO_SCTP;
  conn.state = CTD_SCTP_COOKIE_ECHOED;
  EXPECT_EQ(parsed(conn)["state"], "COOKIE_ECHOED");
  conn.orig.proto = conn.reply.proto = IPPROTO_DCCP;
  conn.state = CTD_DCCP_PARTOPEN;
  EXPECT_EQ(parsed(conn)["state"], "PARTOPEN");
}

TEST(ConnJson, LabelIsAHexNumber) {
  ctd_conn conn = tcp_conn();
  EXPECT_FALSE(parsed(conn).contains("label"));
  conn.label[0] = 0x0f;
  EXPECT_EQ(parsed(conn)["label"], "0xf");
  conn.label[1] = 0xa0;
  EXPECT_EQ(parsed(conn)["label"], "0xa00f");
  conn.label[15] = 0x10;
  EXPECT_EQ(parsed(conn)["label"], "0x1000000000000000000000000000a00f");
}

TEST(ConnJson, WhatIsSetAppears) {
  ctd_conn conn = tcp_conn();
  conn.mark = 0xffffffff;
  conn.orig.zone = conn.reply.zone = 65535;
  conn.helper = 2;
  conn.master = 9;
  conn.master_seq = 1;
  const json result = parsed(conn);
  EXPECT_EQ(result["mark"], 4294967295u);
  EXPECT_EQ(result["zone"], 65535);
  EXPECT_EQ(result["helper"], "2");
  EXPECT_EQ(result["master"], "4294967305");
}

TEST(ConnJson, CountersUpToTheirLimits) {
  ctd_conn conn = tcp_conn();
  conn.count[CTD_DIR_ORIG] = {~0ull >> 1, ~0ull >> 1};  // what the validator can count to
  EXPECT_EQ(parsed(conn)["orig"]["bytes"], ~0ull >> 1);
}

TEST(ConnDump, HeaderConnectionsTrailer) {
  FakeTable table;
  table.add(masqueraded_conn());
  table.add(tcp_conn()).ctl = CTD_CTL(1, 0, CTD_CONN_DEAD);
  table.add(ping_conn());
  const std::vector<json> lines = dump(table.view(), 1 << 20);
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_EQ(lines[0], json::parse(R"({"schema":"ctd.conntrack/1","host":"gw \"1\"","instance":"default",
                                      "time":"2026-11-22T19:00:00.000Z"})"));
  EXPECT_EQ(lines[1]["proto"], "tcp");
  EXPECT_EQ(lines[2]["proto"], "icmp");
  EXPECT_EQ(lines[3], json::parse(R"({"count":2,"complete":true})"));
}

TEST(ConnDump, AnEmptyTable) {
  FakeTable table;
  const std::vector<json> lines = dump(table.view(), 1);
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[1], json::parse(R"({"count":0,"complete":true})"));
}

TEST(ConnDump, PiecesAreBoundedAndMakeTheSameDump) {
  FakeTable table(500);
  for (int i = 0; i < 500; ++i) table.add(masqueraded_conn());
  ConnDump dump(table.view(), clock_now(), {"gw", "default"});
  fmt::memory_buffer out;
  std::string all;
  constexpr std::size_t kPiece = 4096, kLongestLine = 1024;
  for (bool more = true; more;) {
    out.clear();
    more = dump.next(out, kPiece);
    EXPECT_LT(out.size(), kPiece + kLongestLine);
    all.append(out.data(), out.size());
  }
  fmt::memory_buffer whole;
  ConnDump at_once(table.view(), clock_now(), {"gw", "default"});
  EXPECT_FALSE(at_once.next(whole, 1 << 30));
  EXPECT_EQ(all, fmt::to_string(whole));
}

TEST(ConnDump, FollowsATableThatGrowsMeanwhile) {
  FakeTable table;
  table.add(tcp_conn());
  ConnDump dump(table.view(), clock_now(), {"gw", "default"});
  fmt::memory_buffer out;
  ASSERT_TRUE(dump.next(out, 1)) << "the header";
  table.add(tcp_conn());
  while (dump.next(out, 1)) {
  }
  EXPECT_THAT(fmt::to_string(out), testing::HasSubstr("{\"count\":2,\"complete\":true}"));
}

}  // namespace
}  // namespace ctd
