// SPDX-License-Identifier: Apache-2.0
// Deleting, changing and inserting connections through the real programs and their timer.
#include <algorithm>
#include <cstring>
#include <thread>

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <sys/mman.h>

#include "daemon/conn_orders.hpp"
#include "lib/conn_table.hpp"
#include "prog/gateway.hpp"

namespace ctd::test {
namespace {

class OrderTest : public GatewayTest {
 protected:
  void open(const GatewayOptions& options = {}) {
    start(options);
    Result<ConnOrders> opened = ConnOrders::open(dp());
    ASSERT_TRUE(opened) << opened.error().message();
    orders_.emplace(std::move(opened).value());
  }
  ConnOrders& orders() { return *orders_; }

  Out out(std::uint16_t sport = 40000) { return from("lan0", udp({.sport = sport})); }
  Out back(std::uint16_t dport = 40000) {
    return from("wan0", udp({.src = "10.0.2.2", .dst = "10.0.2.1", .sport = 53, .dport = dport}));
  }
  void settle() {
    const u64 before = count(CTD_COUNT_FAST_HIT);
    for (int i = 0; i < 20 && count(CTD_COUNT_FAST_HIT) < before + 4; i++) {
      ASSERT_EQ(out().where, "wan0");
      ASSERT_EQ(back().where, "lan0");
    }
    ASSERT_GE(count(CTD_COUNT_FAST_HIT), before + 4);
  }
  std::vector<uint64_t> ids() const {
    std::vector<uint64_t> all;
    for (const ctd_conn& conn : connections()) all.push_back(unique_conn_id(conn));
    return all;
  }
  u64 remove(const std::vector<uint64_t>& which) {
    const Result<uint64_t> removed = orders().remove(which, CTD_END_DELETED);
    EXPECT_TRUE(removed) << removed.error().message();
    return removed ? *removed : 0;
  }
  // Takes a record's lock, or gives it back, as a packet on another CPU would.
  void set_lock(u32 id, u32 value) {
    const std::size_t size = dp().connections().size_bytes();
    void* data = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, dp().map("ct_conn"), 0);
    ASSERT_NE(data, MAP_FAILED);
    const Mapping records(data, size);
    __atomic_store_n(&records.as<ctd_conn>()[id].lock, value, __ATOMIC_RELEASE);
  }
  void lock(u32 id) { set_lock(id, 1); }
  void release(u32 id) { set_lock(id, 0); }
  Inserted insert(const ctd_conn& conn, ctd_conn_class cls) {
    const NewConn one{conn, cls};
    const Result<std::vector<Inserted>> results = orders().insert({&one, 1});
    EXPECT_TRUE(results) << results.error().message();
    return results ? results->at(0) : Inserted::kFull;
  }

 private:
  std::optional<ConnOrders> orders_;
};

TEST_F(OrderTest, DeletedIsGoneAtOnce) {
  open();
  settle();
  from("lan0", ping({.src = "2001:db8:1::2", .dst = "2001:db8:2::2"}));
  EXPECT_EQ(remove(ids()), 2u);
  EXPECT_EQ(remove(ids()), 0u);
  EXPECT_TRUE(connections().empty());
  EXPECT_EQ(entries("ct_tuple4"), 0u);
  EXPECT_EQ(entries("ct_tuple6"), 0u);
  EXPECT_EQ(entries("ct_cache4"), 0u) << "verdicts of both directions";
  EXPECT_EQ(back().where, "into wan0") << "nobody asked any more: it is the host's";
  EXPECT_EQ(out().where, "wan0");
}

// The record is in use: it is dead at once, and gone as soon as it is free.
TEST_F(OrderTest, DeletedIsGoneThoughItsRecordWasInUse) {
  open();
  out();
  const std::vector<uint64_t> all = ids();
  const u32 id = only().id;
  lock(id);
  u64 removed = 0;
  std::thread deleter([&] { removed = remove(all); });
  const u32& ctl = dp().connections()[id].ctl;
  while (CTD_CTL_LIFE(__atomic_load_n(&ctl, __ATOMIC_ACQUIRE)) == CTD_CONN_VALID) std::this_thread::yield();
  release(id);
  deleter.join();
  EXPECT_EQ(removed, 1u);
  EXPECT_EQ(entries("ct_tuple4"), 0u);
  EXPECT_EQ(dp().rt()->conns, 0);
}

TEST_F(OrderTest, OneThatStaysInUseIsToldAndHoldsUpNoOther) {
  constexpr std::size_t kMany = 3 * CTD_MAX_REQUESTS;
  open();
  for (std::size_t i = 0; i < kMany; i++) out(static_cast<std::uint16_t>(3000 + i));
  const std::vector<uint64_t> all = ids();
  ASSERT_EQ(all.size(), kMany);
  const u32 id = static_cast<u32>(all.front());
  lock(id);
  const Result<uint64_t> removed = orders().remove(all, CTD_END_DELETED);
  ASSERT_FALSE(removed);
  EXPECT_EQ(removed.error().code(), EBUSY);
  EXPECT_EQ(removed.error().message(),
            fmt::format("the records of 1 of {} connections stayed in use; all others are done", kMany));
  EXPECT_EQ(entries("ct_tuple4"), 2u) << "of the one";
  release(id);
  EXPECT_EQ(remove(all), 1u);
  EXPECT_EQ(entries("ct_tuple4"), 0u);
}

TEST_F(OrderTest, CreditOfOneConnection) {
  open();
  settle();
  ASSERT_TRUE(dp().credit());
  const ctd_conn before = only();
  const u64 hits = count(CTD_COUNT_FAST_HIT);
  for (int i = 0; i < 7; i++) out();
  ASSERT_EQ(count(CTD_COUNT_FAST_HIT), hits + 7);
  const Result<> credited = orders().credit(ids());
  ASSERT_TRUE(credited) << credited.error().message();
  EXPECT_EQ(only().count[CTD_DIR_ORIG].packets, before.count[CTD_DIR_ORIG].packets + 7);
  EXPECT_EQ(entries("ct_cache4"), 2u) << "the verdicts stay";
  const std::vector<uint64_t> gone{unique_conn_id(77, 5)};
  EXPECT_TRUE(orders().credit(gone));
}

TEST_F(OrderTest, ThousandsInBatchesAndTheirIdsAreUsedAgain) {
  constexpr unsigned kRound = 400;
  open();
  for (unsigned round = 0; round < 4; round++) {
    for (unsigned i = 0; i < kRound; i++) ASSERT_EQ(out(static_cast<std::uint16_t>(3000 + i)).where, "wan0") << i;
    std::vector<uint64_t> all = ids(), kept(all.begin(), all.begin() + 1);
    ASSERT_EQ(all.size(), kRound);
    EXPECT_EQ(remove({all.begin() + 1, all.end()}), kRound - 1);
    EXPECT_EQ(ids(), kept) << "the others are left alone";
    EXPECT_EQ(remove(kept), 1u);
  }
  EXPECT_LE(dp().rt()->high_water, 1024u);
}

TEST_F(OrderTest, UpdateDropsTheVerdictsAndKeepsTheRest) {
  open();
  settle();
  const ctd_conn before = only();
  const Result<uint64_t> updated = orders().update(
      ids(), {.mark = parse_masked("0x5/0xff", 32), .label = parse_masked("0x80", 128), .timeout_s = 77});
  ASSERT_TRUE(updated) << updated.error().message();
  EXPECT_EQ(*updated, 1u);
  EXPECT_EQ(entries("ct_cache4"), 0u);
  const ctd_conn after = only();
  EXPECT_EQ(after.mark, 5u);
  EXPECT_EQ(after.label[0], 0x80);
  EXPECT_NEAR(jiffies_left(after, jiffies()), 77.0 * dp().meta().hz, dp().meta().hz);
  EXPECT_EQ(std::memcmp(&after.orig, &before.orig, 2 * sizeof(ctd_tuple)), 0);
  EXPECT_EQ(after.ctl, before.ctl);
  settle();
}

TEST_F(OrderTest, InsertedIsFoundAndTranslatedInBothDirections) {
  open();
  settle();
  ASSERT_TRUE(dp().credit());
  const ctd_conn before = only();
  ASSERT_EQ(remove(ids()), 1u);
  ASSERT_EQ(insert(before, static_cast<ctd_conn_class>(CTD_CTL_CLASS(before.ctl))), Inserted::kDone);
  const ctd_conn after = only();
  EXPECT_EQ(text(after), text(before));
  EXPECT_EQ(CTD_CTL_CLASS(after.ctl), CTD_CTL_CLASS(before.ctl));
  EXPECT_EQ(std::memcmp(after.count, before.count, sizeof(after.count)), 0);
  EXPECT_EQ(after.start, before.start);
  EXPECT_EQ(after.timeout, before.timeout);
  EXPECT_EQ(back().line, "udp 10.0.2.2:53 > 10.1.0.2:40000") << "the reply first";
  EXPECT_EQ(out().line, "udp 10.0.2.1:40000 > 10.0.2.2:53");
  EXPECT_EQ(insert(before, CTD_CLASS_ANSWERED), Inserted::kExists);
  EXPECT_EQ(connections().size(), 1u);
}

TEST_F(OrderTest, AFullTableRefusesWhatDoesNotFitAndLeaksNothing) {
  open({.conn_capacity = 256});
  out();
  ctd_conn model = only();
  model.status |= CTD_STATUS_SEEN_REPLY | CTD_STATUS_ASSURED;
  std::vector<NewConn> many(600, {model, CTD_CLASS_ASSURED});
  for (std::size_t i = 0; i < many.size(); i++)
    many[i].conn.orig.sport = many[i].conn.reply.dport = htons(static_cast<std::uint16_t>(1000 + i));
  const auto results = orders().insert(many);
  ASSERT_TRUE(results) << results.error().message();
  const auto done = static_cast<std::size_t>(std::count(results->begin(), results->end(), Inserted::kDone));
  EXPECT_GT(done, 128u);
  EXPECT_LE(done, 256u);
  EXPECT_LE(connections().size(), 256u);
  remove(ids());
  EXPECT_TRUE(connections().empty());
  EXPECT_EQ(entries("ct_tuple4"), 0u);
  EXPECT_EQ(dp().rt()->conns, 0);
}

TEST_F(OrderTest, ATupleIsLookedUpInEitherDirection) {
  open();
  from("lan0", ping({.src = "2001:db8:1::2", .dst = "2001:db8:2::2"}));
  out();
  for (const ctd_conn& conn : connections()) {
    for (const ctd_tuple& tuple : {conn.orig, conn.reply}) {
      const auto found = orders().find(tuple);
      ASSERT_TRUE(found && *found);
      EXPECT_EQ(**found, conn.id);
    }
    ctd_tuple other = conn.orig;
    other.zone = 9;
    EXPECT_EQ(orders().find(other).value(), std::nullopt);
  }
}

// The timer's callback belongs to the program that set it.
TEST_F(OrderTest, ANewDaemonGivesOrdersToo) {
  open();
  out();
  restart();
  Result<ConnOrders> opened = ConnOrders::open(dp());
  ASSERT_TRUE(opened);
  const std::vector<uint64_t> all = ids();
  EXPECT_EQ(opened->remove(all, CTD_END_DELETED).value(), 1u);
}

}  // namespace
}  // namespace ctd::test
