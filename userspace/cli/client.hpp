// SPDX-License-Identifier: Apache-2.0
// ctctl's side of the control API.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "lib/result.hpp"

namespace ctd {

class Client {
 public:
  // The instance's socket in rundir.
  static Result<Client> open(const std::string& rundir, const std::string& instance);

  // The body of the answer. Errors: nobody answers, or what the daemon says is wrong.
  Result<std::string> get(const std::string& path) const;
  Result<std::string> post(const std::string& path, const std::string& body = {}) const;
  Result<std::string> patch(const std::string& path, const std::string& body) const;
  Result<std::string> put(const std::string& path, const std::string& body) const;
  Result<std::string> del(const std::string& path) const;

  // Hands the body over as it comes. Ends early with the consumer's error.
  using Consumer = std::function<Result<>(std::string_view)>;
  Result<> stream(const std::string& path, const Consumer& consumer) const;

  // The same for an answer without an end. True: it was ended from here, when stop_fd became readable.
  Result<bool> watch(const std::string& path, const Consumer& consumer, int stop_fd) const;

  // Asks the daemon to shut down and waits until its process has gone.
  Result<> shutdown(std::chrono::seconds patience) const;

 private:
  class Endless;
  explicit Client(std::string socket) : socket_(std::move(socket)) {}
  Result<> request(const char* method, const std::string& path, const std::string& body, const Consumer& consumer,
                   Endless* endless = nullptr) const;
  Result<std::string> whole(const char* method, const std::string& path, const std::string& body = {}) const;

  std::string socket_;
};

// An answer of the API as JSON.
Result<nlohmann::ordered_json> parse_answer(std::string_view body);

}  // namespace ctd
