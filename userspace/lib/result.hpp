// SPDX-License-Identifier: Apache-2.0
// Result<T>: a value or an Error, the one error channel of ctd's userspace.
//
//   Result<Config> load(const std::string& path) {
//     std::string text = CTD_TRY(read_file(path).context("configuration {}", path));
//     if (text.empty()) return fail("configuration {}: file is empty", path);
//     return parse(text);
//   }
//
// A caller that adds context says what it was doing; the message reads from the outside in:
//   "configuration /etc/ctd.json: open: No such file or directory".
// value(), error(), * and -> on the wrong alternative are bugs of the caller and abort.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
#include <variant>

#include <fmt/format.h>

namespace ctd {

class [[nodiscard]] Error {
 public:
  // code: a positive errno, or 0 where no system call was involved.
  explicit Error(std::string message, int code = 0) : message_(std::move(message)), code_(code) {}

  const std::string& message() const { return message_; }
  int code() const { return code_; }

  // Prefixes the message with what the caller was doing.
  Error& add_context(std::string_view what) & {
    message_.insert(0, fmt::format("{}: ", what));
    return *this;
  }

 private:
  std::string message_;
  int code_;
};

template <typename... Args>
Error fail(fmt::format_string<Args...> format, Args&&... args) {
  return Error(fmt::format(format, std::forward<Args>(args)...));
}

// err: an errno of either sign (libbpf and libnl-style calls return it negative); its text is appended.
template <typename... Args>
Error fail_errno(int err, fmt::format_string<Args...> format, Args&&... args) {
  const int code = std::abs(err);
  return Error(
      fmt::format("{}: {}", fmt::format(format, std::forward<Args>(args)...), std::generic_category().message(code)),
      code);
}

namespace detail {
[[noreturn]] inline void result_misuse(const char* what) {
  std::fprintf(stderr, "ctd: bug: Result: %s\n", what);
  std::abort();
}

// Void stands in for void, so that one implementation serves Result<void> as well.
struct Void {};
}  // namespace detail

template <typename T = void>
class [[nodiscard]] Result {
  static_assert(!std::is_same_v<T, Error>, "Result<Error> would be ambiguous");
  static_assert(!std::is_reference_v<T>, "hold a pointer or std::reference_wrapper");
  using Stored = std::conditional_t<std::is_void_v<T>, detail::Void, T>;

 public:
  using value_type = T;

  Result()
    requires std::is_void_v<T>
      : state_(std::in_place_index<0>) {}

  template <typename U = Stored>
    requires(!std::is_void_v<T> && !std::is_same_v<std::remove_cvref_t<U>, Result> &&
             !std::is_same_v<std::remove_cvref_t<U>, Error> && std::is_constructible_v<Stored, U>)
  explicit(!std::is_convertible_v<U, Stored>) Result(U&& value)
      : state_(std::in_place_index<0>, std::forward<U>(value)) {}

  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}

  bool has_value() const { return state_.index() == 0; }
  explicit operator bool() const { return has_value(); }

  std::add_lvalue_reference_t<T> value() & { return static_cast<std::add_lvalue_reference_t<T>>(get_stored(*this)); }
  std::add_lvalue_reference_t<const T> value() const& {
    return static_cast<std::add_lvalue_reference_t<const T>>(get_stored(*this));
  }
  // By value, so that `for (auto& x : f().value())` does not dangle.
  T value() && { return static_cast<T>(std::move(get_stored(*this))); }

  Stored& operator*() & { return get_stored(*this); }
  const Stored& operator*() const& { return get_stored(*this); }
  Stored operator*() && { return std::move(get_stored(*this)); }
  Stored* operator->() { return std::addressof(get_stored(*this)); }
  const Stored* operator->() const { return std::addressof(get_stored(*this)); }

  const Error& error() const& {
    if (has_value()) detail::result_misuse("error() of a success");
    return *std::get_if<1>(&state_);
  }
  Error error() && {
    if (has_value()) detail::result_misuse("error() of a success");
    return std::move(*std::get_if<1>(&state_));
  }

  // Adds what the caller was doing to an error; leaves a success alone (nothing is formatted).
  template <typename... Args>
  Result context(fmt::format_string<Args...> format, Args&&... args) && {
    if (auto* error = std::get_if<1>(&state_)) error->add_context(fmt::format(format, std::forward<Args>(args)...));
    return std::move(*this);
  }

 private:
  template <typename Self>
  static auto& get_stored(Self& self) {
    auto* stored = std::get_if<0>(&self.state_);
    if (!stored) detail::result_misuse(std::get_if<1>(&self.state_)->message().c_str());
    return *stored;
  }
  std::variant<Stored, Error> state_;
};

}  // namespace ctd

#define CTD_CONCAT_IMPL(a, b) a##b
#define CTD_CONCAT(a, b) CTD_CONCAT_IMPL(a, b)
#define CTD_TRY_NAMED(name, ...)               \
  __extension__({                              \
    auto name = (__VA_ARGS__);                 \
    if (!name) return std::move(name).error(); \
    std::move(name).value();                   \
  })
// The value of a Result, or return its error from the enclosing function. The name is unique, so calls may nest.
#define CTD_TRY(...) CTD_TRY_NAMED(CTD_CONCAT(ctd_try_, __COUNTER__), __VA_ARGS__)
