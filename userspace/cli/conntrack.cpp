// SPDX-License-Identifier: Apache-2.0
#include "cli/conntrack.hpp"

#include <fmt/format.h>

namespace ctd {
namespace {

class NdjsonWriter : public DumpWriter {
 public:
  explicit NdjsonWriter(Output& out) : out_(out) {}
  Result<> header(std::string_view line) override { return put(line); }
  Result<> connection(std::string_view line) override { return put(line); }
  Result<> trailer(std::string_view line) override { return put(line); }

 private:
  Result<> put(std::string_view line) {
    CTD_TRY(out_.write(line));
    return out_.write("\n");
  }
  Output& out_;
};

class JsonWriter : public DumpWriter {
 public:
  explicit JsonWriter(Output& out) : out_(out) {}
  Result<> header(std::string_view line) override {
    CTD_TRY(out_.write("[\n"));
    return out_.write(line);
  }
  Result<> connection(std::string_view line) override {
    CTD_TRY(out_.write(",\n"));
    return out_.write(line);
  }
  Result<> trailer(std::string_view line) override {
    CTD_TRY(connection(line));
    return out_.write("\n]\n");
  }

 private:
  Output& out_;
};

// Only the trailer begins so: a connection's first member is its id.
bool is_trailer(std::string_view line) { return line.starts_with("{\"count\":"); }

}  // namespace

std::unique_ptr<DumpWriter> make_json_writer(Output& out) { return std::make_unique<JsonWriter>(out); }
std::unique_ptr<DumpWriter> make_ndjson_writer(Output& out) { return std::make_unique<NdjsonWriter>(out); }

Result<> DumpReader::feed(std::string_view piece) {
  for (std::size_t end; (end = piece.find('\n')) != std::string_view::npos; piece.remove_prefix(end + 1)) {
    if (partial_.empty()) {
      CTD_TRY(line(piece.substr(0, end)));
      continue;
    }
    partial_ += piece.substr(0, end);
    CTD_TRY(line(partial_));
    partial_.clear();
  }
  partial_ += piece;
  return {};
}

Result<> DumpReader::line(std::string_view line) {
  if (!header_) {
    header_ = true;
    return writer_.header(line);
  }
  if (is_trailer(line)) {
    trailer_ = true;
    return writer_.trailer(line);
  }
  ++connections_;
  return writer_.connection(line);
}

Result<> DumpReader::finish() {
  if (trailer_) return {};
  if (header_) CTD_TRY(writer_.trailer(fmt::format("{{\"count\":{},\"complete\":false}}", connections_)));
  return fail("the dump was cut off after {} connections", connections_);
}

Result<> dump_connections(const Client& client, const std::string& path, DumpWriter& writer) {
  DumpReader reader(writer);
  Result<> streamed = client.stream(path, [&](std::string_view piece) { return reader.feed(piece); });
  Result<> finished = reader.finish();
  return streamed ? std::move(finished) : std::move(streamed);
}

}  // namespace ctd
