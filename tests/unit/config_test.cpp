// SPDX-License-Identifier: Apache-2.0
#include "daemon/config.hpp"

#include <fstream>
#include <map>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>
#include <nlohmann/json.hpp>

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
    "conntrack": { "capacity": 5000 }, "flows": { "capacity": 2000 }, "rpfilter": "loose" })");
  ASSERT_TRUE(config) << config.error().message();
  EXPECT_THAT(config->ports, ElementsAre("lan1", "lan0", "wan0"));
  EXPECT_FALSE(config->gateway.masquerade);
  EXPECT_TRUE(config->gateway.masquerade6);
  EXPECT_EQ(config->conntrack_capacity, 5000u);
  EXPECT_EQ(config->flow_capacity, 2000u);
  EXPECT_EQ(config->rpfilter, RpFilter::loose);
}

TEST(Config, DefaultsAreTheSchemas) {
  const auto schema = nlohmann::json::parse(config_schema());
  const Result<Config> config = parse(R"({"ports":["lan0","wan0"],"gateway":{"inside":["lan0"],"outside":"wan0"}})");
  ASSERT_TRUE(config) << config.error().message();
  const auto& properties = schema.at("properties");
  EXPECT_EQ(properties["conntrack"]["properties"]["capacity"]["default"], config->conntrack_capacity);
  EXPECT_EQ(properties["flows"]["properties"]["capacity"]["default"], config->flow_capacity);
  EXPECT_EQ(properties["gateway"]["properties"]["masquerade"]["default"], config->gateway.masquerade);
  EXPECT_EQ(properties["gateway"]["properties"]["masquerade6"]["default"], config->gateway.masquerade6);
  EXPECT_EQ(properties["rpfilter"]["default"], "strict");
  EXPECT_EQ(config->rpfilter, RpFilter::strict);
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
