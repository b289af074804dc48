// SPDX-License-Identifier: Apache-2.0
#include "cli/conntrack.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cli/json_members.hpp"
#include "cli/table.hpp"

namespace ctd {
namespace {

using nlohmann::json;
using testing::ElementsAre;

class Recorder : public DumpWriter {
 public:
  Result<> header(std::string_view line) override { return put("h", line); }
  Result<> connection(std::string_view line) override { return put("c", line); }
  Result<> trailer(std::string_view line) override { return put("t", line); }
  std::vector<std::string> lines;

 private:
  Result<> put(const char* kind, std::string_view line) {
    lines.push_back(kind + std::string(line));
    return {};
  }
};

constexpr std::string_view kDump = "{\"schema\":1}\n{\"id\":\"1\"}\n{\"id\":\"2\"}\n{\"count\":2,\"complete\":true}\n";

TEST(DumpReader, FindsTheLinesHoweverTheyArrive) {
  for (std::size_t size = 1; size <= kDump.size(); ++size) {
    Recorder recorder;
    DumpReader reader(recorder);
    for (std::size_t at = 0; at < kDump.size(); at += size) ASSERT_TRUE(reader.feed(kDump.substr(at, size)));
    EXPECT_TRUE(reader.finish());
    EXPECT_THAT(recorder.lines, ElementsAre("h{\"schema\":1}", "c{\"id\":\"1\"}", "c{\"id\":\"2\"}",
                                            "t{\"count\":2,\"complete\":true}"))
        << "in pieces of " << size;
  }
}

std::string written(std::unique_ptr<DumpWriter> (*make)(Output&), std::string_view text, bool whole) {
  const int fd = memfd_create("out", MFD_CLOEXEC);
  Output out(fd);
  const auto writer = make(out);
  DumpReader reader(*writer);
  EXPECT_TRUE(reader.feed(text));
  EXPECT_EQ(reader.finish().has_value(), whole);
  EXPECT_TRUE(out.flush());
  std::string result(static_cast<std::size_t>(lseek(fd, 0, SEEK_END)), '\0');
  EXPECT_EQ(pread(fd, result.data(), result.size(), 0), static_cast<ssize_t>(result.size()));
  close(fd);
  return result;
}

TEST(DumpWriter, JsonIsOneArrayAlsoOfAnEmptyTable) {
  EXPECT_EQ(json::parse(written(make_json_writer, kDump, true)).size(), 4u);
  EXPECT_EQ(json::parse(written(make_json_writer, "{\"schema\":1}\n{\"count\":0,\"complete\":true}\n", true)),
            json::parse(R"([{"schema":1},{"count":0,"complete":true}])"));
}

TEST(DumpWriter, ACutOffDumpIsStillJsonAndSaysSo) {
  for (const std::size_t keep : {13, 20, 30, 45}) {
    const json array = json::parse(written(make_json_writer, kDump.substr(0, keep), false));
    EXPECT_EQ(array.front(), json::parse(R"({"schema":1})"));
    EXPECT_EQ(array.back()["complete"], false);
    EXPECT_EQ(array.back()["count"], array.size() - 2);
  }
}

TEST(DumpWriter, NothingAtAllIsNothing) { EXPECT_EQ(written(make_json_writer, "", false), ""); }

TEST(DumpWriter, AStrangeLineIsAnError) {
  const int fd = memfd_create("out", MFD_CLOEXEC);
  Output out(fd);
  const auto writer = make_table_writer(out);
  ASSERT_TRUE(writer->header("{}"));
  EXPECT_FALSE(writer->connection("{\"id\":"));
  EXPECT_FALSE(writer->connection("{\"id\":\"1\"}"));
  close(fd);
}

std::vector<std::string> members(std::string_view object) {
  std::vector<std::string> all;
  JsonMembers walk(object);
  for (std::string_view name, value; walk.next(name, value);)
    all.push_back(std::string(name) + "=" + std::string(json_text(value)));
  all.emplace_back(walk.whole() ? "whole" : "broken");
  return all;
}

TEST(JsonMembers, AsTheyAreWritten) {
  EXPECT_THAT(members("{}"), ElementsAre("whole"));
  EXPECT_THAT(members(R"({"a":"x","b":-7.5,"c":{"d":[1,{"e":"}"}]},"f":[],"g":null})"),
              ElementsAre("a=x", "b=-7.5", R"(c={"d":[1,{"e":"}"}]})", "f=[]", "g=null", "whole"));
  EXPECT_THAT(members(R"({"a":"\"},{\\","b":1})"), ElementsAre(R"(a=\"},{\\)", "b=1", "whole"))
      << "quotes within a string";
}

TEST(JsonMembers, WhatIsCutOffIsBroken) {
  constexpr std::string_view kObject = R"({"a":"x\"y","b":{"c":[1,2]},"d":7})";
  EXPECT_EQ(members(kObject).back(), "whole");
  for (std::size_t size = 0; size < kObject.size(); ++size)
    EXPECT_EQ(members(kObject.substr(0, size)).back(), "broken") << kObject.substr(0, size);
  for (const char* text : {"{}}", R"({"a":1}x)", R"({"a"1})", R"({a:1})", R"({"a":})", "[1]", "7"})
    EXPECT_EQ(members(text).back(), "broken") << text;
}

TEST(Table, ColumnsStayAlignedWithinABatchAndOnlyGrow) {
  const int fd = memfd_create("out", MFD_CLOEXEC);
  Output out(fd);
  Table table(out, {{"A"}, {"N", Table::Align::kRight}, {"Z"}}, 2);
  ASSERT_TRUE(table.add({"x", "1", "z"}));
  ASSERT_TRUE(table.add({"long", "10", ""}));
  ASSERT_TRUE(table.add({"y", "2", "z"}));
  ASSERT_TRUE(table.finish());
  ASSERT_TRUE(out.flush());
  char text[256] = {};
  ASSERT_GT(pread(fd, text, sizeof(text) - 1, 0), 0);
  EXPECT_STREQ(text, "A      N  Z\nx      1  z\nlong  10\ny      2  z\n");
  close(fd);
}

TEST(Table, ShortCount) {
  EXPECT_EQ(short_count(0), "0");
  EXPECT_EQ(short_count(999), "999");
  EXPECT_EQ(short_count(1000), "1.0k");
  EXPECT_EQ(short_count(9949), "9.9k");
  EXPECT_EQ(short_count(9950), "10k");
  EXPECT_EQ(short_count(999'499), "999k");
  EXPECT_EQ(short_count(999'500), "1.0M");
  EXPECT_EQ(short_count(~0ull), "18E");
}

}  // namespace
}  // namespace ctd
