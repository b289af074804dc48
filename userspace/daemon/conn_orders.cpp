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
constexpr auto kBusyPause = 1ms;     // until a record that is locked is tried again
constexpr int kBusyRounds = 100;
constexpr auto kSweepPatience = 10s;  // two rounds, of a second each when nothing else is to be done

Result<Mapping> map_memory(int fd, std::size_t size, const char* name) {
  void* data = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (data == MAP_FAILED) return fail_errno(errno, "mapping map {}", name);
  return Mapping(data, size);
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

Result<> ConnOrders::run_batch(ctd_order_kind kind, std::span<const uint64_t> ids,
                               const std::function<void(u32)>& done) {
  std::vector<uint64_t> left(ids.begin(), ids.end()), busy;
  for (int round = 0; round < kBusyRounds; ++round) {
    for (std::size_t i = 0; i < left.size(); ++i) {
      requests()[i].id = static_cast<u32>(left[i]);
      requests()[i].seq = static_cast<u32>(left[i] >> 32);
    }
    CTD_TRY(run(kind, static_cast<u32>(left.size())));
    for (std::size_t i = 0; i < left.size(); ++i) {
      if (requests()[i].result == CTD_REQUEST_BUSY)
        busy.push_back(left[i]);
      else
        done(requests()[i].result);
    }
    if (busy.empty()) return {};
    left = std::exchange(busy, {});
    std::this_thread::sleep_for(kBusyPause);
  }
  return fail("{} connections stayed locked", left.size());
}

Result<> ConnOrders::run_over(ctd_order_kind kind, std::span<const uint64_t> ids,
                              const std::function<void(u32)>& done) {
  for (; !ids.empty(); ids = ids.subspan(std::min<std::size_t>(ids.size(), CTD_MAX_REQUESTS)))
    CTD_TRY(run_batch(kind, ids.first(std::min<std::size_t>(ids.size(), CTD_MAX_REQUESTS)), done));
  return {};
}

Result<uint64_t> ConnOrders::remove(std::span<const uint64_t> ids, ctd_end_reason why) {
  uint64_t removed = 0;
  bool dying = false;
  order().reason = why;
  CTD_TRY(run_over(CTD_ORDER_DELETE, ids, [&](u32 result) {
    removed += result == CTD_REQUEST_DONE || result == CTD_REQUEST_DYING;
    dying |= result == CTD_REQUEST_DYING;
  }));
  if (dying) CTD_TRY(wait_for_sweep());
  return removed;
}

Result<> ConnOrders::wait_for_sweep() const {
  const auto sweeps = [this] { return __atomic_load_n(&dp_->rt()->sweeps, __ATOMIC_RELAXED); };
  const uint64_t before = sweeps();
  for (const auto deadline = Clock::now() + kSweepPatience; Clock::now() < deadline; std::this_thread::sleep_for(20ms))
    if (sweeps() >= before + 2) return {};
  return fail("connections are dead, but the sweep has not come round: is its timer alive?");
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
    for (const ctd_request& request : requests().first(batch.size()))
      results.push_back(request.result == CTD_REQUEST_DONE     ? Inserted::kDone
                        : request.result == CTD_REQUEST_EXISTS ? Inserted::kExists
                                                               : Inserted::kFull);
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
