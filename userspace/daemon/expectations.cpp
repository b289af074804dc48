// SPDX-License-Identifier: Apache-2.0
#include "daemon/expectations.hpp"

#include <algorithm>
#include <cerrno>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

namespace ctd {

// Bucket by bucket, each under its lock, so that no element is torn.
Result<std::vector<Expectation>> Expectations::list() const {
  constexpr u32 kBatch = 512;  // of which a bucket is a small part
  std::vector<ctd_tuple> keys(kBatch);
  std::vector<ctd_expect> values(kBatch);
  std::vector<Expectation> all;
  const int map = dp_->map("ct_expects");
  u32 position = 0;
  for (bool first = true;; first = false) {
    u32 count = kBatch;
    const int error =
        bpf_map_lookup_batch(map, first ? nullptr : &position, &position, keys.data(), values.data(), &count, nullptr);
    if (error && error != -ENOENT) return fail_errno(error, "reading map ct_expects");
    for (u32 i = 0; i < count; i++) all.push_back({keys[i], values[i]});
    if (error) break;  // that was the last bucket
  }
  std::ranges::sort(all, {}, [](const Expectation& e) { return e.expect.id; });
  return all;
}

Result<> Expectations::run(const char* program, ctd_expect_order& order) {
  LIBBPF_OPTS(bpf_test_run_opts, options, .ctx_in = &order, .ctx_size_in = sizeof(order));
  const std::lock_guard guard(mutex_);
  if (const int error = bpf_prog_test_run_opts(dp_->program(program), &options))
    return fail_errno(error, "running {}", program);
  if (options.retval) return fail("{} answered {}", program, static_cast<int>(options.retval));
  return {};
}

Result<Expectation> Expectations::add(const NewExpectation& wanted) {
  ctd_expect_order order{};
  order.key = wanted.what.key;
  order.expect = wanted.what.expect;
  order.timeout = wanted.timeout_s * dp_->meta().hz;
  order.limit = wanted.limit;
  CTD_TRY(run("ctd_expect_add", order));
  switch (-order.error) {
    case 0:
      return Expectation{order.key, order.expect};
    case ENOENT:
      return Error("its master is gone", ENOENT);
    case EEXIST:
      return Error("another connection has announced the same tuple", EEXIST);
    case ENOSPC:
      return Error(fmt::format("no room: there are {} expectations", CTD_MAX_EXPECTS), ENOSPC);
    default:
      return fail_errno(order.error, "adding an expectation");
  }
}

Result<bool> Expectations::remove(const Expectation& expectation) {
  ctd_expect_order order{};
  order.key = expectation.key;
  order.expect.id = expectation.expect.id;
  CTD_TRY(run("ctd_expect_remove", order));
  return order.error == 0;
}

}  // namespace ctd
