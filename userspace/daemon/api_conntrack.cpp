// SPDX-License-Identifier: Apache-2.0
#include "daemon/api_conntrack.hpp"

#include <array>
#include <cerrno>
#include <memory>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "daemon/api_http.hpp"
#include "lib/conn_parse.hpp"

namespace ctd {
namespace {

using Json = nlohmann::ordered_json;
using httplib::Request;
using httplib::Response;

constexpr char kFormat[] = "format";
constexpr std::size_t kBatch = 8192;
constexpr uint32_t kMaxTimeout = 0x7fffffff / 1000;  // seconds; in jiffies at any HZ less than half their range

Error bad(const Error& error) { return Error(error.message(), EINVAL); }

template <typename T>
Result<T> or_bad(Result<T> result) {
  if (!result) return bad(result.error());
  return result;
}

// Those that the query names; `format` is no part of the filter.
std::vector<ConnFilter::Term> terms_of(const Request& request, bool with_format = false) {
  std::vector<ConnFilter::Term> terms;
  for (const auto& [name, value] : request.params)
    if (!with_format || name != kFormat) terms.push_back({name, value});
  return terms;
}

struct Format {
  std::string_view name;
  DumpForm form;
  const char* content_type;
};
constexpr char kNdjson[] = "application/x-ndjson", kText[] = "text/plain";
constexpr std::array kFormats{Format{"json", DumpForm::kJson, kNdjson}, Format{"saved", DumpForm::kSaved, kNdjson},
                              Format{"conntrack", DumpForm::kConntrack, kText},
                              Format{"dpctl", DumpForm::kDpctl, kText}};

Result<Format> format_of(const Request& request) {
  if (!request.has_param(kFormat)) return kFormats.front();
  const std::string name = request.get_param_value(kFormat);
  for (const Format& format : kFormats)
    if (format.name == name) return format;
  return bad(fail("format: \"{:.40}\": expected json, saved, conntrack or dpctl", name));
}

Result<Masked> masked_member(const Json& value, const char* name, unsigned bits) {
  const std::string text = value.is_string() ? value.get<std::string>() : value.dump();
  const auto masked = parse_masked(text, bits);
  if (!masked)
    return bad(fail("{}: {:.80}: expected a number of {} bits, as 7 or \"0x10/0xf0\"", name, value.dump(), bits));
  return *masked;
}

Result<ConnUpdate> update_of(const std::string& body) {
  const Json json = Json::parse(body, nullptr, false);
  if (!json.is_object() || json.empty()) return bad(fail("expected a JSON object with mark, label or timeout_s"));
  ConnUpdate update;
  for (const auto& [name, value] : json.items()) {
    if (name == "mark") {
      update.mark = CTD_TRY(masked_member(value, "mark", 32));
    } else if (name == "label") {
      update.label = CTD_TRY(masked_member(value, "label", 128));
    } else if (name == "timeout_s") {
      if (!value.is_number_unsigned() || value.get<uint64_t>() > kMaxTimeout)
        return bad(fail("timeout_s: {:.40}: expected seconds, {} at most", value.dump(), kMaxTimeout));
      update.timeout_s = value.get<uint32_t>();
    } else {
      return bad(fail("\"{:.40}\": only mark, label and timeout_s can be changed", name));
    }
  }
  return update;
}

void answer(Response& response, const Json& json) { response.set_content(json.dump() + "\n", "application/json"); }

}  // namespace

Result<ConnFilter> ConntrackApi::filter_of(std::span<const ConnFilter::Term> terms) {
  const ConnPolicies policies = CTD_TRY(backend_.policy_names());
  return or_bad(ConnFilter::make(terms, &policies));
}

Result<ConntrackApi::Only> ConntrackApi::look_up(const ConnFilter& filter) {
  Only only;
  if (const auto tuple = filter.tuple()) {
    only.emplace();
    if (const auto id = CTD_TRY(backend_.find(*tuple))) only->push_back(*id);
  } else if (!filter.ids().empty()) {
    only.emplace();
    for (const uint64_t id : filter.ids()) only->push_back(static_cast<uint32_t>(id));
  }
  return only;
}

// A look-up reads the verdicts of what it found, not those of a whole table.
Result<> ConntrackApi::credit(const Only& only) {
  if (!only) return backend_.credit_counters().context("credit counters");
  std::vector<uint64_t> ids;
  ctd_conn conn;
  for (const uint32_t id : *only)
    if (backend_.connections().read(id, conn) == ConnTable::Read::kLive) ids.push_back(unique_conn_id(conn));
  if (ids.empty()) return {};
  return backend_.credit_counters(ids).context("credit counters");
}

Result<ConnWalk> ConntrackApi::walk(const ConnFilter& filter, const KernelClock& now) {
  return ConnWalk(backend_.connections(), filter, now, CTD_TRY(look_up(filter)));
}

Result<> ConntrackApi::dump(const Request& request, Response& response) {
  const Format format = CTD_TRY(format_of(request));
  const ConnFilter filter = CTD_TRY(filter_of(terms_of(request, true)));
  Only only = CTD_TRY(look_up(filter));
  CTD_TRY(credit(only));
  const KernelClock clock = CTD_TRY(backend_.clock());
  ConnWalk walk(backend_.connections(), filter, clock, std::move(only));
  auto dump =
      std::make_shared<ConnDump>(std::move(walk), clock, origin_, format.form, CTD_TRY(backend_.policy_names()));
  stream_pieces(response, format.content_type,
                [dump = std::move(dump)](fmt::memory_buffer& piece) { return dump->next(piece, kPieceSize); });
  return {};
}

Result<> ConntrackApi::get(const Request& request, Response& response) {
  const Format format = CTD_TRY(format_of(request));
  std::vector<ConnFilter::Term> terms = terms_of(request, true);
  ConnFilter filter = CTD_TRY(filter_of(terms));
  if (filter.ids().empty()) filter = CTD_TRY(filter_of(ConnFilter::completed(std::move(terms))));
  if (filter.ids().size() != 1 && !filter.tuple())
    return bad(
        fail("expected one id, or a whole tuple: proto, and source and destination of one direction with their ports "
             "(ICMP: icmp-type and icmp-id); zone, ICMP's code and GRE's keys are 0 unless they are given"));
  Only only = CTD_TRY(look_up(filter));
  CTD_TRY(credit(only));
  const KernelClock clock = CTD_TRY(backend_.clock());
  ConnWalk found(backend_.connections(), filter, clock, std::move(only));
  ctd_conn conn;
  if (!found.next(conn)) return Error("no such connection", ENOENT);
  fmt::memory_buffer out;
  append_conn(out, format.form, conn, found.table(), CTD_TRY(backend_.policy_names()), clock);
  out.push_back('\n');
  response.set_content(fmt::to_string(out), format.form == DumpForm::kJson ? "application/json" : format.content_type);
  return {};
}

Result<> ConntrackApi::count(const Request& request, Response& response) {
  const ConnFilter filter = CTD_TRY(filter_of(terms_of(request)));
  uint64_t count = 0;
  if (filter.empty()) {
    count = backend_.connections().count();
  } else {
    ConnWalk all = CTD_TRY(walk(filter, CTD_TRY(backend_.clock())));
    for (ctd_conn conn; all.next(conn);) ++count;
  }
  answer(response, {{"count", count}});
  return {};
}

template <typename Step>
Result<uint64_t> ConntrackApi::in_batches(const ConnFilter& filter, Step step) {
  ConnWalk all = CTD_TRY(walk(filter, CTD_TRY(backend_.clock())));
  uint64_t sum = 0;
  std::optional<Error> busy;  // of some; the others are not to wait for them
  std::vector<uint64_t> ids;
  ids.reserve(kBatch);
  for (bool more = true; more;) {
    ids.clear();
    for (ctd_conn conn; ids.size() < kBatch && (more = all.next(conn));) ids.push_back(unique_conn_id(conn));
    const Result<uint64_t> done = step(ids);
    if (done)
      sum += *done;
    else if (done.error().code() == EBUSY)
      busy = done.error();
    else
      return done.error();
  }
  if (busy) return *busy;
  return sum;
}

Result<> ConntrackApi::remove(const Request& request, Response& response) {
  const ConnFilter filter = CTD_TRY(filter_of(terms_of(request)));
  const ctd_end_reason why = filter.empty() ? CTD_END_FLUSHED : CTD_END_DELETED;
  const uint64_t deleted =
      CTD_TRY(in_batches(filter, [&](std::span<const uint64_t> ids) { return backend_.remove(ids, why); }));
  answer(response, {{"deleted", deleted}});
  return {};
}

Result<> ConntrackApi::update(const Request& request, Response& response) {
  const ConnFilter filter = CTD_TRY(filter_of(terms_of(request)));
  const ConnUpdate update = CTD_TRY(update_of(request.body));
  const uint64_t updated =
      CTD_TRY(in_batches(filter, [&](std::span<const uint64_t> ids) { return backend_.update(ids, update); }));
  answer(response, {{"updated", updated}});
  return {};
}

// A master that does not live any more is left out, as when it ends before its child.
Result<> ConntrackApi::resolve_master(const ctd_tuple& tuple, ctd_conn& conn) {
  const auto id = CTD_TRY(backend_.find(tuple));
  ctd_conn master;
  if (!id || backend_.connections().read(*id, master) != ConnTable::Read::kLive) return {};
  conn.master = *id;
  conn.master_seq = CTD_CTL_SEQ(master.ctl);
  return {};
}

Result<> ConntrackApi::insert(const Request& request, Response& response) {
  if (!request.params.empty())
    return bad(fail("\"{}\": an insertion takes no parameters", request.params.begin()->first));
  const KernelClock clock = CTD_TRY(backend_.clock());
  const ConnPolicies policies = CTD_TRY(backend_.policy_names());
  Json refused = Json::array();
  const auto refuse = [&](std::size_t line, const std::string& why) {
    refused.push_back({{"line", line}, {"error", why}});
  };
  std::vector<NewConn> conns;
  std::vector<std::size_t> lines;
  std::size_t number = 0;
  for (const std::string_view line : split(request.body, '\n')) {
    ++number;
    if (line.empty()) continue;
    Result<ParsedConn> parsed = parse_conn_json(line, clock);
    if (!parsed) {
      refuse(number, parsed.error().message());
      continue;
    }
    const auto policy = policies.find(parsed->policy.empty() ? kDefaultPolicy : parsed->policy);
    if (!policy) {
      refuse(number, fmt::format("track.policy: \"{:.40}\": no such timeout policy, there are {}", parsed->policy,
                                 policies.all()));
      continue;
    }
    parsed->conn.timeout_policy = *policy;
    if (parsed->master) CTD_TRY(resolve_master(*parsed->master, parsed->conn));
    conns.push_back({parsed->conn, parsed->cls});
    lines.push_back(number);
  }
  uint64_t inserted = 0, existing = 0;
  const std::vector<Inserted> results = CTD_TRY(backend_.insert(conns));
  for (std::size_t i = 0; i < results.size(); ++i) {
    inserted += results[i] == Inserted::kDone;
    existing += results[i] == Inserted::kExists;
    if (results[i] == Inserted::kFull) refuse(lines[i], "the table has no room for it");
    if (results[i] == Inserted::kLimit) refuse(lines[i], "its zone is at its limit");
  }
  answer(response, {{"inserted", inserted}, {"existing", existing}, {"refused", std::move(refused)}});
  return {};
}

}  // namespace ctd
