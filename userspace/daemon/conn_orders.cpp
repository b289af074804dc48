// SPDX-License-Identifier: Apache-2.0
#include "daemon/conn_orders.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <thread>
#include <utility>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

namespace ctd {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr auto kOrderPatience = 5s;  // a batch takes less than a millisecond, once the CPU comes to it
constexpr auto kBusyPause = 1ms;     // until a record that is in use is tried again
constexpr int kBusyRounds = 100;

Result<Mapping> map_memory(int fd, std::size_t size, const char* name) {
  void* data = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (data == MAP_FAILED) return fail_errno(errno, "mapping map {}", name);
  return Mapping(data, size);
}

Inserted inserted_of(u32 result) {
  switch (result) {
    case CTD_REQUEST_DONE:
      return Inserted::kDone;
    case CTD_REQUEST_EXISTS:
      return Inserted::kExists;
    case CTD_REQUEST_LIMIT:
      return Inserted::kLimit;
    default:
      return Inserted::kFull;
  }
}

}  // namespace

Result<ConnOrders> ConnOrders::open(const Datapath& dp) {
  Mapping order = CTD_TRY(map_memory(dp.map("ct_order"), sizeof(ctd_order), "ct_order"));
  Mapping requests = CTD_TRY(map_memory(dp.map("ct_requests"), sizeof(ctd_request) * CTD_MAX_REQUESTS, "ct_requests"));
  return ConnOrders(dp, std::move(order), std::move(requests));
}

Result<> ConnOrders::run(ctd_order_kind kind, u32 count) {
  ctd_order& order = this->order();
  order.kind = kind;
  order.count = count;
  for (ctd_request& request : requests().first(count)) request.result = CTD_REQUEST_OPEN;
  const u32 number = order.number + 1;
  __atomic_store_n(&order.number, number, __ATOMIC_RELEASE);

  std::array<unsigned char, 64> packet{};
  LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = packet.data(), .data_size_in = packet.size());
  if (const int error = bpf_prog_test_run_opts(dp_->program("ctd_order"), &options))
    return fail_errno(error, "running the program that starts an order");
  if (options.retval) return fail_errno(static_cast<int>(options.retval), "starting the timer of an order");
  for (const auto deadline = Clock::now() + kOrderPatience; Clock::now() < deadline; std::this_thread::sleep_for(20us))
    if (__atomic_load_n(&order.done, __ATOMIC_ACQUIRE) == number) return {};
  return fail("an order to the connection table was not carried out in {} s: is a CPU stuck?", kOrderPatience.count());
}

Result<> ConnOrders::run_batch(ctd_order_kind kind, std::span<const Asked> batch, const Done& done,
                               std::vector<Asked>& again) {
  for (std::size_t i = 0; i < batch.size(); ++i) {
    requests()[i].id = static_cast<u32>(batch[i].id);
    requests()[i].seq = static_cast<u32>(batch[i].id >> 32);
  }
  CTD_TRY(run(kind, static_cast<u32>(batch.size())));
  for (std::size_t i = 0; i < batch.size(); ++i) {
    const u32 result = requests()[i].result;
    const bool tell = result != CTD_REQUEST_BUSY && !batch[i].told;
    if (tell) done(result);
    if (result == CTD_REQUEST_BUSY || result == CTD_REQUEST_DYING)
      again.push_back({batch[i].id, batch[i].told || tell});
  }
  return {};
}

// Who is busy does not hold up the others: all batches are done before the first is asked again.
Result<> ConnOrders::run_over(ctd_order_kind kind, std::span<const uint64_t> ids, const Done& done) {
  std::vector<Asked> left, again;
  left.reserve(ids.size());
  for (const uint64_t id : ids) left.push_back({id, false});
  for (int round = 0; round < kBusyRounds; ++round) {
    if (round) std::this_thread::sleep_for(kBusyPause);
    for (std::span<const Asked> rest = left; !rest.empty();) {
      const auto batch = rest.first(std::min<std::size_t>(rest.size(), CTD_MAX_REQUESTS));
      CTD_TRY(run_batch(kind, batch, done, again));
      rest = rest.subspan(batch.size());
    }
    left = std::exchange(again, {});
    if (left.empty()) return {};
  }
  return Error(
      fmt::format("the records of {} of {} connections stayed in use; all others are done", left.size(), ids.size()),
      EBUSY);
}

Result<uint64_t> ConnOrders::remove(std::span<const uint64_t> ids, ctd_end_reason why) {
  uint64_t removed = 0;
  order().reason = why;
  CTD_TRY(run_over(CTD_ORDER_DELETE, ids, [&](u32 result) { removed += result != CTD_REQUEST_GONE; }));
  return removed;
}

Result<> ConnOrders::credit(std::span<const uint64_t> ids) {
  return run_over(CTD_ORDER_CREDIT, ids, [](u32) {});
}

Result<uint64_t> ConnOrders::update(std::span<const uint64_t> ids, const ConnUpdate& update) {
  ctd_order& order = this->order();
  order.update = 0;
  if (update.mark) {
    order.update |= CTD_UPDATE_MARK;
    order.mark = static_cast<u32>(update.mark->value.low);
    order.mark_mask = static_cast<u32>(update.mark->mask.low);
  }
  if (update.label) {
    order.update |= CTD_UPDATE_LABEL;
    set_label(order.label, update.label->value);
    set_label(order.label_mask, update.label->mask);
  }
  if (update.timeout_s) {
    order.update |= CTD_UPDATE_TIMEOUT;
    order.timeout = *update.timeout_s * dp_->meta().hz;
  }
  uint64_t updated = 0;
  CTD_TRY(run_over(CTD_ORDER_UPDATE, ids, [&](u32 result) { updated += result == CTD_REQUEST_DONE; }));
  return updated;
}

Result<std::vector<Inserted>> ConnOrders::insert(std::span<const NewConn> conns) {
  std::vector<Inserted> results;
  results.reserve(conns.size());
  while (!conns.empty()) {
    const auto batch = conns.first(std::min<std::size_t>(conns.size(), CTD_MAX_REQUESTS));
    for (std::size_t i = 0; i < batch.size(); ++i) {
      requests()[i].conn = batch[i].conn;
      requests()[i].cls = batch[i].cls;
    }
    CTD_TRY(run(CTD_ORDER_INSERT, static_cast<u32>(batch.size())));
    for (const ctd_request& request : requests().first(batch.size())) results.push_back(inserted_of(request.result));
    conns = conns.subspan(batch.size());
  }
  return results;
}

Result<std::optional<u32>> ConnOrders::find(const ctd_tuple& tuple) const {
  const ctd_tuple4 tuple4{tuple.src.v4, tuple.dst.v4, tuple.sport, tuple.dport, tuple.zone, tuple.proto, 0};
  const bool v6 = tuple.family == CTD_IPV6;
  const char* map = v6 ? "ct_tuple6" : "ct_tuple4";
  ctd_tuple_ref ref{};
  const int error = bpf_map_lookup_elem(dp_->map(map), v6 ? static_cast<const void*>(&tuple) : &tuple4, &ref);
  if (error == -ENOENT) return std::optional<u32>();
  if (error) return fail_errno(error, "reading map {}", map);
  return std::optional(ref.conn);
}

}  // namespace ctd
