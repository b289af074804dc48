// SPDX-License-Identifier: Apache-2.0
// A backend with a small gateway's state, and a folder for its socket.
#pragma once

#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <string>

#include <unistd.h>

#include "conn_fixture.hpp"
#include "daemon/api_backend.hpp"
#include "lib/addr.hpp"

namespace ctd::test {

class FakeBackend : public ApiBackend {
 public:
  explicit FakeBackend(uint32_t room = 64) : table(room), capacity(room) {}

  Result<nlohmann::ordered_json> status() override { return nlohmann::ordered_json{{"ports", 2}, {"version", 7}}; }
  ConnTable connections() override { return table.view(); }
  Result<KernelClock> clock() override { return clock_now(); }
  Result<> credit_counters() override {
    ++credits;
    if (broken) return fail("the program did not run");
    return {};
  }
  Result<> credit_counters(std::span<const uint64_t> ids) override {
    credited.assign(ids.begin(), ids.end());
    return {};
  }
  Result<std::optional<uint32_t>> find(const ctd_tuple& tuple) override {
    ++look_ups;
    for (uint32_t id = 1; id <= table.rt().high_water; ++id)
      for (const ctd_tuple* known : {&table.record(id).orig, &table.record(id).reply})
        if (std::memcmp(known, &tuple, sizeof(tuple)) == 0) return std::optional(id);
    return std::optional<uint32_t>();
  }
  Result<uint64_t> remove(std::span<const uint64_t> ids, ctd_end_reason why) override {
    reason = why;
    const uint64_t removed =
        each(ids, [](ctd_conn& conn) { conn.ctl = CTD_CTL(CTD_CTL_SEQ(conn.ctl) + 1, 0, CTD_CONN_FREE); });
    if (removed < ids.size()) return Error(fmt::format("1 of {} connections stayed in use", ids.size()), EBUSY);
    return removed;
  }
  Result<uint64_t> update(std::span<const uint64_t> ids, const ConnUpdate& update) override {
    updated = update;
    return each(ids, [](ctd_conn&) {});
  }
  Result<std::vector<Inserted>> insert(std::span<const NewConn> conns) override {
    std::vector<Inserted> results;
    for (const NewConn& conn : conns) {
      if (refuse_all) {
        results.push_back(*refuse_all);
      } else if (find(conn.conn.orig).value()) {
        results.push_back(Inserted::kExists);
      } else if (table.rt().high_water == capacity) {
        results.push_back(Inserted::kFull);
      } else {
        ctd_conn& made = table.add(conn.conn);
        made.ctl = CTD_CTL(1, conn.cls, CTD_CONN_VALID);
        made.status |= CTD_STATUS_CONFIRMED;
        if (!same_address(made.reply.dst, made.orig.src)) made.status |= CTD_STATUS_SRC_NAT;
        results.push_back(Inserted::kDone);
      }
    }
    return results;
  }
  Result<std::vector<Expectation>> expectations() override { return expects; }
  Result<Expectation> add_expectation(const NewExpectation& wanted) override {
    for (const Expectation& one : expects)
      if (std::memcmp(&one.key, &wanted.what.key, sizeof(one.key)) == 0)
        return Error("another connection has announced the same tuple", EEXIST);
    Expectation made = wanted.what;
    made.expect.id = ++last_expect;
    made.expect.expires = static_cast<uint32_t>(clock_now().jiffies + wanted.timeout_s * clock_now().hz);
    expects.push_back(made);
    return made;
  }
  Result<bool> remove_expectation(const Expectation& expectation) override {
    return std::erase_if(expects, [&](const Expectation& one) { return one.expect.id == expectation.expect.id; }) > 0;
  }
  Result<std::shared_ptr<EventHub::Subscription>> subscribe(uint16_t wanted, EventHub::Filter filter) override {
    return events.subscribe(wanted, std::move(filter));
  }
  Result<std::vector<FlowInfo>> flows() override {
    return std::vector<FlowInfo>{
        {"recirc_id(0),in_port(1),eth_type(0x0800),ipv4(frag=no)", "ct(zone=0,nat),recirc(0x1)", 11, 2304, 0.12, 0},
        {"recirc_id(0),in_port(2),eth_type(0x0806)", "stack", 0, 0, std::nullopt, 1}};
  }
  Result<std::vector<RuleInfo>> rules() override {
    return std::vector<RuleInfo>{{"table=0,priority=100,arp actions=stack", 0, 4, 168},
                                 {"table=0,priority=70,ip actions=ct(table=1,zone=0,nat)", 0x5, 11, 2304}};
  }
  Result<std::vector<PortInfo>> ports() override {
    ctd_port lan{.ifindex = 7, .flags = CTD_PORT_ROUTED | CTD_PORT_FORWARD4, .number = 1, .mtu = 1500};
    lan.mac[0] = 2;
    lan.addr4 = addr("10.1.0.1").v4;
    lan.addr6 = addr("fd00:1::1");
    ctd_port wan{.ifindex = 8, .flags = CTD_PORT_ROUTED | CTD_PORT_L3 | CTD_PORT_RPF_STRICT, .number = 2, .mtu = 1420};
    wan.addr4 = addr("10.0.2.1").v4;
    return std::vector<PortInfo>{{"lan0", lan}, {"wan0", wan}};
  }
  Result<std::vector<PortStats>> stats() override {
    PortStats lan{"lan0", 1, {}}, local{"LOCAL", CTD_PORT_LOCAL, {}};
    lan.total.rx_packets = 1200;
    lan.total.rx_bytes = 1'234'567;
    lan.total.count[CTD_COUNT_FAST_HIT] = 1100;
    lan.total.drop[CTD_DROP_POLICY] = 3;
    local.total.rx_packets = 5;
    local.total.drop[CTD_DROP_POLICY] = 1;
    local.total.drop[CTD_DROP_CT_FULL] = 2;
    return std::vector<PortStats>{lan, local};
  }
  Result<ZoneTable> zones() override { return zone_table; }
  Result<std::vector<PolicyInfo>> policies() override {
    PolicyInfo quick{"quick", {}};
    quick.policy.flags = CTD_CTP_LIBERAL | CTD_CTP_NO_PICKUP;
    quick.policy.tcp_max_retrans = 3;
    quick.policy.timeout_s[CTD_TIMEOUT_UDP] = 5;
    quick.policy.timeout_s[u32{CTD_TIMEOUT_UDP} + CTD_OTHER_REPLIED] = 6;
    return std::vector<PolicyInfo>{quick};
  }
  Result<ConnPolicies> policy_names() override { return ConnPolicies(policy_list); }
  Result<> set_zone_limit(std::optional<uint16_t> zone, std::optional<uint32_t> limit) override {
    if (!zone) {
      zone_table.default_limit = limit.value_or(0);
      return {};
    }
    for (ZoneInfo& known : zone_table.zones) {
      if (known.zone != *zone) continue;
      known.own_limit = limit.has_value();
      known.limit = limit.value_or(zone_table.default_limit);
    }
    return {};
  }
  Result<TableStats> table_stats() override {
    TableStats use{.size = {4096, 4096, 1000}, .connections = 3072, .memory = 6 << 20};
    use.classes = make_classes(use.size);
    use.classes[CTD_CLASS_INDEX(CTD_CLASS_ANSWERED, CTD_IPV4)].live = 7;
    use.timeout_scale = {CTD_SCALE_FULL / 2, CTD_SCALE_FULL};
    use.counters.ended[CTD_END_EVICTED] = 12;
    use.counters.invalid[CTD_INVALID_TCP_FLAGS] = 9;
    use.refused = 2;
    use.evicted = 12;
    return use;
  }
  Result<> shutdown() override {
    ++shutdowns;
    return {};
  }

  FakeTable table;
  const uint32_t capacity;
  ctd_end_reason reason = CTD_END_NONE;
  ConnUpdate updated;
  std::atomic<int> look_ups = 0;
  ZoneTable zone_table{.default_limit = 0,
                       .zones = {{.zone = 0, .limit = 0, .own_limit = false, .count = 3, .policy = "default"},
                                 {.zone = 5, .limit = 1000, .own_limit = true, .count = 12, .policy = "quick"}}};
  std::vector<Expectation> expects;
  uint32_t last_expect = 0;
  EventHub events;
  std::atomic<bool> broken = false;
  std::atomic<int> credits = 0;
  std::vector<uint64_t> credited;  // those of the last look-up
  std::vector<std::string> policy_list{"default", "", "", "quick"};
  uint64_t busy = 0;  // its record stays in use
  std::optional<Inserted> refuse_all;
  std::atomic<int> shutdowns = 0;

 private:
  template <typename Change>
  uint64_t each(std::span<const uint64_t> ids, Change change) {
    uint64_t count = 0;
    for (const uint64_t id : ids) {
      ctd_conn& conn = table.record(static_cast<uint32_t>(id));
      if (unique_conn_id(conn) != id || id == busy) continue;
      change(conn);
      ++count;
    }
    return count;
  }
};

class TempFolder {
 public:
  TempFolder() {
    char name[] = "/tmp/ctd-t-XXXXXX";
    const char* made = mkdtemp(name);
    EXPECT_NE(made, nullptr);
    path_ = made ? made : "";
  }
  ~TempFolder() {
    if (!path_.empty()) std::filesystem::remove_all(path_);
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace ctd::test
