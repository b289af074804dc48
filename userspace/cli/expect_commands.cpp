// SPDX-License-Identifier: Apache-2.0
#include "cli/expect_commands.hpp"

#include <fmt/format.h>

#include "cli/conntrack_commands.hpp"
#include "cli/endpoint.hpp"
#include "cli/filter_options.hpp"
#include "cli/table.hpp"
#include "lib/time.hpp"

namespace ctd {
namespace {

using json = nlohmann::ordered_json;

constexpr char kExpectations[] = "/v1/expectations";

std::string path_of(const ExpectOptions& options) {
  FilterTerms terms;
  if (!options.id.empty()) terms.push_back({"id", options.id});
  if (!options.master.empty()) terms.push_back({"master", options.master});
  return filter_path(kExpectations, terms);
}

// "10.0.2.2:20", "any:20", "any"
std::string end_of(const json& tuple, const char* address, const char* port) {
  const bool known = tuple.contains(port);
  return endpoint(tuple.value(address, "any"), known ? &tuple[port] : nullptr);
}

std::string destination(const json& tuple) {
  std::string text = end_of(tuple, "dst", "dport");
  if (tuple.contains("type"))
    text += fmt::format(" type {} code {}", tuple["type"].get<unsigned>(), tuple.at("code").get<unsigned>());
  if (tuple.contains("id")) text += fmt::format(" id {}", tuple["id"].get<unsigned>());
  if (tuple.contains("dstkey")) text += fmt::format(" call {}", tuple["dstkey"].get<unsigned>());
  return text;
}

std::string notes(const json& expectation) {
  std::string text;
  const auto add = [&](const std::string& note) { text += (text.empty() ? "" : " ") + note; };
  if (expectation.at("permanent").get<bool>()) add("permanent");
  if (expectation.at("zone") != 0) add(fmt::format("zone={}", expectation["zone"].get<unsigned>()));
  if (expectation.contains("helper")) add("helper=" + expectation["helper"].get<std::string>());
  return text;
}

Result<> show(const json& all, Output& out) {
  Table table(out, {{"ID", Table::Align::kRight},
                    {"MASTER"},
                    {"PROTO"},
                    {"SOURCE"},
                    {"DESTINATION"},
                    {"TRANSLATED"},
                    {"EXPIRES", Table::Align::kRight},
                    {"NOTES"}});
  for (const json& one : all) {
    const json& tuple = one.at("tuple");
    const auto text = [&](const char* name) { return one.at(name).get<std::string>(); };
    CTD_TRY(table.add({text("id"), text("master"), text("proto"), end_of(tuple, "src", "sport"), destination(tuple),
                       translation(one), duration_text(one.at("timeout_s")), notes(one)}));
  }
  return table.finish();
}

json body_of(const ExpectOptions& options) {
  json body{{"master", options.master}}, tuple{{"dst", options.dst}};
  if (!options.proto.empty()) body["proto"] = options.proto;
  if (options.zone) body["zone"] = *options.zone;
  if (!options.src.empty()) tuple["src"] = options.src;
  if (options.sport) tuple["sport"] = *options.sport;
  if (options.dport) tuple["dport"] = *options.dport;
  body["tuple"] = tuple;
  if (options.timeout) body["timeout_s"] = *options.timeout;
  if (options.permanent) body["permanent"] = true;
  if (options.no_nat) body["nat"] = "none";
  if (!options.snat.empty()) body["nat"]["src"] = options.snat;
  if (!options.dnat.empty()) body["nat"]["dst"] = options.dnat;
  return body;
}

Result<> remove(const ExpectOptions& options, const Client& client, Output& out) {
  const uint64_t count = CTD_TRY(answer_number(CTD_TRY(client.del(path_of(options))), "deleted"));
  return out.write(fmt::format("{} expectation{} deleted\n", count, count == 1 ? "" : "s"));
}

}  // namespace

Result<> expect_list(const ExpectOptions& options, const Client& client, Output& out) {
  const std::string body = CTD_TRY(client.get(path_of(options)));
  if (options.format == "json") return out.write(body);
  const json all = CTD_TRY(parse_answer(body));
  try {
    return show(all, out);
  } catch (const json::exception& e) {
    return fail("ctd's answer about expectations is not as expected: {}", e.what());
  }
}

Result<> expect_add(const ExpectOptions& options, const Client& client, Output& out) {
  const std::string body = CTD_TRY(client.post(kExpectations, body_of(options).dump()));
  if (options.format == "json") return out.write(body);
  const json made = CTD_TRY(parse_answer(body));
  return out.write(fmt::format("expectation {}\n", made.value("id", "?")));
}

Result<> expect_delete(const ExpectOptions& options, const Client& client, Output& out) {
  if (options.id.empty() && options.master.empty())
    return fail("which expectations: --id or --master is missing (all of them: expect flush)");
  return remove(options, client, out);
}

Result<> expect_flush(const ExpectOptions&, const Client& client, Output& out) { return remove({}, client, out); }

}  // namespace ctd
