// SPDX-License-Identifier: Apache-2.0
#include "lib/result.hpp"

#include <cerrno>
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace ctd {
namespace {

Result<int> parse_port(const std::string& text) {
  if (text.empty() || text.find_first_not_of("0123456789") != std::string::npos)
    return fail("port \"{}\": expected a number", text);
  return std::stoi(text);
}

Result<int> sum(const std::string& a, const std::string& b) {
  return CTD_TRY(parse_port(a).context("first")) + CTD_TRY(parse_port(b).context("second"));
}

Result<> check(const std::string& text) {
  CTD_TRY(parse_port(text));
  return {};
}

Result<> check_twice(const std::string& text, int& reached) {
  CTD_TRY(check(text));
  ++reached;
  CTD_TRY(check(text));
  ++reached;
  return {};
}

TEST(Result, HoldsAValue) {
  Result<int> r = parse_port("80");
  ASSERT_TRUE(r);
  EXPECT_EQ(*r, 80);
  *r += 1;
  EXPECT_EQ(r.value(), 81);
}

TEST(Result, HoldsAnError) {
  Result<int> r = parse_port("http");
  ASSERT_FALSE(r.has_value());
  EXPECT_EQ(r.error().message(), "port \"http\": expected a number");
  EXPECT_EQ(r.error().code(), 0);
}

TEST(Result, ContextReadsFromTheOutsideIn) {
  Result<int> r = sum("1", "x").context("configuration {}", "a.json");
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().message(), "configuration a.json: second: port \"x\": expected a number");
}

TEST(Result, ContextLeavesASuccessAlone) {
  Result<int> r = sum("1", "2").context("never seen");
  ASSERT_TRUE(r);
  EXPECT_EQ(*r, 3);
}

TEST(Result, ContextKeepsTheCode) {
  Result<> r = Result<>(fail_errno(ENOENT, "open")).context("load");
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().code(), ENOENT);
  EXPECT_EQ(r.error().message(), "load: open: No such file or directory");
}

TEST(Result, ErrnoOfEitherSign) {
  EXPECT_EQ(fail_errno(-EBUSY, "attach to {}", "lan0").code(), EBUSY);
  EXPECT_EQ(fail_errno(-EBUSY, "attach to {}", "lan0").message(), "attach to lan0: Device or resource busy");
}

TEST(Result, VoidResultsPropagate) {
  int reached = 0;
  EXPECT_TRUE(check_twice("1", reached));
  EXPECT_EQ(reached, 2);
  Result<> r = check_twice("x", reached);
  EXPECT_FALSE(r);
  EXPECT_EQ(reached, 2) << "must return at the first failure";
}

TEST(Result, TryMayNest) {
  auto outer = [](const std::string& text) -> Result<int> {
    return CTD_TRY(parse_port(std::to_string(CTD_TRY(parse_port(text)) + 1)));
  };
  EXPECT_EQ(outer("7").value(), 8);
  EXPECT_FALSE(outer(""));
}

TEST(Result, MoveOnlyValues) {
  auto make = []() -> Result<std::unique_ptr<int>> { return std::make_unique<int>(5); };
  auto relay = [&]() -> Result<std::unique_ptr<int>> {
    std::unique_ptr<int> p = CTD_TRY(make());
    return p;
  };
  Result<std::unique_ptr<int>> r = relay();
  ASSERT_TRUE(r);
  EXPECT_EQ(**r, 5);
  std::unique_ptr<int> taken = std::move(r).value();
  EXPECT_EQ(*taken, 5);
}

TEST(Result, ConvertsToTheValueType) {
  auto name = []() -> Result<std::string> { return "lan0"; };
  EXPECT_EQ(name()->size(), 4u);
  EXPECT_EQ(name().value(), "lan0");
}

TEST(Result, TemporariesOfALoopLive) {
  auto list = []() -> Result<std::vector<int>> { return std::vector<int>{1, 2, 3}; };
  int total = 0;
  for (int x : list().value()) total += x;
  EXPECT_EQ(total, 6);
}

TEST(ResultDeathTest, MisuseAborts) {
  EXPECT_DEATH(static_cast<void>(parse_port("x").value()), "port \"x\"");
  EXPECT_DEATH(static_cast<void>(parse_port("1").error()), "error\\(\\) of a success");
}

}  // namespace
}  // namespace ctd
