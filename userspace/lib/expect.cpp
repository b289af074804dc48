// SPDX-License-Identifier: Apache-2.0
#include "lib/expect.hpp"

#include "lib/addr.hpp"
#include "lib/names.hpp"

namespace ctd {

bool any_source(const ctd_tuple& key) { return is_zero(key.src); }

bool any_source_port(const ctd_tuple& key) { return port_use(key.proto) != PortUse::kNone && key.sport == 0; }

uint32_t jiffies_left(const ctd_expect& expect, uint64_t jiffies) {
  const auto left = static_cast<int32_t>(expect.expires - static_cast<uint32_t>(jiffies));
  return left > 0 ? static_cast<uint32_t>(left) : 0;
}

bool holds(const ctd_expect& expect, const ConnTable& table, uint64_t jiffies) {
  ctd_conn master;
  return jiffies_left(expect, jiffies) > 0 && table.read(expect.master, master) == ConnTable::Read::kLive &&
         CTD_CTL_SEQ(master.ctl) == expect.master_seq;
}

void follow_master(Expectation& expectation, const ctd_conn& master) {
  ctd_expect& expect = expectation.expect;
  const ctd_tuple& key = expectation.key;
  const bool src_nat = !same_address(master.orig.src, master.reply.dst);
  const bool dst_nat = !same_address(master.orig.dst, master.reply.src);
  const auto to = [&](const ctd_addr& address) {
    expect.flags |= CTD_EXPECT_DNAT;
    expect.nat_dst = address;
  };
  const auto from = [&](const ctd_addr& address) {
    expect.flags |= CTD_EXPECT_SNAT;
    expect.nat_src = address;
  };
  if (src_nat && same_address(key.dst, master.reply.dst))
    to(master.orig.src);
  else if (dst_nat && same_address(key.dst, master.orig.dst))
    to(master.reply.src);
  if (src_nat && same_address(key.src, master.orig.src))
    from(master.reply.dst);
  else if (dst_nat && same_address(key.src, master.reply.src))
    from(master.orig.dst);
}

}  // namespace ctd
