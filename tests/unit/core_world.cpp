// SPDX-License-Identifier: Apache-2.0
#include "core_world.hpp"

#include <fmt/format.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <set>

#include "packet_check.hpp"

namespace ctd::test {
namespace {

constexpr const char* kPortName[] = {"?", "lan", "wan", "dmz"};
constexpr std::uint8_t kMac[] = {2, 0, 0, 0, 0, 0x10};      // + port: ours
constexpr std::uint8_t kPeerMac[] = {2, 0, 0, 0, 0, 0x20};  // + port: the neighbour's

void mac_of(u8* to, const std::uint8_t* base, std::uint32_t port) {
  std::memcpy(to, base, 6);
  to[5] = static_cast<u8>(to[5] + port);
}

ctd_action action(std::uint16_t type) {
  ctd_action a{};
  a.type = type;
  return a;
}

}  // namespace

ctd_action act_ct(const CtArgs& args) {
  ctd_action a = action(CTD_ACT_CT);
  a.flags = args.flags;
  a.ct.recirc_id = args.recirc;
  a.ct.nat_id = args.nat_id;
  a.ct.zone = args.zone;
  a.ct.mark = args.mark;
  a.ct.mark_mask = args.mark_mask;
  a.ct.label_id = args.label_id;
  a.ct.helper = args.helper;
  a.ct.timeout_policy = args.timeout_policy;
  return a;
}
ctd_action act_route(std::uint32_t recirc) {
  ctd_action a = action(CTD_ACT_ROUTE);
  a.route.recirc_id = recirc;
  return a;
}
ctd_action act_output(std::uint32_t port) {
  ctd_action a = action(CTD_ACT_OUTPUT);
  a.output.port = port;
  return a;
}
ctd_action act_recirc(std::uint32_t id) {
  ctd_action a = action(CTD_ACT_RECIRC);
  a.arg = id;
  return a;
}
ctd_action act_stack() { return action(CTD_ACT_STACK); }
ctd_action act_drop() { return action(CTD_ACT_DROP); }
ctd_action act_ct_clear() { return action(CTD_ACT_CT_CLEAR); }

void (*World::complain)(const std::string& what) = [](const std::string& what) {
  fmt::print(stderr, "{}\n", what);
  std::abort();
};

World::World(const WorldOptions& options) : options_(options) {
  native_reset(&options.native);
  add_port(kLan, "10.1.0.1", "2001:db8:1::1");
  add_port(kWan, "10.0.2.1", "2001:db8:2::b1");
  add_port(kDmz, "10.3.0.1", "2001:db8:3::1");
  add_route("0.0.0.0", 0, kWan, "10.0.2.254");
  add_route("::", 0, kWan, "2001:db8:2::fe");
  add_route("10.1.0.0", 24, kLan, "");
  add_route("10.0.2.0", 24, kWan, "");
  add_route("10.3.0.0", 24, kDmz, "");
  add_route("2001:db8:1::", 64, kLan, "");
  add_route("2001:db8:2::", 64, kWan, "");
  add_route("2001:db8:3::", 64, kDmz, "");
  // Guard 0: what all verdicts compare.
  ctd_guard all{};
  std::memset(&all, 0xff, offsetof(ctd_guard, eth_src));
  all.pkt_mark = 0;
  guards_.set(0, all);
  nat_args.set(kNatMasquerade, {.flags = CTD_NAT_SRC | CTD_NAT_MASQUERADE});
  nat_args.set(kNatNull, {.flags = CTD_NAT_NULL});
  rt().daemon_beat = static_cast<u32>(native_jiffies());
  if (options.install_flows) install_gateway();
}

void World::add_port(std::uint32_t number, std::string_view addr4, std::string_view addr6) {
  ctd_port p{};
  p.ifindex = kIfindexOf + number;
  p.flags = CTD_PORT_ROUTED | CTD_PORT_FORWARD4 | CTD_PORT_FORWARD6;
  if (options_.fast) p.flags |= CTD_PORT_FAST4 | CTD_PORT_FAST6;
  p.number = static_cast<u16>(number);
  p.mtu = 1500;
  mac_of(p.mac, kMac, number);
  p.addr4 = address(addr4).v4;
  p.addr6 = address(addr6);
  ports.set(number, p);
  port_index.set(p.ifindex, number);
  limits.set(number, {.rate = 1000, .burst = 1000, .tokens = 1000, .filled = static_cast<u32>(native_jiffies())});
  local_addrs.set(address(addr4), CTD_IPV4);
  local_addrs.set(address(addr6), CTD_IPV6);
}

void World::add_route(std::string_view dst, int prefix, std::uint32_t number, std::string_view gateway) {
  native_route r{};
  r.family = dst.find(':') == dst.npos ? CTD_IPV4 : CTD_IPV6;
  r.prefix = static_cast<u8>(prefix);
  r.dst = address(dst);
  if (!gateway.empty()) r.gateway = address(gateway);
  r.ifindex = kIfindexOf + number;
  r.mtu = 1500;
  r.neighbour = true;
  mac_of(r.smac, kMac, number);
  mac_of(r.dmac, kPeerMac, number);
  native_route_add(&r);
}

// Masks are shared by equal bits; all flows of a mask stand in the index under it.
void World::add_flow(const Match& match, std::initializer_list<ctd_action> actions, std::uint32_t guard) {
  ctd_key_words key{.key = match.key}, bits{.key = match.mask};
  bits.key.in_port = bits.key.recirc_id = ~0u;
  bits.key.eth_type = 0xffff;
  bits.key.frag = 0xff;
  std::uint32_t id = 0;
  while (id < mask_count_ &&
         (std::memcmp(&masks_.find(id)->mask, &bits, sizeof(bits)) || masks_.find(id)->guard != guard))
    id++;
  ctd_mask& mask = *masks_.find(id);
  if (id == mask_count_) {
    mask = {};
    mask.mask = bits;
    mask.guard = guard;
    for (u32 w = 0; w < CTD_KEY_WORDS; w++)
      if (bits.w[w]) mask.word[mask.words++] = static_cast<u8>(w);
    mask_count_++;
    ctd_mask_list list{.count = mask_count_};
    for (u32 i = 0; i < mask_count_; i++) list.id[i] = static_cast<u8>(i);
    mask_list_.set(rt().mask_list, list);
  }
  mask.flows++;
  std::uint32_t slot = ++flow_count_;
  ctd_action_list acts{.count = static_cast<u32>(actions.size()), .refs = 1};
  std::copy(actions.begin(), actions.end(), acts.slot);
  action_lists_.set(slot, acts);
  ctd_flow flow{.gen = 1, .mask = id, .actions = slot};
  u64 h = ctd_config.seed;
  for (u32 i = 0; i < mask.words; i++) {
    u32 w = mask.word[i];
    flow.key.w[w] = key.w[w] & bits.w[w];
    h = ctd_hash_step(h, flow.key.w[w]);
  }
  if (flows_.set(slot, flow) || flow_index_.set({.hash = ctd_hash_end(h), .mask = id}, {.slot = slot, .gen = 1}))
    complain("more flows than options.flow_capacity");
}

void World::remove_flows() {
  for (u32 which : {0u, 1u}) mask_list_.set(which, {});
  std::vector<ctd_flow_ref_key> keys;
  flow_index_.each([&](const ctd_flow_ref_key& k, ctd_flow_ref&) { keys.push_back(k); });
  for (const auto& k : keys) flow_index_.erase(k);
  flow_count_ = mask_count_ = 0;
}

// What the gateway policy becomes, for every port and family, without waiting for misses.
void World::install_gateway() {
  enum { kAfterCt = 1, kNew = 2 };
  auto flow = [this](u32 in, u32 recirc, u16 type, auto set, std::initializer_list<ctd_action> actions) {
    Match m;
    m.key.in_port = in;
    m.key.recirc_id = recirc;
    m.key.eth_type = htons(type);
    set(m);
    add_flow(m, actions);
  };
  auto nothing = [](Match&) {};
  auto state = [](u8 value, u8 mask) { return [=](Match& m) { m.key.ct_state = value, m.mask.ct_state = mask; }; };
  auto out = [](u32 port) { return [=](Match& m) { m.key.out_port = port, m.mask.out_port = ~0u; }; };
  constexpr u8 kMask = CTD_CS_NEW | CTD_CS_EST | CTD_CS_REL | CTD_CS_INV;
  for (u32 in : {kLan, kWan, kDmz, static_cast<u32>(CTD_PORT_LOCAL)}) {
    flow(in, 0, 0x0806, nothing, {act_stack()});
    for (u16 type : {u16{0x0800}, u16{0x86dd}}) {
      bool masquerade = type == 0x0800 ? options_.masquerade4 : options_.masquerade6;
      for (u8 frag : {CTD_FRAG_NO, CTD_FRAG_FIRST, CTD_FRAG_LATER})
        flow(in, 0, type, [=](Match& m) { m.key.frag = frag; }, {act_ct({.recirc = kAfterCt, .flags = CTD_CTF_NAT})});
      flow(in, kAfterCt, type, state(CTD_CS_EST, kMask), {act_route()});
      flow(in, kAfterCt, type, state(CTD_CS_REL, kMask), {act_route()});
      flow(in, kAfterCt, type, state(CTD_CS_NEW, kMask), {act_route(kNew)});
      flow(in, kAfterCt, type, state(CTD_CS_INV, kMask), {in == CTD_PORT_LOCAL ? act_route() : act_drop()});
      ctd_action plain = act_ct({.flags = CTD_CTF_COMMIT | CTD_CTF_NAT, .nat_id = kNatNull});
      ctd_action hide = act_ct({.flags = CTD_CTF_COMMIT | CTD_CTF_NAT, .nat_id = kNatMasquerade});
      for (u32 to : {kLan, kWan, kDmz, static_cast<u32>(CTD_PORT_LOCAL)}) {
        if (in == CTD_PORT_LOCAL || to == CTD_PORT_LOCAL)
          flow(in, kNew, type, out(to), {plain, act_route()});
        else if (in == kWan)
          flow(in, kNew, type, out(to), {act_drop()});
        else
          flow(in, kNew, type, out(to), {to == kWan && masquerade ? hide : plain, act_route()});
      }
    }
  }
}

std::uint64_t World::flow_packets() const {
  std::uint64_t sum = 0;
  for (u32 slot = 1; slot <= flow_count_; slot++) sum += flows_.find(slot)->packets;
  return sum;
}

void World::raise_version() { __atomic_fetch_add(&rt().version, 1, __ATOMIC_SEQ_CST); }

Out World::from(std::uint32_t number, Packet p, std::uint32_t linear) {
  if (p.ethernet && !(p.bytes.at(0) & 1)) {
    mac_of(&p.bytes.at(0), kMac, number);
    mac_of(&p.bytes.at(6), kPeerMac, number);
  }
  NativePacket n = to_native(p, linear);
  n->ifindex = kIfindexOf + number;
  n->ingress_ifindex = n->ifindex;
  return run(std::move(n), NATIVE_INGRESS);
}

Out World::from_host(std::uint32_t number, Packet p) {
  if (p.ethernet) {
    mac_of(&p.bytes.at(0), kPeerMac, number);
    mac_of(&p.bytes.at(6), kMac, number);
  }
  NativePacket n = to_native(p);
  n->ifindex = kIfindexOf + number;
  return run(std::move(n), NATIVE_EGRESS);
}

Out World::execute(const Out& upcall) {
  Packet p = upcall.packet;
  p.bytes.at(12) = 0x08;
  p.bytes.at(13) = 0x00;
  NativePacket n = to_native(p);
  n->ifindex = n->ingress_ifindex = NATIVE_TAP_IFINDEX;
  return run(std::move(n), NATIVE_TAP_IN);
}

std::string World::where(const native_packet& p, int verdict, native_entry entry) const {
  if (verdict == TC_ACT_OK) return entry == NATIVE_INGRESS ? "stack" : "on";
  if (verdict != TC_ACT_REDIRECT) return fmt::format("verdict {}", verdict);
  if (p.redirect.ifindex == NATIVE_TAP_IFINDEX) return "tap";
  u32 number = p.redirect.ifindex - kIfindexOf;
  std::string name = number <= kDmz ? kPortName[number] : "?";
  if (p.redirect.kind == NATIVE_REDIRECT_IN) return "into " + name;
  if (p.redirect.kind != NATIVE_REDIRECT_NEIGH) return name;
  ctd_addr gw{};
  bool v6 = p.redirect.gateway.nh_family == AF_INET6;
  std::memcpy(gw.b, p.redirect.gateway.ipv6_nh, v6 ? 16 : 4);
  return name + " via " + address_text(gw, v6);
}

Out World::run(NativePacket n, native_entry entry) {
  std::uint64_t before[CTD_DROP_COUNT];
  for (int i = 0; i < CTD_DROP_COUNT; i++) before[i] = drops(i);
  Out out;
  out.verdict = native_run(n.get(), entry);
  std::string dropped;
  for (int i = 0; i < CTD_DROP_COUNT; i++)
    if (drops(i) != before[i]) dropped += (dropped.empty() ? "" : ", ") + std::string(drop_name(i));
  if (out.verdict == TC_ACT_SHOT) {
    out.where = "drop " + dropped;
    if (dropped.empty()) complain("dropped without a reason");
    return out;
  }
  out.where = where(*n, out.verdict, entry);
  if (!dropped.empty()) out.where += " (drop " + dropped + ")";
  out.packet = from_native(*n);
  out.line = line_of(out.packet);
  const std::string wrong = check_output ? wrong_with(out.packet) : "";
  if (!wrong.empty()) complain(fmt::format("{}: {}: {}", out.where, out.line, wrong));
  if (n->ip_summed == NATIVE_CSUM_COMPLETE && out.verdict == TC_ACT_OK && !native_packet_csum_true(n.get()))
    complain("the device's checksum is wrong now: " + out.line);
  const bool token = n->cb[0] == static_cast<u32>(ctd_config.token) && n->cb[1] == ctd_config.token >> 32;
  if (token != (out.verdict == TC_ACT_REDIRECT)) complain(fmt::format("{}: token {}", out.where, token));
  out.skb = std::move(n);
  return out;
}

void World::advance(double seconds) {
  native_advance(static_cast<u64>(seconds * kHz));
  rt().daemon_beat = static_cast<u32>(native_jiffies());
}

void World::sweep(int rounds) {
  for (int i = 0; i < rounds; i++) {
    std::uint64_t until = rt().sweeps + 1;
    for (int ticks = 0; rt().sweeps < until && ticks < 100000; ticks++) native_sweep_tick();
    native_advance(1);
  }
}

std::uint64_t World::drops(int reason) const {
  std::uint64_t sum = 0;
  for (u32 p = 0; p <= kDmz; p++)
    for (u32 cpu = 0; cpu < NATIVE_MAX_CPUS; cpu++)
      sum += static_cast<ctd_port_stats*>(native_map_lookup_cpu(stats_.raw(), &p, cpu))->drop[reason];
  return sum;
}

std::uint64_t World::counter(int which) const {
  std::uint64_t sum = 0;
  for (u32 p = 0; p <= kDmz; p++)
    for (u32 cpu = 0; cpu < NATIVE_MAX_CPUS; cpu++)
      sum += static_cast<ctd_port_stats*>(native_map_lookup_cpu(stats_.raw(), &p, cpu))->count[which];
  return sum;
}

std::uint64_t World::ended(ctd_end_reason why) const {
  const u32 zero = 0;
  std::uint64_t sum = 0;
  for (u32 cpu = 0; cpu < NATIVE_MAX_CPUS; cpu++)
    sum += static_cast<ctd_ct_stats*>(native_map_lookup_cpu(ct_stats_.raw(), &zero, cpu))->ended[why];
  return sum;
}

std::vector<const ctd_conn*> World::connections() const {
  std::vector<const ctd_conn*> all;
  for (u32 id = 1; id <= rt().high_water; id++)
    if (CTD_CTL_LIFE(conn(id)->ctl) == CTD_CONN_VALID) all.push_back(conn(id));
  return all;
}

const ctd_conn& World::only() const {
  static const ctd_conn none{};
  auto all = connections();
  if (all.size() != 1) complain(fmt::format("{} connections, not one", all.size()));
  return all.empty() ? none : *all[0];
}

std::string World::status_of(const ctd_conn& c) const {
  std::string s;
#define X(id, bit, name) \
  if (c.status & (bit)) s += (s.empty() ? "" : " ") + std::string(name);
  CTD_STATUS(X)
#undef X
  return s;
}

std::string World::broken() const {
  std::string bad;
  auto say = [&bad](const std::string& line) { bad += line + "\n"; };
  std::set<u32> used, free_ids;
  std::map<u16, s32> in_zone;
  s64 live[CTD_CLASS_INDEXES] = {}, alive = 0;
  std::map<u32, u32> sources;
  u32 v4 = 0, v6 = 0;
  const u32 high = rt().high_water;

  for (u32 id = 1; id <= high; id++) {
    const ctd_conn& c = *conn(id);
    const u32 life = CTD_CTL_LIFE(c.ctl);
    highest_zone_ = std::max<u32>(highest_zone_, c.orig.zone);
    if (c.lock) say(fmt::format("{} is locked", id));
    if (life == CTD_CONN_BUSY) say(fmt::format("{} is busy", id));
    if (life == CTD_CONN_VALID && !!(c.status & CTD_STATUS_ASSURED) != (CTD_CTL_CLASS(c.ctl) == CTD_CLASS_ASSURED))
      say(fmt::format("{}: status {:#x} in class {}", id, c.status, CTD_CTL_CLASS(c.ctl)));
    if ((life != CTD_CONN_FREE) != (*check.find(id) != 0))
      say(fmt::format("{}: life {}, due {}", id, life, *check.find(id)));
    if (life == CTD_CONN_FREE) continue;
    used.insert(id);
    alive++;
    in_zone[c.orig.zone]++;
    const u32 cls = CTD_CLASS_INDEX(CTD_CTL_CLASS(c.ctl), c.orig.family);
    live[cls]++;
    if (cls % CTD_CLASS_COUNT != CTD_CLASS_ASSURED) sources[CTD_CLASS_RING(cls) * CTD_SOURCES + c.source - 1]++;
    for (u8 dir : {0, 1}) {
      const ctd_tuple& t = dir ? c.reply : c.orig;
      const ctd_tuple4 t4{t.src.v4, t.dst.v4, t.sport, t.dport, t.zone, t.proto, 0};
      const ctd_tuple_ref* ref = t.family == CTD_IPV4 ? tuple4.find(t4) : tuple6.find(t);
      (t.family == CTD_IPV4 ? v4 : v6)++;
      if (!ref)
        say(fmt::format("{}: tuple {} is not in the table", id, dir));
      else if (ref->conn != id || ref->dir != dir)
        say(fmt::format("{}: tuple {} names {} {}", id, dir, ref->conn, ref->dir));
    }
  }
  if (tuple4.size() != v4) say(fmt::format("{} IPv4 tuples for {} of connections", tuple4.size(), v4));
  if (tuple6.size() != v6) say(fmt::format("{} IPv6 tuples for {} of connections", tuple6.size(), v6));
  if (rt().conns != alive) say(fmt::format("conns is {}, {} are alive", rt().conns, alive));
  for (u32 cls = 0; cls < CTD_CLASS_INDEXES; cls++) {
    const ctd_class& c = *classes.find(cls);
    if (c.live != live[cls]) say(fmt::format("class {} says {} live, {} are", cls, c.live, live[cls]));
    s64 over = 0;
    for (const auto& [key, members] : sources) over += key / CTD_SOURCES == CTD_CLASS_RING(cls) && members > c.share;
    if (c.size && c.over != over)
      say(fmt::format("class {} says {} sources over their share, {} are", cls, c.over, over));
  }
  for (const auto& [key, members] : sources)
    if (*sources_.find(key) != members)
      say(fmt::format("source {} has {} members, not {}", key, members, *sources_.find(key)));
  // What a connection that is gone has left behind; looking at all of them is for quiet moments.
  for (u32 key = 0; used.empty() && key < CTD_RINGS * CTD_SOURCES; key++)
    if (*sources_.find(key))
      say(fmt::format("source {} has {} members, and nobody is there", key, *sources_.find(key)));

  for (u32 number = 0; number <= highest_zone_; number++) {
    const auto known = in_zone.find(static_cast<u16>(number));
    const s32 have = known == in_zone.end() ? 0 : known->second, says = zones.find(number)->count;
    if (says != have) say(fmt::format("zone {} says {} connections, {} are", number, says, have));
  }

  auto take = [&](u32 id) {
    if (!id || id > high) say(fmt::format("free id {} of {}", id, high));
    if (used.count(id)) say(fmt::format("{} is free and in use", id));
    if (!free_ids.insert(id).second) say(fmt::format("{} is free twice", id));
    return id && id <= high;
  };
  const u32 zero = 0;
  for (u32 cpu = 0; cpu < NATIVE_MAX_CPUS; cpu++) {
    auto* cache = static_cast<free_cache*>(native_map_lookup_cpu(ct_free_, &zero, cpu));
    u32 id = cache->head;
    for (u32 i = 0; i < cache->count && take(id); i++) id = conn(id)->next_free;
  }
  // Chains on the shared stack: the first of each holds the next chain and the count.
  for (u32 first = static_cast<u32>(rt().free_head); first && bad.empty(); first = conn(first)->next_chain) {
    u32 id = first;
    for (u32 i = 0; i < conn(first)->master && take(id); i++) id = conn(id)->next_free;
  }
  if (bad.empty() && used.size() + free_ids.size() != high)
    say(fmt::format("{} used and {} free of {} ids", used.size(), free_ids.size(), high));
  return bad;
}

}  // namespace ctd::test
