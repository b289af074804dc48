// SPDX-License-Identifier: Apache-2.0
// `ctctl conntrack watch`: the API's stream of events, until Ctrl-C.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "cli/client.hpp"
#include "cli/filter_options.hpp"
#include "cli/output.hpp"
#include "lib/result.hpp"

namespace ctd {

struct WatchOptions {
  std::string format;      // "text", "json"
  std::string events;      // "new,destroy"; empty: all
  bool timestamp = false;  // text: in front of each line
  FilterTerms terms;       // which connections
};

// Takes the pieces of the stream and writes what was asked for.
class EventWriter {
 public:
  EventWriter(Output& out, const WatchOptions& options) : out_(out), options_(options) {}

  // Writes what is whole, at once: nobody knows when more will come.
  Result<> feed(std::string_view piece);

  // "3 events, 2 lost"
  std::string summary() const;

 private:
  Result<> line(std::string_view line);

  Output& out_;
  const WatchOptions& options_;
  std::string partial_;  // a line whose end has not come yet
  uint64_t shown_ = 0;
  uint64_t lost_ = 0;
  bool ended_ = false;
};

// Returns after Ctrl-C (SIGINT, SIGTERM), which is no failure; the summary goes to standard error then. That the stream
// ends otherwise is one.
Result<> watch_events(const Client& client, const WatchOptions& options, Output& out);

}  // namespace ctd
