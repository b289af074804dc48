// SPDX-License-Identifier: Apache-2.0
#include "lib/conn_filter.hpp"

#include <algorithm>
#include <cstring>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "conn_fixture.hpp"

namespace ctd {
namespace {

using namespace test;
using testing::HasSubstr;
using Terms = std::vector<ConnFilter::Term>;

const ConnPolicies kPolicies({"default", "", "", "quick"});

ConnFilter filter(const Terms& terms) {
  Result<ConnFilter> made = ConnFilter::make(terms, &kPolicies);
  EXPECT_TRUE(made) << made.error().message();
  return made ? std::move(made).value() : ConnFilter();
}

bool matches(const Terms& terms, const ctd_conn& conn) { return filter(terms).matches(conn, clock_now()); }

// tcp ESTABLISHED 10.1.0.2:40312 > 10.0.2.2:80, 10.0.2.2:80 > 10.0.2.1:40312, seen 9 s ago, expires in 7431 s
ctd_conn nat_conn() {
  ctd_conn conn = masqueraded_conn();
  conn.id = 42;
  conn.mark = 0x1f;
  conn.orig.zone = conn.reply.zone = 5;
  conn.label[0] = 0x80;
  conn.label[15] = 0x01;
  conn.timeout_policy = 3;
  conn.master = 9;
  conn.master_seq = 3;
  return conn;
}

ctd_conn dnat6_conn() {
  ctd_conn conn = udp6_conn();
  conn.id = 43;
  conn.reply.src = addr("fd00:9::53");
  conn.status |= CTD_STATUS_DST_NAT;
  return conn;
}

struct Row {
  const char* field;
  std::vector<const char*> matching, others;  // values
};
void PrintTo(const Row& row, std::ostream* out) { *out << row.field; }

class FilterField : public testing::TestWithParam<Row> {};

TEST_P(FilterField, MatchesWhatItSaysAndNothingElse) {
  const Row& row = GetParam();
  for (const char* value : row.matching) EXPECT_TRUE(matches({{row.field, value}}, nat_conn())) << value;
  for (const char* value : row.others) EXPECT_FALSE(matches({{row.field, value}}, nat_conn())) << value;
}

INSTANTIATE_TEST_SUITE_P(
    Fields, FilterField,
    testing::Values(
        Row{"proto", {"tcp", "TCP", "6", "0x6"}, {"udp", "17", "icmpv6", "0"}}, Row{"family", {"ipv4"}, {"ipv6"}},
        Row{"orig-src",
            {"10.1.0.2", "10.1.0.2/32", "10.1.0.0/24", "10.0.0.0/8", "10.1.0.3/31", "0.0.0.0/0"},
            {"10.1.0.3", "10.1.0.4/30", "10.0.2.2", "10.2.0.0/16", "::/0", "2001:db8::1"}},
        Row{"orig-dst", {"10.0.2.2", "10.0.2.0/25"}, {"10.1.0.2", "10.0.2.128/25"}},
        Row{"reply-src", {"10.0.2.2"}, {"10.0.2.1"}}, Row{"reply-dst", {"10.0.2.1", "10.0.2.0/24"}, {"10.1.0.2"}},
        Row{"sport", {"40312", "1-65535", "40312-40312", "40000-41000"}, {"80", "0-40311", "40313-65535"}},
        Row{"dport", {"80", "80-443"}, {"40312", "443"}}, Row{"reply-sport", {"80"}, {"40312"}},
        Row{"reply-dport", {"40312"}, {"80"}}, Row{"icmp-type", {}, {"8", "0-255"}}, Row{"icmp-code", {}, {"0"}},
        Row{"icmp-id", {}, {"40312"}}, Row{"reply-icmp-type", {}, {"0", "0-255"}}, Row{"reply-icmp-code", {}, {"0"}},
        Row{"reply-icmp-id", {}, {"80"}}, Row{"srckey", {}, {"40312", "0-65535"}}, Row{"dstkey", {}, {"80"}},
        Row{"reply-srckey", {}, {"80"}}, Row{"reply-dstkey", {}, {"40312"}},
        Row{"src-nat", {"", "10.0.2.1", "10.0.2.0/24"}, {"10.0.2.2", "10.1.0.2"}}, Row{"dst-nat", {}, {"", "10.0.2.2"}},
        Row{"any-nat", {""}, {}}, Row{"no-nat", {}, {""}}, Row{"zone", {"5", "0x5"}, {"0", "65535"}},
        Row{"mark", {"31", "0x1f", "0x10/0xf0", "0/0"}, {"1", "0x10/0xff"}},
        Row{"label",
            {"0x01000000000000000000000000000080", "0x80/0xff", "128/0x80",
             "0x1000000000000000000000000000000/0xff000000000000000000000000000000"},
            {"0x80", "0", "0x02000000000000000000000000000000/0x03000000000000000000000000000000"}},
        Row{"state", {"ESTABLISHED", "established", "SYN_SENT,ESTABLISHED"}, {"SYN_SENT", "UNREPLIED,REPLIED", "OPEN"}},
        Row{"status",
            {"ASSURED", "assured,SEEN_REPLY", "SRC_NAT", "CONFIRMED"},
            {"DST_NAT", "ASSURED,EXPECTED", "HELPER"}},
        Row{"not-status", {"DST_NAT", "EXPECTED,HELPER"}, {"ASSURED", "EXPECTED,ASSURED"}},
        Row{"class", {"assured", "ASSURED", "unanswered,assured"}, {"answered", "unanswered,answered"}},
        Row{"policy", {"quick"}, {"default"}}, Row{"expires", {"7431", "0-8000", "7431-7431"}, {"0-7430", "7432-9999"}},
        Row{"id", {"30064771114", "1,30064771114"}, {"42", "30064771115"}},
        Row{"master", {"12884901897"}, {"9", "12884901896"}}),
    [](const auto& tested) {
      std::string name = tested.param.field;
      std::replace(name.begin(), name.end(), '-', '_');
      return name;
    });

TEST(ConnFilter, EveryFieldHasARow) {
  std::set<std::string_view> tested;
  for (const auto* test : [] {
         std::vector<const testing::TestInfo*> all;
         const auto& unit = *testing::UnitTest::GetInstance();
         for (int i = 0; i < unit.total_test_suite_count(); ++i)
           for (int j = 0; j < unit.GetTestSuite(i)->total_test_count(); ++j)
             all.push_back(unit.GetTestSuite(i)->GetTestInfo(j));
         return all;
       }())
    tested.insert(test->name());
  for (const ConnFilter::Field& field : ConnFilter::fields()) {
    std::string name = "MatchesWhatItSaysAndNothingElse/" + std::string(field.name);
    std::replace(name.begin(), name.end(), '-', '_');
    EXPECT_TRUE(tested.contains(name)) << field.name;
  }
}

TEST(ConnFilter, NothingAskedMatchesEverything) {
  EXPECT_TRUE(filter({}).empty());
  EXPECT_TRUE(matches({}, nat_conn()));
  EXPECT_FALSE(filter({{"zone", "0"}}).empty());
}

TEST(ConnFilter, AllTermsMustHold) {
  const Terms terms{
      {"proto", "tcp"}, {"orig-src", "10.0.0.0/8"}, {"dport", "80"}, {"state", "ESTABLISHED"}, {"status", "ASSURED"},
      {"zone", "5"},    {"mark", "1/0x1"},          {"src-nat", ""}};
  EXPECT_TRUE(matches(terms, nat_conn()));
  ctd_conn other = nat_conn();
  other.mark = 2;
  EXPECT_FALSE(matches(terms, other));
  EXPECT_FALSE(matches(terms, tcp_conn()));
}

TEST(ConnFilter, Ipv6) {
  EXPECT_TRUE(matches({{"orig-src", "fd00:1::/64"}}, dnat6_conn()));
  EXPECT_TRUE(matches({{"orig-dst", "2001:db8::35"}}, dnat6_conn()));
  EXPECT_TRUE(matches({{"orig-dst", "2001:db8::30/125"}, {"family", "ipv6"}}, dnat6_conn()))
      << "0x35 is not in 0x30/125";
}

TEST(ConnFilter, Nat) {
  const ctd_conn conn = dnat6_conn();
  EXPECT_TRUE(matches({{"dst-nat", "fd00:9::/32"}}, conn));
  EXPECT_TRUE(matches({{"any-nat", ""}}, conn));
  EXPECT_FALSE(matches({{"src-nat", ""}}, conn));
  EXPECT_FALSE(matches({{"no-nat", ""}}, conn));
  EXPECT_TRUE(matches({{"no-nat", ""}}, tcp_conn()));
  EXPECT_FALSE(matches({{"any-nat", ""}}, tcp_conn()));
}

TEST(ConnFilter, IcmpQueries) {
  const ctd_conn ping = ping_conn();
  EXPECT_TRUE(matches({{"icmp-type", "8"}, {"icmp-code", "0"}, {"icmp-id", "3311"}}, ping));
  EXPECT_FALSE(matches({{"icmp-type", "0"}}, ping)) << "that is the reply's";
  EXPECT_FALSE(matches({{"icmp-id", "1-3310"}}, ping));
  EXPECT_FALSE(matches({{"sport", "3311"}}, ping)) << "an identifier is no port";
}

TEST(ConnFilter, TheAnswersOfIcmpQueries) {
  ctd_conn ping = ping_conn();
  ping.reply.sport = htons(7);
  EXPECT_TRUE(matches({{"reply-icmp-type", "0"}, {"reply-icmp-code", "0"}, {"reply-icmp-id", "7"}}, ping));
  EXPECT_FALSE(matches({{"reply-icmp-type", "8"}}, ping)) << "that is the query's";
  EXPECT_FALSE(matches({{"reply-icmp-id", "3311"}}, ping)) << "the query's, before translation";
}

// PPTP's call ids: each side knows the other's.
ctd_conn gre_conn() {
  ctd_conn conn = tcp_conn();
  conn.orig = tuple(IPPROTO_GRE, {"10.1.0.2", 7}, {"10.0.2.2", 9});
  conn.reply = tuple(IPPROTO_GRE, {"10.0.2.2", 9}, {"10.0.2.1", 7});
  return conn;
}

TEST(ConnFilter, GreKeys) {
  EXPECT_TRUE(matches({{"proto", "gre"}, {"srckey", "7"}, {"dstkey", "1-9"}}, gre_conn()));
  EXPECT_TRUE(matches({{"reply-srckey", "9"}, {"reply-dstkey", "7"}}, gre_conn()));
  EXPECT_FALSE(matches({{"srckey", "9"}}, gre_conn()));
  EXPECT_FALSE(matches({{"sport", "7"}}, gre_conn())) << "a key is no port";
}

TEST(ConnFilter, ThePolicyOfAnotherInstanceIsNotLookedUp) {
  EXPECT_TRUE(ConnFilter::make(Terms{{"policy", "theirs"}})) << "ctctl cannot know";
  const auto refused = ConnFilter::make(Terms{{"policy", "theirs"}}, &kPolicies);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message(), "policy: \"theirs\": no such policy, there are default, quick");
}

TEST(ConnFilter, StatesOfOtherProtocols) {
  EXPECT_TRUE(matches({{"state", "UNREPLIED"}}, udp6_conn()));
  EXPECT_FALSE(matches({{"state", "REPLIED"}}, udp6_conn()));
  ctd_conn sctp = tcp_conn();
  sctp.orig.proto = sctp.reply.proto = IPPROTO_SCTP;
  sctp.state = CTD_SCTP_ESTABLISHED;
  EXPECT_TRUE(matches({{"state", "ESTABLISHED"}}, sctp)) << "the name of both";
  sctp.state = 200;
  EXPECT_FALSE(matches({{"state", "ESTABLISHED"}}, sctp));
}

TEST(ConnFilter, ExpiresNeedsTheClock) {
  KernelClock later = clock_now();
  later.jiffies += 31 * kHz;
  const ConnFilter soon = filter({{"expires", "7400"}});
  EXPECT_FALSE(soon.matches(tcp_conn(), clock_now()));
  EXPECT_TRUE(soon.matches(tcp_conn(), later));
}

struct Wrong {
  Terms terms;
  const char* message;
};

TEST(ConnFilter, ErrorsNameFieldValueAndWhatIsRight) {
  const std::vector<Wrong> wrong{
      {{{"colour", "red"}}, "\"colour\" is no field of a connection; they are proto, family, orig-src"},
      {{{"proto", "tpc"}}, "proto: \"tpc\": expected a protocol"},
      {{{"proto", "256"}}, "proto: \"256\": expected"},
      {{{"proto", ""}}, "proto: expected PROTOCOL"},
      {{{"family", "inet"}}, "family: \"inet\": expected ipv4 or ipv6"},
      {{{"orig-src", "10.1"}}, "orig-src: \"10.1\": expected an address"},
      {{{"orig-src", "10.1.0.0/33"}}, "orig-src: \"10.1.0.0/33\": expected a prefix length from 0 to 32"},
      {{{"reply-dst", "fd00::/129"}}, "expected a prefix length from 0 to 128"},
      {{{"reply-dst", "fd00::/"}}, "expected a prefix length"},
      {{{"dport", "65536"}}, "dport: \"65536\": expected a port or a range"},
      {{{"dport", "90-80"}}, "dport: \"90-80\": expected"},
      {{{"dport", "http"}}, "dport: \"http\": expected"},
      {{{"icmp-type", "256"}}, "icmp-type: \"256\": expected a number from 0 to 255"},
      {{{"zone", "65536"}}, "zone: \"65536\": expected a number from 0 to 65535"},
      {{{"mark", "0x100000000"}}, "mark: \"0x100000000\": expected a mark of 32 bits"},
      {{{"mark", "1/"}}, "mark: \"1/\": expected"},
      {{{"label", "0x100000000000000000000000000000000"}}, "label: \"0x1000"},
      {{{"state", "OPENED"}}, "state: \"OPENED\": expected states"},
      {{{"status", "ASURED"}}, "status: \"ASURED\": expected EXPECTED, SEEN_REPLY, ASSURED"},
      {{{"expires", "soon"}}, "expires: \"soon\": expected seconds"},
      {{{"id", "4294967296"}}, "id: \"4294967296\": expected ids"},
      {{{"any-nat", "10.0.0.1"}}, "any-nat: \"10.0.0.1\": expected no value"},
      {{{"zone", "1"}, {"zone", "2"}}, "zone: given twice"},
      {{{"orig-src", "10.0.0.1"}, {"orig-dst", "::1"}}, "orig-dst: IPv4 and IPv6 in one filter"},
      {{{"proto", "gre"}, {"dport", "80"}}, "proto: gre has no ports"},
      {{{"proto", "udp"}, {"icmp-id", "80"}}, "proto: udp has no ICMP"},
      {{{"icmp-id", "80"}, {"sport", "80"}}, "ports, or GRE's keys, or ICMP's type"},
      {{{"srckey", "80"}, {"reply-sport", "80"}}, "ports, or GRE's keys, or ICMP's type"},
      {{{"proto", "udp"}, {"dstkey", "80"}}, "proto: udp has no keys, gre has"},
      {{{"proto", "gre"}, {"srckey", "65536"}}, "srckey: \"65536\": expected a key or call id from 0 to 65535"},
      {{{"class", "sure"}}, "class: \"sure\": expected unanswered, answered or assured"},
      {{{"no-nat", ""}, {"src-nat", ""}}, "no-nat: contradicts"},
      {{{"status", "ASSURED"}, {"not-status", "ASSURED"}}, "not-status: contradicts status"},
      {{{"proto", "udp"}, {"state", "SYN_SENT"}}, "state: udp has no such state"},
  };
  for (const Wrong& row : wrong) {
    const Result<ConnFilter> made = ConnFilter::make(row.terms);
    ASSERT_FALSE(made) << row.message;
    EXPECT_THAT(made.error().message(), HasSubstr(row.message));
  }
}

TEST(ConnFilter, AWholeTupleIsALookUp) {
  const Terms whole{{"proto", "tcp"},   {"orig-src", "10.1.0.2"}, {"orig-dst", "10.0.2.2"},
                    {"sport", "40312"}, {"dport", "80"},          {"zone", "5"}};
  const auto found = filter(whole).tuple();
  ASSERT_TRUE(found);
  const ctd_conn conn = nat_conn();
  EXPECT_EQ(std::memcmp(&*found, &conn.orig, sizeof(*found)), 0);
  for (std::size_t missing = 0; missing < whole.size(); ++missing) {
    Terms part = whole;
    part.erase(part.begin() + static_cast<std::ptrdiff_t>(missing));
    EXPECT_FALSE(filter(part).tuple()) << whole[missing].name;
  }
  Terms vague = whole;
  vague[1].value = "10.1.0.2/31";
  EXPECT_FALSE(filter(vague).tuple());
  vague = whole;
  vague[3].value = "40312-40313";
  EXPECT_FALSE(filter(vague).tuple());
}

TEST(ConnFilter, AWholeReplyTupleToo) {
  const auto found = filter({{"proto", "udp"},
                             {"reply-src", "2001:db8::35"},
                             {"reply-dst", "fd00:1::2"},
                             {"reply-sport", "53"},
                             {"reply-dport", "5353"},
                             {"zone", "0"}})
                         .tuple();
  ASSERT_TRUE(found);
  const ctd_conn conn = udp6_conn();
  EXPECT_EQ(std::memcmp(&*found, &conn.reply, sizeof(*found)), 0);
}

bool names(const Terms& terms, const ctd_tuple& tuple) {
  const auto found = filter(terms).tuple();
  return found && std::memcmp(&*found, &tuple, sizeof(tuple)) == 0;
}

TEST(ConnFilter, ATupleOfAPingOrWithoutPorts) {
  Terms ping{{"proto", "icmp"},   {"orig-src", "10.1.0.2"}, {"orig-dst", "10.0.2.2"},
             {"icmp-type", "13"}, {"icmp-id", "3311"},      {"zone", "0"}};
  EXPECT_FALSE(filter(ping).tuple()) << "there may be some that differ in their code";
  ping.push_back({"icmp-code", "2"});
  ctd_conn conn = ping_conn();
  conn.orig.dport = htons(13 << 8 | 2);
  EXPECT_TRUE(names(ping, conn.orig));
  const Terms answer{{"proto", "icmp"},
                     {"reply-src", "10.0.2.2"},
                     {"reply-dst", "10.0.2.1"},
                     {"reply-icmp-type", "0"},
                     {"reply-icmp-code", "0"},
                     {"reply-icmp-id", "3311"},
                     {"zone", "0"}};
  EXPECT_TRUE(names(answer, conn.reply));
  EXPECT_TRUE(filter({{"proto", "esp"}, {"orig-src", "10.1.0.2"}, {"orig-dst", "10.0.2.2"}, {"zone", "0"}}).tuple());
  EXPECT_FALSE(filter({{"proto", "gre"}, {"orig-src", "10.1.0.2"}, {"orig-dst", "10.0.2.2"}, {"zone", "0"}}).tuple())
      << "PPTP's calls have the same addresses";
  const ctd_conn gre = gre_conn();
  EXPECT_TRUE(names({{"proto", "gre"},
                     {"orig-src", "10.1.0.2"},
                     {"orig-dst", "10.0.2.2"},
                     {"srckey", "7"},
                     {"dstkey", "9"},
                     {"zone", "0"}},
                    gre.orig));
}

TEST(ConnFilter, WhatGetLeavesOutIsZero) {
  ctd_conn conn = ping_conn();
  EXPECT_TRUE(names(ConnFilter::completed({{"proto", "icmp"},
                                           {"orig-src", "10.1.0.2"},
                                           {"orig-dst", "10.0.2.2"},
                                           {"icmp-type", "8"},
                                           {"icmp-id", "3311"}}),
                    conn.orig));
  EXPECT_TRUE(names(ConnFilter::completed({{"proto", "icmp"},
                                           {"reply-src", "10.0.2.2"},
                                           {"reply-dst", "10.0.2.1"},
                                           {"reply-icmp-type", "0"},
                                           {"reply-icmp-id", "3311"}}),
                    conn.reply));
  conn = gre_conn();
  conn.orig.sport = 0;
  EXPECT_TRUE(names(
      ConnFilter::completed({{"proto", "47"}, {"orig-src", "10.1.0.2"}, {"orig-dst", "10.0.2.2"}, {"dstkey", "9"}}),
      conn.orig));
  conn.reply.sport = conn.reply.dport = 0;
  conn.reply.zone = 4;
  EXPECT_TRUE(names(
      ConnFilter::completed({{"zone", "4"}, {"proto", "gre"}, {"reply-src", "10.0.2.2"}, {"reply-dst", "10.0.2.1"}}),
      conn.reply));
}

TEST(ConnFilter, Ids) {
  const ConnFilter two = filter({{"id", "30064771114,7"}});
  EXPECT_THAT(two.ids(), testing::ElementsAre(30064771114u, 7u));
  EXPECT_TRUE(filter({{"zone", "1"}}).ids().empty());
}

}  // namespace
}  // namespace ctd
