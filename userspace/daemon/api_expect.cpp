// SPDX-License-Identifier: Apache-2.0
#include "daemon/api_expect.hpp"

#include <cerrno>
#include <optional>

#include "lib/conn_values.hpp"
#include "lib/expect_json.hpp"

namespace ctd {
namespace {

using Json = nlohmann::ordered_json;
using httplib::Request;
using httplib::Response;

Error bad(const Error& error) { return Error(error.message(), EINVAL); }

// Which expectations are meant: all that is given must hold.
struct Filter {
  std::optional<uint64_t> id, master;

  bool matches(const ctd_expect& expect) const {
    return (!id || *id == expect.id) && (!master || *master == master_of(expect));
  }
};

Result<Filter> filter_of(const Request& request) {
  Filter filter;
  for (const auto& [name, value] : request.params) {
    if (name != "id" && name != "master") return bad(fail("\"{:.40}\": expected id or master", name));
    const auto number = parse_number(value, name == "id" ? 0xffffffff : ~0ull);
    if (!number) return bad(fail("{}: \"{:.40}\": expected a number, as a list has it", name, value));
    (name == "id" ? filter.id : filter.master) = *number;
  }
  return filter;
}

void answer(Response& response, const Json& json) { response.set_content(json.dump() + "\n", "application/json"); }

}  // namespace

Result<> ExpectApi::list(const Request& request, Response& response) {
  const Filter filter = CTD_TRY(filter_of(request));
  const KernelClock clock = CTD_TRY(backend_.clock());
  const ConnTable table = backend_.connections();
  Json all = Json::array();
  for (const Expectation& one : CTD_TRY(backend_.expectations()))
    if (filter.matches(one.expect) && holds(one.expect, table, clock.jiffies)) all.push_back(expect_json(one, clock));
  answer(response, all);
  return {};
}

Result<> ExpectApi::add(const Request& request, Response& response) {
  if (!request.params.empty())
    return bad(fail("\"{:.40}\": an expectation is added without parameters", request.params.begin()->first));
  const auto id = parse_expect_master(request.body);
  if (!id) return bad(id.error());
  ctd_conn master;
  if (backend_.connections().read(static_cast<uint32_t>(*id), master) != ConnTable::Read::kLive ||
      unique_conn_id(master) != *id)
    return Error(fmt::format("master: \"{}\": there is no such connection", *id), ENOENT);
  const auto wanted = parse_expect_json(request.body, master);
  if (!wanted) return bad(wanted.error());
  const Expectation made = CTD_TRY(backend_.add_expectation(*wanted));
  Json json = expect_json(made, CTD_TRY(backend_.clock()));
  json["timeout_s"] = wanted->timeout_s;  // whole: none of it has passed
  answer(response, json);
  return {};
}

Result<> ExpectApi::remove(const Request& request, Response& response) {
  const Filter filter = CTD_TRY(filter_of(request));
  uint64_t deleted = 0;
  for (const Expectation& one : CTD_TRY(backend_.expectations()))
    if (filter.matches(one.expect)) deleted += CTD_TRY(backend_.remove_expectation(one));
  answer(response, {{"deleted", deleted}});
  return {};
}

}  // namespace ctd
