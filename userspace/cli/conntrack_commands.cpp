// SPDX-License-Identifier: Apache-2.0
#include "cli/conntrack_commands.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/format.h>

#include "cli/conntrack.hpp"

namespace ctd {
namespace {

using json = nlohmann::ordered_json;

constexpr char kConntrack[] = "/v1/conntrack";

// Members of an object for an insertion, by the filter's field.
struct Member {
  std::string_view field, object, member;
  bool number;
};
constexpr std::array kMembers{
    Member{"proto", "", "proto", false},
    Member{"zone", "", "zone", true},
    Member{"mark", "", "mark", true},
    Member{"label", "", "label", false},
    Member{"state", "", "state", false},
    Member{"orig-src", "orig", "src", false},
    Member{"orig-dst", "orig", "dst", false},
    Member{"sport", "orig", "sport", true},
    Member{"dport", "orig", "dport", true},
    Member{"srckey", "orig", "srckey", true},
    Member{"dstkey", "orig", "dstkey", true},
    Member{"icmp-id", "orig", "id", true},
    Member{"icmp-type", "orig", "type", true},
    Member{"icmp-code", "orig", "code", true},
    Member{"reply-src", "reply", "src", false},
    Member{"reply-dst", "reply", "dst", false},
    Member{"reply-sport", "reply", "sport", true},
    Member{"reply-dport", "reply", "dport", true},
    Member{"reply-srckey", "reply", "srckey", true},
    Member{"reply-dstkey", "reply", "dstkey", true},
    Member{"reply-icmp-id", "reply", "id", true},
    Member{"reply-icmp-type", "reply", "type", true},
    Member{"reply-icmp-code", "reply", "code", true},
};

Result<json> member_value(const ConnFilter::Term& term, bool number) {
  if (!number) return json(term.value);
  const auto value = parse_number(term.value, 0xffffffff);
  if (!value) return fail("{}: \"{:.40}\": expected a number", term.name, term.value);
  return json(*value);
}

// What replies do not say of themselves follows from the original direction.
void complete_reply(json& conn) {
  if (!conn.contains("reply")) return;
  const json& orig = conn["orig"];
  json& reply = conn["reply"];
  for (const auto& [member, from] : {std::pair{"src", "dst"},
                                     {"dst", "src"},
                                     {"sport", "dport"},
                                     {"dport", "sport"},
                                     {"srckey", "dstkey"},
                                     {"dstkey", "srckey"},
                                     {"id", "id"},
                                     {"code", "code"}})
    if (!reply.contains(member) && orig.contains(from)) reply[member] = orig[from];
}

Result<json> new_connection(const ConntrackOptions& options) {
  json conn{{"orig", json::object()}};
  for (const ConnFilter::Term& term : options.terms) {
    if (term.name == "status") {
      conn["status"] = json::array();
      for (const std::string_view bit : split(term.value)) conn["status"].push_back(bit);
      continue;
    }
    const auto* member = std::ranges::find(kMembers, std::string_view(term.name), &Member::field);
    if (member == kMembers.end()) return fail("{}: cannot be said of a new connection", term.name);
    json& object = member->object.empty() ? conn : conn[std::string(member->object)];
    object[std::string(member->member)] = CTD_TRY(member_value(term, member->number));
  }
  if (conn["orig"].contains("id") && !conn["orig"].contains("code")) conn["orig"]["code"] = 0;
  complete_reply(conn);
  conn["timeout_s"] = CTD_TRY(member_value({"timeout", options.timeout}, true));
  return conn;
}

}  // namespace

Result<uint64_t> answer_number(const std::string& body, const char* member) {
  const json answer = CTD_TRY(parse_answer(body));
  if (!answer.contains(member) || !answer[member].is_number_unsigned())
    return fail("ctd's answer has no number \"{}\": {:.80}", member, body);
  return answer[member].get<uint64_t>();
}

std::string counted(uint64_t count, const char* what) {
  return fmt::format("{} connection{} {}", count, count == 1 ? "" : "s", what);
}

Result<> conntrack_dump(const ConntrackOptions& options, const Client& client, Output& out) {
  if (options.format == "conntrack" || options.format == "dpctl")
    return client.stream(filter_path(kConntrack, options.terms, {{"format", options.format}}),
                         [&](std::string_view piece) { return out.write(piece); });
  const auto make = options.format == "json"     ? make_json_writer
                    : options.format == "ndjson" ? make_ndjson_writer
                                                 : make_table_writer;
  return dump_connections(client, filter_path(kConntrack, options.terms), *make(out));
}

Result<> conntrack_get(const ConntrackOptions& options, const Client& client, Output& out) {
  const bool text = options.format == "conntrack" || options.format == "dpctl";
  const std::string entry = CTD_TRY(client.get(filter_path(
      "/v1/conntrack/entry", options.terms, text ? FilterTerms{{"format", options.format}} : FilterTerms{})));
  if (options.format != "table") return out.write(entry);
  return write_row(out, std::string_view(entry).substr(0, entry.find('\n')));
}

Result<> conntrack_count(const ConntrackOptions& options, const Client& client, Output& out) {
  const std::string body = CTD_TRY(client.get(filter_path("/v1/conntrack/count", options.terms)));
  return out.write(fmt::format("{}\n", CTD_TRY(answer_number(body, "count"))));
}

Result<> conntrack_delete(const ConntrackOptions& options, const Client& client, Output& out) {
  if (options.terms.empty()) return fail("delete: which connections? (`flush` deletes all)");
  return conntrack_flush(options, client, out);
}

Result<> conntrack_flush(const ConntrackOptions& options, const Client& client, Output& out) {
  const std::string body = CTD_TRY(client.del(filter_path(kConntrack, options.terms)));
  return out.write(counted(CTD_TRY(answer_number(body, "deleted")), "deleted") + "\n");
}

Result<> conntrack_update(const ConntrackOptions& options, const Client& client, Output& out) {
  json update = json::object();
  if (!options.mark.empty()) update["mark"] = options.mark;
  if (!options.label.empty()) update["label"] = options.label;
  if (!options.timeout.empty()) update["timeout_s"] = CTD_TRY(member_value({"set-timeout", options.timeout}, true));
  if (update.empty()) return fail("update: nothing to change: --set-mark, --set-label or --set-timeout");
  const std::string body = CTD_TRY(client.patch(filter_path(kConntrack, options.terms), update.dump()));
  return out.write(counted(CTD_TRY(answer_number(body, "updated")), "updated") + "\n");
}

Result<> conntrack_insert(const ConntrackOptions& options, const Client& client, Output& out) {
  const json conn = CTD_TRY(new_connection(options));
  const std::string body = CTD_TRY(client.post(kConntrack, conn.dump() + "\n"));
  const json answer = CTD_TRY(parse_answer(body));
  for (const json& refused : answer.value("refused", json::array()))
    return fail("ctd: {}", refused.value("error", "refused"));
  if (CTD_TRY(answer_number(body, "existing"))) return fail("a connection with one of these tuples exists");
  return out.write(counted(CTD_TRY(answer_number(body, "inserted")), "inserted") + "\n");
}

}  // namespace ctd
