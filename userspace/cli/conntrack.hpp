// SPDX-License-Identifier: Apache-2.0
// `ctctl conntrack dump`: from the API's lines to what was asked for.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "cli/client.hpp"
#include "cli/output.hpp"
#include "lib/result.hpp"

namespace ctd {

// Takes the lines of a dump, in order: header, connections, trailer.
class DumpWriter {
 public:
  virtual ~DumpWriter() = default;
  virtual Result<> header(std::string_view line) = 0;
  virtual Result<> connection(std::string_view line) = 0;
  // line: the daemon's, or one that says "complete":false if the dump was cut off.
  virtual Result<> trailer(std::string_view line) = 0;
};

std::unique_ptr<DumpWriter> make_table_writer(Output& out);
// A table of one: titles and a row.
Result<> write_row(Output& out, std::string_view line);
std::unique_ptr<DumpWriter> make_json_writer(Output& out);  // one array
std::unique_ptr<DumpWriter> make_ndjson_writer(Output& out);

// Finds the lines in the pieces of a stream and tells header, connections and trailer apart.
class DumpReader {
 public:
  explicit DumpReader(DumpWriter& writer) : writer_(writer) {}

  Result<> feed(std::string_view piece);
  // After the last piece. Writes a trailer in any case, so that the output is well-formed.
  // Errors: the daemon's trailer is missing.
  Result<> finish();

 private:
  Result<> line(std::string_view line);

  DumpWriter& writer_;
  std::string partial_;  // a line whose end has not come yet
  uint64_t connections_ = 0;
  bool header_ = false;
  bool trailer_ = false;
};

// path: of the API, with its parameters.
Result<> dump_connections(const Client& client, const std::string& path, DumpWriter& writer);

}  // namespace ctd
