// SPDX-License-Identifier: Apache-2.0
#include "flood.hpp"

#include <arpa/inet.h>
#include <net/if_arp.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <ctime>
#include <numeric>
#include <thread>
#include <utility>

#include <bpf/bpf.h>

#include "bench_flood.skel.h"

namespace ctd::bench {

namespace {

constexpr std::size_t kFrameBytes = 60;
constexpr int kAttempts = 50;
constexpr auto kArrival = std::chrono::milliseconds(200);

Result<std::uint32_t> parse_ipv4_be32(const std::string& text) {
  in_addr address{};
  if (::inet_pton(AF_INET, text.c_str(), &address) != 1) return fail("\"{}\" is no IPv4 address", text);
  return address.s_addr;
}

// About the golden ratio of the count: successive flows are neither neighbours in any table nor in
// a pattern that a prefetcher knows, and every flow comes up once a lap.
std::uint32_t stride_through(std::uint32_t count) {
  auto stride = static_cast<std::uint32_t>(count * 0.6180339887);
  while (std::gcd(stride, count) != 1) stride++;
  return stride;
}

std::uint64_t thread_cpu_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(now.tv_nsec);
}

flood_sink operator-(const flood_sink& a, const flood_sink& b) {
  return {.received = a.received - b.received,
          .bad_checksum = a.bad_checksum - b.bad_checksum,
          .bad_address = a.bad_address - b.bad_address,
          .foreign = a.foreign - b.foreign};
}

}  // namespace

Tally& Tally::operator+=(const Tally& other) {
  sent += other.sent;
  sink.received += other.sink.received;
  sink.bad_checksum += other.sink.bad_checksum;
  sink.bad_address += other.sink.bad_address;
  sink.foreign += other.sink.foreign;
  path_ns += other.path_ns;
  cpu_ns += other.cpu_ns;
  return *this;
}

void to_json(nlohmann::json& json, const Tally& tally) {
  json = {{"sent", tally.sent},
          {"received", tally.sink.received},
          {"bad_checksum", tally.sink.bad_checksum},
          {"bad_address", tally.sink.bad_address},
          {"foreign", tally.sink.foreign},
          {"path_ns", tally.path_ns},
          {"cpu_ns", tally.cpu_ns}};
}

void Flood::Skeleton::operator()(bench_flood_bpf* skeleton) const { bench_flood_bpf__destroy(skeleton); }

Flood::Flood(FloodOptions options) : options_(std::move(options)) {}
Flood::Flood(Flood&&) noexcept = default;
Flood::~Flood() = default;

Result<Flood> Flood::start(const FloodOptions& options) {
  if (!options.flows || options.flows > FLOOD_MAX_FLOWS)
    return fail("flows: {} is not between 1 and {}", options.flows, +FLOOD_MAX_FLOWS);
  Flood flood(options);
  flood.skeleton_.reset(bench_flood_bpf__open_and_load());
  if (!flood.skeleton_) return fail_errno(errno, "loading the generator");
  CTD_TRY(flood.attach_sinks());
  CTD_TRY(flood.configure());
  return flood;
}

// Of a device of the current namespace.
Result<Flood::Mac> Flood::device_mac(const std::string& device) {
  ifreq request{};
  device.copy(request.ifr_name, sizeof(request.ifr_name) - 1);
  const int fd = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return fail_errno(errno, "socket");
  const int err = ::ioctl(fd, SIOCGIFHWADDR, &request) ? errno : 0;
  ::close(fd);
  if (err) return fail_errno(err, "Ethernet address of {}", device);
  Mac mac;
  std::memcpy(mac.data(), request.ifr_hwaddr.sa_data, mac.size());
  return mac;
}

// Leaves the calling thread in the port's own namespace.
Result<Flood::Port> Flood::find_port(const Endpoint& near, const Endpoint& far) {
  Port port;
  CTD_TRY(enter_netns(far.netns));
  port.neighbour = CTD_TRY(device_mac(far.device));
  CTD_TRY(enter_netns(near.netns));
  port.mac = CTD_TRY(device_mac(near.device));
  port.ifindex = CTD_TRY(device_index(near.device));
  return port;
}

Result<void> Flood::attach_sinks() {
  const auto& programs = skeleton_->progs;
  if (!options_.sink_on_port) {
    for (const auto& [end, program] : {std::pair{options_.client, programs.flood_sink_client},
                                       std::pair{options_.server, programs.flood_sink_server}}) {
      CTD_TRY(enter_netns(end.netns));
      far_sinks_.push_back(CTD_TRY(attach_xdp(program, CTD_TRY(device_index(end.device)))));
    }
  }
  lan_ = CTD_TRY(find_port(options_.lan, options_.client));
  wan_ = CTD_TRY(find_port(options_.wan, options_.server));
  if (options_.sink_on_port)
    for (const Port& port : {lan_, wan_})
      port_sinks_.push_back(CTD_TRY(TcIngress::attach(programs.flood_sink_port, port.ifindex)));
  return {};
}

Result<void> Flood::configure() {
  flood_config& config = skeleton_->bss->flood.config;
  config.client_net_be32 = CTD_TRY(parse_ipv4_be32(options_.client_net).context("client net"));
  config.server_net_be32 = CTD_TRY(parse_ipv4_be32(options_.server_net).context("server net"));
  if (!options_.translated.empty())
    config.translated_be32 = CTD_TRY(parse_ipv4_be32(options_.translated).context("translated"));
  use_flows(0, options_.flows);
  return {};
}

void Flood::use_flows(std::uint32_t first, std::uint32_t count) {
  flood_config& config = skeleton_->bss->flood.config;
  config.first = first;
  config.flows = count;
  config.stride = stride_through(count);
  config.cursor = 0;
}

const flood_sink& Flood::sink(Direction direction) const {
  const flood_state& state = skeleton_->bss->flood;
  return direction == Direction::kOriginal ? state.at_server : state.at_client;
}

// What a path holds back (a first packet that waits for a flow) arrives after the run.
void Flood::wait_for(Direction direction, std::uint64_t received) const {
  const auto deadline = std::chrono::steady_clock::now() + kArrival;
  const volatile __u64& counter = sink(direction).received;
  while (counter < received && std::chrono::steady_clock::now() < deadline)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

Result<Tally> Flood::send(Direction direction, std::uint64_t packets) {
  const bool reply = direction == Direction::kReply;
  const Port& port = reply ? wan_ : lan_;
  flood_config& config = skeleton_->bss->flood.config;
  std::copy(port.mac.begin(), port.mac.end(), config.port_mac);
  std::copy(port.neighbour.begin(), port.neighbour.end(), config.sender_mac);
  config.reply = reply;

  const std::array<std::uint8_t, kFrameBytes> frame{};
  xdp_md context{.data_end = kFrameBytes, .ingress_ifindex = port.ifindex};
  LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = frame.data(), .data_size_in = frame.size(), .ctx_in = &context,
              .ctx_size_in = sizeof(context), .repeat = static_cast<int>(packets), .flags = BPF_F_TEST_XDP_LIVE_FRAMES,
              .batch_size = options_.batch);

  const flood_sink before = sink(direction);
  Tally tally{.sent = packets};
  const auto cpu = thread_cpu_ns();
  const int err = bpf_prog_test_run_opts(bpf_program__fd(skeleton_->progs.flood_generate), &run);
  tally.cpu_ns = thread_cpu_ns() - cpu;
  tally.path_ns = run.duration * packets;  // the kernel gives the mean, in whole nanoseconds
  if (err) return fail_errno(err, "generator on device {}", port.ifindex);

  wait_for(direction, before.received + packets);
  tally.sink = sink(direction) - before;
  return tally;
}

Result<Tally> Flood::open_flows(std::uint32_t first, std::uint32_t count) {
  use_flows(first, count);
  auto tally = send(Direction::kOriginal, count);
  use_flows(0, options_.flows);
  return tally;
}

// One packet of each flow and one answer; sent again where something was lost.
Result<Tally> Flood::exchange(std::uint32_t first, std::uint32_t count) {
  use_flows(first, count);
  Tally both;
  for (Direction direction : {Direction::kOriginal, Direction::kReply}) {
    Tally tally = CTD_TRY(send(direction, count));
    for (int attempt = 1; tally.lost() && attempt < kAttempts; attempt++) tally = CTD_TRY(send(direction, count));
    both += tally;
  }
  return both;
}

Result<Tally> Flood::settle(const Settling& settling) {
  flood_config& config = skeleton_->bss->flood.config;
  config.check = 1;
  Tally total = CTD_TRY(exchange(0, 1));  // alone: lets a path set up what all flows share
  for (std::uint32_t first = 0; first < options_.flows; first += settling.burst)
    total += CTD_TRY(exchange(first, std::min(settling.burst, options_.flows - first)));
  use_flows(0, options_.flows);
  for (std::uint32_t lap = 1; lap < settling.laps; lap++) {
    if (lap + 1 == settling.laps) std::this_thread::sleep_for(std::chrono::milliseconds(settling.pause_ms));
    for (Direction direction : {Direction::kOriginal, Direction::kReply})
      total += CTD_TRY(send(direction, options_.flows));
  }
  config.check = 0;
  return total;
}

}  // namespace ctd::bench
