// SPDX-License-Identifier: Apache-2.0
#include "daemon/config.hpp"

#include <fstream>
#include <map>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>
#include <nlohmann/json.hpp>

#include "daemon/ct_settings.hpp"

namespace ctd {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

Interfaces machine(std::vector<std::string> names) {
  return {.ifindex = [names](const std::string& name) -> std::optional<u32> {
            for (u32 i = 0; i < names.size(); ++i) {
              if (names[i] == name) return i + 1;
            }
            return std::nullopt;
          },
          .names = [names] { return names; }};
}

Result<Config> parse(std::string_view text) { return parse_config(text, machine({"wan0", "lo", "lan0", "lan1"})); }

std::string error_of(std::string_view text) {
  const Result<Config> config = parse(text);
  return config ? "no error" : config.error().message();
}

TEST(Config, SmallestUsefulOne) {
  const Result<Config> config = parse(R"({ "ports": ["lan0", "wan0"],
    "gateway": { "inside": ["lan0"], "outside": "wan0", "masquerade": true } })");
  ASSERT_TRUE(config) << config.error().message();
  EXPECT_THAT(config->ports, ElementsAre("lan0", "wan0"));
  EXPECT_THAT(config->gateway.inside, ElementsAre("lan0"));
  EXPECT_EQ(config->gateway.outside, "wan0");
  EXPECT_TRUE(config->gateway.masquerade);
  EXPECT_FALSE(config->gateway.masquerade6);
}

TEST(Config, EveryKeyIsRead) {
  const Result<Config> config = parse(R"({ "ports": ["lan1", "lan0", "wan0"],
    "gateway": { "inside": ["lan0", "lan1"], "outside": "wan0", "masquerade": false, "masquerade6": true },
    "conntrack": { "capacity": 5000, "capacity_ipv4": 4000, "capacity_ipv6": 2000, "adaptive": { "start": 60, "end": 120 } }, "flows": { "capacity": 2000 }, "rpfilter": "loose" })");
  ASSERT_TRUE(config) << config.error().message();
  EXPECT_THAT(config->ports, ElementsAre("lan1", "lan0", "wan0"));
  EXPECT_FALSE(config->gateway.masquerade);
  EXPECT_TRUE(config->gateway.masquerade6);
  EXPECT_EQ(config->conntrack_capacity, 5000u);
  EXPECT_EQ(config->flow_capacity, 2000u);
  EXPECT_EQ(config->conntrack_ipv4, 4000u);
  EXPECT_EQ(config->conntrack_ipv6, 2000u);
  EXPECT_EQ(config->adaptive_start, 60u);
  EXPECT_EQ(config->adaptive_end, 120u);
  EXPECT_EQ(config->rpfilter, RpFilter::loose);
}

TEST(Config, DefaultsAreTheSchemas) {
  const auto schema = nlohmann::json::parse(config_schema());
  const Result<Config> config = parse(R"({"ports":["lan0","wan0"],"gateway":{"inside":["lan0"],"outside":"wan0"}})");
  ASSERT_TRUE(config) << config.error().message();
  const auto& properties = schema.at("properties");
  EXPECT_EQ(properties["conntrack"]["properties"]["capacity"]["default"], config->conntrack_capacity);
  EXPECT_EQ(properties["flows"]["properties"]["capacity"]["default"], config->flow_capacity);
  const auto& adaptive = properties["conntrack"]["properties"]["adaptive"]["properties"];
  EXPECT_EQ(adaptive["start"]["default"], config->adaptive_start);
  EXPECT_EQ(adaptive["end"]["default"], config->adaptive_end);
  EXPECT_EQ(properties["gateway"]["properties"]["masquerade"]["default"], config->gateway.masquerade);
  EXPECT_EQ(properties["gateway"]["properties"]["masquerade6"]["default"], config->gateway.masquerade6);
  EXPECT_EQ(properties["rpfilter"]["default"], "strict");
  EXPECT_EQ(config->rpfilter, RpFilter::strict);
}

constexpr const char* minimal = R"({"ports":["lan0","wan0"],"gateway":{"inside":["lan0"],"outside":"wan0"},
    "conntrack":{}})";

Result<Config> with_conntrack(std::string_view conntrack) {
  return parse(std::string(R"({"ports":["lan0","wan0"],"gateway":{"inside":["lan0"],"outside":"wan0"},"conntrack":)") +
               std::string(conntrack) + "}");
}

TEST(ConfigConntrack, Defaults) {
  const ctd_ct_policy policy = make_default_policy(parse(minimal).value().conntrack.policy);
  EXPECT_EQ(policy.timeout_s[u32{CTD_TIMEOUT_TCP} + CTD_TCP_ESTABLISHED], 7440u) << "RFC 5382";
  EXPECT_EQ(policy.timeout_s[CTD_TIMEOUT_UDP], 120u) << "RFC 4787";
  EXPECT_EQ(policy.timeout_s[CTD_TIMEOUT_ICMP], 60u) << "RFC 5508";
  EXPECT_EQ(policy.flags, 0u);
  EXPECT_EQ(policy.tcp_max_retrans, 3u);
  for (const TimeoutPlace& place : timeout_places())
    EXPECT_NE(policy.timeout_s[place.index], 0u) << place.protocol << " " << place.state;
}

TEST(ConfigConntrack, PresetThenNamedTimeouts) {
  const Result<Config> config = with_conntrack(
      R"({"timeouts":{"preset":"linux","tcp":{"established":1000,"retrans":77},"icmpv6":{"replied":9}},
          "tcp_liberal":true,"tcp_pickup":false,"tcp_max_retrans":5})");
  ASSERT_TRUE(config) << config.error().message();
  const ctd_ct_policy policy = make_default_policy(config->conntrack.policy);
  EXPECT_EQ(policy.timeout_s[u32{CTD_TIMEOUT_TCP} + CTD_TCP_ESTABLISHED], 1000u);
  EXPECT_EQ(policy.timeout_s[CTD_TIMEOUT_TCP_RETRANS], 77u);
  EXPECT_EQ(policy.timeout_s[u32{CTD_TIMEOUT_ICMPV6} + CTD_OTHER_REPLIED], 9u);
  EXPECT_EQ(policy.timeout_s[CTD_TIMEOUT_UDP], 30u) << "the preset's";
  EXPECT_EQ(policy.flags, u32{CTD_CTP_LIBERAL} | CTD_CTP_NO_PICKUP);
  EXPECT_EQ(policy.tcp_max_retrans, 5u);
}

TEST(ConfigConntrack, APolicySaysOnlyWhatDiffers) {
  const Result<Config> config = with_conntrack(
      R"({"tcp_liberal":true,"tcp_pickup":false,
          "policies":{"a":{"timeouts":{"udp":{"unreplied":5}}},"b":{"timeouts":{"preset":"linux"},"tcp_pickup":true}}})");
  ASSERT_TRUE(config) << config.error().message();
  const CtConfig& conntrack = config->conntrack;
  const ctd_ct_policy defaults = make_default_policy(conntrack.policy);
  const ctd_ct_policy a = make_policy(conntrack.policies.at("a"), defaults);
  EXPECT_EQ(a.timeout_s[CTD_TIMEOUT_UDP], 5u);
  EXPECT_EQ(a.timeout_s[CTD_TIMEOUT_ICMP], 0u) << "the default policy's";
  EXPECT_EQ(a.flags, defaults.flags);
  const ctd_ct_policy b = make_policy(conntrack.policies.at("b"), defaults);
  EXPECT_EQ(b.timeout_s[u32{CTD_TIMEOUT_TCP} + CTD_TCP_ESTABLISHED], 432000u);
  EXPECT_EQ(b.flags, u32{CTD_CTP_LIBERAL});
}

TEST(ConfigConntrack, Zones) {
  const Result<Config> config = with_conntrack(
      R"({"policies":{"a":{}},"zones":{"5":{"limit":1000,"policy":"a"},"0x10":{},"default":{"limit":7}}})");
  ASSERT_TRUE(config) << config.error().message();
  const CtConfig& conntrack = config->conntrack;
  EXPECT_EQ(conntrack.default_limit, 7u);
  ASSERT_EQ(conntrack.zones.size(), 2u);
  EXPECT_EQ(conntrack.zones.at(5).limit, 1000u);
  EXPECT_EQ(conntrack.zones.at(5).policy, "a");
  EXPECT_EQ(conntrack.zones.at(16).limit, std::nullopt);
}

TEST(ConfigConntrack, ErrorsNamePathValueAndWhatIsRight) {
  const auto error = [](std::string_view conntrack) {
    const Result<Config> config = with_conntrack(conntrack);
    return config ? "no error" : config.error().message();
  };
  EXPECT_EQ(error(R"({"timeouts":{"preset":"bsd"}})"),
            R"(/conntrack/timeouts/preset: must be one of "rfc", "linux", not "bsd")");
  EXPECT_EQ(error(R"({"timeouts":{"tcp":{"establised":5}}})"),
            R"(/conntrack/timeouts/tcp/establised: unknown key; did you mean "established"?)");
  EXPECT_EQ(error(R"({"timeouts":{"udp":{"replied":0}}})"),
            "/conntrack/timeouts/udp/replied: must be from 1 to 2000000, not 0");
  EXPECT_EQ(error(R"({"policies":{"a b":{}}})"),
            "/conntrack/policies/a b: must be a name of 1 to 31 letters, digits, _, - and .");
  EXPECT_EQ(error(R"({"policies":{"default":{}}})"),
            "/conntrack/policies/default: that is what /conntrack itself says; use another name");
  EXPECT_EQ(error(R"({"policies":{"a":{"tcp_liberal":1}}})"),
            "/conntrack/policies/a/tcp_liberal: must be true or false, not 1");
  EXPECT_EQ(error(R"({"zones":{"65536":{}}})"), "/conntrack/zones/65536: must be a zone from 0 to 65535, or default");
  EXPECT_EQ(error(R"({"zones":{"5":{},"0x5":{}}})"), "/conntrack/zones/5: the zone is given twice");
  EXPECT_EQ(error(R"({"zones":{"5":{"limit":-1}}})"), "/conntrack/zones/5/limit: must be from 0 to 2147483647, not -1");
  EXPECT_EQ(error(R"({"zones":{"5":{"policy":"x"}}})"),
            R"(/conntrack/zones/5/policy: no policy "x": there are none in /conntrack/policies)");
  EXPECT_EQ(error(R"({"policies":{"a":{},"b":{}},"zones":{"5":{"policy":"x"}}})"),
            R"(/conntrack/zones/5/policy: no policy "x" (there are: a, b))");
  EXPECT_EQ(
      error(R"({"zones":{"default":{"policy":"x"}}})"),
      "/conntrack/zones/default/policy: the default policy is what /conntrack itself says (timeouts, tcp_liberal, …)");
}

// The schema lists states by hand: it has those of the ABI, no more and no less.
TEST(ConfigConntrack, TheSchemaHasEveryTimeout) {
  const auto schema = nlohmann::json::parse(config_schema());
  const auto& protocols = schema["definitions"]["timeouts"]["properties"];
  std::size_t listed = 0;
  for (const auto& [protocol, states] : protocols.items()) {
    if (protocol != "preset") listed += states["properties"].size();
  }
  for (const TimeoutPlace& place : timeout_places())
    EXPECT_TRUE(protocols[std::string(place.protocol)]["properties"].contains(std::string(place.state)))
        << place.protocol << " " << place.state;
  EXPECT_EQ(listed, timeout_places().size());
}

TEST(ConfigConntrack, APolicyKeepsItsId) {
  CtConfig config;
  for (const char* name : {"a", "b", "c"}) config.policies[name];
  EXPECT_EQ(assign_policy_ids(config, std::vector<std::string>(8)).value(),
            (PolicyNames{{"a", u16{1}}, {"b", u16{2}}, {"c", u16{3}}}));
  EXPECT_EQ(assign_policy_ids(config, std::vector<std::string>{"", "c", "old", "", "a"}).value(),
            (PolicyNames{{"a", u16{4}}, {"b", u16{3}}, {"c", u16{1}}}))
      << "free ids before those of names that are gone";
  EXPECT_EQ(assign_policy_ids(config, std::vector<std::string>{"", "c", "old", "a"}).value().at("b"), 2);
  EXPECT_EQ(assign_policy_ids(config, std::vector<std::string>{"", "c", "a"}).error().message(),
            "/conntrack/policies: more than 2 policies");
}

struct Wrong {
  const char* what;
  const char* text;
  const char* error;
};
void PrintTo(const Wrong& wrong, std::ostream* out) { *out << wrong.text; }

class ConfigError : public ::testing::TestWithParam<Wrong> {};

TEST_P(ConfigError, NamesPathValueAndWhatIsRight) { EXPECT_EQ(error_of(GetParam().text), GetParam().error); }

constexpr Wrong wrongs[] = {
    {"MissingInterface", R"({"ports":["lan0","wan0"],"gateway":{"inside":["lan0"],"outside":"wan9"}})",
     R"(/gateway/outside: no interface "wan9" (there are: lan0, lan1, lo, wan0))"},
    {"MissingInterfaceInBothPlaces", R"({"ports":["lan0","wan9"],"gateway":{"inside":["lan0"],"outside":"wan9"}})",
     R"(/gateway/outside: no interface "wan9" (there are: lan0, lan1, lo, wan0))"},
    {"MissingPort", R"({"ports":["lan0","wan0","dmz"],"gateway":{"inside":["lan0"],"outside":"wan0"}})",
     R"(/ports/2: no interface "dmz" (there are: lan0, lan1, lo, wan0))"},
    {"UnknownKey", R"({"ports":["lan0"],"gatway":{}})", R"(/gatway: unknown key; did you mean "gateway"?)"},
    {"UnknownKeyBelow", R"({"ports":["lan0"],"gateway":{"inside":["lan0"],"outside":"wan0","masquarade":true}})",
     R"(/gateway/masquarade: unknown key; did you mean "masquerade"?)"},
    {"UnknownKeyLikeNone", R"({"ports":["lan0"],"x":1,"gateway":{"inside":["lan0"],"outside":"wan0"}})",
     R"(/x: unknown key)"},
    {"WrongType", R"({"ports":["lan0"],"gateway":{"inside":[5],"outside":"wan0"}})",
     R"(/gateway/inside/0: must be a string, not 5)"},
    {"DeepestFirst", R"({"gateway":{"inside":[5],"outside":"wan0"},"zzz":1})",
     R"(/gateway/inside/0: must be a string, not 5)"},
    {"WrongTypeBoolean", R"({"ports":["lan0"],"gateway":{"inside":["lan0"],"outside":"wan0","masquerade":"yes"}})",
     R"(/gateway/masquerade: must be true or false, not "yes")"},
    {"StringForList", R"({"ports":"lan0","gateway":{"inside":["lan0"],"outside":"wan0"}})",
     R"(/ports: must be an array, not "lan0")"},
    {"ListForString", R"({"ports":["lan0"],"gateway":{"inside":["lan0"],"outside":["wan0"]}})",
     R"(/gateway/outside: must be a string, not an array)"},
    {"EmptyName", R"({"ports":["lan0"],"gateway":{"inside":["lan0"],"outside":""}})",
     R"(/gateway/outside: must be 1 to 15 characters long, not "")"},
    {"NoKey", R"({"ports":["lan0"]})", R"(/: lacks the key "gateway")"},
    {"NoKeyBelow", R"({"ports":["lan0"],"gateway":{"inside":["lan0"]}})", R"(/gateway: lacks the key "outside")"},
    {"NotAnObject", R"([])", R"(/: must be an object, not an array)"},
    {"NoPorts", R"({"ports":[],"gateway":{"inside":["lan0"],"outside":"wan0"}})",
     R"(/ports: must have 1 to 255 items, not 0)"},
    {"PortTwice", R"({"ports":["lan0","wan0","lan0"],"gateway":{"inside":["lan0"],"outside":"wan0"}})",
     R"(/ports/2: "lan0" given twice)"},
    {"NotAPort", R"({"ports":["lan0","wan0"],"gateway":{"inside":["lan0","lan1"],"outside":"wan0"}})",
     R"(/gateway/inside/1: "lan1" is not among /ports (lan0, wan0))"},
    {"InsideAndOutside", R"({"ports":["lan0","wan0"],"gateway":{"inside":["lan0","wan0"],"outside":"wan0"}})",
     R"(/gateway/outside: "wan0" is also in /gateway/inside; it must be another port)"},
    {"TooSmall", R"({"ports":["lan0"],"gateway":{"inside":["lan0"],"outside":"wan0"},"conntrack":{"capacity":10}})",
     R"(/conntrack/capacity: must be from 1000 to 16777216, not 10)"},
    {"TooLarge",
     R"({"ports":["lan0"],"gateway":{"inside":["lan0"],"outside":"wan0"},"conntrack":{"capacity":16777217}})",
     R"(/conntrack/capacity: must be from 1000 to 16777216, not 16777217)"},
    {"FamilyOverAll",
     R"({"ports":["lan0"],"gateway":{"inside":["lan0"],"outside":"wan0"},"conntrack":{"capacity":5000,"capacity_ipv6":6000}})",
     R"(/conntrack/capacity_ipv6: must be at most /conntrack/capacity, which is 5000, not 6000)"},
    {"NothingLeftOfTimeouts",
     R"({"ports":["lan0"],"gateway":{"inside":["lan0"],"outside":"wan0"},"conntrack":{"adaptive":{"end":100}}})",
     R"(/conntrack/adaptive/end: must be from 105 to 1000, not 100)"},
    {"Negative", R"({"ports":["lan0"],"gateway":{"inside":["lan0"],"outside":"wan0"},"flows":{"capacity":-1}})",
     R"(/flows/capacity: must be from 1000 to 1048576, not -1)"},
    {"Fraction", R"({"ports":["lan0"],"gateway":{"inside":["lan0"],"outside":"wan0"},"conntrack":{"capacity":5000.5}})",
     R"(/conntrack/capacity: must be an integer, not 5000.5)"},
    {"BeyondIntegers",
     R"({"ports":["lan0"],"gateway":{"inside":["lan0"],"outside":"wan0"},"conntrack":{"capacity":18446744073709551616}})",
     R"(/conntrack/capacity: must be an integer, not 1.8446744073709552e+19)"},
    {"Choice", R"({"ports":["lan0"],"gateway":{"inside":["lan0"],"outside":"wan0"},"rpfilter":"on"})",
     R"(/rpfilter: must be one of "strict", "loose", "off", not "on")"},
    {"KeyTwice", R"({"ports":["lan0"],"gateway":{"outside":"wan0","outside":"lan0"}})",
     R"(/gateway/outside: given twice)"},
    {"Null", R"({"ports":null,"gateway":{"inside":["lan0"],"outside":"wan0"}})",
     R"(/ports: must be an array, not null)"},
    {"KeyWithSlash", R"({"ports":["lan0"],"a/b~":1,"gateway":{"inside":["lan0"],"outside":"wan0"}})",
     R"(/a~1b~0: unknown key)"},
};
INSTANTIATE_TEST_SUITE_P(, ConfigError, ::testing::ValuesIn(wrongs), [](const auto& row) { return row.param.what; });

TEST(Config, SyntaxErrorsHaveLineAndColumn) {
  EXPECT_THAT(error_of("{\n  \"ports\": [\"lan0\",]\n}"), StartsWith("line 2, column 20: syntax error"));
  EXPECT_THAT(error_of(""), StartsWith("line 1, column 1: syntax error"));
  EXPECT_THAT(error_of("{ // ports\n}"), StartsWith("line 1, column 3: syntax error"));
}

TEST(Config, ErrorsStayOnOneLine) {
  const std::string odd =
      error_of("{\"ports\":[\"la\\nn\\u0007\"],\"gateway\":{\"inside\":[\"lan0\"],\"outside\":\"wan0\"}}");
  EXPECT_EQ(odd, "/ports/0: no interface \"la\\nn\\u0007\" (there are: lan0, lan1, lo, wan0)");
  EXPECT_EQ(error_of("{\n\"ports\": \"a\nb\"}").find('\n'), std::string::npos);
}

TEST(Config, HostileNestingIsRefused) {
  EXPECT_EQ(error_of(std::string(100000, '[') + std::string(100000, ']')), "nested more than 32 deep");
}

class ConfigFile : public ::testing::Test {
 protected:
  void SetUp() override { path_ = ::testing::TempDir() + "ctd-config-" + std::to_string(getpid()) + ".json"; }
  void TearDown() override { unlink(path_.c_str()); }

  void write(const std::string& text) { std::ofstream(path_) << text; }

  std::string path_;
};

TEST_F(ConfigFile, IsLoaded) {
  write(R"({"ports":["a","b"],"gateway":{"inside":["a"],"outside":"b"}})");
  const Result<Config> config = load_config(path_, machine({"a", "b"}));
  ASSERT_TRUE(config) << config.error().message();
  EXPECT_EQ(config->gateway.outside, "b");
}

TEST_F(ConfigFile, ItsPathStandsBeforeAnError) {
  write(R"({"ports":["a","b"],"gateway":{"inside":["a"],"outside":"c"}})");
  EXPECT_EQ(load_config(path_, machine({"a", "b"})).error().message(),
            path_ + ": /gateway/outside: no interface \"c\" (there are: a, b)");
}

TEST_F(ConfigFile, MissingOrUnfit) {
  EXPECT_EQ(load_config(path_, machine({})).error().message(), path_ + ": cannot open: No such file or directory");
  EXPECT_THAT(load_config("/", machine({})).error().message(), StartsWith("/: cannot "));
  write(std::string((1 << 20) + 1, ' '));
  EXPECT_EQ(load_config(path_, machine({})).error().message(), path_ + ": larger than 1048576 bytes");
}

// The file in docs/ is the one that is built in.
TEST(Config, SchemaIsTheDocumentedOne) {
  std::ifstream file(CTD_SOURCE_DIR "/docs/config.schema.json");
  ASSERT_TRUE(file);
  EXPECT_EQ(nlohmann::json::parse(file), nlohmann::json::parse(config_schema()));
}

}  // namespace
}  // namespace ctd
