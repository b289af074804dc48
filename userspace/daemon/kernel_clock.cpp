// SPDX-License-Identifier: Apache-2.0
#include "daemon/kernel_clock.hpp"

#include <array>
#include <chrono>
#include <cmath>
#include <span>
#include <thread>

#include <bpf/bpf.h>
#include <linux/bpf.h>

namespace ctd {
namespace {

constexpr std::array<u32, 4> kKernelHz{100, 250, 300, 1000};

Result<Fd> load(const char* name, std::span<const bpf_insn> code) {
  const int fd = bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, name, "Dual BSD/GPL", code.data(), code.size(), nullptr);
  if (fd < 0) return fail_errno(fd, "loading a BPF program (are CAP_BPF and CAP_NET_ADMIN there?)");
  return Fd(fd);
}

Result<u32> run(const Fd& program) {
  std::array<unsigned char, 64> packet{};
  LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = packet.data(), .data_size_in = packet.size());
  const int error = bpf_prog_test_run_opts(program.get(), &options);
  if (error) return fail_errno(error, "running a BPF program");
  return options.retval;
}

}  // namespace

Result<JiffiesClock> JiffiesClock::open() {
  const bpf_insn call{.code = BPF_JMP | BPF_CALL, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = BPF_FUNC_jiffies64};
  const bpf_insn shift{.code = BPF_ALU64 | BPF_RSH | BPF_K, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 32};
  const bpf_insn exit{.code = BPF_JMP | BPF_EXIT, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0};
  const std::array low{call, exit};
  const std::array high{call, shift, exit};
  Fd low_program = CTD_TRY(load("ctd_jiffies_lo", low));
  Fd high_program = CTD_TRY(load("ctd_jiffies_hi", high));
  return JiffiesClock(std::move(low_program), std::move(high_program));
}

Result<u64> JiffiesClock::now() const {
  for (;;) {
    const u32 before = CTD_TRY(run(high_));
    const u32 low = CTD_TRY(run(low_));
    if (CTD_TRY(run(high_)) == before) return (static_cast<u64>(before) << 32) | low;
  }
}

Result<u32> JiffiesClock::measure_hz() const {
  using Clock = std::chrono::steady_clock;
  const auto begin = Clock::now();
  const u64 first = CTD_TRY(now());
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  const u64 last = CTD_TRY(now());
  const double measured =
      static_cast<double>(last - first) / std::chrono::duration<double>(Clock::now() - begin).count();
  u32 best = kKernelHz.front();
  for (const u32 hz : kKernelHz) {
    // In proportion: 250 and 300 are near each other, 1000 is not.
    if (std::abs(std::log(measured / hz)) < std::abs(std::log(measured / best))) best = hz;
  }
  return best;
}

}  // namespace ctd
