// SPDX-License-Identifier: Apache-2.0
// The datapath's expectations: made and removed by its control programs, which run one at a time.
#pragma once

#include <mutex>
#include <vector>

#include "daemon/datapath.hpp"
#include "lib/expect.hpp"
#include "lib/result.hpp"

namespace ctd {

class Expectations {
 public:
  // dp: must outlive it.
  explicit Expectations(const Datapath& dp) : dp_(&dp) {}

  // Also those that are void and wait for the sweep, see holds().
  Result<std::vector<Expectation>> list() const;
  // The expectation as it stands in the table. Errors: ENOENT (the master is gone), EEXIST (another master has
  // announced the same), ENOSPC (the table is full).
  Result<Expectation> add(const NewExpectation& wanted);
  // False: it is not there any more.
  Result<bool> remove(const Expectation& expectation);

 private:
  Result<> run(const char* program, ctd_expect_order& order);

  const Datapath* dp_;
  std::mutex mutex_;
};

}  // namespace ctd
