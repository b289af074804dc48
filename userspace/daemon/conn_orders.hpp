// SPDX-License-Identifier: Apache-2.0
// Operations on single connections: hands them to the datapath in batches and waits until they are carried out.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "daemon/datapath.hpp"
#include "daemon/mapping.hpp"
#include "lib/conn_update.hpp"
#include "lib/result.hpp"

namespace ctd {

// Not for several threads at once.
class ConnOrders {
 public:
  // dp: must outlive it.
  static Result<ConnOrders> open(const Datapath& dp);

  // ids: unique ids (unique_conn_id()); those of connections that are gone are passed over. Both answer how many it
  // was, remove() when they are gone and their tuples free. An error with code EBUSY: records of some stayed in use,
  // all others are done.
  Result<uint64_t> remove(std::span<const uint64_t> ids, ctd_end_reason why);
  Result<uint64_t> update(std::span<const uint64_t> ids, const ConnUpdate& update);
  // Adds to the records of these what their verdicts have counted so far.
  Result<> credit(std::span<const uint64_t> ids);
  // One result for each.
  Result<std::vector<Inserted>> insert(std::span<const NewConn> conns);

  // The id of the connection that has this tuple in either direction; nothing if nobody has it.
  Result<std::optional<u32>> find(const ctd_tuple& tuple) const;

 private:
  ConnOrders(const Datapath& dp, Mapping order, Mapping requests)
      : dp_(&dp), order_(std::move(order)), requests_(std::move(requests)) {}
  ctd_order& order() const { return *order_.as<ctd_order>(); }
  std::span<ctd_request> requests() const { return {requests_.as<ctd_request>(), CTD_MAX_REQUESTS}; }

  // Carries out the order over the first `count` requests.
  Result<> run(ctd_order_kind kind, u32 count);
  // An order over existing connections; `done` sees one result of each, which is not CTD_REQUEST_BUSY. What is busy or
  // dying is asked again.
  using Done = std::function<void(u32)>;
  Result<> run_over(ctd_order_kind kind, std::span<const uint64_t> ids, const Done& done);
  struct Asked {
    uint64_t id;
    bool told;  // `done` has seen it
  };
  // At most CTD_MAX_REQUESTS of them; adds what is to be asked again.
  Result<> run_batch(ctd_order_kind kind, std::span<const Asked> batch, const Done& done, std::vector<Asked>& again);

  const Datapath* dp_;
  Mapping order_, requests_;
};

}  // namespace ctd
