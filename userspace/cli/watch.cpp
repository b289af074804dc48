// SPDX-License-Identifier: Apache-2.0
#include "cli/watch.hpp"

#include <cerrno>
#include <csignal>

#include <fmt/format.h>
#include <sys/signalfd.h>
#include <unistd.h>

namespace ctd {
namespace {

using json = nlohmann::ordered_json;

// SIGINT and SIGTERM as a descriptor, while it lives.
class StopSignals {
 public:
  StopSignals() {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &set, &before_);
    fd_ = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
  }
  ~StopSignals() {
    // What has come is taken, or it would end the process now.
    signalfd_siginfo taken;
    while (fd_ >= 0 && read(fd_, &taken, sizeof(taken)) == sizeof(taken)) {
    }
    if (fd_ >= 0) close(fd_);
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;
  int fd() const { return fd_; }

 private:
  sigset_t before_{};
  int fd_ = -1;
};

bool has_status(const json& conn, const char* name) {
  for (const json& bit : conn.at("status"))
    if (bit == name) return true;
  return false;
}

std::string direction_text(const json& direction, bool counters) {
  std::string text;
  for (const auto& [name, value] : direction.items()) {
    if (!counters && (name == "packets" || name == "bytes")) continue;
    text += fmt::format(" {}={}", name, value.is_string() ? value.get<std::string>() : value.dump());
  }
  return text;
}

// As `conntrack -E` writes it.
std::string event_text(const json& event) {
  const json& conn = event.at("conn");
  const std::string kind = event.at("event");
  const bool destroy = kind == "destroy";
  const unsigned proto = conn.at("protonum");
  std::string text = fmt::format("{:<8} {}", conn.at("proto").get<std::string>(), proto);
  if (!destroy) text += fmt::format(" {}", conn.at("timeout_s").get<uint64_t>());
  const std::string state = conn.at("state");
  // Of the two states that protocols without a machine have, conntrack shows what the status says.
  if (state != "REPLIED" && state != "UNREPLIED") text += " " + state;
  text += direction_text(conn.at("orig"), destroy);
  if (!has_status(conn, "SEEN_REPLY")) text += " [UNREPLIED]";
  text += direction_text(conn.at("reply"), destroy);
  if (has_status(conn, "ASSURED")) text += " [ASSURED]";
  if (conn.at("mark") != 0) text += fmt::format(" mark={}", conn["mark"].get<uint32_t>());
  if (conn.at("zone") != 0) text += fmt::format(" zone={}", conn["zone"].get<unsigned>());
  for (const char* name : {"label", "helper", "master"})
    if (conn.contains(name)) text += fmt::format(" {}={}", name, conn[name].get<std::string>());
  if (destroy) text += fmt::format(" reason={}", event.at("reason").get<std::string>());
  return text;
}

std::string lost_text(const json& event) {
  return fmt::format("{} events: {}", event.at("count").get<uint64_t>(),
                     event.at("by") == "reader" ? "this reader was too slow" : "the datapath's ring was full");
}

// "    [NEW] ", all of one width.
std::string tag(std::string name) {
  for (char& c : name) c = static_cast<char>(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
  return fmt::format("{:>9} ", "[" + name + "]");
}

}  // namespace

Result<> EventWriter::feed(std::string_view piece) {
  for (std::size_t end; (end = piece.find('\n')) != std::string_view::npos; piece.remove_prefix(end + 1)) {
    partial_ += piece.substr(0, end);
    CTD_TRY(line(partial_));
    partial_.clear();
  }
  partial_ += piece;
  return out_.flush();
}

Result<> EventWriter::line(std::string_view line) {
  const json event = CTD_TRY(parse_answer(line));
  const bool header = !event.contains("event");
  if (!header) {
    const std::string kind = event.value("event", "");
    if (kind == "lost")
      lost_ += event.value("count", uint64_t{0});
    else if (kind == "end")
      ended_ = true;
    else
      ++shown_;
  }
  if (options_.format != "text") return out_.write(fmt::format("{}\n", line));
  if (header || ended_) return {};
  try {
    const std::string kind = event.at("event");
    const bool lost = kind == "lost";
    const std::string when = options_.timestamp && !lost ? event.at("time").get<std::string>() + " " : "";
    return out_.write(when + tag(kind) + (lost ? lost_text(event) : event_text(event)) + "\n");
  } catch (const json::exception& e) {
    return fail("ctd's answer is not an event ({}): {:.80}", e.what(), line);
  }
}

std::string EventWriter::summary() const {
  std::string text = fmt::format("{} event{}", shown_, shown_ == 1 ? "" : "s");
  if (lost_) text += fmt::format(", {} lost", lost_);
  return text;
}

Result<> watch_events(const Client& client, const WatchOptions& options, Output& out) {
  const StopSignals stop;
  if (stop.fd() < 0) return fail_errno(errno, "signalfd");
  EventWriter writer(out, options);
  FilterTerms more;
  if (!options.events.empty()) more.push_back({"events", options.events});
  const std::string path = filter_path("/v1/conntrack/events", options.terms, more);
  const bool stopped =
      CTD_TRY(client.watch(path, [&](std::string_view piece) { return writer.feed(piece); }, stop.fd()));
  if (stopped) {
    fmt::print(stderr, "ctctl: {}\n", writer.summary());
    return {};
  }
  return fail("ctd has stopped, and with it the stream ({})", writer.summary());
}

}  // namespace ctd
