// SPDX-License-Identifier: Apache-2.0
// ctd: the daemon's command line.
#include <csignal>

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/signalfd.h>
#include <systemd/sd-daemon.h>
#include <CLI/CLI.hpp>

#include "daemon/api.hpp"
#include "daemon/daemon.hpp"
#include "lib/rundir.hpp"

namespace {

constexpr int kExitFailure = 1;
constexpr int kExitUsage = 2;  // the command line or the configuration is wrong; nothing was changed

struct Arguments {
  std::string config;
  bool check = false;
  ctd::Daemon::Options daemon;
};

// Signals become readable; blocked before any thread starts.
ctd::Result<ctd::Fd> stop_signals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  if (sigprocmask(SIG_BLOCK, &set, nullptr) < 0) return ctd::fail_errno(errno, "sigprocmask");
  const int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
  if (fd < 0) return ctd::fail_errno(errno, "signalfd");
  return ctd::Fd(fd);
}

ctd::Result<> serve(ctd::Daemon& daemon, const Arguments& arguments, int stop_fd) {
  CTD_TRY(daemon.start());
  const auto server = CTD_TRY(
      ctd::ApiServer::start(daemon, {.rundir = arguments.daemon.rundir, .instance = arguments.daemon.instance}));
  spdlog::info("control API on {}", server->socket_path());
  sd_notify(0, "READY=1");
  const auto ran = daemon.run(stop_fd);
  sd_notify(0, "STOPPING=1");
  if (ran && daemon.wants_take_down()) return daemon.take_down();
  if (ran) spdlog::info("stopping; the datapath goes on without a daemon (`ctctl shutdown` would have ended it)");
  return ran;
}

int run(const Arguments& arguments) {
  if (const auto named = ctd::check_instance_name(arguments.daemon.instance); !named) {
    spdlog::error("{}", named.error().message());
    return kExitUsage;
  }
  auto net = ctd::NetWatch::open();
  auto snapshot = net ? net->snapshot() : ctd::Result<ctd::NetSnapshot>(net.error());
  if (!snapshot) {
    spdlog::error("{}", snapshot.error().message());
    return kExitFailure;
  }
  const ctd::Interfaces interfaces{.ifindex = [&](const std::string& name) -> std::optional<u32> {
                                     const auto* link = snapshot->find(name);
                                     return link ? std::optional(link->ifindex) : std::nullopt;
                                   },
                                   .names =
                                       [&] {
                                         std::vector<std::string> names;
                                         for (const auto& link : snapshot->links) names.push_back(link.name);
                                         return names;
                                       }};
  auto config = ctd::load_config(arguments.config, interfaces);
  if (!config) {
    spdlog::error("{}", config.error().message());
    return kExitUsage;
  }
  if (arguments.check) {
    spdlog::info("{} is right", arguments.config);
    return 0;
  }
  auto stop = stop_signals();
  if (!stop) {
    spdlog::error("{}", stop.error().message());
    return kExitFailure;
  }
  ctd::Daemon daemon(arguments.daemon, std::move(config).value(), std::move(net).value());
  if (const auto served = serve(daemon, arguments, stop->get()); !served) {
    spdlog::error("{}", served.error().message());
    return kExitFailure;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  arguments.daemon.instance = ctd::kDefaultInstance;
  arguments.daemon.rundir = ctd::default_rundir();
  arguments.daemon.bpffs = ctd::kDefaultBpffs;
  bool verbose = false;

  CLI::App app("ctd: a stateful packet datapath in eBPF. Runs in the foreground and logs to standard error.");
  app.set_version_flag("--version", CTD_VERSION);
  app.add_option("--config", arguments.config, "configuration file (docs/configuration.md)")->required();
  app.add_option("--instance", arguments.daemon.instance, "name of this instance")->capture_default_str();
  app.add_option("--rundir", arguments.daemon.rundir, "where instances have their sockets")->capture_default_str();
  app.add_option("--bpffs", arguments.daemon.bpffs, "mounted BPF file system for pins")->capture_default_str();
  app.add_flag("--ephemeral", arguments.daemon.ephemeral, "take everything down on SIGTERM and SIGINT");
  app.add_flag("--check", arguments.check, "check the configuration and exit");
  app.add_flag("--verbose,-v", verbose, "log more");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int code = app.exit(error);
    return code ? kExitUsage : 0;
  }
  // systemd's journal has the time already.
  spdlog::set_default_logger(spdlog::stderr_color_mt("ctd"));
  spdlog::set_pattern(getenv("JOURNAL_STREAM") ? "%l: %v" : "%H:%M:%S.%e %^%l%$: %v");
  spdlog::set_level(verbose ? spdlog::level::debug : spdlog::level::info);
  return run(arguments);
}
