// SPDX-License-Identifier: Apache-2.0
// The control API's resource /v1/conntrack: dump, get, count, delete, update, insert. docs/api.md describes it.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include <httplib.h>

#include "daemon/api_backend.hpp"
#include "lib/conn_filter.hpp"
#include "lib/conn_json.hpp"
#include "lib/result.hpp"

namespace ctd {

class ConntrackApi {
 public:
  ConntrackApi(ApiBackend& backend, ConnDump::Origin origin) : backend_(backend), origin_(std::move(origin)) {}

  // Each answers a request, or leaves the response alone and says what is wrong; an error with code EINVAL is the
  // caller's, ENOENT means that there is no such connection.
  Result<> dump(const httplib::Request& request, httplib::Response& response);    // GET /v1/conntrack
  Result<> get(const httplib::Request& request, httplib::Response& response);     // GET /v1/conntrack/entry
  Result<> count(const httplib::Request& request, httplib::Response& response);   // GET /v1/conntrack/count
  Result<> remove(const httplib::Request& request, httplib::Response& response);  // DELETE /v1/conntrack
  Result<> update(const httplib::Request& request, httplib::Response& response);  // PATCH /v1/conntrack
  Result<> insert(const httplib::Request& request, httplib::Response& response);  // POST /v1/conntrack

 private:
  // The ids of all that can match, if a look-up says them; none: the whole table.
  using Only = std::optional<std::vector<uint32_t>>;
  Result<ConnFilter> filter_of(std::span<const ConnFilter::Term> terms);
  Result<Only> look_up(const ConnFilter& filter);
  Result<> credit(const Only& only);
  Result<ConnWalk> walk(const ConnFilter& filter, const KernelClock& now);
  // Calls `step` with the unique ids of what the filter means, a few thousand at a time; sums up what it answers.
  template <typename Step>
  Result<uint64_t> in_batches(const ConnFilter& filter, Step step);
  Result<> resolve_master(const ctd_tuple& tuple, ctd_conn& conn);

  ApiBackend& backend_;
  const ConnDump::Origin origin_;
};

}  // namespace ctd
