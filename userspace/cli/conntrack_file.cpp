// SPDX-License-Identifier: Apache-2.0
// `ctctl conntrack save` and `restore`: the table as a file.
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/conntrack.hpp"
#include "cli/conntrack_commands.hpp"
#include "lib/conn_json.hpp"

namespace ctd {
namespace {

using json = nlohmann::ordered_json;

constexpr std::size_t kBody = 60 * 1024;  // the API takes a little more at a time
constexpr std::size_t kShown = 20;        // lines that were refused, each with its reason

// A file that is there as a whole or not at all.
class NewFile {
 public:
  static Result<NewFile> open(const std::string& path) {
    std::string partial = path + ".partial";
    const int fd = ::open(partial.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) return fail_errno(errno, "{}", partial);
    return NewFile(path, std::move(partial), fd);
  }
  NewFile(NewFile&& other) noexcept
      : path_(std::move(other.path_)), partial_(std::move(other.partial_)), fd_(std::exchange(other.fd_, -1)) {}
  NewFile& operator=(NewFile&&) = delete;
  ~NewFile() {
    if (fd_ < 0) return;
    close(fd_);
    unlink(partial_.c_str());
  }
  int fd() const { return fd_; }
  Result<> keep() {
    if (fsync(fd_) != 0) return fail_errno(errno, "{}", partial_);
    if (close(std::exchange(fd_, -1)) != 0) return fail_errno(errno, "{}", partial_);
    if (rename(partial_.c_str(), path_.c_str()) != 0) return fail_errno(errno, "{}", path_);
    return {};
  }

 private:
  NewFile(std::string path, std::string partial, int fd)
      : path_(std::move(path)), partial_(std::move(partial)), fd_(fd) {}
  std::string path_, partial_;
  int fd_;
};

// A dump's lines as they are, counted.
class Saver : public DumpWriter {
 public:
  explicit Saver(Output& out) : out_(out) {}
  Result<> header(std::string_view line) override { return put(line); }
  Result<> connection(std::string_view line) override {
    ++count_;
    return put(line);
  }
  Result<> trailer(std::string_view line) override { return put(line); }
  uint64_t count() const { return count_; }

 private:
  Result<> put(std::string_view line) {
    CTD_TRY(out_.write(line));
    return out_.write("\n");
  }
  Output& out_;
  uint64_t count_ = 0;
};

Result<uint64_t> save_to(const std::string& path, const Client& client, Output& out) {
  Saver saver(out);
  CTD_TRY(dump_connections(client, path, saver));
  CTD_TRY(out.flush());
  return saver.count();
}

// Collects lines to bodies of the API's size, and the answers.
class Restorer : public DumpWriter {
 public:
  Restorer(const Client& client, std::string file) : client_(client), file_(std::move(file)) {}

  Result<> header(std::string_view line) override {
    ++line_;
    const json header = json::parse(line, nullptr, false);
    if (!header.is_object() || header.value("schema", "") != kConntrackSchema)
      return fail("{}: line 1: no dump of a connection table: expected an object with \"schema\":\"{}\"", file_,
                  kConntrackSchema);
    return {};
  }
  // A connection that was expected waits until its master is there.
  Result<> connection(std::string_view line) override {
    ++line_;
    if (line.find("\"master\":{") == std::string_view::npos) return add(line, line_);
    children_.push_back({std::string(line), line_});
    return {};
  }
  Result<> trailer(std::string_view) override { return {}; }

  Result<> finish() {
    CTD_TRY(send());
    // A master began before its child. Each goes alone, so that it is there before the next.
    const auto start = [](const Line& line) {
      constexpr std::string_view kStart = "\"start\":\"";
      const std::size_t at = line.text.find(kStart);
      return at == std::string::npos ? std::string() : line.text.substr(at + kStart.size(), 24);
    };
    std::ranges::stable_sort(children_, std::ranges::less(), start);
    for (const Line& child : children_) {
      CTD_TRY(add(child.text, child.number));
      CTD_TRY(send());
    }
    return {};
  }

  uint64_t restored() const { return restored_; }
  uint64_t existing() const { return existing_; }
  uint64_t refused() const { return refused_; }

 private:
  struct Line {
    std::string text;
    uint64_t number;
  };

  Result<> add(std::string_view line, uint64_t number) {
    if (body_.size() + line.size() >= kBody) CTD_TRY(send());
    body_.append(line).append("\n");
    numbers_.push_back(number);
    return {};
  }

  Result<> send() {
    if (body_.empty()) return {};
    const std::string answer = CTD_TRY(client_.post("/v1/conntrack", body_));
    restored_ += CTD_TRY(answer_number(answer, "inserted"));
    existing_ += CTD_TRY(answer_number(answer, "existing"));
    for (const json& refused : CTD_TRY(parse_answer(answer)).value("refused", json::array())) {
      if (refused_++ >= kShown) continue;
      const std::size_t line = refused.value("line", std::size_t{0}) - 1;
      fmt::print(stderr, "ctctl: {}: line {}: {}\n", file_, line < numbers_.size() ? numbers_[line] : 0,
                 refused.value("error", "refused"));
    }
    body_.clear();
    numbers_.clear();
    return {};
  }

  const Client& client_;
  const std::string file_;
  uint64_t line_ = 0;
  std::string body_;
  std::vector<uint64_t> numbers_;  // of the body's lines in the file
  std::vector<Line> children_;
  uint64_t restored_ = 0, existing_ = 0, refused_ = 0;
};

}  // namespace

Result<> conntrack_save(const ConntrackOptions& options, const Client& client, Output& out) {
  const std::string path = filter_path("/v1/conntrack", options.terms, {{"format", "saved"}});
  if (options.file == "-") {
    CTD_TRY(save_to(path, client, out));
    return {};
  }
  NewFile file = CTD_TRY(NewFile::open(options.file));
  Output to(file.fd());
  const uint64_t count = CTD_TRY(save_to(path, client, to));
  CTD_TRY(file.keep());
  return out.write(counted(count, "saved") + "\n");
}

Result<> conntrack_restore(const ConntrackOptions& options, const Client& client, Output& out) {
  std::ifstream opened;
  if (options.file != "-") {
    opened.open(options.file, std::ios::binary);
    if (!opened) return fail_errno(errno, "{}", options.file);
  }
  std::istream& in = options.file == "-" ? std::cin : opened;
  const std::string name = options.file == "-" ? "standard input" : options.file;
  Restorer restorer(client, name);
  DumpReader reader(restorer);
  std::vector<char> piece(64 * 1024);
  while (in.read(piece.data(), static_cast<std::streamsize>(piece.size())), in.gcount() > 0)
    CTD_TRY(reader.feed({piece.data(), static_cast<std::size_t>(in.gcount())}));
  if (in.bad()) return fail_errno(errno, "{}", name);
  const Result<> whole = reader.finish();
  CTD_TRY(restorer.finish());
  CTD_TRY(out.write(fmt::format("{}, {} existed, {} refused\n", counted(restorer.restored(), "restored"),
                                restorer.existing(), restorer.refused())));
  if (!whole) return fail("{}: the file ends too early: what was in it is restored", name);
  if (restorer.refused()) return fail("{}: {}", name, counted(restorer.refused(), "refused"));
  return {};
}

}  // namespace ctd
