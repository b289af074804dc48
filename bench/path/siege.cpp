// SPDX-License-Identifier: Apache-2.0
#include "siege.hpp"

#include <arpa/inet.h>
#include <netinet/ether.h>
#include <poll.h>
#include <sched.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>
#include <thread>

#include <bpf/bpf.h>
#include <nlohmann/json.hpp>

#include "attach.hpp"
#include "bench_flood.h"
#include "bench_flood.skel.h"

namespace ctd::bench {

namespace {

using Clock = std::chrono::steady_clock;

// A test run takes 20 to 40 ms to set up: the flood comes in bursts, and keeps its pace over them.
constexpr auto kBetweenBursts = std::chrono::milliseconds(100);
constexpr std::size_t kFrameBytes = 60;
constexpr std::uint32_t kBatch = 64;

struct Skeleton {
  void operator()(bench_flood_bpf* skeleton) const { bench_flood_bpf__destroy(skeleton); }
};

bool input_ended() {
  pollfd fd{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
  if (::poll(&fd, 1, 0) <= 0) return false;
  char byte;
  return ::read(STDIN_FILENO, &byte, 1) == 0;
}

Result<void> copy_mac(const std::string& text, std::uint8_t (&to)[6]) {
  const ether_addr* address = ::ether_aton(text.c_str());
  if (!address) return fail("\"{}\" is no Ethernet address", text);
  std::memcpy(to, address->ether_addr_octet, sizeof(to));
  return {};
}

// Without the priority of the other parts: the flood must not win by that.
Result<void> stay_on(unsigned cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  if (::sched_setaffinity(0, sizeof(set), &set)) return fail_errno(errno, "CPU {}", cpu);
  return {};
}

Result<void> burst(const bench_flood_bpf& skeleton, unsigned ifindex, std::uint64_t packets) {
  const std::array<std::uint8_t, kFrameBytes> frame{};
  xdp_md context{.data_end = kFrameBytes, .ingress_ifindex = ifindex};
  LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = frame.data(), .data_size_in = frame.size(), .ctx_in = &context,
              .ctx_size_in = sizeof(context), .repeat = static_cast<int>(packets), .flags = BPF_F_TEST_XDP_LIVE_FRAMES,
              .batch_size = kBatch);
  const int err = bpf_prog_test_run_opts(bpf_program__fd(skeleton.progs.flood_siege), &run);
  if (err) return fail_errno(err, "generator on device {}", ifindex);
  return {};
}

}  // namespace

Result<void> run_siege(const SiegeOptions& options, unsigned cpu) {
  CTD_TRY(stay_on(cpu));
  std::unique_ptr<bench_flood_bpf, Skeleton> skeleton(bench_flood_bpf__open_and_load());
  if (!skeleton) return fail_errno(errno, "loading the generator");
  CTD_TRY(enter_netns(options.netns));
  const unsigned ifindex = CTD_TRY(device_index(options.device));
  flood_config& config = skeleton->bss->flood.config;
  CTD_TRY(copy_mac(options.device_mac, config.port_mac));
  CTD_TRY(copy_mac(options.neighbour, config.sender_mac));
  if (::inet_pton(AF_INET, options.target.c_str(), &config.target_be32) != 1)
    return fail("\"{}\" is no IPv4 address", options.target);
  std::optional<TcIngress> repelled;
  if (options.repel) repelled.emplace(CTD_TRY(TcIngress::attach(skeleton->progs.flood_repel, ifindex)));

  std::puts("ready");
  std::fflush(stdout);
  const auto start = Clock::now();
  std::uint64_t sent = 0;
  std::chrono::duration<double> elapsed{};
  while (!input_ended()) {
    elapsed = Clock::now() - start;
    const auto due = static_cast<std::uint64_t>(options.rate * (elapsed + kBetweenBursts).count());
    if (due > sent) {
      CTD_TRY(burst(*skeleton, ifindex, due - sent));
      sent = due;
    }
    std::this_thread::sleep_until(start + elapsed + kBetweenBursts);
  }
  elapsed = Clock::now() - start;
  std::puts(nlohmann::json{{"sent", sent}, {"seconds", elapsed.count()}}.dump().c_str());
  return {};
}

}  // namespace ctd::bench
