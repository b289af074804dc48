// SPDX-License-Identifier: Apache-2.0
// path_bench: the packet source and the bare redirect of the path benchmark. run.py builds the
// namespaces and calls it; results go to standard output as JSON.
#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <string>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "bare.hpp"
#include "flood.hpp"

namespace ctd::bench {

namespace {

// Untimed packets before the timed ones: every flow at least once, and enough for the CPU to settle too.
constexpr std::uint64_t kWarmUp = 50'000;

// On one CPU, before everything else that wants it. The kernel leaves the rest 5 % even so.
Result<void> own_cpu(unsigned cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  if (::sched_setaffinity(0, sizeof(set), &set)) return fail_errno(errno, "CPU {}", cpu);
  const sched_param lowest{.sched_priority = 1};
  if (::sched_setscheduler(0, SCHED_FIFO, &lowest)) return fail_errno(errno, "real-time priority");
  return {};
}

Result<void> run_settle(const FloodOptions& options, unsigned cpu, const Settling& settling) {
  CTD_TRY(own_cpu(cpu));
  Flood flood = CTD_TRY(Flood::start(options));
  const nlohmann::json report = CTD_TRY(flood.settle(settling));
  std::puts(report.dump().c_str());
  return {};
}

Result<void> run_measure(const FloodOptions& options, unsigned cpu, std::uint64_t packets) {
  CTD_TRY(own_cpu(cpu));
  Flood flood = CTD_TRY(Flood::start(options));
  nlohmann::json report;
  for (Direction direction : {Direction::kOriginal, Direction::kReply})
    CTD_TRY(flood.send(direction, std::max<std::uint64_t>(options.flows, kWarmUp)));
  report["original"] = CTD_TRY(flood.send(Direction::kOriginal, packets));
  report["reply"] = CTD_TRY(flood.send(Direction::kReply, packets));
  std::puts(report.dump().c_str());
  return {};
}

void add_flood_options(CLI::App& command, FloodOptions& options, unsigned& cpu) {
  command.add_option("--gateway", options.lan.netns, "gateway's namespace")->required();
  command.add_option("--client", options.client.netns, "client's namespace")->required();
  command.add_option("--server", options.server.netns, "server's namespace")->required();
  command.add_option("--lan", options.lan.device, "gateway's device towards the client")->required();
  command.add_option("--wan", options.wan.device, "gateway's device towards the server")->required();
  command.add_option("--far", options.client.device, "client's and server's device")->required();
  command.add_option("--client-net", options.client_net, "first address less one")->required();
  command.add_option("--server-net", options.server_net, "first address less one")->required();
  command.add_option("--translated", options.translated, "source address that servers see");
  command.add_option("--flows", options.flows, "number of flows")->required();
  command.add_option("--batch", options.batch, "packets a burst of the generator")->check(CLI::Range(1, 256));
  command.add_option("--cpu", cpu, "CPU to run on");
  command.add_flag("--sink-on-port", options.sink_on_port, "receive and drop on the gateway");
}

int report(const Result<void>& result) {
  if (result) return 0;
  fmt::print(stderr, "path_bench: {}\n", result.error().message());
  return 1;
}

int run(int argc, char** argv) {
  CLI::App app("packet source and bare redirect of the path benchmark");
  app.require_subcommand(1);
  FloodOptions flood;
  BareOptions bare;
  Settling settling;
  unsigned cpu = 0;
  std::uint64_t packets = 0;

  CLI::App* settle = app.add_subcommand("settle", "set up every flow, answered; check each packet");
  add_flood_options(*settle, flood, cpu);
  settle->add_option("--laps", settling.laps, "packets of each flow and direction")->check(CLI::PositiveNumber);
  settle->add_option("--burst", settling.burst, "first packets sent before their answers")->check(CLI::PositiveNumber);
  settle->add_option("--pause-ms", settling.pause_ms, "wait before the last lap");

  CLI::App* measure = app.add_subcommand("measure", "time each direction over settled flows");
  add_flood_options(*measure, flood, cpu);
  measure->add_option("--packets", packets, "packets each direction")->required()->check(CLI::Range(1, 1'000'000'000));

  CLI::App* redirect = app.add_subcommand("redirect", "bare TC redirect until standard input ends");
  redirect->add_option("--gateway", bare.netns, "gateway's namespace")->required();
  redirect->add_option("--lan", bare.lan, "device towards the client")->required();
  redirect->add_option("--wan", bare.wan, "device towards the server")->required();
  redirect->add_option("--lan-mac", bare.lan_mac, "the client's Ethernet address")->required();
  redirect->add_option("--wan-mac", bare.wan_mac, "the server's Ethernet address")->required();

  CLI11_PARSE(app, argc, argv);
  flood.wan.netns = flood.lan.netns;
  flood.server.device = flood.client.device;
  if (*settle) return report(run_settle(flood, cpu, settling));
  if (*measure) return report(run_measure(flood, cpu, packets));
  return report(run_bare(bare));
}

}  // namespace

}  // namespace ctd::bench

int main(int argc, char** argv) { return ctd::bench::run(argc, argv); }
