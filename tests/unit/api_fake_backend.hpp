// SPDX-License-Identifier: Apache-2.0
// A backend with a small gateway's state, and a folder for its socket.
#pragma once

#include <atomic>
#include <filesystem>
#include <string>

#include <unistd.h>

#include "conn_fixture.hpp"
#include "daemon/api_backend.hpp"

namespace ctd::test {

class FakeBackend : public ApiBackend {
 public:
  explicit FakeBackend(uint32_t capacity = 64) : table(capacity) {}

  Result<nlohmann::ordered_json> status() override { return nlohmann::ordered_json{{"ports", 2}, {"version", 7}}; }
  ConnTable connections() override { return table.view(); }
  Result<KernelClock> clock() override { return clock_now(); }
  Result<> credit_counters() override {
    ++credits;
    if (broken) return fail("the program did not run");
    return {};
  }
  Result<uint64_t> flush() override {
    const uint64_t count = table.view().count();
    table.clear();
    return count;
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
  Result<> shutdown() override {
    ++shutdowns;
    return {};
  }

  FakeTable table;
  std::atomic<bool> broken = false;
  std::atomic<int> credits = 0;
  std::atomic<int> shutdowns = 0;
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
