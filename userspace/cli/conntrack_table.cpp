// SPDX-License-Identifier: Apache-2.0
// The connection table for people.
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "cli/conntrack.hpp"
#include "cli/endpoint.hpp"
#include "cli/table.hpp"
#include "lib/time.hpp"

namespace ctd {
namespace {

using json = nlohmann::ordered_json;

std::string original(const json& orig) {
  const auto port = [&](const char* name) { return orig.contains(name) ? &orig[name] : nullptr; };
  std::string text =
      fmt::format("{} -> {}", endpoint(orig.at("src"), port("sport")), endpoint(orig.at("dst"), port("dport")));
  if (orig.value("dstkey", 0u)) text += fmt::format(" call {}", orig["dstkey"].get<unsigned>());
  if (orig.contains("id")) text += fmt::format(" id {}", orig["id"].get<unsigned>());
  return text;
}

// What most connections do not have.
std::string notes(const json& conn) {
  std::string text;
  const auto add = [&](std::string note) { text += (text.empty() ? "" : " ") + note; };
  for (const json& bit : conn.at("status"))
    if (bit == "ASSURED") add("assured");
  if (conn.at("zone") != 0) add(fmt::format("zone={}", conn["zone"].get<unsigned>()));
  if (conn.at("mark") != 0) add(fmt::format("mark={:#x}", conn["mark"].get<uint32_t>()));
  for (const char* name : {"label", "helper", "master"})
    if (conn.contains(name)) add(fmt::format("{}={}", name, conn[name].get<std::string>()));
  return text;
}

class TableWriter : public DumpWriter {
 public:
  explicit TableWriter(Output& out)
      : out_(out),
        table_(out, {{"PROTO"},
                     {"STATE"},
                     {"ORIGINAL"},
                     {"TRANSLATED"},
                     {"PACKETS", Table::Align::kRight},
                     {"BYTES", Table::Align::kRight},
                     {"EXPIRES", Table::Align::kRight},
                     {"NOTES"}}) {}

  Result<> header(std::string_view line) override {
    header_ = CTD_TRY(parse_answer(line));
    return {};
  }

  Result<> connection(std::string_view line) override {
    const json conn = CTD_TRY(parse_answer(line));
    try {
      return add(conn);
    } catch (const json::exception& e) {
      return fail("ctd's answer is not a connection ({}): {:.80}", e.what(), line);
    }
  }

  Result<> trailer(std::string_view line) override {
    CTD_TRY(table_.finish());
    const json trailer = CTD_TRY(parse_answer(line));
    const auto count = trailer.value("count", uint64_t{0});
    return out_.write(fmt::format("{} connection{} on {} ({}) at {}{}\n", count, count == 1 ? "" : "s",
                                  header_.value("host", "?"), header_.value("instance", "?"),
                                  header_.value("time", "?"), trailer.value("complete", false) ? "" : ", INCOMPLETE"));
  }

 private:
  Result<> add(const json& conn) {
    const json& orig = conn.at("orig");
    const json& reply = conn.at("reply");
    const auto both = [&](const char* member) {
      return fmt::format("{}/{}", short_count(orig.at(member)), short_count(reply.at(member)));
    };
    return table_.add({conn.at("proto"), conn.at("state"), original(orig), translation(conn), both("packets"),
                       both("bytes"), duration_text(conn.at("timeout_s")), notes(conn)});
  }

  Output& out_;
  Table table_;
  json header_;
};

}  // namespace

std::unique_ptr<DumpWriter> make_table_writer(Output& out) { return std::make_unique<TableWriter>(out); }

}  // namespace ctd
