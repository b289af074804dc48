// SPDX-License-Identifier: Apache-2.0
#include "daemon/ports.hpp"

#include <algorithm>
#include <cstring>
#include <set>

#include <bpf/bpf.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <spdlog/spdlog.h>

#include "daemon/pins.hpp"
#include "daemon/translate.hpp"

namespace ctd {
namespace {

const char* program_of(Hook hook) { return hook == Hook::ingress ? "ctd_ingress" : "ctd_egress"; }

// 127.0.0.0/8 and ::1 are the host's, but never on a wire.
bool is_loopback(const HostAddress& address) {
  if (address.family == CTD_IPV4) return address.addr.b[0] == 127;
  return IN6_IS_ADDR_LOOPBACK(reinterpret_cast<const in6_addr*>(address.addr.b));
}

struct AddrLess {
  bool operator()(const ctd_addr& a, const ctd_addr& b) const { return std::memcmp(&a, &b, sizeof(a)) < 0; }
};

}  // namespace

Ports::Ports(const Datapath& dp, const Config& config, std::string pins)
    : dp_(dp), config_(config), pins_(std::move(pins)) {}

Result<> Ports::check_device(const LinkInfo& link, const NetSnapshot& net) const {
  if (link.type != ARPHRD_ETHER) {
    return fail("port {}: only Ethernet devices can be ports so far (its type is {})", link.name, link.type);
  }
  for (const u32 other : {link.master, link.lower}) {
    const LinkInfo* related = other ? net.find(other) : nullptr;
    if (related && std::find(config_.ports.begin(), config_.ports.end(), related->name) != config_.ports.end()) {
      return fail("port {}: it is stacked with {}, which is a port as well; packets would pass twice", link.name,
                  related->name);
    }
  }
  return {};
}

Result<> Ports::assign(const NetSnapshot& net) {
  std::map<u32, u32> running;  // ifindex -> number
  std::set<u32> used;
  for (u32 number = 1; dp_.adopted() && number < CTD_MAX_PORTS; number++) {
    const auto port = CTD_TRY(map_get<u32, ctd_port>(dp_, "ports", number));
    if (port.ifindex) running.emplace(port.ifindex, number);
  }
  for (const std::string& name : config_.ports) {
    const LinkInfo* link = net.find(name);
    if (!link) return fail("port {}: no such interface", name);
    CTD_TRY(check_device(*link, net));
    Entry entry{.name = name, .port = {}};
    if (const auto known = running.find(link->ifindex); known != running.end()) {
      entry.port.number = static_cast<u16>(known->second);
      entry.port.ifindex = link->ifindex;
      used.insert(known->second);
      running.erase(known);
    }
    entries_.push_back(std::move(entry));
  }
  for (Entry& entry : entries_) {
    if (!entry.port.number) {
      u32 number = 1;
      while (used.contains(number)) number++;
      entry.port.number = static_cast<u16>(number);
      used.insert(number);
    }
    CTD_TRY(names_.add(entry.port.number, entry.name));
  }
  // Ports of the running datapath that the configuration has no more.
  for (const auto& [ifindex, number] : running) {
    const LinkInfo* link = net.find(ifindex);
    const Entry gone{.name = link ? link->name : fmt::format("interface {}", ifindex),
                     .port = {.ifindex = ifindex, .number = static_cast<u16>(number)}};
    spdlog::info("{} is no port any more", gone.name);
    CTD_TRY(detach(attachment(gone, Hook::ingress)));
    CTD_TRY(detach(attachment(gone, Hook::egress)));
    CTD_TRY(map_set(dp_, "ports", number, ctd_port{}));
    CTD_TRY(map_set(dp_, "port_index", ifindex % CTD_PORT_INDEX_SIZE, u32{0}));
  }
  return {};
}

Result<> Ports::check_unclaimed(const std::string& bpffs, const std::string& instance, const NetSnapshot& net) const {
  const u64 here = CTD_TRY(netns_inode());
  for (const PinnedInstance& other : CTD_TRY(list_pinned_instances(bpffs))) {
    if (other.netns != here || other.instance == instance) continue;
    const Fd map(bpf_obj_get((other.folder + "/ports").c_str()));
    for (u32 number = 1; map && number < CTD_MAX_PORTS; number++) {
      ctd_port port{};
      if (bpf_map_lookup_elem(map.get(), &number, &port) || !port.ifindex) continue;
      const LinkInfo* link = net.find(port.ifindex);
      if (link && std::find(config_.ports.begin(), config_.ports.end(), link->name) != config_.ports.end()) {
        return fail("port {}: it is a port of instance \"{}\" already", link->name, other.instance);
      }
    }
  }
  return {};
}

Attachment Ports::attachment(const Entry& entry, Hook hook) const {
  return {.device = entry.name,
          .ifindex = entry.port.ifindex,
          .hook = hook,
          .link_pin = fmt::format("{}/link_{}_{}", pins_, hook == Hook::ingress ? "in" : "out", entry.port.number)};
}

Result<> Ports::attach_hook(const Entry& entry, Hook hook) const {
  return attach(attachment(entry, hook), dp_.program(program_of(hook)));
}

Result<> Ports::attach_all() {
  for (const Hook hook : {Hook::egress, Hook::ingress}) {
    for (const Entry& entry : entries_) {
      if (entry.port.ifindex) CTD_TRY(attach_hook(entry, hook));
    }
  }
  return {};
}

Result<> Ports::detach_all() {
  for (const Hook hook : {Hook::ingress, Hook::egress}) {
    for (const Entry& entry : entries_) CTD_TRY(detach(attachment(entry, hook)));
  }
  return {};
}

ctd_port Ports::describe(const Entry& entry, const LinkInfo& link, const RuleSet& rules) const {
  ctd_port port{};
  port.ifindex = link.ifindex;
  port.number = entry.port.number;
  port.mtu = static_cast<u16>(std::min<u32>(link.mtu, 65535));
  std::copy(link.mac.begin(), link.mac.end(), port.mac);
  port.addr4 = link.addr4;
  port.addr6 = link.addr6;
  port.addr6_ll = link.addr6_ll;
  port.flags = CTD_PORT_ROUTED;
  if (config_.rpfilter == RpFilter::strict) port.flags |= CTD_PORT_RPF_STRICT;
  if (config_.rpfilter == RpFilter::loose) port.flags |= CTD_PORT_RPF_LOOSE;
  if (link.forwarding4) port.flags |= CTD_PORT_FORWARD4;
  if (link.forwarding6) port.flags |= CTD_PORT_FORWARD6;
  const auto zone4 = fast_zone(rules, port.number, CTD_IPV4);
  const auto zone6 = fast_zone(rules, port.number, CTD_IPV6);
  if (zone4) port.flags |= CTD_PORT_FAST4;
  // One zone is published for both families; a port whose families differ has the fast path for IPv4.
  if (zone6 && (!zone4 || *zone4 == *zone6)) port.flags |= CTD_PORT_FAST6;
  port.fast_zone = zone4 ? *zone4 : zone6.value_or(0);
  return port;
}

Result<bool> Ports::sync_port(Entry& entry, const NetSnapshot& net, const RuleSet& rules) {
  const LinkInfo* link = net.find(entry.name);
  const ctd_port before = CTD_TRY(map_get<u32, ctd_port>(dp_, "ports", entry.port.number));
  ctd_port now{};
  now.number = entry.port.number;
  if (link) now = describe(entry, *link, rules);
  if (before.ifindex && before.ifindex != now.ifindex) {
    CTD_TRY(map_set(dp_, "port_index", before.ifindex % CTD_PORT_INDEX_SIZE, u32{0}));
  }
  if (now.ifindex) {
    const u32 slot = now.ifindex % CTD_PORT_INDEX_SIZE;
    const u32 taken = CTD_TRY(map_get<u32, u32>(dp_, "port_index", slot));
    if (taken && taken != now.number && CTD_TRY(map_get<u32, ctd_port>(dp_, "ports", taken)).ifindex) {
      return fail("port {}: its interface index {} and that of port {} are equal modulo {}", entry.name, now.ifindex,
                  names_.text(taken), CTD_PORT_INDEX_SIZE);
    }
    CTD_TRY(map_set(dp_, "ports", u32{now.number}, now));
    CTD_TRY(map_set(dp_, "port_index", slot, u32{now.number}));
  } else {
    CTD_TRY(map_set(dp_, "ports", u32{now.number}, now));  // keeps its number
  }
  if (before.number && before.ifindex != now.ifindex) {
    if (now.ifindex) {
      spdlog::info("port {}: its interface is there again, index {}", entry.name, now.ifindex);
    } else {
      spdlog::warn("port {}: its interface is gone", entry.name);
    }
  }
  entry.port = now;
  return std::memcmp(&before, &now, sizeof(now)) != 0;
}

Result<bool> Ports::sync_local_addrs(const NetSnapshot& net) {
  std::map<ctd_addr, u32, AddrLess> wanted;
  for (const auto* list : {&net.local, &net.anycast, &net.broadcasts}) {
    for (const HostAddress& address : *list) {
      const bool single = address.prefix_len == (address.family == CTD_IPV4 ? 32 : 128);
      if (single && !is_loopback(address)) wanted.emplace(address.addr, address.family);
    }
  }
  const int map = dp_.map("local_addrs");
  std::vector<ctd_addr> gone;
  ctd_addr key{}, next{};
  bool changed = false;
  for (int error = bpf_map_get_next_key(map, nullptr, &next); !error; error = bpf_map_get_next_key(map, &key, &next)) {
    key = next;
    if (!wanted.erase(key)) gone.push_back(key);
  }
  for (const auto& [address, family] : wanted) {
    CTD_TRY(map_set(dp_, "local_addrs", address, family));
    changed = true;
  }
  for (const ctd_addr& address : gone) {
    CTD_TRY(map_erase_raw(dp_, "local_addrs", &address));
    changed = true;
  }
  return changed;
}

Result<bool> Ports::sync(const NetSnapshot& net, const RuleSet& rules) {
  bool changed = CTD_TRY(sync_local_addrs(net));
  for (Entry& entry : entries_) changed |= CTD_TRY(sync_port(entry, net, rules));
  return changed;
}

}  // namespace ctd
