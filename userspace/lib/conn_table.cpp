// SPDX-License-Identifier: Apache-2.0
#include "lib/conn_table.hpp"

#include <algorithm>

#include "lib/time.hpp"

namespace ctd {
namespace {

// A record changes hands at most every few microseconds; a copy takes a tenth of one.
constexpr int kReadAttempts = 8;

uint32_t load_ctl(const ctd_conn& record) { return __atomic_load_n(&record.ctl, __ATOMIC_ACQUIRE); }

// Word by word, so that no counter is torn; the datapath goes on writing meanwhile.
void copy_record(const ctd_conn& from, ctd_conn& to) {
  static_assert(sizeof(ctd_conn) % sizeof(uint64_t) == 0 && alignof(ctd_conn) == alignof(uint64_t));
  const auto* src = reinterpret_cast<const u64*>(&from);
  auto* dst = reinterpret_cast<u64*>(&to);
  for (std::size_t i = 0; i < sizeof(ctd_conn) / sizeof(u64); ++i) dst[i] = __atomic_load_n(src + i, __ATOMIC_RELAXED);
}

}  // namespace

ConnTable::Read ConnTable::read(uint32_t id, ctd_conn& out) const {
  if (id == CTD_CONN_NONE || id >= records_.size()) return Read::kNone;
  const ctd_conn& record = records_[id];
  for (int attempt = 0; attempt < kReadAttempts; ++attempt) {
    const uint32_t before = load_ctl(record);
    if (CTD_CTL_LIFE(before) != CTD_CONN_VALID) return Read::kNone;
    copy_record(record, out);
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    if (load_ctl(record) == before) {
      out.ctl = before;
      return out.timeout ? Read::kLive : Read::kNone;  // without time left it was refused, and waits for the sweep
    }
  }
  return Read::kBusy;
}

uint32_t ConnTable::last_id() const {
  if (records_.empty()) return 0;
  const uint32_t high_water = __atomic_load_n(&rt_->high_water, __ATOMIC_ACQUIRE);
  return std::min(high_water, static_cast<uint32_t>(records_.size() - 1));
}

std::array<uint64_t, CTD_CLASS_COUNT> ConnTable::count_by_class() const {
  std::array<uint64_t, CTD_CLASS_COUNT> count{};
  const uint32_t last = last_id();
  for (uint32_t id = 1; id <= last; ++id) {
    const uint32_t ctl = load_ctl(records_[id]);
    if (CTD_CTL_LIFE(ctl) == CTD_CONN_VALID && CTD_CTL_CLASS(ctl) < count.size()) ++count[CTD_CTL_CLASS(ctl)];
  }
  return count;
}

uint64_t ConnTable::count() const {
  uint64_t sum = 0;
  for (const uint64_t n : count_by_class()) sum += n;
  return sum;
}

namespace {

uint64_t jiffies_idle(const ctd_conn& conn, uint64_t now) {
  // 0 stands for "never" in last_seen; a connection has been seen at its start at least.
  uint64_t idle = now > conn.start ? now - conn.start : 0;
  for (const uint32_t seen : conn.last_seen)
    if (seen != 0) idle = std::min<uint64_t>(idle, jiffies_since(static_cast<uint32_t>(now), seen));
  return idle;
}

}  // namespace

bool timeout_is_set(const ctd_conn& conn, uint64_t now) {
  return conn.expires && conn.expires_seen == static_cast<uint32_t>(now - jiffies_idle(conn, now));
}

uint32_t jiffies_left(const ctd_conn& conn, uint64_t now) {
  const uint64_t idle = jiffies_idle(conn, now);
  if (timeout_is_set(conn, now)) {
    const auto left = static_cast<int32_t>(conn.expires - static_cast<uint32_t>(now));
    return left > 0 ? static_cast<uint32_t>(left) : 0;
  }
  return conn.timeout > idle ? static_cast<uint32_t>(conn.timeout - idle) : 0;
}

}  // namespace ctd
