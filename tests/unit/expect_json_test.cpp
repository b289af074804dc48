// SPDX-License-Identifier: Apache-2.0
// Expectations from and to JSON, and the translation that follows from a master.
#include "lib/expect_json.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "conn_fixture.hpp"
#include "lib/addr.hpp"

namespace ctd {
namespace {

using namespace test;
using nlohmann::json;
using testing::HasSubstr;

ctd_conn master() {
  ctd_conn conn = masqueraded_conn();
  conn.id = 3;
  conn.orig.zone = conn.reply.zone = 5;
  return conn;
}

Expectation parsed(const std::string& body, const ctd_conn& of = master()) {
  const auto wanted = parse_expect_json(body, of);
  EXPECT_TRUE(wanted) << wanted.error().message();
  return wanted ? wanted->what : Expectation{};
}
std::string error(const std::string& body) {
  const auto wanted = parse_expect_json(body, master());
  return wanted ? "none" : wanted.error().message();
}
json shown(const Expectation& expectation) { return json::parse(expect_json(expectation, clock_now()).dump()); }

TEST(ExpectJson, WhatItDoesNotSayFollowsFromTheMaster) {
  const auto wanted = parse_expect_json(R"({"master":"1","tuple":{"dst":"10.0.2.9","dport":5000}})", master());
  ASSERT_TRUE(wanted) << wanted.error().message();
  const auto& [key, expect] = wanted->what;
  EXPECT_EQ(key.proto, IPPROTO_TCP);
  EXPECT_EQ(key.zone, 5);
  EXPECT_TRUE(any_source(key));
  EXPECT_TRUE(any_source_port(key));
  EXPECT_EQ(expect.flags, 0);
  EXPECT_EQ(expect.master, 3u);
  EXPECT_EQ(expect.master_seq, 7u);
  EXPECT_EQ(wanted->timeout_s, 300u);
}

TEST(ExpectJson, AllThatCanBeSaidIsShown) {
  Expectation one = parsed(R"({"master":"1","proto":"udp","zone":7,"timeout_s":9,"permanent":true,
                               "tuple":{"src":"fd00::1","sport":20,"dst":"fd00::2","dport":5000},
                               "nat":{"src":"[fd00::3]:2000","dst":"fd00::4"}})");
  one.expect.id = 12;
  one.expect.expires = static_cast<u32>(kNow + 9 * kHz);
  EXPECT_EQ(shown(one), json::parse(R"({"id":"12","master":"30064771075","zone":7,"proto":"udp","protonum":17,
      "family":"ipv6","tuple":{"src":"fd00::1","dst":"fd00::2","sport":20,"dport":5000},
      "nat":{"src":"[fd00::3]:2000","dst":"fd00::4"},"permanent":true,"timeout_s":9})"));
}

TEST(ExpectJson, ProtocolsWithoutPorts) {
  EXPECT_EQ(shown(parsed(R"({"master":"1","proto":"icmp","tuple":{"dst":"10.0.2.9","type":8,"code":0}})"))["tuple"],
            json::parse(R"({"dst":"10.0.2.9","type":8,"code":0})"));
  EXPECT_EQ(shown(parsed(R"({"master":"1","proto":"gre","tuple":{"dst":"10.0.2.9","dstkey":4}})"))["tuple"],
            json::parse(R"({"dst":"10.0.2.9","dstkey":4})"));
  EXPECT_EQ(shown(parsed(R"({"master":"1","proto":"50","tuple":{"dst":"10.0.2.9"}})"))["tuple"],
            json::parse(R"({"dst":"10.0.2.9"})"));
}

TEST(ExpectJson, ErrorsNameTheMember) {
  const auto with = [](const std::string& more) {
    return error(R"({"master":"1","tuple":{"dst":"10.0.2.9","dport":5000},)" + more + "}");
  };
  const auto tuple = [](const std::string& members) { return error(R"({"master":"1","tuple":{)" + members + "}}"); };
  EXPECT_THAT(error("[]"), HasSubstr("expected a JSON object"));
  EXPECT_THAT(error(R"({"master":"1"})"), HasSubstr("tuple: expected an object, but it is missing"));
  EXPECT_THAT(with(R"("mark":1)"), HasSubstr("\"mark\": expected one of master, proto, zone"));
  EXPECT_THAT(with(R"("proto":"tcpp")"), HasSubstr("proto: \"tcpp\": expected a protocol"));
  EXPECT_THAT(with(R"("zone":65536)"), HasSubstr("zone: expected a number from 0 to 65535, not 65536"));
  EXPECT_THAT(with(R"("timeout_s":0)"), HasSubstr("timeout_s: 0: expected seconds from 1"));
  EXPECT_THAT(with(R"("permanent":1)"), HasSubstr("permanent: 1: expected true or false"));
  EXPECT_THAT(with(R"("nat":"yes")"), HasSubstr("nat: \"yes\": expected \"master\", \"none\" or an object"));
  EXPECT_THAT(with(R"("nat":{"to":"10.0.0.1"})"), HasSubstr("nat.to: expected src or dst"));
  EXPECT_THAT(with(R"("nat":{"src":"10.0.0.1:0"})"), HasSubstr("nat.src: \"10.0.0.1:0\": expected an address"));
  EXPECT_THAT(with(R"("nat":{"src":"[fd00::1"})"), HasSubstr("nat.src: \"[fd00::1\": expected an address"));
  EXPECT_THAT(with(R"("nat":{"dst":"fd00::1"})"), HasSubstr("expected an address of the tuple's family"));
  EXPECT_THAT(tuple(R"("dst":"10.0.2")"), HasSubstr("tuple.dst: \"10.0.2\": expected an address"));
  EXPECT_THAT(tuple(R"("dst":"0.0.0.0","dport":1)"), HasSubstr("leave it out if any is meant"));
  EXPECT_THAT(tuple(R"("dst":"10.0.2.9")"), HasSubstr("tuple.dport: expected a number"));
  EXPECT_THAT(tuple(R"("dst":"10.0.2.9","dport":0)"), HasSubstr("tuple.dport: 0: expected a port"));
  EXPECT_THAT(tuple(R"("dst":"10.0.2.9","src":"fd00::1","dport":1)"), HasSubstr("tuple.src: \"fd00::1\""));
  EXPECT_THAT(error(R"({"master":"1","proto":"icmp","tuple":{"dst":"fd00::1","type":8,"code":0}})"),
              HasSubstr("icmp does not run over this family"));
  EXPECT_THAT(error(R"({"master":"1","proto":"icmp","tuple":{"dst":"10.0.0.1","type":8,"code":0},
                        "nat":{"dst":"10.0.0.2:5"}})"),
              HasSubstr("icmp has no ports"));
  EXPECT_THAT(parse_expect_master(R"({"master":"x","tuple":{}})").error().message(), HasSubstr("master: \"x\""));
  EXPECT_THAT(parse_expect_master("{}").error().message(), HasSubstr("master: expected the id"));
}

// What is translated of an expected connection, by its master: a client behind masquerade, a server behind a mapping.
struct Row {
  const char* tuple;
  const char* nat;  // "null": nothing
};
json nat_of(const Row& row, const ctd_conn& of) {
  const json one = shown(parsed(std::string(R"({"master":"1","tuple":)") + row.tuple + "}", of));
  return one.contains("nat") ? one["nat"] : json();
}

TEST(ExpectJson, FollowsATranslatedClient) {
  for (const Row& row : {Row{R"({"src":"10.0.2.2","dst":"10.0.2.1","dport":5000})", R"({"dst":"10.1.0.2"})"},
                         {R"({"dst":"10.0.2.1","dport":5000})", R"({"dst":"10.1.0.2"})"},
                         {R"({"src":"10.1.0.2","dst":"10.0.2.2","dport":5000})", R"({"src":"10.0.2.1"})"},
                         {R"({"dst":"10.0.2.2","dport":5000})", "null"},
                         {R"({"src":"10.0.2.2","dst":"10.1.0.2","dport":5000})", "null"}})
    EXPECT_EQ(nat_of(row, master()), json::parse(row.nat)) << row.tuple;
}

TEST(ExpectJson, FollowsATranslatedServer) {
  ctd_conn conn = tcp_conn();
  conn.id = 3;
  conn.orig = tuple(IPPROTO_TCP, {"192.0.2.9", 40000}, {"10.0.2.1", 21});
  conn.reply = tuple(IPPROTO_TCP, {"10.1.0.2", 21}, {"192.0.2.9", 40000});
  for (const Row& row : {Row{R"({"src":"192.0.2.9","dst":"10.0.2.1","dport":5000})", R"({"dst":"10.1.0.2"})"},
                         {R"({"src":"10.1.0.2","dst":"192.0.2.9","dport":5000})", R"({"src":"10.0.2.1"})"},
                         {R"({"src":"192.0.2.9","dst":"10.1.0.2","dport":5000})", "null"}})
    EXPECT_EQ(nat_of(row, conn), json::parse(row.nat)) << row.tuple;
}

TEST(ExpectJson, ItCanBeToldNotToFollow) {
  EXPECT_FALSE(shown(parsed(R"({"master":"1","nat":"none","tuple":{"dst":"10.0.2.1","dport":5000}})")).contains("nat"));
}

}  // namespace
}  // namespace ctd
