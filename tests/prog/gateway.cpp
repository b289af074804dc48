// SPDX-License-Identifier: Apache-2.0
#include "prog/gateway.hpp"

#include <algorithm>
#include <cstring>
#include <map>

#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <netinet/in.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>

#include "daemon/policy.hpp"
#include "daemon/sysctl.hpp"
#include "daemon/vnet_header.hpp"
#include "lib/conn_table.hpp"
#include "lib/names.hpp"
#include "unit/packet_check.hpp"

namespace ctd::test {
namespace {

constexpr const char* kPorts[] = {"LOCAL", "lan0", "wan0"};  // by number
constexpr unsigned kMaxMisses = 12;                          // more than the passes that a packet may take

template <typename T>
T must(Result<T> result) {
  if (!result) throw std::runtime_error(result.error().message());
  if constexpr (!std::is_void_v<T>) return std::move(result).value();
}

void set_mac(Packet& p, std::size_t at, std::string_view text, u8 side) {
  for (std::size_t i = 0; i < 6; i++) {
    p.bytes.at(at + i) = static_cast<u8>(std::stoul(std::string(text.substr(i * 3, 2)), nullptr, 16));
  }
  p.bytes.at(at + 5) = static_cast<u8>(side << 4 | (p.bytes.at(at + 5) & 15));
}

std::string_view mac_of(const std::string& port) { return port == "lan0" ? kLanMac : kWanMac; }

std::string tuple_text(const ctd_tuple& t) {
  const bool v6 = t.family == CTD_IPV6;
  const std::string src = address_text(t.src, v6), dst = address_text(t.dst, v6);
  const char* colon = v6 ? "." : ":";
  switch (port_use(t.proto)) {
    case PortUse::kPorts:
      return fmt::format("{}{}{} > {}{}{}", src, colon, ntohs(t.sport), dst, colon, ntohs(t.dport));
    case PortUse::kIcmp:
      return fmt::format("{} > {} id {} type {}", src, dst, ntohs(t.sport), ntohs(t.dport) >> 8);
    case PortUse::kGre:
    case PortUse::kNone:
      break;
  }
  return fmt::format("{} > {}", src, dst);
}

}  // namespace

std::string_view drop_name(u32 reason) { return reason < CTD_DROP_COUNT ? drop_reasons()[reason].name : "?"; }

void GatewayTest::SetUp() {
  NetnsTest::SetUp();
  spdlog::set_level(spdlog::level::err);
  sh("ip link add lan0 address 02:00:00:00:00:11 type veth peer name lan0p &&"
     "ip link add wan0 address 02:00:00:00:00:12 type veth peer name wan0p &&"
     "ip link add dmz0 type veth peer name dmz0p");
  for (const char* peer : {"lan0p", "wan0p", "dmz0p"}) {
    ASSERT_TRUE(write_sysctl(fmt::format("net/ipv6/conf/{}/disable_ipv6", peer), "1"));
  }
  ASSERT_TRUE(write_sysctl("net/ipv4/ip_forward", "1"));
  ASSERT_TRUE(write_sysctl("net/ipv6/conf/all/forwarding", "1"));
  sh("for i in lan0p wan0p dmz0p lan0 wan0 dmz0; do ip link set $i up || exit; done");
  ASSERT_TRUE(wait_for([] { return succeeds("[ $(ip -o link show up | grep -c LOWER_UP) = 7 ]"); }));
  sh("ip -batch - <<'END'\n"
     "address add 10.1.0.1/24 dev lan0\n"
     "address add 2001:db8:1::1/64 dev lan0 nodad\n"
     "address add 10.0.2.1/24 dev wan0\n"
     "address add 2001:db8:2::b1/64 dev wan0 nodad\n"
     "address add 10.3.0.1/24 dev dmz0\n"
     "route add default via 10.0.2.254\n"
     "route add default via 2001:db8:2::fe dev wan0\n"
     "route add unreachable 203.0.113.0/26\n"
     "route add blackhole 203.0.113.64/26\n"
     "route add prohibit 203.0.113.128/26\n"
     "neighbour add 10.1.0.2 lladdr 02:00:00:00:00:21 dev lan0\n"
     "neighbour add 2001:db8:1::2 lladdr 02:00:00:00:00:21 dev lan0\n"
     "neighbour add 10.0.2.2 lladdr 02:00:00:00:00:22 dev wan0\n"
     "neighbour add 2001:db8:2::2 lladdr 02:00:00:00:00:22 dev wan0\n"
     "neighbour add 10.0.2.254 lladdr 02:00:00:00:00:22 dev wan0\n"
     "neighbour add 2001:db8:2::fe lladdr 02:00:00:00:00:22 dev wan0\n"
     "END");
}

void GatewayTest::TearDown() {
  if (dp_) {
    EXPECT_EQ(broken(), "");
  }
  flows_.reset();
  ports_.reset();
  dp_.reset();
  NetnsTest::TearDown();
}

void GatewayTest::start(const GatewayOptions& options) {
  options_ = options;
  config_ = {.ports = {"lan0", "wan0"},
             .gateway = {.inside = {"lan0"}, .outside = "wan0", .masquerade = true, .masquerade6 = options.masquerade6},
             .conntrack_capacity = options.conn_capacity,
             .flow_capacity = options.flow_capacity,
             .rpfilter = options.rpfilter};
  clock_.emplace(must(JiffiesClock::open()));
  net_.emplace(must(NetWatch::open()));
  tap_.emplace(must(Tap::open("t")));
  pins_ = bpffs_folder();
  open();
  ASSERT_FALSE(dp_->adopted());
  must(dp_->start());
}

void GatewayTest::open() {
  dp_ = must(Datapath::open({.pins = pins_,
                             .conn_capacity = options_.conn_capacity,
                             .flow_capacity = options_.flow_capacity,
                             .tap_ifindex = tap_->ifindex()},
                            *clock_));
  ports_.emplace(*dp_, config_, pins_);
  must(ports_->assign(must(net_->snapshot())));
  ct_.emplace(must(CtSettings::apply(*dp_, options_.conntrack)));
  rules_.emplace(must(compile_policies(config_, ports_->names(), ct_->policies())));
  for (const std::string& rule : options_.rules) rules_->add(must(parse_rule(rule, ports_->names(), ct_->policies())));
  sync();
  flows_.emplace(*dp_, ct_->policies());
}

FlowTable::Adopted GatewayTest::restart() {
  flows_.reset();
  ct_.reset();
  ports_.reset();
  dp_.reset();
  open();
  EXPECT_TRUE(dp_->adopted());
  const FlowTable::Adopted adopted = must(flows_->adopt(*rules_));
  dp_->raise_version();
  must(dp_->start());
  return adopted;
}

void GatewayTest::sync() { must(ports_->sync(must(net_->snapshot()), *rules_)); }

u64 GatewayTest::jiffies() const { return must(clock_->now()); }

// The tests take what time they take; the datapath must not give the daemon up meanwhile.
void GatewayTest::beat() const {
  const u32 age = daemon_alive_ ? 0 : 10 * dp_->meta().hz;
  __atomic_store_n(&dp_->rt()->daemon_beat, static_cast<u32>(jiffies()) - age, __ATOMIC_RELAXED);
}

u32 GatewayTest::number(const std::string& port) const { return ports_->names().number(port).value(); }

ctd_port GatewayTest::port(const std::string& name) const {
  return must(map_get<u32, ctd_port>(*dp_, "ports", number(name)));
}

GatewayTest::Stats GatewayTest::stats() const {
  return {must(dp_->stats(0)), must(dp_->stats(1)), must(dp_->stats(2))};
}

u64 GatewayTest::drops(ctd_drop_reason reason) const {
  u64 sum = 0;
  for (const ctd_port_stats& s : stats()) sum += s.drop[reason];
  return sum;
}

u64 GatewayTest::count(ctd_counter counter) const {
  u64 sum = 0;
  for (const ctd_port_stats& s : stats()) sum += s.count[counter];
  return sum;
}

u64 GatewayTest::entries(const char* map) const {
  const int fd = dp_->map(map);
  std::array<u8, sizeof(ctd_tuple)> key{}, next{};
  u64 n = 0;
  for (int error = bpf_map_get_next_key(fd, nullptr, next.data()); !error;
       error = bpf_map_get_next_key(fd, key.data(), next.data())) {
    key = next;
    n++;
  }
  return n;
}

GatewayTest::Ran GatewayTest::run_program(const char* program, u32 ifindex, const Bytes& bytes, const Skb& skb) const {
  const bool egress = std::string_view(program) == "ctd_egress" || std::string_view(program) == "ctd_tap_out";
  __sk_buff context{};
  context.mark = skb.mark;
  context.ifindex = ifindex;
  context.ingress_ifindex = skb.came_from.value_or(egress ? 0 : ifindex);
  context.gso_size = skb.gso_size;
  context.gso_segs = skb.gso_size ? static_cast<u32>(bytes.size() / skb.gso_size + 1) : 0;
  context.cb[0] = static_cast<u32>(skb.token);
  context.cb[1] = static_cast<u32>(skb.token >> 32);
  Ran ran{.bytes = Bytes(8192)};
  LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = bytes.data(), .data_out = ran.bytes.data(),
              .data_size_in = static_cast<u32>(bytes.size()), .data_size_out = static_cast<u32>(ran.bytes.size()),
              .ctx_in = &context, .ctx_out = &context, .ctx_size_in = sizeof(context), .ctx_size_out = sizeof(context));
  if (const int error = bpf_prog_test_run_opts(dp_->program(program), &options)) {
    throw std::runtime_error(fmt::format("test run of {} with {} bytes: {}", program, bytes.size(), strerror(-error)));
  }
  ran.verdict = static_cast<int>(options.retval);
  ran.bytes.resize(options.data_size_out);
  ran.token = (u64{context.cb[1]} << 32 | context.cb[0]) == dp_->meta().token;
  return ran;
}

std::string GatewayTest::where(const char* program, const Ran& ran, const Stats& before, const Stats& after) const {
  std::string dropped, out;
  u64 to_stack = 0, upcalls = 0;
  for (std::size_t port = 0; port < after.size(); port++) {
    for (u32 reason = 0; reason < CTD_DROP_COUNT; reason++) {
      const u64 n = after[port].drop[reason] - before[port].drop[reason];
      if (n) dropped += fmt::format("{}{}", dropped.empty() ? "" : ", ", drop_name(reason));
    }
    to_stack += after[port].count[CTD_COUNT_TO_STACK] - before[port].count[CTD_COUNT_TO_STACK];
    upcalls += after[port].count[CTD_COUNT_UPCALL] - before[port].count[CTD_COUNT_UPCALL];
    if (after[port].tx_packets != before[port].tx_packets) out = kPorts[port];
  }
  switch (ran.verdict) {
    case TC_ACT_SHOT:
      return "drop " + dropped;
    case TC_ACT_OK:
      out = std::string_view(program) == "ctd_egress" ? "on" : "stack";
      break;
    case TC_ACT_REDIRECT:
      if (upcalls) out = "tap";
      if (to_stack) out = "into its port";
      break;
    default:
      out = fmt::format("verdict {}", ran.verdict);
  }
  return dropped.empty() ? out : fmt::format("{} (drop {})", out, dropped);
}

Out GatewayTest::run_at(const char* program, u32 ifindex, const Packet& packet, const Skb& skb) {
  beat();
  const Stats before = stats();
  const Ran ran = run_program(program, ifindex, packet.bytes, skb);
  Out out{.where = where(program, ran, before, stats())};
  EXPECT_EQ(ran.token, ran.verdict == TC_ACT_REDIRECT) << out.where;
  if (ran.verdict == TC_ACT_SHOT) {
    EXPECT_NE(out.where, "drop ") << "dropped without a reason";
    return out;
  }
  out.packet.bytes = ran.bytes;
  out.line = line_of(out.packet);
  return out;
}

Out GatewayTest::run(const char* program, const std::string& device, const Packet& packet, const Skb& skb) {
  return run_at(program, ifindex(device), packet, skb);
}

Out GatewayTest::answer(const Out& miss) {
  // Instead of the tap, a pair of sockets that keeps datagrams apart.
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends)) throw std::runtime_error("socketpair");
  const Fd datapath(ends[0]), daemon(ends[1]);
  Bytes frame(sizeof(VnetHeader));
  frame.insert(frame.end(), miss.packet.bytes.begin(), miss.packet.bytes.end());
  EXPECT_EQ(write(datapath.get(), frame.data(), frame.size()), static_cast<ssize_t>(frame.size()));

  Upcalls upcalls(daemon.get(), dp_->meta().token, [&](const ctd_flow_key& key) {
    Result<> installed = flows_->install(*rules_, key);
    EXPECT_TRUE(installed) << installed.error().message();
    return installed;
  });
  must(upcalls.handle(1));
  frame.resize(16384);
  const ssize_t size = read(datapath.get(), frame.data(), frame.size());
  if (size < static_cast<ssize_t>(sizeof(VnetHeader))) return {.where = "lost", .line = "", .packet = {}};
  Packet back;
  back.bytes.assign(frame.begin() + sizeof(VnetHeader), frame.begin() + size);
  return run_at("ctd_tap_in", tap_->ifindex(), back, {});
}

Out GatewayTest::through(const char* program, const std::string& port, const Packet& packet, const Skb& skb) {
  Out out = run_at(program, ifindex(port), packet, skb);
  u32 misses = 0;
  for (; out.where == "tap" && misses < kMaxMisses; misses++) out = answer(out);
  out.misses = misses;
  if (out.where == "into its port") out.where = "into " + port;
  if (!out.line.empty()) {
    EXPECT_EQ(wrong_with(out.packet), "") << out.where << ": " << out.line;
  }
  return out;
}

int GatewayTest::verdict(const std::string& port, const Packet& packet) const {
  Packet in = packet;
  set_mac(in, 0, mac_of(port), 1);
  set_mac(in, 6, mac_of(port), 2);
  return run_program("ctd_ingress", ifindex(port), in.bytes, {}).verdict;
}

Out GatewayTest::from(const std::string& port, Packet packet, const Skb& skb) {
  if (!(packet.bytes.at(0) & 1)) set_mac(packet, 0, mac_of(port), 1);
  set_mac(packet, 6, mac_of(port), 2);
  return through("ctd_ingress", port, packet, skb);
}

Out GatewayTest::from_host(const std::string& port, Packet packet, const Skb& skb) {
  if (!(packet.bytes.at(0) & 1)) set_mac(packet, 0, mac_of(port), 2);
  set_mac(packet, 6, mac_of(port), 1);
  return through("ctd_egress", port, packet, skb);
}

std::vector<ctd_conn> GatewayTest::connections() const {
  const ConnTable table(dp_->connections(), dp_->rt());
  std::vector<ctd_conn> all;
  for (u32 id = 1; id <= table.last_id(); id++) {
    ctd_conn conn{};
    if (table.read(id, conn) == ConnTable::Read::kLive) all.push_back(conn);
  }
  return all;
}

ctd_conn GatewayTest::only() const {
  const auto all = connections();
  EXPECT_EQ(all.size(), 1u);
  return all.empty() ? ctd_conn{} : all[0];
}

std::string GatewayTest::text(const ctd_conn& conn) {
  std::string status;
  for (const StatusBit& bit : status_bits()) {
    if (conn.status & bit.bit) status += fmt::format("{}{}", status.empty() ? "" : " ", bit.name);
  }
  return fmt::format("{} {} [{}] {}, {}", protocol_text(conn.orig.proto), conn_state_name(conn.orig.proto, conn.state),
                     status, tuple_text(conn.orig), tuple_text(conn.reply));
}

std::string GatewayTest::broken() const {
  std::string bad;
  const auto all = connections();
  // What the sweep is just destroying stands in neither list for long.
  const auto alive = [&] { return static_cast<u64>(__atomic_load_n(&dp_->rt()->conns, __ATOMIC_RELAXED)); };
  if (!wait_for([&] { return alive() == connections().size(); })) {
    bad += fmt::format("{} are counted, {} are there\n", alive(), connections().size());
  }
  if (const u64 tuples = entries("ct_tuple4") + entries("ct_tuple6"); tuples != 2 * all.size()) {
    bad += fmt::format("{} tuples of {} connections\n", tuples, all.size());
  }
  std::map<u16, s32> in_zone;
  for (const ctd_conn& conn : all) in_zone[conn.orig.zone]++;
  for (u32 zone = 0; zone < dp_->zones().size(); zone++) {
    const s32 says = __atomic_load_n(&dp_->zones()[zone].count, __ATOMIC_RELAXED);
    const auto known = in_zone.find(static_cast<u16>(zone));
    const s32 have = known == in_zone.end() ? 0 : known->second;
    if (says != have) bad += fmt::format("zone {} counts {} connections, {} are there\n", zone, says, have);
  }
  for (const ctd_conn& conn : all) {
    for (const u8 dir : {CTD_DIR_ORIG, CTD_DIR_REPLY}) {
      const ctd_tuple& t = dir ? conn.reply : conn.orig;
      const ctd_tuple4 t4{t.src.v4, t.dst.v4, t.sport, t.dport, t.zone, t.proto, 0};
      const bool v6 = t.family == CTD_IPV6;
      ctd_tuple_ref ref{};
      const void* key = v6 ? static_cast<const void*>(&t) : &t4;
      if (bpf_map_lookup_elem(dp_->map(v6 ? "ct_tuple6" : "ct_tuple4"), key, &ref)) {
        bad += fmt::format("{}: not in the table: {}\n", conn.id, tuple_text(t));
      } else if (ref.conn != conn.id || ref.dir != dir) {
        bad += fmt::format("{}: {} names {} in direction {}\n", conn.id, tuple_text(t), ref.conn, ref.dir);
      }
    }
  }
  return bad;
}

namespace {

// Below layer 4, in the family of the addresses.
PacketBuilder over_ip(std::string_view src, std::string_view dst, std::uint8_t ttl = 64) {
  PacketBuilder b = frame();
  if (src.find(':') == src.npos) return b.ipv4({.src = src, .dst = dst, .ttl = ttl});
  return b.ipv6({.src = src, .dst = dst, .hop_limit = ttl});
}

}  // namespace

Packet tcp(const Segment& s) {
  return over_ip(s.src, s.dst)
      .tcp({.sport = s.sport, .dport = s.dport, .flags = s.flags, .seq = s.seq, .ack = s.ack})
      .payload(s.payload)
      .build();
}

Packet udp(const Datagram& d) {
  return over_ip(d.src, d.dst, d.ttl)
      .udp({.sport = d.sport, .dport = d.dport, .no_checksum = d.no_checksum})
      .payload(d.payload)
      .build();
}

Packet ping(const Echo& e) {
  const bool v6 = e.src.find(':') != e.src.npos;
  const int type = v6 ? (e.reply ? 129 : 128) : (e.reply ? 0 : 8);
  return over_ip(e.src, e.dst).icmp({.type = static_cast<std::uint8_t>(type), .id = e.id}).payload(e.payload).build();
}

}  // namespace ctd::test
