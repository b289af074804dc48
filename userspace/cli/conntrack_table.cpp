// SPDX-License-Identifier: Apache-2.0
// The connection table for people.
#include <algorithm>
#include <initializer_list>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "cli/conntrack.hpp"
#include "cli/json_members.hpp"
#include "cli/table.hpp"
#include "lib/conn_values.hpp"
#include "lib/time.hpp"

namespace ctd {
namespace {

using json = nlohmann::ordered_json;

// What a row shows of a direction, as it is written; empty where it is missing.
struct Direction {
  std::string_view src, dst, sport, dport, id, dstkey, packets, bytes;
};
struct Row {
  std::string_view proto, state, status, zone, mark, label, helper, master, nat_src, nat_dst, timeout_s;
  Direction orig, reply;
};

using Place = std::pair<std::string_view, std::string_view*>;

// Puts the members that have a place there, and passes over all others.
bool read_members(std::string_view object, std::initializer_list<Place> places) {
  JsonMembers members(object);
  for (std::string_view name, value; members.next(name, value);) {
    const auto* place = std::find_if(places.begin(), places.end(), [&](const Place& p) { return p.first == name; });
    if (place != places.end()) *place->second = json_text(value);
  }
  return members.whole();
}

bool read_direction(std::string_view object, Direction& d) {
  return read_members(object, {{"src", &d.src},
                               {"dst", &d.dst},
                               {"sport", &d.sport},
                               {"dport", &d.dport},
                               {"id", &d.id},
                               {"dstkey", &d.dstkey},
                               {"packets", &d.packets},
                               {"bytes", &d.bytes}}) &&
         !d.src.empty() && !d.dst.empty();
}

bool read_row(std::string_view line, Row& row) {
  std::string_view orig, reply, nat;
  if (!read_members(line, {{"zone", &row.zone},
                           {"proto", &row.proto},
                           {"state", &row.state},
                           {"status", &row.status},
                           {"orig", &orig},
                           {"reply", &reply},
                           {"nat", &nat},
                           {"mark", &row.mark},
                           {"label", &row.label},
                           {"timeout_s", &row.timeout_s},
                           {"helper", &row.helper},
                           {"master", &row.master}}))
    return false;
  if (!nat.empty() && !read_members(nat, {{"src", &row.nat_src}, {"dst", &row.nat_dst}})) return false;
  return read_direction(orig, row.orig) && read_direction(reply, row.reply);
}

// "10.1.0.2:40312", "[fd00::2]:53"; without port the bare address.
void append_endpoint(std::string& out, std::string_view address, std::string_view port) {
  const bool bracket = !port.empty() && address.find(':') != std::string_view::npos;
  if (bracket) out += '[';
  out += address;
  if (bracket) out += ']';
  if (!port.empty()) out.append(":").append(port);
}

void append_original(std::string& out, const Direction& orig) {
  append_endpoint(out, orig.src, orig.sport);
  out += " -> ";
  append_endpoint(out, orig.dst, orig.dport);
  if (!orig.dstkey.empty() && orig.dstkey != "0") out.append(" call ").append(orig.dstkey);
  if (!orig.id.empty()) out.append(" id ").append(orig.id);
}

void append_translation(std::string& out, const Row& row) {
  if (!row.nat_src.empty()) out.append("src -> ").append(row.nat_src);
  if (!row.nat_dst.empty()) out.append(out.empty() ? "" : ", ").append("dst -> ").append(row.nat_dst);
}

// What most connections do not have.
void append_notes(std::string& out, const Row& row, uint64_t mark) {
  const auto add = [&](std::string_view name, std::string_view value) {
    out.append(out.empty() ? "" : " ").append(name).append(value);
  };
  if (row.status.find("\"ASSURED\"") != std::string_view::npos) add("assured", "");
  if (row.zone != "0") add("zone=", row.zone);
  if (mark) add("mark=", fmt::format("{:#x}", mark));
  if (!row.label.empty()) add("label=", row.label);
  if (!row.helper.empty()) add("helper=", row.helper);
  if (!row.master.empty()) add("master=", row.master);
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
    Row row;
    if (!read_row(line, row)) return fail("ctd's answer is not a connection: {:.80}", line);
    const auto mark = parse_number(row.mark, ~0u), left = parse_number(row.timeout_s, ~0ull);
    if (!mark || !left || row.proto.empty() || row.state.empty() || row.zone.empty() ||
        !both(packets_, row.orig.packets, row.reply.packets) || !both(bytes_, row.orig.bytes, row.reply.bytes))
      return fail("ctd's answer is not a whole connection: {:.80}", line);
    for (std::string* cell : {&original_, &translated_, &notes_}) cell->clear();
    append_original(original_, row.orig);
    append_translation(translated_, row);
    append_notes(notes_, row, *mark);
    return table_.add({row.proto, row.state, original_, translated_, packets_, bytes_, duration_text(*left), notes_});
  }

  Result<> finish() { return table_.finish(); }

  Result<> trailer(std::string_view line) override {
    CTD_TRY(finish());
    const json trailer = CTD_TRY(parse_answer(line));
    const auto count = trailer.value("count", uint64_t{0});
    return out_.write(fmt::format("{} connection{} on {} ({}) at {}{}\n", count, count == 1 ? "" : "s",
                                  header_.value("host", "?"), header_.value("instance", "?"),
                                  header_.value("time", "?"), trailer.value("complete", false) ? "" : ", INCOMPLETE"));
  }

 private:
  static bool both(std::string& cell, std::string_view orig, std::string_view reply) {
    const auto one = parse_number(orig, ~0ull), other = parse_number(reply, ~0ull);
    if (!one || !other) return false;
    cell.assign(short_count(*one)).append("/").append(short_count(*other));
    return true;
  }

  Output& out_;
  Table table_;
  std::string original_, translated_, packets_, bytes_, notes_;  // a row's cells; here so that they keep their memory
  json header_;
};

}  // namespace

std::unique_ptr<DumpWriter> make_table_writer(Output& out) { return std::make_unique<TableWriter>(out); }

Result<> write_row(Output& out, std::string_view line) {
  TableWriter writer(out);
  CTD_TRY(writer.connection(line));
  return writer.finish();
}

}  // namespace ctd
