// SPDX-License-Identifier: Apache-2.0
// path_bench: the packet source and the bare redirect of the path benchmark. run.py builds the
// namespaces and calls it; results go to standard output as JSON.
#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <iostream>
#include <sstream>
#include <string>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "bare.hpp"
#include "flood.hpp"
#include "siege.hpp"

namespace ctd::bench {

namespace {

// Untimed packets before the timed ones: every flow at least once, and enough for the CPU to settle too.
constexpr std::uint64_t kWarmUp = 50'000;
constexpr std::uint64_t kMostPackets = 1'000'000'000;  // a test run counts in an int

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

Result<nlohmann::json> measure(Flood& flood, std::uint32_t flows, std::uint64_t packets) {
  for (Direction direction : {Direction::kOriginal, Direction::kReply})
    CTD_TRY(flood.send(direction, std::max<std::uint64_t>(flows, kWarmUp)));
  nlohmann::json report;
  report["original"] = CTD_TRY(flood.send(Direction::kOriginal, packets));
  report["reply"] = CTD_TRY(flood.send(Direction::kReply, packets));
  return report;
}

// One command: "settle LAPS BURST PAUSE_MS", "measure PACKETS", or "open FIRST COUNT" for the first packets of more
// flows.
Result<nlohmann::json> obey(Flood& flood, std::uint32_t flows, const std::string& line) {
  std::istringstream words(line);
  std::string verb;
  words >> verb;
  if (Settling settling;
      verb == "settle" && words >> settling.laps >> settling.burst >> settling.pause_ms && settling.burst)
    return nlohmann::json(CTD_TRY(flood.settle(settling)));
  if (std::uint64_t packets = 0; verb == "measure" && words >> packets && packets <= kMostPackets)
    return measure(flood, flows, packets);
  if (std::uint32_t first = 0, count = 0;
      verb == "open" && words >> first >> count && count && first < FLOOD_MAX_FLOWS - count)
    return nlohmann::json(CTD_TRY(flood.open_flows(first, count)));
  return fail("\"{}\" is none of \"settle LAPS BURST PAUSE_MS\", \"measure PACKETS\" and \"open FIRST COUNT\"", line);
}

// Commands from standard input, a line of JSON for each, until it ends. One process for all rounds: attaching a sink
// changes the devices' features, which a gateway may notice.
Result<void> run_flood(const FloodOptions& options, unsigned cpu) {
  CTD_TRY(own_cpu(cpu));
  Flood flood = CTD_TRY(Flood::start(options));
  for (std::string line; std::getline(std::cin, line);) {
    const nlohmann::json report = CTD_TRY(obey(flood, options.flows, line));
    std::puts(report.dump().c_str());
    std::fflush(stdout);
  }
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

void add_siege_options(CLI::App& command, SiegeOptions& options, unsigned& cpu) {
  command.add_option("--gateway", options.netns, "gateway's namespace")->required();
  command.add_option("--device", options.device, "gateway's device that receives the flood")->required();
  command.add_option("--device-mac", options.device_mac, "its Ethernet address")->required();
  command.add_option("--neighbour", options.neighbour, "Ethernet address that sends it")->required();
  command.add_option("--target", options.target, "IPv4 address that it is for")->required();
  command.add_option("--rate", options.rate, "packets a second")->check(CLI::Range(1, 10'000'000));
  command.add_flag("--repel", options.repel, "drop it at the device's ingress");
  command.add_option("--cpu", cpu, "CPU to run on");
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
  unsigned cpu = 0;

  CLI::App* flood_command = app.add_subcommand("flood", "settle flows and time them, as told on standard input");
  add_flood_options(*flood_command, flood, cpu);

  CLI::App* redirect = app.add_subcommand("redirect", "bare TC redirect until standard input ends");
  redirect->add_option("--gateway", bare.netns, "gateway's namespace")->required();
  redirect->add_option("--lan", bare.lan, "device towards the client")->required();
  redirect->add_option("--wan", bare.wan, "device towards the server")->required();
  redirect->add_option("--lan-mac", bare.lan_mac, "the client's Ethernet address")->required();
  redirect->add_option("--wan-mac", bare.wan_mac, "the server's Ethernet address")->required();

  SiegeOptions siege;
  CLI::App* siege_command = app.add_subcommand("siege", "SYN flood from random addresses until standard input ends");
  add_siege_options(*siege_command, siege, cpu);

  CLI11_PARSE(app, argc, argv);
  flood.wan.netns = flood.lan.netns;
  flood.server.device = flood.client.device;
  if (*flood_command) return report(run_flood(flood, cpu));
  if (*siege_command) return report(run_siege(siege, cpu));
  return report(run_bare(bare));
}

}  // namespace

}  // namespace ctd::bench

int main(int argc, char** argv) { return ctd::bench::run(argc, argv); }
