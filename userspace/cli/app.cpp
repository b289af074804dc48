// SPDX-License-Identifier: Apache-2.0
#include "cli/app.hpp"

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <functional>
#include <string>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "cli/client.hpp"
#include "cli/conntrack_commands.hpp"
#include "cli/expect_commands.hpp"
#include "cli/filter_options.hpp"
#include "cli/output.hpp"
#include "cli/show.hpp"
#include "cli/watch.hpp"
#include "lib/event_json.hpp"
#include "lib/rundir.hpp"

namespace ctd {
namespace {

// Longer than it takes to detach, and to delete a table of millions.
constexpr std::chrono::seconds kShutdownPatience{60};

struct Options {
  std::string rundir = default_rundir();
  std::string instance = kDefaultInstance;
  std::string format;
  bool all = false;
  ConntrackOptions conntrack;
  ExpectOptions expect;
  std::string zone;
  uint64_t limit = 0;
  WatchOptions watch;
};

using Command = std::function<Result<>(const Options&, const Client&, Output&)>;

using Show = Result<> (*)(Output&, const nlohmann::ordered_json&);

// The API's document as it is for json, shown for everything else.
Command show_command(const char* path, Show show) {
  return [path, show](const Options& options, const Client& client, Output& out) -> Result<> {
    const std::string body = CTD_TRY(client.get(path));
    if (options.format == "json") return out.write(body);
    return show(out, CTD_TRY(parse_answer(body)));
  };
}

Result<> stats(const Options& options, const Client& client, Output& out) {
  const std::string body = CTD_TRY(client.get("/v1/stats"));
  if (options.format == "json") return out.write(body);
  return show_stats(out, CTD_TRY(parse_answer(body)), options.all);
}

// The daemon checks zone and limit: one place, one message.
Result<> zone_limit_set(const Options& options, const Client& client, Output& out) {
  CTD_TRY(client.put(fmt::format("/v1/zones/{}/limit", options.zone), fmt::format("{{\"limit\":{}}}", options.limit)));
  return out.write(fmt::format("zone {}: limit {}\n", options.zone, options.limit));
}

Result<> zone_limit_del(const Options& options, const Client& client, Output& out) {
  CTD_TRY(client.del(fmt::format("/v1/zones/{}/limit", options.zone)));
  return out.write(fmt::format("zone {}: no limit of its own\n", options.zone));
}

Result<> conntrack_watch(const Options& options, const Client& client, Output& out) {
  WatchOptions watch = options.watch;
  watch.format = options.format.empty() ? "text" : options.format;
  watch.terms = options.conntrack.terms;
  return watch_events(client, watch, out);
}

Result<> shutdown(const Options& options, const Client& client, Output& out) {
  CTD_TRY(client.shutdown(kShutdownPatience));
  return out.write(fmt::format("ctd instance \"{}\" is shut down\n", options.instance));
}

class CommandLine {
 public:
  CommandLine() {
    app_.require_subcommand(1);
    app_.fallthrough();  // --instance may stand after the verb as well
    app_.set_version_flag("--version", std::string("ctctl ") + CTD_VERSION);
    app_.add_option("--instance", options_.instance, "Instance of ctd")
        ->capture_default_str()
        ->check([](const std::string& name) {
          const Result<> good = check_instance_name(name);
          return good ? std::string() : good.error().message();
        });
    app_.add_option("--rundir", options_.rundir, "Folder of the instances' sockets (or CTD_RUNDIR)")
        ->capture_default_str();

    CLI::App& conntrack = noun("conntrack", "The connection table");
    add_conntrack_verbs(conntrack);
    CLI::App& watch = verb(conntrack, "watch", "Show connections as they begin, change and end, until Ctrl-C",
                           {"text", "json", "ndjson"}, conntrack_watch);
    watch.add_option("--events", options_.watch.events, "Only these: new, update, destroy, or single changes")
        ->type_name("NAME,…")
        ->check([](const std::string& names) {
          const auto bits = parse_events(names);
          return bits ? std::string() : bits.error().message();
        });
    add_filter_options(watch, options_.conntrack.terms);
    watch.add_flag("--timestamp", options_.watch.timestamp, "When it happened, in front of each line (text)");
    add_expect_verbs(noun("expect", "Connections that others have announced"));
    verb(noun("flow", "The datapath's flows"), "dump", "List the flows", {"dpctl", "json"},
         show_command("/v1/flows", show_flows));
    verb(noun("rule", "The daemon's rules"), "dump", "List the rules", {"ofctl", "json"},
         show_command("/v1/rules", show_rules));
    verb(noun("port", "The datapath's ports"), "list", "List the ports", {"table", "json"},
         show_command("/v1/ports", show_ports));
    CLI::App& zone = noun("zone", "Zones of the connection table");
    verb(zone, "list", "List the zones in use with limit and count", {"table", "json"},
         show_command("/v1/zones", show_zones));
    CLI::App& limit = subcommand(zone, "limit", "Limits of zones; the configuration's are back at the next start");
    zone_option(verb(limit, "set", "Set the limit of a zone; 0 for none", {}, zone_limit_set))
        .add_option("limit", options_.limit, "Connections at most")
        ->required();
    zone_option(verb(limit, "del", "Back to the default limit", {}, zone_limit_del));
    verb(noun("timeout", "Timeout policies"), "list", "List the policies with their timeouts", {"table", "json"},
         show_command("/v1/timeouts", show_policies));
    verb(app_, "stats", "Packets, bytes, drops by reason", {"table", "json"}, stats)
        .add_flag("--all", options_.all, "Also what is zero (table)");
    verb(app_, "shutdown", "Take the instance down, connections included, and leave nothing behind", {}, shutdown);
  }

  // True: there is a command to run. False: there is nothing left to do but to exit with *exit_code.
  bool parse(int argc, const char* const* argv, int* exit_code) {
    try {
      app_.parse(argc, argv);
      return true;
    } catch (const CLI::ParseError& e) {
      *exit_code = app_.exit(e) == 0 ? kExitOk : kExitUsage;  // prints help, version or what is wrong
      return false;
    }
  }

  const Options& options() const { return options_; }
  const Command& command() const { return command_; }

 private:
  CLI::App& noun(const char* name, const char* text) { return subcommand(app_, name, text); }

  CLI::App& zone_option(CLI::App& app) {
    app.add_option("zone", options_.zone, "Its number, or default")->required();
    return app;
  }

  static CLI::App& subcommand(CLI::App& parent, const char* name, const char* text) {
    CLI::App* app = parent.add_subcommand(name, text);
    app->require_subcommand(1);
    app->fallthrough();
    return *app;
  }

  // formats: of -o, the default first; none: no such option.
  CLI::App& verb(CLI::App& parent, const char* name, const char* text, std::vector<std::string> formats,
                 Command command) {
    CLI::App* app = parent.add_subcommand(name, text);
    app->fallthrough();
    if (!formats.empty())
      app->add_option("-o,--output", options_.format, fmt::format("Format; {} if not given", formats.front()))
          ->check(CLI::IsMember(formats));
    app->callback([this, command = std::move(command)] { command_ = command; });
    return *app;
  }

  using ConntrackCommand = Result<> (*)(const ConntrackOptions&, const Client&, Output&);

  CLI::App& conntrack_verb(CLI::App& parent, const char* name, const char* text, std::vector<std::string> formats,
                           ConntrackCommand action) {
    CLI::App& app = verb(parent, name, text, std::move(formats),
                         [action](const Options& options, const Client& client, Output& out) {
                           ConntrackOptions conntrack = options.conntrack;
                           conntrack.format = options.format;
                           return action(conntrack, client, out);
                         });
    add_filter_options(app, options_.conntrack.terms);
    return app;
  }

  void add_conntrack_verbs(CLI::App& parent) {
    ConntrackOptions& options = options_.conntrack;
    conntrack_verb(parent, "dump", "List connections", {"table", "json", "ndjson", "conntrack", "dpctl"},
                   conntrack_dump);
    conntrack_verb(parent, "get", "Show one connection, by its whole tuple or its id",
                   {"json", "table", "ndjson", "conntrack", "dpctl"}, conntrack_get);
    conntrack_verb(parent, "count", "How many connections there are", {}, conntrack_count);
    conntrack_verb(parent, "delete", "Delete connections", {}, conntrack_delete);
    conntrack_verb(parent, "flush", "Delete all connections, or those of a filter", {}, conntrack_flush);
    CLI::App& update = conntrack_verb(parent, "update", "Change connections", {}, conntrack_update);
    update.add_option("--set-mark", options.mark, "These bits of the mark")->type_name("MARK[/MASK]");
    update.add_option("--set-label", options.label, "These bits of the label")->type_name("LABEL[/MASK]");
    update.add_option("--set-timeout", options.timeout, "Seconds from now until it expires without another packet");
    conntrack_verb(parent, "insert", "Make a connection: --orig-src, --orig-dst, …", {}, conntrack_insert)
        .add_option("-t,--timeout", options.timeout, "Seconds until it expires without a packet")
        ->required();
    conntrack_verb(parent, "save", "Write connections to a file", {}, conntrack_save)
        .add_option("FILE", options.file, "File; - is standard output")
        ->required();
    CLI::App& restore = verb(parent, "restore", "Make the connections of a saved file again", {},
                             [](const Options& all, const Client& client, Output& out) {
                               return conntrack_restore(all.conntrack, client, out);
                             });
    restore.add_option("FILE", options.file, "File; - is standard input")->required();
  }

  using ExpectCommand = Result<> (*)(const ExpectOptions&, const Client&, Output&);

  CLI::App& expect_verb(CLI::App& parent, const char* name, const char* text, std::vector<std::string> formats,
                        ExpectCommand action) {
    return verb(parent, name, text, std::move(formats),
                [action](const Options& options, const Client& client, Output& out) {
                  ExpectOptions expect = options.expect;
                  expect.format = options.format;
                  return action(expect, client, out);
                });
  }

  void add_expect_verbs(CLI::App& parent) {
    ExpectOptions& options = options_.expect;
    CLI::App& list = expect_verb(parent, "list", "List expectations", {"table", "json"}, expect_list);
    CLI::App& add = expect_verb(parent, "add", "Announce a connection", {"text", "json"}, expect_add);
    CLI::App& del = expect_verb(parent, "delete", "Delete the expectations of an id or a master", {}, expect_delete);
    expect_verb(parent, "flush", "Delete all expectations", {}, expect_flush);
    for (CLI::App* verb : {&list, &del}) {
      verb->add_option("--id", options.id, "The one with this id");
      verb->add_option("--master", options.master, "Those of this connection: its id");
    }
    add.add_option("--master", options.master, "The connection that announces: its id")->required();
    add.add_option("-p,--proto", options.proto, "Protocol; the master's if not given");
    add.add_option("--zone", options.zone, "Zone; the master's if not given");
    add.add_option("--src", options.src, "Source address; any if not given");
    add.add_option("--sport", options.sport, "Source port; any if not given");
    add.add_option("--dst", options.dst, "Destination address")->required();
    add.add_option("--dport", options.dport, "Destination port");
    add.add_option("-t,--timeout", options.timeout, "Seconds until it expires; 300 if not given");
    add.add_flag("--permanent", options.permanent, "Not used up by the connection that it announces");
    CLI::Option* snat = add.add_option("--snat", options.snat, "The source becomes this")->type_name("ADDRESS[:PORT]");
    CLI::Option* dnat =
        add.add_option("--dnat", options.dnat, "The destination becomes this")->type_name("ADDRESS[:PORT]");
    add.add_flag("--no-nat", options.no_nat, "Not translated as its master")->excludes(snat)->excludes(dnat);
  }

  CLI::App app_{"ctctl: look at and steer the ctd datapath", "ctctl"};
  Options options_;
  Command command_;
};

Result<> run(const CommandLine& line, Output& out) {
  const Client client = CTD_TRY(Client::open(line.options().rundir, line.options().instance));
  Result<> done = line.command()(line.options(), client, out);
  Result<> flushed = out.flush();  // what there is, also after an error
  return done ? std::move(flushed) : std::move(done);
}

}  // namespace

int run_ctctl(int argc, const char* const* argv, int out_fd) {
  CommandLine line;
  int exit_code = kExitOk;
  if (!line.parse(argc, argv, &exit_code)) return exit_code;

  Output out(out_fd);
  const Result<> done = run(line, out);
  if (done || done.error().code() == EPIPE) return kExitOk;
  fmt::print(stderr, "ctctl: {}\n", done.error().message());
  return kExitFailure;
}

}  // namespace ctd
