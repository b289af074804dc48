// SPDX-License-Identifier: Apache-2.0
// The control API's resource /v1/expectations: list, add, delete. docs/api.md describes it.
#pragma once

#include <httplib.h>

#include "daemon/api_backend.hpp"
#include "lib/result.hpp"

namespace ctd {

class ExpectApi {
 public:
  explicit ExpectApi(ApiBackend& backend) : backend_(backend) {}

  // As ConntrackApi's; besides, an error with code EEXIST means that another one is in the way, ENOSPC that there is no
  // room.
  Result<> list(const httplib::Request& request, httplib::Response& response);    // GET /v1/expectations
  Result<> add(const httplib::Request& request, httplib::Response& response);     // POST /v1/expectations
  Result<> remove(const httplib::Request& request, httplib::Response& response);  // DELETE /v1/expectations

 private:
  ApiBackend& backend_;
};

}  // namespace ctd
